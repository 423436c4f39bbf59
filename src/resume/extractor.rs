//! The extractor of a handler that can be resumed.

use std::{future::Future, io, sync::Arc};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    error::{LeaveError, LeaveReason, NotMovable},
    exchange::Exchange,
};
use crate::handoff::Snapshot;

/// Extractor: lets a handler leave its exchange to the next process at a handoff, and resume it there.
///
/// The next process gets the same request, and routes it to the same handler. That handler finds in [`state`](Self::state)
/// what its predecessor has left, and answers as always. The client has that answer already, so it is not sent again;
/// it must be the same in its status and in the headers that decide how the bytes behind it are read. Then the bytes
/// pass.
///
/// An upgraded connection leaves by [`leave`](Self::leave), a WebSocket of axum by `ResumableWebSocket` (feature
/// `websocket`), a streamed response by [`take_until_requested`](Self::take_until_requested).
///
/// It is there under [`Server`](crate::Server). Under another server it never asks the handler to leave.
///
/// ```
/// use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response, routing::get};
/// use axum_activation::{handoff::Snapshot, resume::Resume};
/// use hyper_util::rt::TokioIo;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// /// Counts the bytes that come.
/// async fn count(resume: Resume, mut request: Request) -> Response {
///     let upgrade = hyper::upgrade::on(&mut request);
///     tokio::spawn(async move {
///         let Ok(upgraded) = upgrade.await else { return };
///         let mut socket = TokioIo::new(upgraded);
///         let mut count = resume.state().and_then(|state| state.bytes().first().copied()).unwrap_or(0);
///         loop {
///             tokio::select! {
///                 byte = socket.read_u8() => match byte {
///                     Ok(_) => count += 1,
///                     Err(_) => return,
///                 },
///                 () = resume.requested() => {
///                     let _ = resume.leave(socket, Snapshot::new(1, vec![count])).await;
///                     return;
///                 }
///             }
///             let _ = socket.write_u8(count).await;
///         }
///     });
///     let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
///     response.header("connection", "upgrade").header("upgrade", "count").body(Body::empty()).unwrap()
/// }
/// let app: Router = Router::new().route("/count", get(count));
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct Resume {
    exchange: Option<Arc<Exchange>>,
}

/// Request extension: this request was sent by the process before, and the client does not wait for its answer.
///
/// Middleware that counts requests, limits their rate or takes one-time tickets can let it pass:
///
/// ```
/// use axum::{extract::Request, middleware::Next, response::Response};
/// use axum_activation::resume::Resumed;
///
/// async fn count(request: Request, next: Next) -> Response {
///     if request.extensions().get::<Resumed>().is_none() {
///         // the first time that the client asks
///     }
///     next.run(request).await
/// }
/// # let _ = count;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Resumed;

impl Resumed {
    pub(crate) const NEW: Self = Self;
}

impl Resume {
    /// Takes the exchange; one without can never move.
    pub(crate) fn new(exchange: Option<Arc<Exchange>>) -> Self {
        if let Some(exchange) = &exchange {
            exchange.take();
        }
        Self { exchange }
    }

    pub(super) fn exchange(&self) -> Option<&Arc<Exchange>> {
        self.exchange.as_ref()
    }

    /// What the handler in the process before has left; `None` for a request that came from a client, and for a stream whose handler had
    /// not saved anything yet.
    ///
    /// ```
    /// # fn f(resume: axum_activation::resume::Resume) {
    /// let visits = match resume.state() {
    ///     Some(state) if state.version() == 1 => state.bytes().len(),
    ///     _ => 0,
    /// };
    /// # let _ = visits;
    /// # }
    /// ```
    #[must_use]
    pub fn state(&self) -> Option<&Snapshot> {
        self.exchange.as_ref()?.state()
    }

