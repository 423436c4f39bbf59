//! HTTP/1: driven so that it can be stopped between two requests without losing a byte.
//!
//! hyper's own graceful shutdown closes an idle connection at once, and drops what it has read of the next request.
//! Here the connection is taken apart instead (`into_parts`): the stream comes back with the bytes that hyper had read
//! ahead. If it is still idle it is closed or moved, and otherwise it is put together again and served on.

use std::{
    mem,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{body::Bytes, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    depart,
    exchange_io::ExchangeIo,
    exchanges,
    io::Io,
    service::{HttpService, Service},
    transport::Transport,
    watch::{Stop, Watch},
};
use crate::{
    drain::CloseReason,
    idle_connection::{Protocol, ResumableRecord},
    resume::{Exchange, NotMovable, Refusal, RequestHeaders},
};

/// The response to request headers that do not come to an end (RFC 9110, section 15.5.9).
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long the client may take to make room for that.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Why hyper was stopped, and what it was taken apart into.
struct Stopped<S> {
    stop: Stop<hyper::Result<()>>,
    io: Io,
    read_ahead: Bytes,
    service: Service<S>,
}

/// Serves until the connection ends.
///
/// A connection is stopped only where nothing can be lost: hyper never gets a graceful shutdown, as it then drops what it has
/// read of the next request. It is taken apart instead, and where it had read ahead, put together again.
pub(super) fn serve<S: HttpService>(
    io: Io,
    service: Service<S>,
    watch: &mut Watch<'_, '_>,
) -> impl Future<Output = ()> + Send {
    serve_from(io, service, None, watch)
}

/// Serves a connection on whose last request the handler goes on that had it in another process.
pub(super) async fn resume<S: HttpService>(
    io: Io,
    service: Service<S>,
    record: ResumableRecord,
    watch: &mut Watch<'_, '_>,
) {
    let exchange = exchanges::resume(io.state(), record);
    if !exchange.request().is_ok_and(RequestHeaders::is_valid) {
        exchange.refuse(Refusal::Malformed);
        // Closed as one that cannot go on here: no handler sees it.
        return drop(ExchangeIo::new(io, exchange));
    }
    if io.state().closes_after_response() {
        // It was sent and came back: it would go round without end.
        exchange.note_not_movable(NotMovable::Returned);
    }
    serve_from(io, service, Some(exchange), watch).await;
}

async fn serve_from<S: HttpService>(
    mut io: Io,
    mut service: Service<S>,
    mut exchange: Option<Arc<Exchange>>,
    watch: &mut Watch<'_, '_>,
) {
    loop {
        let transport = match exchange.take() {
            None => Transport::Plain(io),
            Some(exchange) => Transport::Exchange(Box::new(ExchangeIo::new(io, exchange))),
        };
        let Some(mut stopped) = drive(transport, service, watch).await else { return };
        Stopped { io, service, .. } = match stopped.stop {
            // Nothing is under way in either direction that a close could take away.
            Stop::Idle if stopped.read_ahead.is_empty() && !stopped.io.has_unread() => {
                return stopped.io.close_idle(watch).await;
            }
            Stop::HeaderTimeout => return refuse_headers(stopped.io, watch).await,
            Stop::Move => return stopped.depart(watch),
            Stop::Restart => {
                exchange = exchanges::next(stopped.io.state());
                stopped.go_on()
            }
            // The next request has started after all: read on, with what hyper had read of it first.
            _ => stopped.go_on(),
        };
    }
}

/// Drives hyper until there is a reason to stop; `None` if the connection has ended.
async fn drive<S: HttpService>(
    transport: Transport,
    service: Service<S>,
    watch: &mut Watch<'_, '_>,
) -> Option<Stopped<S>> {
    // Off by default, and to stay off: pipeline_flush, half_close, and hyper's own header_read_timeout (it has no timer).
    let builder = http1::Builder::new();
    let mut connection = builder.serve_connection(TokioIo::new(transport), service).with_upgrades();
    let stop = match watch.drive_http1(Pin::new(&mut connection)).await {
        Stop::Ended(ended) if watch.may_be_upgraded() => {
            // Kept until that is noted: the connection is counted when the stream is dropped.
            let parts = connection.into_parts();
            watch.note_ended_http1(ended, parts.is_none());
            return None;
        }
        Stop::Ended(ended) => {
            watch.note_ended_http1(ended, false);
            return None;
        }
        Stop::Abort => {
            watch.note_aborted();
            return None;
        }
        stop => stop,
    };
    // `None` after an upgrade alone, and then it has ended.
    let parts = connection.into_parts()?;
    let io = parts.io.into_inner().into_io()?;
    Some(Stopped { stop, io, read_ahead: parts.read_buf, service: parts.service })
}

impl<S> Stopped<S> {
    /// Puts back what hyper had read.
    fn go_on(mut self) -> Self {
        self.io.state().note_read();
        self.io.unread(mem::take(&mut self.read_ahead));
        self
    }

    /// Lets the connection move: between two requests, or in a stream that the next process goes on with.
    fn depart(mut self, watch: &Watch<'_, '_>) {
        let state = self.io.state();
        let held = exchanges::held(&state.slot, state.calls());
        let protocol = held.map_or(Protocol::Http1, |record| Protocol::Resumable(Box::new(record)));
        self.io.unread(self.read_ahead);
        depart::depart(self.io, protocol, watch.times());
    }
}

/// Answers a client whose request headers took too long, if it still reads.
pub(super) async fn refuse_headers(mut io: Io, watch: &mut Watch<'_, '_>) {
    io.state().end(CloseReason::Error);
    io.expect_more();
    let close = pin!(async {
        if let Ok(Ok(())) = timeout(WRITE_LIMIT, io.write_all(REQUEST_TIMEOUT)).await {
            let _ = io.shutdown().await;
        }
    });
    watch.finish(close).await;
}
