//! Says what is wrong with a unit for a service of this crate, and the line that fixes it.
//!
//! ```text
//! cargo run --features unit-check --example check -- --name http --drain 30s app.service app.socket
//! cargo run --features unit-check --example check -- --name http --handoff --handoff-socket /run/app/handoff.sock app.service app.socket
//! systemctl show app.service app.socket | cargo run --features unit-check --example check -- --show --name http --drain 30s
//! ```
//!
//! Ends with 0 when nothing is wrong, with 1 when something is, with 2 when it could not look.

use std::{error::Error, io, path::PathBuf, process::ExitCode, time::Duration};

use axum_activation::unit_check::{Expectation, Units, check, time_span};
use clap::Parser;

/// Says what is wrong with a unit for a service of axum-activation, and the line that fixes it.
#[derive(Debug, Parser)]
struct Args {
    /// A name that the service serves: `Server::serve`. Without any, names are not looked at.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// A name that the service binds itself if it was not passed.
    #[arg(long = "fallback", value_name = "NAME=ADDRESS", value_parser = fallback)]
    fallbacks: Vec<(String, String)>,
    /// Sockets that no router serves are no fault: `Server::allow_unserved`.
    #[arg(long)]
    allow_unserved: bool,
    /// How long the service drains at most: `Server::drain_timeout`.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    drain: Duration,
    /// The service says nothing to the service manager.
    #[arg(long)]
    no_notify: bool,
    /// systemctl reload hands the service over to a new process.
    #[arg(long)]
    handoff: bool,
    /// How long a handoff takes at most.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    handoff_timeout: Duration,
    /// The path at which the service is asked for a handoff.
    #[arg(long, value_name = "PATH")]
    handoff_socket: Option<PathBuf>,
    /// The service names the directory of the next process itself: `Server::successor_directory`.
    #[arg(long)]
    successor_directory: bool,
    /// How many descriptors the service keeps in the fd store.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    fd_store: u64,
    /// How many connections the service has at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    connections: u64,
    /// The service ends when it has nothing to do: `Server::idle_exit`.
    #[arg(long)]
    idle_exit: bool,
    /// Read the output of `systemctl show UNIT...` from standard input, alone or beside files.
    #[arg(long)]
    show: bool,
    /// Unit files and `.container` files of Podman (drop-ins beside them are read too) and single drop-ins.
    #[arg(required_unless_present = "show")]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(faults) => ExitCode::from(u8::from(faults > 0)),
        Err(error) => {
            let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("check: {error}{cause}");
            ExitCode::from(2)
        }
    }
}

/// How many faults there are.
fn run(args: &Args) -> Result<usize, Box<dyn Error>> {
    let mut units = Units::new();
    if args.show {
        units = units.show(&io::read_to_string(io::stdin().lock())?)?;
    }
    for file in &args.files {
        units = units.read(file)?;
    }
    if !units.has_service() {
        return Err("there is no service among these units, so nothing was looked at; add its file or its name".into());
    }
    let findings = check(&units, &expectation(args)?);
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.len())
}

fn expectation(args: &Args) -> Result<Expectation, Box<dyn Error>> {
    let mut expectation = Expectation::new()
        .drain_timeout(args.drain)
        .notify(!args.no_notify)
        .handoff(args.handoff)
        .handoff_timeout(args.handoff_timeout)
        .fd_store(args.fd_store)
        .connections(args.connections)
        .idle_exit(args.idle_exit);
    for name in &args.names {
        expectation = expectation.name(name);
    }
    for (name, address) in &args.fallbacks {
        expectation = expectation.fallback(name, address.as_str())?;
    }
    if let Some(path) = &args.handoff_socket {
        expectation = expectation.handoff_socket(path);
    }
    if args.successor_directory {
        expectation = expectation.successor_directory();
    }
    if args.allow_unserved {
        expectation = expectation.allow_unserved();
    }
    Ok(expectation)
}

fn span(text: &str) -> Result<Duration, String> {
    time_span(text).ok_or_else(|| "no time span; expected one as 30s, 1min 30s or infinity".to_owned())
}

fn fallback(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("expected NAME=ADDRESS, as admin=unix:/run/app/admin.sock")?;
    Ok((name.to_owned(), address.to_owned()))
}
