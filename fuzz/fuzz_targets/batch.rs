//! The connections of one message, with its descriptors and its memfd.
//!
//! - A batch is taken whole or not at all. If it is refused, each descriptor is closed.
//! - Each connection has its own descriptor, and the bytes that were read ahead of it: no byte of the memfd is lost or
//!   comes twice.
//! - Connections that were taken can be sent on, in packets that are not too long, and arrive the same.

#![no_main]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use axum_activation::fuzzing::{Connection, LONGEST_PACKET, gather, memfd, unpack};
use axum_activation_fuzz::Input;
use libfuzzer_sys::fuzz_target;
use rustix::{
    io::fcntl_getfd,
    net::{AddressFamily, SocketType, socket},
};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (count, with_memfd, version) = (input.up_to(300), input.flag(), 1 + u32::from(input.byte()) % 3);
    let (long, packet) = (input.chunk(), input.0);
    let mut fds = sockets(count);
    fds.extend(with_memfd.then(|| memfd(long)));
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    match unpack(packet, fds) {
        Ok(connections) => {
            let own: Vec<_> = connections.iter().map(|connection| connection.stream.as_raw_fd()).collect();
            assert_eq!(own, numbers[..own.len()], "a connection has the descriptor of another one");
            assert!(numbers.len() - own.len() <= 1 && numbers[own.len()..].iter().all(|number| is_closed(*number)));
            let from_memfd: Vec<_> = connections.iter().filter(|connection| connection.is_long).collect();
            assert_eq!(from_memfd.is_empty(), numbers.len() == own.len());
            let is_read_ahead = connections.iter().all(|connection| !connection.spoken.has_record());
            if !from_memfd.is_empty() && is_read_ahead {
                let joined: Vec<u8> = from_memfd.iter().flat_map(|connection| connection.read_ahead.clone()).collect();
                assert_eq!(joined, long);
            }
            send_on(connections, version);
        }
        Err(_) => assert!(numbers.iter().all(|number| is_closed(*number)), "a refused descriptor is open"),
    }
});

/// Packs `connections` as for the next process and unpacks them there.
fn send_on(connections: Vec<Connection>, version: u32) {
    let mut expected: Vec<_> = connections.iter().map(content).collect();
    let mut arrived = Vec::new();
    for (packet, fds) in gather(connections, version) {
        assert!(packet.len() <= LONGEST_PACKET && fds.len() <= 253);
        arrived.extend(unpack(&packet, fds).expect("what was sent is taken"));
    }
    // Those of one kind stay in their order.
    let mut arrived: Vec<_> = arrived.iter().map(content).collect();
    expected.sort_by_key(|content| content.3.clone());
    arrived.sort_by_key(|content| content.3.clone());
    assert_eq!(arrived, expected);
}

/// The last part is what the client speaks.
fn content(connection: &Connection) -> (String, String, Vec<u8>, String) {
    let Connection { listener, peer, read_ahead, spoken, .. } = connection;
    (listener.clone(), peer.to_string(), read_ahead.clone(), format!("{spoken:?}"))
}

fn sockets(count: usize) -> Vec<OwnedFd> {
    let Some(first) = (count > 0).then(|| socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket"))
    else {
        return Vec::new();
    };
    let mut sockets: Vec<_> = (1..count).map(|_| first.try_clone().expect("a descriptor")).collect();
    sockets.push(first);
    sockets
}

fn is_closed(number: RawFd) -> bool {
    // SAFETY: only the flags of the number are asked for, and an error says that it is closed.
    fcntl_getfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }).is_err()
}
