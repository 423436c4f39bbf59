//! Where the store is full or absent, and what it is not to keep.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    crashes::{connect, main_pid, stored},
    restarts::{CLIENTS, restarted},
    service::{UNIT, Unit},
};
use crate::support::{clients::Habit, systemd::has, wait::eventually};

const RESTARTS: usize = 5;

/// They wait no longer than the keep-alive grace, and look before they send.
const LOOKING: Habit = Habit { thinks: Duration::from_millis(50), posts: false, opens: false, looks: true };

#[test]
fn what_finds_the_store_full_is_drained_in_order() {
    let systemd = Unit { store: 3, ..Unit::default() }.start();
    let outcome = restarted(&systemd, LOOKING, RESTARTS);
    assert!(outcome.lost.is_empty(), "{:?}\n{}", outcome.lost, systemd.log(UNIT));
    let log = systemd.log(UNIT);
    assert_eq!(log.matches("1 moved").count(), RESTARTS, "one at each restart:\n{log}");
    let opened = CLIENTS + RESTARTS * (CLIENTS - 1);
    assert_eq!(outcome.opened, opened as u64, "all but one were closed at each restart");
}

#[test]
fn without_a_store_every_connection_is_drained_in_order() {
    let systemd = Unit { store: 0, socket: true, ..Unit::default() }.start();
    let outcome = restarted(&systemd, LOOKING, RESTARTS);
    assert!(outcome.lost.is_empty(), "{:?}\n{}", outcome.lost, systemd.log(UNIT));
    assert_eq!(outcome.opened, (CLIENTS + RESTARTS * CLIENTS) as u64);
    assert!(!systemd.log(UNIT).contains("moved"), "{}", systemd.log(UNIT));
}

#[test]
fn a_client_that_hangs_up_while_its_connection_is_stored_is_forgotten() {
    let systemd = Unit::default().start();
    let (gone, reset, mut stays, mut slow) =
        (connect(&systemd), connect(&systemd), connect(&systemd), connect(&systemd));
    slow.ask("/slow/3000").unwrap();
    systemd.run(&["systemctl", "restart", "--no-block", UNIT]);
    eventually("three are stored", || stored(&systemd) == 5);
    drop(gone);
    reset.reset();
    eventually("systemd has dropped one by itself", || stored(&systemd) == 4);
    assert_eq!(slow.answer().unwrap().text(), "3000");
    stays.get("/1").unwrap();
    slow.get("/1").unwrap();
    let log = systemd.log(UNIT);
    assert!(log.contains("connections of the process before stored=3 gone=1"), "{log}");
}

#[test]
fn a_stop_ends_them_and_a_hand_over_stores_nothing_but_the_listener() {
    let systemd = Unit::default().start();
    let mut kept = connect(&systemd);
    let old = main_pid(&systemd);
    systemd.run(&["systemctl", "kill", "--kill-who=main", "--signal=HUP", UNIT]);
    eventually("the next process", || main_pid(&systemd) != old);
    let new = main_pid(&systemd);
    eventually("it serves", || kept.get("/pid").unwrap().text() == new);
    eventually("the old one is gone", || !systemd.path(&format!("/proc/{old}")).exists());
    assert_eq!(stored(&systemd), 1);

    systemd.run(&["systemctl", "restart", UNIT]);
    assert_eq!(kept.get("/pid").unwrap().text(), main_pid(&systemd));
    eventually("the listener is stored, and once", || stored(&systemd) == 1);

    systemd.run(&["systemctl", "stop", UNIT]);
    assert!(kept.get("/pid").is_err());
}

#[test]
fn where_the_unit_says_so_a_stop_and_a_start_keep_them() {
    if !has("FileDescriptorStorePreserve=", 254) {
        return;
    }
    let unit = Unit { socket: true, lines: "FileDescriptorStorePreserve=yes", ..Unit::default() };
    let systemd = unit.start();
    let mut kept: Vec<_> = (0..20).map(|_| connect(&systemd)).collect();
    let old = main_pid(&systemd);
    // The service alone: its socket unit is what still refers to it.
    systemd.run(&["systemctl", "stop", UNIT]);
    assert_eq!((main_pid(&systemd).as_str(), stored(&systemd)), ("0", kept.len() + 1), "with what belongs to them");
    kept[0].ask("/pid").unwrap();
    systemd.run(&["systemctl", "start", UNIT]);
    let new = main_pid(&systemd);
    assert_ne!(new, old);
    assert_eq!(kept[0].answer().unwrap().text(), new, "it was asked while no process ran");
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/pid").unwrap().text(), new));
    eventually("nothing is left in the store", || stored(&systemd) == 0);
}

/// systemd compares each with all that it has, so the time grows with the square.
#[test]
#[ignore = "takes 11,000 descriptors and some minutes, and says how long it takes"]
fn as_many_idle_connections_as_there_is_time_for_outlive_a_restart() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|most| most > 11_000), "this test needs 11,000 descriptors (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    for idle in [100, 1_000, 3_000, 10_000] {
        let systemd =
            Unit { store: 12_000, lines: "LimitNOFILE=50000\nEnvironment=APP_DRAIN=300", ..Unit::default() }.start();
        let mut wires: Vec<_> = (0..idle).map(|_| connect(&systemd)).collect();
        let (old, began) = (main_pid(&systemd), Instant::now());
        systemd.run(&["systemctl", "restart", "--no-block", UNIT]);
        // Longer than any other test waits: how long it takes is what this one says.
        while ["0", &old].contains(&&*main_pid(&systemd)) {}
        let restarted = began.elapsed();
        wires.iter_mut().for_each(|client| client.ask("/1").unwrap());
        wires.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().text(), "1"));
        println!("{idle} idle connections: restarted in {restarted:.2?}, all answered after {:.2?}", began.elapsed());
    }
}
