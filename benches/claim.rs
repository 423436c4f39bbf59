//! Time to claim and type the descriptors that a process was passed, per descriptor.
//!
//! ```text
//! cargo bench --bench claim
//! ```
//!
//! A process claims once, so each run is a fresh one: it opens listening sockets at 3, 4, .., and executes itself again
//! with close-on-exec cleared and `LISTEN_*` set. Timed is the one call of `ActivatedListeners::from_env`.

use std::{
    env, io,
    net::TcpListener,
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    process::{self, Command, Stdio},
    time::Instant,
};

use axum_activation::{ActivatedListeners, SocketKind};
use rustix::{
    io::FdFlags,
    process::{Resource, Rlimit},
};

#[path = "support/options.rs"]
mod options;
#[path = "support/statistics.rs"]
mod statistics;

use self::{
    options::{is_short, is_wanted},
    statistics::Spread,
};

const OPEN: &str = "open-sockets";
const CLAIM: &str = "claim-sockets";
/// Closes what the benchmark itself was passed, so that its sockets can stand at 3, 4, ..
const CLOSE_OTHERS: &str = r#"for fd in /proc/self/fd/*; do fd=${fd##*/}; ((fd < 3)) || exec {fd}>&-; done; exec "$@""#;
const COUNTS: [usize; 3] = [1, 10, 1000];
const RUNS: usize = 101;

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [OPEN, family, count] => open_and_execute(family, parse(count)?),
        [CLAIM, count] => claim(parse(count)?),
        _ => measure(if is_short() { 3 } else { RUNS }),
    }
}

fn measure(runs: usize) -> io::Result<()> {
    println!("claim and type descriptors; median of {runs} processes, its 95 % interval, and the whole range\n");
    println!("| sockets | descriptors | ns per descriptor | least .. most |");
    println!("| --- | --: | --: | --: |");
    for family in ["TCP", "Unix"] {
        for count in COUNTS.into_iter().filter(|count| is_wanted(&format!("{family} {count}"))) {
            let times = (0..runs).map(|_| run(family, count)).collect::<io::Result<Vec<_>>>()?;
            print_line(family, count, &times);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
fn print_line(family: &str, count: usize, times: &[f64]) {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min) / count as f64;
    let most = times.iter().copied().fold(0.0, f64::max) / count as f64;
    let spread = Spread::of(times.iter().map(|nanoseconds| nanoseconds / count as f64).collect());
    println!("| {family} | {count} | {spread:.0} | {least:.0} .. {most:.0} |");
}

/// The nanoseconds that a fresh process takes.
fn run(family: &str, count: usize) -> io::Result<f64> {
    let mut child = Command::new("bash");
    child.args(["-c", CLOSE_OTHERS, "bash"]).arg(env::current_exe()?).args([OPEN, family, &count.to_string()]);
    let output = child.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("a run of {count} {family} sockets failed: {}", output.status)));
    }
    parse(String::from_utf8_lossy(&output.stdout).trim())
}

fn open_and_execute(family: &str, count: usize) -> io::Result<()> {
    let limit = u64::try_from(count).unwrap_or(u64::MAX).saturating_add(64).max(1024);
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum })?;
    let sockets = (0..count).map(|i| open(family, i)).collect::<io::Result<Vec<_>>>()?;
    for (socket, fd) in sockets.iter().zip(3..) {
        if socket.as_raw_fd() != fd {
            return Err(io::Error::other(format!("descriptor {fd} was open already")));
        }
        rustix::io::fcntl_setfd(socket, FdFlags::empty())?;
    }
    let names: Vec<_> = (0..count).map(|i| format!("socket-{i}")).collect();
    Err(Command::new(env::current_exe()?)
        .args([CLAIM, &count.to_string()])
        .env("LISTEN_PID", process::id().to_string())
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .exec())
}

fn open(family: &str, i: usize) -> io::Result<OwnedFd> {
    if family == "TCP" {
        return Ok(TcpListener::bind("127.0.0.1:0")?.into());
    }
    let name = format!("axum-activation-bench-{}-{i}", process::id());
    Ok(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?.into())
}

fn claim(count: usize) -> io::Result<()> {
    let start = Instant::now();
    let activated = ActivatedListeners::from_env()?;
    let elapsed = start.elapsed();
    let listeners = activated.iter().filter(|socket| matches!(socket.kind(), SocketKind::Listener(_))).count();
    if listeners != count {
        return Err(io::Error::other(format!("{listeners} listeners instead of {count}")));
    }
    println!("{}", elapsed.as_nanos());
    Ok(())
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}
