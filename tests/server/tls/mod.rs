//! TLS on a named socket: handshakes, certificates, and how connections end.

mod ends;
mod files;
mod handshakes;

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use axum::{Router, routing::get};
use axum_activation::{
    Drain, ListenAddr, Server,
    drain::{HandshakeFailure, HandshakeStats, ListenerStats, Stats},
    server::ServeOptions,
    tls::{
        Tls, TlsInfo,
        rustls::{ClientConfig, SupportedProtocolVersion, version},
    },
};

use super::running::{Running, addr_of, tcp_set};
use crate::support::{
    certificates::{TlsClient, connect},
    wait::eventually,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// A server with TLS on "https".
struct Https {
    running: Running,
    addr: ListenAddr,
    stats: Stats,
    drain: Drain,
}

impl Https {
    fn start(tls: Tls) -> Self {
        Self::start_with(app(), ServeOptions::new().tls(tls), |server| server)
    }

    fn start_with(app: Router, options: ServeOptions, configure: impl FnOnce(Server) -> Server) -> Self {
        let set = tcp_set(&["https"]);
        let addr = addr_of(&set, "https");
        let server = configure(Server::new(set).serve_with("https", app, options));
        let stats = server.stats();
        let drain = server.drain();
        Self { running: Running::start(server), addr, stats, drain }
    }

    /// Nothing is counted before the server runs.
    fn listener(&self) -> ListenerStats {
        self.stats.read().pop().unwrap_or_default()
    }

    fn handshakes(&self) -> HandshakeStats {
        self.listener().handshakes
    }

    /// Waits until so many handshakes have failed for that reason, and no other one.
    #[track_caller]
    fn wait_for_failures(&self, reason: HandshakeFailure, count: u64) {
        eventually("the handshake has failed", || self.handshakes().failed.of(reason) == count);
        assert_eq!(self.handshakes().failed.total(), count, "{}", self.handshakes().failed);
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> TlsClient {
        connect(&self.addr, config, "localhost")
    }
}

/// Answers with what is known of the connection.
fn app() -> Router {
    let info = |tls: TlsInfo| async move {
        format!(
            "{:?} {} {} {:?}",
            tls.version(),
            tls.server_name().unwrap_or("-"),
            if tls.is_resumed() { "resumed" } else { "full" },
            tls.client_certificates().iter().map(|certificate| !certificate.is_empty()).collect::<Vec<_>>()
        )
    };
    Router::new().route("/", get(info))
}

/// Asks once: the headers and the body.
fn ask(client: &mut TlsClient) -> io::Result<String> {
    client.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut space = [0; 1000];
    loop {
        let length = client.read(&mut space)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&space[..length]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((headers, body)) = text.split_once("\r\n\r\n") else { continue };
        let (_, length) = headers.split_once("content-length: ").expect("a length");
        let length: usize = length.lines().next().unwrap_or_default().parse().expect("a number");
        if body.len() >= length {
            return Ok(text);
        }
    }
}
