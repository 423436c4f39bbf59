//! Which requests of a connection a handler may leave to the next process, and when hyper starts anew for one.

use std::sync::Arc;

use axum::http::{Response, Uri, Version, request::Parts};
use http_body::Body;

use super::{slot::ExchangeSlot, state::State};
use crate::{
    extract::{Served, ServedConnection},
    idle_connection::ResumableRecord,
    resume::{Destination, Exchange, NotMovable, RequestHeaders, Stage},
};

impl ServedConnection for State {
    fn served(&self) -> &Served {
        &self.route.served
    }

    fn calls(&self) -> u32 {
        Self::calls(self)
    }

    fn exchange(&self, call: u32, parts: &Parts, target: &Uri) -> Option<Arc<Exchange>> {
        if let Some(exchange) = self.slot.of(call) {
            return Some(exchange);
        }
        if call != Self::calls(self) && parts.version <= Version::HTTP_11 {
            return None;
        }
        let exchange = Arc::new(Exchange::new(call, destination(self), request(self, parts, target)));
        if parts.version <= Version::HTTP_11 {
            self.slot.set(Some(Arc::clone(&exchange)));
        }
        Some(exchange)
    }
}

fn request(state: &State, parts: &Parts, target: &Uri) -> Result<RequestHeaders, NotMovable> {
    match () {
        () if state.route.is_encrypted() => Err(NotMovable::Tls),
        () if state.had_body() => Err(NotMovable::RequestBody),
        () => RequestHeaders::of(parts, target),
    }
}

fn destination(state: &State) -> Arc<dyn Destination> {
    Arc::clone(&state.route) as _
}

/// Whether hyper is to be taken apart before the request is answered, as that asks for an upgrade: fed with the request headers alone, it
/// holds nothing of what the client sends behind them when the stream is upgraded.
pub(super) fn starts_anew(state: &State, parts: &Parts, has_body: bool) -> bool {
    let call = state.calls().wrapping_add(1);
    if state.slot.of(call).is_some() {
        return false;
    }
    let request = match () {
        () if state.route.is_encrypted() => Err(NotMovable::Tls),
        () if has_body => Err(NotMovable::RequestBody),
        // hyper may have something to write of the answer before.
        () if !state.is_flushed() => Err(NotMovable::TooLate),
        () => RequestHeaders::of(parts, &parts.uri),
    };
    let starts = request.is_ok();
    state.slot.set(Some(Arc::new(Exchange::new(call, destination(state), request))));
    if starts {
        state.ask_restart();
    }
    starts
}

/// The exchange that hyper is to start anew for.
pub(super) fn next(state: &State) -> Option<Arc<Exchange>> {
    state.slot.of(state.calls().wrapping_add(1))
}

/// Whether the process before has left the request that is being called.
pub(super) fn is_resumed(state: &State) -> bool {
    state.slot.of(state.calls()).is_some_and(|exchange| exchange.is_resumed())
}

/// The first exchange of a connection that the process before has left.
pub(super) fn resume(state: &State, record: ResumableRecord) -> Arc<Exchange> {
    let exchange = Arc::new(Exchange::resume(destination(state), record));
    state.slot.set(Some(Arc::clone(&exchange)));
    exchange
}

/// Notes the answer to the request that is being called. Whether its body is a stream that can move.
#[cold]
pub(super) fn note_answer<B: Body>(state: &State, response: &Response<B>) -> bool {
    let exchange = state.slot.of(state.calls());
    let is_stream = exchange.as_ref().is_some_and(|exchange| exchange.note_answer(response));
    let is_over = exchange.as_ref().is_none_or(|exchange| exchange.stage() == Stage::Over);
    if is_over {
        state.slot.set(None);
    }
    is_stream
}

/// Whether the end of a stream is held, for the next process to go on with it.
pub(super) fn holds_stream(state: &State) -> bool {
    state.slot.is_full() && state.slot.of(state.calls()).is_some_and(|exchange| exchange.stage() == Stage::Held)
}

/// What moves of a stream whose end is held.
pub(super) fn held(slot: &ExchangeSlot, calls: u32) -> Option<ResumableRecord> {
    slot.of(calls)?.held()
}
