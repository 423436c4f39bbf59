//! A service that ends when no client was connected for a while. systemd keeps its sockets and starts it again.
//!
//! ```text
//! cargo build --example idle
//! systemd-socket-activate --listen=127.0.0.1:9090 --fdname=http target/debug/examples/idle 5
//! curl http://127.0.0.1:9090/      # 5 s later the program ends (and systemd-socket-activate, which starts it once)
//! ```
//!
//! `examples/systemd/idle.service` and `idle.socket` run it under systemd.

use std::{env, io, time::Duration};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Server};

#[tokio::main]
async fn main() -> io::Result<()> {
    let seconds = env::args().nth(1).unwrap_or("60".to_owned()).parse().map_err(io::Error::other)?;
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let app = Router::new().route("/", get(|| async { format!("process {}\n", std::process::id()) }));
    let report = Server::new(activated).serve("http", app).idle_exit(Duration::from_secs_f64(seconds)).run().await?;
    println!("{report}");
    Ok(())
}
