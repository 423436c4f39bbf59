//! Handlers that go on in the next process: WebSockets, other upgraded connections, and streamed responses.
//!
//! A handler that asks for [`Resume`] opts in. At a handoff it leaves a few bytes of state and its connection; the next
//! process routes the same request to the same handler, which finds that state and goes on. The client keeps its
//! connection and sees nothing of it. The [guide](crate::guide::resume) has the whole of it.
//!
//! ```
//! use axum::{Router, response::sse::{Event, Sse}, routing::get};
//! use axum_activation::{handoff::Snapshot, resume::Resume};
//! use futures_util::stream::{self, Stream, StreamExt};
//! use std::convert::Infallible;
//!
//! async fn numbers(resume: Resume) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
//!     // The number that the handler in the process before has saved last.
//!     let last = resume.state().and_then(|state| state.bytes()[..].try_into().ok()).map_or(0, u64::from_be_bytes);
//!     let saved = resume.clone();
//!     let numbers = stream::iter(last + 1..).map(move |number| {
//!         saved.save(Snapshot::new(1, number.to_be_bytes().to_vec()));
//!         Ok(Event::default().id(number.to_string()))
//!     });
//!     Sse::new(resume.take_until_requested(numbers).or_closing())
//! }
//! let app: Router = Router::new().route("/numbers", get(numbers));
//! # let _ = app;
//! ```

mod answer;
mod error;
mod exchange;
mod extractor;
mod known;
mod request;
mod stage;
mod stream;
#[cfg(feature = "websocket")]
mod websocket;

#[cfg(feature = "websocket")]
pub use self::websocket::{Received, ResumableWebSocket};
pub(crate) use self::{
    answer::Answer,
    exchange::{Destination, Exchange},
    request::RequestHeaders,
    stage::{Refusal, Stage},
};
pub use self::{
    error::{LeaveError, LeaveReason, NotMovable},
    extractor::{Resume, Resumed},
    stream::TakeUntilRequested,
};
