//! The tasks of the streams of an HTTP/2 connection.
//!
//! Each stream has a task while it is open: streams run at once, and a panic ends one of them alone. To make a task and to end it
//! costs as much as a short handler, so one task of a connection is kept, and runs one stream after the other. Streams that come
//! while that one is busy have tasks of their own.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of one connection. The one that is kept ends when this is dropped.
#[derive(Debug, Default)]
pub(super) struct StreamTasks(StreamExecutor);

impl StreamTasks {
    /// What hyper gives each stream to.
    pub(super) fn executor(&self) -> StreamExecutor {
        self.0.clone()
    }
}

impl Drop for StreamTasks {
    fn drop(&mut self) {
        if let Kept::Idle(waker) = self.0.put(Kept::Closed) {
            waker.wake();
        }
    }
}

/// Runs each stream of a connection in a task.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamExecutor(Arc<Mutex<Kept>>);

/// The task that is kept.
#[derive(Default)]
enum Kept {
    /// There is none yet, or its stream has panicked.
    #[default]
    Nothing,
    Busy,
    /// It waits for the next stream.
    Idle(Waker),
    /// It is woken, for this one.
    Given(Stream),
    /// The connection has ended.
    Closed,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Busy => "Busy",
            Self::Idle(_) => "Idle",
            Self::Given(_) => "Given",
            Self::Closed => "Closed",
        })
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let mut kept = self.lock();
        match mem::replace(&mut *kept, Kept::Busy) {
            Kept::Idle(waker) => {
                *kept = Kept::Given(Box::pin(stream));
                drop(kept);
                waker.wake();
            }
            Kept::Nothing => {
                drop(kept);
                tokio::spawn(KeptTask(self.clone()).run(Box::pin(stream)));
            }
            other => {
                *kept = other;
                drop(kept);
                tokio::spawn(stream);
            }
        }
    }
}

impl StreamExecutor {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it was before.
    fn put(&self, kept: Kept) -> Kept {
        mem::replace(&mut *self.lock(), kept)
    }
}

/// The task that is kept; another one takes its place if it panics.
struct KeptTask(StreamExecutor);

impl KeptTask {
    async fn run(self, mut stream: Stream) {
        loop {
            stream.await;
            match poll_fn(|cx| self.poll_next(cx)).await {
                Some(next) => stream = next,
                None => return,
            }
        }
    }

    /// `None` when there is none to come.
    fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Stream>> {
        let mut kept = self.0.lock();
        match mem::replace(&mut *kept, Kept::Busy) {
            Kept::Given(stream) => Poll::Ready(Some(stream)),
            Kept::Closed => {
                *kept = Kept::Closed;
                Poll::Ready(None)
            }
            _ => {
                *kept = Kept::Idle(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for KeptTask {
    fn drop(&mut self) {
        let mut kept = self.0.lock();
        let after = if matches!(*kept, Kept::Closed) { Kept::Closed } else { Kept::Nothing };
        let before = mem::replace(&mut *kept, after);
        drop(kept);
        // It may be a stream, whose end is not for a thread that has the lock.
        drop(before);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        runtime::Handle,
        sync::oneshot,
        task::{Id, id, yield_now},
    };

    use super::*;

    /// Runs a stream to its end: the task it has run in.
    async fn run(tasks: &StreamTasks) -> Id {
        let (sender, receiver) = oneshot::channel();
        tasks.executor().execute(async move { sender.send(id()).unwrap() });
        receiver.await.unwrap()
    }

    fn alive() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    async fn until_alive(wanted: usize) {
        while alive() != wanted {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn streams_one_after_another_run_in_one_task_that_ends_with_the_connection() {
        let tasks = StreamTasks::default();
        let first = run(&tasks).await;
        for _ in 0..10 {
            yield_now().await;
            assert_eq!(run(&tasks).await, first);
        }
        assert_eq!(alive(), 1);
        drop(tasks);
        until_alive(0).await;
    }

    #[tokio::test]
    async fn streams_that_are_open_at_once_do_not_wait_for_one_another() {
        let tasks = StreamTasks::default();
        let (sender, receiver) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        tasks.executor().execute(async move { done.send(receiver.await).unwrap() });
        let second = run(&tasks).await;
        assert_ne!(run(&tasks).await, second, "one task is kept, and that is busy");
        sender.send(()).unwrap();
        is_done.await.unwrap().unwrap();
        until_alive(1).await;
        drop(tasks);
        until_alive(0).await;
    }

    #[tokio::test]
    async fn a_stream_that_panics_ends_alone() {
        let tasks = StreamTasks::default();
        let first = run(&tasks).await;
        yield_now().await;
        tasks.executor().execute(async { panic!("a handler panics, as this test has asked for") });
        until_alive(0).await;
        assert_ne!(run(&tasks).await, first);
        assert_eq!(alive(), 1, "another one is kept");
    }

    #[tokio::test]
    async fn nothing_of_a_stream_outlives_it() {
        let tasks = StreamTasks::default();
        let held = Arc::new(());
        for _ in 0..2 {
            let of_stream = Arc::clone(&held);
            tasks.executor().execute(async move { drop(of_stream) });
            while Arc::strong_count(&held) > 1 {
                yield_now().await;
            }
        }
        yield_now().await;
        assert_eq!((Arc::strong_count(&held), alive()), (1, 1));
    }

    #[tokio::test]
    async fn a_stream_of_a_connection_that_has_ended_runs_all_the_same() {
        let tasks = StreamTasks::default();
        let (executor, (sender, receiver)) = (tasks.executor(), oneshot::channel());
        drop(tasks);
        executor.execute(async move { sender.send(()).unwrap() });
        receiver.await.unwrap();
        until_alive(0).await;
    }
}
