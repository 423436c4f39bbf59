//! HTTP/2: it moves until it is known to be that, and then ends in order.

use std::{
    collections::VecDeque,
    io,
    os::unix::net,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    runtime::Builder,
    time::{Sleep, sleep, timeout},
};

use super::{
    app::App,
    script::{Reads, Request, Script, Tail, Transport},
    world::World,
};

/// What a client begins with.
const PREFACE: usize = 24;

#[test]
fn http2_moves_before_its_preface_has_come_and_loses_no_stream_after_that() {
    let cuts = vec(prop_oneof![1 => 0..PREFACE, 1 => PREFACE..400], 0..4);
    let config = super::config(300);
    let result = TestRunner::new(config).run(&(cuts, 1..6_usize), |(mut cuts, requests)| {
        cuts.sort_unstable();
        play(&cuts, requests).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

fn play(cuts: &[usize], requests: usize) -> Result<(), String> {
    let script = Script {
        transport: Transport::Unix,
        requests: vec![Request::upload(Reads::All)],
        tail: Tail::Nothing,
        steps: Vec::new(),
    };
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
        let app = App::new(script);
        let world = World::new(app.clone());
        let (ours, theirs) = net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        world.accept(theirs.into());
        let stream = UnixStream::from_std(ours).unwrap();
        let sliced =
            Sliced { stream, written: 0, cuts: cuts.iter().copied().collect(), pause: None, world: world.clone() };
        let talk = async {
            let (mut client, connection) = h2::client::handshake(sliced).await.map_err(|error| error.to_string())?;
            let driven = tokio::spawn(connection);
            let mut refused = Vec::new();
            for number in 1..=requests {
                match ask(&mut client, number).await {
                    Ok(generation) if generation <= world.last() => {}
                    Ok(generation) => return Err(format!("answered by {generation}")),
                    Err(_) => refused.push(number),
                }
            }
            drop(client);
            let _ = driven.await;
            Ok(refused)
        };
        let refused = timeout(Duration::from_secs(60), talk).await.map_err(|_| "it hangs".to_owned())??;
        let log = app.log().clone();
        let answered: Vec<_> = (1..=requests).filter(|number| !refused.contains(number)).collect();
        let calls: Vec<_> = log.calls.iter().map(|call| call.number).collect();
        let is_early = cuts.iter().all(|cut| *cut < PREFACE);
        let last = cuts.len();
        match () {
            () if !log.strangers.is_empty() => Err(format!("strangers came: {log:?}")),
            () if calls != answered => Err(format!("{refused:?} of {requests} were refused: {log:?}")),
            () if is_early && !refused.is_empty() => Err(format!("{refused:?} were refused for no reason")),
            () if is_early && log.calls.iter().any(|call| call.generation != last) => {
                Err(format!("it stayed: {log:?}"))
            }
            () => Ok(()),
        }
    })
}

/// Which generation answers.
async fn ask(client: &mut h2::client::SendRequest<bytes::Bytes>, number: usize) -> Result<usize, h2::Error> {
    let mut client = client.clone().ready().await?;
    let request = axum::http::Request::get(format!("http://x/r/{number}")).body(()).unwrap();
    let (response, _) = client.send_request(request, true)?;
    let response = response.await?;
    let header = |name: &str| response.headers()[name].to_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(header("x-number"), number);
    Ok(header("x-generation"))
}

/// Hands over after so many bytes were written, and gives everybody time before and after that.
struct Sliced {
    stream: UnixStream,
    written: usize,
    cuts: VecDeque<usize>,
    pause: Option<(Pin<Box<Sleep>>, bool)>,
    world: World,
}

impl AsyncWrite for Sliced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            if let Some((pause, is_before)) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                let is_before = *is_before;
                this.pause = is_before.then(|| (Box::pin(sleep(Duration::from_millis(10))), false));
                if is_before {
                    this.world.hand_over();
                }
                continue;
            }
            match this.cuts.front() {
                Some(cut) if *cut <= this.written => {
                    this.cuts.pop_front();
                    this.pause = Some((Box::pin(sleep(Duration::from_millis(10))), true));
                }
                cut => {
                    let most = cut.map_or(buf.len(), |cut| buf.len().min(cut - this.written));
                    let written = ready!(Pin::new(&mut this.stream).poll_write(cx, &buf[..most]))?;
                    this.written += written;
                    return Poll::Ready(Ok(written));
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Sliced {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}
