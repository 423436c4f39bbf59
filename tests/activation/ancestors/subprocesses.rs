//! What the child processes do: they ask for everything in the way of one function, and report what they got.

use std::{env, net::UdpSocket, os::fd::AsRawFd, path::PathBuf};

use axum_activation::{ActivatedListener, ActivatedListeners, ActivatedListenersBuilder, Error};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::support::{fd_table::FdTable, seen::SeenError, subprocess::ChildIo};

/// Something of every name of the set, in the order of the names.
pub(crate) type ByName<T> = Vec<(String, Vec<T>)>;

/// What asking once came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Got {
    /// The address of the listener.
    pub(crate) addr: Result<String, SeenError>,
    /// Whether that took a new descriptor.
    pub(crate) fresh: bool,
}

/// The numbers of the descriptors by name; the environment afterwards.
pub(crate) fn files(io: &ChildIo) {
    io.say(descriptors());
    io.say(["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(|name| env::var_os(name).is_some()));
}

fn descriptors() -> Result<ByName<i32>, SeenError> {
    let set = ActivatedListeners::from_env()?;
    let files = set.names().into_iter().map(|name| {
        let files = set.files(&name)?;
        Ok((name, files.iter().map(AsRawFd::as_raw_fd).collect()))
    });
    files.collect()
}

/// The addresses of the listeners by name.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn listeners(io: &ChildIo) {
    io.say(addresses());
}

fn addresses() -> Result<ByName<String>, SeenError> {
    let set = ActivatedListeners::from_env()?;
    let listeners = set.names().into_iter().map(|name| {
        let listeners = set.all(&name)?;
        Ok((name, listeners.iter().map(|listener| listener.local_addrs()[0].to_string()).collect()))
    });
    listeners.collect()
}

/// The addresses of one listener of the name that is the argument.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn one_listener(io: &ChildIo) {
    let one = ActivatedListeners::from_env().and_then(|set| set.one(&io.arg()));
    io.say(one.map(|listener| all_addresses(&listener)).map_err(|error| SeenError::from(&error)));
}

fn all_addresses(listener: &ActivatedListener) -> Vec<String> {
    listener.local_addrs().iter().map(ToString::to_string).collect()
}

/// What two calls answer, before anything is taken and afterwards.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn twice(io: &ChildIo) {
    let first = ActivatedListeners::from_env().unwrap();
    let before = [format!("{first:?}"), format!("{:?}", ActivatedListeners::from_env().unwrap())];
    let table = FdTable::now();
    let taken = first.one("name").unwrap();
    let after = [format!("{first:?}"), format!("{:?}", ActivatedListeners::from_env().unwrap())];
    io.say((before, after, table == FdTable::now(), all_addresses(&taken)));
}

/// Listens on each of the addresses in the argument.
pub(crate) fn listen(io: &ChildIo) {
    listen_on_each(io, ActivatedListeners::builder());
}

/// As `listen`, for sockets that are addressed to any process: gracenet does not look at `LISTEN_PID`.
pub(crate) fn listen_anyhow(io: &ChildIo) {
    listen_on_each(io, ActivatedListeners::builder().ignore_pid());
}

#[tokio::main(flavor = "current_thread")]
async fn listen_on_each(io: &ChildIo, builder: ActivatedListenersBuilder) {
    let set = match builder.from_env() {
        Ok(set) => set,
        Err(error) => return io.say([Got { addr: Err(SeenError::from(&error)), fresh: false }]),
    };
    let mut kept = Vec::new();
    let got: Vec<_> = io.arg().split(' ').map(|addr| listen_once(&set, addr, &mut kept)).collect();
    io.say(got);
}

fn listen_once(set: &ActivatedListeners, addr: &str, kept: &mut Vec<ActivatedListener>) -> Got {
    let before = FdTable::now().0.len();
    let listener = resolve_last(addr, kept).parse().and_then(|addr| set.listen(&addr));
    let fresh = FdTable::now().0.len() > before;
    Got { addr: listener.map(|listener| keep(listener, kept)).map_err(|error: Error| SeenError::from(&error)), fresh }
}

/// What a process that was started reports: its pid, and what it was passed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) pid: u32,
    pub(crate) program: PathBuf,
    pub(crate) sockets: ByName<String>,
}

/// Listens on the address that is the argument, shares a datagram socket, and starts the next process, which is this one again and
/// reports what it was passed.
#[cfg(feature = "handoff")]
pub(crate) fn start_process(io: &ChildIo) {
    if env::var_os("LISTEN_FDS").is_some() {
        return io.say(passed());
    }
    let runtime = Runtime::new().unwrap();
    let started = runtime.block_on(async {
        let net = ActivatedListeners::builder().build().unwrap();
        let listener = net.listen(&io.arg().parse().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        net.pass_to_successor("datagrams", &datagrams).unwrap();
        let addrs = (listener.local_addrs()[0].to_string(), datagrams.local_addr().unwrap().to_string());
        io.hear();
        (net.start_process().await.unwrap(), addrs)
    });
    io.say(started);
    // It stays until the test has heard all of it.
    io.hear();
}

fn passed() -> Passed {
    let set = ActivatedListeners::from_env().unwrap();
    let addrs = |name: &String| {
        let sockets = set.iter().filter(|socket| socket.name() == name);
        sockets.map(|socket| socket.addr().map_or_else(String::new, ToString::to_string)).collect()
    };
    let sockets = set.names().into_iter().map(|name| (name.clone(), addrs(&name))).collect();
    Passed { pid: std::process::id(), program: env::current_exe().unwrap(), sockets }
}

/// `same` stands for the address of the listener before.
fn resolve_last(addr: &str, kept: &[ActivatedListener]) -> String {
    match (addr, kept.last()) {
        ("same", Some(last)) => last.local_addrs()[0].to_string(),
        _ => addr.to_owned(),
    }
}

fn keep(listener: ActivatedListener, kept: &mut Vec<ActivatedListener>) -> String {
    let addr = listener.local_addrs()[0].to_string();
    kept.push(listener);
    addr
}
