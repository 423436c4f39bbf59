//! One accepted connection, of whichever family.
//!
//! An enum and not a `Box<dyn ..>`, so that a read is a match and no call through a table. The types of tokio do the
//! work, so that everything they do (vectored writes, readiness) is there.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_util::sync::DropGuard;

use crate::{
    addr::{PeerAddr, PeerCredentials},
    sys::{
        inherit,
        socket::{self, SocketFamily, SocketKind},
    },
};

/// A connection that an [`ActivatedListener`](super::ActivatedListener) accepted.
///
/// Reads and writes go straight to tokio's own stream of that family, vectored writes too.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum_activation::ActivatedListeners;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::UnixStream};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("app.sock");
/// let activated = ActivatedListeners::builder().fallback("http", path.as_path()).build()?;
/// let mut listener = activated.one("http")?;
///
/// let mut client = UnixStream::connect(&path).await?;
/// let (mut stream, _peer) = listener.accept().await;
/// stream.write_all(b"hello").await?;
/// drop(stream);
///
/// let mut text = String::new();
/// client.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ActivatedStream {
    stream: Stream,
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "vsock")]
    Vsock(tokio_vsock::VsockStream),
    /// Boxed, so that all others are small: a connection is moved often before it is served.
    Only(Box<Only>),
}

/// The one connection of `Accept=yes`.
#[derive(Debug)]
pub(super) struct Only {
    stream: ActivatedStream,
    /// Fires when the stream is gone, for the server that waits for its end.
    _ended: DropGuard,
}

impl Stream {
    pub(super) fn connected(family: SocketFamily, fd: OwnedFd) -> io::Result<Self> {
        match family {
            SocketFamily::Ipv4 | SocketFamily::Ipv6 => TcpStream::from_std(fd.into()).map(Self::Tcp),
            SocketFamily::Unix => UnixStream::from_std(fd.into()).map(Self::Unix),
            #[cfg(feature = "vsock")]
            SocketFamily::Vsock => Ok(Self::Vsock(fd.into())),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl ActivatedStream {
    pub(super) fn ending_with(stream: Stream, ended: DropGuard) -> Self {
        Stream::Only(Box::new(Only { stream: stream.into(), _ended: ended })).into()
    }

    /// The TCP stream within, if it is one; for `TCP_NODELAY`, `SO_LINGER` and their like.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let mut listener = activated.one("http")?;
    /// let _client = tokio::net::TcpStream::connect(listener.local_addrs()[0].to_string()).await?;
    ///
    /// let (stream, _peer) = listener.accept().await;
    /// if let Some(tcp) = stream.as_tcp() {
    ///     tcp.set_nodelay(true)?;
    /// }
    /// assert!(stream.as_unix().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Only(only) => only.stream.as_tcp(),
            _ => None,
        }
    }

    /// The Unix stream within, if it is one; for `peer_cred` and its like.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("app.sock");
    /// let activated = ActivatedListeners::builder().fallback("http", path.as_path()).build()?;
    /// let mut listener = activated.one("http")?;
    /// let _client = tokio::net::UnixStream::connect(&path).await?;
    ///
    /// let (stream, peer) = listener.accept().await;
    /// let process = stream.as_unix().unwrap().peer_cred()?;
    /// assert_eq!(peer.credentials().map(|peer| peer.uid), Some(process.uid()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_unix(&self) -> Option<&UnixStream> {
        match &self.stream {
            Stream::Unix(stream) => Some(stream),
            Stream::Only(only) => only.stream.as_unix(),
            _ => None,
        }
    }

    /// Adds to `peer` which process is at the other end of a Unix socket.
    ///
    /// It is not done at `accept`, as it takes a system call (`SO_PEERCRED`) and most services never ask.
    pub(crate) fn identify(&self, mut peer: PeerAddr) -> PeerAddr {
        if let (PeerAddr::Unix(peer), Some(stream)) = (&mut peer, self.as_unix()) {
            peer.credentials = stream.peer_cred().ok().map(|credentials| PeerCredentials {
                // 0 is what the kernel says of a process outside our pid namespace.
                pid: credentials.pid().filter(|pid| *pid != 0),
                uid: credentials.uid(),
                gid: credentials.gid(),
            });
        }
        peer
    }

    /// Who is at the other end, as the kernel says now.
    ///
    /// # Errors
    ///
    /// The other end is gone.
    pub(crate) fn peer_addr(&self) -> io::Result<PeerAddr> {
        let peer = PeerAddr::from_kernel(&SockRef::from(self).peer_addr()?);
        Ok(self.identify(peer))
    }

    /// Registers a connected socket with the current runtime.
    ///
    /// # Errors
    ///
    /// It is no connected socket of a family that is served, or the system refuses.
    pub(crate) fn register(fd: OwnedFd) -> io::Result<Self> {
        let SocketKind::Connection(family) = socket::kind(fd.as_fd()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        inherit::set_nonblocking(&fd)?;
        Stream::connected(family, fd).map(Into::into)
    }

    /// Takes the socket out of tokio. It stays non-blocking.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// let mut listener = activated.one("http")?;
    /// let client = tokio::net::TcpStream::connect(listener.local_addrs()[0].to_string()).await?;
    ///
    /// let (stream, _peer) = listener.accept().await;
    /// let stream = std::net::TcpStream::from(stream.into_fd()?);
    /// assert_eq!(stream.peer_addr()?, client.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// tokio cannot deregister it, or the kernel refuses.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        let fd = match self.stream {
            Stream::Tcp(stream) => stream.into_std()?.into(),
            Stream::Unix(stream) => stream.into_std()?.into(),
            #[cfg(feature = "vsock")]
            Stream::Vsock(stream) => OwnedFd::from(stream),
            Stream::Only(only) => return only.stream.into_fd(),
        };
        // What limits a blocked accept on a passed listener is inherited; it would end the blocking reads of the caller.
        SockRef::from(&fd).set_read_timeout(None)?;
        Ok(fd)
    }
}

impl From<Stream> for ActivatedStream {
    fn from(stream: Stream) -> Self {
        Self { stream }
    }
}

impl AsFd for ActivatedStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            #[cfg(feature = "vsock")]
            Stream::Vsock(stream) => stream.as_fd(),
            Stream::Only(only) => only.stream.as_fd(),
        }
    }
}

/// Calls one method on the stream within.
macro_rules! each {
    ($self:ident . $method:ident ( $($arg:expr),* )) => {
        match &mut $self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).$method($($arg),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($arg),*),
            #[cfg(feature = "vsock")]
            Stream::Vsock(stream) => Pin::new(stream).$method($($arg),*),
            Stream::Only(only) => Pin::new(&mut only.stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for ActivatedStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for ActivatedStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.poll_write(cx, buf))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.poll_write_vectored(cx, bufs))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            #[cfg(feature = "vsock")]
            Stream::Vsock(stream) => stream.is_write_vectored(),
            Stream::Only(only) => only.stream.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.poll_shutdown(cx))
    }
}
