//! What clients notice of handoffs under a load that does not wait for answers.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    beat::{EVERY, beat},
    cpu::{Cores, pin_to},
    load::{Clients, Outcome, Pace, Speaks},
    program::{Job, Service, Variant},
    statistics::Spread,
};

const CLIENTS: usize = 64;

/// Of the capacity.
const SHARE: f64 = 0.5;

/// At most so many times the p99 without handoffs.
const TARGET_RATIO: f64 = 1.5;
/// The longest that a request may wait, from when it was due.
const TARGET_STALL: Duration = Duration::from_millis(50);

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// Handoffs of a round, and seconds of either half of it.
    pub(crate) seconds: u32,
    /// To find the capacity.
    pub(crate) capacity: Duration,
}

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The service has two workers, and the system decides.
    AnyCore,
    /// All generations of the service share one core, with a worker each; the clients have another.
    OneCore,
}

/// Without handoffs, and with.
type Round = [Outcome; 2];

/// Loads a service with half of what it can do, and compares slices of time with handoffs to slices without.
pub(crate) fn measure(speaks: Speaks, plan: Plan) -> io::Result<()> {
    for layout in [Layout::AnyCore, Layout::OneCore] {
        measure_in(layout, speaks, plan)?;
    }
    Ok(())
}

fn measure_in(layout: Layout, speaks: Speaks, plan: Plan) -> io::Result<()> {
    let cores = Cores::of_this_process()?;
    let (workers, client_core) = match layout {
        Layout::AnyCore => (2, None),
        Layout::OneCore => {
            pin_to(cores.server)?;
            (1, Some(cores.client))
        }
    };
    let service = Service::start(Job::new(Variant::Server, workers)?)?;
    service.await_start()?;
    let clients = Clients::connect(service.address(), speaks, CLIENTS)?;
    let mut bench = Bench { service, clients, client_core, times: Vec::new() };
    bench.run(Pace::BackToBack, plan.capacity / 4)?;
    let capacity = bench.run(Pace::BackToBack, plan.capacity)?.rate();
    let pace = Pace::Each(Duration::from_secs_f64(1.0 / (capacity * SHARE)));
    bench.run(pace, plan.capacity / 4)?;
    let rounds = (0..plan.rounds).map(|number| bench.round(number, plan, pace)).collect::<io::Result<Vec<_>>>()?;
    print(layout, speaks, plan, capacity, &rounds, bench.times);
    Ok(())
}

/// A service under load.
#[derive(Debug)]
struct Bench {
    service: Service,
    clients: Clients,
    client_core: Option<usize>,
    /// How long each handoff took, in milliseconds.
    times: Vec<f64>,
}

impl Bench {
    fn run(&mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        self.hand_over_during(0, pace, time)
    }

    /// Who begins changes from round to round.
    fn round(&mut self, number: usize, plan: Plan, pace: Pace) -> io::Result<Round> {
        let mut round = [None, None];
        for turn in 0..2 {
            let which = (number + turn) % 2;
            let count = if which == 1 { plan.seconds } else { 0 };
            round[which] = Some(self.hand_over_during(count, pace, EVERY * plan.seconds)?);
        }
        let [Some(without), Some(with)] = round else { unreachable!("each has had its turn") };
        Ok([without, with])
    }

    fn hand_over_during(&mut self, count: u32, pace: Pace, time: Duration) -> io::Result<Outcome> {
        let Self { service, clients, client_core, times } = self;
        let hand_over = || {
            let signalled = Instant::now();
            service.hand_over()?;
            service.await_handed_over()?;
            times.push(signalled.elapsed().as_secs_f64() * 1e3);
            Ok(())
        };
        beat(count, *client_core, || clients.run(pace, time), hand_over)
    }
}

fn print(layout: Layout, speaks: Speaks, plan: Plan, capacity: f64, rounds: &[Round], times: Vec<f64>) {
    let Plan { rounds: count, seconds, .. } = plan;
    let rate = capacity * SHARE;
    let place = match layout {
        Layout::AnyCore => "The service runs on any core, and the clients too",
        Layout::OneCore => "All generations of the service share one core, the clients have another",
    };
    let protocol = if speaks == Speaks::Http2 { "HTTP/2" } else { "HTTP/1.1" };
    println!(
        "{protocol}. {place}. {rate:.0} requests a second by the clock, half of the {capacity:.0} that {CLIENTS} clients get answered back to back; \
         {count} rounds of {seconds} s without and {seconds} s with a handoff a second; median [95 % interval]\n"
    );
    println!("| | p50, µs | p99, µs | longest of a round, ms | longest of all, ms | lost | closed |");
    println!("| --- | --: | --: | --: | --: | --: | --: |");
    for (name, which) in [("without", 0), ("with", 1)] {
        print_row(name, &rounds.iter().map(|round| &round[which]));
    }
    let quantile = |share| move |[without, with]: &Round| ratio(with.quantile(share), without.quantile(share));
    let p50 = Spread::of(rounds.iter().map(quantile(0.5)).collect());
    let p99 = Spread::of(rounds.iter().map(quantile(0.99)).collect());
    println!(
        "\nratios within a round: p50 {p50:.2}, p99 {p99:.2}; signal to the old's end {:.1} ms",
        Spread::of(times)
    );
    let stall = rounds.iter().map(|[_, with]| with.quantile(1.0)).max().unwrap_or_default();
    let failed: usize = rounds.iter().map(|[_, with]| with.lost + with.closed).sum();
    let verdict = |met| if met { "met" } else { "missed" };
    println!(
        "targets: p99 at most {TARGET_RATIO} times: {}; no stall above {TARGET_STALL:?}: {}; none lost, none closed: {}\n",
        verdict(p99.median <= TARGET_RATIO),
        verdict(stall <= TARGET_STALL),
        verdict(failed == 0)
    );
}

fn print_row<'a>(name: &str, outcomes: &(impl Iterator<Item = &'a Outcome> + Clone)) {
    let spread = |share| Spread::of(outcomes.clone().map(|it| it.quantile(share).as_secs_f64() * 1e6).collect());
    let longest = Spread::of(outcomes.clone().map(|it| it.quantile(1.0).as_secs_f64() * 1e3).collect());
    let (p50, p99) = (spread(0.5), spread(0.99));
    let of_all = outcomes.clone().map(|it| it.quantile(1.0)).max().unwrap_or_default().as_secs_f64() * 1e3;
    let lost: usize = outcomes.clone().map(|it| it.lost).sum();
    let closed: usize = outcomes.clone().map(|it| it.closed).sum();
    println!("| {name} | {p50:.0} | {p99:.0} | {longest:.1} | {of_all:.1} | {lost} | {closed} |");
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
