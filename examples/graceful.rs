//! A service that ends well: readiness, a lame duck, streams that end, a background task that is waited for, the report.
//!
//! ```text
//! cargo run --example graceful
//! curl http://127.0.0.1:8080/slow &                # is answered, with connection: close
//! curl -N http://127.0.0.1:8080/events &           # ends in order
//! while curl -i http://127.0.0.1:8080/ready; do sleep 0.2; done
//! curl http://127.0.0.1:8080/stats
//! ```
//!
//! Then Ctrl-C: readiness is 503 at once, for a second connections are still accepted, then what is open ends.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    extract::State,
    response::sse::{Event, Sse},
    routing::get,
};
use axum_activation::{ActivatedListeners, Drain, Error, Server, drain::Stats, readiness::readiness};
use futures_util::stream::{self, Stream};
use tokio::time::{interval, sleep};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let server = Server::new(activated);
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .route("/slow", get(slow))
        .route("/events", get(events))
        .route("/stats", get(stats).with_state(server.stats()))
        .route("/ready", readiness());

    let drain = server.drain();
    drain.tasks().spawn(keep_books(drain.clone()));
    let report = server
        .serve("http", app)
        .lame_duck(Duration::from_secs(1))
        .keep_alive_grace(Duration::from_secs(1))
        .drain_timeout(Duration::from_secs(20))
        .run()
        .await?;
    println!("{report}");
    Ok(())
}

async fn slow() -> &'static str {
    sleep(Duration::from_secs(3)).await;
    "done\n"
}

async fn events(drain: Drain) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let ticks = stream::unfold(interval(Duration::from_secs(1)), |mut seconds| async {
        seconds.tick().await;
        Some((Ok(Event::default().data("tick")), seconds))
    });
    Sse::new(drain.take_until_drain(ticks))
}

async fn stats(State(stats): State<Stats>) -> String {
    stats.read().iter().map(|listener| format!("{listener:?}\n")).collect()
}

/// A background task: the drain waits until the last page is written.
async fn keep_books(drain: Drain) {
    let mut pages = interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = pages.tick() => println!("a page is written"),
            () = drain.started() => return println!("the last page is written"),
        }
    }
}
