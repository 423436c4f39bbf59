//! Units made wrong on purpose, the units that are shipped, typical ones, and what systemd itself thinks of them.
//!
//! Some need root and Debian's packages systemd, util-linux, bsdutils and curl.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod documents;
mod faults;
mod files;
mod judged;
mod program;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, path::Path};

use axum_activation::unit_check::{Expectation, Finding, Severity, Units, check};

use self::faults::{Way, faults};

#[test]
fn each_fault_is_found_where_it_is_and_nothing_else() {
    for fault in faults() {
        let findings = check(&units(&fault.files()), &fault.expectation());
        assert_eq!(brief(&findings), [(fault.unit, fault.directive)], "{fault}\n{}", printed(&findings));
        let finding = &findings[0];
        assert_eq!(finding.severity, fault.severity, "{fault}");
        assert!(finding.problem.contains(fault.directive) || fault.is_about_a_name(), "{fault}: {}", finding.problem);
        if let Some((file, line)) = &finding.place {
            let files = fault.files();
            let (_, text) = files.iter().find(|(name, _)| name == file).expect("the place is in a file that is there");
            let text = text.lines().nth(line - 1).expect("the line is there");
            assert!(text.starts_with(&format!("{}=", fault.directive)), "{fault}: {file}:{line} is {text:?}");
        }
    }
}

#[test]
fn the_fix_of_a_fault_leaves_nothing_to_be_found() {
    for fault in faults() {
        let (units, expectation) = (units(&fault.files()), fault.expectation());
        let fix = &check(&units, &expectation)[0].fix;
        let left = check(&units.fixed(fix), &expectation);
        let is_fixed = if fault.has_more_to_fix {
            !brief(&left).contains(&(fault.unit, fault.directive))
        } else {
            left.is_empty()
        };
        assert!(is_fixed, "{fault}: after\n{}\nthere is\n{}", fix.drop_in(), printed(&left));
    }
}

#[test]
fn the_shipped_units_have_no_fault() {
    for way in Way::ALL {
        let findings = check(&units(&way.files()), &way.expectation());
        assert!(findings.is_empty(), "{way:?}\n{}", printed(&findings));
    }
}

#[test]
fn every_shipped_unit_is_among_those_that_are_checked_here() {
    let mut checked: Vec<_> =
        Way::ALL.iter().flat_map(|way| way.shipped().iter().copied()).chain(["README.md"]).collect();
    checked.sort_unstable();
    checked.dedup();
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd")).unwrap();
    let mut there: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort_unstable();
    assert_eq!(checked, there);
}

