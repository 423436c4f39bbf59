//! User-space instructions per request, counted by callgrind: the gate.
//!
//! ```text
//! cargo bench --bench instructions
//! cargo bench --bench instructions -- --short
//! cargo bench --bench instructions -- "keep-alive TCP"
//! cargo bench --bench instructions -- HTTP/2
//! cargo bench --bench instructions -- --at-once=8
//! ```
//!
//! Counts a run of N and one of 3 N requests and takes the difference, so that start-up cancels out. The server has tokio's
//! `current_thread` runtime, and every next step waits until it sleeps: so the counts repeat from run to run, to a tenth of a
//! percent with one request at a time, to one percent with several. valgrind must be installed (`apt-get install valgrind`).

use std::{
    env, fs, io,
    path::Path,
    process::{Command, ExitCode},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

#[path = "support/client.rs"]
mod client;
#[path = "support/options.rs"]
mod options;
#[path = "support/process.rs"]
mod process;
#[path = "support/server.rs"]
mod server;

use self::{
    client::{Client, Load},
    options::{is_short, is_wanted},
    process::ServerProcess,
    server::{End, Job, Transport, Variant},
};

/// At most so many times the instructions of plain axum; of HTTP/2, of hyper alone.
const GATE: f64 = 1.02;
/// What a short run may miss it by: with a third of the rounds, what disturbs a count weighs three times as much.
const SHORT_OF_ROUNDS: f64 = 0.005;
/// How often a line is counted before it is said to miss the gate.
const TRIES: usize = 3;
/// callgrind counts each byte of `rep movsb` as an instruction, and whether glibc copies so depends on how addresses happen to
/// lie to one another: thousands of instructions per connection or none.
const COPY_IN_VECTORS: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";

fn main() -> io::Result<ExitCode> {
    if let Some(job) = Job::of_this_process() {
        return job.run().map(|()| ExitCode::SUCCESS);
    }
    let at_once = at_once()?;
    let plan = match is_short() {
        true => Plan { rounds: 300, at_once, may_miss: SHORT_OF_ROUNDS },
        false => Plan { rounds: 1000, at_once, may_miss: 0.0 },
    };
    let gate = GATE + plan.may_miss;
    println!(
        "instructions in user space per exchange, {at_once} at once; gate: at most {gate} of plain axum or hyper\n"
    );
    println!("| load | socket | plain | axum::serve | ratio | Server | ratio |");
    println!("| --- | --- | --: | --: | --: | --: | --: |");
    let mut passed = true;
    for load in Load::ALL {
        for transport in Transport::ALL {
            passed &= !is_wanted(&format!("{load} {transport}")) || compare(load, transport, plan)?;
        }
    }
    println!("\n| load | socket | plain hyper | Server | ratio |\n| --- | --- | --: | --: | --: |");
    for transport in Transport::ALL {
        passed &= !is_wanted(&format!("{} {transport}", Load::Http2)) || compare_http2(transport, plan)?;
    }
    println!("\ngate {}", if passed { "passed" } else { "MISSED" });
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How much to count.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Of the shorter of two runs. Enough to use up a read buffer of hyper: from the second on, requests cost more.
    rounds: u32,
    /// Requests a round.
    at_once: u32,
    /// So much may be more than a gate allows.
    may_miss: f64,
}

fn at_once() -> io::Result<u32> {
    let number = env::args().find_map(|arg| arg.strip_prefix("--at-once=").map(str::to_owned));
    number.map_or(Ok(1), |number| {
        number.parse().map_err(|_| io::Error::other(format!("--at-once={number} is no number")))
    })
}

/// Prints a line of the table, and says whether it passes the gate, which is for requests alone.
///
/// A line that misses it is counted again, and the least of each variant stands: what disturbs a count, a wake-up more, only adds to
/// it.
fn compare(load: Load, transport: Transport, plan: Plan) -> io::Result<bool> {
    let mut least = [f64::INFINITY; 3];
    let mut passes = false;
    for _ in 0..TRIES {
        for (least, variant) in least.iter_mut().zip(Variant::ALL) {
            let job = Job { variant, transport, workers: 0, end: End::Killed };
            *least = least.min(per_exchange(load, job, plan)?);
        }
        passes = load == Load::Accept || least.iter().all(|count| count / least[0] <= GATE + plan.may_miss);
        if passes {
            break;
        }
    }
    let [plain, serve, server] = least;
    let ratios = [serve / plain, server / plain];
    println!("| {load} | {transport} | {plain:.0} | {serve:.0} | {:.4} | {server:.0} | {:.4} |", ratios[0], ratios[1]);
    Ok(passes)
}

/// As [`compare`], with hyper's own HTTP/2.
fn compare_http2(transport: Transport, plan: Plan) -> io::Result<bool> {
    let gate = GATE + plan.may_miss;
    let mut least = [f64::INFINITY; 2];
    for _ in 0..TRIES {
        for (least, variant) in least.iter_mut().zip([Variant::Http2, Variant::Server]) {
            let job = Job { variant, transport, workers: 0, end: End::Killed };
            *least = least.min(per_exchange(Load::Http2, job, plan)?);
        }
        if least[1] / least[0] <= gate {
            break;
        }
    }
    let [plain, server] = least;
    let ratio = server / plain;
    println!("| {} | {transport} | {plain:.0} | {server:.0} | {ratio:.4} |", Load::Http2);
    Ok(ratio <= gate)
}

fn per_exchange(load: Load, job: Job, plan: Plan) -> io::Result<f64> {
    let few = count(job, load, plan)?;
    let many = count(job, load, Plan { rounds: 3 * plan.rounds, ..plan })?;
    Ok((many - few) / f64::from(2 * plan.rounds * plan.at_once))
}

/// The instructions of a whole server process.
fn count(job: Job, load: Load, plan: Plan) -> io::Result<f64> {
    let log = NamedTempFile::new()?;
    let server = ServerProcess::start(callgrind(log.path())?, job)?;
    exchange(&server, load, plan)?;
    kill_process(server.id(), Signal::TERM)?;
    await_state(server.id(), 'Z')?;
    let said = fs::read_to_string(log.path())?;
    collected(&said).ok_or_else(|| io::Error::other(format!("valgrind did not say what it collected: {said}")))
}

/// This very program under callgrind.
fn callgrind(log: &Path) -> io::Result<Command> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command
        .arg(format!("--log-file={}", log.display()))
        .arg(env::current_exe()?)
        .env("GLIBC_TUNABLES", COPY_IN_VECTORS);
    Ok(command)
}

