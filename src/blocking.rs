//! Work that blocks, on a thread of its own, where it can fail and not panic.
//!
//! `tokio::task::spawn_blocking` panics where the system gives no more threads (`TasksMax=`, `ulimit -u`), and that
//! would end a service which only wanted to hand over. So all of the crate that blocks goes through this file;
//! `tests/layering.rs` holds that.
//!
//! There are three ways, and a caller chooses by what happens when there is no thread and when its future is dropped:
//!
//! | function | without a thread | dropped |
//! | --- | --- | --- |
//! | [`on_thread`] | an error | the work goes on, its result is dropped |
//! | [`on_thread_to_its_end`] | an error | waits for the end of the work |
//! | [`on_thread_or_here`] | works in place | the work goes on, its result is dropped |
//!
//! A thread is started for each call. The crate blocks in handoffs and in starts, not in requests, so a pool would
//! stand idle.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
    thread::{Builder, JoinHandle},
};

use tokio::{runtime::Handle, sync::oneshot};

use crate::{log, unwind::caught};

/// Runs `work` on a thread of its own, inside the current runtime.
///
/// # Errors
///
/// The system gives no more threads, or the work panics.
///
/// # Cancel safety
///
/// Dropped, the work goes on, and what it returns is dropped.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    Job::start(work, false).map_err(|(refused, _)| refused)?.await
}

/// As [`on_thread`]. Dropped, it waits until the work is done, so that the result of the work is dropped before
/// anything else happens.
///
/// That blocks the thread of the runtime on which the future is dropped: for work of milliseconds alone.
pub(crate) async fn on_thread_to_its_end<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    Job::start(work, true).map_err(|(refused, _)| refused)?.await
}

/// As [`on_thread`], and in place where the system gives no more threads: for work that takes milliseconds, or must be done.
///
/// # Errors
///
/// The work panics.
pub(crate) async fn on_thread_or_here<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match Job::start(work, false) {
        Ok(job) => job.await,
        Err((refused, work)) => {
            log::debug!(error = %refused, "doing it on a thread of the runtime");
            caught(work).map_err(|_| panicked())
        }
    }
}

/// Work under way.
struct Job<T> {
    outcome: oneshot::Receiver<T>,
    /// Joined when dropped.
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Job<T> {
    /// Starts it. Where there is no thread for it, gives the work back with the error.
    fn start<W: FnOnce() -> T + Send + 'static>(work: W, joins: bool) -> Result<Self, (io::Error, W)> {
        let (done, outcome) = oneshot::channel();
        // What a thread that cannot be started was to do would be lost with it, so the work is given to it afterwards.
        let (give, take) = mpsc::channel::<W>();
        let runtime = Handle::try_current().ok();
        let body = move || {
            let _inside = runtime.as_ref().map(Handle::enter);
            if let Ok(work) = take.recv() {
                let _ = done.send(work());
            }
        };
        match Builder::new().name("axum-activation".to_owned()).spawn(body) {
            Err(error) => Err((refused(&error), work)),
            Ok(thread) => match give.send(work) {
                Ok(()) => Ok(Self { outcome, thread: Some(thread).filter(|_| joins) }),
                Err(mpsc::SendError(work)) => Err((panicked(), work)),
            },
        }
    }
}

impl<T> Future for Job<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        Pin::new(&mut self.outcome).poll(context).map_err(|_| panicked())
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn refused(error: &io::Error) -> io::Error {
    let problem = format!(
        "the system gives no more threads ({error}); raise TasksMax= (systemd.resource-control(5)) or ulimit -u, or wait until \
         there is memory"
    );
    io::Error::new(error.kind(), problem)
}

fn panicked() -> io::Error {
    io::Error::other("it panicked")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn work_returns_what_it_returns_and_may_panic() {
        assert_eq!(on_thread(|| 1).await.unwrap(), 1);
        assert_eq!(on_thread_or_here(|| 2).await.unwrap(), 2);
        let error = on_thread(|| -> u8 { panic!("as planned") }).await.unwrap_err();
        assert_eq!(error.to_string(), "it panicked");
    }

    #[tokio::test]
    async fn work_to_its_end_is_done_when_the_future_is_dropped() {
        struct Dropped(Arc<AtomicBool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let is_dropped = Arc::new(AtomicBool::new(false));
        let (go, wait) = mpsc::channel::<()>();
        let outcome = Dropped(Arc::clone(&is_dropped));
        let mut job = Box::pin(on_thread_to_its_end(move || {
            let _ = wait.recv();
            outcome
        }));
        tokio::select! {
            biased;
            _ = &mut job => panic!("it waits"),
            () = std::future::ready(()) => {}
        }
        go.send(()).unwrap();
        drop(job);
        assert!(is_dropped.load(Ordering::Relaxed));
    }
}
