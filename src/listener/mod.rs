//! Listeners: axum's [`Listener`] over TCP, Unix and vsock sockets, one or several at a time.
//!
//! An [`ActivatedListener`] comes from [`ActivatedListeners::one`](crate::ActivatedListeners::one) and its like. It
//! serves with [`axum::serve`](fn@axum::serve) as it is. With [`stop_on`](ActivatedListener::stop_on) it stops when a
//! [`Drain`](crate::Drain) begins. [`Server`](crate::Server) accepts from it by itself.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use axum_activation::ActivatedListeners;
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//!
//! let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
//! let listener = activated.one("http")?;
//! let addr = listener.local_addrs()[0].to_string();
//! tokio::spawn(async { axum::serve(listener, Router::new().route("/", get(|| async { "hello" }))).await });
//!
//! let mut client = TcpStream::connect(addr).await?;
//! client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
//! let mut response = String::new();
//! client.read_to_string(&mut response).await?;
//! assert!(response.ends_with("hello"));
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    future::{Future, pending, poll_fn},
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

mod backoff;
mod bind;
mod endpoint;
mod handle;
mod options;
mod single;
mod stopping;
mod stream;

use self::backoff::{Backoff, concerns_one_connection, is_shortage};
pub(crate) use self::{
    bind::{Bound, bind, unwritable},
    endpoint::{Endpoint, RawEndpoint},
    handle::ListenerHandle,
};
pub use self::{options::ListenOptions, stopping::StoppingListener, stream::ActivatedStream};
use crate::{
    addr::{ListenAddr, PeerAddr},
    error::{Error, Kind},
    log,
};

/// Accepts connections from every socket of one name.
///
/// It serves as it is with [`axum::serve`](fn@axum::serve), and with anything that takes an axum [`Listener`]. Several
/// sockets under one name (IPv4 and IPv6, TCP and Unix) take turns, so a flood on one does not keep the others waiting.
///
/// [`accept`](Self::accept) cannot fail:
///
/// - An error that concerns one connection is passed over (`accept(2)` lists them) and logged at DEBUG.
/// - When the process is out of descriptors or memory, it pauses, doubling from 5 ms to 1 s. The connections wait in
///   the kernel's queue. It is logged at ERROR, once a second at most.
///
/// A listener of an `Accept=yes` unit gives its one connection and then waits for ever, see [`ended`](Self::ended).
///
/// A listener that is dropped closes its sockets. A Unix path that this process bound is removed then, unless a
/// successor or the fd store has the socket too.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use axum_activation::ActivatedListeners;
///
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
/// let listener = activated.one("http")?;
/// println!("listening on {}", listener.local_addrs()[0]);
/// let serve = axum::serve(listener, axum::Router::new());
/// # drop(serve);
/// # Ok(())
/// # }
/// ```
pub struct ActivatedListener {
    name: Arc<str>,
    endpoints: Vec<Endpoint>,
    /// Whose turn it is.
    next: usize,
    backoff: Backoff,
    ended: CancellationToken,
}

impl ActivatedListener {
    /// Registers sockets with the current runtime.
    ///
    /// # Errors
    ///
    /// The system refuses a socket, or has no descriptor left for epoll.
    pub(crate) fn register(name: Arc<str>, sockets: Vec<RawEndpoint>) -> Result<Self, Error> {
        sockets.iter().for_each(|raw| raw.note_obstacle(&name));
        let ended = CancellationToken::new();
        let register = |raw| Endpoint::register(raw, || ended.clone().drop_guard());
        let endpoints = sockets.into_iter().map(register).collect::<io::Result<_>>();
        let endpoints =
            endpoints.map_err(|source| Kind::Socket { name: name.to_string(), doing: "listen on", source })?;
        Ok(Self { name, endpoints, next: 0, backoff: Backoff::default(), ended })
    }

