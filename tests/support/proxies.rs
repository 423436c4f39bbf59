//! HAProxy and nginx with the configuration files that are shipped, privately: addresses of their own, a directory of their own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::{http::Client, needs, process::Process, wait::eventually};

const HAPROXY: &str = include_str!("../../docs/deploy/haproxy.cfg");
const NGINX: &str = include_str!("../../docs/deploy/nginx.conf");

/// What Debian has in /etc/nginx/nginx.conf around /etc/nginx/conf.d, in a directory of its own.
const AROUND: &str = r#"
daemon off;
worker_processes 2;
pid DIR/pid;
error_log DIR/log;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path DIR/body;
    proxy_temp_path DIR/proxy;
    fastcgi_temp_path DIR/fastcgi;
    uwsgi_temp_path DIR/uwsgi;
    scgi_temp_path DIR/scgi;
    include DIR/app.conf;
}
"#;

/// The addresses of one test. They are of this process alone, so the port of an instance that is stopped stays free for the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) proxy: SocketAddr,
    pub(crate) instances: [SocketAddr; 2],
    state: SocketAddr,
}

/// A proxy that runs; it ends with this value, or with the test's thread.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    addresses: Addresses,
    states: bool,
    dir: TempDir,
}

impl Addresses {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let test = NEXT.fetch_add(1, Relaxed);
        let [.., high, low] = process::id().to_be_bytes();
        let addr = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, high, low, test)), port);
        Self { proxy: addr(8000), instances: [addr(8081), addr(8082)], state: addr(8404) }
    }

    /// The shipped file with these addresses in it, each of which must be there.
    fn put_into(&self, shipped: &str, listens: &str) -> String {
        let [a, b] = self.instances;
        let places = [(listens, self.proxy), ("10.0.0.11:8080", a), ("10.0.0.12:8080", b)];
        places.into_iter().fold(shipped.to_owned(), |text, (place, addr)| {
            assert_eq!(text.matches(place).count(), 1, "{place} in {text}");
            text.replace(place, &format!("{}{addr}", listens_prefix(place)))
        })
    }
}

impl Proxy {
    pub(crate) fn haproxy(addresses: Addresses) -> Self {
        needs::program("haproxy", "haproxy");
        let dir = TempDir::new().expect("a directory");
        let text = addresses.put_into(HAPROXY, "bind :80").replace("127.0.0.1:8404", &addresses.state.to_string());
        write(dir.path(), "haproxy.cfg", &text);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "haproxy", "-db", "-q", "-f"]).arg(dir.path().join("haproxy.cfg"));
        let mut proxy = Self::start(&mut command, addresses, true, dir);
        proxy.wait_for_instances();
        proxy
    }

    pub(crate) fn nginx(addresses: Addresses) -> Self {
        needs::program("nginx", "nginx-light");
        let dir = TempDir::new().expect("a directory");
        write(dir.path(), "app.conf", &addresses.put_into(NGINX, "listen 80"));
        let root = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let around = AROUND.replace("DIR", dir.path().to_str().expect("a temporary directory is text"));
        write(dir.path(), "nginx.conf", &format!("{root}{around}"));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "nginx", "-e"]).arg(dir.path().join("log"));
        command.arg("-c").arg(dir.path().join("nginx.conf"));
        Self::start(&mut command, addresses, false, dir)
    }

    fn start(command: &mut Command, addresses: Addresses, states: bool, dir: TempDir) -> Self {
        needs::program("setpriv", "util-linux");
        let process = Process::start(command.stdin(Stdio::null()));
        let mut proxy = Self { process, addresses, states, dir };
        eventually("the proxy accepts", || {
            let ended = proxy.process.ended();
            assert!(ended.is_none(), "{ended:?}: {}", proxy.log());
            TcpStream::connect(addresses.proxy).is_ok()
        });
        proxy
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addresses.proxy
    }

    /// Returns when the proxy has found both instances up, if it looks.
    pub(crate) fn wait_for_instances(&mut self) {
        if self.states {
            eventually("HAProxy finds both instances up", || self.up() == 2);
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn up(&self) -> usize {
        // It binds this address after the one that it proxies.
        let Ok(mut state) = Client::connect(self.addresses.state) else { return 0 };
        state.send("GET /;csv HTTP/1.0\r\n\r\n").expect("it listens");
        let csv = String::from_utf8(state.rest().expect("an end")).expect("text");
        csv.lines()
            .filter(|line| line.starts_with("app,") && !line.contains("BACKEND") && line.contains(",UP,"))
            .count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The workers of nginx end with their master only if that is not killed.
        let _ = kill_process(self.process.pid(), Signal::TERM);
        let _ = self.process.end();
    }
}

/// What stays of a place before the address.
fn listens_prefix(place: &str) -> &str {
    place.split_once(' ').map_or("", |(directive, _)| &place[..=directive.len()])
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("it is our directory");
}
