//! HTTP/2: the connection moves at a quiet point, or its streams finish and GOAWAY says to the client which of them did.
//!
//! A connection of HTTP/2 has state on both sides (HPACK tables, windows, stream ids) that cannot be read out of hyper.
//! What of it must travel is observed between the socket and hyper (`http2_io.rs`). A connection that cannot move ends, and
//! its client opens another one, to the next process. GOAWAY makes that lossless, as a client may send every stream again
//! that is above the id in it (RFC 9113, section 6.8).
//!
//! # Settings of a connection that came
//!
//! Its client knows the settings of the process before. They hold on: hyper is built with them, or with those of this
//! process where these allow the client more. Only the latter are announced.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{
    super::limits::{DEFAULT_WINDOW, Http2Options},
    depart::{Departing, depart},
    http2_io::Http2Io,
    io::Io,
    observe::http2::{
        frame::{self, code},
        record::Agreed,
        session::Session,
    },
    service::{HttpService, Service},
    state::State,
    stream_tasks::{StreamExecutor, StreamTasks},
    watch::{Stop, Watch},
};
use crate::{
    drain::{CloseReason, UnmovedReason},
    idle_connection::{Http2Record, Protocol},
    log,
};

/// The greatest window of a connection for which h2 may count with 65,535 for a while.
const UNSURE_WINDOW: u32 = 65_535 + 32_767;

/// How long a client may take to make room for a GOAWAY.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Serves until the connection ends or moves. It goes on where another instance of hyper has stopped, if there is a record of that.
pub(super) async fn serve<S: HttpService>(mut io: Io, service: Service<S>, record: Option<Box<Http2Record>>) {
    let state = Arc::clone(io.state());
    let drain = &state.route.drain;
    let (started, aborted) = (pin!(drain.started()), pin!(drain.aborted()));
    let mut watch = Watch::new(&state, started, aborted);
    watch.note_http2();
    io.expect_more();
    let resumed = record.as_deref().map(Session::resume);
    let agreed = resumed.as_ref().and_then(Option::as_ref).map(Session::agreed);
    let session = match resumed {
        None => Session::new(),
        Some(Some(session)) => session,
        Some(None) => return refuse(io, record.map_or(0, |record| record.highest_stream), &mut watch).await,
    };
    let waited_for = drain.connections().token();
    let tasks = StreamTasks::default();
    let builder = builder(&state.route.limits.http2, agreed, tasks.executor());
    let (io, departure) = Http2Io::new(io, session);
    drive(builder.serve_connection(TokioIo::new(io), service), &state, &mut watch).await;
    if let Some(Departing { mut io, record, held }) = departure.take() {
        io.unread(held);
        depart(io, Protocol::Http2(Box::new(record)), watch.times());
    }
    // Its streams have tasks of their own, which end when hyper's connection is dropped.
    poll_fn(|cx| state.poll_answered(cx)).await;
    drop(waited_for);
}

/// Drives hyper until the connection ends, or is taken out from under hyper.
///
/// If it does not move at a drain, hyper sends GOAWAY in two steps (RFC 9113, section 6.8): first with the highest id there is, so that the
/// client stops opening streams, and a round trip later with that of the last stream that is served.
async fn drive<S: HttpService>(
    connection: http2::Connection<TokioIo<Http2Io>, Service<S>, StreamExecutor>,
    state: &State,
    watch: &mut Watch<'_, '_>,
) {
    let mut connection = pin!(connection);
    let mut is_going_away = false;
    loop {
        match watch.drive(connection.as_mut()).await {
            Stop::Ended(ended) => return watch.note_ended(ended),
            Stop::Move => return,
            // After GOAWAY it has not even answered a ping: the client is gone.
            Stop::Idle if is_going_away => return state.end(CloseReason::IdleClosed),
            Stop::Closing => {
                if !state.move_outcome.stays() {
                    state.note_unmoved(unmoved(state));
                }
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

/// Sends a client away whose connection came with a record that cannot be true.
async fn refuse(mut io: Io, highest_stream: u32, watch: &mut Watch<'_, '_>) {
    log::warn!("an HTTP/2 connection came with a state that cannot be, and is closed");
    io.state().end(CloseReason::Error);
    let close = pin!(async {
        let goaway = frame::goaway(highest_stream, code::NO_ERROR);
        if let Ok(Ok(())) = timeout(WRITE_LIMIT, io.write_all(&goaway)).await {
            let _ = io.shutdown().await;
        }
    });
    watch.finish(close).await;
}

fn builder(options: &Http2Options, agreed: Option<Agreed>, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        // The extended CONNECT of RFC 8441, for WebSockets.
        .enable_connect_protocol()
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(options.max_header_list_size);
    match agreed {
        Some(agreed) => resume(&mut builder, options, agreed),
        None if options.adaptive_window => _ = builder.adaptive_window(true),
        None => {
            builder
                .initial_stream_window_size(options.initial_stream_window)
                .initial_connection_window_size(options.initial_connection_window);
        }
    }
    if let Some((interval, timeout)) = options.keep_alive {
        builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    builder
}

/// Lets hyper begin with what the client may do already.
fn resume(builder: &mut http2::Builder<StreamExecutor>, options: &Http2Options, agreed: Agreed) {
    let adaptive = options.adaptive_window.then_some(DEFAULT_WINDOW);
    let stream_window = adaptive.unwrap_or(options.initial_stream_window).max(agreed.stream_window);
    let window = adaptive.unwrap_or(options.initial_connection_window).max(agreed.connection_window);
    // h2 does not say at once that its window is between these two, so it is neither.
    let is_unsure = (65_536..UNSURE_WINDOW).contains(&window);
    builder
        .max_concurrent_streams(options.max_concurrent_streams.max(agreed.concurrent_streams))
        .max_header_list_size(options.max_header_list_size.max(agreed.header_list_size))
        .max_frame_size(agreed.frame_size)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(if is_unsure { UNSURE_WINDOW } else { window });
}