#[test]
fn typical_units_raise_no_alarm() {
    let expectation = || Expectation::new().name("http");
    let quiet = "[Unit]\nStartLimitIntervalSec=0\n";
    let socket = "[Socket]\nListenStream=80\nFileDescriptorName=http\n";
    let service = format!("{quiet}[Service]\nType=notify\nExecStart=/usr/bin/app\nNonBlocking=yes\n");
    let more = |lines: &str| format!("{service}{lines}\n");
    for (what, files) in [
        ("the least", vec![("app.service", service.clone()), ("app.socket", socket.to_owned())]),
        (
            "a timeout for ever",
            vec![("app.service", more("TimeoutStopSec=infinity")), ("app.socket", socket.to_owned())],
        ),
        ("the other way to say so", vec![("app.service", more("TimeoutStopSec=0")), ("app.socket", socket.to_owned())]),
        ("one timeout for both", vec![("app.service", more("TimeoutSec=1min 5s")), ("app.socket", socket.to_owned())]),
        (
            "limits under their old names",
            vec![
                ("app.service", service.replace(quiet, "") + "StartLimitInterval=0\n"),
                ("app.socket", socket.to_owned()),
            ],
        ),
        ("no burst", vec![("app.service", service.replace("IntervalSec", "Burst")), ("app.socket", socket.to_owned())]),
        (
            "KillMode=mixed without a handoff",
            vec![("app.service", more("KillMode=mixed")), ("app.socket", socket.to_owned())],
        ),
        (
            "settings of systemd 258 to 262",
            vec![
                (
                    "app.service",
                    more("RefreshOnReload=yes\nExecReloadPost=/bin/true\nFileDescriptorStorePreserve=on-success"),
                ),
                ("app.socket", format!("{socket}DeferTrigger=patient\nPassPIDFD=yes\n")),
            ],
        ),
        (
            "a program that is no script, whatever its name",
            vec![("app.service", more("ExecStart=\nExecStart=/bin/true")), ("app.socket", socket.to_owned())],
        ),
        (
            "a socket that stays where its directory does",
            vec![
                ("app.service", more("RuntimeDirectory=app\nRuntimeDirectoryPreserve=yes")),
                ("app.socket", format!("{socket}ListenStream=/run/app/http.sock\n")),
            ],
        ),
        (
            "a socket for a group",
            vec![
                ("app.service", service.clone()),
                ("app.socket", format!("{socket}ListenStream=/run/app.sock\nSocketMode=0660\nSocketGroup=www-data\n")),
            ],
        ),
        (
            "a shell that execs",
            vec![
                ("app.service", more("ExecStart=\nExecStart=/bin/sh -c 'cd /srv && exec \"$APP\" --port 1'")),
                ("app.socket", socket.to_owned()),
            ],
        ),
        (
            "a name from a specifier",
            vec![
                ("http.service", service.clone()),
                ("http.socket", "[Socket]\nListenStream=80\nFileDescriptorName=%p\n".into()),
            ],
        ),
        (
            "a socket of another name",
            vec![("app.service", service.clone()), ("front.socket", format!("{socket}Service=app.service\n"))],
        ),
        ("an instance of each", vec![("app@1.service", service.clone()), ("app@1.socket", socket.to_owned())]),
        ("templates", vec![("app@.service", service.clone()), ("app@.socket", socket.to_owned())]),
        (
            "an instance by name",
            vec![("app@.service", service.clone()), ("app.socket", format!("{socket}Service=app@x.service"))],
        ),
        (
            "a datagram socket beside",
            vec![
                ("app.service", service.clone()),
                ("app.socket", socket.to_owned()),
                ("log.socket", "[Socket]\nListenDatagram=/run/log\nService=app.service\n".into()),
            ],
        ),
        (
            "addresses with and without Unix",
            vec![
                (
                    "app.service",
                    more(
                        "RestrictAddressFamilies=AF_INET\nRestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=~AF_INET",
                    ),
                ),
                ("app.socket", socket.to_owned()),
            ],
        ),
    ] {
        let findings = check(&units(&files), &expectation());
        assert!(findings.is_empty(), "{what}\n{}", printed(&findings));
    }
}

#[test]
fn a_socket_in_the_runtime_directory_of_any_service_is_found_and_moved() {
    let mut files = Way::Restart.files();
    files.push((
        "web.service".to_owned(),
        "[Service]\nType=notify\nExecStart=/bin/x\nRuntimeDirectory=web a/b\n".to_owned(),
    ));
    let (_, socket) = &mut files[1];
    *socket =
        socket.replace("ListenStream=8080", "ListenStream=8080\nListenStream=/run/a/b/http.sock\nListenFIFO=/run/x");
    let findings = check(&units(&files), &Expectation::new());
    assert_eq!(brief(&findings), [("app-restart.socket", "ListenStream")], "{}", printed(&findings));
    assert!(findings[0].problem.contains("RuntimeDirectory=a/b of web.service"), "{}", printed(&findings));
    let moved = ["ListenStream=", "ListenStream=8080", "ListenStream=/run/a-b-http.sock", "ListenFIFO=/run/x"];
    assert_eq!(findings[0].fix.lines, moved);
    assert!(check(&units(&files).fixed(&findings[0].fix), &Expectation::new()).is_empty());
}

#[test]
fn a_script_that_can_be_read_is_judged_by_what_it_does() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("#!/bin/sh\ncd /srv\n/usr/local/bin/app\n", Some(Severity::Error)),
        ("#!/bin/sh\n# exec is not here\n/usr/local/bin/app\n", Some(Severity::Error)),
        ("#!/bin/sh\ncd /srv && exec /usr/local/bin/app \"$@\"\n", None),
        ("#!/usr/bin/python3\nimport os\nos.execv('/usr/local/bin/app', ['app'])\n", None),
        ("\x7fELF", None),
    ] {
        write(dir.path(), &[("start", text)]);
        let mut files = Way::Restart.files();
        let start = format!("ExecStart={}", dir.path().join("start").display());
        files[0].1 = files[0].1.replace("ExecStart=/usr/local/bin/app", &start);
        let findings = check(&units(&files), &Way::Restart.expectation());
        assert_eq!(findings.first().map(|finding| finding.severity), expected, "{text:?}\n{}", printed(&findings));
    }
}

