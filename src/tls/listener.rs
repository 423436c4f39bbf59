//! TLS for servers other than [`Server`](crate::Server): an axum `Listener` whose connections have done their handshake.

use std::{fmt, io};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::task::JoinSet;

use super::{
    config::Tls,
    handshake::{self, Failed},
    info::TlsInfo,
    stream::TlsStream,
};
use crate::{
    addr::PeerAddr,
    listener::{ActivatedListener, ActivatedStream, StoppingListener},
    log,
};

impl ActivatedListener {
    /// Speaks TLS on this listener, for [`axum::serve`](fn@axum::serve) and its like. It needs the feature `tls`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum::{Router, extract::ConnectInfo, routing::get};
    /// use axum_activation::{ActivatedListeners, tls::{Tls, TlsInfo}};
    ///
    /// async fn version(ConnectInfo(tls): ConnectInfo<TlsInfo>) -> String {
    ///     format!("{:?}", tls.version())
    /// }
    ///
    /// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").from_env()?;
    /// let app = Router::new().route("/", get(version)).into_make_service_with_connect_info::<TlsInfo>();
    /// let serve = axum::serve(activated.one("https")?.tls(tls), app);
    /// # drop(serve);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(self, tls: Tls) -> TlsListener {
        TlsListener::new(self, tls)
    }
}

impl StoppingListener {
    /// As [`ActivatedListener::tls`]. Handshakes that are under way when it stops are done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use std::time::Duration;
    /// use axum::Router;
    /// use axum_activation::{ActivatedListeners, Drain, tls::Tls};
    ///
    /// let drain = Drain::new();
    /// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("https")?.stop_on(&drain).tls(tls);
    /// # drain.start();
    /// axum::serve(listener, Router::new()).with_graceful_shutdown(drain.started_after(Duration::from_millis(100))).await
    /// # }
    /// ```
    pub fn tls(self, tls: Tls) -> TlsListener<Self> {
        TlsListener::new(self, tls)
    }
}

/// Gives connections that have done their TLS handshake; [`ActivatedListener::tls`] makes it.
///
/// Handshakes are done beside each other, in tasks, so no slow client delays another one. One that fails, or is not done within
/// [`Tls::handshake_timeout`], closes its connection and is logged at DEBUG. A client that sends a request in clear gets a 400.
///
/// It speaks HTTP/1.1: axum has HTTP/2 only with its feature `http2`, see [`http2`](Self::http2). A listener that is dropped closes the
/// connections whose handshake is not done.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), axum_activation::Error> {
/// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
/// use axum_activation::{ActivatedListeners, tls::Tls};
///
/// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
/// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").from_env()?;
/// let mut listener = activated.one("https")?.tls(tls);
/// tokio::select! {
///     (stream, peer) = listener.accept() => println!("{peer} speaks {:?}", stream.info().version()),
///     () = tokio::time::sleep(std::time::Duration::from_millis(10)) => println!("no client"),
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct TlsListener<L = ActivatedListener> {
    listener: L,
    tls: Tls,
    speaks_http2: bool,
    /// Bounded by the connections that are open, and each ends within the handshake timeout.
    handshakes: JoinSet<Option<(TlsStream, PeerAddr)>>,
}

impl<L: Listener<Io = ActivatedStream, Addr = PeerAddr>> TlsListener<L> {
    fn new(listener: L, tls: Tls) -> Self {
        Self { listener, tls, speaks_http2: false, handshakes: JoinSet::new() }
    }

    /// Speaks HTTP/2 as well, as the client chooses. For `axum::serve` it needs axum's feature `http2`.
    ///
    /// A configuration of [`Tls::from_config`] or [`Tls::from_fn`] keeps its own ALPN protocols, with this or without it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::{ActivatedListeners, tls::Tls};
    ///
    /// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("https")?.tls(tls).http2();
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn http2(mut self) -> Self {
        self.speaks_http2 = true;
        self
    }

    /// The next connection that has done its handshake, and who is at its other end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no connection is lost: handshakes go on, and the next call returns what they have.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// # let _ = axum_activation::tls::rustls::crypto::ring::default_provider().install_default();
    /// use axum_activation::{ActivatedListeners, tls::Tls};
    ///
    /// let tls = Tls::pem_files("examples/tls/localhost.pem", "examples/tls/localhost.key")?;
    /// let activated = ActivatedListeners::builder().fallback("https", "127.0.0.1:0").build()?;
    /// let mut listener = activated.one("https")?.tls(tls);
    /// tokio::select! {
    ///     (stream, peer) = listener.accept() => println!("{peer}: {:?}", stream.info()),
    ///     () = tokio::time::sleep(std::time::Duration::from_millis(10)) => println!("no client"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accept(&mut self) -> (TlsStream, PeerAddr) {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                (stream, peer) = self.listener.accept() => {
                    let (tls, speaks_http2) = (self.tls.clone(), self.speaks_http2);
                    self.handshakes.spawn(async move {
                        match handshake::serve(&tls, speaks_http2, stream).await {
                            Ok(stream) => Some((stream, peer)),
                            Err(failed) => {
                                log_failure(&peer, &failed);
                                None
                            }
                        }
                    });
                }
            }
        }
    }
}

fn log_failure(peer: &PeerAddr, failed: &Failed) {
    log::debug!(%peer, error = %failed, "a TLS handshake has failed");
}

impl<L: Listener<Io = ActivatedStream, Addr = PeerAddr>> Listener for TlsListener<L> {
    type Io = TlsStream;
    type Addr = PeerAddr;

    async fn accept(&mut self) -> (TlsStream, PeerAddr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<PeerAddr> {
        self.listener.local_addr()
    }
}

impl<L: fmt::Debug> fmt::Debug for TlsListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// `ConnectInfo<PeerAddr>` with plain [`axum::serve`](fn@axum::serve).
impl<L: Listener<Io = ActivatedStream, Addr = Self>> Connected<IncomingStream<'_, TlsListener<L>>> for PeerAddr {
    fn connect_info(stream: IncomingStream<'_, TlsListener<L>>) -> Self {
        stream.io().connection().identify(stream.remote_addr().clone())
    }
}

/// `ConnectInfo<TlsInfo>` with plain [`axum::serve`](fn@axum::serve).
impl<L: Listener<Io = ActivatedStream, Addr = PeerAddr>> Connected<IncomingStream<'_, TlsListener<L>>> for TlsInfo {
    fn connect_info(stream: IncomingStream<'_, TlsListener<L>>) -> Self {
        stream.io().info()
    }
}
