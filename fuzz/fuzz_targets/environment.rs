//! The variables of `sd_listen_fds(3)`, as a launcher has set them: a line each, `LISTEN_FDS=2`.
//!
//! - What is taken is what a plain reading of the man page takes, and no other text.
//! - The numbers of the descriptors are from 3 on and fit.
//! - Without the check of the process, at least as much is taken, under the same names.
//! - The memory depends on the length of the text, and not on the numbers in it.
//!
//! A line `aa.l..` is a name in the fd store, which reads back as the same listener.

#![no_main]

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use axum_activation::fuzzing::{Variables, listen, name_in_store, stored_name};
use axum_activation_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

/// The process that reads the variables.
const PID: u32 = 42;
const PIDFD_ID: Option<u64> = Some(7);

fuzz_target!(|data: &[u8]| {
    let mut variables = Variables::default();
    for line in data.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = split_at_equals(line) {
            set(&mut variables, name, value);
        } else if let Ok(line) = std::str::from_utf8(line) {
            name_in_the_store(line);
        }
    }
    let limit = 4096 + 100 * data.len();
    let strict = bounded(limit, || listen(&variables, PID, PIDFD_ID, false));
    let lax = bounded(limit, || listen(&variables, PID, PIDFD_ID, true));
    for (passed, ignore_pid) in [(&strict, false), (&lax, true)] {
        assert_eq!(passed.is_ok(), is_right(&variables, ignore_pid), "{variables:?} {passed:?}");
    }
    if let Ok(passed) = &strict {
        assert!(passed.range.start >= 3 && passed.range.end >= passed.range.start);
        let lax = lax.expect("it takes more");
        assert_eq!((&passed.range, &passed.names), (&lax.range, &lax.names));
        if let (Some(names), Some(_)) = (&variables.names, &variables.fds) {
            assert_eq!(passed.names.join(":").as_bytes(), names.as_bytes());
            assert_eq!(passed.names.len(), passed.range.len());
        }
    }
});

fn split_at_equals(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..at], &line[at + 1..]))
}

/// An empty variable counts as unset.
fn set(variables: &mut Variables, name: &[u8], value: &[u8]) {
    let value = (!value.is_empty()).then(|| OsStr::from_bytes(value).to_owned());
    match name {
        b"LISTEN_PID" => variables.pid = value,
        b"LISTEN_PIDFDID" => variables.pidfd_id = value,
        b"LISTEN_FDS" => variables.fds = value,
        b"LISTEN_FDS_FIRST_FD" => variables.first = value,
        b"LISTEN_FDNAMES" => variables.names = value,
        _ => {}
    }
}

/// The man page, read once more.
fn is_right(variables: &Variables, ignore_pid: bool) -> bool {
    let Variables { pid, pidfd_id, fds, first, names } = variables;
    let number = |text: &Option<OsString>| text.as_ref().map(|text| digits(text));
    let Some(fds) = number(fds) else { return true };
    let is_ours = ignore_pid
        || number(pid).is_none_or(|pid| pid == Some(u128::from(PID)))
            && number(pidfd_id).is_none_or(|id| id == PIDFD_ID.map(u128::from));
    let (Some(fds), Some(first)) = (fds, number(first).unwrap_or(Some(3))) else { return false };
    let fits = first >= 3 && first.checked_add(fds).is_some_and(|end| end <= i32::MAX as u128);
    let is_name = |name: &[u8]| name.len() <= 255 && name.iter().all(|byte| (b' '..=b'~').contains(byte));
    let are_names = names.as_ref().is_none_or(|names| {
        let names: Vec<_> = names.as_bytes().split(|byte| *byte == b':').collect();
        names.len() as u128 == fds && names.into_iter().all(is_name)
    });
    is_ours && fits && are_names
}

fn digits(text: &OsStr) -> Option<u128> {
    let text = text.as_bytes();
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let value = text
        .iter()
        .fold(0_u128, |sum, digit| sum.saturating_mul(10).saturating_add(u128::from(digit.saturating_sub(b'0'))));
    is_number.then_some(value)
}

fn name_in_the_store(text: &str) {
    let Some((name, file)) = stored_name(text) else { return };
    if let Some(again) = name_in_store(&name, file) {
        assert_eq!(stored_name(&again), Some((name, file)));
        assert!(again.is_ascii() && again.len() <= 255);
    }
}
