//! `LISTEN_PID`, `LISTEN_PIDFDID`, `LISTEN_FDS` and `LISTEN_FDNAMES` that say something impossible.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt, net::UnixDatagram as StdUnixDatagram},
    process::Command,
};

use axum_activation::{ActivatedListeners, Error, ForeignPid};
use serde::{Deserialize, Serialize};

use crate::support::{
    fd_table::FdTable,
    seen::SeenError,
    sockets,
    subprocess::{ChildIo, Subprocess},
};

/// The part of every message about the environment that says what to do.
const FIX_IT: &str = "fix it there or unset it";

/// What a subprocess saw that claims what it was passed, and then once more if it is addressed to another.
#[derive(Debug, Serialize, Deserialize)]
struct Claimed {
    before: FdTable,
    outcome: Result<Vec<String>, SeenError>,
    after: FdTable,
    forced: Result<Vec<String>, SeenError>,
    after_forced: FdTable,
}

pub(crate) fn claim(io: &ChildIo) {
    let before = FdTable::now();
    let outcome = names(ActivatedListeners::from_env());
    let after = FdTable::now();
    let forced = names(ActivatedListeners::builder().ignore_pid().from_env());
    io.say(Claimed { before, outcome, after, forced, after_forced: FdTable::now() });
}

/// Claims, and then starts itself once more with the same environment.
pub(crate) fn claim_and_start_a_child(io: &ChildIo) {
    claim(io);
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(env::args_os().skip(1)).env("SUBPROCESS", "claim");
    assert!(child.status().unwrap().success());
}

/// Leaves alone what is meant for another process.
pub(crate) fn claim_leaving(io: &ChildIo) {
    let before = FdTable::now();
    let leave = || ActivatedListeners::builder().on_foreign_pid(ForeignPid::Ignore).from_env();
    let outcome = names(leave());
    let after = FdTable::now();
    io.say(Claimed { before, outcome, after, forced: names(leave()), after_forced: FdTable::now() });
}

/// Opens a file before it claims: the file is in the range that `LISTEN_FDS` names.
pub(crate) fn claim_beside_own_file(io: &ChildIo) {
    let own = fs::File::open("/dev/null").unwrap();
    claim(io);
    drop(own);
}

fn names(claimed: Result<ActivatedListeners, Error>) -> Result<Vec<String>, SeenError> {
    claimed.map(|set| set.names()).map_err(|error| SeenError::from(&error))
}

/// The report of a claim that must fail and leave every descriptor as it was.
#[track_caller]
fn refused(subprocess: Subprocess, says: &[&str]) -> Claimed {
    let claimed: Claimed = subprocess.report();
    let error = claimed.outcome.as_ref().expect_err("the claim was to fail");
    error.assert_says(says);
    assert_eq!(claimed.after, claimed.before, "a refused claim touched a descriptor");
    claimed
}

/// As [`refused`], for what no option can get around.
#[track_caller]
fn refused_for_good(subprocess: Subprocess, says: &[&str]) -> Claimed {
    let claimed = refused(subprocess, says);
    assert_eq!(claimed.outcome.as_ref().unwrap_err().is, ["invalid_environment"]);
    assert_eq!(claimed.forced, claimed.outcome);
    assert_eq!(claimed.after_forced, claimed.before);
    claimed
}

/// As [`refused`], for what `ignore_pid` gets around: the same process has its socket then.
#[track_caller]
fn refused_until_forced(subprocess: Subprocess, is: &str, says: &[&str]) {
    let claimed = refused(subprocess, says);
    assert_eq!(claimed.outcome.unwrap_err().is, [is]);
    assert!(!claimed.after.0[&3].close_on_exec);
    assert_eq!(claimed.forced.unwrap(), ["http"]);
    assert!(claimed.after_forced.is_owned(3));
    assert_eq!(claimed.after_forced.targets(), claimed.before.targets());
}

fn passed() -> Subprocess {
    Subprocess::new("claim").fd(sockets::tcp()).own_pid()
}

#[test]
fn a_count_that_is_no_number_is_refused() {
    refused_for_good(
        passed().count("two"),
        &["LISTEN_FDS=\"two\" is not a number of file descriptors", "systemd", FIX_IT],
    );
}

#[test]
fn a_negative_count_is_refused() {
    refused_for_good(passed().count("-1"), &["LISTEN_FDS=\"-1\" is not a number of file descriptors", FIX_IT]);
}

#[test]
fn a_count_that_no_process_can_have_open_is_refused() {
    for count in ["2147483645", "18446744073709551615"] {
        let says = format!("LISTEN_FDS=\"{count}\" is more than a process can have open");
        refused_for_good(passed().count(count), &[&says, FIX_IT]);
    }
}

