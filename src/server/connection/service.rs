//! The service as hyper calls it: each request learns where it came from, and is in flight until its last byte.
//!
//! Guards count, in `Drop`: one in the future and then in the body of the response, one in the body of the request. So
//! a request that is dropped, aborted or panics is counted as well.
//!
//! Work is saved here where it can be, as this runs for every request: extensions are cloned with room for what axum
//! adds, a request without a body gets an empty one that allocates nothing, and a service that is ready is called
//! without another future.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Extensions, HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use pin_project_lite::pin_project;
use tower::{Service as Tower, ServiceExt, util::Oneshot};

use super::{
    exchanges,
    state::{DroppedBy, State},
};
use crate::{
    addr::PeerAddr,
    extract::ServedThrough,
    resume::{Resumed, Stage},
};

/// A tower service that HTTP is served with: its bounds in one name.
pub(in crate::server) trait HttpService: Send + 'static {
    type Body: HttpBody<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static;
    type Tower: Tower<Request<Body>, Response = Response<Self::Body>, Error = Infallible, Future: Send> + Send + 'static;

    /// A clone to call once.
    fn tower(&self) -> Self::Tower;
}

/// A tower service, and the connection whose requests it answers.
#[derive(Debug)]
pub(super) struct Service<S> {
    inner: S,
    /// The extensions that every request of the connection starts with.
    template: Extensions,
    state: Arc<State>,
}

impl<S> Service<S> {
    pub(super) fn new(inner: S, peer: PeerAddr, state: Arc<State>) -> Self {
        let mut template = roomy_extensions();
        template.insert(ConnectInfo(peer));
        template.insert(ServedThrough::new(Arc::clone(&state) as _));
        Self { inner, template, state }
    }

    /// Adds what every request of the connection can extract.
    #[cfg(feature = "tls")]
    pub(super) fn add_extension(&mut self, extension: impl Clone + Send + Sync + 'static) {
        self.template.insert(extension);
    }
}

/// Nothing in it is ever pinned.
impl<S> Unpin for Service<S> {}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for Service<S> {
    type Response = Response<ResponseBody<S::Body>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Tower>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Taken apart, as it is large and each way to change it moves it.
        let (mut head, body) = request.into_parts();
        // Not `is_end_stream`, which takes a lock with HTTP/2. A body that is announced as empty counts as none.
        let has_body = body.size_hint().exact() != Some(0);
        if !head.extensions.is_empty() && exchanges::starts_anew(&self.state, &head, has_body) {
            return ResponseFuture { answer: Answer::Never, guard: None };
        }
        let by = if head.version <= Version::HTTP_11 { DroppedBy::Connection } else { DroppedBy::Any };
        self.state.call(has_body, by);
        let guard = InFlight { state: Arc::clone(&self.state), by, whole: false, is_streamed: false, is_over: false };
        self.state.route.counters.started();
        self.extend(&mut head.extensions, by);
        if self.state.slot.is_full() && exchanges::is_resumed(&self.state) {
            head.extensions.insert(Resumed::NEW);
        }
        let body = self.body(body, has_body);
        answer(self.inner.tower(), Request::from_parts(head, body), guard)
    }
}

impl<S> Service<S> {
    /// Adds the template to what hyper has put there.
    #[inline]
    fn extend(&self, extensions: &mut Extensions, by: DroppedBy) {
        let of_hyper = mem::replace(extensions, self.template.clone());
        if !of_hyper.is_empty() {
            // Only an upgrade has put anything there yet. With HTTP/2 it is of one stream, and the connection stays with hyper.
            if by == DroppedBy::Connection {
                self.state.note_upgrade();
            }
            extensions.extend(of_hyper);
        }
    }

    #[inline]
    fn body(&self, body: Incoming, has_body: bool) -> Body {
        if !has_body {
            // Allocates nothing, where the body of hyper would be boxed.
            return Body::empty();
        }
        self.state.hold_body();
        Body::new(RequestBody { inner: body, ended: false, held: Held(Arc::clone(&self.state)) })
    }
}

/// No extensions yet, and room for what axum adds to each request: its clones keep the room, so that no request's table grows.
fn roomy_extensions() -> Extensions {
    #[derive(Clone)]
    struct Room<const N: usize>;

    let mut room = Extensions::new();
    room.insert(Room::<0>);
    room.insert(Room::<1>);
    room.insert(Room::<2>);
    room.insert(Room::<3>);
    room.clear();
    room
}

/// One request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight {
    state: Arc<State>,
    /// Who drops it: with HTTP/1 the connection's own task.
    by: DroppedBy,
    /// The response came to its end.
    whole: bool,
    /// The response goes on in the next process, if its exchange can be left.
    is_streamed: bool,
    /// It is counted.
    is_over: bool,
}

