//! A service that its manager knows: ready when it is warm, a status that is true, a watchdog that asks how it is, time to drain.
//!
//! ```text
//! cargo run --example managed
//! curl http://127.0.0.1:8080/
//!
//! systemctl status managed                         # as installed by examples/systemd/managed.service
//! curl http://127.0.0.1:8080/slow/20 &             # a stop waits for it, and systemd for the stop
//! curl http://127.0.0.1:8080/sick                  # the watchdog is fed no more and systemd starts another
//! curl http://127.0.0.1:8080/block/60              # so it does when the runtime is stuck (TOKIO_WORKER_THREADS=1)
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use axum_activation::{ActivatedListeners, Error, Server};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    let is_well = Arc::new(AtomicBool::new(true));
    let app = Router::new()
        .route("/", get(|| async { format!("process {}\n", std::process::id()) }))
        .route("/slow/{seconds}", get(slow))
        .route("/block/{seconds}", get(block))
        .route("/sick", get(sick).with_state(Arc::clone(&is_well)));
    let report = Server::new(activated)
        .serve("http", app)
        .ready_when(warm_up())
        .start_timeout(Duration::from_secs(60))
        .health_check(move || {
            let is_well = is_well.load(Ordering::Relaxed);
            async move { if is_well { Ok(()) } else { Err("a client asked for /sick") } }
        })
        .run()
        .await?;
    println!("{report}");
    Ok(())
}

/// What is needed before the first request: a pool, a cache.
async fn warm_up() -> Result<(), &'static str> {
    sleep(Duration::from_millis(300)).await;
    Ok(())
}

async fn slow(Path(seconds): Path<u64>) -> &'static str {
    sleep(Duration::from_secs(seconds)).await;
    "done\n"
}

async fn sick(State(is_well): State<Arc<AtomicBool>>) {
    is_well.store(false, Ordering::Relaxed);
}

/// What no handler should do: it holds a thread of the runtime.
async fn block(Path(seconds): Path<u64>) -> &'static str {
    thread::sleep(Duration::from_secs(seconds));
    "free again\n"
}
