//! `blitiri.com.ar/go/systemd`.

use std::os::fd::OwnedFd;

use super::subprocesses::{ByName, Got};
use crate::support::{seen::SeenError, sockets, subprocess::Subprocess};

type Outcome<T> = Result<T, SeenError>;

/// Two listeners and their addresses.
fn two_listeners() -> ([OwnedFd; 2], [String; 2]) {
    let sockets = [sockets::tcp(), sockets::tcp()];
    let addrs = sockets.each_ref().map(|socket| sockets::addr(socket).to_string());
    (sockets.map(Into::into), addrs)
}

fn by_name<T: Clone>(expected: &[(&str, &[T])]) -> ByName<T> {
    expected.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect()
}

#[test]
fn files_maps_names_to_descriptors() {
    let sockets = [("b", sockets::tcp().into()), ("a", sockets::a_pipe()), ("b", sockets::udp().into())];
    let files: Outcome<ByName<i32>> = Subprocess::passed("files", sockets).report();
    assert_eq!(files.unwrap(), by_name(&[("b", &[3, 5]), ("a", &[4])]));
}

#[test]
fn files_gives_a_device_that_is_no_listener() {
    let files: Outcome<ByName<i32>> = Subprocess::new("files").fd(sockets::device()).own_pid().count("1").report();
    assert_eq!(files.unwrap(), by_name(&[("", &[3])]));

    let listeners = Subprocess::new("listeners").fd(sockets::device()).own_pid().count("1");
    let error = listeners.report::<Outcome<ByName<String>>>().unwrap_err();
    assert_eq!(error.is, ["wrong_kind"]);
}

#[test]
fn listeners_maps_names_to_listeners() {
    let ([first, second], [first_addr, second_addr]) = two_listeners();
    let subprocess = Subprocess::passed("listeners", [("name1", first), ("name2", second)]);
    let listeners: Outcome<ByName<String>> = subprocess.report();
    assert_eq!(listeners.unwrap(), by_name(&[("name1", &[first_addr]), ("name2", &[second_addr])]));
}

#[test]
fn listeners_maps_what_is_unnamed_to_the_empty_name() {
    let ([first, second], addrs) = two_listeners();
    let subprocess = Subprocess::new("listeners").fd(first).fd(second).own_pid().count("2");
    assert_eq!(subprocess.report::<Outcome<ByName<String>>>().unwrap(), by_name(&[("", &addrs)]));
}

#[test]
fn listeners_keeps_several_of_one_name_in_order() {
    let ([first, second], addrs) = two_listeners();
    let between = sockets::tcp();
    let between_addr = sockets::addr(&between).to_string();
    let subprocess = Subprocess::passed("listeners", [("name", first), ("other", between.into()), ("name", second)]);
    let listeners: Outcome<ByName<String>> = subprocess.report();
    assert_eq!(listeners.unwrap(), by_name(&[("name", &addrs), ("other", &[between_addr])]));
}

#[test]
fn one_listener_gives_the_listener_of_a_name() {
    let ([first, second], [_, second_addr]) = two_listeners();
    let subprocess = Subprocess::passed("one_listener", [("name1", first), ("name2", second)]).arg("name2");
    assert_eq!(subprocess.report::<Outcome<Vec<String>>>().unwrap(), [second_addr]);
}

/// Theirs gives the first and forgets the second.
#[test]
fn one_listener_serves_every_socket_of_its_name() {
    let ([first, second], addrs) = two_listeners();
    let subprocess = Subprocess::passed("one_listener", [("name", first), ("name", second)]).arg("name");
    assert_eq!(subprocess.report::<Outcome<Vec<String>>>().unwrap(), addrs);
}

/// Theirs is nil without an error.
#[test]
fn one_listener_of_an_unknown_name_is_an_error() {
    let subprocess = Subprocess::passed("one_listener", [("http", sockets::tcp().into())]).arg("nothing");
    let error = subprocess.report::<Outcome<Vec<String>>>().unwrap_err();
    assert_eq!(error.is, ["unknown_name"]);
    error.assert_says(&["no socket named \"nothing\", there is \"http\"", "FileDescriptorName=nothing", "`fallback`"]);

    let error = Subprocess::new("one_listener").own_pid().count("0").arg("nothing").report::<Outcome<Vec<String>>>();
    error.unwrap_err().assert_says(&["no socket named \"nothing\": this process was passed none"]);
}

