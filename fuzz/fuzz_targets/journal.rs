//! The journal of the fd store, as the process before has left it, wherever that process was stopped.
//!
//! - A journal that ends early has the first of the records that the whole one has, each as it was.
//! - It is read once: the next reader finds no record.
//! - The bytes that were read ahead are those of the file, none of them twice.
//! - Records that are written again read back as they were.
//! - It takes no more memory than its length allows.

#![no_main]

use axum_activation::fuzzing::{Record, journal, write_journal};
use axum_activation_fuzz::{Input, bounded};
use libfuzzer_sys::fuzz_target;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{MemfdFlags, memfd_create},
    net::{AddressFamily, SocketType, socket},
};

/// Of idle connections of HTTP/1, and of those whose protocol has a record.
const MAGICS: [&[u8]; 2] = [b"aa.jrnl\x01", b"aa.jrnc\x01"];

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let cut = input.up_to(usize::from(u16::MAX));
    let file = file(input.0);
    let again = file.try_clone().expect("a descriptor");
    let Some(records) = bounded(4096 + 64 * data.len(), || journal(file)) else {
        assert!(!is_journal(input.0), "a journal was not known");
        return;
    };
    assert!(is_journal(input.0));
    assert_eq!(journal(again), Some(Vec::new()), "a record is not void");
    let ahead: usize = records.iter().map(|record| 8 + record.read_ahead.len()).sum();
    assert!(MAGICS[0].len() + ahead <= input.0.len(), "a byte comes twice");
    ends_early(&input.0[..cut.min(input.0.len())], &records);
    written_again(records);
});

fn is_journal(bytes: &[u8]) -> bool {
    MAGICS.iter().any(|magic| bytes.starts_with(magic))
}

fn ends_early(part: &[u8], whole: &[Record]) {
    if let Some(records) = journal(file(part)) {
        assert!(whole.starts_with(&records), "{records:?} of {whole:?}");
    }
}

/// A record that is written has the cookie of its socket.
fn written_again(mut records: Vec<Record>) {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    let read = journal(write_journal(&records, socket.as_fd())).expect("it is a journal");
    for (record, read) in records.iter_mut().zip(&read) {
        (record.cookie, record.elapsed) = (read.cookie, read.elapsed);
    }
    assert_eq!(records, read);
}

fn file(bytes: &[u8]) -> OwnedFd {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest).expect("it is written")..];
    }
    file
}
