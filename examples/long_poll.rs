//! Long polling: an answer when there is news, or none when the service ends, and no client waits for nothing.
//!
//! ```text
//! cargo run --example long_poll
//! curl -i http://127.0.0.1:8080/                  # waits
//! curl http://127.0.0.1:8080/waiting
//! curl -d "it rains" http://127.0.0.1:8080/       # answers the first
//! ```
//!
//! Ctrl-C while one waits: it is answered 204 at once, and asks again elsewhere.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use axum_activation::{ActivatedListeners, Drain, Error, Server};
use tokio::{sync::broadcast, time::sleep};

type News = broadcast::Sender<String>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let app = Router::new().route("/", get(wait).post(publish)).route("/waiting", get(waiting));
    let report = Server::new(activated).serve("http", app.with_state(News::new(16))).run().await?;
    println!("{report}");
    Ok(())
}

async fn wait(State(news): State<News>, drain: Drain) -> Response {
    let mut news = news.subscribe();
    tokio::select! {
        Ok(news) = news.recv() => news.into_response(),
        () = drain.started() => StatusCode::NO_CONTENT.into_response(),
        () = sleep(Duration::from_secs(60)) => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn publish(State(news): State<News>, text: String) -> String {
    format!("sent to {} clients\n", news.send(text).unwrap_or(0))
}

async fn waiting(State(news): State<News>) -> String {
    format!("{}\n", news.receiver_count())
}
