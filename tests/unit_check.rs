//! Units made wrong on purpose, the units that are shipped, typical ones, and what systemd itself thinks of them.
//!
//! Some need root and Debian's packages systemd, util-linux, bsdutils and curl.

#[path = "unit_check/faults.rs"]
mod faults;
#[path = "support/needs.rs"]
mod needs;
#[path = "support/systemd.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod systemd;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use axum_activation::unit_check::{Expectation, Finding, Units, check, time_span};

use self::{
    faults::{Way, faults},
    systemd::Rig,
};

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
fn what_mends_a_fault_leaves_nothing_to_be_found() {
    for fault in faults() {
        let (units, expectation) = (units(&fault.files()), fault.expectation());
        let mend = &check(&units, &expectation)[0].mend;
        let left = check(&units.mended(mend), &expectation);
        let is_mended = if fault.has_more_to_mend {
            !brief(&left).contains(&(fault.unit, fault.directive))
        } else {
            left.is_empty()
        };
        assert!(is_mended, "{fault}: after\n{}\nthere is\n{}", mend.drop_in(), printed(&left));
    }
}

#[test]
fn what_mends_a_fault_is_understood_by_systemd() {
    for fault in faults().into_iter().filter(|fault| !fault.has_more_to_mend) {
        let mend = &check(&units(&fault.files()), &fault.expectation())[0].mend;
        let (mut files, drop_in) = (fault.files(), mend.drop_in());
        match files.iter().any(|(name, _)| *name == mend.unit) {
            true => files.push((format!("{}.d/mended.conf", mend.unit), drop_in)),
            false => files.push((mend.unit.clone(), drop_in)),
        }
        // A setting that this systemd does not know yet is none that it knows once it is mended.
        let known: Vec<_> = verify(&fault.files()).iter().map(|complaint| what(complaint).to_owned()).collect();
        let mut new = verify(&files);
        new.retain(|complaint| !known.iter().any(|known| known == what(complaint)));
        assert!(new.is_empty(), "{fault}\n{}\n{}", mend.drop_in(), new.join("\n"));
    }
}

#[test]
fn systemd_complains_of_a_drop_in_that_it_does_not_understand() {
    let files =
        [Way::Restart.files(), vec![("app-restart.service.d/x.conf".to_owned(), "[Service]\nNo=1\n".to_owned())]];
    let complaints = verify(&files.concat()).join("\n");
    assert!(complaints.contains("x.conf:2: Unknown key 'No'"), "or the test above proves nothing: {complaints}");
}

#[test]
fn the_shipped_units_have_no_fault() {
    for way in [Way::Named, Way::Accept, Way::Restart, Way::Reload, Way::NotifyReload, Way::Store, Way::Hardened] {
        let findings = check(&units(&way.files()), &way.expectation());
        assert!(findings.is_empty(), "{way:?}\n{}", printed(&findings));
    }
}

#[test]
fn every_shipped_unit_is_among_those_that_are_checked_here() {
    let mut checked: Vec<_> =
        [Way::Named, Way::Accept, Way::Restart, Way::Reload, Way::NotifyReload, Way::Store, Way::Hardened]
            .iter()
            .flat_map(|way| way.shipped().iter().copied())
            .chain(["README.md"])
            .collect();
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
            "KillMode=mixed without a hand-over",
            vec![("app.service", more("KillMode=mixed")), ("app.socket", socket.to_owned())],
        ),
        ("access for all", vec![("app.service", more("NotifyAccess=all")), ("app.socket", socket.to_owned())]),
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

