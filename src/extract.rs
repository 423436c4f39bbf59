//! Axum extractors: what a handler can ask about the listener its request came through, and about the state of the
//! service.
//!
//! | extractor | under [`Server`](crate::Server) | elsewhere |
//! | --- | --- | --- |
//! | [`ListenerName`] | the name of the socket | rejected; `Option<ListenerName>` is `None` |
//! | [`Drain`] | the drain of the server | that of a [`DrainLayer`](crate::layer::DrainLayer), or of an `Extension` |
//! | [`ActivatedListeners`] | the sockets of this process | those of an `Extension` |
//! | `TlsInfo` (feature `tls`) | what client and server have agreed upon in the handshake | that of an `Extension` |
//! | [`Resume`] | leaves the exchange to the next process at a handoff | never moves |
//!
//! A rejection is a [`NotServed`].
//!
//! ```
//! use axum::{Router, routing::get};
//! use axum_activation::{ActivatedListeners, Drain, ListenerName};
//!
//! async fn status(name: ListenerName, drain: Drain, sockets: ActivatedListeners) -> String {
//!     format!("{name}: {:?}, one of {}", drain.phase(), sockets.names().join(", "))
//! }
//! let app: Router = Router::new().route("/status", get(status));
//! # let _ = app;
//! ```

use std::{convert::Infallible, fmt, ops::Deref, sync::Arc};

#[cfg(feature = "server")]
use axum::{extract::OriginalUri, http::Uri};
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};

#[cfg(feature = "server")]
use crate::resume::{Exchange, Resume};
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;
use crate::{activation::ActivatedListeners, drain::Drain, log};

/// What a server adds to every request: a request extension. It is of one connection, so a request costs one count of references.
///
/// The connection has one of no request. Each request gets a clone of that, which is of the request that is being called.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(crate) struct ServedThrough {
    connection: Arc<dyn ServedConnection>,
    call: Option<u32>,
}

/// A connection, as extractors see it.
#[cfg(feature = "server")]
pub(crate) trait ServedConnection: fmt::Debug + Send + Sync {
    fn served(&self) -> &Served;

    /// How many requests there were.
    fn calls(&self) -> u32;

    /// The exchange of the request of that number; `None` if that is answered already, or cannot be resumed.
    fn exchange(&self, call: u32, parts: &Parts, target: &Uri) -> Option<Arc<Exchange>>;
}

/// What the requests of one listener can extract.
#[derive(Debug)]
pub(crate) struct Served {
    name: ListenerName,
    activated: ActivatedListeners,
    drain: Drain,
}

#[cfg(feature = "server")]
impl Served {
    pub(crate) fn new(name: Arc<str>, activated: &ActivatedListeners, drain: &Drain) -> Self {
        Self { name: ListenerName(name), activated: activated.shown(), drain: drain.clone() }
    }
}

#[cfg(feature = "server")]
impl ServedThrough {
    /// Of no request yet.
    pub(crate) fn new(connection: Arc<dyn ServedConnection>) -> Self {
        Self { connection, call: None }
    }

    /// The exchange of the request.
    fn exchange(&self, parts: &Parts, target: &Uri) -> Option<Arc<Exchange>> {
        self.connection.exchange(self.call?, parts, target)
    }
}

#[cfg(feature = "server")]
impl Clone for ServedThrough {
    #[inline]
    fn clone(&self) -> Self {
        let call = self.call.or_else(|| Some(self.connection.calls()));
        Self { connection: Arc::clone(&self.connection), call }
    }
}

/// Extractor: the name of the socket that the request came through.
///
/// One router that is served under several names answers each as it likes:
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
/// It is there under [`Server`](crate::Server) alone. Elsewhere `Option<ListenerName>` is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerName(Arc<str>);

