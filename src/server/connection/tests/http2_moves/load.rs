//! Load from h2load (nghttp2), on connections that move every 40 ms.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::{net::TcpListener, process::Command, task::JoinHandle, time::sleep};

use super::{handler::filling, lines::Route};
use crate::server::limits::Http2Options;

/// One run of h2load.
struct Load {
    connections: usize,
    streams: usize,
    requests: usize,
    path: &'static str,
    post: usize,
    /// Of the response's body.
    size: usize,
    window_bits: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_sees_nothing_of_moves() {
    let get =
        Load { connections: 8, streams: 8, requests: 5000, path: "/size/100", post: 0, size: 100, window_bits: 30 };
    let post = Load { requests: 800, path: "/echo", post: 15_000, size: 15_000, window_bits: 16, ..get };
    for load in [
        Load { streams: 1, ..get },
        Load { ..get },
        Load { streams: 32, ..get },
        Load { streams: 1, connections: 4, ..post },
        Load { streams: 4, ..post },
        Load { window_bits: 30, ..post },
        Load { streams: 4, requests: 100, path: "/size/300000", size: 300_000, ..get },
    ] {
        let route = Route::new(Http2Options::new());
        let address = listen(&route).await;
        let mover = move_often(&route);
        let Some(said) = h2load(&load, address).await else {
            eprintln!("skipped: h2load is not installed");
            return;
        };
        mover.abort();
        let Load { requests, streams, size, .. } = load;
        let all = format!(
            "{requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
        );
        assert!(said.contains(&all), "{said}");
        assert!(said.contains(&format!("{requests} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{said}");
        let data = said.lines().find(|line| line.starts_with("traffic:")).unwrap();
        assert!(data.contains(&format!("({}) data", requests * size)), "{data}");
        assert!(route.moves() > 0, "it has not moved");
        println!("{} of {size} bytes, {streams} streams: {} moves, {:?}", load.path, route.moves(), route.slowest());
    }
}

async fn listen(route: &Route) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = route.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            route.accept(stream.into_std().unwrap().into());
        }
    });
    address
}

fn move_often(route: &Route) -> JoinHandle<()> {
    let route = route.clone();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(40)).await;
            route.hand_over();
        }
    })
}

/// What it says; `None` if it is not installed.
async fn h2load(load: &Load, address: SocketAddr) -> Option<String> {
    let Load { connections, streams, requests, path, post, window_bits, .. } = load;
    let body = NamedTempFile::new().unwrap();
    std::fs::write(body.path(), filling(*post)).unwrap();
    let mut command = Command::new("h2load");
    command.args([format!("-c{connections}"), format!("-m{streams}"), format!("-n{requests}")]);
    command.args([format!("-w{window_bits}"), format!("-W{window_bits}")]);
    if *post > 0 {
        command.arg("-d").arg(body.path());
    }
    command.arg(format!("http://{address}{path}")).stdin(Stdio::null()).kill_on_drop(true);
    match command.output().await {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}
