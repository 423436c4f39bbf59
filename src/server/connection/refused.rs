//! The end of a connection whose exchange came from another process and cannot go on here.
//!
//! Nothing was delivered of what the client has sent, and nothing is: the client has chosen those bytes, and they could
//! be read as requests. They are read and discarded here, so that the close is no reset.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, runtime::Handle, time::timeout};

use super::io::Io;
use crate::{
    drain::{CloseReason, UnmovedReason},
    log,
    resume::{Exchange, Refusal, RequestHeaders},
};

/// A Close frame with the code 1012, "service restart" (RFC 6455, section 5.5.1, and the registry of close codes).
const SERVICE_RESTART: &[u8] = &[0x88, 2, 0x03, 0xf4];

/// The reasons that this process has logged at WARN, a bit each.
static WARNED: AtomicU8 = AtomicU8::new(0);

/// How long the client may take to make room for that.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Says to the client that it is to connect again, where its protocol has a word for that, and closes.
pub(super) fn close(io: Io, exchange: &Exchange) {
    let reason = exchange.refuse(Refusal::Dropped);
    let listener = io.state().route.counters.shared_name();
    if reason == Refusal::ClientGone {
        log::debug!(listener = &*listener, "a client was gone before its connection had moved");
        return io.state().end(CloseReason::Finished);
    }
    // Of a thousand connections to a route that is gone, one line is enough.
    let (peer, path) = (&io.state().peer, exchange.request().map_or("", RequestHeaders::path));
    if WARNED.fetch_or(1 << reason as u8, Ordering::Relaxed) & (1 << reason as u8) == 0 {
        log::warn!(listener = &*listener, %peer, path, %reason, "closing a connection that the process before has left, as it cannot go on here; more of that reason at DEBUG");
    } else {
        log::debug!(listener = &*listener, %peer, path, %reason, "closing a connection that the process before has left, as it cannot go on here");
    }
    io.state().end(CloseReason::Error);
    io.state().note_unmoved(UnmovedReason::NotResumed);
    let last = if exchange.resumes_websocket() { SERVICE_RESTART } else { &[] };
    // Without a runtime the process ends.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(finish(io, last));
    }
}

async fn finish(mut io: Io, last: &'static [u8]) {
    io.close_as_own();
    let aborted = io.state().route.drain.shared_abort_token();
    let closing = async {
        if let Ok(Ok(())) = timeout(WRITE_LIMIT, io.write_all(last)).await {
            let _ = io.shutdown().await;
        }
    };
    tokio::select! {
        () = closing => {}
        () = aborted.cancelled() => {}
    }
}
