//! What a handoff to the next process costs, and what clients notice of it.
//!
//! ```text
//! cargo bench --bench handoff
//! cargo bench --bench handoff -- --short
//! cargo bench --bench handoff -- --connections=50000 idle
//! cargo bench --bench handoff -- --rounds=25 "first answer" steady restarts
//! cargo bench --bench handoff -- HTTP/2
//! ```
//!
//! The service is this very program, started again; each handoff starts it once more. It has two workers, and runs on whatever core
//! is free, as the clients do; the steady load is measured once more, and the restarts only, with one core for all generations of
//! the service, each with one worker, and another for the clients.

use std::{env, io, time::Duration};

#[path = "handoff/beat.rs"]
mod beat;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "handoff/first_answer.rs"]
mod first_answer;
#[path = "handoff/http2.rs"]
mod http2;
#[path = "handoff/idle.rs"]
mod idle;
#[path = "handoff/load.rs"]
mod load;
#[path = "support/options.rs"]
mod options;
#[path = "handoff/program.rs"]
mod program;
#[path = "handoff/restarts.rs"]
mod restarts;
#[path = "support/statistics.rs"]
mod statistics;
#[path = "handoff/steady.rs"]
mod steady;

use self::{
    load::Speaks,
    options::{is_short, is_wanted},
    program::{Job, adopt_orphans},
};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    connections: usize,
    moves: usize,
    pairs: usize,
    steady: steady::Plan,
    restart_rounds: usize,
    restarts: u32,
}

const LONG: Plan = Plan {
    connections: 10_000,
    moves: 7,
    pairs: 31,
    steady: steady::Plan { rounds: 101, seconds: 1, capacity: Duration::from_secs(2) },
    restart_rounds: 7,
    restarts: 3,
};
const SHORT: Plan = Plan {
    connections: 1_000,
    moves: 1,
    pairs: 3,
    steady: steady::Plan { rounds: 1, seconds: 1, capacity: Duration::from_millis(200) },
    restart_rounds: 1,
    restarts: 1,
};

fn main() -> io::Result<()> {
    if let Some(job) = Job::of_this_process() {
        return job.run();
    }
    adopt_orphans()?;
    let mut plan = if is_short() { SHORT } else { LONG };
    plan.connections = number_asked("--connections=").unwrap_or(plan.connections);
    if let Some(rounds) = number_asked("--rounds=") {
        (plan.moves, plan.pairs, plan.steady.rounds, plan.restart_rounds) = (rounds, rounds, rounds, rounds);
    }
    // The parts that leave it to the system who runs where come first.
    if is_wanted("idle") {
        idle::measure(Speaks::Http1, plan.connections, plan.moves)?;
    }
    if is_wanted("idle HTTP/2") {
        idle::measure(Speaks::Http2, plan.connections / 2, plan.moves)?;
    }
    if is_wanted("first answer") {
        first_answer::measure(plan.pairs)?;
    }
    if is_wanted("steady") {
        steady::measure(Speaks::Http1, plan.steady)?;
    }
    if is_wanted("steady HTTP/2") {
        steady::measure(Speaks::Http2, plan.steady)?;
    }
    if is_wanted("restarts") {
        restarts::measure(plan.restart_rounds, plan.restarts)?;
    }
    Ok(())
}

/// The number that follows `option`.
fn number_asked(option: &str) -> Option<usize> {
    env::args().find_map(|arg| arg.strip_prefix(option)?.parse().ok()).filter(|number| *number > 0)
}
