//! What the next process has: its sockets, its variables, and nothing else.

use std::{
    collections::BTreeMap,
    env,
    os::fd::{AsFd, OwnedFd},
};

use axum_activation::ActivatedListeners;
use rustix::{
    io::FdFlags,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use serde::{Deserialize, Serialize};

use super::{start_all, start_process};
use crate::support::{
    fd_table::FdTable,
    subprocess::{ChildIo, Subprocess},
};

/// More files than this a test does not need, and a service may have no more.
const FEW_FILES: u64 = 1_024;

/// Variables that tell the next process who it is.
const PASSED: [&str; 7] =
    ["LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "SUBPROCESS_ARG"];

/// What the first process says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct First {
    pid: u32,
    started: Result<u32, String>,
    fds: FdTable,
    /// What it passed, as its own table shows it.
    passed: Vec<String>,
}

/// What the next one says.
#[derive(Debug, Serialize, Deserialize)]
struct Next {
    pid: u32,
    parent: i32,
    directory: String,
    arguments: Vec<String>,
    given: BTreeMap<String, String>,
    fds: FdTable,
}

impl Next {
    fn of_this_process() -> Self {
        let fds = FdTable::now();
        Self {
            pid: std::process::id(),
            parent: rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid),
            directory: env::current_dir().unwrap().to_str().unwrap().to_owned(),
            arguments: env::args().collect(),
            given: PASSED.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect(),
            fds,
        }
    }
}

/// Is passed three sockets at 3, 4 and 5, and passes them on in another order, one of them twice.
pub(crate) fn pass_on(io: &ChildIo) {
    if env::var("LISTEN_FDNAMES").is_ok_and(|names| names.contains("next")) {
        return io.say(Next::of_this_process());
    }
    let activated = ActivatedListeners::from_env().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| activated.files(name).unwrap().remove(0));
    let _inheritable = [6, 20, 500].map(inheritable_file);
    env::set_current_dir("/").unwrap();
    let copy = a.as_fd().try_clone_to_owned().unwrap();
    let passed = [&c, &a, &b, &copy].map(target).to_vec();
    let fds = FdTable::now();
    let started = start_process([("next-c", c), ("next-a", a), ("", b), ("next-a", copy)]);
    io.say(First { pid: std::process::id(), started, fds, passed });
}

/// Opens a thousand files and passes them on, with hardly room for them once.
pub(crate) fn pass_many(io: &ChildIo) {
    if env::var("LISTEN_FDS").is_ok() {
        return io.say(FdTable::now());
    }
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW_FILES), maximum: hard }).unwrap();
    let mut files: Vec<_> =
        (0..1_000).map(|i| (format!("f{i}"), OwnedFd::from(tempfile::tempfile().unwrap()))).collect();
    files.reverse();
    let passed: Vec<_> = files.iter().map(|(_, fd)| target(fd)).collect();
    io.say(passed);
    io.say(start_all(files));
}

fn target(fd: &OwnedFd) -> String {
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
    std::fs::read_link(link).unwrap().to_str().unwrap().to_owned()
}

/// As a careless library leaves one, at this number or above.
fn inheritable_file(number: i32) -> OwnedFd {
    let file = rustix::io::fcntl_dupfd_cloexec(tempfile::tempfile().unwrap(), number).unwrap();
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
    file
}

fn passed_on() -> (First, Next) {
    let sockets =
        ["a", "b", "c"].map(|name| (name, OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap())));
    let subprocess = Subprocess::passed("pass_on", sockets).own_pidfd_id().arg("stays");
    let mut first = subprocess.variable("WATCHDOG_USEC", "9000000").variable("WATCHDOG_PID", "1").start();
    // The next process shares standard output with the first, and may be the quicker.
    let said = [first.hear::<serde_json::Value>(), first.hear()];
    first.finish();
    let [next, first] = if said[0].get("started").is_some() { [&said[1], &said[0]] } else { [&said[0], &said[1]] };
    (serde_json::from_value(first.clone()).unwrap(), serde_json::from_value(next.clone()).unwrap())
}

#[test]
fn the_next_process_has_what_it_is_passed_in_order_and_nothing_else() {
    let (first, next) = passed_on();
    let fds: Vec<_> = next.fds.targets().into_iter().filter(|(fd, _)| *fd > 2).collect();
    let expected: Vec<_> = (3..).zip(first.passed.iter().map(String::as_str)).collect();
    assert_eq!(fds, expected);
    assert!(next.fds.0.values().all(|entry| !entry.close_on_exec), "{:?}", next.fds);
    let streams = |table: &FdTable| (0..3).map(|fd| table.0[&fd].target.clone()).collect::<Vec<_>>();
    assert_eq!(streams(&next.fds), streams(&first.fds));
}

#[test]
fn the_next_process_gets_what_says_who_it_is_and_nothing_of_its_predecessor() {
    let (first, next) = passed_on();
    let pid = next.pid.to_string();
    assert_eq!(first.started, Ok(next.pid));
    let given = [
        ("LISTEN_FDNAMES", "next-c:next-a::next-a"),
        ("LISTEN_FDS", "4"),
        ("LISTEN_PID", &pid),
        ("SUBPROCESS_ARG", "stays"),
        ("WATCHDOG_PID", &pid),
        ("WATCHDOG_USEC", "9000000"),
    ];
    assert_eq!(next.given, given.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(next.arguments, env::args().take(1).chain(SUBPROCESS_ARGUMENTS.map(str::to_owned)).collect::<Vec<_>>());
    assert_eq!(next.directory, env::current_dir().unwrap().to_str().unwrap(), "not where the first one went");
}

/// What [`Subprocess`] gives the test binary.
const SUBPROCESS_ARGUMENTS: [&str; 5] = ["--exact", "subprocess", "--nocapture", "--test-threads=1", "--quiet"];

#[test]
fn the_next_process_is_no_child_of_its_predecessor() {
    let (first, next) = passed_on();
    assert_ne!(u32::try_from(next.parent).unwrap(), first.pid);
}

#[test]
fn a_thousand_files_are_passed_by_a_process_that_may_have_hardly_more() {
    let mut first = Subprocess::new("pass_many").start();
    let passed: Vec<String> = first.hear();
    let said = [first.hear::<serde_json::Value>(), first.hear()];
    first.finish();
    let table = said.into_iter().find_map(|said| serde_json::from_value::<FdTable>(said).ok()).unwrap();
    let got: Vec<_> = table.targets().into_iter().filter(|(fd, _)| *fd > 2).collect();
    let expected: Vec<_> = (3..).zip(passed.iter().map(String::as_str)).collect();
    assert_eq!(got, expected);
}
