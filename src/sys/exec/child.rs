//! The code that runs between the fork and `exec`, in processes that share our memory (`CLONE_VM`). So a start costs the same however
//! much memory there is, and no page is copied when it is written to afterwards.
//!
//! Another thread of ours may hold any lock. So this code does not allocate or panic, and calls only what `signal-safety(7)` allows. The
//! processes have the thread-local storage of the thread that starts them, `errno` above all, so only one of the three uses it at a
//! time:
//!
//! - the process in between, while the kernel holds our thread (`CLONE_VFORK`), until it has made the new process;
//! - the new process from there on until it reports that it is at the gate, and from the gate on. Meanwhile our thread has its signals
//!   blocked, and makes no system call that can fail: one that succeeds leaves `errno` alone, in libc as in `rustix`, whose calls
//!   do or do not go through libc as it was built;
//! - our thread, while the new process waits at the gate. Meanwhile the new process only reads from the gate, with every signal
//!   blocked, which cannot fail either.

use std::{
    convert::Infallible,
    ffi::{c_int, c_long, c_void},
    io, mem,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, setrlimit};

use super::{
    failure::Step,
    memory::{SharedMemory, SpawnResult, Stack},
    plan::ExecPlan,
    report::{self, Report},
};

/// The highest signal number of Linux, on every architecture.
const LAST_SIGNAL: c_int = 64;

/// `__WALL` of `wait(2)`: children that send no SIGCHLD too.
const WALL: u32 = 0x4000_0000;

/// Starts the process in between, and returns when it has ended. The new process then uses `memory` until it has closed its end of the
/// report pipe.
///
/// The process in between shares our table of descriptors, so the kernel puts the pidfd of the new process into it: the new process
/// cannot be reaped, and its number not be reused, before we hold it. The process in between sends no SIGCHLD and no plain `wait` sees
/// it, so other code of this process does not reap a child that is not its own.
///
/// # Safety
///
/// `memory` stays where it is until the report pipe is at its end. Until the new process has reported that it is at the gate,
/// this thread keeps its signals blocked and does not touch `errno`.
pub(super) unsafe fn start_orphan(memory: &SharedMemory) -> io::Result<()> {
    // SAFETY: this thread is held until the child has ended, which keeps to what such a child may do; the rest is the caller's.
    let started = unsafe { start(between, &memory.between, libc::CLONE_VFORK | libc::CLONE_FILES, memory) }?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(WALL);
    let wait = |id: WaitId<'_>| rustix::io::retry_on_intr(|| rustix::process::waitid(id.clone(), options));
    match started {
        Started { pidfd: Some(pidfd), .. } => {
            // SAFETY: the kernel has just made it for us, and no other code knows the number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            wait(WaitId::PidFd(pidfd.as_fd()))?;
        }
        // Its number stays its own until it is reaped, which is done here.
        Started { pid, .. } => drop(Pid::from_raw(pid).map(|pid| wait(WaitId::Pid(pid))).transpose()?),
    }
    Ok(())
}

/// The process between ours and the new one.
extern "C" fn between(memory: *mut c_void) -> c_int {
    // SAFETY: what `start` was given, which stays there.
    let memory: &SharedMemory = unsafe { &*memory.cast() };
    // SAFETY: this process does nothing with `errno` once there is a child, which keeps to what such a child may do.
    let started = unsafe { start(successor, &memory.successor, libc::SIGCHLD, memory) };
    memory.result.set(match started {
        Ok(Started { pid, pidfd: Some(pidfd) }) => SpawnResult::Yes { pid: pid.unsigned_abs(), pidfd },
        Ok(Started { pid, pidfd: None }) => {
            discard(pid);
            SpawnResult::Unheld
        }
        Err(error) => SpawnResult::No(error.raw_os_error().unwrap_or(0)),
    });
    exit()
}

/// Ends a child of this process, and returns when it is gone. Both calls succeed, as it is not reaped elsewhere, and so leave
/// `errno` alone.
fn discard(pid: libc::pid_t) {
    // SAFETY: signals a child of this process, which has its number until it is reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: reaps a child of this process, and writes nothing.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
}

/// The new process.
extern "C" fn successor(memory: *mut c_void) -> c_int {
    // SAFETY: what `start` was given, which stays there until this process has become another program or is gone.
    let memory: &SharedMemory = unsafe { &*memory.cast() };
    let Err((step, error)) = become_program(&memory.plan);
    report::send(memory.plan.report, Report::Failed(step, error.raw_os_error().unwrap_or(0)));
    exit()
}

/// Closes all descriptors that are not the program's before it waits, so that it does not hold other pipes and sockets open.
fn become_program(plan: &ExecPlan) -> Result<Infallible, (Step, io::Error)> {
    arrange(plan).map_err(|error| (Step::Descriptors, error))?;
    report::send(plan.report, Report::AtGate);
    wait_at_gate(plan.gate);
    plan.write_own_pid(std::process::id());
    enter_directory(plan).map_err(|error| (Step::Directory, error))?;
    plan.open_files.iter().for_each(|soft| limit_files(*soft));
    reset_signals(&plan.ignored);
    Err((Step::Exec, execute(plan)))
}

