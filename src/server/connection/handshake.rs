//! The TLS handshake of a connection: in its own task, so that accepting never waits for it.
//!
//! The first byte decides before rustls sees it. A connection of which nothing was read is one as any other, and moves; a
//! connection in its handshake is served here to its end.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    context::Encryption,
    depart, detect,
    io::Io,
    watch::{Stop, Watch},
};
use crate::{
    drain::{CloseReason, Counters, HandshakeFailure, UnmovedReason},
    idle_connection::Protocol,
    log,
    tls::{Failed, TlsInfo, TlsStream, accept, is_tls, refuse_clear_text},
};

/// Does the handshake. `None` if the connection has ended, or has moved before its first byte.
pub(super) async fn serve(io: Io, encryption: Encryption, watch: &mut Watch<'_, '_>) -> Option<(Io, TlsInfo)> {
    let Encryption { tls, open } = encryption;
    let deadline = Instant::now() + tls.limit();
    let (mut io, first) = first_bytes(io, deadline, watch).await?;
    let counters = Arc::clone(&io.state().route.counters);
    let mut handshake = Handshake::start(&counters);
    if !is_tls(&first) {
        handshake.fail(HandshakeFailure::ClearText);
        refuse(io, &first, watch).await;
        return None;
    }
    let state = Arc::clone(io.state());
    // From here on it cannot move.
    state.move_outcome.stay();
    state.note_unmoved(UnmovedReason::Tls);
    io.unread(first);
    let (stream, first, mut guard) = io.into_clear()?;
    let mut accepted: Option<Result<(TlsStream, _), Failed>> = None;
    let handshake_and_place = async {
        let stream = accept(&tls, stream, first, deadline).await;
        // The semaphore is never closed.
        let place = match open {
            Some(open) if stream.is_ok() => open.acquire_owned().await.ok(),
            _ => None,
        };
        accepted = Some(stream.map(|stream| (stream, place)));
    };
    watch.finish(pin!(handshake_and_place)).await;
    match accepted {
        Some(Ok((stream, place))) => {
            let info = stream.info();
            log::trace!(peer = %state.peer, ?info, "a handshake is done");
            handshake.done(info.is_resumed());
            guard.set_permit(place);
            state.forget_reads();
            Some((Io::encrypted(stream, guard), info))
        }
        Some(Err(failed)) => {
            log::debug!(peer = %state.peer, error = %failed, "a TLS handshake has failed");
            let is_closed = failed.reason == HandshakeFailure::Closed;
            state.end(if is_closed { CloseReason::Finished } else { CloseReason::Error });
            handshake.fail(failed.reason);
            None
        }
        None => {
            watch.note_aborted();
            None
        }
    }
}

/// Reads the first bytes. `None` if there are none in time, or the connection moves meanwhile.
async fn first_bytes(mut io: Io, deadline: Instant, watch: &mut Watch<'_, '_>) -> Option<(Io, Bytes)> {
    let mut first = Vec::new();
    let counters = Arc::clone(&io.state().route.counters);
    let fail = |reason| {
        Handshake::start(&counters).fail(reason);
    };
    loop {
        let read = pin!(timeout_at(deadline, poll_fn(|cx| detect::poll_first(&mut io, &mut first, cx))));
        match watch.drive(read).await {
            Stop::Ended(Ok(Ok(1..))) => return Some((io, first.into())),
            // A TCP check of a load balancer connects and closes.
            Stop::Ended(Ok(_)) => {
                fail(HandshakeFailure::Closed);
                io.state().end(CloseReason::Finished);
                return None;
            }
            Stop::Ended(Err(_)) | Stop::HeaderTimeout => {
                fail(HandshakeFailure::Timeout);
                io.state().end(CloseReason::Error);
                return None;
            }
            Stop::Move => {
                depart::depart(io, Protocol::Undetected, watch.times());
                return None;
            }
            Stop::Idle if !io.has_unread() => {
                io.state().end(CloseReason::IdleClosed);
                return None;
            }
            Stop::Abort => {
                watch.note_aborted();
                return None;
            }
            // The first byte has come after all.
            Stop::Idle | Stop::Closing | Stop::Restart => {}
        }
    }
}

/// Closes the connection of a client that does not speak TLS.
async fn refuse(mut io: Io, first: &[u8], watch: &mut Watch<'_, '_>) {
    log::debug!(peer = %io.state().peer, "a client does not speak TLS");
    io.state().end(CloseReason::Error);
    io.expect_more();
    watch.finish(pin!(refuse_clear_text(&mut io, first))).await;
}

/// A handshake that is counted: as failed, unless it is done.
struct Handshake<'a> {
    counters: &'a Counters,
    is_over: bool,
}

impl<'a> Handshake<'a> {
    fn start(counters: &'a Counters) -> Self {
        counters.handshake_started();
        Self { counters, is_over: false }
    }

    fn done(&mut self, is_resumed: bool) {
        self.is_over = true;
        self.counters.handshake_done(is_resumed);
    }

    fn fail(&mut self, reason: HandshakeFailure) {
        self.is_over = true;
        self.counters.handshake_failed(reason);
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.counters.handshake_failed(HandshakeFailure::Aborted);
        }
    }
}
