//! What a listener over one socket can be asked, as tokio's listeners can.

use std::{net::TcpListener, os::fd::BorrowedFd};

use super::{ActivatedListener, endpoint::Endpoint};
use crate::{
    addr::ListenAddr,
    error::{Error, Kind},
    sys::socket::{self, SocketFamily, SocketKind},
};

impl ActivatedListener {
    /// The address of its one socket; [`local_addrs`](Self::local_addrs) is for any number.
    ///
    /// With port 0 it says which port the kernel has chosen.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), axum_activation::Error> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("http")?;
    /// let addr = listener.local_addr()?.socket_addr().expect("a TCP socket has an IP address");
    /// assert_ne!(addr.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// It has several sockets, which the error names.
    pub fn local_addr(&self) -> Result<&ListenAddr, Error> {
        self.single("local_addr").map(Endpoint::local_addr)
    }

    /// The descriptor of its one listening socket, for socket options.
    ///
    /// Do not accept from it: the listener would not notice.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum_activation::ActivatedListeners;
    /// use socket2::SockRef;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").from_env()?;
    /// let listener = activated.one("http")?;
    /// // Every connection that is accepted inherits it.
    /// SockRef::from(&listener.as_fd()?).set_keepalive(true)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// It has several sockets, which the error names, or it is the one connection of `Accept=yes`, which does not listen.
    pub fn as_fd(&self) -> Result<BorrowedFd<'_>, Error> {
        let endpoint = self.single("as_fd")?;
        endpoint.as_fd().ok_or_else(|| self.wrong("a listening socket", endpoint))
    }

    /// Turns it into a TCP listener of the standard library, for a server that takes one.
    ///
    /// It stays non-blocking, as [`tokio::net::TcpListener::into_std`] leaves it, and tokio's `from_std` expects it. A handoff passes it
    /// on only if [`ActivatedListeners::pass_to_successor`](crate::ActivatedListeners::pass_to_successor) is called with it. For a Unix
    /// socket, duplicate what [`as_fd`](Self::as_fd) returns.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("grpc", "127.0.0.1:0").from_env()?;
    /// let listener = tokio::net::TcpListener::from_std(activated.one("grpc")?.into_std()?)?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// It has several sockets, which the error names: [`all`](crate::ActivatedListeners::all) gives one listener for each. It is no TCP
    /// socket, or the process is out of descriptors.
    pub fn into_std(self) -> Result<TcpListener, Error> {
        let endpoint = self.single("into_std")?;
        let is_tcp = matches!(endpoint.kind(), SocketKind::Listener(SocketFamily::Ipv4 | SocketFamily::Ipv6));
        let fd = endpoint.as_fd().filter(|_| is_tcp).ok_or_else(|| self.wrong("a TCP listener", endpoint))?;
        // A duplicate, as the set may be about to duplicate it for a successor. `self` closes the other one.
        let plain = fd.try_clone_to_owned().and_then(|fd| socket::make_plain(&fd, false).map(|()| fd.into()));
        plain.map_err(|source| Kind::Socket { name: self.name().to_owned(), doing: "take over", source }.into())
    }

    /// The only socket, which `call` is about.
    fn single(&self, call: &'static str) -> Result<&Endpoint, Error> {
        match &self.endpoints[..] {
            [endpoint] => Ok(endpoint),
            several => {
                let addresses = several.iter().map(|endpoint| endpoint.local_addr().to_string()).collect();
                Err(Kind::SeveralSockets { name: self.name().to_owned(), call, addresses }.into())
            }
        }
    }

    fn wrong(&self, wanted: &'static str, endpoint: &Endpoint) -> Error {
        let (name, found, address) = (self.name().to_owned(), endpoint.kind(), Some(endpoint.local_addr().to_string()));
        let remedy = "take it as what it is, or give the name a socket of that kind";
        Kind::WrongSocket { name, wanted, found, address, remedy }.into()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        os::unix::net::{UnixListener, UnixStream},
    };

    use socket2::SockRef;

    use super::*;

    fn tcp() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn a_listener_of_std_has_the_socket_and_neither_blocks_nor_times_out() {
        let listener = ActivatedListener::of(tcp(), true);
        let addr = listener.local_addr().unwrap().socket_addr().unwrap();
        assert_eq!(SockRef::from(&listener.as_fd().unwrap()).local_addr().unwrap().as_socket(), Some(addr));
        let std = listener.into_std().unwrap();
        assert_eq!(std.local_addr().unwrap(), addr);
        assert_eq!(std.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(SockRef::from(&std).read_timeout().unwrap(), None);
    }

    #[tokio::test]
    async fn several_sockets_are_named() {
        let sockets = [tcp(), tcp()];
        let addrs = sockets.each_ref().map(|listener| listener.local_addr().unwrap().to_string()).join(", ");
        let listener = ActivatedListener::over(sockets, true);
        let asked = [listener.local_addr().map(drop), listener.as_fd().map(drop)];
        let errors = asked.into_iter().chain([listener.into_std().map(drop)]).map(Result::unwrap_err);
        for (error, call) in errors.zip(["local_addr", "as_fd", "into_std"]) {
            let expected = format!("\"http\" is 2 sockets ({addrs}), and {call} is about one");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_tcp_listener_is_said_to_be_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(folder.path().join("app.sock")).unwrap();
        let error = ActivatedListener::of(unix, true).into_std().unwrap_err();
        assert!(
            error.is_wrong_kind() && error.to_string().contains("asked for as a TCP listener, but it is"),
            "{error}"
        );
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(ActivatedListener::of(one, true).as_fd().unwrap_err().is_wrong_kind());
    }
}
