//! Streams that end when the drain starts.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Drain;

impl Drain {
    /// `stream`, which ends when the drain starts; at once if it has started.
    ///
    /// A response body made of it ends in order then, so its client knows that it is whole. Items that `stream` has
    /// ready at that moment are dropped. If the client is to have a last item, chain it behind with `StreamExt::chain`.
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use axum::{Router, response::sse::{Event, Sse}, routing::get};
    /// use axum_activation::Drain;
    /// use futures_util::stream::{self, Stream};
    ///
    /// async fn events(drain: Drain) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    ///     let events = stream::pending(); // news, as they come
    ///     Sse::new(drain.take_until_drain(events))
    /// }
    /// let app: Router = Router::new().route("/events", get(events));
    /// # let _ = app;
    /// ```
    pub fn take_until_drain<S: Stream>(&self, stream: S) -> TakeUntilDrain<S> {
        TakeUntilDrain { stream, started: Some(Box::pin(self.shared.started.clone().cancelled_owned())) }
    }
}

pin_project! {
    /// A stream that ends when the drain starts; [`Drain::take_until_drain`] makes it.
    ///
    /// It is fused: after its end it does not poll the stream within again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum_activation::Drain;
    /// use futures_util::stream::{self, StreamExt};
    ///
    /// let drain = Drain::new();
    /// let mut numbers = drain.take_until_drain(stream::repeat(7));
    /// assert_eq!(numbers.next().await, Some(7));
    /// drain.start();
    /// assert_eq!(numbers.next().await, None);
    /// # }
    /// ```
    #[must_use = "streams do nothing unless polled"]
    pub struct TakeUntilDrain<S> {
        #[pin]
        stream: S,
        // `None` once the stream has ended. Boxed, so that the stream may move wherever the one within may.
        started: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    }
}

impl<S: Stream> Stream for TakeUntilDrain<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let Some(started) = this.started else { return Poll::Ready(None) };
        let next = match started.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => this.stream.poll_next(cx),
        };
        if matches!(next, Poll::Ready(None)) {
            *this.started = None;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.started {
            Some(_) => (0, self.stream.size_hint().1),
            None => (0, Some(0)),
        }
    }
}

impl<S: Stream> FusedStream for TakeUntilDrain<S> {
    fn is_terminated(&self) -> bool {
        self.started.is_none()
    }
}

impl<S: fmt::Debug> fmt::Debug for TakeUntilDrain<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeUntilDrain")
            .field("stream", &self.stream)
            .field("has_ended", &self.started.is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::stream::{self, StreamExt};

    use super::*;

    #[tokio::test]
    async fn items_pass_until_the_drain_begins() {
        let drain = Drain::new();
        let mut stream = drain.take_until_drain(stream::repeat(7));
        assert_eq!((stream.next().await, stream.size_hint()), (Some(7), (0, None)));
        drain.start();
        assert_eq!((stream.next().await, stream.next().await), (None, None));
        assert!(stream.is_terminated());
        assert_eq!(stream.size_hint(), (0, Some(0)));
    }

    #[tokio::test]
    async fn a_task_that_waits_for_an_item_is_woken_by_the_drain() {
        let drain = Drain::new();
        let waiting = tokio::spawn(drain.take_until_drain(stream::pending::<()>()).collect::<Vec<_>>());
        drain.start();
        assert!(waiting.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_ends_by_itself_is_not_polled_again() {
        let drain = Drain::new();
        let once = stream::unfold(true, |more| async move { more.then_some(((), false)) });
        let mut stream = pin!(drain.take_until_drain(once));
        // `Unfold` panics when it is polled after its end.
        let items = [stream.next().await, stream.next().await, stream.next().await];
        assert_eq!(items, [Some(()), None, None]);
    }
}
