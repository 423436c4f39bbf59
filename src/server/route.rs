//! What a route serves with: any tower service from requests to responses, or one that makes them.

use std::{any::Any, convert::Infallible, error::Error as StdError, fmt, future::Future, mem, pin::Pin};

use axum::{
    Router,
    body::Body,
    extract::connect_info::Connected,
    http::{Request, Response},
};
use tower::{Service, ServiceExt};

use super::accept::Accepting;
use crate::{addr::PeerAddr, listener::ActivatedStream};

type Loop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service with its type forgotten, ready to run on a listener.
pub struct Route {
    accept_loop: Box<dyn FnOnce(Accepting) -> Loop + Send>,
}

impl Route {
    fn new<M: MakeConnectionService>(make: M) -> Self {
        Self { accept_loop: Box::new(move |accepting| Box::pin(accepting.run(make))) }
    }

    pub(super) fn accept_loop(self, accepting: Accepting) -> Loop {
        (self.accept_loop)(accepting)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

/// What [`Server::serve`](super::Server::serve) takes. Implemented for tower services and make-services; `M` tells them apart
/// and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot serve a route",
    note = "a route takes a `Router` (with its state given), a `MethodRouter`, or a clonable tower service from `Request<Body>` to a \
            response with the error `Infallible`",
    note = "a handler function is one as `handler.into_service()`, see `axum::handler::HandlerWithoutStateExt`",
    note = "a make-service takes `axum_activation::server::IncomingConnection`, such as `into_make_service_with_connect_info::<PeerAddr>()`"
)]
pub trait IntoRoute<M> {
    /// Forgets the type.
    fn into_route(self) -> Route;
}

/// Marks a tower service from requests to responses with the body `B`.
#[derive(Debug)]
pub struct AsService<B>(std::marker::PhantomData<B>);

/// Marks a make-service of services `S` with the body `B`.
#[derive(Debug)]
pub struct AsMakeService<S, B>(std::marker::PhantomData<(S, B)>);

impl<S, B> IntoRoute<AsService<B>> for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn into_route(self) -> Route {
        Route::new(Cloned(Tower::new(self)))
    }
}

impl<M, S, B> IntoRoute<AsMakeService<S, B>> for M
where
    M: for<'a> Service<IncomingConnection<'a>, Response = S, Error = Infallible> + Send + 'static,
    for<'a> <M as Service<IncomingConnection<'a>>>::Future: Send,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn into_route(self) -> Route {
        Route::new(Made { make: self, service: std::marker::PhantomData })
    }
}

/// A connection that a make-service is to make a service for, as axum's own `IncomingStream` (which cannot be built outside
/// axum).
#[derive(Clone, Copy, Debug)]
pub struct IncomingConnection<'a> {
    stream: &'a ActivatedStream,
    peer: &'a PeerAddr,
    listener_name: &'a str,
}

impl<'a> IncomingConnection<'a> {
    pub(super) fn new(stream: &'a ActivatedStream, peer: &'a PeerAddr, listener_name: &'a str) -> Self {
        Self { stream, peer, listener_name }
    }

    /// The stream.
    #[must_use]
    pub fn io(&self) -> &'a ActivatedStream {
        self.stream
    }

    /// Who is at the other end.
    #[must_use]
    pub fn remote_addr(&self) -> &'a PeerAddr {
        self.peer
    }

    /// The name of the socket that it came through.
    #[must_use]
    pub fn listener_name(&self) -> &'a str {
        self.listener_name
    }
}

/// `into_make_service_with_connect_info::<PeerAddr>()` under [`Server`](super::Server).
impl Connected<IncomingConnection<'_>> for PeerAddr {
    fn connect_info(incoming: IncomingConnection<'_>) -> Self {
        incoming.peer.clone()
    }
}

/// The bounds of a tower service that HTTP is served with, in one name.
pub(super) trait HttpService: Send + 'static {
    type Body: http_body::Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static;
    type Tower: Service<Request<Body>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
        + Send
        + 'static;

    /// A clone to call once.
    fn tower(&self) -> Self::Tower;
}

/// Makes the service of each connection.
pub(super) trait MakeConnectionService: Send + 'static {
    type Service: HttpService;

    fn make(&mut self, incoming: IncomingConnection<'_>) -> impl Future<Output = Self::Service> + Send;
}

/// A tower service that is cloned for each request, as tower has it.
#[derive(Clone, Debug)]
pub(super) struct Tower<S>(S);

impl<S: 'static> Tower<S> {
    fn new(mut service: S) -> Self {
        // A router with its state still to be given would turn every handler into a route at each request.
        if let Some(router) = (&mut service as &mut dyn Any).downcast_mut::<Router>() {
            *router = mem::take(router).with_state(());
        }
        Self(service)
    }
}

impl<S, B> HttpService for Tower<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Body = B;
    type Tower = S;

    fn tower(&self) -> S {
        self.0.clone()
    }
}

#[derive(Debug)]
struct Cloned<S>(S);

impl<S: HttpService + Clone> MakeConnectionService for Cloned<S> {
    type Service = S;

    fn make(&mut self, _: IncomingConnection<'_>) -> impl Future<Output = S> + Send {
        std::future::ready(self.0.clone())
    }
}

#[derive(Debug)]
struct Made<M, S> {
    make: M,
    service: std::marker::PhantomData<fn() -> S>,
}

impl<M, S> MakeConnectionService for Made<M, S>
where
    M: for<'a> Service<IncomingConnection<'a>, Response = S, Error = Infallible> + Send + 'static,
    for<'a> <M as Service<IncomingConnection<'a>>>::Future: Send,
    S: Send + 'static,
    Tower<S>: HttpService,
{
    type Service = Tower<S>;

    async fn make(&mut self, incoming: IncomingConnection<'_>) -> Tower<S> {
        let ready =
            ServiceExt::<IncomingConnection<'_>>::ready(&mut self.make).await.unwrap_or_else(|never| match never {});
        Tower::new(ready.call(incoming).await.unwrap_or_else(|never| match never {}))
    }
}
