//! What the service says of itself.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::unwind::Caught;

/// How something went: `()` and `true` are well; `false` and an error are not.
///
/// What [`Server::ready_when`](crate::Server::ready_when) and [`Server::health_check`](crate::Server::health_check) resolve to.
pub trait Verdict {
    /// What is wrong, if something is.
    fn fault(self) -> Option<String>;
}

impl Verdict for () {
    fn fault(self) -> Option<String> {
        None
    }
}

impl Verdict for bool {
    fn fault(self) -> Option<String> {
        (!self).then(|| "no reason given".to_owned())
    }
}

impl<T, E: fmt::Display> Verdict for Result<T, E> {
    fn fault(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// A verdict to come: what is wrong, if something is.
pub(super) type Coming = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Asks for a verdict, again and again.
#[derive(Clone)]
pub(super) struct HealthCheck(Arc<dyn Fn() -> Coming + Send + Sync>);

impl HealthCheck {
    pub(super) fn new<F, V>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = V> + Send + 'static,
        V: Verdict,
    {
        let check = Arc::new(check);
        Self(Arc::new(move || {
            let check = Arc::clone(&check);
            coming(async move { check().await })
        }))
    }

    pub(super) fn ask(&self) -> Coming {
        (self.0)()
    }
}

impl fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthCheck")
    }
}

/// A future of the service that panics is at fault.
pub(super) fn coming<V: Verdict>(verdict: impl Future<Output = V> + Send + 'static) -> Coming {
    let verdict = Caught::new(async move { verdict.await.fault() });
    Box::pin(async move { verdict.await.unwrap_or_else(|panicked| Some(panicked.to_string())) })
}
