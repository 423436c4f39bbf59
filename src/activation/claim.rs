//! Claiming the descriptors that were passed to this process: once, all of them or none.
//!
//! The claim is a property of the process and not of a set, so it is in a static: a second `from_env`, in a library or
//! a test, gets the same set and not descriptors that are owned already. A claim that fails has touched nothing and is
//! tried again at the next call, as a program may first correct what it asks for ([`ForeignPid`]).

use std::sync::{Mutex, PoisonError};

use super::{
    environment::{Environment, Identity, Passed, bound_positions},
    names::CONTROL_NAME,
    set::ActivatedListeners,
    slot::Slot,
    stored::StoredFds,
};
use crate::{
    error::{Error, Kind},
    log,
    sys::inherit::{self, Unclaimable},
};

/// The set of this process, once it is claimed. Held while it is claimed, so that of two threads one claims and the
/// other waits.
static PROCESS: Mutex<Option<ActivatedListeners>> = Mutex::new(None);

/// What to do with sockets whose `LISTEN_PID` or `LISTEN_PIDFDID` names another process.
///
/// ```
/// use axum_activation::{ActivatedListeners, ForeignPid};
///
/// let builder = ActivatedListeners::builder().on_foreign_pid(ForeignPid::Ignore);
/// assert_eq!(ForeignPid::default(), ForeignPid::Refuse);
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignPid {
    /// An error ([`Error::is_pid_mismatch`]): most often a wrapper between the service manager and this program forgot to
    /// `exec` it. Sockets that name no process are taken if all of them are there, see `docs/reference/sockets.md`.
    #[default]
    Refuse,
    /// Leave them alone, as if nothing had been passed, also when they name no process: for a program that a socket-activated
    /// service starts as its child, which inherits the variables and not the sockets.
    Ignore,
    /// Take them all the same, and with no `LISTEN_PID` whatever they are: for a program behind a wrapper that passes the descriptors on
    /// and cannot correct the variable. A helper that inherited nothing but the variables gets an error then, or worse,
    /// descriptors that are something else.
    Accept,
}

/// Takes what the environment promises at the first call, and answers with the same set at every other one.
pub(super) fn claim_once(foreign_pid: ForeignPid) -> Result<ActivatedListeners, Error> {
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    match &*process {
        Some(set) => Ok(set.clone()),
        None => Ok(process.insert(claim(foreign_pid)?).clone()),
    }
}

/// Takes what the environment promises, all of it or nothing.
fn claim(foreign_pid: ForeignPid) -> Result<ActivatedListeners, Error> {
    let passed = Environment::read().passed(&Identity::own(), foreign_pid == ForeignPid::Accept);
    let passed = match passed {
        Err(error) if error.is_pid_mismatch() && foreign_pid == ForeignPid::Ignore => Passed::default(),
        passed => passed?,
    };
    let passed = if passed.is_unaddressed { settle_unaddressed(passed, foreign_pid) } else { passed };
    let promised = passed.range();
    let fds = inherit::claim(promised.clone()).map_err(|problem| match problem {
        Unclaimable::Closed(fd) => Error::from(Kind::ClosedFd { fd, promised }),
        Unclaimable::Owned(fd) => Kind::OwnedFd { fd, promised }.into(),
    })?;
    let (mut slots, mut control, mut stored) = (Vec::new(), None, StoredFds::default());
    let (bound, mut position) = (bound_positions(), 0);
    for (name, fd) in passed.names().zip(fds) {
        match stored.sort(name, fd) {
            Ok(listener) => slots.extend(listener),
            Err(fd) if name == CONTROL_NAME => control = Some(fd),
            Err(fd) => {
                slots.push(Slot::passed_at(position, name, fd, bound.contains(&position)));
                position += 1;
            }
        }
    }
    let set = ActivatedListeners::new(slots);
    *set.stored() = stored;
    if let Some(control) = control {
        set.link(control);
    }
    log::debug!(sockets = ?set, "claimed the sockets that were passed to this process");
    Ok(set)
}

/// Without `LISTEN_PID` the sockets may be for this process or for one that has started it: `systemfd --no-pid` leaves it out, as
/// programs stand between it and the service. They are for this process if all of them are there. A process that has claimed
/// them has set close-on-exec, so its children have the variables alone.
fn settle_unaddressed(passed: Passed, foreign_pid: ForeignPid) -> Passed {
    if foreign_pid == ForeignPid::Ignore {
        return Passed::default();
    }
    match inherit::first_not_passed(passed.range()) {
        None => {
            log::info!(
                count = passed.count,
                "taking the sockets of LISTEN_FDS, no LISTEN_PID says which process they are for"
            );
            passed
        }
        Some((fd, problem)) => {
            log::warn!(
                "LISTEN_FDS is set, LISTEN_PID is not, and descriptor {fd} {problem}, so nothing was passed to this process; the \
                 variable is from a process above it: unset LISTEN_FDS, or take the descriptors with ignore_pid()"
            );
            Passed::default()
        }
    }
}
