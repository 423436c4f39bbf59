//! Requests that a drain knows of.
//!
//! Layer, service, future, body, in this order. The body owns the token that counts the request, because a server has
//! sent a response only when it has taken the last frame of it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, RETRY_AFTER},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::{Layer, Service};

use crate::drain::Drain;

/// Layer that makes a service drain: for plain [`axum::serve`](fn@axum::serve), tonic and any other tower server.
///
/// - It counts the requests in flight, from the call to the end of the response body. [`Drain::finish`] and
///   [`Drain::run_server`] wait for them, and [`in_flight`](Self::in_flight) is how many there are.
/// - It adds `Connection: close` to HTTP/1 responses while draining, unless they switch protocols.
/// - It answers 503 with `Retry-After` to requests that begin too long after the drain did, see
///   [`refuse_after`](Self::refuse_after).
/// - It puts the [`Drain`] into the extensions of each request, where its extractor finds it.
///
/// [`Server`](crate::Server) does all that by itself. Under it, the layer is of use for `refuse_after` alone.
///
/// Put it outermost, so that it sees what the other layers answer. With a router that is `Router::layer`, after all
/// routes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum::{Router, body::Body, http::Request, routing::get};
/// use axum_activation::{Drain, layer::DrainLayer};
/// use tower::ServiceExt;
///
/// async fn phase(drain: Drain) -> String {
///     format!("{:?}", drain.phase())
/// }
///
/// let drain = Drain::new();
/// let app: Router = Router::new().route("/", get(phase)).layer(DrainLayer::new(&drain));
///
/// let response = app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
/// assert!(response.headers().get("connection").is_none());
///
/// drain.start();
/// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
/// assert_eq!(response.headers()["connection"], "close");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DrainLayer {
    drain: Drain,
    refusal: Refusal,
}

/// When to refuse, and what `Retry-After` says then.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    after: Option<Duration>,
    retry_after: Duration,
}

impl DrainLayer {
    /// A layer for `drain`. Several layers of one drain count together.
    ///
    /// ```
    /// use axum::Router;
    /// use axum_activation::{Drain, layer::DrainLayer};
    ///
    /// let drain = Drain::new();
    /// let app: Router = Router::new().layer(DrainLayer::new(&drain));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn new(drain: &Drain) -> Self {
        let refusal = Refusal { after: None, retry_after: Duration::from_secs(1) };
        Self { drain: drain.clone(), refusal }
    }

    /// Refuses requests that begin `time` after the drain did or later; never by default.
    ///
    /// It is of use where a client sends on and on through a connection that does not end: HTTP/2 behind a server that
    /// sends no GOAWAY at once, or many requests pipelined.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use axum::{Router, body::Body, http::Request};
    /// use axum_activation::{Drain, layer::DrainLayer};
    /// use tower::ServiceExt;
    ///
    /// let drain = Drain::new();
    /// let app: Router = Router::new().layer(DrainLayer::new(&drain).refuse_after(Duration::ZERO));
    ///
    /// drain.start();
    /// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
    /// assert_eq!(response.status(), 503);
    /// assert_eq!(response.headers()["retry-after"], "1");
    /// # }
    /// ```
    #[must_use]
    pub fn refuse_after(mut self, time: Duration) -> Self {
        self.refusal.after = Some(time);
        self
    }

    /// How long a refused client is asked to wait (`Retry-After`, RFC 9110, section 10.2.3), rounded up to whole
    /// seconds; 1 s by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_activation::{Drain, layer::DrainLayer};
    ///
    /// let layer = DrainLayer::new(&Drain::new())
    ///     .refuse_after(Duration::from_secs(5))
    ///     .retry_after(Duration::from_secs(10));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.refusal.retry_after = time;
        self
    }

    /// How many requests are in flight in the layers of this drain.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use axum::{Router, body::Body, http::Request};
    /// use axum_activation::{Drain, layer::DrainLayer};
    /// use tower::ServiceExt;
    ///
    /// let layer = DrainLayer::new(&Drain::new());
    /// let app: Router = Router::new().layer(layer.clone());
    ///
    /// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
    /// assert_eq!(layer.in_flight(), 1, "its body is not sent yet");
    /// drop(response);
    /// assert_eq!(layer.in_flight(), 0);
    /// # }
    /// ```
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.drain.requests().len()
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = DrainService<S>;

    fn layer(&self, inner: S) -> DrainService<S> {
        DrainService { inner, drain: self.drain.clone(), refusal: self.refusal }
    }
}

/// The service of [`DrainLayer`]. It is clonable where the service within is.
#[derive(Clone, Debug)]
pub struct DrainService<S> {
    inner: S,
    drain: Drain,
    refusal: Refusal,
}

impl<S, B, R> Service<Request<R>> for DrainService<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let in_flight = Some(self.drain.requests().token());
        let version = request.version();
        let is_served = !self.refusal.refuses(&self.drain);
        let answer = is_served.then(|| {
            request.extensions_mut().insert(self.drain.clone());
            self.inner.call(request)
        });
        ResponseFuture { answer, drain: self.drain.clone(), version, retry_after: self.refusal.retry_after, in_flight }
    }
}

impl Refusal {
    #[inline]
    fn refuses(self, drain: &Drain) -> bool {
        drain.has_started() && self.after.is_some_and(|after| drain.elapsed() >= after)
    }
}

pin_project! {
    /// The response future of [`DrainService`]. Dropped, its request is no longer in flight.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F> {
        // `None` where the request is refused.
        #[pin]
        answer: Option<F>,
        drain: Drain,
        version: Version,
        retry_after: Duration,
        // Counts until it is dropped, here or with the body.
        in_flight: Option<TaskTrackerToken>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.answer.as_pin_mut() {
            Some(answer) => ready!(answer.poll(cx))?.map(Some),
            None => refusal(*this.retry_after),
        };
        if this.drain.has_started() {
            close_after(&mut response, *this.version);
        }
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(response.map(|inner| ResponseBody { inner, in_flight })))
    }
}

fn refusal<B>(retry_after: Duration) -> Response<Option<B>> {
    let mut response = Response::new(None);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let seconds = retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0));
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

/// HTTP/2 has no such header (RFC 9113, section 8.2.2), and an upgrade needs its own.
fn close_after<B>(response: &mut Response<B>, version: Version) {
    if version <= Version::HTTP_11 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

pin_project! {
    /// The response body of [`DrainService`]: as long as it is alive, the request is in flight.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        // `None` where the request was refused.
        #[pin]
        inner: Option<B>,
        in_flight: Option<TaskTrackerToken>,
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
