//! Takes over from the process that serves, in whatever way both were started: two containers that share a directory, two units, two
//! terminals.
//!
//! ```text
//! cargo build --example rendezvous --example handoff_request
//! target/debug/examples/rendezvous &                       # serves on 127.0.0.1:8080
//! curl http://127.0.0.1:8080/                              # generation 0
//! target/debug/examples/rendezvous &                       # takes over; the first one ends
//! curl http://127.0.0.1:8080/                              # generation 1
//! target/debug/examples/handoff_request $XDG_RUNTIME_DIR/rendezvous.sock # or asks the one that serves to start the next itself
//! ```
//!
//! The directory must be the service's own: `RuntimeDirectory=` makes one under `/run` for a unit, and a user has that of the session.
//! In `/tmp` any user can be first at the path.

use std::{
    env,
    path::{Path, PathBuf},
};

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Error, Server};

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Without this, it panics when the reader of standard error is gone.
    tracing_subscriber::fmt().log_internal_errors(false).init();
    let path = env::args_os().nth(1).map_or_else(default_path, PathBuf::from);
    // Asked for its sockets first: what the process there has need not be bound, and could not be.
    let activated = ActivatedListeners::builder().handoff_socket(path).fallback("http", "127.0.0.1:8080").from_env()?;
    let server = Server::new(activated);
    let handoff = server.handoff();
    let index = move || {
        let answer = format!("generation {}, pid {}\n", handoff.generation(), std::process::id());
        async { answer }
    };
    let report = server.serve("http", Router::new().route("/", get(index))).run().await?;
    tracing::info!(%report, "bye");
    Ok(())
}

/// In the directory that systemd made for the unit, in that of the user's session, or in `/run`, where root alone can write.
fn default_path() -> PathBuf {
    let directory = env::var_os("RUNTIME_DIRECTORY").or_else(|| env::var_os("XDG_RUNTIME_DIR"));
    Path::new(&directory.unwrap_or_else(|| "/run".into())).join("rendezvous.sock")
}
