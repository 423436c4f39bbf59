//! A successor that knows nothing of this crate: it takes its sockets by `sd_listen_fds(3)`, and that is all.

use std::{
    future::pending,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram as StdUnixDatagram},
    },
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    net::UnixDatagram,
    time::{sleep, timeout},
};

use super::successor::Successor;
use crate::{
    activation::ActivatedListeners,
    error::Error,
    handoff::{
        failure::failed,
        options::{Options, PlainSuccessor},
        spawn::next_process::NextProcess,
    },
    log,
};

/// The longest message of a notify socket that is looked at.
const LONGEST: usize = 4096;

/// Starts one with the listeners of `activated`, and waits until it is ready.
///
/// Nothing may accept in this process meanwhile: the sockets block, as a program that a service manager starts expects them.
///
/// # Cancel safety
///
/// Dropped, what was started is killed, and the sockets have to be made non-blocking again. When it returns, nothing calls that off.
pub(crate) async fn start_plain_successor(
    options: &Options,
    activated: &ActivatedListeners,
    ready: PlainSuccessor,
) -> Result<Successor, Error> {
    let tried = timeout(options.timeout, prepare(options, activated, ready)).await;
    tried.unwrap_or_else(|_| {
        let limit = options.timeout;
        Err(failed(format!("it has not said READY=1 within {limit:?} (handoff_timeout; sd_notify(3))")))
    })
}

async fn prepare(options: &Options, activated: &ActivatedListeners, ready: PlainSuccessor) -> Result<Successor, Error> {
    options.run_before_start().await?;
    let inbox = match ready {
        PlainSuccessor::Notify => Some(Inbox::bind().map_err(|error| failed(format!("no notify socket: {error}")))?),
        PlainSuccessor::AliveFor(_) => None,
    };
    let mut next = NextProcess::of(options).may_spawn();
    if let Some(inbox) = &inbox {
        next = next.variable("NOTIFY_SOCKET", Some(inbox.address.clone().into()));
    }
    for socket in activated.for_successor().map_err(|error| failed(format!("cannot duplicate the sockets: {error}")))? {
        next = next.socket(socket.variable_name().to_owned(), socket.fd);
    }
    let started = next.start().await?;
    let lives = async {
        match ready {
            PlainSuccessor::AliveFor(time) => sleep(time).await,
            PlainSuccessor::Notify => pending().await,
        }
    };
    let says_so = async {
        match &inbox {
            Some(inbox) => inbox.ready().await,
            None => pending().await,
        }
    };
    tokio::select! {
        ended = started.ended() => Err(match ended {
            Ok(()) => failed(started.ended_early().await),
            Err(error) => failed(format!("cannot watch the next process (pid {}): {error}", started.pid())),
        }),
        () = lives => Ok(Successor::plain(started)),
        () = says_so => Ok(Successor::plain(started)),
    }
}

/// A notify socket of our own.
#[derive(Debug)]
struct Inbox {
    address: String,
    socket: UnixDatagram,
}

impl Inbox {
    fn bind() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("axum-activation/{}/{}/notify", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = StdUnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { address: format!("@{name}"), socket: UnixDatagram::from_std(socket)? })
    }

    /// Resolves when the new process sends `READY=1`: this one alone has given it the name of the socket.
    async fn ready(&self) {
        let mut message = [0; LONGEST];
        loop {
            match self.socket.recv(&mut message).await {
                Ok(length) if says_ready(&message[..length]) => return,
                Ok(_) => {}
                Err(error) => {
                    log::warn!(%error, "cannot hear whether the next process is ready");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(says_ready(b"READY=1"));
        assert!(says_ready(b"STATUS=up\nREADY=1\nX=1\n"));
        assert!(!says_ready(b"STATUS=READY=1"));
        assert!(!says_ready(b"READY=10"));
        assert!(!says_ready(b""));
    }
}
