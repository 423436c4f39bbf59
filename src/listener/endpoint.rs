//! One socket of a listener: a listening one, or the one connection of `Accept=yes`.
//!
//! A socket that was passed is an open file description that other processes have too. Each of them may clear
//! `O_NONBLOCK` at any time, and systemd does so at every start of a service with `NonBlocking=no`. An `accept` that
//! blocks would stop a thread of the runtime. Two things keep that short: the flag is set again when the queue is found
//! empty, and `SO_RCVTIMEO` ends a blocked `accept` after 5 ms.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::DropGuard;

use super::{
    handle::ListenerHandle,
    stream::{ActivatedStream, Stream},
};
use crate::{
    addr::{ListenAddr, PeerAddr},
    log,
    sys::{
        inherit, path,
        socket::{self, SocketFamily, SocketKind},
    },
};

/// One socket that gives connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Before the socket, as the path within is.
    handle: Arc<ListenerHandle>,
    source: Source,
    kind: SocketKind,
    local: ListenAddr,
    /// It was passed, so another process has the same open file description, and may clear its flags.
    passed: bool,
    /// A connection was accepted since the flags were last looked at.
    accepted: bool,
}

#[derive(Debug)]
enum Source {
    Tcp(Arc<TcpListener>),
    Unix(Arc<UnixListener>),
    #[cfg(feature = "vsock")]
    Vsock(tokio_vsock::VsockListener),
    /// The one connection of `Accept=yes`; `None` once it is accepted.
    Connection(Option<(Stream, PeerAddr, DropGuard)>),
}

/// A socket on its way to become an endpoint.
#[derive(Debug)]
pub(crate) struct RawEndpoint {
    /// Before the socket, as the path within is.
    pub(crate) handle: Arc<ListenerHandle>,
    pub(crate) fd: OwnedFd,
    pub(crate) kind: SocketKind,
    pub(crate) local: ListenAddr,
    pub(crate) passed: bool,
}

impl RawEndpoint {
    /// What keeps clients from a Unix path that was passed: systemd does not notice when it is removed.
    ///
    /// The first process of a container was passed a path of another file system, so it is not looked at there.
    fn obstacle(&self) -> Option<(&Path, &'static str)> {
        let ListenAddr::Unix(path) = &self.local else { return None };
        let is_seen = self.passed && self.kind.is_served_listener() && path.is_absolute() && std::process::id() != 1;
        is_seen.then(|| path::obstacle(path)).flatten().map(|obstacle| (path.as_path(), obstacle))
    }

    /// Warns of an obstacle. It is no error, as a client in another mount namespace may still see the socket.
    pub(super) fn note_obstacle(&self, name: &str) {
        if let Some((path, obstacle)) = self.obstacle() {
            log::warn!(
                name,
                path = %path.display(),
                obstacle,
                "no client can connect at the path of a socket that was passed: restart the .socket unit, and let its ListenStream= \
                 lie in no RuntimeDirectory= of a service; with PrivateTmp= the clients may see another file there"
            );
        }
    }
}

