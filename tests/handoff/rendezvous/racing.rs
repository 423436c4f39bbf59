//! Several processes that come at once.

use std::fs;

use rustix::process::Signal;

use super::{
    harness::{Process, folder, get, met, under_load_of_new_connections, wait_for_generation, who},
    process::Settings,
};

#[test]
fn of_two_that_come_for_one_place_the_second_learns_that_there_is_a_first() {
    let folder = folder();
    let plan = folder.path().join("plan");
    let settings = Settings { plan: Some(plan.clone()), ..met(folder.path().join("handoff.sock")) };
    let old = Process::start(&settings);
    let addr = old.addr();
    who(addr);
    let mut serving = None;
    under_load_of_new_connections(addr, |_| {
        fs::write(&plan, "wait").unwrap();
        let first = Process::start(&settings);
        first.hear("plans wait");
        let second = Process::start(&settings);
        let reason = second.failed();
        assert!(reason.contains("another handoff is under way"), "{reason}");
        assert_eq!(who(addr).generation, 0);
        for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
            if file.file_stem().is_some_and(|stem| stem == "plan") {
                fs::remove_file(file).unwrap();
            }
        }
        wait_for_generation(addr, 1);
        old.ended();
        serving = Some(first);
    });
    let first = serving.unwrap();
    first.signal(Signal::TERM);
    first.ended();
}

#[test]
fn of_many_that_come_at_once_each_takes_over_or_says_why_not() {
    let folder = folder();
    let settings = met(folder.path().join("handoff.sock"));
    let mut serving = Process::start(&settings);
    let addr = serving.addr();
    let mut generation = who(addr).generation;
    under_load_of_new_connections(addr, |_| {
        for _ in 0..3 {
            let coming: Vec<_> = (0..3).map(|_| Process::start(&settings)).collect();
            let mut left = Vec::new();
            for mut one in coming {
                match one.takes_over() {
                    Ok(()) => left.push(one),
                    Err(reason) => {
                        assert!(reason.contains("hand") || reason.contains("take this path over"), "{reason}");
                        assert_eq!(one.status().code(), Some(1));
                    }
                }
            }
            generation += left.len() as u64;
            let now = wait_for_generation(addr, generation);
            let at = left.iter().position(|one| one.pid().as_raw_nonzero().get() == now.pid).unwrap();
            let next = left.remove(at);
            std::mem::replace(&mut serving, next).ended();
            left.into_iter().for_each(Process::ended);
            assert_eq!(get(addr, "/7"), "7");
        }
    });
    serving.signal(Signal::TERM);
    serving.ended();
}

#[test]
fn of_two_that_find_no_process_one_serves_in_the_end() {
    let folder = folder();
    let settings = met(folder.path().join("handoff.sock"));
    let both = [Process::start(&settings), Process::start(&settings)];
    let addrs = both.each_ref().map(Process::addr);
    assert_eq!(addrs[0], addrs[1], "the second has met the first");
    wait_for_generation(addrs[0], 1).signal(Signal::TERM);
    both.into_iter().for_each(Process::ended);
}
