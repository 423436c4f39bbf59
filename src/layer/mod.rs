//! Tower layers, for services that are not served by [`Server`](crate::Server).
//!
//! [`DrainLayer`] makes a [`Drain`](crate::Drain) known to requests, and requests to the drain. Together with
//! [`stop_on`](crate::ActivatedListener::stop_on) and [`run_server`](crate::Drain::run_server) it is the graceful
//! shutdown of `axum::serve`, tonic and other tower servers.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use std::time::Duration;
//! use axum::{Router, body::Body, http::Request, routing::get};
//! use axum_activation::{Drain, layer::DrainLayer};
//! use tower::ServiceExt;
//!
//! let drain = Drain::new();
//! let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(DrainLayer::new(&drain));
//!
//! let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
//! let (report, ()) = tokio::join!(drain.finish(Duration::from_secs(1)), async { drop(response) });
//! assert!(report.is_clean(), "the drain has waited for the body of the response");
//! # }
//! ```

mod drain;

pub use self::drain::{DrainLayer, DrainService, ResponseBody, ResponseFuture};
