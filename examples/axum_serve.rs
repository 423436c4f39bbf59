//! Nothing but a listener: plain `axum::serve` on a socket that was passed, or bound if none was passed.
//!
//! ```text
//! cargo run --example axum_serve
//! curl http://127.0.0.1:8080/
//!
//! systemd-socket-activate --listen=9090 --fdname=http target/debug/examples/axum_serve
//! curl http://127.0.0.1:9090/
//! ```
//!
//! Ctrl-C ends it once the requests in flight are answered.

use std::io;

use axum::{Router, extract::ConnectInfo, routing::get};
use axum_activation::{ActivatedListeners, PeerAddr};

#[tokio::main]
async fn main() -> io::Result<()> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let app = Router::new().route("/", get(greet)).into_make_service_with_connect_info::<PeerAddr>();
    axum::serve(activated.one("http")?, app).with_graceful_shutdown(interrupted()).await
}

async fn greet(ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    format!("hello, {peer}\n")
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        println!("cannot listen for ctrl-c, stopping: {error}");
    }
}