#[test]
fn a_working_directory_is_judged_by_what_it_is_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("v1/data")).unwrap();
    std::os::unix::fs::symlink("v1", dir.path().join("live")).unwrap();
    for (directory, is_fault) in [("v1", false), ("live", true), ("live/data", true), ("nowhere", false)] {
        let path = dir.path().join(directory);
        let mut files = Way::Reload.files();
        files[0].1 = files[0].1.replace("-/srv/app/current", path.to_str().unwrap());
        let findings = check(&units(&files), &Way::Reload.expectation());
        let expected: &[_] = if is_fault { &[("app-reload.service", "WorkingDirectory")] } else { &[] };
        assert_eq!(brief(&findings), expected, "{directory}\n{}", printed(&findings));
        let silent = check(&units(&files), &Way::Reload.expectation().successor_directory());
        assert!(silent.is_empty(), "{directory}\n{}", printed(&silent));
    }
}

#[test]
fn a_container_is_read_as_the_service_that_podman_makes_of_it() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy").join(name);
        (name.to_owned(), fs::read_to_string(path).unwrap())
    };
    let files = [read("app.socket"), read("app.container")];
    let expectation = Expectation::new().name("http");
    let shipped = check(&units(&files), &expectation);
    assert!(shipped.is_empty(), "{}", printed(&shipped));
    for (line, instead, unit, directive) in [
        ("Notify=true", "", "app.container", "Notify"),
        ("StopTimeout=35", "", "app.container", "StopTimeout"),
        ("StopTimeout=35", "StopTimeout=30", "app.container", "StopTimeout"),
        ("ReadOnly=true", "RunInit=yes", "app.container", "RunInit"),
        ("ReadOnly=true", "Exec=sh -c '/usr/local/bin/app --port 1'", "app.container", "Exec"),
        ("TimeoutStopSec=45", "TimeoutStopSec=33", "app.service", "TimeoutStopSec"),
        ("NonBlocking=yes", "", "app.service", "NonBlocking"),
        ("StartLimitIntervalSec=0", "", "app.service", "StartLimitIntervalSec"),
    ] {
        let [socket, (name, text)] = &files;
        assert_eq!(text.matches(&format!("\n{line}\n")).count(), 1, "{line}");
        let broken = [socket.clone(), (name.clone(), text.replace(&format!("\n{line}\n"), &format!("\n{instead}\n")))];
        let findings = check(&units(&broken), &expectation);
        assert_eq!(brief(&findings), [(unit, directive)], "{instead}\n{}", printed(&findings));
        let left = check(&units(&broken).fixed(&findings[0].fix), &expectation);
        assert!(left.is_empty(), "{}\n{}", findings[0].fix, printed(&left));
    }
}

#[test]
fn without_names_and_without_sockets_there_is_less_to_look_at() {
    let service = "[Service]\nType=notify\nExecStart=/usr/bin/app\n";
    assert!(check(&units(&[("app.service", service)]), &Expectation::new()).is_empty());
    let bound = Expectation::new().fallback("http", ":80").unwrap();
    assert!(check(&units(&[("app.service", service)]), &bound).is_empty());
    assert!(check(&Units::new(), &Expectation::new().name("http").handoff(true)).is_empty());
}

#[test]
fn each_service_is_looked_at_with_its_own_sockets() {
    let mut files = Way::Restart.files();
    files.push(("other.service".to_owned(), "[Service]\nType=notify\nExecStart=/bin/x\nKillMode=none\n".to_owned()));
    let findings = check(&units(&files), &Expectation::new());
    assert_eq!(brief(&findings), [("other.service", "KillMode")], "{}", printed(&findings));
}

pub(crate) fn units<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Units {
    files.iter().fold(Units::new(), |units, (name, text)| units.file(name.as_ref(), text.as_ref()))
}

pub(crate) fn brief(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|finding| (finding.unit.as_str(), finding.directive)).collect()
}

pub(crate) fn printed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

pub(crate) fn write<N: AsRef<str>, T: AsRef<str>>(dir: &Path, files: &[(N, T)]) {
    for (name, text) in files {
        let path = dir.join(name.as_ref());
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
        fs::write(path, text.as_ref()).expect("a file can be written");
    }
}
