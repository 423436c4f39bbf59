//! What clients lose that never try again, when the service is restarted under them: plain axum beside a handoff.

use std::io;

use crate::{
    beat::{EVERY, beat},
    cpu::{Cores, pin_to},
    load::{Clients, Outcome, Pace, Speaks},
    program::{Job, Service, Variant},
    statistics::Spread,
};

const CLIENTS: usize = 64;

const ROWS: [(&str, Variant); 2] =
    [("axum::serve, graceful shutdown, port reopened", Variant::Plain), ("Server, handed over", Variant::Server)];

/// Loads one service after the other and restarts each, `restarts` times a round.
pub(crate) fn measure(rounds: usize, restarts: u32) -> io::Result<()> {
    let cores = Cores::of_this_process()?;
    let rounds = (0..rounds).map(|number| round(number, restarts, cores)).collect::<io::Result<Vec<_>>>()?;
    println!(
        "{CLIENTS} keep-alive clients, back to back, that never try a request again; a restart a second, {} of each\n",
        rounds.len() * restarts as usize
    );
    println!("| | requests lost per restart | connections closed per restart | requests a second |");
    println!("| --- | --: | --: | --: |");
    for (i, (name, _)) in ROWS.iter().enumerate() {
        print_row(name, &rounds.iter().map(|round| &round[i]), restarts);
    }
    let failed: usize = rounds.iter().map(|[_, ours]| ours.lost + ours.closed).sum();
    println!("\ntarget (none lost, none closed): {}\n", if failed == 0 { "met" } else { "missed" });
    Ok(())
}

/// Who begins changes from round to round.
fn round(number: usize, restarts: u32, cores: Cores) -> io::Result<[Outcome; 2]> {
    let mut round = [None, None];
    for turn in 0..ROWS.len() {
        let which = (number + turn) % ROWS.len();
        round[which] = Some(load(ROWS[which].1, restarts, cores)?);
    }
    let [Some(plain), Some(server)] = round else { unreachable!("each has had its turn") };
    Ok([plain, server])
}

fn load(variant: Variant, restarts: u32, cores: Cores) -> io::Result<Outcome> {
    pin_to(cores.server)?;
    let mut service = Service::start(Job::new(variant, 1)?)?;
    service.await_start()?;
    let mut clients = Clients::connect(service.address(), Speaks::Http1, CLIENTS)?;
    let load = || clients.run(Pace::BackToBack, EVERY * restarts);
    beat(restarts, Some(cores.client), load, || match variant {
        Variant::Plain => service.restart(),
        Variant::Server => {
            service.hand_over()?;
            service.await_handed_over().map(drop)
        }
    })
}

fn print_row<'a>(name: &str, outcomes: &(impl Iterator<Item = &'a Outcome> + Clone), restarts: u32) {
    let per_restart = |of: fn(&Outcome) -> usize| {
        Spread::of(outcomes.clone().map(|outcome| count(of(outcome)) / f64::from(restarts)).collect())
    };
    let (lost, closed) = (per_restart(|outcome| outcome.lost), per_restart(|outcome| outcome.closed));
    let rate = Spread::of(outcomes.clone().map(Outcome::rate).collect());
    println!("| {name} | {lost:.1} | {closed:.1} | {rate:.0} |");
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn count(count: usize) -> f64 {
    count as f64
}