impl ListenerName {
    /// The name as text.
    ///
    /// ```
    /// use axum_activation::ListenerName;
    ///
    /// async fn only_for_admins(name: ListenerName) -> &'static str {
    ///     match name.as_str() {
    ///         "admin" => "welcome",
    ///         _ => "this is on the admin socket",
    ///     }
    /// }
    /// # let _ = only_for_admins;
    /// ```
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

/// The sockets that this process serves, to be shown. Taking one from here is an error.
///
/// It is there under [`Server`](crate::Server), and wherever the set was added as a request extension
/// (`axum::Extension`).
impl<S: Sync> FromRequestParts<S> for ActivatedListeners {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        if let Some(served) = served(parts) {
            return Ok(served.activated.clone());
        }
        parts.extensions.get::<Self>().map(Self::shown).ok_or(NotServed)
    }
}

/// As the extractor above, and `None` where no set is known: under another server, without the extension.
///
/// ```
/// use axum_activation::ActivatedListeners;
///
/// async fn sockets(activated: Option<ActivatedListeners>) -> String {
///     activated.map_or(0, |activated| activated.iter().count()).to_string()
/// }
/// let app: axum::Router = axum::Router::new().route("/sockets", axum::routing::get(sockets));
/// # let _ = app;
/// ```
impl<S: Sync> OptionalFromRequestParts<S> for ActivatedListeners {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Infallible> {
        Ok(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await.ok())
    }
}

/// The drain of the server, or of a [`DrainLayer`](crate::layer::DrainLayer); or one that was added as a request
/// extension.
impl<S: Sync> FromRequestParts<S> for Drain {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        let own = parts.extensions.get::<Self>();
        own.or(served(parts).map(|served| &served.drain)).cloned().ok_or(NotServed)
    }
}

/// As the extractor above, and `None` where no drain is known: for a handler that also runs under a server without one, as in a test.
///
/// ```
/// use axum_activation::Drain;
///
/// async fn poll(drain: Option<Drain>) -> &'static str {
///     // A long poll ends early when the service stops.
///     match drain {
///         Some(drain) if drain.has_started() => "ask again",
///         _ => "news",
///     }
/// }
/// let app: axum::Router = axum::Router::new().route("/", axum::routing::get(poll));
/// # let _ = app;
/// ```
impl<S: Sync> OptionalFromRequestParts<S> for Drain {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Infallible> {
        Ok(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await.ok())
    }
}

#[cfg(feature = "tls")]
impl<S: Sync> FromRequestParts<S> for TlsInfo {
    type Rejection = NotServed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotServed> {
        parts.extensions.get::<Self>().cloned().ok_or(NotServed)
    }
}

/// As the extractor above, and `None` for a request in clear.
#[cfg(feature = "tls")]
impl<S: Sync> OptionalFromRequestParts<S> for TlsInfo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// It is there in every request, and never moves one that was not served by [`Server`](crate::Server).
///
/// What the request headers are that the next process gets is decided here, but for an upgrade: those that the handler sees, with the target
/// that the router saw.
#[cfg(feature = "server")]
impl<S: Sync> FromRequestParts<S> for Resume {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let target = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(target)| target);
        let through = parts.extensions.get::<ServedThrough>();
        Ok(Self::new(through.and_then(|through| through.exchange(parts, target))))
    }
}

/// The rejection of an extractor that finds nothing to extract: the request did not come through this crate's server.
///
/// It answers 500, as the program is wrong and not the request. The body and an event at ERROR say what is missing:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum::{Router, body::Body, http::Request, routing::get};
/// use axum_activation::Drain;
/// use tower::ServiceExt;
///
/// let app: Router = Router::new().route("/", get(|_: Drain| async {})); // no DrainLayer
/// let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
/// assert_eq!(response.status(), 500);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NotServed;

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this request was not served by axum_activation::Server, which tells a request of its socket, its drain and its TLS; \
             elsewhere put a DrainLayer around the router (for Drain and readiness()), or add the ActivatedListeners as an axum Extension",
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

#[cfg(feature = "server")]
fn served(parts: &Parts) -> Option<&Served> {
    parts.extensions.get::<ServedThrough>().map(|through| through.connection.served())
}

#[cfg(not(feature = "server"))]
fn served(_: &Parts) -> Option<&Served> {
    None
}
