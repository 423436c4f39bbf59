//! A gRPC client by tonic that never tries again.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use futures_util::stream;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime};
use tonic::{
    Request, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use super::{
    super::place::Place,
    calls::{Calls, Load},
    grpc::{Raw, request_for},
    routes::message,
};

/// How many calls are open at once on a channel.
const LANES: usize = 4;

/// Which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    Client,
    Server,
    Both,
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Channels that call, each with a connection of its own.
pub(crate) fn calls(place: &Place, addr: SocketAddr, channels: usize, kinds: &'static [Kind], first: u64) -> Load {
    let next = Arc::new(AtomicU64::new(first));
    Load::start(format!("tonic {kinds:?}"), place, channels, move |_, calls| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run_channel(addr, kinds, Arc::clone(&next), Arc::clone(calls)));
    })
}

async fn run_channel(addr: SocketAddr, kinds: &'static [Kind], next: Arc<AtomicU64>, calls: Arc<Calls>) {
    let opened = Arc::clone(&calls);
    let connect = service_fn(move |_: Uri| {
        opened.note_opened();
        async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("a URI");
    let channel = endpoint.connect_with_connector(connect).await.expect("it listens");
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (channel, next, calls) = (channel.clone(), Arc::clone(&next), Arc::clone(&calls));
        lanes.spawn(async move {
            let mut turn = lane;
            while !calls.is_stopped() {
                let kind = kinds[turn % kinds.len()];
                let id = 100 * next.fetch_add(1, Relaxed);
                let called = call(channel.clone(), kind, id).await;
                calls.note_call(called.map_err(|problem| format!("{kind:?} {id}: {problem}")));
                turn += 1;
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended.expect("no client panics");
    }
}

/// One call, made once; fails unless the answer is the right one.
async fn call(channel: Channel, kind: Kind, id: u64) -> Result<(), Problem> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let path = PathAndQuery::try_from(format!("/real.Echo/{kind:?}")).expect("a path");
    let count = if kind == Kind::Unary { 1 } else { messages(id) };
    let sent: Vec<_> = (0..count).map(|more| Bytes::from(message(id + more, length(id + more)))).collect();
    match kind {
        Kind::Unary => {
            let answer = client.unary(Request::new(sent[0].clone()), path, Raw).await?;
            is_right(&[answer.into_inner()], &sent)
        }
        Kind::Client => {
            let request = Request::new(stream::iter(sent.clone()));
            let answer = client.client_streaming(request, path, Raw).await?;
            is_right(&[answer.into_inner()], &[sent.concat().into()])
        }
        Kind::Server => {
            let length = length(id);
            let request = Request::new(request_for(id, count, length as u64));
            let answers = client.server_streaming(request, path, Raw).await?;
            let expected: Vec<_> = (1..=count).map(|more| Bytes::from(message(id + more, length))).collect();
            is_right(&all(answers.into_inner()).await?, &expected)
        }
        Kind::Both => {
            let request = Request::new(stream::iter(sent.clone()));
            let answers = client.streaming(request, path, Raw).await?;
            is_right(&all(answers.into_inner()).await?, &sent)
        }
    }
}

async fn all(mut answers: Streaming<Bytes>) -> Result<Vec<Bytes>, tonic::Status> {
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await? {
        all.push(answer);
    }
    Ok(all)
}

fn is_right(answers: &[Bytes], expected: &[Bytes]) -> Result<(), Problem> {
    let lengths = |messages: &[Bytes]| messages.iter().map(Bytes::len).collect::<Vec<_>>();
    match answers == expected {
        true => Ok(()),
        false => Err(format!("another answer: {:?} bytes, not {:?}", lengths(answers), lengths(expected)).into()),
    }
}

/// How many messages a call of that number has.
fn messages(id: u64) -> u64 {
    1 + id / 100 % 12
}

/// How long the message of that number is: ten bytes to 40 kB, most of them short.
fn length(id: u64) -> usize {
    [10, 100, 900, 40_000, 3_000, 70, 16_384][usize::try_from(id % 7).expect("less than 7")]
}
