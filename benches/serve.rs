//! Requests and connections per second beside plain axum, interleaved.
//!
//! ```text
//! cargo bench --bench serve
//! cargo bench --bench serve -- --short
//! cargo bench --bench serve -- --rounds=15
//! cargo bench --bench serve -- "keep-alive TCP"
//! ```
//!
//! A round starts one server process per variant, on sockets that are alike, and loads them in turn, slice by slice; a ratio is
//! taken within its round. The servers have one core, the client another.

use std::{
    env, io,
    process::Command,
    time::{Duration, Instant},
};

#[path = "support/client.rs"]
mod client;
#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/options.rs"]
mod options;
#[path = "support/process.rs"]
mod process;
#[path = "support/server.rs"]
mod server;
#[path = "support/statistics.rs"]
mod statistics;

use self::{
    client::{Client, Load},
    cpu::{Cores, cpu_time, pin_to},
    options::{is_short, is_wanted},
    process::ServerProcess,
    server::{End, Job, Transport, Variant},
    statistics::Spread,
};

/// The lower end of each ratio's interval should reach it.
const TARGET: f64 = 0.95;
/// Exchanges under way at a time: the server always has one to go on with.
const CLIENTS: usize = 16;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    slices: usize,
    slice: Duration,
}

const LONG: Plan = Plan { rounds: 41, slices: 4, slice: Duration::from_millis(120) };
const SHORT: Plan = Plan { rounds: 2, slices: 1, slice: Duration::from_millis(40) };

fn main() -> io::Result<()> {
    if let Some(job) = Job::of_this_process() {
        return job.run();
    }
    let mut plan = if is_short() { SHORT } else { LONG };
    plan.rounds = rounds_asked().unwrap_or(plan.rounds);
    let cores = Cores::of_this_process()?;
    println!(
        "{} rounds of {} slices of {:?} per variant; ratios to plain axum: median [95 % interval]\n",
        plan.rounds, plan.slices, plan.slice
    );
    println!("| load | socket | plain, 1/s | server busy | axum::serve | Server |");
    println!("| --- | --- | --: | --: | --: | --: |");
    let mut rows = Vec::new();
    for load in Load::ALL {
        for transport in Transport::ALL {
            if is_wanted(&format!("{load} {transport}")) {
                let row = compare(load, transport, plan, &cores)?;
                row.print_rates();
                rows.push(row);
            }
        }
    }
    print_cpu_times(&rows);
    let met = rows.iter().all(Row::meets_target);
    println!("\ntarget (every interval of a rate begins at {TARGET} or above): {}", if met { "met" } else { "missed" });
    Ok(())
}

/// `--rounds=N`.
fn rounds_asked() -> Option<usize> {
    env::args().find_map(|arg| arg.strip_prefix("--rounds=")?.parse().ok())
}

fn compare(load: Load, transport: Transport, plan: Plan, cores: &Cores) -> io::Result<Row> {
    let rounds = (0..plan.rounds).map(|i| round(load, transport, plan, i, cores)).collect::<io::Result<_>>()?;
    Ok(Row { load, transport, rounds })
}

/// A line of the tables.
#[derive(Debug)]
struct Row {
    load: Load,
    transport: Transport,
    rounds: Vec<[Measured; 3]>,
}

impl Row {
    fn print_rates(&self) {
        let Self { load, transport, .. } = self;
        let plain = self.spread(|[plain, ..]| plain.rate());
        let busy = self.spread(|[plain, ..]| plain.busy() * 100.0);
        let (serve, server) = (self.serve_rate(), self.server_rate());
        println!("| {load} | {transport} | {:.0} | {:.0} % | {serve} | {server} |", plain.median, busy.median);
    }

    fn print_cpu(&self) {
        let Self { load, transport, .. } = self;
        let plain = self.spread(|[plain, ..]| plain.cpu());
        let serve = self.spread(|[plain, serve, _]| serve.cpu() / plain.cpu());
        let server = self.spread(|[plain, _, server]| server.cpu() / plain.cpu());
        println!("| {load} | {transport} | {:.2} | {serve} | {server} |", plain.median);
    }

    fn meets_target(&self) -> bool {
        self.serve_rate().low >= TARGET && self.server_rate().low >= TARGET
    }

    fn serve_rate(&self) -> Spread {
        self.spread(|[plain, serve, _]| serve.rate() / plain.rate())
    }

    fn server_rate(&self) -> Spread {
        self.spread(|[plain, _, server]| server.rate() / plain.rate())
    }

    fn spread(&self, of: fn(&[Measured; 3]) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(of).collect())
    }
}

fn print_cpu_times(rows: &[Row]) {
    println!("\nCPU time of the server process per exchange\n");
    println!("| load | socket | plain, µs | axum::serve | Server |");
    println!("| --- | --- | --: | --: | --: |");
    rows.iter().for_each(Row::print_cpu);
}

/// What a server did in all slices of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    exchanges: f64,
    seconds: f64,
    /// Of the server process, on its core.
    cpu_seconds: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.exchanges / self.seconds
    }

    /// Microseconds per exchange.
    fn cpu(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.exchanges
    }

    /// The share of its core that it took.
    fn busy(&self) -> f64 {
        self.cpu_seconds / self.seconds
    }
}

/// Loads a fresh server of each variant in turn; who begins changes from round to round.
fn round(load: Load, transport: Transport, plan: Plan, number: usize, cores: &Cores) -> io::Result<[Measured; 3]> {
    pin_to(cores.server)?;
    let job = |variant| Job { variant, transport, workers: 1, end: End::Killed };
    let start = |variant| ServerProcess::start(Command::new(env::current_exe()?), job(variant));
    let [plain, serve, server] = Variant::ALL.map(start);
    let servers = [plain?, serve?, server?];
    pin_to(cores.client)?;
    let mut loads = servers.each_ref().map(|server| Loaded::new(server, load));
    for loaded in &mut loads {
        loaded.slice(plan.slice / 2)?;
        loaded.measured = Measured::default();
    }
    for slice in 0..plan.slices {
        for turn in 0..loads.len() {
            loads[(number + slice + turn) % 3].slice(plan.slice)?;
        }
    }
    Ok(loads.map(|loaded| loaded.measured))
}

/// A server and its clients.
struct Loaded<'a> {
    server: &'a ServerProcess,
    clients: Vec<Client<'a>>,
    measured: Measured,
}

impl<'a> Loaded<'a> {
    fn new(server: &'a ServerProcess, load: Load) -> Self {
        let clients = (0..CLIENTS).map(|_| Client::new(load, server.address())).collect();
        Self { server, clients, measured: Measured::default() }
    }

    fn slice(&mut self, length: Duration) -> io::Result<()> {
        let (start, cpu) = (Instant::now(), cpu_time(self.server.id())?);
        let exchanges = exchange(&mut self.clients, start + length)?;
        self.measured.exchanges += exchanges;
        self.measured.seconds += start.elapsed().as_secs_f64();
        self.measured.cpu_seconds += (cpu_time(self.server.id())? - cpu).as_secs_f64();
        Ok(())
    }
}

/// Keeps an exchange under way with each client until `end`, and says how many there were.
fn exchange(clients: &mut [Client<'_>], end: Instant) -> io::Result<f64> {
    let mut exchanges = 0.0;
    clients.iter_mut().try_for_each(Client::start)?;
    while Instant::now() < end {
        for client in &mut *clients {
            client.finish()?;
            client.start()?;
            exchanges += 1.0;
        }
    }
    for client in clients {
        client.finish()?;
        exchanges += 1.0;
    }
    Ok(exchanges)
}
