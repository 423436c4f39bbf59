//! Fresh sockets: fallbacks for names that were not passed, and addresses that are asked for.
//!
//! Every socket is close-on-exec and non-blocking from the start. TCP sockets get `SO_REUSEADDR`, so that a restart
//! need not wait for connections in `TIME_WAIT`, and `TCP_NODELAY`, which accepted connections inherit. A Unix path is
//! locked while it is looked at, replaced and bound, so that of two processes that start in the same instant one binds
//! it and the other sees that it is taken.

use std::{
    ffi::OsStr,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::ListenOptions;
use crate::{
    addr::{AskedAddr, ListenAddr},
    error::{Error, Kind},
    log,
    sys::{
        lock::{LockFailure, PathLock},
        path::{self, CreatedPath, PathState, is_own_user},
    },
};

/// The longest path that `sockaddr_un` takes without its closing NUL, and the longest abstract name without its leading
/// one (`unix(7)`).
const LONGEST_PATH: usize = 107;

/// How long a Unix path waits for its lock, which processes of this crate hold for an instant.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// A socket that listens, and the path it created for that.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Before the socket, see [`CreatedPath`].
    pub(crate) path: Option<CreatedPath>,
    pub(crate) fd: OwnedFd,
}

/// Listens on the address that is asked for.
///
/// # Errors
///
/// The address cannot be bound, or is the name of a socket ([`ListenAddr::Named`]). The error says what to do about it.
pub(crate) fn bind(asked: &AskedAddr, options: &ListenOptions) -> Result<Bound, Error> {
    match asked.addr() {
        ListenAddr::Tcp(_) | ListenAddr::Host { .. } | ListenAddr::Port(_) => bind_tcp(asked, options),
        ListenAddr::Unix(path) => bind_unix(path, options),
        ListenAddr::Abstract(name) => bind_abstract(name, options),
        ListenAddr::Vsock { cid, port } => bind_vsock(*cid, *port, options),
        ListenAddr::Named(name) => Err(Kind::Address {
            text: format!("&{name}"),
            problem: "it names a socket that another process opens, so it cannot be bound".to_owned(),
        }
        .into()),
    }
}

fn bind_tcp(asked: &AskedAddr, options: &ListenOptions) -> Result<Bound, Error> {
    let addr = asked.addr();
    let candidates = asked.candidates().map_err(|source| failed(addr, source))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match listen_tcp(addr, *candidate, options) {
            Ok(socket) => return Ok(Bound { fd: socket.into(), path: None }),
            // A wildcard falls back to IPv4 only where there is no IPv6: a port that is taken is taken.
            Err(error) if is_wildcard(addr) && !lacks_ipv6(&error) => return Err(failed(addr, error)),
            Err(error) => last = error,
        }
    }
    Err(failed(addr, last))
}

fn listen_tcp(asked: &ListenAddr, addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let only_v6 = options.only_v6.or(is_wildcard(asked).then_some(false));
    if let (SocketAddr::V6(_), Some(only)) = (addr, only_v6) {
        socket.set_only_v6(only)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

fn bind_unix(path: &Path, options: &ListenOptions) -> Result<Bound, Error> {
    let addr = ListenAddr::Unix(path.to_owned());
    check_length(path.as_os_str().len(), "path", &addr)?;
    let _lock = lock(path);
    remove_stale(path, &addr)?;
    listen_unix(path, options).map_err(|source| failed(&addr, source))
}

/// Locks the path.
///
/// Without the lock two processes of one service that start in the same instant may both take a stale path. That is no
/// reason not to start, as another user may have put a file in the way.
fn lock(path: &Path) -> Option<PathLock> {
    let failure = match PathLock::take(path, is_own_user, Instant::now() + LOCK_LIMIT) {
        Ok(lock) => return Some(lock),
        Err(failure) => failure,
    };
    let problem = match failure {
        LockFailure::InTheWay(what) => format!("{what}, and is in the way; remove it"),
        LockFailure::Held(lock) => format!("another process holds {} locked (flock(2))", lock.display()),
        // Why nothing can be created there, binding says as well.
        LockFailure::System(_) => return None,
    };
    log::warn!(path = %path.display(), problem, "listening without a lock on the path");
    None
}

/// Removes a stale socket. Anything else that stands there is an error.
fn remove_stale(path: &Path, addr: &ListenAddr) -> Result<(), Error> {
    let problem = match path::path_state(path).map_err(|source| failed(addr, source))? {
        PathState::Free => return Ok(()),
        PathState::Stale => {
            log::info!(path = %path.display(), "replacing a stale socket that no process listens on");
            return std::fs::remove_file(path).map_err(|source| failed(addr, source));
        }
        PathState::Live => "another process listens there; stop it, or choose another path".to_owned(),
        PathState::Hidden => {
            "a socket of another user stands there, and this user may not ask whether a process listens; remove it, or choose another path"
                .to_owned()
        }
        PathState::NotASocket => path::no_socket(path),
    };
    let source = io::ErrorKind::AddrInUse.into();
    Err(Kind::Bind { address: addr.to_string(), remedy: problem, source }.into())
}

/// Mode and owner are set before `listen`, so no client connects while they are still wrong.
///
/// The mode is set on the socket before `bind` creates the file (`fchmod(2)` of an unbound socket decides that of its
/// file), and again on the file, as the umask takes bits away.
fn listen_unix(path: &Path, options: &ListenOptions) -> io::Result<Bound> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    if let Some(mode) = options.unix_mode {
        path::set_socket_mode(socket.as_fd(), mode)?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    let created = CreatedPath::note(path)?;
    if options.unix_uid.is_some() || options.unix_gid.is_some() {
        path::set_path_owner(path, options.unix_uid, options.unix_gid)?;
    }
    if let Some(mode) = options.unix_mode {
        path::set_path_mode(path, mode)?;
    }
    socket.listen(options.backlog)?;
    Ok(Bound { fd: socket.into(), path: Some(created) })
}

fn bind_abstract(name: &[u8], options: &ListenOptions) -> Result<Bound, Error> {
    let addr = ListenAddr::Abstract(name.to_owned());
    check_length(name.len(), "name", &addr)?;
    let listen = || {
        let mut path = vec![0];
        path.extend_from_slice(name);
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(OsStr::from_bytes(&path))?)?;
        socket.listen(options.backlog)?;
        Ok(Bound { fd: socket.into(), path: None })
    };
    listen().map_err(|source| failed(&addr, source))
}

fn bind_vsock(cid: u32, port: u32, options: &ListenOptions) -> Result<Bound, Error> {
    if cfg!(not(feature = "vsock")) {
        let address = ListenAddr::Vsock { cid, port }.to_string();
        let remedy = "vsock takes the feature `vsock` of axum-activation".to_owned();
        return Err(Kind::Bind { address, remedy, source: io::ErrorKind::Unsupported.into() }.into());
    }
    let listen = || {
        let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::vsock(cid, port))?;
        socket.listen(options.backlog)?;
        Ok(Bound { fd: socket.into(), path: None })
    };
    listen().map_err(|source| failed(&ListenAddr::Vsock { cid, port }, source))
}

