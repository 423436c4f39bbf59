//! A listener that stops accepting when a drain begins, for servers other than [`Server`](crate::Server).
//!
//! `axum::serve` drops its listener when its shutdown future resolves. Connections that the kernel has completed by
//! then are reset. This listener closes earlier than the server ends, and empties the queue of each socket that no
//! other process accepts from.

use std::{
    fmt,
    future::{Future, pending},
    io,
    pin::Pin,
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};

use super::{ActivatedListener, ActivatedStream};
use crate::{addr::PeerAddr, drain::Drain, log};

impl ActivatedListener {
    /// Stops accepting when the drain begins, for [`axum::serve`](fn@axum::serve) and its like.
    ///
    /// - From a socket that this process alone has, it accepts until the queue is empty. Then the socket is closed, and
    ///   clients are refused.
    /// - A socket that another process has too (the launcher, a successor) is left to that process at once, with what
    ///   is in its queue.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Drain, layer::DrainLayer};
    ///
    /// let drain = Drain::new();
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("http")?.stop_on(&drain);
    ///
    /// drain.start(); // a program does so at a signal
    /// axum::serve(listener, Router::new().layer(DrainLayer::new(&drain)))
    ///     .with_graceful_shutdown(drain.started_after(Duration::from_millis(10)))
    ///     .await
    /// # }
    /// ```
    #[must_use]
    pub fn stop_on(self, drain: &Drain) -> StoppingListener {
        let local = Listener::local_addr(&self);
        StoppingListener {
            listener: Some(self),
            drain: drain.clone(),
            stop: Box::pin(drain.started_after(Duration::ZERO)),
            is_stopped: false,
            local: local.ok(),
        }
    }
}

/// Accepts until the drain starts; [`ActivatedListener::stop_on`] makes it.
///
/// Once it has stopped, `accept` gives what is left in the queue of its own sockets, and then waits for ever.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum_activation::{ActivatedListeners, Drain};
///
/// let drain = Drain::new();
/// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
/// let listener = activated.one("http")?;
/// let addr = listener.local_addrs()[0].to_string();
/// let mut listener = listener.stop_on(&drain);
///
/// drain.start();
/// assert!(tokio::time::timeout(std::time::Duration::from_millis(20), listener.accept()).await.is_err());
/// assert!(std::net::TcpStream::connect(addr).is_err(), "the socket is closed");
/// # Ok(())
/// # }
/// ```
pub struct StoppingListener {
    listener: Option<ActivatedListener>,
    drain: Drain,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stopped: bool,
    local: Option<PeerAddr>,
}

impl StoppingListener {
    /// Accepts for `time` after the drain has started, so that load balancers that poll readiness notice before clients
    /// are refused.
    ///
    /// Without it, accepting stops at once. Shut the server down so much later, too: `drain.started_after(lame_duck +
    /// grace)`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use axum_activation::{ActivatedListeners, Drain};
    ///
    /// let drain = Drain::new();
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let listener = activated.one("http")?;
    /// let addr = listener.local_addrs()[0].to_string();
    /// let mut listener = listener.stop_on(&drain).lame_duck(Duration::from_secs(5));
    ///
    /// drain.start();
    /// let _client = tokio::net::TcpStream::connect(addr).await?;
    /// let (_stream, _peer) = listener.accept().await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.stop = Box::pin(self.drain.started_after(time));
        self
    }

    /// Accepts the next connection, and returns it with the address of its other end. Once it has stopped and its queue
    /// is empty, it never resolves.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_activation::{ActivatedListeners, Drain};
    ///
    /// let drain = Drain::new();
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let listener = activated.one("http")?;
    /// let addr = listener.local_addrs()[0].to_string();
    /// let _queued = std::net::TcpStream::connect(&addr)?;
    ///
    /// let mut listener = listener.stop_on(&drain);
    /// drain.start();
    /// let (_stream, _peer) = listener.accept().await; // the client that was in the queue
    /// tokio::select! {
    ///     _ = listener.accept() => unreachable!("it has stopped"),
    ///     () = drain.started() => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A dropped `accept` has taken no connection.
    pub async fn accept(&mut self) -> (ActivatedStream, PeerAddr) {
        let (stream, peer) = self.accept_anybody().await;
        let peer = stream.identify(peer);
        (stream, peer)
    }

    async fn accept_anybody(&mut self) -> (ActivatedStream, PeerAddr) {
        if let Some(accepted) = self.accept_until_stopped().await {
            return accepted;
        }
        if let Some(listener) = &mut self.listener {
            if let Some(accepted) = listener.accept_last().await {
                return accepted;
            }
        }
        self.close().await
    }

    /// `None` when it is to stop.
    async fn accept_until_stopped(&mut self) -> Option<(ActivatedStream, PeerAddr)> {
        if self.is_stopped {
            return None;
        }
        let listener = self.listener.as_mut()?;
        tokio::select! {
            biased;
            () = &mut self.stop => {}
            accepted = listener.accept_anybody() => return Some(accepted),
        }
        self.is_stopped = true;
        listener.ignore_connects();
        None
    }

    async fn close<T>(&mut self) -> T {
        if let Some(listener) = self.listener.take() {
            log::debug!(listener = listener.name(), "stopped accepting");
        }
        pending().await
    }
}

