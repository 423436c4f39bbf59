//! The variables of `sd_notify(3)`, `sd_watchdog_enabled(3)` and `sd_pid_notify_with_fds(3)`: read at the edge, never
//! written.
//!
//! A value that cannot be understood counts as absent. It comes from the manager, so no user of the service could
//! correct it, and a service that serves without a watchdog is better than none.

use std::{
    env,
    ffi::{OsStr, OsString},
    time::Duration,
};

/// The variables as they were when the environment was read.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) socket: Option<OsString>,
    pub(super) watchdog_usec: Option<OsString>,
    pub(super) watchdog_pid: Option<OsString>,
    pub(super) fd_store: Option<OsString>,
}

impl Environment {
    /// Reads the process's environment; an empty variable counts as unset.
    pub(super) fn read() -> Self {
        let read = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            socket: read("NOTIFY_SOCKET"),
            watchdog_usec: read("WATCHDOG_USEC"),
            watchdog_pid: read("WATCHDOG_PID"),
            fd_store: read("FDSTORE"),
        }
    }

    /// How often at least the manager expects a sign of `own_pid`.
    ///
    /// `WATCHDOG_USEC` without `WATCHDOG_PID` speaks to every process. `u64::MAX` is systemd's infinity.
    pub(super) fn watchdog(&self, own_pid: u32) -> Option<Duration> {
        let usec: u64 = number(self.watchdog_usec.as_deref()?).filter(|usec| (1..u64::MAX).contains(usec))?;
        match self.watchdog_pid.as_deref() {
            // Inherited from a parent whose watchdog it is.
            Some(pid) if number(pid) != Some(u64::from(own_pid)) => None,
            _ => Some(Duration::from_micros(usec)),
        }
    }

    /// How many descriptors the manager keeps for the service.
    pub(super) fn fd_store_max(&self) -> Option<usize> {
        self.fd_store.as_deref().and_then(number).and_then(|max| max.try_into().ok())
    }
}

/// Digits alone: no sign, no blanks.
fn number(value: &OsStr) -> Option<u64> {
    let text = value.to_str()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
        let (watchdog_usec, watchdog_pid) = (usec.map(OsString::from), pid.map(OsString::from));
        Environment { watchdog_usec, watchdog_pid, ..Environment::default() }.watchdog(42)
    }

    #[test]
    fn the_watchdog_is_on_for_the_process_that_it_names_and_for_any_when_it_names_none() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), Some("42")), second);
        assert_eq!(watchdog(Some("1000000"), None), second);
        for pid in ["41", "", "x", "-42", "+42"] {
            assert_eq!(watchdog(Some("1000000"), Some(pid)), None, "{pid}");
        }
    }

    #[test]
    fn a_watchdog_that_cannot_be_kept_is_off() {
        for usec in [None, Some("0"), Some("18446744073709551615"), Some("1s"), Some("-1")] {
            assert_eq!(watchdog(usec, None), None, "{usec:?}");
        }
    }

    #[test]
    fn the_store_is_as_large_as_it_says() {
        let max = |value: &str| Environment { fd_store: Some(value.into()), ..Environment::default() }.fd_store_max();
        assert_eq!((max("4096"), max("0"), max("many")), (Some(4096), Some(0), None));
        assert_eq!(Environment::default().fd_store_max(), None);
    }
}
