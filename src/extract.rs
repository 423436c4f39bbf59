//! What a handler can ask about the connection its request came through.

use std::{convert::Infallible, fmt, ops::Deref, sync::Arc};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

use crate::{activation::ActivatedListeners, drain::Drain, log};

/// What a server tells every request of one listener; a request extension.
#[derive(Clone, Debug)]
pub(crate) struct ServedThrough(Arc<Served>);

#[derive(Debug)]
struct Served {
    name: ListenerName,
    activated: ActivatedListeners,
    drain: Drain,
}

impl ServedThrough {
    pub(crate) fn new(name: Arc<str>, activated: &ActivatedListeners, drain: &Drain) -> Self {
        Self(Arc::new(Served { name: ListenerName(name), activated: activated.shown(), drain: drain.clone() }))
    }
}

/// Extractor: the name of the socket that the request came through.
///
/// ```
/// use axum::{Router, routing::get};
/// use axum_activation::ListenerName;
///
/// async fn whoami(name: ListenerName) -> String {
///     format!("you came through {name}")
/// }
/// let app: Router = Router::new().route("/", get(whoami));
/// # let _ = app;
/// ```
///
/// Under [`Server`](crate::Server) alone; elsewhere `Option<ListenerName>` is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerName(Arc<str>);

impl ListenerName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for ListenerName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<S: Sync> FromRequestParts<S> for ListenerName {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        served(parts).map(|served| served.name.clone()).ok_or(NotServed)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for ListenerName {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(served(parts).map(|served| served.name.clone()))
    }
}

/// The sockets that this process serves, to be shown: taking one from here is an error.
///
/// Under [`Server`](crate::Server), or wherever the set was added as a request extension (`axum::Extension`).
impl<S: Sync> FromRequestParts<S> for ActivatedListeners {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        if let Some(served) = served(parts) {
            return Ok(served.activated.clone());
        }
        parts.extensions.get::<Self>().map(Self::shown).ok_or(NotServed)
    }
}

/// The drain of the server, or of a [`DrainLayer`](crate::layer::DrainLayer); or one that was added as a request extension.
impl<S: Sync> FromRequestParts<S> for Drain {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        let own = parts.extensions.get::<Self>();
        own.or(served(parts).map(|served| &served.drain)).cloned().ok_or(NotServed)
    }
}

/// The rejection of an extractor that finds nothing to extract: the request did not come through this crate's server.
///
/// Answers 500, as it is the program that is wrong and not the request.
#[derive(Clone, Copy, Debug)]
pub struct NotServed;

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this request was not served by axum_activation::Server, which tells a request of its socket and its drain; elsewhere put \
             a DrainLayer around the router (for Drain and readiness()), or add the ActivatedListeners as an axum Extension",
        )
    }
}

impl std::error::Error for NotServed {}

impl IntoResponse for NotServed {
    fn into_response(self) -> Response {
        log::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

fn served(parts: &Parts) -> Option<&Served> {
    parts.extensions.get::<ServedThrough>().map(|served| &*served.0)
}
