//! A system that gives no more threads: the handoff is refused, and every request is answered.

use std::{env, fs, process::Command};

use rustix::{
    fs::{Gid, Uid, chown},
    process::Signal,
};

use crate::support::{needs, service::Service};

/// The requests in flight.
const HELD: usize = 10;

/// The room for more threads that is tried at the most; with so much, a handoff succeeds.
const MOST: u64 = 32;

#[test]
fn a_hand_over_without_room_for_a_thread_is_refused_and_every_request_is_answered() {
    // Limits of processes hold for all that a user has, and not for root.
    limited(0, 61_234);
}

#[test]
fn the_same_holds_on_one_thread() {
    limited(1, 61_235);
}

#[track_caller]
fn limited(current_thread: u8, user: u32) {
    needs::program("setpriv", "util-linux");
    let service = Service::start_as(&format!("current_thread={current_thread} handoff_timeout=2000"), |folder| {
        // A copy, as no other user may enter a home directory.
        let program = folder.join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        chown(folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(user))).expect("this test runs as root");
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()])
            .arg(program)
            .current_dir(folder);
        command
    });
    service.gate("gate");
    chown(service.folder().join("gate"), Some(Uid::from_raw(user)), None).unwrap();
    let mut held: Vec<_> = (1..=HELD).map(|_| service.connect()).collect();
    for (client, id) in held.iter_mut().zip(1..) {
        client.ask(&format!("/slow/gate/{id}")).unwrap();
    }
    service.wait_for_some(HELD, |line| line.text == "holds gate");
    let first = service.who();

    // No room at all; then more and more, up to where all of the new process has room but for threads that help.
    service.get("/tasks/0");
    service.signal(first.pid, Signal::HUP);
    service.wait_for(|line| line.text.starts_with("failed ") && line.text.contains("TasksMax="));
    assert_eq!(service.who(), first);
    let room = (0..MOST).find(|room| {
        service.get(&format!("/tasks/{room}"));
        service.ask_to_hand_over().is_ok()
    });
    assert!(room.is_some_and(|room| room > 0), "{room:?}: {}", service.log());

    let second = service.wait_until_after(first);
    (0..HELD).for_each(|_| service.open("gate"));
    for (client, id) in held.iter_mut().zip(1..) {
        assert_eq!(client.answer().unwrap().text(), id.to_string());
    }
    service.wait_for_end(first.pid);
    assert_eq!(service.who(), second);
    let (_, processed) = service.end();
    processed.assert_each_once(HELD as u64);
}