impl InFlight {
    #[inline]
    fn end(&mut self) {
        if mem::replace(&mut self.is_over, true) {
            return;
        }
        self.state.route.counters.answered(self.whole);
        self.state.release(self.by);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

/// Calls the service at once if it is ready, as a router always is; else when it is.
#[inline]
fn answer<S: Tower<Request<Body>>>(mut service: S, request: Request<Body>, guard: InFlight) -> ResponseFuture<S> {
    // A service that is not ready is asked again when it is polled, with a waker that does wake.
    match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => {
            ResponseFuture { answer: Answer::Called { future: service.call(request) }, guard: Some(guard) }
        }
        _ => {
            let future = Box::pin(service.oneshot(request));
            ResponseFuture { answer: Answer::Waiting { future }, guard: Some(guard) }
        }
    }
}

pin_project! {
    #[project = AnswerProjection]
    enum Answer<S: Tower<Request<Body>>> {
        Called { #[pin] future: S::Future },
        // Boxed, so that the others are as small as without it.
        Waiting { future: Pin<Box<Oneshot<S, Request<Body>>>> },
        // hyper is about to be taken apart.
        Never,
    }
}

impl<S: Tower<Request<Body>>> Future for Answer<S> {
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerProjection::Called { future } => future.poll(cx),
            AnswerProjection::Waiting { future } => future.as_mut().poll(cx),
            AnswerProjection::Never => Poll::Pending,
        }
    }
}

pin_project! {
    /// The response to come.
    pub(super) struct ResponseFuture<S: Tower<Request<Body>>> {
        #[pin]
        answer: Answer<S>,
        guard: Option<InFlight>,
    }
}

impl<S, B> Future for ResponseFuture<S>
where
    S: Tower<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(cx));
        let mut guard = this.guard.take();
        if let Some(guard) = &mut guard {
            guard.whole = response.body().is_end_stream();
            if guard.by == DroppedBy::Connection && guard.state.slot.is_full() {
                guard.is_streamed = exchanges::note_answer(&guard.state, &response);
            }
            // HTTP/2 has no such header (RFC 9113, section 8.2.2): its client gets GOAWAY. An upgrade needs its own.
            let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if guard.by == DroppedBy::Connection && guard.state.is_closing() && !upgrades {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Poll::Ready(Ok(response.map(|inner| ResponseBody { inner, guard })))
    }
}

pin_project! {
    /// The body of a response: as long as it is alive, the request is in flight.
    #[derive(Debug)]
    pub(super) struct ResponseBody<B> {
        #[pin]
        inner: B,
        guard: Option<InFlight>,
    }
}

impl<B: HttpBody> HttpBody for ResponseBody<B>
where
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if let Some(guard) = this.guard {
            if guard.is_streamed {
                return poll_resumable(this.inner, cx, guard);
            }
            let frame = ready!(this.inner.as_mut().poll_frame(cx));
            guard.whole = frame.is_none() || this.inner.is_end_stream();
            return Poll::Ready(frame);
        }
        this.inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.guard.as_ref().is_some_and(|guard| guard.is_streamed) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

type PolledFrame<B> = Poll<Option<Result<Frame<<B as HttpBody>::Data>, <B as HttpBody>::Error>>>;

/// As `poll_frame` of a body whose end may be for the next process, and not for the client. hyper writes what it has then, and waits for
/// more; nothing of the request is alive any more, so the connection can move.
#[cold]
#[inline(never)]
fn poll_resumable<B: HttpBody>(body: Pin<&mut B>, cx: &mut Context<'_>, guard: &mut InFlight) -> PolledFrame<B> {
    let state = &guard.state;
    // The slot has it until the next request, which comes behind this body.
    let Some(exchange) = state.slot.of(state.calls()) else { return body.poll_frame(cx) };
    if exchange.stage() != Stage::Held {
        let frame = ready!(body.poll_frame(cx));
        if frame.is_some() {
            return Poll::Ready(frame);
        }
        guard.whole = true;
    }
    if !exchange.hold_end() {
        return Poll::Ready(None);
    }
    guard.end();
    Poll::Pending
}

/// The body of a request: as long as it is alive, bytes on the connection may belong to it.
#[derive(Debug)]
struct RequestBody {
    inner: Incoming,
    ended: bool,
    /// Below the others, so that it is dropped later.
    held: Held,
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.held.0.note_unread_body();
        }
    }
}

#[derive(Debug)]
struct Held(Arc<State>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release_body();
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { inner, ended, .. } = self.get_mut();
        if inner.is_end_stream() {
            // hyper tells that with the next request only, when the response was complete before the last of the body had come.
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        *ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