    /// An error unless there is a runtime to register sockets with. It is asked before anything is taken, as tokio
    /// panics without one.
    pub(crate) fn check_runtime(name: &str) -> Result<(), Error> {
        match Handle::try_current() {
            Ok(_) => Ok(()),
            Err(_) => Err(Kind::NoRuntime { name: name.to_owned() }.into()),
        }
    }

    /// The name its sockets were passed or bound under.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # use axum_activation::ActivatedListeners;
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert_eq!(activated.one("http")?.name(), "http");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The addresses it listens on, in the order in which the sockets were passed.
    ///
    /// With port 0 it is the port that the kernel has chosen:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::{ActivatedListeners, ListenAddr};
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "127.0.0.1:0")
    ///     .fallback("http", "@axum-activation-local-addrs")
    ///     .build()?;
    /// let addrs = activated.one("http")?.local_addrs();
    /// assert!(matches!(addrs[0], ListenAddr::Tcp(addr) if addr.port() != 0));
    /// assert_eq!(addrs[1].to_string(), "@axum-activation-local-addrs");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn local_addrs(&self) -> Vec<ListenAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.local_addr().clone()).collect()
    }

    /// Whether it is the one connection of an `Accept=yes` unit (`systemd.socket(5)`), after which none will come.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::unix::net::UnixStream;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let (ours, _theirs) = UnixStream::pair()?;
    /// let activated = ActivatedListeners::builder().socket("connection", ours).build()?;
    /// assert!(activated.one("http")?.is_one_connection(), "the one connection answers to every name");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_one_connection(&self) -> bool {
        self.endpoints.iter().all(Endpoint::is_one_connection)
    }

    /// Resolves when no other connection can come and the last one is closed: with `Accept=yes`, and never otherwise.
    ///
    /// [`Server`](crate::Server) ends by itself then. With plain axum, give it to the graceful shutdown:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::unix::net::UnixStream;
    /// use axum::Router;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let activated = ActivatedListeners::builder().socket("connection", ours).build()?;
    ///
    /// let listener = activated.one("http")?;
    /// let ended = listener.ended();
    /// drop(theirs); // the client closes
    /// axum::serve(listener, Router::new()).with_graceful_shutdown(ended).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// It only waits. Dropped, it can be asked for again.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let waiting = self.is_one_connection().then(|| self.ended.clone().cancelled_owned());
        async move {
            match waiting {
                Some(waiting) => waiting.await,
                None => pending().await,
            }
        }
    }

    /// Accepts the next connection, and returns it with the address of its other end.
    ///
    /// For a Unix client it asks the kernel which process that is (`SO_PEERCRED`), which takes a system call more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_activation::ActivatedListeners;
    /// use tokio::net::TcpStream;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let mut listener = activated.one("http")?;
    /// let client = TcpStream::connect(listener.local_addrs()[0].to_string()).await?;
    ///
    /// let (stream, peer) = listener.accept().await;
    /// assert_eq!(peer.socket_addr(), Some(client.local_addr()?));
    /// # drop(stream);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A dropped `accept` has taken no connection. A pause after a shortage goes on where it was.
    pub async fn accept(&mut self) -> (ActivatedStream, PeerAddr) {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`accept`](Self::accept), without asking which process a Unix client is.
    pub(crate) async fn accept_anybody(&mut self) -> (ActivatedStream, PeerAddr) {
        poll_fn(|cx| self.poll_accept_anybody(cx)).await
    }

    /// As [`accept`](Self::accept), for hand-written futures.
    ///
    /// It wakes one task at a time: that of the last call. Whether a connection is there is known after the first poll,
    /// so a caller polls until it gets [`Poll::Pending`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::future::poll_fn;
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let mut listener = activated.one("http")?;
    /// let _client = tokio::net::TcpStream::connect(listener.local_addrs()[0].to_string()).await?;
    ///
    /// let (_stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await;
    /// println!("{peer} has connected");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(ActivatedStream, PeerAddr)> {
        self.poll_accept_anybody(cx).map(identified)
    }

    /// As [`poll_accept`](Self::poll_accept), without asking which process a Unix client is.
    #[inline]
    fn poll_accept_anybody(&mut self, cx: &mut Context<'_>) -> Poll<(ActivatedStream, PeerAddr)> {
        loop {
            if self.backoff.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.poll_endpoints(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(accepted)) => {
                    self.backoff.reset();
                    return Poll::Ready(accepted);
                }
                Poll::Ready(Err(error)) => self.note(&error),
            }
        }
    }

    /// A route of [`Server`](crate::Server) accepts from it, which stops when a handoff asks it to.
    pub(crate) fn note_route(&self) {
        self.endpoints.iter().for_each(Endpoint::note_route);
    }

    /// Whether another process has each of its sockets too, and so keeps its queue when this process ends.
    pub(crate) fn is_shared(&self) -> bool {
        self.endpoints.iter().all(Endpoint::is_shared)
    }

    /// Closes the sockets that this process alone has.
    pub(crate) fn close_own(&mut self) {
        self.endpoints.retain(Endpoint::is_shared);
        self.next = 0;
    }

    /// Refuses new connections on sockets that this process alone has, so that their queues have an end.
    pub(crate) fn ignore_connects(&self) {
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.is_shared()) {
            if let Err(error) = endpoint.ignore_connects() {
                log::debug!(listener = %self.name, %error, "who connects while it closes may be reset");
            }
        }
    }

    /// Accepts a connection that the kernel has completed on a socket that this process alone has; `None` when there is
    /// none. It waits only while there is one and nothing to accept it with.
    ///
    /// # Cancel safety
    ///
    /// A dropped `accept_last` has taken no connection.
    pub(crate) async fn accept_last(&mut self) -> Option<(ActivatedStream, PeerAddr)> {
        poll_fn(|cx| self.poll_accept_last(cx)).await
    }

    fn poll_accept_last(&mut self, cx: &mut Context<'_>) -> Poll<Option<(ActivatedStream, PeerAddr)>> {
        loop {
            ready!(self.backoff.poll(cx));
            match self.accept_queued() {
                Ok(accepted) => {
                    self.backoff.reset();
                    return Poll::Ready(accepted);
                }
                Err(error) => self.note(&error),
            }
        }
    }

    fn accept_queued(&mut self) -> io::Result<Option<(ActivatedStream, PeerAddr)>> {
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| !endpoint.is_shared()) {
            loop {
                match endpoint.accept_queued() {
                    Ok(accepted) => return Ok(Some(identified(accepted))),
                    Err(error) if concerns_one_connection(&error) => {}
                    // With a full table of descriptors it is this error, whether or not the queue is empty.
                    Err(error) if is_shortage(&error) && endpoint.has_queued() => return Err(error),
                    Err(_) => break,
                }
            }
        }
        Ok(None)
    }

    /// Asks every socket, beginning with the one after the last that gave a connection.
    #[inline]
    fn poll_endpoints(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(ActivatedStream, PeerAddr)>> {
        let count = self.endpoints.len();
        for _ in 0..count {
            let turn = self.next;
            self.next = if turn + 1 < count { turn + 1 } else { 0 };
            if let Poll::Ready(accepted) = self.endpoints[turn].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    #[cold]
    fn note(&mut self, error: &io::Error) {
        if concerns_one_connection(error) {
            log::debug!(listener = %self.name, %error, "a connection ended before it was accepted");
            return;
        }
        let pause = self.backoff.start();
        if !self.backoff.may_log() {
            return;
        }
        log::error!(
            listener = %self.name, %error, pause_ms = pause.as_millis(),
            "cannot accept connections, they wait in the queue; is LimitNOFILE= too low?"
        );
    }
}

impl fmt::Debug for ActivatedListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs = self.endpoints.iter().map(|endpoint| endpoint.local_addr().to_string());
        f.debug_struct("ActivatedListener")
            .field("name", &self.name)
            .field("addrs", &addrs.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Listener for ActivatedListener {
    type Io = ActivatedStream;
    type Addr = PeerAddr;

    /// Accepts without asking which process a Unix client is. `ConnectInfo` asks, when a service wants it.
    async fn accept(&mut self) -> (ActivatedStream, PeerAddr) {
        self.accept_anybody().await
    }

    /// The address of its first socket.
    fn local_addr(&self) -> io::Result<PeerAddr> {
        match self.endpoints.first() {
            Some(endpoint) => endpoint.local_peer_addr(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// `ConnectInfo<PeerAddr>` with plain [`axum::serve`](fn@axum::serve) and
/// `into_make_service_with_connect_info::<PeerAddr>()`.
impl Connected<IncomingStream<'_, ActivatedListener>> for PeerAddr {
    fn connect_info(stream: IncomingStream<'_, ActivatedListener>) -> Self {
        stream.io().identify(stream.remote_addr().clone())
    }
}

fn identified((stream, peer): (ActivatedStream, PeerAddr)) -> (ActivatedStream, PeerAddr) {
    let peer = stream.identify(peer);
    (stream, peer)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{
            fd::{AsFd, OwnedFd},
            unix::net::{UnixListener, UnixStream},
        },
    };

    use socket2::SockRef;

    use super::*;
    use crate::sys::socket;

    impl ActivatedListener {
        pub(super) fn of(fd: impl Into<OwnedFd>, passed: bool) -> Self {
            Self::over([fd], passed)
        }

        pub(super) fn over(fds: impl IntoIterator<Item = impl Into<OwnedFd>>, passed: bool) -> Self {
            let raw = |fd: OwnedFd| {
                let kind = socket::kind(fd.as_fd());
                let local = ListenAddr::from_kernel(&SockRef::from(&fd).local_addr().unwrap());
                let local = local.unwrap_or(ListenAddr::Abstract(Vec::new()));
                RawEndpoint { fd, kind, local, passed, handle: Arc::new(ListenerHandle::new(None, passed)) }
            };
            Self::register("http".into(), fds.into_iter().map(|fd| raw(fd.into())).collect()).unwrap()
        }
    }

    #[tokio::test]
    async fn a_queued_connection_is_found_before_the_runtime_has_heard_of_it() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = own.local_addr().unwrap();
        let mut own = ActivatedListener::of(own, false);
        let client = TcpStream::connect(addr).unwrap();
        let (stream, peer) = own.accept_last().await.expect("one waits");
        assert_eq!(stream.as_tcp().unwrap().local_addr().unwrap(), addr);
        assert_eq!(peer, PeerAddr::Tcp(client.local_addr().unwrap()));
        assert!(own.accept_last().await.is_none());
    }

    #[tokio::test]
    async fn a_queued_unix_client_is_known_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue.sock");
        let mut own = ActivatedListener::of(UnixListener::bind(&path).unwrap(), false);
        let _client = UnixStream::connect(&path).unwrap();
        let (stream, peer) = own.accept_last().await.expect("one waits");
        let PeerAddr::Unix(peer) = peer else { panic!("{peer:?}") };
        assert_eq!(peer.credentials.unwrap().pid, i32::try_from(std::process::id()).ok());
        assert!(stream.as_unix().is_some());
    }

    #[tokio::test]
    async fn what_others_hold_too_is_left_to_them_but_the_one_connection_is_ours() {
        let shared = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(shared.local_addr().unwrap()).unwrap();
        assert!(ActivatedListener::of(shared, true).accept_last().await.is_none());
        let (connection, _client) = UnixStream::pair().unwrap();
        let mut connection = ActivatedListener::of(connection, true);
        assert!(connection.accept_last().await.is_some() && connection.accept_last().await.is_none());
    }
}
