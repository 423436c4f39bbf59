//! What a route serves with: any tower service from requests to responses, or one that makes them.
//!
//! The types of services end here: [`Route`] is an accept loop behind a `Box<dyn ..>`, so that the rest of the server
//! is no generic code and routes of different types are served by one server. Within the loop the types are known
//! again, so a request takes no call through a table.

use std::{
    any::Any,
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use tower::{Service, ServiceExt};

use super::{
    accept::AcceptLoop,
    connection::service::HttpService,
    incoming::{IncomingConnection, MakeConnectionService},
};

type Loop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A service with its type forgotten, ready to run on a listener.
pub struct Route {
    /// Never locked: a mutex makes it `Sync`, whatever the service is.
    run: Mutex<Box<dyn FnOnce(AcceptLoop) -> Loop + Send>>,
}

impl Route {
    fn new<M: MakeConnectionService>(make: M) -> Self {
        Self { run: Mutex::new(Box::new(move |accept_loop| Box::pin(accept_loop.run(make)))) }
    }

    /// Serves what `accept_loop` accepts.
    pub(super) fn run(self, accept_loop: AcceptLoop) -> Loop {
        self.run.into_inner().unwrap_or_else(PoisonError::into_inner)(accept_loop)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

/// What [`Server::serve`](super::Server::serve) takes. Implemented for tower services and make-services; `M` tells them
/// apart and is always inferred.
///
/// It is sealed in effect: its one method returns a type that only this crate makes.
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
