//! Event streams (SSE): a service that numbers the events of a stream, and clients that count.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    response::sse::{Event, Sse},
    routing::get,
};
use axum_activation::{handoff::Snapshot, resume::Resume};
use futures_util::stream::{self, Stream, StreamExt};

use super::{
    super::{http::Client, place::Place},
    calls::{Calls, Load},
};

/// Between two events of a stream.
const EVERY: Duration = Duration::from_millis(50);

pub(crate) fn routes() -> Router {
    Router::new().route("/real/events", get(events))
}

/// Ends at a handoff, and goes on with the next event in the next process.
async fn events(resume: Resume) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = resume.state().and_then(|state| state.bytes()[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let saved = resume.clone();
    let events = stream::unfold((ticks, last + 1), move |(mut ticks, next)| {
        let saved = saved.clone();
        async move {
            ticks.tick().await;
            saved.save(Snapshot::new(1, next.to_be_bytes().to_vec())).expect("it is short");
            Some((Event::default().id(next.to_string()).data(data(next)), (ticks, next + 1)))
        }
    });
    Sse::new(resume.take_until_requested(events).or_closing().map(Ok))
}

/// What the event of that number holds.
fn data(number: u64) -> String {
    format!("{number} {}", "x".repeat(usize::try_from(number * 37 % 2000).expect("not so long")))
}

/// So many clients, each with its connection. Each event must be the next one in order.
pub(crate) fn clients(place: &Place, addr: SocketAddr, count: usize) -> Load {
    let load = Load::start("event streams", place, count, move |number, calls| {
        while !calls.is_stopped() {
            if let Err(problem) = run(addr, calls) {
                calls.note_lost(format!("client {number}: {problem}"));
            }
        }
    });
    load.with_opened(count)
}

/// One stream, until the clients are stopped.
fn run(addr: SocketAddr, calls: &Calls) -> io::Result<()> {
    let mut client = Client::connect(addr)?;
    client.ask("/real/events")?;
    let (status, headers) = client.headers()?;
    if status != 200 {
        return Err(io::Error::other(headers));
    }
    calls.note_opened();
    let (mut text, mut next) = (String::new(), 1);
    while !calls.is_stopped() {
        text += &client.chunk()?.ok_or_else(|| io::Error::other("the stream has ended"))?;
        while let Some((event, rest)) = text.split_once("\n\n") {
            if event != format!("id: {next}\ndata: {}", data(next)) {
                return Err(io::Error::other(format!("not event {next}, but {event:.40?}")));
            }
            calls.note_answered(1);
            text = rest.to_owned();
            next += 1;
        }
    }
    Ok(())
}
