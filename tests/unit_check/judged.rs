//! What systemd itself thinks of units, of what fixes them and of time spans.

use std::{fs, time::Duration};

use axum_activation::unit_check::{Units, check, time_span};

use super::faults::{Way, faults};
use crate::support::{needs, systemd::Systemd, wait::eventually};
use crate::{brief, printed, units, write};

#[test]
fn the_fix_of_a_fault_is_understood_by_systemd() {
    let systemd = Systemd::boot(&[]);
    for fault in faults().into_iter().filter(|fault| !fault.has_more_to_fix) {
        let fix = &check(&units(&fault.files()), &fault.expectation())[0].fix;
        let (mut files, drop_in) = (fault.files(), fix.drop_in());
        match files.iter().any(|(name, _)| *name == fix.unit) {
            true => files.push((format!("{}.d/fixed.conf", fix.unit), drop_in)),
            false => files.push((fix.unit.clone(), drop_in)),
        }
        // A setting that this systemd does not know yet is none that it knows once it is fixed.
        let known: Vec<_> =
            verify(&systemd, &fault.files()).iter().map(|complaint| what(complaint).to_owned()).collect();
        let mut new = verify(&systemd, &files);
        new.retain(|complaint| !known.iter().any(|known| known == what(complaint)));
        assert!(new.is_empty(), "{fault}\n{}\n{}", fix.drop_in(), new.join("\n"));
    }
}

#[test]
fn systemd_complains_of_a_drop_in_that_it_does_not_understand() {
    let files =
        [Way::Restart.files(), vec![("app-restart.service.d/x.conf".to_owned(), "[Service]\nNo=1\n".to_owned())]];
    let complaints = verify(&Systemd::boot(&[]), &files.concat()).join("\n");
    assert!(complaints.contains("x.conf:2: Unknown key 'No'"), "or the test above proves nothing: {complaints}");
}

#[test]
fn the_service_manager_tells_the_same_as_the_files() {
    let systemd = Systemd::boot(&[]);
    let units_dir = systemd.path("/run/units");
    for fault in faults().into_iter().filter(|fault| fault.is_shown) {
        let files = fault.files();
        write(&units_dir, &files);
        systemd.run(&["systemctl", "daemon-reload"]);
        let names: Vec<_> = files.iter().map(|(name, _)| name.replace("@.", "@1.")).collect();
        let mut show = vec!["systemctl", "show"];
        show.extend(names.iter().map(String::as_str));
        let shown = check(&Units::new().show(&systemd.run(&show)).unwrap(), &fault.expectation());
        let unit = fault.unit.replace("@.", "@1.");
        assert_eq!(brief(&shown), [(unit.as_str(), fault.directive)], "{fault}\n{}", printed(&shown));
        files.iter().for_each(|(name, _)| fs::remove_file(units_dir.join(name)).unwrap());
    }
}

#[test]
fn under_each_of_the_shipped_units_a_service_starts_and_is_handed_over() {
    needs::example("handoff");
    let ways = [Way::Restart, Way::Reload, Way::Store, Way::Hardened];
    let mut files = Vec::new();
    for (port, way) in (8000..).zip(ways) {
        let edits = [
            ("/usr/local/bin/app", "/usr/local/bin/handoff"),
            ("ListenStream=8080", "ListenStream=80"),
            ("ListenStream=80", &format!("ListenStream={port}")),
        ];
        let edited = |text: String| edits.iter().fold(text, |text, (old, new)| text.replace(old, new));
        files.extend(way.files().into_iter().map(|(name, text)| (name, edited(text))));
    }
    let systemd = Systemd::boot(&files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect::<Vec<_>>());
    for (port, way) in (8000..).zip(ways) {
        let [service, socket] = way.shipped() else { panic!("a service and a socket") };
        let answer = || systemd.curl(&[&format!("http://127.0.0.1:{port}/")]);
        assert!(answer().starts_with("generation 0, "), "{service}");
        // The answer may be here before systemd has read READY=1; until then the service is "activating".
        eventually(service, || systemd.property(service, "ActiveState") == "active");

        systemd.run(&["systemctl", "kill", "--kill-who=main", "--signal=HUP", service]);
        eventually(service, || answer().starts_with("generation 1, "));
        eventually(service, || systemd.property(service, "ActiveState") == "active");
        let main = systemd.property(service, "MainPID");
        assert!(answer().contains(&format!("pid {main}, ")), "{service}: systemd has followed to {main}");

        systemd.run(&["systemctl", "restart", service]);
        assert!(answer().starts_with("generation 0, "), "{service}");
        assert_eq!(systemd.property(service, "Result"), "success", "{service}");
        assert_eq!(systemd.property(socket, "Result"), "success", "{socket}");
    }
    for complaint in ["Unknown key", "left-over", "Failed with result"] {
        assert!(!systemd.console().contains(complaint), "{}", systemd.console());
    }
}

#[test]
fn time_spans_are_what_systemd_takes_them_for() {
    let systemd = Systemd::boot(&[]);
    for text in [
        "90",
        "1min 30s",
        "1.5min",
        "2h 3",
        "3us",
        "5 s 6",
        "1M",
        ".5s",
        "1y2w",
        "1s1s",
        "2 hr 1 minute 5 msec",
        "1d",
        "7 weeks",
        "0.000001",
        "1.0000019s",
        "",
        "abc",
        "1.min",
        "1..5",
        "5fortnight",
        "1 min30s",
        "3 months",
        "0",
        "4ms 3\u{b5}s",
        "1,5s",
    ] {
        let output = systemd.exec(&["env", "LC_ALL=C.UTF-8", "systemd-analyze", "timespan", text]);
        let printed = String::from_utf8_lossy(&output.stdout);
        let micros = printed.lines().find_map(|line| line.trim().strip_prefix("\u{3bc}s: "));
        let expected = micros.map(|micros| Duration::from_micros(micros.parse().unwrap()));
        assert_eq!(time_span(text), expected, "{text:?}");
    }
    assert_eq!(time_span("infinity"), Some(Duration::MAX));
}

/// What systemd says of units that it does not understand in full. The programs that they start are not installed here.
fn verify(systemd: &Systemd, files: &[(String, String)]) -> Vec<String> {
    const VERIFIED: &str = "/run/verified";
    let installed: Vec<_> = files.iter().map(|(name, text)| (name, without_programs(text))).collect();
    write(&systemd.path(VERIFIED), &installed);
    let units = files.iter().filter(|(name, _)| !name.contains('/'));
    let units: Vec<_> = units.map(|(name, _)| format!("{VERIFIED}/{name}")).collect();
    let mut verify = vec!["systemd-analyze", "verify", "--man=no"];
    verify.extend(units.iter().map(String::as_str));
    let complaints = String::from_utf8_lossy(&systemd.exec(&verify).stderr).into_owned();
    fs::remove_dir_all(systemd.path(VERIFIED)).expect("nothing else is in there");
    let about_these = |line: &&str| line.contains(VERIFIED) || files.iter().any(|(name, _)| line.contains(name));
    complaints.lines().filter(about_these).map(|line| line.replace(VERIFIED, "")).collect()
}

/// A complaint without its place.
fn what(complaint: &str) -> &str {
    complaint.split_once(": ").map_or(complaint, |(_, what)| what)
}

fn without_programs(text: &str) -> String {
    let known = ["app", "handoff_request", "named", "inetd"].map(|program| format!("/usr/local/bin/{program}"));
    known.iter().fold(text.to_owned(), |text, program| text.replace(program, "/bin/true"))
}
