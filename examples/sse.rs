//! Server-sent events that go on in the next process: the client keeps its connection, and sees the next id.
//!
//! ```text
//! cargo run --example sse
//! curl -N http://127.0.0.1:8080/
//! kill -HUP $(pgrep -x sse)
//! ```
//!
//! SIGHUP starts this program again, and curl sees nothing of it. At Ctrl-C the stream ends in order, without an error.

use std::{convert::Infallible, future, time::Duration};

use axum::{
    Router,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use axum_activation::{ActivatedListeners, Error, Server, handoff::Snapshot, resume::Resume};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let app = Router::new().route("/", get(ticks));
    let report = Server::new(activated).serve("http", app).run().await?;
    println!("{report}");
    Ok(())
}

async fn ticks(resume: Resume) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // The id of the last event that the process before has sent.
    let last = resume.state().and_then(|state| state.bytes()[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    let saved = resume.clone();
    let ticks = stream::iter(last + 1..).then(move |id| {
        let saved = saved.clone();
        async move {
            if id > 1 {
                sleep(Duration::from_secs(1)).await;
            }
            // Where the event is made, so that it is always that of the last event that was sent.
            let _ = saved.save(Snapshot::new(1, id.to_be_bytes().to_vec()));
            Event::default().data("tick").id(id.to_string())
        }
    });
    // Behind the end, so that it is sent when the service stops; a browser comes back after that time. At a handoff there is no end.
    let last = stream::once({
        let resume = resume.clone();
        async move {
            let bye = Event::default().event("bye").retry(Duration::from_millis(500)).data("the service restarts");
            (!resume.is_leaving()).then_some(bye)
        }
    });
    let events = resume.take_until_requested(ticks).or_closing().chain(last.filter_map(future::ready));
    Sse::new(events.map(Ok)).keep_alive(KeepAlive::default())
}
