//! What 10,000 idle connections take, and their drain, beside plain axum, interleaved.
//!
//! ```text
//! cargo bench --bench drain
//! cargo bench --bench drain -- --short
//! ```
//!
//! A round starts one server process after the other, who begins changes; connects, has one request answered on each connection,
//! sends SIGTERM, and waits until the process has ended and every client is at the end of its connection, which it closes then.
//! The servers have tokio's `current_thread` runtime and one core, the clients another. CPU time is all that the process ran for
//! from the signal on, user and system, what the kernel did at its exit too.

use std::{
    env, fs, io,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process};

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/idle.rs"]
mod idle;
#[path = "support/options.rs"]
mod options;
#[path = "support/process.rs"]
mod process;
#[path = "support/server.rs"]
mod server;
#[path = "support/statistics.rs"]
mod statistics;

use self::{
    cpu::{Cores, cpu_time, pin_to},
    idle::{Ends, IdleClients},
    options::is_short,
    process::ServerProcess,
    server::{End, Job, Transport, Variant},
    statistics::Spread,
};

/// Descriptors of a process that are no connections.
const OTHER_DESCRIPTORS: usize = 64;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    connections: usize,
}

const LONG: Plan = Plan { rounds: 7, connections: 10_000 };
const SHORT: Plan = Plan { rounds: 1, connections: 1_000 };

/// What is compared with the first.
const ROWS: [Row; 3] = [
    Row { name: "axum::serve", variant: Variant::Plain, keep_alive_grace: Duration::ZERO },
    Row { name: "Server, keep-alive grace 0", variant: Variant::Server, keep_alive_grace: Duration::ZERO },
    Row { name: "Server, keep-alive grace 1 s", variant: Variant::Server, keep_alive_grace: Duration::from_secs(1) },
];

fn main() -> io::Result<()> {
    if let Some(job) = Job::of_this_process() {
        return job.run();
    }
    let plan = if is_short() { SHORT } else { LONG };
    raise_descriptor_limit(plan.connections + OTHER_DESCRIPTORS)?;
    let cores = Cores::of_this_process()?;
    let rounds = (0..plan.rounds).map(|number| round(number, plan, cores)).collect::<io::Result<Vec<_>>>()?;
    print_table(plan, &rounds);
    Ok(())
}

/// The server processes inherit it.
fn raise_descriptor_limit(needed: usize) -> io::Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    match maximum {
        Some(maximum) if usize::try_from(maximum).is_ok_and(|maximum| maximum < needed) => {
            Err(io::Error::other(format!(
                "a process may have {maximum} descriptors here at most, and {needed} are needed: raise the hard limit (ulimit -Hn)"
            )))
        }
        _ => Ok(()),
    }
}

/// A way to serve.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    variant: Variant,
    keep_alive_grace: Duration,
}

impl Row {
    fn job(self) -> Job {
        let end = End::Drained { keep_alive_grace: self.keep_alive_grace };
        Job { variant: self.variant, transport: Transport::Tcp, workers: 0, end }
    }
}

/// What became of one server process.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Bytes that the process grew by, per connection.
    memory: f64,
    drain: Duration,
    cpu: Duration,
    ends: Ends,
}

fn round(number: usize, plan: Plan, cores: Cores) -> io::Result<[Measured; 3]> {
    let mut measured = [None; 3];
    for turn in 0..ROWS.len() {
        let row = (number + turn) % ROWS.len();
        measured[row] = Some(measure(ROWS[row], plan, cores)?);
    }
    let [Some(plain), Some(server), Some(in_keep_alive_grace)] = measured else {
        unreachable!("each has had its turn")
    };
    Ok([plain, server, in_keep_alive_grace])
}

fn measure(row: Row, plan: Plan, cores: Cores) -> io::Result<Measured> {
    pin_to(cores.server)?;
    let server = ServerProcess::start(Command::new(env::current_exe()?), row.job())?;
    pin_to(cores.client)?;
    // What a first connection sets up once is not counted.
    let mut clients = IdleClients::new()?;
    clients.connect(server.address())?;
    let before = resident(server.id())?;
    for _ in 1..plan.connections {
        clients.connect(server.address())?;
    }
    let memory = per(plan.connections - 1, resident(server.id())? - before);
    let cpu = cpu_time(server.id())?;
    let start = Instant::now();
    kill_process(server.id(), Signal::TERM)?;
    let (ends, ended) = clients.await_end(server.id())?;
    Ok(Measured { memory, drain: ended - start, cpu: cpu_time(server.id())? - cpu, ends })
}

/// The bytes of a process that are in memory, page by page: what `/proc/PID/status` says lags behind.
fn resident(pid: Pid) -> io::Result<f64> {
    let said = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero()))?;
    let size = said.lines().find_map(|line| line.strip_prefix("Rss:")?.strip_suffix("kB")?.trim().parse::<f64>().ok());
    Ok(size.ok_or(io::ErrorKind::InvalidData)? * 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn per(count: usize, sum: f64) -> f64 {
    sum / count as f64
}

fn print_table(plan: Plan, rounds: &[[Measured; 3]]) {
    let Plan { rounds: count, connections } = plan;
    println!(
        "{connections} idle connections over TCP, {count} rounds; median [95 % interval]; ratios to axum::serve\n"
    );
    println!("| | memory per connection, bytes | ratio | SIGTERM to exit, ms | CPU time, ms | ratio | clients |");
    println!("| --- | --: | --: | --: | --: | --: | --- |");
    for (i, row) in ROWS.iter().enumerate() {
        print_row(row, rounds, i);
    }
    let most = (1..ROWS.len()).map(|i| memory_ratio(rounds, i).median).fold(0.0, f64::max);
    let met = if most <= 1.0 { "met" } else { "missed" };
    println!("\ntarget (not more memory per idle connection than axum::serve): {met}");
}

fn print_row(row: &Row, rounds: &[[Measured; 3]], i: usize) {
    let spread = |of: fn(&Measured) -> f64| Spread::of(rounds.iter().map(|round| of(&round[i])).collect());
    let memory = spread(|measured| measured.memory);
    let drain = spread(|measured| measured.drain.as_secs_f64() * 1e3);
    let cpu = spread(|measured| measured.cpu.as_secs_f64() * 1e3);
    let cpu_ratio = ratio(rounds, i, |measured| measured.cpu.as_secs_f64());
    let ends = rounds.iter().map(|round| round[i].ends).fold(Ends::default(), Ends::and);
    let memory_ratio = memory_ratio(rounds, i);
    println!("| {} | {memory:.0} | {memory_ratio} | {drain:.0} | {cpu:.0} | {cpu_ratio:.2} | {ends} |", row.name);
}

fn memory_ratio(rounds: &[[Measured; 3]], i: usize) -> Spread {
    ratio(rounds, i, |measured| measured.memory)
}

/// To the first row, within each round.
fn ratio(rounds: &[[Measured; 3]], i: usize, of: fn(&Measured) -> f64) -> Spread {
    Spread::of(rounds.iter().map(|round| of(&round[i]) / of(&round[0])).collect())
}
