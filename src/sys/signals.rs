//! Signals of this process: which reach their handlers, and how a handoff keeps SIGHUP and SIGUSR2 from ending the next process
//! before that has handlers for them.
//!
//! The old process starts the next one with both signals ignored. The next one replaces that by a handler that does nothing as soon as
//! it reads its environment ([`hold_off`]), and later by its own. Being ignored is a property of the whole process, and a handler is
//! not inherited by children. A signal mask would be neither: each thread of a runtime that exists already would keep it, and each
//! child that such a thread starts would inherit it.

use std::{ffi::c_int, io, mem, ptr};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for a handoff, and end a process that has no handler for them.
pub(crate) const HANDOFF: [c_int; 2] = [Number::HUP.as_raw(), Number::USR2.as_raw()];

/// Handles a signal from now on, also where the parent of this process has blocked it.
///
/// The signal is unblocked in this thread, and in those that this thread starts later. One thread is enough: the kernel
/// gives a signal that is sent to a process to any thread that does not block it (`signal(7)`).
///
/// # Errors
///
/// The signal cannot be handled, or there is no runtime with I/O.
pub(crate) fn handle(kind: SignalKind) -> io::Result<Signal> {
    let handled = signal(kind)?;
    unblock(&[kind.as_raw_value()])?;
    Ok(handled)
}

/// Unblocks signals that have handlers, in this thread.
pub(crate) fn unblock(signals: &[c_int]) -> io::Result<()> {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: writes a structure of ours.
    unsafe { libc::sigemptyset(&mut set) };
    for signal in signals {
        // SAFETY: writes a structure of ours; a number that is no signal is an error, and changes nothing.
        unsafe { libc::sigaddset(&mut set, *signal) };
    }
    // SAFETY: reads a structure of ours.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Whether this process ignores it.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    action(signal) == Some(libc::SIG_IGN)
}

/// Those of `signals` that are ignored do nothing from now on, and are not ignored in children.
pub(crate) fn hold_off(signals: &[c_int]) {
    signals.iter().filter(|signal| is_ignored(**signal)).for_each(|signal| set_action(*signal, nothing_address()));
}

/// Those of `signals` that still do nothing do what they do by default from now on.
pub(crate) fn let_through(signals: &[c_int]) {
    let held_off = signals.iter().filter(|signal| action(**signal) == Some(nothing_address()));
    held_off.for_each(|signal| set_action(*signal, libc::SIG_DFL));
}

extern "C" fn nothing(_: c_int) {}

fn nothing_address() -> libc::sighandler_t {
    nothing as extern "C" fn(c_int) as libc::sighandler_t
}

fn action(signal: c_int) -> Option<libc::sighandler_t> {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only reads, into a structure of ours; a number that is no signal is an error.
    let known = unsafe { libc::sigaction(signal, ptr::null(), &mut action) } == 0;
    known.then_some(action.sa_sigaction)
}

/// `handler` is `SIG_DFL`, or `nothing`.
fn set_action(signal: c_int, handler: libc::sighandler_t) {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, libc::SA_RESTART);
    // SAFETY: the handler touches nothing.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that no other test of this program uses.
    const UNUSED: c_int = libc::SIGURG;

    #[test]
    fn a_signal_that_is_held_off_is_let_through_unless_it_has_another_handler() {
        set_action(UNUSED, libc::SIG_IGN);
        hold_off(&[UNUSED]);
        assert!(!is_ignored(UNUSED));
        let_through(&[UNUSED]);
        assert_eq!(action(UNUSED), Some(libc::SIG_DFL));
        hold_off(&[UNUSED]);
        assert_eq!(action(UNUSED), Some(libc::SIG_DFL), "only what is ignored is held off");

        set_action(UNUSED, libc::SIG_IGN);
        hold_off(&[UNUSED]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _handled = runtime.block_on(async { handle(SignalKind::from_raw(UNUSED)).unwrap() });
        let handler = action(UNUSED);
        let_through(&[UNUSED]);
        assert_eq!(action(UNUSED), handler);
    }
}