fn arrange(plan: &ExecPlan) -> io::Result<()> {
    for step in &plan.moves {
        if step.from == step.to { keep(step.to)? } else { copy(step.from, step.to)? }
    }
    let (gate, report) = (plan.gate, plan.report);
    let (low, high) = (gate.min(report), gate.max(report));
    close_range(plan.floor, low - 1)?;
    close_range(low + 1, high - 1)?;
    close_range(high + 1, RawFd::MAX)
}

fn copy(from: RawFd, to: RawFd) -> io::Result<()> {
    loop {
        // SAFETY: works on numbers of this process's own table, which no other process uses.
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

/// Returns when our starter lets us on; ends this process where it has gone away instead. Leaves `errno` alone.
fn wait_at_gate(gate: RawFd) {
    // SAFETY: `arrange` has kept it open, and nothing here closes it.
    let gate = unsafe { BorrowedFd::borrow_raw(gate) };
    match rustix::io::retry_on_intr(|| rustix::io::read(gate, &mut [0_u8])) {
        Ok(1) => {}
        _ => exit(),
    }
}

fn enter_directory(plan: &ExecPlan) -> io::Result<()> {
    // SAFETY: a text that ends with NUL and lives on.
    let entered = unsafe { libc::chdir(plan.directory.as_ptr()) };
    check(entered)
}

/// Sets the soft limit of open files; what is open stays open. Where the system refuses, the limit stays as it is here.
///
/// Limits are this process's own: they are not shared with the memory.
fn limit_files(soft: u64) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..limit });
}

/// As `std::process::Command` leaves them: what was ignored stays ignored but for SIGPIPE, nothing is blocked. Handlers go
/// first, as none of ours may run here. The signals in `ignored` are ignored before any can arrive.
fn reset_signals(ignored: &[c_int]) {
    (1..=LAST_SIGNAL).filter(|signal| has_handler(*signal)).for_each(|signal| set_action(signal, libc::SIG_DFL));
    set_action(libc::SIGPIPE, libc::SIG_DFL);
    ignored.iter().for_each(|signal| set_action(*signal, libc::SIG_IGN));
    // SAFETY: all zeros is a valid value of this plain C structure, and on Linux the empty set.
    let empty: libc::sigset_t = unsafe { mem::zeroed() };
    set_mask(&empty);
}

fn has_handler(signal: c_int) -> bool {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: only reads, into a structure of ours; a number that is no signal is an error.
    let known = unsafe { libc::sigaction(signal, ptr::null(), &mut action) } == 0;
    known && action.sa_sigaction != libc::SIG_IGN && action.sa_sigaction != libc::SIG_DFL
}

/// `action` is `SIG_DFL` or `SIG_IGN`.
fn set_action(signal: c_int, action: libc::sighandler_t) {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = action;
    let action = new;
    // SAFETY: no handler is installed, and this process has one thread.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
}

fn execute(plan: &ExecPlan) -> io::Error {
    let (arguments, environment) = (plan.arguments(), plan.environment());
    // SAFETY: a text and two lists of texts that end as they must and live on.
    unsafe { libc::execve(plan.path.as_ptr(), arguments, environment) };
    io::Error::last_os_error()
}

/// A process that `clone(2)` has made.
struct Started {
    pid: libc::pid_t,
    /// `None` where the kernel knows no `CLONE_PIDFD` (before Linux 5.2), or a sandbox ignores it.
    pidfd: Option<RawFd>,
}

/// Starts a process that shares our memory and runs `main`, on `stack`.
///
/// # Safety
///
/// `main` never returns, and does only what is safe in a process that shares the memory of one with threads
/// (`signal-safety(7)`). It uses `errno` only while this thread does not. `memory`, with `stack` in it, stays where it is as long as
/// `main` runs, and nothing else runs on `stack`.
unsafe fn start(
    main: extern "C" fn(*mut c_void) -> c_int,
    stack: &Stack,
    flags: c_int,
    memory: &SharedMemory,
) -> io::Result<Started> {
    let mut pidfd: c_int = -1;
    let (flags, memory) = (flags | libc::CLONE_VM | libc::CLONE_PIDFD, ptr::from_ref(memory).cast_mut().cast());
    let (pidfd_at, nothing) = (ptr::from_mut(&mut pidfd), ptr::null_mut::<c_void>());
    // SAFETY: a stack of its own, and the kernel writes the pidfd to a place of ours; no fork handlers run. The caller answers
    // for the rest.
    let pid = unsafe { libc::clone(main, stack.top(), flags, memory, pidfd_at, nothing, nothing) };
    check(pid)?;
    Ok(Started { pid, pidfd: Some(pidfd).filter(|pidfd| *pidfd >= 0) })
}

/// Every signal is blocked for this thread as long as this is kept.
pub(super) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    /// So that none of our handlers runs in a process that shares our memory, or touches the `errno` that we share with it.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: all zeros is a valid value of this plain C structure.
        let mut all: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: writes a structure of ours.
        unsafe { libc::sigfillset(&mut all) };
        let mut before = all;
        // SAFETY: reads one structure of ours and writes another.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) };
        if error == 0 { Ok(Self(before)) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        set_mask(&self.0);
    }
}

fn set_mask(mask: &libc::sigset_t) {
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