/// `==1234== Collected : 5678`
fn collected(said: &str) -> Option<f64> {
    said.lines().find_map(|line| line.split_once("Collected : "))?.1.trim().parse().ok()
}

fn exchange(server: &ServerProcess, load: Load, plan: Plan) -> io::Result<()> {
    let mut clients: Vec<_> = (0..plan.at_once).map(|_| Client::new(load, server.address())).collect();
    for round in 0..plan.rounds {
        let mut start = || clients.iter_mut().try_for_each(Client::start);
        // The first waits in the queue of the socket while the server starts. A connection and what is sent on it are two events
        // for a server that runs, and at times one.
        if round == 0 || (load.keeps() && plan.at_once == 1) { start() } else { while_stopped(server.id(), start) }?;
        clients.iter_mut().try_for_each(Client::finish)?;
        await_state(server.id(), 'S')?;
    }
    Ok(())
}

/// Runs `step` while a process is stopped, which sees at once all that was done.
fn while_stopped(pid: Pid, step: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    kill_process(pid, Signal::STOP)?;
    await_state(pid, 'T')?;
    step()?;
    Ok(kill_process(pid, Signal::CONT)?)
}

/// Waits until a process is in one of the states of `proc_pid_stat(5)`: `S` asleep, `T` stopped, `Z` ended.
fn await_state(pid: Pid, wanted: char) -> io::Result<()> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    loop {
        let stat = fs::read_to_string(&path)?;
        match stat.rsplit(") ").next().and_then(|fields| fields.chars().next()) {
            Some(state) if state == wanted => return Ok(()),
            None | Some('Z' | 'X') => return Err(io::Error::other("the server process has died")),
            Some(_) => thread::yield_now(),
        }
    }
}
