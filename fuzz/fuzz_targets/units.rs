//! Unit files, and what `systemctl show` prints: a line `### NAME` starts a file, `### show` such output, and `### expect WORD..` says what
//! the service is.
//!
//! - The same units have the same findings.
//! - A finding points to a line of a file that was given.
//! - A fix is read by this parser as it was written.
//! - A time span is the sum of its parts.

#![no_main]

use std::time::Duration;

use axum_activation::unit_check::{Expectation, Units, check, time_span};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    spans(text);
    let (mut units, mut expectation) = (Units::new(), Expectation::new());
    let mut files = Vec::new();
    for part in text.split("### ") {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        match name.strip_prefix("expect ") {
            Some(words) => expectation = words.split(' ').fold(expectation, expect),
            None if name == "show" => units = units.clone().show(text).unwrap_or(units),
            None => {
                files.push((name, text.lines().count()));
                units = units.file(name, text);
            }
        }
    }
    let findings = check(&units, &expectation);
    assert_eq!(findings, check(&units, &expectation));
    assert!(findings.is_empty() || units.has_service());
    for finding in &findings {
        assert!(!finding.problem.is_empty() && !finding.fix.lines.is_empty(), "{finding}");
        if let Some((file, line)) = &finding.place {
            assert!(files.iter().any(|(name, lines)| name == file && (1..=*lines).contains(line)), "{finding}");
        }
    }
});

fn expect(expectation: Expectation, word: &str) -> Expectation {
    match word.split_once('=').unwrap_or((word, "")) {
        ("name", name) => expectation.name(name),
        ("fallback", addr) => expectation.clone().fallback("http", addr).unwrap_or(expectation),
        ("allow_unserved", _) => expectation.allow_unserved(),
        ("no_notify", _) => expectation.notify(false),
        ("handoff", "") => expectation.handoff(true),
        ("handoff", path) => expectation.handoff_socket(path),
        ("drain", span) => expectation.drain_timeout(time_span(span).unwrap_or(Duration::MAX)),
        ("fd_store", count) => expectation.fd_store(count.parse().unwrap_or(u64::MAX)),
        ("connections", count) => expectation.connections(count.parse().unwrap_or(u64::MAX)),
        ("idle_exit", _) => expectation.idle_exit(true),
        _ => expectation,
    }
}

/// `1min 30s` is `1min` and `30s`.
fn spans(text: &str) {
    let whole = time_span(text);
    let spans: Vec<_> = text.split(' ').collect();
    let all: Option<Vec<_>> = spans.iter().map(|span| time_span(span).filter(|span| *span != Duration::MAX)).collect();
    if let Some(all) = all {
        let sum = all.iter().try_fold(Duration::ZERO, |sum, span| sum.checked_add(*span));
        let sum = sum.filter(|sum| sum.as_micros() <= u128::from(u64::MAX));
        assert_eq!(whole, sum, "{text:?}");
    }
}
