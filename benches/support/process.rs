//! Starts server processes, and ends them.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use rustix::process::Pid;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::server::{Job, Transport};

/// As `ListenOptions` has it.
const BACKLOG: i32 = 4096;

/// A server process; dropping it kills it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    address: SockAddr,
    _directory: TempDir,
}

impl ServerProcess {
    /// Starts `program` with the job as its arguments: this very program, or what runs it.
    ///
    /// The socket listens before the process is there, so clients may connect at once.
    pub(crate) fn start(mut program: Command, job: Job) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let socket = listen(job.transport, &directory)?;
        let address = socket.local_addr()?;
        program.args(job.to_args()).stdin(OwnedFd::from(socket)).stdout(Stdio::null());
        let child = program.spawn().map_err(|error| {
            let name = program.get_program();
            io::Error::new(error.kind(), format!("cannot start {name:?}, is it installed? {error}"))
        })?;
        Ok(Self { child, address, _directory: directory })
    }

    pub(crate) fn address(&self) -> &SockAddr {
        &self.address
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One and the same socket for every variant, as this crate binds its fallbacks.
fn listen(transport: Transport, directory: &TempDir) -> io::Result<Socket> {
    let (domain, address) = match transport {
        Transport::Tcp => (Domain::IPV4, SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))),
        Transport::Unix => (Domain::UNIX, SockAddr::unix(directory.path().join("socket"))?),
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