    /// Whether the process before has left the exchange.
    ///
    /// ```
    /// # fn f(resume: axum_activation::resume::Resume) {
    /// if !resume.is_resumed() {
    ///     // the client has come just now: greet it
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_resumed())
    }

    /// Why the exchange cannot move; `None` as long as it can.
    ///
    /// ```
    /// # fn f(resume: axum_activation::resume::Resume) {
    /// if let Some(reason) = resume.not_movable() {
    ///     println!("this one will be closed at a handoff: {reason}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn not_movable(&self) -> Option<NotMovable> {
        self.exchange.as_ref().map_or(Some(NotMovable::OtherServer), |exchange| exchange.not_movable())
    }

    /// Resolves when a handoff asks for the exchange and the handler may leave: the next process takes it, and nothing of the client is
    /// under way in this one.
    ///
    /// An upgraded stream must be read on for that. It may leave when it was asked for more since the last byte was delivered, and found
    /// nothing; a WebSocket also has no message open then. As long as the future lives, nothing is delivered behind the end of a message once a
    /// handoff has started, so a client that sends without a pause does not keep the handler here. The order in a `select!` makes no
    /// difference. Of another protocol than WebSocket the handler alone knows whether a message is open.
    ///
    /// It never resolves at a stop that keeps no connection for a next process, and for an exchange that cannot move:
    /// [`closing`](Self::closing) does.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    ///
    /// ```
    /// # async fn f(resume: axum_activation::resume::Resume, mut news: tokio::sync::mpsc::Receiver<String>) {
    /// loop {
    ///     tokio::select! {
    ///         Some(news) = news.recv() => drop(news),
    ///         () = resume.requested() => break,
    ///     }
    /// }
    /// # }
    /// ```
    pub fn requested(&self) -> impl Future<Output = ()> + Send + '_ {
        // Here and not when it is polled: in a biased `select!` another branch may always be ready first.
        let watching = self.exchange.as_deref().map(Exchange::watch);
        async move {
            let _watching = watching;
            match &self.exchange {
                Some(exchange) => exchange.requested().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves when the service ends and the exchange does not move: at a stop without a next process, at a handoff to one that does not
    /// take it, or when it cannot move. The handler then says goodbye as its protocol has it. It does not resolve where one side of a WebSocket
    /// has said Close: the handler reads on until the connection ends.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped and called again.
    ///
    /// ```
    /// # async fn f(resume: axum_activation::resume::Resume) {
    /// tokio::select! {
    ///     () = resume.requested() => { /* leave */ }
    ///     () = resume.closing() => { /* close */ }
    /// }
    /// # }
    /// ```
    pub async fn closing(&self) {
        match &self.exchange {
            Some(exchange) => exchange.closing().await,
            None => std::future::pending().await,
        }
    }

    /// Leaves an upgraded connection to the next process: writes what is still to be written to `socket` and drops it.
    ///
    /// The handler in the next process finds `state`. One that is empty and of version 0 reads as none.
    ///
    /// A stream that was split is put together first, or its halves are dropped in [`leave_after`](Self::leave_after).
    ///
    /// # Errors
    ///
    /// [`LeaveReason`] says why; where the socket can still be used it is part of the error.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    ///
    /// ```
    /// # async fn f<S: tokio::io::AsyncWrite + Unpin>(resume: axum_activation::resume::Resume, socket: S) {
    /// use axum_activation::handoff::Snapshot;
    ///
    /// resume.requested().await;
    /// if let Err(error) = resume.leave(socket, Snapshot::new(1, "what the next one must know")).await {
    ///     eprintln!("{error}");
    /// }
    /// # }
    /// ```
    pub async fn leave<S: AsyncWrite + Unpin>(&self, mut socket: S, state: Snapshot) -> Result<(), LeaveError<S>> {
        if let Err(reason) = self.check_leave(&state) {
            return Err(LeaveError::new(reason, Some(socket)));
        }
        match socket.flush().await.map_err(LeaveReason::Io).and_then(|()| self.arm(state)) {
            Ok(()) => {
                drop(socket);
                self.confirm()
            }
            Err(reason) => Err(LeaveError::new(reason, Some(socket))),
        }
    }

    /// As [`leave`](Self::leave), for a stream that is not one value: `flush` writes what is still to be written, and then what it returns
    /// is dropped, with which the last part of the stream must go.
    ///
    /// # Errors
    ///
    /// As of [`leave`](Self::leave); the parts are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    ///
    /// ```
    /// # async fn f(resume: axum_activation::resume::Resume, socket: tokio::io::DuplexStream) {
    /// use axum_activation::handoff::Snapshot;
    /// use tokio::io::AsyncWriteExt;
    ///
    /// let (reader, mut writer) = tokio::io::split(socket);
    /// resume.requested().await;
    /// let parts = async move {
    ///     writer.flush().await?;
    ///     Ok((reader, writer))
    /// };
    /// let _ = resume.leave_after(parts, Snapshot::new(1, "")).await;
    /// # }
    /// ```
    pub async fn leave_after<P>(
        &self,
        flush: impl Future<Output = io::Result<P>>,
        state: Snapshot,
    ) -> Result<(), LeaveError<P>> {
        self.check_leave(&state).map_err(|reason| LeaveError::new(reason, None))?;
        let parts = flush.await.map_err(|error| LeaveError::new(LeaveReason::Io(error), None))?;
        match self.arm(state) {
            Ok(()) => {
                drop(parts);
                self.confirm()
            }
            Err(reason) => Err(LeaveError::new(reason, Some(parts))),
        }
    }

    fn known(&self) -> Result<&Exchange, LeaveReason> {
        self.exchange.as_deref().ok_or(LeaveReason::NotMovable(NotMovable::OtherServer))
    }

    pub(super) fn check_leave(&self, state: &Snapshot) -> Result<(), LeaveReason> {
        self.known()?.check_leave(state)
    }

    fn arm(&self, state: Snapshot) -> Result<(), LeaveReason> {
        self.known()?.arm(state)
    }

    /// Whether the connection went with its socket.
    fn confirm<S>(&self) -> Result<(), LeaveError<S>> {
        let departed = self.known().is_ok_and(Exchange::disarm);
        if departed { Ok(()) } else { Err(LeaveError::new(LeaveReason::SocketKept, None)) }
    }

    /// Keeps what the handler of a streamed response would leave if it had to now: the id of the last event, say. The next call replaces
    /// it. [`take_until_requested`](Self::take_until_requested) leaves it to the next process.
    ///
    /// Called where an item is made, it is always that of the last item that was sent.
    ///
    /// # Errors
    ///
    /// It is longer than 64 KiB. What was saved before stands.
    ///
    /// ```
    /// # fn f(resume: axum_activation::resume::Resume) {
    /// use axum_activation::handoff::Snapshot;
    ///
    /// resume.save(Snapshot::new(1, 17_u64.to_be_bytes().to_vec())).expect("it is short");
    /// # }
    /// ```
    pub fn save(&self, state: Snapshot) -> Result<(), LeaveError<()>> {
        match &self.exchange {
            Some(exchange) => exchange.save(state).map_err(|reason| LeaveError::new(reason, None)),
            None => Ok(()),
        }
    }

    /// Says that the body that is being sent ends for the next process to go on with it, with what was [saved](Self::save) last.
    ///
    /// For a body that is no stream of [`take_until_requested`](Self::take_until_requested): it calls this when
    /// [`requested`](Self::requested) has resolved, and ends. If the exchange cannot move after all, its client sees the end.
    ///
    /// ```
    /// # async fn f(resume: axum_activation::resume::Resume) {
    /// use axum_activation::handoff::Snapshot;
    ///
    /// resume.requested().await;
    /// let _ = resume.save(Snapshot::new(1, "17"));
    /// resume.leave_stream(); // and end the body
    /// # }
    /// ```
    pub fn leave_stream(&self) {
        if let Some(exchange) = &self.exchange {
            exchange.leave_stream();
        }
    }

    /// Whether the body that is being sent ends for the next process: its client does not see the end. For what is said to a client at the
    /// end alone:
    ///
    /// ```
    /// # use axum_activation::resume::Resume;
    /// use futures_util::stream::{self, Stream, StreamExt};
    ///
    /// fn with_goodbye(resume: Resume, lines: impl Stream<Item = String>) -> impl Stream<Item = String> {
    ///     let goodbye = stream::once({
    ///         let resume = resume.clone();
    ///         async move { (!resume.is_leaving()).then(|| "goodbye".to_owned()) }
    ///     });
    ///     resume.take_until_requested(lines).or_closing().chain(goodbye.filter_map(std::future::ready))
    /// }
    /// # let _ = |resume: Resume| with_goodbye(resume, stream::empty());
    /// ```
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.is_leaving())
    }
}
