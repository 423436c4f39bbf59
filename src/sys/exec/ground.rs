//! What the processes of a start stand on while they share our memory.

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
    prepared::{Ends, ExecPlan},
};

/// Room for a few small functions; what is not used takes no memory.
const STACK_SIZE: usize = 128 * 1024;

/// At least a page, on every architecture.
const GUARD_SIZE: usize = 64 * 1024;

/// What they read, and a stack for each.
#[derive(Debug)]
pub(super) struct SharedMemory {
    pub(super) prepared: ExecPlan,
    pub(super) between: Stack,
    pub(super) successor: Stack,
    /// What the one in between has to say.
    pub(super) born: Cell<SpawnResult>,
}

/// Whether there is a new process.
#[derive(Clone, Copy, Debug)]
pub(super) enum SpawnResult {
    /// The one in between has said nothing.
    Unknown,
    /// Under this number, held by this descriptor in our table.
    Yes { pid: u32, pidfd: RawFd },
    /// It has been ended again: the system gave no descriptor that holds it.
    Unheld,
    /// The `errno`.
    No(c_int),
}

impl SharedMemory {
    fn new(prepared: ExecPlan) -> io::Result<Self> {
        let (between, successor) = (Stack::new()?, Stack::new()?);
        Ok(Self { prepared, between, successor, born: Cell::new(SpawnResult::Unknown) })
    }
}

/// The end to read from, and the one to write to.
pub(super) type Gate = (OwnedFd, OwnedFd);

/// The ground, kept until nobody stands on it any more: when it is dropped, a process that still does is killed and waited for.
///
/// It stays in its thread, whose thread-local storage the new process has.
#[derive(Debug)]
pub(super) struct ChildGuard {
    /// Not owned alone, as long as somebody stands there; and where it is, it stays.
    ground: Rc<SharedMemory>,
    ends: Option<Ends>,
    /// Where the new process waits: both ends, as a write to the gate of one that has been killed is no broken pipe then.
    gate: Option<Gate>,
    /// Where there is the end of file, nobody stands there: memory is let go of before descriptors, by `exec` and at the end.
    pub(super) report: OwnedFd,
    pub(super) process: Option<Process>,
}

impl ChildGuard {
    pub(super) fn new((prepared, ends): (ExecPlan, Ends), gate: Gate, report: OwnedFd) -> io::Result<Self> {
        let ground = Rc::new(SharedMemory::new(prepared)?);
        Ok(Self { ground, ends: Some(ends), gate: Some(gate), report, process: None })
    }

    pub(super) fn ground(&self) -> &SharedMemory {
        &self.ground
    }

    /// Lets the new process on.
    pub(super) fn open_gate(&self) -> io::Result<()> {
        let Some((_, gate)) = &self.gate else { return Ok(()) };
        rustix::io::retry_on_intr(|| rustix::io::write(gate, &[1]))?;
        Ok(())
    }

    /// Closes here what the new process has by now.
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
        // SAFETY: the lowest part of what was mapped above, which nobody uses.
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
        // SAFETY: what `new` has mapped; whoever ran on it is gone, as `ChildGuard` sees to.
        unsafe { libc::munmap(self.lowest, GUARD_SIZE + STACK_SIZE) };
    }
}
