//! HTTP/2: streams finish, and GOAWAY says to the client which of them did.
//!
//! A connection of HTTP/2 has state on both sides (HPACK tables, windows, stream ids) that cannot be read out of hyper.
//! So it does not move: it ends, and its client opens another one, to the next process. GOAWAY makes that lossless, as
//! a client may send every stream again that is above the id in it (RFC 9113, section 6.8).

use std::{future::Future, pin::pin, sync::Arc};

use hyper::{rt::Executor, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::task::TaskTracker;

use super::{
    super::limits::Http2Options,
    io::Io,
    service::{HttpService, Service},
    state::State,
    watch::{Stop, Watch},
};
use crate::drain::{CloseReason, UnmovedReason};

/// Serves until the connection ends.
///
/// At the drain hyper sends GOAWAY in two steps (RFC 9113, section 6.8): first with the highest id there is, so that the client
/// stops opening streams, and a round trip later with that of the last stream that is served.
pub(super) async fn serve<S: HttpService>(mut io: Io, service: Service<S>, watch: &mut Watch<'_, '_>) {
    watch.note_http2();
    io.expect_more();
    let state = Arc::clone(io.state());
    let spawn = Spawn(state.route.drain.connections().clone());
    let builder = builder(spawn, &state.route.limits.http2);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut is_going_away = false;
    loop {
        match watch.drive(connection.as_mut()).await {
            Stop::Ended(ended) => return watch.note_ended(ended),
            // After GOAWAY it has not even answered a ping: the client is gone.
            Stop::Idle if is_going_away => return state.end(CloseReason::IdleClosed),
            Stop::Closing | Stop::Move => {
                state.note_unmoved(unmoved(&state));
                connection.as_mut().graceful_shutdown();
            }
            Stop::Idle => {
                state.end(CloseReason::IdleClosed);
                state.note_unmoved(UnmovedReason::GoingAway);
                connection.as_mut().graceful_shutdown();
            }
            Stop::HeaderTimeout | Stop::Restart | Stop::Abort => return watch.note_aborted(),
        }
        is_going_away = true;
    }
}

/// Why a connection that gets a GOAWAY does not move: it has reached its age, or no destination takes it.
fn unmoved(state: &State) -> UnmovedReason {
    if state.route.drain.had_destination() { UnmovedReason::NotTaken } else { UnmovedReason::GoingAway }
}

fn builder(spawn: Spawn, options: &Http2Options) -> http2::Builder<Spawn> {
    let mut builder = http2::Builder::new(spawn);
    builder
        .timer(TokioTimer::new())
        // The extended CONNECT of RFC 8441, for WebSockets.
        .enable_connect_protocol()
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(options.max_header_list_size)
        .initial_stream_window_size(options.initial_stream_window);
    if let Some((interval, timeout)) = options.keep_alive {
        builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    builder
}

/// Spawns the streams of a connection, which are waited for as it is. They end when it is dropped.
#[derive(Clone, Debug)]
struct Spawn(TaskTracker);

impl<F> Executor<F> for Spawn
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}
