//! Who runs where, and for how long.

use std::{fs, io, time::Duration};

use rustix::{process::Pid, thread::CpuSet};

/// Where the two sides run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl Cores {
    /// The first and the last that this process may run on.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let client = cores.next().unwrap_or(0);
        Ok(Self { client, server: cores.next_back().unwrap_or(client) })
    }
}

/// Keeps this thread on one core, and the processes that it starts from now on.
pub(crate) fn pin_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}

/// What all threads of a process have run for: those that are left, when it has ended and is not reaped yet.
pub(crate) fn cpu_time(pid: Pid) -> io::Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let statistics = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanoseconds = statistics.split(' ').next().and_then(|number| number.parse().ok());
        time += Duration::from_nanos(nanoseconds.ok_or(io::ErrorKind::InvalidData)?);
    }
    Ok(time)
}
