//! What a line of generations leaves behind: nothing.

use std::{collections::BTreeMap, fs};

use crate::support::{
    service::{Service, Who},
    wait::find,
};

#[test]
fn nothing_comes_to_the_next_process_but_the_streams_and_the_sockets() {
    let service = Service::start("names=http,admin");
    // What is open here without close-on-exec is what the first generation has got.
    let new = service.hand_over();
    assert_eq!(
        service.wait_for_word(new.pid, "holds descriptors "),
        "0 1 2 3 4 5",
        "two listeners, one control socket"
    );
    service.end();
}

#[test]
fn after_many_generations_a_process_has_what_the_second_had() {
    let service = Service::start("");
    let second = alone_after_hand_over(&service);
    let (fds, memory) = (descriptors(second), resident(second));
    for _ in 0..20 {
        alone_after_hand_over(&service);
    }
    let last = alone_after_hand_over(&service);
    find(|| format!("{fds:?} at first, {:?} at last", descriptors(last)), || has_no_more(last, &fds).then_some(()));
    let grown = resident(last);
    assert!(grown < memory * 3 / 2, "{memory} kB at first, {grown} kB at last");
    let pids = service.pids();
    service.eventually("the last one runs alone", || service.running() == [last]);
    // The first is a child of this test, which has not waited for it yet.
    service.eventually("no zombie is left", || pids[1..].iter().all(|pid| !is_zombie(*pid)));
    service.end();
}

fn alone_after_hand_over(service: &Service) -> u32 {
    let Who { pid, .. } = service.hand_over();
    service.wait_for_word(pid, "is alone");
    pid
}

#[test]
fn a_hand_over_that_failed_leaves_no_descriptor_behind() {
    let service = Service::start("handoff_timeout=200");
    let old = service.who();
    let fds = descriptors(old.pid);
    for (step, words) in
        [("start", "exit 1"), ("import", "fail"), ("ready", "abort"), ("ready", "hang"), ("before", "fail")]
    {
        service.plan(step, words);
        service.ask_to_hand_over().unwrap_err();
    }
    find(|| format!("{fds:?} before, {:?} after", descriptors(old.pid)), || has_no_more(old.pid, &fds).then_some(()));
    service.end();
}

/// How many descriptors of each kind a process has open: `socket`, `pipe`, `anon_inode` and what it is, or a path.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let Ok(target) = fs::read_link(fd.unwrap().path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let kind = match target.split_once(':') {
            Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
            _ => target,
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Whether a process has no more of any kind; it may have less, as a connection that was open has ended.
fn has_no_more(pid: u32, than: &BTreeMap<String, usize>) -> bool {
    descriptors(pid).iter().all(|(kind, count)| than.get(kind) >= Some(count))
}

/// In kB, without what is shared with a file.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Whether it has ended and no process has waited for it: init does for orphans, and where there is none worth the name, none ever does.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    rest.starts_with("Z ") && !rest.starts_with("Z 1 ")
}
