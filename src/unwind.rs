//! Calls into code of the service, from loops that a panic must not end.
//!
//! The service gives the crate hooks, futures and make-services. Where the crate calls one beside other work, a panic
//! in it is a failure of that call. The panic hook has run by then, so the panic is not silent. With `panic = "abort"`
//! nothing can be caught.
//!
//! The crate asserts unwind safety for these calls: what a panic leaves half done belongs to the service, which sees it
//! again or not. The crate's own state is never behind the closure of such a call.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use pin_project_lite::pin_project;

/// A call that panicked, with the message of the panic if it was text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked {
    message: Option<String>,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "it panicked: {message}"),
            None => f.write_str("it panicked"),
        }
    }
}

/// Calls `call`, and turns a panic into an error.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    unless_panicked(catch_unwind(AssertUnwindSafe(call)))
}

/// Reads the message out of the payload of a panic.
///
/// A payload of another type is leaked, as it may panic when it is dropped, and a second panic in an unwind would
/// abort.
pub(crate) fn unless_panicked<T>(ended: thread::Result<T>) -> Result<T, Panicked> {
    ended.map_err(|payload| {
        let message = match payload.downcast::<String>() {
            Ok(message) => Some(*message),
            Err(payload) => {
                let message = payload.downcast_ref::<&str>().map(|message| (*message).to_owned());
                std::mem::forget(payload);
                message
            }
        };
        Panicked { message }
    })
}

pin_project! {
    /// A future of the service. A panic when it is polled or dropped goes no further.
    ///
    /// It is dropped as soon as it ends, so that what it owns is gone when its output is seen. After its end it is
    /// pending for ever, as a select that polls it again must not panic.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Caught<F> {
        // `None` once it has ended.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Caught<F> {
        fn drop(this: Pin<&mut Self>) {
            this.finish();
        }
    }
}

impl<F> Caught<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }

    /// Drops the future, once.
    fn finish(self: Pin<&mut Self>) {
        let mut future = self.project().future;
        if future.is_some() {
            let _ = caught(|| future.set(None));
        }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.as_mut().project().future.as_pin_mut() else { return Poll::Pending };
        let ended = match caught(|| future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panicked) => Err(panicked),
        };
        self.finish();
        Poll::Ready(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, panic::panic_any};

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("dropped");
            }
        }
    }

    #[test]
    fn a_panic_is_an_error_that_says_what_was_said() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("no {}", 7)).unwrap_err().to_string(), "it panicked: no 7");
        assert_eq!(caught(|| panic!("no")).unwrap_err().to_string(), "it panicked: no");
        assert_eq!(caught(|| panic_any(Bomb)).unwrap_err().to_string(), "it panicked");
    }

    #[tokio::test]
    async fn a_future_may_panic_when_it_is_polled_and_when_it_is_dropped() {
        assert_eq!(Caught::new(ready(7)).await, Ok(7));
        let polled = Caught::new(async { panic!("polled") }).await;
        assert_eq!(polled.unwrap_err().to_string(), "it panicked: polled");
        let bomb = Bomb;
        let future = async move {
            let _bomb = &bomb;
            std::future::pending::<()>().await;
        };
        drop(Caught::new(future));
    }
}
