//! One connection: HTTP/1.1 or HTTP/2, told apart by the first bytes.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use hyper::body::Incoming as IncomingBody;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tower::{ServiceExt, util::Oneshot};

use super::route::HttpService;
use crate::{
    addr::PeerAddr,
    drain::{Drain, Tally},
    extract::ServedThrough,
    listener::ActivatedStream,
};

/// Serves until the connection ends, draining once the drain has begun, or until it is cut.
pub(super) async fn serve<S: HttpService>(
    stream: ActivatedStream,
    service: Service<S>,
    drain: Drain,
    tally: Arc<Tally>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // The extended CONNECT of RFC 8441, for WebSockets over HTTP/2.
    builder.http2().enable_connect_protocol();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut ended = until_drain(connection.as_mut(), &drain).await;
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::select! {
            biased;
            ended = connection => Some(ended),
            () = drain.cut_short() => None,
        };
    }
    match ended {
        None => tally.count_cut(),
        Some(ended) => {
            tally.count_finished();
            if let Err(error) = ended {
                tracing::trace!(error, "a connection ended with an error");
            }
        }
    }
}

/// What `connection` ended with, or `None` when the drain begins.
///
/// The wait for the drain is registered once; later wakes look at its flag alone, where a poll would take a lock that all
/// connections share.
async fn until_drain<F: Future>(mut connection: Pin<&mut F>, drain: &Drain) -> Option<F::Output> {
    let mut begun = pin!(drain.begun());
    let mut registered = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if registered && !drain.has_begun() {
            return Poll::Pending;
        }
        registered = true;
        begun.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A tower service as hyper calls it, which tells each request where it came from.
#[derive(Clone, Debug)]
pub(super) struct Service<S> {
    inner: S,
    peer: PeerAddr,
    through: ServedThrough,
}

impl<S> Service<S> {
    pub(super) fn new(inner: S, peer: PeerAddr, through: ServedThrough) -> Self {
        Self { inner, peer, through }
    }
}

impl<S: HttpService> hyper::service::Service<Request<IncomingBody>> for Service<S> {
    type Response = Response<S::Body>;
    type Error = Infallible;
    type Future = Oneshot<S::Tower, Request<Body>>;

    fn call(&self, request: Request<IncomingBody>) -> Self::Future {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(ConnectInfo(self.peer.clone()));
        extensions.insert(self.through.clone());
        self.inner.tower().oneshot(request)
    }
}
