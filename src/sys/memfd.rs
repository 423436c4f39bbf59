//! Bytes too long for a packet, in memory that travels as a file descriptor: `memfd_create(2)`, sealed.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
};

/// `parts` one after the other, which nobody can change any more.
pub(crate) fn sealed(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut file = File::from(create(name)?);
    for part in parts {
        file.write_all(part)?;
    }
    rustix::fs::fcntl_add_seals(&file, seals() | SealFlags::SEAL)?;
    Ok(file.into())
}

/// An empty one that grows as it is written to.
pub(crate) fn growing(name: &str) -> io::Result<File> {
    Ok(create(name)?.into())
}

/// Reads `len` bytes, if there are so many and they are sealed.
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
