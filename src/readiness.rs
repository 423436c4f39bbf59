//! A route that tells load balancers whether to send more requests.
//!
//! A load balancer polls it, and takes the instance out when it answers 503.
//! [`Server::lame_duck`](crate::Server::lame_duck) keeps the instance accepting until the load balancer has noticed.

use std::convert::Infallible;

use axum::{
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use crate::drain::Drain;

/// A route that answers 200 `ready` while the service runs, and 503 `draining` as soon as draining begins. When a
/// successor has taken over, it stays at 200: clients are served, by the other process.
///
/// It asks the drain that its request came with, so it needs [`Server`](crate::Server) or a
/// [`DrainLayer`](crate::layer::DrainLayer) around it; [`readiness_of`] does not.
///
/// It answers GET and HEAD, as plain text, with `Cache-Control: no-store`. Give load balancers that poll it their time
/// with [`Server::lame_duck`](crate::Server::lame_duck): their interval times the failures that they want to see, and a
/// little.
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

/// As [`readiness`], of that drain: on a listener or in a server that the drain does not stop.
///
/// An admin port that goes on answering while the service drains is such a place:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum::{Router, body::Body, http::Request};
/// use axum_activation::{Drain, readiness::readiness_of};
/// use tower::ServiceExt;
///
/// let drain = Drain::new();
/// let admin: Router = Router::new().route("/ready", readiness_of(&drain));
///
/// drain.start();
/// let request = Request::get("/ready").body(Body::empty()).unwrap();
/// assert_eq!(admin.oneshot(request).await.unwrap().status(), 503);
/// # }
/// ```
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
