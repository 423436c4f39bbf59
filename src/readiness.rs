//! A route that tells load balancers whether to send more.

use std::convert::Infallible;

use axum::{
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use crate::drain::Drain;

/// A route that answers 200 `ready` while running, and 503 `draining` as soon as draining begins; with a successor it stays at 200.
///
/// It asks the drain that its request came with, so it needs [`Server`](crate::Server) or a
/// [`DrainLayer`](crate::layer::DrainLayer) around it; [`readiness_of`] does not.
///
/// GET and HEAD, as plain text, not to be cached. Give load balancers that poll it their time with
/// [`Server::lame_duck`](crate::Server::lame_duck): their interval times the failures that they want to see, and a little.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum::{Router, body::Body, http::Request};
/// use axum_activation::{Drain, layer::DrainLayer, readiness::readiness};
/// use tower::ServiceExt;
///
/// let drain = Drain::new();
/// let app: Router = Router::new().route("/", readiness()).layer(DrainLayer::new(&drain));
///
/// let response = app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
/// assert_eq!(response.status(), 200);
///
/// drain.start();
/// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
/// assert_eq!(response.status(), 503);
/// # }
/// ```
pub fn readiness<S>() -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    get(|drain: Drain| async move { answer(&drain) })
}

/// As [`readiness`], of that drain: on a listener or in a server that is not drained by it.
pub fn readiness_of<S>(drain: &Drain) -> MethodRouter<S, Infallible>
where
    S: Clone + Send + Sync + 'static,
{
    let drain = drain.clone();
    get(move || async move { answer(&drain) })
}

fn answer(drain: &Drain) -> Response {
    let (status, word) = if drain.has_started() && !drain.has_successor() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    };
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], word).into_response()
}
