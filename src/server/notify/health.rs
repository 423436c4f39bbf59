//! What the service answers about itself: whether it is ready, and whether it is well.
//!
//! Both are futures of the service, so a panic in one is an answer as well.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::unwind::Caught;

/// Resolves to an error if something is wrong, with the reason as text.
pub(in crate::server) type HealthFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Asks the service again and again whether it is well.
#[derive(Clone)]
pub(in crate::server) struct HealthCheck(Arc<dyn Fn() -> HealthFuture + Send + Sync>);

impl HealthCheck {
    pub(in crate::server) fn new<F, E>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let check = Arc::new(check);
        Self(Arc::new(move || {
            let check = Arc::clone(&check);
            health(async move { check().await })
        }))
    }

    pub(in crate::server) fn ask(&self) -> HealthFuture {
        (self.0)()
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthCheck")
    }
}

/// The answer of a future of the service. One that panics, also as its error is printed, is an error.
pub(in crate::server) fn health<E: fmt::Display>(
    answer: impl Future<Output = Result<(), E>> + Send + 'static,
) -> HealthFuture {
    let answer = Caught::new(async move { answer.await.map_err(|error| error.to_string()) });
    Box::pin(async move { answer.await.unwrap_or_else(|panicked| Err(panicked.to_string())) })
}
