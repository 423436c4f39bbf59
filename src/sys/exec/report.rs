//! What the new process reports to its starter: records of one size through a pipe, short enough to be written at once
//! (`PIPE_BUF` of `pipe(7)`).
//!
//! Both ends of the pipe are close-on-exec. So the end of file is a message as well: after the last record it says that
//! `execve(2)` has succeeded, and before the first one that the process was killed.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, BorrowedFd, RawFd},
};

use super::failure::{Failure, Step};

const SIZE: usize = 8;
const AT_GATE: u32 = 0;

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Its descriptors are in place, and it waits to be let on.
    AtGate,
    /// That step has failed with that `errno`.
    Failed(Step, c_int),
}

/// Says it; after a fork, so nothing is allocated, and `errno` is left alone. A write that fails is ignored: the starter has gone away.
pub(super) fn send(pipe: RawFd, report: Report) {
    // SAFETY: the caller's end of the pipe, which nothing closes meanwhile.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    let _ = rustix::io::write(pipe, &encode(report));
}

/// The next record; `None` when every process that could write has closed the pipe.
pub(super) fn receive(pipe: impl AsFd) -> io::Result<Option<Report>> {
    let mut record = [0; SIZE];
    match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut record))? {
        0 => Ok(None),
        SIZE => decode(record).map(Some),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn encode(report: Report) -> [u8; SIZE] {
    let (kind, errno) = match report {
        Report::AtGate => (AT_GATE, 0),
        Report::Failed(step, errno) => (step as u32, errno),
    };
    let mut record = [0; SIZE];
    let bytes = [kind.to_ne_bytes(), errno.to_ne_bytes()];
    for (place, byte) in record.iter_mut().zip(bytes.as_flattened()) {
        *place = *byte;
    }
    record
}

fn decode(record: [u8; SIZE]) -> io::Result<Report> {
    let mut words = record.chunks_exact(4).map(|word| word.try_into().unwrap_or_default());
    let [kind, errno]: [[u8; 4]; 2] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let kind = u32::from_ne_bytes(kind);
    if kind == AT_GATE {
        return Ok(Report::AtGate);
    }
    let step = Step::ALL.into_iter().find(|step| *step as u32 == kind).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Report::Failed(step, c_int::from_ne_bytes(errno)))
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        match report {
            Report::Failed(step, errno) => Self { step, source: io::Error::from_raw_os_error(errno) },
            Report::AtGate => Self { step: Step::Fork, source: io::ErrorKind::InvalidData.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let failed = Step::ALL.map(|step| Report::Failed(step, libc::ENOENT));
        for report in failed.into_iter().chain([Report::AtGate]) {
            assert_eq!(decode(encode(report)).unwrap(), report);
        }
        assert!(decode([0xff; SIZE]).is_err());
    }
}