#[test]
fn drop_ins_come_last_in_the_order_of_their_names() {
    let late = ("app-restart.service.d/20-late.conf", "[Service]\nTimeoutStopSec=1min\n");
    let early = ("app-restart.service.d/10-early.conf", "[Service]\nTimeoutStopSec=5\n");
    let with = |files: &[(&str, &str)]| {
        let all = files.iter().fold(Units::new(), |units, (name, text)| units.file(*name, *text));
        let all = Way::Restart.files().into_iter().fold(all, |units, (name, text)| units.file(name, text));
        check(&all, &Way::Restart.expectation())
    };
    assert_eq!(brief(&with(&[late, early])), []);
    let found = with(&[early]);
    assert_eq!(found[0].place, Some((early.0.to_owned(), 2)));
    assert_eq!(
        found[0].to_string(),
        "app-restart.service.d/10-early.conf:2: error: TimeoutStopSec=5 is not above the drain timeout of 30 s: systemd kills \
         what still finishes its requests\n    in app-restart.service, [Service]: TimeoutStopSec=35"
    );
}

#[test]
fn units_are_read_with_the_drop_ins_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("app@1.service", "[Service]\nType=notify\nExecStart=/bin/x\n")]);
    write(dir.path(), &[("app@1.service.d/b.conf", "[Service]\nKillMode=none\n"), ("app@1.service.d/c.txt", "no")]);
    write(dir.path(), &[("app@.service.d/a.conf", "[Service]\nTimeoutStopSec=5\n")]);
    write(dir.path(), &[("app@.service.d/b.conf", "[Service]\nKillSignal=SIGKILL\n")]);
    let path = dir.path().join("app@1.service");
    let findings = check(&Units::new().read(&path).unwrap(), &Expectation::new());
    let hidden = "the template's b.conf, by the instance's";
    assert_eq!(brief(&findings), [("app@1.service", "KillMode"), ("app@1.service", "TimeoutStopSec")], "{hidden}");

    let drop_in = Units::new().read(dir.path().join("app@1.service.d/b.conf")).unwrap();
    assert_eq!(brief(&check(&drop_in, &Expectation::new().notify(false))), [("app@1.service", "KillMode")]);
}

#[test]
fn what_cannot_be_read_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    for (file, message) in [("missing.service", "cannot be read"), ("app.timer", "is neither a .service")] {
        let path = dir.path().join(file);
        let error = Units::new().read(&path).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: {message}", path.display())), "{error}");
    }
    let unknown = Units::new().show("Id=app.service\nLoadState=not-found\n").unwrap_err();
    assert_eq!(unknown.to_string(), "app.service: the service manager knows no such unit");
    assert_eq!(Units::new().show("\n").unwrap_err().to_string(), "the output of systemctl show: it is empty");
    assert!(Expectation::new().fallback("http", "nowhere").unwrap_err().is_invalid_address());
}

#[test]
fn time_spans_are_what_systemd_takes_them_for() {
    needs::program("systemd-analyze", "systemd");
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
        let output = Command::new("systemd-analyze").args(["timespan", text]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let micros = printed.lines().find_map(|line| line.trim().strip_prefix("\u{3bc}s: "));
        let expected = micros.map(|micros| Duration::from_micros(micros.parse().unwrap()));
        assert_eq!(time_span(text), expected, "{text:?}");
    }
    assert_eq!(time_span("infinity"), Some(Duration::MAX));
}

#[test]
fn the_service_manager_tells_the_same_as_the_files() {
    let rig = Rig::boot(&[]);
    let units_dir = rig.path("/run/units");
    for fault in faults().into_iter().filter(|fault| fault.is_told) {
        let files = fault.files();
        write(&units_dir, &files);
        rig.run(&["systemctl", "daemon-reload"]);
        let names: Vec<_> = files.iter().map(|(name, _)| name.replace("@.", "@1.")).collect();
        let mut show = vec!["systemctl", "show"];
        show.extend(names.iter().map(String::as_str));
        let shown = check(&Units::new().show(&rig.run(&show)).unwrap(), &fault.expectation());
        let unit = fault.unit.replace("@.", "@1.");
        assert_eq!(brief(&shown), [(unit.as_str(), fault.directive)], "{fault}\n{}", printed(&shown));
        files.iter().for_each(|(name, _)| fs::remove_file(units_dir.join(name)).unwrap());
    }
}

