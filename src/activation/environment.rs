//! The variables of `sd_listen_fds(3)`: read at the edge, understood here, never written.
//!
//! | variable | | here |
//! | --- | --- | --- |
//! | `LISTEN_FDS` | how many descriptors | without it nothing was passed |
//! | `LISTEN_PID` | for which process | another process is an error, see [`ForeignPid`](super::ForeignPid) |
//! | `LISTEN_PIDFDID` | the same, by the inode of its pidfd (systemd 259) | likewise, where the kernel has pidfs |
//! | `LISTEN_FDNAMES` | a name for each, with colons between | a wrong count is an error |
//! | `LISTEN_FDS_FIRST_FD` | the first number (systemfd) | 3 without it |
//!
//! They stay in the environment, unlike in C, where `sd_listen_fds(1)` unsets them: to change the environment of a
//! process with threads is not sound, and a child finds that `LISTEN_PID` is not its own.

use std::{
    env,
    ffi::{OsStr, OsString},
    ops::Range,
    os::fd::RawFd,
};

use super::names::check_name;
use crate::{
    error::{Error, Kind},
    sys::inherit::FIRST,
};

const PID: &str = "LISTEN_PID";
const PIDFD_ID: &str = "LISTEN_PIDFDID";
const FDS: &str = "LISTEN_FDS";
const FIRST_FD: &str = "LISTEN_FDS_FIRST_FD";
const NAMES: &str = "LISTEN_FDNAMES";

/// Which of `LISTEN_FDS` a process of this service bound itself, by position, for a successor of this crate.
pub(crate) const BOUND: &str = "AXUM_ACTIVATION_BOUND";

/// The positions in [`BOUND`].
pub(super) fn bound_positions() -> Vec<usize> {
    let listed = env::var(BOUND).unwrap_or_default();
    listed.split(' ').filter_map(|position| position.parse().ok()).collect()
}

/// What the environment said when it was read.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) pid: Option<OsString>,
    pub(super) pidfd_id: Option<OsString>,
    pub(super) fds: Option<OsString>,
    /// The number of the first descriptor: systemfd sets it, systemd does not.
    pub(super) first: Option<OsString>,
    pub(super) names: Option<OsString>,
}

/// Who this process is, as the environment would name it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) pidfd_id: Option<u64>,
}

/// Which descriptors were passed, and a name for each, or none at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) count: usize,
    first: RawFd,
    names: Vec<String>,
    /// No variable says which process they are for.
    pub(super) is_unaddressed: bool,
}

impl Default for Passed {
    fn default() -> Self {
        Self { count: 0, first: FIRST, names: Vec::new(), is_unaddressed: false }
    }
}

impl Environment {
    /// Reads the process's environment; an empty variable counts as unset, as `sd_listen_fds` and Go's package have it.
    pub(super) fn read() -> Self {
        let read = |name| env::var_os(name).filter(|value| !value.is_empty());
        let (fds, first) = (read(FDS), read(FIRST_FD));
        Self { pid: read(PID), pidfd_id: read(PIDFD_ID), fds, first, names: read(NAMES) }
    }

    /// Which descriptors are ours, by name. With `ignore_pid` they are ours, whichever process the variables name.
    pub(super) fn passed(&self, identity: &Identity, ignore_pid: bool) -> Result<Passed, Error> {
        let Some(fds) = &self.fds else {
            return Ok(Passed::default());
        };
        if !ignore_pid {
            self.pid.as_deref().map_or(Ok(()), |pid| check_pid(pid, identity))?;
            self.pidfd_id.as_deref().map_or(Ok(()), |id| check_pidfd_id(id, identity))?;
        }
        let first = self.first.as_deref().map_or(Ok(FIRST), first)?;
        let count = count(fds, first)?;
        let is_unaddressed = !ignore_pid && self.pid.is_none() && self.pidfd_id.is_none();
        Ok(Passed { count, first, names: self.names(count)?, is_unaddressed })
    }

    /// One name a descriptor, by position: names repeat and may be empty. Nothing is made of `count` before the descriptors are
    /// known to be there.
    fn names(&self, count: usize) -> Result<Vec<String>, Error> {
        let Some(text) = &self.names else {
            return Ok(Vec::new());
        };
        let names = text.to_str().ok_or_else(|| invalid(NAMES, text, "is not valid UTF-8"))?;
        let names: Vec<_> = names.split(':').map(str::to_owned).collect();
        if names.len() != count {
            let problem = format!("holds {} names, but LISTEN_FDS={count}", names.len());
            return Err(invalid(NAMES, text, problem));
        }
        match names.iter().find_map(|name| check_name(name).err().map(|problem| (name, problem))) {
            Some((name, problem)) => Err(invalid(NAMES, text, format!("holds the name {name:?}: {problem}"))),
            None => Ok(names),
        }
    }
}

