//! A program in another language that has the socket first, and leaves it as `LISTEN_FDS`.

use std::net::SocketAddr;

use rustix::process::Signal;

use super::{
    harness::{Process, subprocess, this_program, under_load_of_new_connections, wait_for_generation, who, words},
    process::Settings,
};
use crate::support::needs;

const PYTHON: &str = concat!(include_str!("../../support/protocol.py"), include_str!("plain_predecessor.py"));

#[test]
fn no_request_is_lost_where_a_plain_program_becomes_this_one() {
    takes_over_from("exec", |service| drop(service.hear("hands over")));
}

#[test]
fn no_request_is_lost_where_a_plain_program_starts_this_one_and_ends() {
    takes_over_from("spawn", |service| drop(service.hear("leaves")));
}

#[track_caller]
fn takes_over_from(how: &str, wait: impl FnOnce(&mut Process)) {
    needs::program("python3", "python3");
    let settings = Settings { passed: true, ..Settings::default() };
    let command = words(["python3", "-c", PYTHON, how], [this_program()]);
    let mut service = Process::run(subprocess(&settings).command(command));
    let addr: SocketAddr = service.addr();
    under_load_of_new_connections(addr, |clients| {
        wait(&mut service);
        assert_eq!(service.addr(), addr, "it was passed the socket");
        wait_for_generation(addr, 0);
        clients.wait_for(100);
    });
    who(addr).signal(Signal::TERM);
    service.hear("ends ");
}