#[test]
fn a_count_beyond_the_fd_table_names_the_first_descriptor_that_is_not_open() {
    let says = ["LISTEN_FDS=1000000 promises descriptors 3 to 1000002, but descriptor 4 is not open", "wrapper"];
    refused_for_good(passed().count("1000000"), &says);
    // Nothing may be made of the number before: it would not fit into memory.
    let says = ["LISTEN_FDS=2147483644 promises descriptors 3 to 2147483646, but descriptor 4 is not open"];
    refused_for_good(passed().count("2147483644"), &says);
}

#[test]
fn a_closed_descriptor_in_the_range_is_named() {
    let subprocess = Subprocess::new("claim").fd(sockets::tcp()).closed().fd(sockets::tcp()).own_pid().count("3");
    let claimed = refused_for_good(
        subprocess,
        &["LISTEN_FDS=3 promises descriptors 3 to 5, but descriptor 4 is not open", "wrapper"],
    );
    assert_eq!([3, 4, 5].map(|fd| claimed.after.0.contains_key(&fd)), [true, false, true]);
}

#[test]
fn a_promise_of_one_closed_descriptor_is_refused() {
    let subprocess = Subprocess::new("claim").own_pid().count("1");
    refused_for_good(subprocess, &["LISTEN_FDS=1 promises descriptor 3, but descriptor 3 is not open"]);
}

#[test]
fn a_file_that_this_process_opened_itself_is_not_stolen() {
    let subprocess = Subprocess::new("claim_beside_own_file").fd(sockets::tcp()).own_pid().count("2");
    let claimed = refused_for_good(
        subprocess,
        &[
            "LISTEN_FDS=2 promises descriptors 3 to 4, but descriptor 4 is close-on-exec",
            "call from_env first thing in main",
        ],
    );
    assert_eq!(claimed.after.0[&4].target, "/dev/null");
}

#[test]
fn fewer_names_than_descriptors_are_refused() {
    let subprocess = Subprocess::new("claim").fd(sockets::tcp()).fd(sockets::tcp()).own_pid().count("2").names("http");
    refused_for_good(subprocess, &["LISTEN_FDNAMES=\"http\" holds 1 names, but LISTEN_FDS=2", FIX_IT]);
}

#[test]
fn more_names_than_descriptors_are_refused() {
    let says = ["LISTEN_FDNAMES=\"http:admin\" holds 2 names, but LISTEN_FDS=1", FIX_IT];
    refused_for_good(passed().count("1").names("http:admin"), &says);
}

#[test]
fn names_that_are_no_text_are_refused() {
    let names = OsString::from_vec(b"ht\xfftp".to_vec());
    refused_for_good(passed().count("1").names(names), &["LISTEN_FDNAMES=\"ht\u{fffd}tp\" is not valid UTF-8", FIX_IT]);
}

#[test]
fn a_name_with_a_control_character_is_refused() {
    let says = ["LISTEN_FDNAMES=\"a\\tb\" holds the name \"a\\tb\": it contains a control character", FIX_IT];
    refused_for_good(passed().count("1").names("a\tb"), &says);
}

#[test]
fn a_name_that_is_not_ascii_is_refused() {
    refused_for_good(
        passed().count("1").names("größe"),
        &["\"größe\": it contains a character that is not ASCII", FIX_IT],
    );
}

#[test]
fn a_name_of_256_bytes_is_refused_and_one_of_255_is_taken() {
    refused_for_good(passed().count("1").names("x".repeat(256)), &["it is longer than 255 bytes", FIX_IT]);
    let longest = "x".repeat(255);
    let claimed: Claimed = passed().count("1").names(&longest).report();
    assert_eq!(claimed.outcome.unwrap(), [longest]);
}

#[test]
fn sockets_for_another_process_are_refused_unless_allowed() {
    let subprocess = Subprocess::new("claim").fd(sockets::tcp()).pid("1").count("1").names("http");
    let says = ["LISTEN_PID=1 names another process, this one is ", "exec program", "unset LISTEN_FDS", "ignore_pid()"];
    refused_until_forced(subprocess, "pid_mismatch", &says);
}

#[test]
fn sockets_for_another_process_can_be_left_alone() {
    let subprocess = Subprocess::new("claim_leaving").fd(sockets::tcp()).pid("1").count("1").names("http");
    let claimed: Claimed = subprocess.report();
    assert!(claimed.outcome.unwrap().is_empty() && claimed.forced.unwrap().is_empty());
    assert_eq!(claimed.before, claimed.after);
    let own: Claimed = Subprocess::new("claim_leaving").fd(sockets::tcp()).own_pid().count("1").names("http").report();
    assert_eq!(own.outcome.unwrap(), ["http"]);
}

#[test]
fn a_pid_that_is_no_number_is_refused_unless_allowed() {
    let subprocess = Subprocess::new("claim").fd(sockets::tcp()).pid("me").count("1").names("http");
    refused_until_forced(subprocess, "invalid_environment", &["LISTEN_PID=\"me\" is not a process id", FIX_IT]);
}

