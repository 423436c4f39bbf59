//! Memory shared with the new process between `clone(CLONE_VM)` and `execve`, and its guard.

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    io,
    os::fd::{OwnedFd, RawFd},
    ptr,
    rc::Rc,
};

use super::{
    super::process::Process,
    plan::{Ends, ExecPlan},
};

/// Enough for a few small functions. Unused pages take no memory.
const STACK_SIZE: usize = 128 * 1024;

/// At least a page, on every architecture.
const GUARD_SIZE: usize = 64 * 1024;

/// What both processes read, and a stack for each.
#[derive(Debug)]
pub(super) struct SharedMemory {
    pub(super) plan: ExecPlan,
    pub(super) between: Stack,
    pub(super) successor: Stack,
    /// Written by the process in between.
    pub(super) result: Cell<SpawnResult>,
}

/// Whether the process in between has made the new process.
#[derive(Clone, Copy, Debug)]
pub(super) enum SpawnResult {
    /// It has written nothing, so it was killed.
    Unknown,
    /// The new process has this number, and this descriptor in our table holds it.
    Yes { pid: u32, pidfd: RawFd },
    /// It has killed the new process again, as the kernel gave no descriptor that holds it.
    Unheld,
    /// The `errno`.
    No(c_int),
}

impl SharedMemory {
    fn new(plan: ExecPlan) -> io::Result<Self> {
        let (between, successor) = (Stack::new()?, Stack::new()?);
        Ok(Self { plan, between, successor, result: Cell::new(SpawnResult::Unknown) })
    }
}

/// The pipe at which the new process waits: the end to read from, and the one to write to.
pub(super) type Gate = (OwnedFd, OwnedFd);

/// Keeps the memory until no process uses it any more: dropped, it kills a new process that still does, and waits for its end.
///
/// It stays in its thread, whose thread-local storage the new process has.
#[derive(Debug)]
pub(super) struct ChildGuard {
    /// It stays where it is. Not in a `Box`, which would claim to be the only pointer to it, while the new process has one.
    memory: Rc<SharedMemory>,
    ends: Option<Ends>,
    /// Both ends are kept, so that to open the gate of a process that was killed is not a broken pipe.
    gate: Option<Gate>,
    /// At its end of file no process uses the memory: the kernel frees memory before descriptors, in `exec` and at the end of a process.
    pub(super) report: OwnedFd,
    pub(super) process: Option<Process>,
}

impl ChildGuard {
    pub(super) fn new((plan, ends): (ExecPlan, Ends), gate: Gate, report: OwnedFd) -> io::Result<Self> {
        let memory = Rc::new(SharedMemory::new(plan)?);
        Ok(Self { memory, ends: Some(ends), gate: Some(gate), report, process: None })
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// Lets the new process go on.
    pub(super) fn open_gate(&self) -> io::Result<()> {
        let Some((_, gate)) = &self.gate else { return Ok(()) };
        rustix::io::retry_on_intr(|| rustix::io::write(gate, &[1]))?;
        Ok(())
    }

    /// Closes the ends that the new process has by now.
    pub(super) fn close_ends(&mut self) {
        self.ends = None;
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        (self.ends, self.gate) = (None, None);
        if let Some(process) = &self.process {
            let _ = process.kill();
        }
        while matches!(rustix::io::read(&self.report, &mut [0_u8; 64]), Ok(1..) | Err(rustix::io::Errno::INTR)) {}
    }
}

/// A stack, with nothing below it that could be overwritten.
#[derive(Debug)]
pub(super) struct Stack {
    lowest: *mut c_void,
}

impl Stack {
    fn new() -> io::Result<Self> {
        let (readable, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: new memory, wherever there is room.
        let lowest = unsafe { libc::mmap(ptr::null_mut(), GUARD_SIZE + STACK_SIZE, readable, kind, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest };
        // SAFETY: the lowest part of what was mapped above, which is not used yet.
        let guarded = unsafe { libc::mprotect(lowest, GUARD_SIZE, libc::PROT_NONE) };
        if guarded == 0 { Ok(stack) } else { Err(io::Error::last_os_error()) }
    }

    /// Where it begins, as it grows downwards.
    pub(super) fn top(&self) -> *mut c_void {
        self.lowest.wrapping_byte_add(GUARD_SIZE + STACK_SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped; the process that ran on it has ended, as `ChildGuard` has waited for that.
        unsafe { libc::munmap(self.lowest, GUARD_SIZE + STACK_SIZE) };
    }
}
