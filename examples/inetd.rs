//! A process for each connection, as inetd did it: `Accept=yes` of systemd.socket(5).
//!
//! ```text
//! cargo build --example inetd
//! systemd-socket-activate --accept --listen=9090 target/debug/examples/inetd
//! curl http://127.0.0.1:9090/
//! ```
//!
//! The connection is served by the only route whatever its name: systemd calls it `connection` up to 254, by the socket
//! unit's `FileDescriptorName=` later. `examples/systemd/inetd.socket` and `inetd@.service` run it under systemd.

use axum::{Router, extract::ConnectInfo, routing::get};
use axum_activation::{ActivatedListeners, Error, PeerAddr, Server};

// One thread: a process that serves one connection has no use for more, and starts faster.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let app = Router::new().route("/", get(greet));
    let report = Server::new(ActivatedListeners::from_env()?).serve("connection", app).run().await?;
    println!("{report}");
    Ok(())
}

async fn greet(ConnectInfo(peer): ConnectInfo<PeerAddr>) -> String {
    format!("hello, {peer}, from process {}\n", std::process::id())
}
