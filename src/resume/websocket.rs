//! A WebSocket of axum that its handler leaves to the next process.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    pin::Pin,
};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_sink::Sink;

use super::{error::LeaveError, extractor::Resume};
use crate::handoff::Snapshot;

impl Resume {
    /// `socket` and this in one: what is received is a message, or that the handler is to leave.
    ///
    /// ```
    /// use axum::{Router, extract::ws::WebSocketUpgrade, response::Response, routing::get};
    /// use axum_activation::{handoff::Snapshot, resume::{Received, Resume}};
    ///
    /// async fn count(upgrade: WebSocketUpgrade, resume: Resume) -> Response {
    ///     upgrade.on_upgrade(async move |socket| {
    ///         let state = resume.state().and_then(|state| state.bytes()[..].try_into().ok());
    ///         let mut count = state.map_or(0, u64::from_be_bytes);
    ///         let mut socket = resume.websocket(socket);
    ///         loop {
    ///             match socket.recv().await {
    ///                 Received::Message(_) => count += 1,
    ///                 Received::Leave => {
    ///                     return drop(socket.leave(Snapshot::new(1, count.to_be_bytes().to_vec())).await);
    ///                 }
    ///                 Received::Close => return socket.close_for_restart().await,
    ///                 Received::End => return,
    ///             }
    ///         }
    ///     })
    /// }
    /// let app: Router = Router::new().route("/count", get(count));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn websocket(&self, socket: WebSocket) -> ResumableWebSocket {
        ResumableWebSocket { socket, resume: self.clone(), is_asked: false, knows_close: false }
    }
}

/// What comes of a [`ResumableWebSocket`]. A handler acts on all of it.
///
/// ```
/// # async fn f(mut socket: axum_activation::resume::ResumableWebSocket) {
/// use axum_activation::resume::Received;
///
/// if let Received::Message(message) = socket.recv().await {
///     println!("{message:?}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub enum Received {
    /// A message; pings are answered already.
    Message(Message),
    /// The handler is to [leave](ResumableWebSocket::leave): the next process goes on. It comes once. A handler that goes on to read gets the
    /// messages that come, until the drain's deadline ends the connection.
    Leave,
    /// The service ends and no other process takes the connection: say [Close](ResumableWebSocket::close_for_restart). It comes once.
    Close,
    /// The connection is at its end: the client has closed it, or it is broken.
    End,
}

/// A WebSocket whose handler may leave it; [`Resume::websocket`] makes it.
///
/// ```
/// # async fn f(resume: axum_activation::resume::Resume, socket: axum::extract::ws::WebSocket) {
/// let mut socket = resume.websocket(socket);
/// let _ = socket.send("hello".into()).await;
/// # }
/// ```
pub struct ResumableWebSocket {
    socket: WebSocket,
    resume: Resume,
    /// The handler has been asked to leave.
    is_asked: bool,
    /// It knows that the service ends.
    knows_close: bool,
}

impl ResumableWebSocket {
    /// The next message, or that it is time to leave or to close.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again: no message is lost.
    ///
    /// ```
    /// # async fn f(mut socket: axum_activation::resume::ResumableWebSocket, mut news: tokio::sync::mpsc::Receiver<String>) {
    /// tokio::select! {
    ///     received = socket.recv() => println!("{received:?}"),
    ///     Some(news) = news.recv() => { let _ = socket.send(news.into()).await; }
    /// }
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Received {
        // A future that waits to be asked holds messages back, so there is none once it has been.
        let requested = (!self.is_asked).then(|| self.resume.requested());
        let requested = async move {
            match requested {
                Some(requested) => requested.await,
                None => pending().await,
            }
        };
        tokio::select! {
            message = self.socket.recv() => match message {
                Some(Ok(message)) => Received::Message(message),
                Some(Err(_)) | None => Received::End,
            },
            () = requested => {
                self.is_asked = true;
                Received::Leave
            }
            () = self.resume.closing(), if !self.knows_close => {
                self.knows_close = true;
                Received::Close
            }
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The connection is closed or broken.
    ///
    /// ```
    /// # async fn f(mut socket: axum_activation::resume::ResumableWebSocket) -> Result<(), axum::Error> {
    /// socket.send("hello".into()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&mut self, message: Message) -> Result<(), axum::Error> {
        self.socket.send(message).await
    }

    /// Leaves the connection to the next process, whose handler finds `state`.
    ///
    /// # Errors
    ///
    /// [`LeaveReason`](super::LeaveReason) says why, and the socket is part of the error where it can still be used.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    ///
    /// ```
    /// # async fn f(socket: axum_activation::resume::ResumableWebSocket) {
    /// use axum_activation::handoff::Snapshot;
    ///
    /// if let Err(error) = socket.leave(Snapshot::new(1, "room 7")).await {
    ///     eprintln!("{error}");
    /// }
    /// # }
    /// ```
    pub async fn leave(self, state: Snapshot) -> Result<(), LeaveError<WebSocket>> {
        let Self { mut socket, resume, .. } = self;
        if let Err(reason) = resume.check_leave(&state) {
            return Err(LeaveError::new(reason, Some(socket)));
        }
        let flushed = async move {
            poll_fn(|cx| Pin::new(&mut socket).poll_flush(cx)).await.map_err(io::Error::other)?;
            Ok(socket)
        };
        resume.leave_after(flushed, state).await
    }

    /// Says Close with the code 1012, "service restart", and reads on until the client says it too. A client that knows the code connects
    /// again.
    ///
    /// ```
    /// # async fn f(socket: axum_activation::resume::ResumableWebSocket) {
    /// socket.close_for_restart().await;
    /// # }
    /// ```
    pub async fn close_for_restart(mut self) {
        let frame = CloseFrame { code: close_code::RESTART, reason: "the service restarts".into() };
        // An error where the client has said Close already: then reading on sends the answer to that.
        let _ = self.socket.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = self.socket.recv().await {}
    }

    /// The WebSocket within.
    ///
    /// ```
    /// # fn f(mut socket: axum_activation::resume::ResumableWebSocket) {
    /// let protocol = socket.get_mut().protocol();
    /// # let _ = protocol;
    /// # }
    /// ```
    pub fn get_mut(&mut self) -> &mut WebSocket {
        &mut self.socket
    }
}

impl fmt::Debug for ResumableWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumableWebSocket").field("resume", &self.resume).finish_non_exhaustive()
    }
}