fn check_length(bytes: usize, what: &str, addr: &ListenAddr) -> Result<(), Error> {
    if bytes <= LONGEST_PATH {
        return Ok(());
    }
    let remedy = format!("the {what} has more than {LONGEST_PATH} bytes, choose a shorter one (unix(7))");
    Err(Kind::Bind { address: addr.to_string(), remedy, source: io::ErrorKind::InvalidInput.into() }.into())
}

fn is_wildcard(addr: &ListenAddr) -> bool {
    matches!(addr, ListenAddr::Port(_))
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// What to do where the directory of a path cannot be written: as any user but root, and in the read-only file system
/// that `ProtectSystem=strict` makes, also by `DynamicUser=`.
pub(crate) fn unwritable(path: &Path) -> String {
    let below_run = path.strip_prefix("/run").or_else(|_| path.strip_prefix("/var/run")).unwrap_or(Path::new(""));
    let own = below_run.parent().filter(|parent| *parent != Path::new(""));
    let name = own.or(path.file_stem().map(Path::new)).unwrap_or(Path::new("app")).display();
    let file = path.file_name().map_or(Path::new("app.sock"), Path::new).display();
    format!(
        "a path takes the right to write its directory, which a service with User=, DynamicUser= or ProtectSystem=strict has in \
         few; set RuntimeDirectory={name} in its unit, and choose /run/{name}/{file}"
    )
}

fn failed(addr: &ListenAddr, source: io::Error) -> Error {
    let remedy = match (source.kind(), addr) {
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, ListenAddr::Unix(path)) => {
            unwritable(path)
        }
        (kind, _) => refused(kind, addr).to_owned(),
    };
    Kind::Bind { address: addr.to_string(), remedy, source }.into()
}

fn refused(kind: io::ErrorKind, addr: &ListenAddr) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse if matches!(addr, ListenAddr::Abstract(_)) => {
            "the name is in use; stop who has it (ss -lxp), or choose another"
        }
        io::ErrorKind::AddrInUse => "the address is in use; stop who has it (ss -ltnp), or choose another",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        io::ErrorKind::PermissionDenied => {
            "permission denied; a port below 1024 takes CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd.exec(5)), or a \
             .socket unit that opens it"
        }
        io::ErrorKind::NotFound => "no such directory or host; create it first (RuntimeDirectory= in systemd.exec(5))",
        io::ErrorKind::NotADirectory => "a part of the path is a file that is no directory; choose another path",
        _ => "the system refused it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_cannot_be_written_is_moved_into_a_directory_of_the_service() {
        for (path, says) in [
            ("/run/m7.sock", "set RuntimeDirectory=m7 in its unit, and choose /run/m7/m7.sock"),
            ("/run/app/admin.sock", "set RuntimeDirectory=app in its unit, and choose /run/app/admin.sock"),
            ("/var/run/a/b/x.sock", "set RuntimeDirectory=a/b in its unit, and choose /run/a/b/x.sock"),
            ("/srv/app/admin.sock", "set RuntimeDirectory=admin in its unit, and choose /run/admin/admin.sock"),
        ] {
            for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
                let error = failed(&ListenAddr::Unix(path.into()), kind.into()).to_string();
                assert!(
                    error.starts_with(&format!("cannot listen on unix:{path}: ")) && error.ends_with(says),
                    "{error}"
                );
            }
        }
    }
}