#[test]
fn a_wrong_pidfd_id_is_refused_unless_allowed() {
    let subprocess = passed().count("1").names("http").pidfd_id("4");
    let says = ["LISTEN_PIDFDID=4 names another process, this one is ", "exec program", "ignore_pid()"];
    refused_until_forced(subprocess, "pid_mismatch", &says);
}

#[test]
fn a_pidfd_id_that_is_no_number_is_refused_unless_allowed() {
    let subprocess = passed().count("1").names("http").pidfd_id("four");
    let says = ["LISTEN_PIDFDID=\"four\" is not the inode number of a pidfd", FIX_IT];
    refused_until_forced(subprocess, "invalid_environment", &says);
}

#[test]
fn the_right_pidfd_id_is_taken() {
    let claimed: Claimed = passed().count("1").names("http").own_pidfd_id().report();
    assert_eq!(claimed.outcome.unwrap(), ["http"]);
    assert!(claimed.after.is_owned(3));
}

#[test]
fn a_count_without_a_pid_passes_sockets_that_wait_for_clients() {
    let subprocess = Subprocess::new("claim").fd(sockets::tcp()).fd(sockets::udp()).fd(sockets::unix_datagram());
    let claimed: Claimed = subprocess.count("3").names("http:dns:log").report();
    assert_eq!(claimed.outcome.unwrap(), ["http", "dns", "log"]);
    assert!((3..6).all(|fd| claimed.after.is_owned(fd)));
}

#[test]
fn a_count_without_a_pid_passes_nothing_where_one_descriptor_is_something_else() {
    let beside = |subprocess: Subprocess| subprocess.fd(sockets::tcp());
    let passed = || beside(Subprocess::new("claim"));
    for (what, subprocess) in [
        ("closed", passed()),
        ("closed, and one behind it", beside(passed().closed())),
        ("a pipe", passed().fd(sockets::a_pipe())),
        ("a device", passed().fd(sockets::device())),
        ("a connection", passed().fd(sockets::tcp_connection().0)),
        ("connected datagrams", passed().fd(StdUnixDatagram::pair().unwrap().0)),
        ("bound, and deaf", passed().fd(sockets::not_yet_listening())),
        ("a file of this process", beside(Subprocess::new("claim_beside_own_file"))),
    ] {
        let claimed: Claimed = subprocess.count("2").report();
        assert_eq!(claimed.outcome, Ok(Vec::new()), "{what}");
        assert_eq!(claimed.after, claimed.before, "{what}");
    }
}

#[test]
fn a_count_without_a_pid_passes_nothing_to_a_program_that_leaves_what_is_not_its_own() {
    let claimed: Claimed = Subprocess::new("claim_leaving").fd(sockets::tcp()).count("1").names("http").report();
    assert_eq!(claimed.outcome, Ok(Vec::new()));
    assert_eq!(claimed.after, claimed.before);
}

#[test]
fn a_child_of_a_service_inherits_the_variables_and_not_the_sockets() {
    let mut service = Subprocess::new("claim_and_start_a_child").fd(sockets::tcp()).count("1").names("http").start();
    assert_eq!(service.hear::<Claimed>().outcome.unwrap(), ["http"]);
    let child: Claimed = service.hear();
    assert_eq!(child.outcome, Ok(Vec::new()));
    assert_eq!(child.after, child.before);
    service.finish();
}

#[test]
fn the_first_descriptor_may_have_another_number() {
    let subprocess = Subprocess::new("claim").fd(sockets::device()).fd(sockets::tcp()).count("1").names("http");
    let claimed: Claimed = subprocess.variable("LISTEN_FDS_FIRST_FD", "4").report();
    assert_eq!(claimed.outcome.unwrap(), ["http"]);
    assert!(claimed.after.is_owned(4) && claimed.after.0[&3] == claimed.before.0[&3]);
    let says = ["LISTEN_FDS=2 promises descriptors 4 to 5, but descriptor 5 is not open"];
    let subprocess = Subprocess::new("claim").fd(sockets::device()).fd(sockets::tcp()).own_pid().count("2");
    refused_for_good(subprocess.variable("LISTEN_FDS_FIRST_FD", "4"), &says);
}

#[test]
fn what_is_claimed_is_owned_under_its_own_number() {
    let subprocess = Subprocess::passed(
        "claim",
        [("a", sockets::tcp().into()), ("", sockets::a_pipe()), ("a", sockets::udp().into())],
    );
    let claimed: Claimed = subprocess.report();
    assert_eq!(claimed.outcome.unwrap(), ["a", ""]);
    assert_eq!(claimed.after.targets(), claimed.before.targets());
    assert!((3..6).all(|fd| !claimed.before.0[&fd].close_on_exec && claimed.after.is_owned(fd)));
}