impl Identity {
    pub(super) fn own() -> Self {
        Self { pid: std::process::id(), pidfd_id: crate::sys::socket::own_pidfd_id() }
    }
}

impl Passed {
    pub(super) fn range(&self) -> Range<RawFd> {
        // `count` has seen to it that the end fits.
        let count = RawFd::try_from(self.count).unwrap_or(0);
        self.first..self.first + count
    }

    /// A name for each; the empty one where there are none.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.count).map(|i| self.names.get(i).map_or("", String::as_str))
    }
}

fn check_pid(value: &OsStr, identity: &Identity) -> Result<(), Error> {
    let pid: u32 = number(value).ok_or_else(|| invalid(PID, value, "is not a process id"))?;
    if pid == identity.pid {
        return Ok(());
    }
    Err(Kind::PidMismatch { variable: PID, value: pid.to_string(), own: identity.pid.to_string() }.into())
}

/// A pid may be recycled, the inode of a pidfd never is: systemd 259 and later pass it too.
fn check_pidfd_id(value: &OsStr, identity: &Identity) -> Result<(), Error> {
    let id: u64 = number(value).ok_or_else(|| invalid(PIDFD_ID, value, "is not the inode number of a pidfd"))?;
    match identity.pidfd_id {
        Some(own) if own != id => {
            Err(Kind::PidMismatch { variable: PIDFD_ID, value: id.to_string(), own: own.to_string() }.into())
        }
        _ => Ok(()),
    }
}

fn first(value: &OsStr) -> Result<RawFd, Error> {
    let first = number(value).filter(|first| *first >= FIRST);
    first.ok_or_else(|| invalid(FIRST_FD, value, "is not the number of a file descriptor from 3 on"))
}

fn count(value: &OsStr, first: RawFd) -> Result<usize, Error> {
    let count: u64 = number(value).ok_or_else(|| invalid(FDS, value, "is not a number of file descriptors"))?;
    let beyond = || invalid(FDS, value, "is more than a process can have open");
    let fits = RawFd::try_from(count).is_ok_and(|count| count <= RawFd::MAX - first);
    if fits { usize::try_from(count).map_err(|_| beyond()) } else { Err(beyond()) }
}

