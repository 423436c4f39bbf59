//! One connection, from its first byte to its last.
//!
//! ```text
//! accept.rs ──► Connection::new ──► detect ──► http1 ──► the end
//!                                      │          └────► depart ──► the sink of the route
//! transferred ► Connection::resumed ───┘──► http2 ─────► the end
//!                                                └──────► depart
//! ```
//!
//! The parts, from the socket up:
//!
//! | file | part |
//! | --- | --- |
//! | `handshake` | the TLS handshake |
//! | [`client_stream`] | the stream to the client, in clear or over TLS |
//! | [`io`] | the stream as hyper sees it: bytes that were read ahead come first, and reads, flushes and shutdowns are noted |
//! | [`service`] | the service as hyper calls it: a request counts from its headers to the last byte of its response |
//! | [`state`] | what both note, in atomics, and what the reaper asks for |
//! | [`watch`] | drives hyper, and says why to stop: drain, age, idleness, slow headers, abort |
//! | [`http1`], [`http2`] | what a stop means for the protocol |
//! | [`http2_io`] | the stream of an HTTP/2 connection: what passes is observed, so that the connection can move |
//! | [`depart`], [`transferred`] | a connection that leaves this process alive, and one that comes |
//! | [`exchange_io`], [`exchanges`] | an exchange that a handler leaves to the next process, and resumes there |
//! | [`observe`] | pure parsers of what passes |
//!
//! A connection is closed or moved only when the state shows that nothing can be lost: no part of a request or a
//! response is alive, the kernel has the whole last response, and the bytes of the next request go along.

use std::{pin::pin, sync::Arc};

use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;

mod client_stream;
pub(super) mod context;
mod depart;
mod detect;
mod exchange_io;
mod exchanges;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guard;
#[cfg(feature = "tls")]
mod handshake;
mod http1;
mod http2;
mod http2_io;
mod io;
mod move_outcome;
mod move_timer;
pub(super) mod observe;
mod observed;
mod refused;
pub(super) mod service;
mod slot;
mod state;
mod stream_tasks;
mod swallow;
pub(super) mod transferred;
mod transport;
mod turn;
mod watch;

#[cfg(test)]
mod tests;

use self::{
    context::RouteContext,
    detect::Detected,
    guard::ConnectionGuard,
    io::Io,
    service::{HttpService, Service},
    state::State,
    transferred::TransferredConnection,
    watch::{Stop, Watch, is_gone},
};
use crate::{
    addr::PeerAddr,
    drain::CloseReason,
    idle_connection::{Protocol, Times},
    listener::ActivatedStream,
    log,
};

/// A connection that was accepted, ready to be served.
#[derive(Debug)]
pub(super) struct Connection<S> {
    io: Io,
    service: Service<S>,
    protocol: Protocol,
}

impl<S: HttpService> Connection<S> {
    pub(super) fn new(
        stream: ActivatedStream,
        peer: PeerAddr,
        service: S,
        route: Arc<RouteContext>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let state = Arc::new(State::new(route, peer.clone(), Times::now()));
        let service = Service::new(service, peer, Arc::clone(&state));
        Self { io: Io::new(stream, ConnectionGuard::new(state, permit)), service, protocol: Protocol::Undetected }
    }

    /// Serves on a connection that another process, or an earlier attempt to move it, has stopped to serve.
    pub(super) fn resumed(
        transferred: TransferredConnection,
        service: S,
        route: Arc<RouteContext>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let TransferredConnection { stream, peer, read_ahead, protocol, times, reservation } = transferred;
        let state = Arc::new(State::new(route, peer.clone(), times));
        let service = Service::new(service, peer, Arc::clone(&state));
        let guard = match reservation {
            Some(reservation) => ConnectionGuard::resume(state, reservation),
            None => {
                state.route.counters.taken_over(protocol.kind());
                ConnectionGuard::new(state, permit)
            }
        };
        let mut io = Io::new(stream, guard);
        if !read_ahead.is_empty() {
            io.state().note_read();
            io.unread(read_ahead);
        }
        Self { io, service, protocol }
    }

    /// Serves it here until it can close, as it was to move and could not. It does not leave again: it would come back for the same reason.
    pub(super) fn finish_here(&self) {
        self.io.state().close_after_response();
        self.io.state().move_outcome.stay();
    }

    /// Serves until the connection ends, is idle for too long, or is aborted.
    pub(super) async fn serve(self) {
        let state = Arc::clone(self.io.state());
        let drain = &state.route.drain;
        let (started, aborted) = (drain.started(), drain.aborted());
        let (started, aborted) = (pin!(started), pin!(aborted));
        let mut watch = Watch::new(&state, started, aborted);
        self.serve_watched(&mut watch).await;
    }

    async fn serve_watched(self, watch: &mut Watch<'_, '_>) {
        let Self { mut io, service, protocol } = self;
        #[cfg(feature = "tls")]
        let mut service = service;
        match protocol {
            Protocol::Undetected => {}
            Protocol::Http1 => return http1::serve(io, service, watch).await,
            Protocol::Resumable(record) => return http1::resume(io, service, *record, watch).await,
            Protocol::Http2(record) => {
                tokio::spawn(http2::serve(io, service, Some(record)));
                return;
            }
        }
        #[cfg(feature = "tls")]
        if let Some(encryption) = io.state().route.encryption.clone() {
            // Boxed, so that connections in clear hold no room for it.
            let Some((encrypted, info)) = Box::pin(handshake::serve(io, encryption, watch)).await else { return };
            io = encrypted;
            service.add_extension(info);
        }
        let mut first = Vec::new();
        let protocol = loop {
            let stop = watch.drive(pin!(detect::protocol(&mut io, &mut first))).await;
            match stop {
                Stop::Ended(Ok(protocol)) => break protocol,
                Stop::Ended(Err(error)) => {
                    log::trace!(%error, "a connection ended before its first request");
                    // A TCP check of a load balancer connects and resets. Nothing was asked, so nothing is lost.
                    let is_check = first.is_empty() && is_gone(&error);
                    return io.state().end(if is_check { CloseReason::Finished } else { CloseReason::Error });
                }
                Stop::Idle if first.is_empty() && !io.has_unread() => return io.close_idle(watch).await,
                Stop::HeaderTimeout => return http1::refuse_headers(io, watch).await,
                Stop::Move => {
                    io.unread(Bytes::from(first));
                    return depart::depart(io, Protocol::Undetected, watch.times());
                }
                Stop::Abort => return watch.note_aborted(),
                // The first byte has come after all.
                Stop::Idle | Stop::Closing | Stop::Restart => io.state().note_read(),
            }
        };
        io.unread(Bytes::from(first));
        match protocol {
            Detected::Http1 => http1::serve(io, service, watch).await,
            // In a task of its own: the many that speak HTTP/1 hold no room for it, and a poll does not pass through this future.
            Detected::Http2 => _ = tokio::spawn(http2::serve(io, service, None)),
            Detected::Tls => {
                log::debug!(peer = %io.state().peer, "a client speaks TLS where it is not spoken");
                io.state().end(CloseReason::Error);
            }
            Detected::Nothing => {}
        }
    }
}
