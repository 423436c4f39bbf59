//! Three sockets by name, a router for each: the public one on TCP, the admin's on a Unix socket, metrics on another port.
//!
//! ```text
//! cargo run --example named
//! curl http://127.0.0.1:8080/
//! curl --unix-socket /tmp/named-admin.sock http://admin/
//! curl http://127.0.0.1:9090/metrics
//!
//! systemd-socket-activate --listen=7070 --listen=/tmp/named.sock --listen=7071 --fdname=http:admin:metrics \
//!     target/debug/examples/named
//! ```
//!
//! `examples/systemd/named.service` and the `.socket` units beside it run it under systemd.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    routing::get,
};
use axum_activation::{ActivatedListeners, Error, ListenOptions, ListenerName, PeerAddr, Server};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder()
        .fallback("http", "127.0.0.1:8080")
        .fallback_with("admin", "unix:/tmp/named-admin.sock", ListenOptions::new().unix_mode(0o600))
        .fallback("metrics", "127.0.0.1:9090")
        .from_env()?;
    for socket in &activated {
        println!("{socket}");
    }

    let greeted = Arc::new(AtomicU64::new(0));
    let http = Router::new().route("/", get(greet)).with_state(Arc::clone(&greeted));
    let admin = Router::new().route("/", get(status));
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(greeted);

    let report =
        Server::new(activated).serve("http", http).serve("admin", admin).serve("metrics", metrics).run().await?;
    println!("{report}");
    Ok(())
}

async fn greet(State(greeted): State<Arc<AtomicU64>>, name: ListenerName) -> String {
    greeted.fetch_add(1, Ordering::Relaxed);
    format!("hello, you came through {name}\n")
}

/// Who asks, through which socket, and what else this process serves.
async fn status(name: ListenerName, ConnectInfo(peer): ConnectInfo<PeerAddr>, sockets: ActivatedListeners) -> String {
    let mut page = format!("process {}, asked by {peer} through {name}\n", std::process::id());
    for socket in &sockets {
        page += &format!("{socket}\n");
    }
    page
}

async fn metrics(State(greeted): State<Arc<AtomicU64>>) -> String {
    format!("named_greetings_total {}\n", greeted.load(Ordering::Relaxed))
}
