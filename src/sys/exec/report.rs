//! What a forked process says to its starter: records of one size through a pipe, short enough to be written at once.

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, RawFd},
};

use super::Step;

const SIZE: usize = 12;
const BORN: u32 = 0;

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The new process is there, under this number, and held by this descriptor in the starter's table.
    Born { pid: u32, pidfd: RawFd },
    /// That step has failed with that `errno`.
    Failed(Step, c_int),
}

/// Says it; in a forked child, so nothing is allocated. Who cannot be told has gone away.
pub(super) fn send(pipe: RawFd, report: Report) {
    let record = encode(report);
    // SAFETY: writes bytes of ours.
    unsafe { libc::write(pipe, record.as_ptr().cast(), SIZE) };
}

/// The next word; `None` when everybody who could say something has closed the pipe.
pub(super) fn receive(pipe: impl AsFd) -> io::Result<Option<Report>> {
    let mut record = [0; SIZE];
    match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut record))? {
        0 => Ok(None),
        SIZE => decode(record).map(Some),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn encode(report: Report) -> [u8; SIZE] {
    let (kind, first, second) = match report {
        Report::Born { pid, pidfd } => (BORN, pid, pidfd),
        Report::Failed(step, errno) => (step as u32, 0, errno),
    };
    let mut record = [0; SIZE];
    let bytes = [kind.to_ne_bytes(), first.to_ne_bytes(), second.to_ne_bytes()];
    for (place, byte) in record.iter_mut().zip(bytes.as_flattened()) {
        *place = *byte;
    }
    record
}

fn decode(record: [u8; SIZE]) -> io::Result<Report> {
    let mut words = record.chunks_exact(4).map(|word| word.try_into().unwrap_or_default());
    let [kind, first, second]: [[u8; 4]; 3] = std::array::from_fn(|_| words.next().unwrap_or_default());
    let kind = u32::from_ne_bytes(kind);
    if kind == BORN {
        return Ok(Report::Born { pid: u32::from_ne_bytes(first), pidfd: RawFd::from_ne_bytes(second) });
    }
    let step = Step::ALL.into_iter().find(|step| *step as u32 == kind).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Report::Failed(step, c_int::from_ne_bytes(second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let failed = Step::ALL.map(|step| Report::Failed(step, libc::ENOENT));
        for report in failed.into_iter().chain([Report::Born { pid: 4_194_304, pidfd: 77 }]) {
            assert_eq!(decode(encode(report)).unwrap(), report);
        }
        assert!(decode([0xff; SIZE]).is_err());
    }
}