#[test]
fn the_program_prints_what_is_wrong_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let files = Way::Restart.files();
    write(dir.path(), &files);
    let paths: Vec<_> = files.iter().map(|(name, _)| dir.path().join(name).display().to_string()).collect();
    let run = |more: &[&str]| {
        let args = more.iter().copied().chain(paths.iter().map(String::as_str));
        program(&args.collect::<Vec<_>>(), "")
    };
    let right = run(&["--name", "http", "--drain", "30s"]);
    assert_eq!((right.status.code(), right.stdout.len()), (Some(0), 0), "{right:?}");

    let wrong = run(&["--name", "http", "--drain", "2min"]);
    assert_eq!(wrong.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&wrong.stdout);
    assert!(printed.contains("app-restart.service:") && printed.contains(": TimeoutStopSec=125\n"), "{printed}");

    let every =
        ["--name=http", "--fallback=admin=unix:/run/x/a.sock", "--handoff-socket=/run/x/h.sock", "--fd-store=5000"];
    let printed = String::from_utf8_lossy(&run(&every).stdout).into_owned();
    for directive in ["ExecReload", "RuntimeDirectory", "FileDescriptorStoreMax", "LimitNOFILE"] {
        assert!(printed.contains(directive), "{printed}");
    }
}

#[test]
fn the_program_reads_what_systemctl_shows_and_ends_with_2_when_it_cannot_look() {
    let shown = "Type=notify\nTimeoutStopUSec=5s\nWatchdogUSec=infinity\nId=app.service\n";
    let wrong = program(&["--show"], shown);
    assert_eq!(wrong.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&wrong.stdout);
    assert!(printed.starts_with("app.service: error: TimeoutStopSec=5 is not above"), "{printed}");

    assert_eq!(program(&["--show"], "").status.code(), Some(2));
    assert_eq!(program(&["/nowhere/app.service"], "").status.code(), Some(2));
    assert_eq!(program(&["--drain", "soon", "app.service"], "").status.code(), Some(2));
}

fn units<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Units {
    files.iter().fold(Units::new(), |units, (name, text)| units.file(name.as_ref(), text.as_ref()))
}

fn brief(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|finding| (finding.unit.as_str(), finding.directive)).collect()
}

fn printed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn write<N: AsRef<str>, T: AsRef<str>>(dir: &Path, files: &[(N, T)]) {
    for (name, text) in files {
        let path = dir.join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.as_ref()).unwrap();
    }
}

/// What systemd says of units that it does not understand in full. The programs that they start are not installed here.
fn verify(files: &[(String, String)]) -> Vec<String> {
    needs::program("systemd-analyze", "systemd");
    let dir = tempfile::tempdir().unwrap();
    let installed: Vec<_> = files.iter().map(|(name, text)| (name, without_programs(text))).collect();
    write(dir.path(), &installed);
    let units = files.iter().map(|(name, _)| name).filter(|name| !name.contains('/'));
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(units.map(|name| dir.path().join(name)));
    let complaints = String::from_utf8_lossy(&verify.output().unwrap().stderr).into_owned();
    let about_these =
        |line: &&str| line.contains(dir.path().to_str().unwrap()) || files.iter().any(|(name, _)| line.contains(name));
    complaints.lines().filter(about_these).map(|line| line.replace(dir.path().to_str().unwrap(), "")).collect()
}

/// A complaint without its place.
fn what(complaint: &str) -> &str {
    complaint.split_once(": ").map_or(complaint, |(_, what)| what)
}

fn without_programs(text: &str) -> String {
    let known = ["app", "handoff_request", "named", "inetd"].map(|program| format!("/usr/local/bin/{program}"));
    known.iter().fold(text.to_owned(), |text, program| text.replace(program, "/bin/true"))
}

fn program(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(needs::example("check"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read what it does not want.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}
