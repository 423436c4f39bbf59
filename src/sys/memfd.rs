//! Bytes too long for a packet, in memory that travels as a file descriptor: `memfd_create(2)`, sealed.
//!
//! A seal is what makes it safe to read: without it the sender could change or truncate the file while it is mapped or
//! read. A reader refuses a file that is not sealed, is no memfd, or is of another length than announced.
//!
//! A write beyond `RLIMIT_FSIZE` would end this process by SIGXFSZ, so the limit is looked at before each.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    process::{Resource, getrlimit},
};

/// `parts` one after the other, in a file that no process can change any more.
pub(crate) fn sealed(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut growing = Growing::create(name)?;
    parts.iter().try_for_each(|part| growing.append(part))?;
    growing.seal()
}

/// Bytes that are written part by part.
#[derive(Debug)]
pub(crate) struct Growing {
    file: File,
    len: u64,
}

impl Growing {
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        Ok(Self { file: create(name)?.into(), len: 0 })
    }

    /// Adds `part`, or nothing of it.
    ///
    /// # Errors
    ///
    /// There is no memory for it, or the file would be longer than `RLIMIT_FSIZE`. The file is as it was before.
    pub(crate) fn append(&mut self, part: &[u8]) -> io::Result<()> {
        let end = self.len.saturating_add(part.len() as u64);
        // A write beyond the limit is not only an error: it ends the process by SIGXFSZ.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < end) {
            return Err(Errno::FBIG.into());
        }
        match self.file.write_all_at(part, self.len) {
            Ok(()) => self.len = end,
            Err(error) => {
                self.file.set_len(self.len)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes away so many bytes from the end.
    pub(crate) fn cut_off(&mut self, len: u64) -> io::Result<()> {
        self.len = self.len.saturating_sub(len);
        self.file.set_len(self.len)
    }

    /// Seals the file, so that it changes no more.
    pub(crate) fn seal(self) -> io::Result<OwnedFd> {
        rustix::fs::fcntl_add_seals(&self.file, seals() | SealFlags::SEAL)?;
        Ok(self.file.into())
    }
}

impl AsFd for Growing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Reads `len` bytes.
///
/// # Errors
///
/// The descriptor is no memfd, is not sealed, or has another length.
pub(crate) fn read(fd: impl AsFd + Into<OwnedFd>, len: u64) -> io::Result<Vec<u8>> {
    let invalid = |problem| io::Error::new(io::ErrorKind::InvalidData, problem);
    let found = rustix::fs::fcntl_get_seals(&fd).map_err(|_| invalid("what came is no memfd"))?;
    if !found.contains(seals()) {
        return Err(invalid("the memfd is not sealed"));
    }
    let file = File::from(fd.into());
    if file.metadata()?.len() != len {
        return Err(invalid("the memfd is of another length than announced"));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| invalid("the memfd is too long"))?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn create(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3.
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        created => Ok(created?),
    }
}

fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_can_no_longer_be_changed() {
        let fd = sealed("test", &[b"ab", b"", b"c"]).unwrap();
        let mut file = File::from(fd.try_clone().unwrap());
        assert!(file.write_all(b"d").is_err() && file.set_len(0).is_err());
        assert_eq!(read(fd.try_clone().unwrap(), 3).unwrap(), b"abc");
        assert_eq!(read(fd, 3).unwrap(), b"abc");
    }

    #[test]
    fn another_length_another_file_and_a_missing_seal_are_refused() {
        let says = |fd: OwnedFd, len| read(fd, len).unwrap_err().to_string();
        let fd = sealed("test", &[b"abc"]).unwrap();
        assert_eq!(says(fd.try_clone().unwrap(), 2), "the memfd is of another length than announced");
        assert_eq!(says(fd, u64::MAX), "the memfd is of another length than announced");
        assert_eq!(says(File::open("/proc/self/exe").unwrap().into(), 1), "what came is no memfd");
        assert_eq!(says(create("test").unwrap(), 0), "the memfd is not sealed");
    }
}
