//! Server-sent events that end in order when the service does: the client sees the end of the stream and asks again.
//!
//! ```text
//! cargo run --example sse
//! curl -N http://127.0.0.1:8080/
//! ```
//!
//! Ctrl-C, and curl ends at once, without an error.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    response::sse::{Event, KeepAlive, Sse},
    routing::get,
};
use axum_activation::{ActivatedListeners, Drain, Error, Server};
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::interval;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let report = Server::new(activated).serve("http", Router::new().route("/", get(ticks))).run().await?;
    println!("{report}");
    Ok(())
}

async fn ticks(drain: Drain) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = stream::unfold(interval(Duration::from_secs(1)), |mut seconds| async {
        seconds.tick().await;
        Some((Event::default().data("tick"), seconds))
    });
    // Behind the end, so that it is sent when the drain begins; a browser comes back after that time.
    let last = Event::default().event("bye").retry(Duration::from_millis(500)).data("the service restarts");
    let events = drain.take_until_drain(ticks).chain(stream::iter([last]));
    Sse::new(events.map(Ok)).keep_alive(KeepAlive::default())
}