/// Digits alone: no sign, no blanks.
fn number<N: std::str::FromStr>(value: &OsStr) -> Option<N> {
    let text = value.to_str()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn invalid(variable: &'static str, value: &OsStr, problem: impl Into<String>) -> Error {
    let value = value.to_string_lossy().into_owned();
    Kind::Environment { variable, value, problem: problem.into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity { pid: 42, pidfd_id: Some(7) };

    fn environment(pid: &str, pidfd_id: &str, fds: &str, names: &str) -> Environment {
        let set = |value: &str| (!value.is_empty()).then(|| value.into());
        Environment { pid: set(pid), pidfd_id: set(pidfd_id), fds: set(fds), first: None, names: set(names) }
    }

    fn passed(pid: &str, pidfd_id: &str, fds: &str, names: &str) -> Result<Vec<String>, Error> {
        environment(pid, pidfd_id, fds, names).passed(&IDENTITY, false).map(|passed| names_of(&passed))
    }

    fn names_of(passed: &Passed) -> Vec<String> {
        passed.names().map(str::to_owned).collect()
    }

    #[test]
    fn nothing_is_passed_without_a_count() {
        for (pid, fds) in [("", ""), ("42", ""), ("1", ""), ("42", "0"), ("", "0")] {
            assert!(passed(pid, "", fds, "").unwrap().is_empty());
        }
    }

    #[test]
    fn without_a_pid_the_descriptors_are_addressed_to_no_process() {
        for (pid, pidfd_id, ignore_pid, expected) in
            [("", "", false, true), ("42", "", false, false), ("", "7", false, false), ("", "", true, false)]
        {
            let passed = environment(pid, pidfd_id, "1", "").passed(&IDENTITY, ignore_pid).unwrap();
            assert_eq!((passed.count, passed.is_unaddressed), (1, expected), "{pid:?} {pidfd_id:?} {ignore_pid}");
        }
        assert!(passed("", "8", "1", "").unwrap_err().is_pid_mismatch());
    }

    #[test]
    fn the_first_descriptor_may_be_another_than_3() {
        let from = |first: &str| Environment { first: Some(first.into()), ..environment("42", "", "2", "") };
        assert_eq!(from("5").passed(&IDENTITY, false).unwrap().range(), 5..7);
        for first in ["2", "-1", "x", "2147483648"] {
            let error = from(first).passed(&IDENTITY, false).unwrap_err().to_string();
            assert!(
                error.contains(&format!("LISTEN_FDS_FIRST_FD={first:?} is not the number of a file descriptor")),
                "{error}"
            );
        }
        let error = from("2147483646").passed(&IDENTITY, false).unwrap_err();
        assert!(error.to_string().contains("is more than a process can have open"), "{error}");
    }

    #[test]
    fn names_go_by_position_and_may_repeat_or_be_empty() {
        assert_eq!(passed("42", "7", "3", "http::http").unwrap(), ["http", "", "http"]);
        assert_eq!(passed("42", "", "2", "").unwrap(), ["", ""]);
        assert_eq!(passed("42", "", "1", "a b@*~").unwrap(), ["a b@*~"]);
        assert_eq!(environment("42", "", "2", "").passed(&IDENTITY, false).unwrap().range(), 3..5);
    }

    #[test]
    fn another_process_is_a_mismatch_that_can_be_ignored() {
        for (pid, pidfd_id) in [("43", ""), ("42", "8")] {
            let error = passed(pid, pidfd_id, "1", "").unwrap_err();
            assert!(error.is_pid_mismatch() && !error.is_invalid_environment(), "{error}");
            assert_eq!(names_of(&environment(pid, pidfd_id, "1", "").passed(&IDENTITY, true).unwrap()), [""]);
        }
        assert_eq!(names_of(&environment("", "", "1", "x").passed(&IDENTITY, true).unwrap()), ["x"]);
    }

    #[test]
    fn a_kernel_without_pidfs_cannot_contradict() {
        let identity = Identity { pid: 42, pidfd_id: None };
        assert_eq!(names_of(&environment("42", "8", "1", "").passed(&identity, false).unwrap()), [""]);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        let long = "x".repeat(256);
        for (pid, pidfd_id, fds, names, says) in [
            ("me", "", "1", "", "LISTEN_PID=\"me\" is not a process id"),
            ("-42", "", "1", "", "LISTEN_PID=\"-42\" is not a process id"),
            (" 42", "", "1", "", "LISTEN_PID=\" 42\" is not a process id"),
            ("42", "x", "1", "", "LISTEN_PIDFDID=\"x\" is not the inode number of a pidfd"),
            ("42", "", "two", "", "LISTEN_FDS=\"two\" is not a number of file descriptors"),
            ("42", "", "-1", "", "LISTEN_FDS=\"-1\" is not a number of file descriptors"),
            ("42", "", "1.5", "", "LISTEN_FDS=\"1.5\" is not a number of file descriptors"),
            ("42", "", "2147483645", "", "LISTEN_FDS=\"2147483645\" is more than a process can have open"),
            ("42", "", "99999999999999999999", "", "LISTEN_FDS=\"99999999999999999999\" is not a number"),
            ("42", "", "2", "a", "LISTEN_FDNAMES=\"a\" holds 1 names, but LISTEN_FDS=2"),
            ("42", "", "1", "a:b", "LISTEN_FDNAMES=\"a:b\" holds 2 names, but LISTEN_FDS=1"),
            ("42", "", "1", "a\tb", "holds the name \"a\\tb\": it contains a control character"),
            ("42", "", "1", "ä", "holds the name \"ä\": it contains a character that is not ASCII"),
            ("42", "", "1", &long, "it is longer than 255 bytes"),
        ] {
            let error = passed(pid, pidfd_id, fds, names).unwrap_err();
            assert!(error.is_invalid_environment(), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn names_that_are_no_text_are_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let mut environment = environment("42", "", "1", "");
        environment.names = Some(OsString::from_vec(vec![b'a', 0xff]));
        let error = environment.passed(&IDENTITY, false).unwrap_err();
        assert!(error.to_string().contains("LISTEN_FDNAMES=\"a\u{fffd}\" is not valid UTF-8"), "{error}");
    }
}
