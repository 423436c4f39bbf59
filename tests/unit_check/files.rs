//! Where units come from, and in which order their parts count.

use axum_activation::unit_check::{Expectation, Units, check};

use super::faults::Way;
use crate::{brief, units, write};

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
fn no_text_makes_it_panic() {
    let way = Way::Hardened;
    let files = way.files();
    let text = &files[0].1;
    let odd = ["'", "\"", "\\", "%", "sh -c ", "\u{e4}", "=", "~", ";|&", "\u{feff}", ".", "-c"];
    for (at, _) in text.char_indices() {
        let odd = odd[at % odd.len()];
        for broken in [text[..at].to_owned(), format!("{}{odd}{}", &text[..at], &text[at..])] {
            let units = units(&[("app-hardened.service", broken.clone()), ("app-hardened.socket", broken)]);
            for finding in check(&units, &way.expectation()) {
                assert!(!finding.to_string().is_empty());
            }
        }
    }
    for at in 0..2000_usize {
        let script: String = (0..5).map(|i| odd[at / odd.len().pow(i) % odd.len()]).collect();
        let units = units(&[("a.service", format!("[Service]\nExecStart={script}\nTimeoutStopSec={script}\n"))]);
        assert!(check(&units, &Expectation::new()).len() < 10);
    }
}
