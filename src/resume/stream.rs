//! Streams that end when the next process is to go on with them.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::{FusedStream, Stream};
use pin_project_lite::pin_project;

use super::{exchange::Exchange, extractor::Resume};

/// True at a handoff, false where the service ends and the exchange does not move.
type Ended = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Resume {
    /// `stream`, which ends when a handoff asks for the exchange. The next process goes on where it has ended, with the state that was
    /// [saved](Self::save) last; with none, where nothing was saved.
    ///
    /// It is for the body of the response. Items that `stream` has ready at that moment are dropped, so it must be able to
    /// make them again from that state. What is chained behind it is sent to the client where it was the stream that has ended;
    /// [`is_leaving`](Self::is_leaving) tells it apart.
    ///
    /// Where the exchange cannot move, the stream goes on to its own end, and the drain waits for that. A stream that has none ends
    /// [in time](TakeUntilRequested::or_closing).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum::{Router, body::Body, routing::get};
    /// use axum_activation::{handoff::Snapshot, resume::Resume};
    /// use futures_util::stream::{self, StreamExt};
    ///
    /// async fn lines(resume: Resume) -> Body {
    ///     let first = resume.state().map_or(0, |state| state.bytes().len());
    ///     let saved = resume.clone();
    ///     let lines = stream::iter(first..100).map(move |line| {
    ///         let _ = saved.save(Snapshot::new(1, vec![0; line + 1]));
    ///         Ok::<_, std::io::Error>(format!("{line}\n"))
    ///     });
    ///     Body::from_stream(resume.take_until_requested(lines))
    /// }
    /// let app: Router = Router::new().route("/lines", get(lines));
    /// # let _ = app;
    /// # }
    /// ```
    pub fn take_until_requested<S: Stream>(&self, stream: S) -> TakeUntilRequested<S> {
        let ended = self.exchange().map(|exchange| (Arc::clone(exchange), ended(exchange, false)));
        TakeUntilRequested { stream, ended, has_ended: false }
    }
}

pin_project! {
    /// A stream that ends when a handoff asks for its exchange; [`Resume::take_until_requested`] makes it.
    ///
    /// It is fused: after its end it does not poll the stream within again.
    #[must_use = "streams do nothing unless polled"]
    pub struct TakeUntilRequested<S> {
        #[pin]
        stream: S,
        // `None` where there is no exchange that could move.
        ended: Option<(Arc<Exchange>, Ended)>,
        has_ended: bool,
    }
}

impl<S> TakeUntilRequested<S> {
    /// Ends also when the service ends and the exchange does not move, [closing](Resume::closing): then the client sees the end, and comes
    /// again. For streams that have no end of their own, such as server-sent events. One that has an end would be cut short, and its client
    /// would not know.
    ///
    /// ```
    /// # use axum_activation::resume::Resume;
    /// use futures_util::stream::{self, Stream};
    ///
    /// fn numbers(resume: Resume) -> impl Stream<Item = u64> {
    ///     resume.take_until_requested(stream::iter(1..)).or_closing()
    /// }
    /// # let _ = numbers;
    /// ```
    pub fn or_closing(mut self) -> Self {
        self.ended = self.ended.map(|(exchange, _)| {
            let ended = ended(&exchange, true);
            (exchange, ended)
        });
        self
    }
}

fn ended(exchange: &Arc<Exchange>, or_closing: bool) -> Ended {
    let exchange = Arc::clone(exchange);
    Box::pin(async move {
        tokio::select! {
            () = exchange.requested() => true,
            () = exchange.closing(), if or_closing => false,
        }
    })
}

impl<S: Stream> Stream for TakeUntilRequested<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if *this.has_ended {
            return Poll::Ready(None);
        }
        let ended = this.ended.as_mut().map(|(exchange, ended)| (exchange, ended.as_mut().poll(cx)));
        let next = match ended {
            Some((exchange, Poll::Ready(is_requested))) => {
                if is_requested {
                    exchange.leave_stream();
                }
                Poll::Ready(None)
            }
            _ => this.stream.poll_next(cx),
        };
        if matches!(next, Poll::Ready(None)) {
            *this.has_ended = true;
            *this.ended = None;
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.has_ended { (0, Some(0)) } else { (0, self.stream.size_hint().1) }
    }
}

impl<S: Stream> FusedStream for TakeUntilRequested<S> {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl<S: fmt::Debug> fmt::Debug for TakeUntilRequested<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeUntilRequested")
            .field("stream", &self.stream)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
