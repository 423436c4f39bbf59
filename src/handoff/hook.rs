//! Code of the service that a handoff runs: contained, so that a panic there is a failure of the hook and nothing more.

use std::{convert::Infallible, error::Error as StdError, future::Future, pin::Pin};

use tokio_util::task::AbortOnDropHandle;

use crate::unwind::unless_panicked;

/// An error of the service's own.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// A hook that runs.
pub(crate) type HookFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Runs a hook of the service in a task of its own: a panic there is a failure of the hook. The hook's error is printed and dropped
/// there, too, as its `Display` and its `Drop` are code of the service.
pub(crate) async fn run<T: Send + 'static>(hook: impl FnOnce() -> HookFuture<T> + Send + 'static) -> Result<T, String> {
    let task = AbortOnDropHandle::new(tokio::spawn(async move { hook().await.map_err(|error| error.to_string()) }));
    task.await.unwrap_or_else(|ended| {
        Err(match ended.try_into_panic() {
            Ok(payload) => {
                let Err(panicked) = unless_panicked::<Infallible>(Err(payload));
                panicked.to_string()
            }
            Err(ended) => ended.to_string(),
        })
    })
}