impl Listener for StoppingListener {
    type Io = ActivatedStream;
    type Addr = PeerAddr;

    /// Accepts without asking which process a Unix client is. `ConnectInfo` asks, when a service wants it.
    async fn accept(&mut self) -> (ActivatedStream, PeerAddr) {
        self.accept_anybody().await
    }

    /// The address of its first socket, even when that is closed.
    fn local_addr(&self) -> io::Result<PeerAddr> {
        self.local.clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl fmt::Debug for StoppingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppingListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// `ConnectInfo<PeerAddr>` with plain [`axum::serve`](fn@axum::serve) and
/// `into_make_service_with_connect_info::<PeerAddr>()`.
impl Connected<IncomingStream<'_, StoppingListener>> for PeerAddr {
    fn connect_info(stream: IncomingStream<'_, StoppingListener>) -> Self {
        stream.io().identify(stream.remote_addr().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test]
    async fn the_queue_of_an_own_socket_is_emptied_before_it_is_closed() {
        let (own, addr) = own_listener();
        let drain = Drain::new();
        let mut listener = own.stop_on(&drain);
        let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
        drain.start();
        for client in clients {
            assert_eq!(accepted(&mut listener).await, Some(PeerAddr::Tcp(client.local_addr().unwrap())));
        }
        assert_eq!(accepted(&mut listener).await, None);
        assert!(TcpStream::connect(addr).is_err(), "the socket is closed");
        assert_eq!(Listener::local_addr(&listener).unwrap(), PeerAddr::Tcp(addr));
        assert_eq!(accepted(&mut listener).await, None);
    }

    #[tokio::test]
    async fn a_socket_that_others_have_too_is_left_to_them() {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        let drain = Drain::new();
        let mut listener = ActivatedListener::of(theirs.try_clone().unwrap(), true).stop_on(&drain);
        let mut client = TcpStream::connect(theirs.local_addr().unwrap()).unwrap();
        drain.start();
        assert_eq!(accepted(&mut listener).await, None);
        let (mut stream, _) = theirs.accept().unwrap();
        stream.write_all(b"theirs").unwrap();
        drop(stream);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "theirs");
    }

    #[tokio::test]
    async fn the_one_connection_is_served_even_after_the_drain_began() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let drain = Drain::new();
        let mut listener = ActivatedListener::of(ours, true).stop_on(&drain);
        drain.start();
        assert!(accepted(&mut listener).await.is_some());
        assert_eq!(accepted(&mut listener).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lame_duck_goes_on_accepting() {
        let (own, addr) = own_listener();
        let drain = Drain::new();
        let mut listener = own.stop_on(&drain).lame_duck(Duration::from_secs(5));
        drain.start();
        advance(Duration::from_secs(4)).await;
        assert_eq!(accepted(&mut listener).await, None);
        let client = TcpStream::connect(addr).expect("the lame duck still listens");
        advance(Duration::from_secs(1)).await;
        assert_eq!(accepted(&mut listener).await, Some(PeerAddr::Tcp(client.local_addr().unwrap())));
        assert_eq!(accepted(&mut listener).await, None);
        assert!(TcpStream::connect(addr).is_err(), "its time is over");
    }

    fn own_listener() -> (ActivatedListener, SocketAddr) {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = own.local_addr().unwrap();
        (ActivatedListener::of(own, false), addr)
    }

    /// Who is accepted without a wait.
    async fn accepted(listener: &mut StoppingListener) -> Option<PeerAddr> {
        timeout(Duration::ZERO, listener.accept()).await.ok().map(|(_, peer)| peer)
    }
}
