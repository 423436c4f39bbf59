//! What a line of generations leaves behind: nothing.

use std::{collections::BTreeMap, fs};

use super::support::service::{Service, Who};

#[test]
fn after_many_generations_a_process_has_what_the_first_had() {
    let service = Service::start("");
    let first = service.who();
    let (fds, memory) = (descriptors(first.pid), resident(first.pid));
    for _ in 0..20 {
        let Who { pid, .. } = service.hand_over();
        service.wait_for_word(pid, "is alone");
    }
    let last = service.who();
    assert_eq!(descriptors(last.pid), fds);
    let grown = resident(last.pid);
    assert!(grown < memory * 3 / 2, "{memory} kB in the first generation, {grown} kB in the last");
    assert_eq!(service.running(), [last.pid]);
    for pid in service.pids() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The first is a child of this test, which has not waited for it yet.
        let is_zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        assert!(!is_zombie || pid == first.pid || parent(&stat) == Some(1), "a zombie is left: {stat}");
    }
    service.end();
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
    assert_eq!(descriptors(old.pid), fds);
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

/// In kB, without what is shared with a file.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn parent(stat: &str) -> Option<u32> {
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}
