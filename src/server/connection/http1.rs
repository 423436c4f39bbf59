//! HTTP/1: driven so that it can be stopped between two requests without losing a byte.
//!
//! hyper's own graceful shutdown closes an idle connection at once, and drops what it has read of the next request.
//! Here the connection is taken apart instead (`into_parts`): the stream comes back with the bytes that hyper had read
//! ahead. If it is still idle it is closed or moved, and otherwise it is put together again and served on.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    depart,
    io::Io,
    service::{HttpService, Service},
    watch::{Stop, Watch},
};
use crate::{drain::CloseReason, idle_connection::Protocol};

/// The response to request headers that do not come to an end (RFC 9110, section 15.5.9).
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long the client may take to make room for that.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Serves until the connection ends.
///
/// A connection is stopped only where nothing can be lost: hyper never gets a graceful shutdown, as it then drops what it has
/// read of the next request. It is taken apart instead, and where it had read ahead, put together again.
pub(super) async fn serve<S: HttpService>(mut io: Io, mut service: Service<S>, watch: &mut Watch<'_, '_>) {
    // Off by default, and to stay off: pipeline_flush, half_close, and hyper's own header_read_timeout (it has no timer).
    let builder = http1::Builder::new();
    loop {
        let mut connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        let stop = watch.drive(Pin::new(&mut connection)).await;
        match stop {
            Stop::Ended(ended) => {
                // Kept until that is noted: the connection is counted when the stream is dropped.
                let parts = connection.into_parts();
                return watch.note_ended_http1(ended, parts.is_none());
            }
            Stop::Abort => return watch.note_aborted(),
            _ => {}
        }
        // `None` after an upgrade alone, and then it has ended.
        let Some(parts) = connection.into_parts() else { return };
        io = parts.io.into_inner();
        match stop {
            // Nothing is under way in either direction that a close could take away.
            Stop::Idle if parts.read_buf.is_empty() && !io.has_unread() => {
                return io.state().end(CloseReason::IdleClosed);
            }
            Stop::HeaderTimeout => return refuse_headers(io, watch).await,
            Stop::Move => {
                io.unread(parts.read_buf);
                return depart::depart(io, &parts.service, Protocol::Http1, watch.times());
            }
            // The next request has started after all: read on, with what hyper had read of it first.
            _ => {
                io.state().note_read();
                io.unread(parts.read_buf);
                service = parts.service;
            }
        }
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
