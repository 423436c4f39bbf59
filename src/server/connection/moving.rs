//! A connection that leaves this process alive, or comes from another one.

use std::{io, sync::Arc};

use hyper::body::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Connection,
    io::Io,
    service::Service,
    state::{Lease, State},
};
use crate::{
    addr::PeerAddr,
    drain::CloseReason,
    listener::ActivatedStream,
    log,
    server::{accept::RouteContext, reaper::Reapable, route::HttpService},
    transit::IdleConnection,
    transit::Times,
};

/// Sends a connection on its way: only one that was found movable.
pub(super) fn depart<S>(io: Io, service: &Service<S>, fresh: bool, times: Times) {
    let state = Arc::clone(io.state());
    let Some(peer) = service.peer().cloned() else { return };
    match io.into_parts() {
        Ok((stream, ahead, lease)) => {
            state.end(CloseReason::Moved);
            let listener = state.route.counters.shared_name();
            let keep = Some(Box::new(lease) as _);
            state.route.exit.leave(IdleConnection { listener, stream, peer, ahead, fresh, times, keep });
        }
        Err(error) => {
            log::debug!(%error, "a connection could not be taken out of the runtime");
            state.end(CloseReason::Error);
        }
    }
}

/// A connection that was started elsewhere, registered with this runtime.
#[derive(Debug)]
pub(in crate::server) struct Arrival {
    pub(in crate::server) stream: ActivatedStream,
    pub(in crate::server) peer: PeerAddr,
    ahead: Bytes,
    fresh: bool,
    times: Times,
    lease: Option<Lease>,
}

impl Arrival {
    /// Gives the socket to the runtime; an error if it is none, or its client is gone. The kernel says who the client is, whatever
    /// the process said that had the connection before.
    pub(in crate::server) fn register(connection: IdleConnection) -> io::Result<Self> {
        let IdleConnection { stream, ahead, fresh, times, keep, .. } = connection;
        let lease = keep.and_then(|keep| keep.downcast::<Lease>().ok()).map(|lease| *lease);
        let stream = ActivatedStream::register(stream)?;
        let peer = stream.peer_addr()?;
        Ok(Self { stream, peer, ahead, fresh, times, lease })
    }
}

impl<S: HttpService> Connection<S> {
    /// Goes on where another process, or an earlier try to move it, has stopped.
    pub(in crate::server) fn resumed(
        arrival: Arrival,
        service: S,
        route: Arc<RouteContext>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let Arrival { stream, peer, ahead, fresh, times, lease } = arrival;
        let state = Arc::new(State::new(route, times));
        let service = Service::new(service, peer, Arc::clone(&state));
        let lease = match lease {
            Some(lease) => lease.renewed(state),
            None => Lease::new(state, permit),
        };
        let mut io = Io::new(stream, lease);
        if !ahead.is_empty() {
            io.state().note_read();
            io.unread(ahead);
        }
        Self { io, service, is_fresh: fresh }
    }

    /// Lets its next response be its last.
    pub(in crate::server) fn retire(&self) {
        Reapable::retire(self.io.state());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        net::{TcpListener, TcpStream},
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;

    fn arriving(stream: impl Into<OwnedFd>, peer: &str) -> io::Result<PeerAddr> {
        let (listener, stream, peer) = ("http".into(), stream.into(), peer.parse().unwrap());
        let (ahead, times) = (Bytes::new(), Times::begin());
        let connection = IdleConnection { listener, stream, peer, ahead, fresh: true, times, keep: None };
        Arrival::register(connection).map(|arrival| arrival.peer)
    }

    #[tokio::test]
    async fn who_a_client_is_the_kernel_says_and_not_the_process_before() {
        let gate = TcpListener::bind("127.0.0.1:0").unwrap();
        for claimed in ["10.9.8.7:1", "unix (pid 1, uid 4001, gid 4001)"] {
            let client = TcpStream::connect(gate.local_addr().unwrap()).unwrap();
            let (far, _) = gate.accept().unwrap();
            assert_eq!(arriving(far, claimed).unwrap(), PeerAddr::Tcp(client.local_addr().unwrap()));
        }
        let (one, _other) = UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let peer = arriving(one, "unix:/run/a.sock (pid 1, uid 4001, gid 4001)").unwrap();
        let credentials = peer.credentials().unwrap();
        assert_eq!((credentials.uid, credentials.pid), (own, i32::try_from(std::process::id()).ok()));
        assert_eq!(peer.to_string().split(' ').next(), Some("unix"), "{peer} has no address");
        for no_connection in [OwnedFd::from(gate), File::open("/dev/null").unwrap().into()] {
            arriving(no_connection, "10.9.8.7:1").unwrap_err();
        }
    }
}