#[test]
fn listen_with_an_ampersand_gives_the_socket_of_that_name() {
    let ([first, second], [_, second_addr]) = two_listeners();
    let subprocess = Subprocess::passed("listen", [("http", first), ("name", second)]).arg("&name");
    let [got]: [Got; 1] = subprocess.report();
    assert_eq!((got.addr.unwrap(), got.fresh), (second_addr, false));
}

#[test]
fn listen_with_an_ampersand_and_an_unknown_name_is_an_error() {
    let [got]: [Got; 1] = Subprocess::new("listen").own_pid().count("0").arg("&nothing").report();
    assert_eq!(got.addr.unwrap_err().is, ["unknown_name"]);
}

#[test]
fn listen_without_an_ampersand_opens_a_fresh_socket() {
    let subprocess = Subprocess::passed("listen", [("name", sockets::tcp().into())]).arg(":0");
    let [got]: [Got; 1] = subprocess.report();
    let addr = got.addr.unwrap();
    assert!(addr.starts_with("[::]:") && !addr.ends_with(":0"), "{addr}");
    assert!(got.fresh);
}

#[test]
fn err_pid_mismatch_is_what_every_function_fails_with_for_another_pid() {
    let wrong = |subprocess| Subprocess::new(subprocess).pid("1").count("4");
    let errors = [
        wrong("files").report::<Outcome<ByName<i32>>>().unwrap_err(),
        wrong("listeners").report::<Outcome<ByName<String>>>().unwrap_err(),
        wrong("one_listener").arg("name").report::<Outcome<Vec<String>>>().unwrap_err(),
        wrong("listen").arg("&name").report::<[Got; 1]>().map(|got| got.addr.unwrap_err())[0].clone(),
    ];
    assert!(errors.iter().all(|error| error.is == ["pid_mismatch"]), "{errors:?}");
}

#[test]
fn the_result_is_cached_over_calls() {
    let socket = sockets::tcp();
    let addr = sockets::addr(&socket).to_string();
    let subprocess = Subprocess::passed("twice", [("name", socket.into())]);
    let (before, after, same_fds, taken): ([String; 2], [String; 2], bool, Vec<String>) = subprocess.report();
    assert_eq!(before, [(); 2].map(|()| format!("[\"name: {addr} (passed)\"]")));
    assert_eq!(after, [(); 2].map(|()| format!("[\"name: {addr} (passed, taken)\"]")));
    assert!(same_fds, "a second call opened something");
    assert_eq!(taken, [addr]);
}

#[test]
fn an_empty_environment_passes_nothing() {
    for subprocess in [
        Subprocess::new("files"),
        Subprocess::new("files").pid("").count(""),
        Subprocess::new("files").pid("123"),
        Subprocess::new("files").count("4"),
        Subprocess::new("files").own_pid().count("0"),
        Subprocess::new("files").own_pid().count("0").names(""),
    ] {
        assert_eq!(subprocess.report::<Outcome<ByName<i32>>>().unwrap(), []);
    }
}

#[test]
fn a_bad_environment_fails_whatever_is_asked_for() {
    let good = |subprocess| Subprocess::new(subprocess).fd(sockets::tcp()).names("name");
    let bad: [fn(Subprocess) -> Subprocess; 4] = [
        |subprocess| subprocess.pid("a").count("1"),
        |subprocess| subprocess.own_pid().count("a"),
        |subprocess| subprocess.pid("1").count("1"),
        |subprocess| subprocess.own_pid().count("1").names("name1:name2"),
    ];
    for bad in bad {
        bad(good("files")).report::<Outcome<ByName<i32>>>().unwrap_err();
        bad(good("listeners")).report::<Outcome<ByName<String>>>().unwrap_err();
        bad(good("one_listener").arg("name")).report::<Outcome<Vec<String>>>().unwrap_err();
        let [got] = bad(good("listen").arg("&name")).report::<[Got; 1]>();
        got.addr.unwrap_err();
    }
}

/// Theirs removes the three variables.
#[test]
fn the_environment_is_left_as_it_was() {
    let mut child = Subprocess::passed("files", [("name", sockets::tcp().into())]).start();
    child.hear::<Outcome<ByName<i32>>>().unwrap();
    assert_eq!(child.hear::<[bool; 3]>(), [true; 3]);
    child.finish();
}
