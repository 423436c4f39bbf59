//! One router on one socket, which systemd passed, or which the program binds if none was passed.
//!
//! ```text
//! cargo run --example hello
//! curl http://127.0.0.1:8080/
//!
//! systemd-socket-activate --listen=9090 --fdname=http target/debug/examples/hello
//! curl http://127.0.0.1:9090/
//! ```

use axum::{Router, routing::get};
use axum_activation::{ActivatedListeners, Error, Server};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let app = Router::new().route("/", get(|| async { "hello\n" }));
    let report = Server::new(activated).serve("http", app).run().await?;
    println!("{report}");
    Ok(())
}
