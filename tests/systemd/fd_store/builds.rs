//! `systemctl restart` from today's build to the last one before connections other than idle HTTP/1 could be stored, and back.
//!
//! `OLD=1 tests/run --test systemd builds::` makes that build. Without it nothing is tested here.

use std::{env, fs};

use super::service::{ADDRESS, UNIT, Unit};
use crate::support::{http::Client, kept::Http2, old_build, systemd::Systemd, wait::eventually};

/// Where the old build is inside.
const OLD: &str = "/run/old-build";

#[test]
fn a_build_takes_from_the_store_what_it_knows_and_closes_the_rest() {
    let Some(old) = old_build::program("systemd") else { return };
    let systemd = Unit::default().start();
    fs::copy(old, systemd.path(OLD)).unwrap();
    systemd.enter_network();
    let new = env::current_exe().unwrap().display().to_string();
    let mut before = new.clone();
    for (after, keeps_http2) in [(new.clone(), true), (OLD.to_owned(), false), (OLD.to_owned(), false), (new, false)] {
        println!("{before} is replaced by {after}");
        let mut http1 = Client::connect(ADDRESS).unwrap();
        let mut http2 = Http2::connect(ADDRESS.parse().unwrap());
        let pid = http1.get("/pid").unwrap().text().to_owned();
        assert_eq!(http2.get("/pid").unwrap(), pid);
        replace(&systemd, &before, &after);
        systemd.run(&["systemctl", "restart", UNIT]);
        assert_ne!(http1.get("/pid").unwrap().text(), pid, "{}", systemd.log(UNIT));
        if keeps_http2 {
            eventually("another process answers", || http2.get("/pid").unwrap() != pid);
            assert!(!http2.has_ended());
        } else {
            http2.wait_for_end();
        }
        before = after;
    }
    let log = systemd.log(UNIT);
    assert!(log.contains("written by another version"), "{log}");
}

/// Lets the unit start another program from now on.
fn replace(systemd: &Systemd, before: &str, after: &str) {
    let path = systemd.path("/run/units").join(UNIT);
    let unit = fs::read_to_string(&path).unwrap();
    fs::write(&path, unit.replace(before, after)).unwrap();
    systemd.run(&["systemctl", "daemon-reload"]);
}
