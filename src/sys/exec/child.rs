//! What runs between the fork and `exec`: in a process that is a copy of one thread of ours, where any lock may be held by a
//! thread that is not there. So nothing is allocated, nothing panics, and only what `signal-safety(7)` allows is called.

use std::{
    convert::Infallible,
    ffi::{c_int, c_long},
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::process::{WaitId, WaitIdOptions};

use super::{
    Step,
    prepared::Prepared,
    report::{self, Report},
};

/// The highest signal number of Linux, on every architecture.
const LAST_SIGNAL: c_int = 64;

/// `__WALL` of `wait(2)`: children that send no SIGCHLD too.
const WALL: u32 = 0x4000_0000;

/// What a fork is in one of its two processes.
enum Fork {
    Parent { pid: u32, pidfd: RawFd },
    Child,
}

/// Forks twice, and returns when the one in between is gone; what it and the new process have to say comes as reports.
///
/// The one in between shares our table of descriptors, and so puts the pidfd of the new process into it: nobody can reap
/// the new process, or be given its number, before we hold it. It sends no SIGCHLD and no plain `wait` sees it, so that
/// nobody else in this process meets a child that is not his.
pub(super) fn fork_orphan(prepared: &Prepared) -> io::Result<()> {
    let mask = block_signals()?;
    // SAFETY: the child does nothing but what `between` does, which keeps to what a forked child may do.
    let forked = unsafe { fork(libc::CLONE_FILES) };
    if let Ok(Fork::Child) = forked {
        between(prepared);
    }
    restore_signals(&mask);
    if let Fork::Parent { pidfd, .. } = forked? {
        // SAFETY: the kernel has just made it for us, and nobody else knows the number.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(WALL);
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options))?;
    }
    Ok(())
}

/// The process between ours and the new one.
fn between(prepared: &Prepared) -> ! {
    // SAFETY: the child does nothing but what `successor` does, which keeps to what a forked child may do.
    let forked = unsafe { fork(libc::SIGCHLD) };
    let report = match forked {
        Ok(Fork::Child) => successor(prepared),
        Ok(Fork::Parent { pid, pidfd }) => Report::Born { pid, pidfd },
        Err(error) => Report::Failed(Step::Fork, error.raw_os_error().unwrap_or(0)),
    };
    report::send(prepared.report.as_raw_fd(), report);
    exit()
}

/// The new process.
fn successor(prepared: &Prepared) -> ! {
    let Err((step, error)) = become_program(prepared);
    report::send(prepared.report.as_raw_fd(), Report::Failed(step, error.raw_os_error().unwrap_or(0)));
    exit()
}

/// Lets go of all that is not the program's before it waits, so that it holds up nobody else's end of file.
fn become_program(prepared: &Prepared) -> Result<Infallible, (Step, io::Error)> {
    arrange(prepared).map_err(|error| (Step::Descriptors, error))?;
    wait_at_gate(prepared.gate.as_raw_fd());
    prepared.write_own_pid(std::process::id());
    enter_directory(prepared).map_err(|error| (Step::Directory, error))?;
    reset_signals();
    Err((Step::Exec, execute(prepared)))
}

fn arrange(prepared: &Prepared) -> io::Result<()> {
    for step in &prepared.moves {
        if step.from == step.to { keep(step.to)? } else { copy(step.from, step.to)? }
    }
    let (gate, report) = (prepared.gate.as_raw_fd(), prepared.report.as_raw_fd());
    let (low, high) = (gate.min(report), gate.max(report));
    close_range(prepared.floor, low - 1)?;
    close_range(low + 1, high - 1)?;
    close_range(high + 1, RawFd::MAX)
}

fn copy(from: RawFd, to: RawFd) -> io::Result<()> {
    loop {
        // SAFETY: works on numbers of this process's own table, which nobody else uses.
        let copied = unsafe { libc::dup2(from, to) };
        match check(copied) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) || error.raw_os_error() == Some(libc::EBUSY) => {}
            done => return done,
        }
    }
}

fn keep(fd: RawFd) -> io::Result<()> {
    // SAFETY: sets a flag in this process's own table.
    let kept = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    check(kept)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: closes numbers of this process's own table, which nothing here uses any more. The call itself, as glibc has
    // a function for it only from 2.34 on.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, c_long::from(first), c_long::from(last), 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns when our starter lets us on; ends this process where it has gone away instead.
fn wait_at_gate(gate: RawFd) {
    let mut word = 0_u8;
    loop {
        // SAFETY: reads one byte into a byte of ours.
        let read = unsafe { libc::read(gate, ptr::from_mut(&mut word).cast(), 1) };
        match read {
            1 => return,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => exit(),
        }
    }
}

fn enter_directory(prepared: &Prepared) -> io::Result<()> {
    // SAFETY: a text that ends with NUL and lives on.
    let entered = unsafe { libc::chdir(prepared.directory.as_ptr()) };
    check(entered)
}

/// As `std::process::Command` leaves them: what was ignored stays ignored but for SIGPIPE, nothing is blocked. Handlers go
/// first, as none of ours may run here.
fn reset_signals() {
    (1..=LAST_SIGNAL).filter(|signal| has_handler(*signal)).for_each(set_default);
    set_default(libc::SIGPIPE);
    // SAFETY: all zeros is a valid value of this plain C structure, and on Linux the empty set.
    let empty: libc::sigset_t = unsafe { mem::zeroed() };
    restore_signals(&empty);
}

fn has_handler(signal: c_int) -> bool {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only reads, into a structure of ours; a number that is no signal is an error.
    let known = unsafe { libc::sigaction(signal, ptr::null(), &mut action) } == 0;
    known && action.sa_sigaction != libc::SIG_IGN && action.sa_sigaction != libc::SIG_DFL
}

fn set_default(signal: c_int) {
    // SAFETY: all zeros is a valid value of this plain C structure, and means SIG_DFL.
    let action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: no handler is installed, and this process has one thread.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
}

fn execute(prepared: &Prepared) -> io::Error {
    let (arguments, environment) = (prepared.arguments(), prepared.environment());
    // SAFETY: a text and two lists of texts that end as they must and live on.
    unsafe { libc::execve(prepared.path.as_ptr(), arguments, environment) };
    io::Error::last_os_error()
}

/// Forks by the system call itself: nothing of the C library, such as its fork handlers, runs in the child, and it may be
/// called in a forked child.
///
/// # Safety
///
/// The child may only do what is safe after a fork of a process with threads (`signal-safety(7)`), and never returns into
/// code that was running before.
unsafe fn fork(flags: c_int) -> io::Result<Fork> {
    let mut pidfd: c_int = -1;
    let flags = c_long::from(flags | libc::CLONE_PIDFD);
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: without CLONE_VM the child has its own memory and goes on with a copy of this stack, as after fork(2); the
    // kernel writes the pidfd to a place of ours. The caller answers for the rest.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, ptr::from_mut(&mut pidfd), 0_usize, 0_usize) };
    match u32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Ok(Fork::Parent { pid, pidfd }),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Blocks every signal for this thread, so that none of our handlers runs in a forked child; what was blocked before.
fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut all: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: writes a structure of ours.
    unsafe { libc::sigfillset(&mut all) };
    let mut before = all;
    // SAFETY: reads one structure of ours and writes another.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) };
    if error == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: reads a structure of ours.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

fn exit() -> ! {
    // SAFETY: ends the process and nothing else: no handler of exit runs.
    unsafe { libc::_exit(127) }
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