impl Endpoint {
    /// Registers the socket with the current tokio runtime. `ended` fires when the one connection of `Accept=yes` is
    /// closed.
    pub(super) fn register(raw: RawEndpoint, ended: impl FnOnce() -> DropGuard) -> io::Result<Self> {
        inherit::set_nonblocking(&raw.fd)?;
        let source = match raw.kind {
            SocketKind::Connection(family) => {
                let peer = PeerAddr::from_kernel(&SockRef::from(&raw.fd).peer_addr()?);
                let stream = Stream::connected(family, raw.fd)?;
                Source::Connection(Some((stream, peer, ended())))
            }
            SocketKind::Listener(family) => {
                if raw.passed {
                    socket::limit_blocked_accept(&raw.fd)?;
                }
                listening(family, raw.fd, &raw.handle)?
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if matches!(source, Source::Connection(_)) {
            // No other process has it: systemd has closed its own copy.
            raw.handle.set_shared(false);
        }
        Ok(Self { handle: raw.handle, source, kind: raw.kind, local: raw.local, passed: raw.passed, accepted: true })
    }

    pub(super) fn kind(&self) -> SocketKind {
        self.kind
    }

    pub(super) fn local_addr(&self) -> &ListenAddr {
        &self.local
    }

    pub(super) fn local_peer_addr(&self) -> io::Result<PeerAddr> {
        match self.as_fd() {
            Some(fd) => Ok(PeerAddr::from_kernel(&SockRef::from(&fd).local_addr()?)),
            None => Ok(local_as_peer(&self.local)),
        }
    }

    pub(super) fn is_one_connection(&self) -> bool {
        matches!(self.source, Source::Connection(_))
    }

    /// A route of [`Server`](crate::Server) accepts from it.
    pub(super) fn note_route(&self) {
        self.handle.note_route();
    }

    /// Whether another process has the socket too.
    pub(super) fn is_shared(&self) -> bool {
        self.handle.is_shared()
    }

    /// The next connection, or why there is none. Who a Unix client is has still to be asked, see [`ActivatedStream::identify`].
    #[inline]
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(ActivatedStream, PeerAddr)>> {
        let Poll::Ready(accepted) = self.poll_source(cx) else {
            self.restore_flags();
            return Poll::Pending;
        };
        self.accepted = true;
        Poll::Ready(accepted)
    }

    /// Refuses new connections, where the kernel can be asked to: for TCP. What was accepted by the kernel before is in
    /// its queue.
    pub(super) fn ignore_connects(&self) -> io::Result<()> {
        match &self.source {
            Source::Tcp(listener) => socket::ignore_connects(&**listener),
            _ => Ok(()),
        }
    }

    /// Accepts a connection that the kernel has completed, whether or not the runtime has seen its event.
    pub(super) fn accept_queued(&mut self) -> io::Result<(ActivatedStream, PeerAddr)> {
        let family = match &mut self.source {
            Source::Tcp(_) => SocketFamily::Ipv4,
            Source::Unix(_) => SocketFamily::Unix,
            #[cfg(feature = "vsock")]
            Source::Vsock(_) => SocketFamily::Vsock,
            Source::Connection(_) => {
                let cx = &mut Context::from_waker(Waker::noop());
                let Poll::Ready(accepted) = self.poll_source(cx) else { return Err(io::ErrorKind::WouldBlock.into()) };
                return accepted;
            }
        };
        let listener = self.as_fd().ok_or(io::ErrorKind::NotConnected)?;
        let (socket, peer) = SockRef::from(&listener).accept()?;
        socket.set_nonblocking(true)?;
        Ok((Stream::connected(family, socket.into())?.into(), PeerAddr::from_kernel(&peer)))
    }

    /// Whether a connection waits that the kernel has completed. It takes no descriptor, so it can be asked with a full
    /// table.
    pub(super) fn has_queued(&self) -> bool {
        self.as_fd().is_some_and(socket::is_readable)
    }

    #[inline]
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(ActivatedStream, PeerAddr)>> {
        match &mut self.source {
            Source::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Tcp(stream).into(), PeerAddr::Tcp(peer))))
            }
            Source::Unix(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                Poll::Ready(Ok((Stream::Unix(stream).into(), unix_peer(&peer))))
            }
            #[cfg(feature = "vsock")]
            Source::Vsock(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(cx))?;
                let peer = PeerAddr::Vsock { cid: peer.cid(), port: peer.port() };
                Poll::Ready(Ok((Stream::Vsock(stream).into(), peer)))
            }
            Source::Connection(connection) => match connection.take() {
                Some((stream, peer, ended)) => Poll::Ready(Ok((ActivatedStream::ending_with(stream, ended), peer))),
                None => Poll::Pending,
            },
        }
    }

    /// Sets `O_NONBLOCK` again where another process has cleared it: systemd does at every start of a service with
    /// `NonBlocking=no`.
    ///
    /// It looks whenever a burst has been accepted and the queue is found empty. So it costs nothing a connection under
    /// load.
    fn restore_flags(&mut self) {
        if !self.passed || !self.accepted {
            return;
        }
        self.accepted = false;
        let restored = self.as_fd().map(inherit::set_nonblocking);
        if let Some(Ok(true)) = restored {
            log::debug!(socket = %self.local, "another process had cleared O_NONBLOCK on a shared socket, set it again");
        }
    }

    /// Its descriptor; `None` for the one connection of `Accept=yes`.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Tcp(listener) => Some(listener.as_fd()),
            Source::Unix(listener) => Some(listener.as_fd()),
            #[cfg(feature = "vsock")]
            Source::Vsock(listener) => Some(listener.as_fd()),
            Source::Connection(_) => None,
        }
    }
}

fn listening(family: SocketFamily, fd: OwnedFd, handle: &ListenerHandle) -> io::Result<Source> {
    match family {
        SocketFamily::Ipv4 | SocketFamily::Ipv6 => {
            let listener = Arc::new(TcpListener::from_std(fd.into())?);
            handle.set_socket(Arc::clone(&listener) as _);
            Ok(Source::Tcp(listener))
        }
        SocketFamily::Unix => {
            let listener = Arc::new(UnixListener::from_std(fd.into())?);
            handle.set_socket(Arc::clone(&listener) as _);
            Ok(Source::Unix(listener))
        }
        #[cfg(feature = "vsock")]
        SocketFamily::Vsock => {
            handle.set_socket(Arc::new(fd.try_clone()?));
            Ok(Source::Vsock(fd.into()))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Most clients are bound to nothing: then nothing is allocated.
#[inline]
fn unix_peer(peer: &tokio::net::unix::SocketAddr) -> PeerAddr {
    let addr = match (peer.as_pathname(), peer.as_abstract_name()) {
        (Some(path), _) => Some(ListenAddr::Unix(path.to_owned())),
        (None, Some(name)) => Some(ListenAddr::Abstract(name.to_owned())),
        (None, None) => None,
    };
    PeerAddr::Unix(crate::addr::UnixPeer { addr: addr.map(Into::into), credentials: None })
}

fn local_as_peer(local: &ListenAddr) -> PeerAddr {
    match local {
        ListenAddr::Tcp(addr) => PeerAddr::Tcp(*addr),
        ListenAddr::Vsock { cid, port } => PeerAddr::Vsock { cid: *cid, port: *port },
        unix => PeerAddr::Unix(crate::addr::UnixPeer { addr: Some(unix.clone().into()), credentials: None }),
    }
}
