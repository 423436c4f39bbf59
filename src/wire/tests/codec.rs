//! Messages as bytes.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use super::super::{
    accepts::AcceptsRecord,
    batch::ConnectionsWriter,
    packet::{LONGEST_INLINE, LONGEST_PACKET, Malformed},
    protocol::*,
    records::Payload,
    version::VERSION,
};
use crate::{
    addr::{PeerAddr, UnixPeer},
    idle_connection::Elapsed,
};

fn blob(bytes: &'static [u8]) -> Blob {
    Blob(bytes.into())
}

fn records() -> Vec<ConnectionRecord> {
    let record = |peer: PeerAddr, read_ahead| ConnectionRecord {
        listener: "http".to_owned(),
        peer,
        undetected: true,
        read_ahead,
        elapsed: Elapsed { age: 300, quiet: 2, headers: Some(1) },
    };
    vec![
        record("127.0.0.1:80".parse().unwrap(), Payload::Inline(blob(b"GET /"))),
        record("[fe80::1%2]:80".parse().unwrap(), Payload::Memfd { len: 4097 }),
        record(PeerAddr::Unix(UnixPeer::default()), Payload::Inline(blob(b""))),
        record("@a (uid 1, gid 2)".parse().unwrap(), Payload::Memfd { len: u64::MAX }),
    ]
}

fn carried_records() -> Vec<CarriedRecord> {
    let protocols =
        [(1, Payload::Inline(blob(b"abc"))), (2, Payload::Memfd { len: 5000 }), (300, Payload::Inline(blob(b"")))];
    let record = |((kind, protocol), connection)| CarriedRecord { connection, kind, protocol };
    protocols.into_iter().zip(records()).map(record).collect()
}

fn accepts_records() -> Vec<AcceptsRecord> {
    vec![
        AcceptsRecord { name: "http".to_owned(), http2: true, resumable: false },
        AcceptsRecord { name: String::new(), http2: false, resumable: true },
    ]
}

/// One of each kind.
pub(super) fn every_message() -> Vec<Message> {
    let path = OsString::from_vec(b"/run/\xff".to_vec()).into();
    let created = Some(PathRecord { path, device: 1, inode: u64::MAX });
    let section = |inline| SectionRecord { kind: SectionKind::Final, name: "s".to_owned(), version: 2, len: 3, inline };
    vec![
        Hello { version: 1, oldest_version: 1, generation: 1 << 40, pid: 5, draining: 6 }.into(),
        Listeners {
            records: vec![
                ListenerRecord { name: "http".to_owned(), created, bound: true },
                ListenerRecord { name: String::new(), created: None, bound: false },
            ],
            more: true,
        }
        .into(),
        section(Some(blob(b"abc"))).into(),
        section(None).into(),
        Offered {}.into(),
        Commit {}.into(),
        Connections { records: records() }.into(),
        Done {}.into(),
        Abort { reason: "no".to_owned() }.into(),
        CarriedConnections { records: carried_records() }.into(),
        Older { draining: 2 }.into(),
        Wait { milliseconds: 1 << 40 }.into(),
        Join::own().into(),
        Ready {}.into(),
        Failed { reason: "ä".to_owned() }.into(),
        Credit { connections: u32::MAX }.into(),
        Taken { count: 253 }.into(),
        Refused { count: 1, reason: String::new() }.into(),
        FinalTaken { name: "s".to_owned(), error: Some("e".to_owned()) }.into(),
        Trim { generations: 0 }.into(),
        Leaving {}.into(),
        Moved { listeners: Vec::new() }.into(),
        Accepts { listeners: accepts_records() }.into(),
        HandOver {}.into(),
        Outcome { pid: Some(1), reason: None }.into(),
    ]
}

#[test]
fn every_message_reads_back_as_it_was() {
    for message in every_message() {
        assert_eq!(Message::decode(&message.encode().unwrap()), Ok(Some(message)));
    }
}

#[test]
fn the_bytes_of_a_message_stay_what_they_are() {
    for (message, bytes) in [
        (Message::from(Commit {}), &[5, 0][..]),
        (Taken { count: 253 }.into(), &[36, 0, 0xfd, 1]),
        (Join { version: 1, oldest_version: 1, pid: 300 }.into(), &[32, 0, 1, 1, 0xac, 2]),
        (Abort { reason: "no".to_owned() }.into(), &[8, 0, 2, b'n', b'o']),
        (
            Connections { records: records()[..1].to_vec() }.into(),
            b"\x0a\0\x01\x18\x04http\0\x7f\0\0\x01\x50\x01\0\x05GET /\xac\x02\x02\x01\x01",
        ),
        (
            CarriedConnections { records: carried_records()[..1].to_vec() }.into(),
            b"\x0d\0\x01\x1f\x18\x04http\0\x7f\0\0\x01\x50\x01\0\x05GET /\xac\x02\x02\x01\x01\x01\0\x03abc",
        ),
        (Accepts { listeners: accepts_records() }.into(), b"\x2a\0\x02\x07\x04http\x01\0\x03\0\0\x01"),
    ] {
        assert_eq!(message.encode().unwrap(), bytes, "{message:?}");
    }
}

#[test]
fn connections_written_one_by_one_are_the_same_message() {
    for (count, version) in [(0, 2), (1, 2), (4, 2), (200, 2), (4, 1)] {
        let records: Vec<_> = records().into_iter().cycle().take(count).collect();
        let mut writer = ConnectionsWriter::new(version);
        assert!(records.iter().all(|record| writer.push(record.clone())));
        let packet = writer.finish();
        match version {
            1 => {
                let without_times = |record| ConnectionRecord { elapsed: Elapsed::default(), ..record };
                let records = records.into_iter().map(without_times).collect();
                assert_eq!(Message::decode(&packet), Ok(Some(Connections { records }.into())));
            }
            _ => assert_eq!(packet, Message::from(Connections { records }).encode().unwrap()),
        }
    }
}

#[test]
fn carried_connections_written_one_by_one_are_the_same_message() {
    for count in [0, 1, 3, 200] {
        let records: Vec<_> = carried_records().into_iter().cycle().take(count).collect();
        let mut writer = ConnectionsWriter::carried();
        assert!(records.iter().all(|record| writer.push_carried(record)));
        assert_eq!(writer.finish(), Message::from(CarriedConnections { records }).encode().unwrap());
    }
}

#[test]
fn a_writer_is_full_before_the_packet_is_too_long() {
    let record = ConnectionRecord {
        listener: "http".to_owned(),
        peer: "127.0.0.1:80".parse().unwrap(),
        undetected: false,
        read_ahead: Payload::Inline(Blob(vec![1; LONGEST_INLINE].into())),
        elapsed: Elapsed::default(),
    };
    let mut writer = ConnectionsWriter::new(VERSION);
    let count = (0..1000).take_while(|_| writer.push(record.clone())).count();
    let packet = writer.finish();
    assert!(packet.len() <= LONGEST_PACKET && packet.len() > LONGEST_PACKET - 2 * LONGEST_INLINE, "{}", packet.len());
    let Ok(Some(Message::Connections(read))) = Message::decode(&packet) else { panic!("{count} connections") };
    assert_eq!(read.records, vec![record; count]);
}

#[test]
fn a_kind_of_a_later_version_is_no_message_and_no_error() {
    for kind in [0_u16, 14, 31, 66, 1000, u16::MAX] {
        let mut packet = kind.to_le_bytes().to_vec();
        assert_eq!(Message::decode(&packet), Ok(None));
        packet.extend([0xff; 100]);
        assert_eq!(Message::decode(&packet), Ok(None));
    }
}

#[test]
fn fields_that_a_later_version_adds_are_not_read() {
    for message in every_message() {
        let mut packet = message.encode().unwrap();
        packet.extend([1, 2, 3]);
        assert_eq!(Message::decode(&packet), Ok(Some(message)));
    }
}

#[test]
fn fields_that_a_later_version_adds_to_a_record_are_not_read() {
    let records = [Blob(b"\x04http\0\0more".as_slice().into()), Blob(b"\x05admin\0\x01".as_slice().into())];
    let packet = postcard::to_extend(&(records.to_vec(), false), vec![9, 0]).unwrap();
    let record = |name: &str, bound| ListenerRecord { name: name.to_owned(), created: None, bound };
    let records = vec![record("http", false), record("admin", true)];
    assert_eq!(Message::decode(&packet), Ok(Some(Listeners { records, more: false }.into())));
}

/// As a later version may write them: with a field at the end of the connection, of the record, and of what a listener takes.
#[test]
fn fields_that_a_later_version_adds_to_a_carried_record_are_not_read() {
    let [record, ..] = &carried_records()[..] else { unreachable!() };
    let connection = Blob([&postcard::to_allocvec(&record.connection).unwrap()[..], b"new"].concat().into());
    let later = postcard::to_allocvec(&(connection, record.kind, &record.protocol, "more")).unwrap();
    let packet = postcard::to_extend(&vec![Blob(later.into())], vec![13, 0]).unwrap();
    assert_eq!(Message::decode(&packet), Ok(Some(CarriedConnections { records: vec![record.clone()] }.into())));
    let [accepts, ..] = &accepts_records()[..] else { unreachable!() };
    let later = postcard::to_allocvec(&(accepts, 7)).unwrap();
    let packet = postcard::to_extend(&vec![Blob(later.into())], vec![42, 0]).unwrap();
    assert_eq!(Message::decode(&packet), Ok(Some(Accepts { listeners: vec![accepts.clone()] }.into())));
}

#[test]
fn what_is_cut_short_is_an_error_wherever_it_is_cut() {
    assert_eq!(Message::decode(&[]), Err(Malformed::Short));
    assert_eq!(Message::decode(&[1]), Err(Malformed::Short));
    for message in every_message() {
        let packet = message.encode().unwrap();
        for len in 2..packet.len() {
            assert!(matches!(Message::decode(&packet[..len]), Err(Malformed::Body { .. })), "{message:?} {len}");
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_not_encoded() {
    let long = Message::from(Abort { reason: "x".repeat(LONGEST_PACKET) });
    assert_eq!(long.encode(), Err(Malformed::Long));
    assert_eq!(Malformed::Long.to_string(), "a packet longer than 65536 bytes");
}

/// Bytes without a pattern, the same at every run.
pub(super) fn noise(seed: u64) -> impl Iterator<Item = u8> {
    std::iter::successors(Some(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
    .map(|state| state.to_be_bytes()[0])
}

#[test]
fn garbage_of_every_kind_is_decoded_to_something_or_refused() {
    let kinds: Vec<_> = every_message().iter().map(|message| message.encode().unwrap()[0]).collect();
    for seed in 0..20_000 {
        let mut noise = noise(seed);
        let len = usize::from(noise.next().unwrap());
        let kind = kinds[usize::from(noise.next().unwrap()) % kinds.len()];
        let packet: Vec<_> = [kind, 0].into_iter().chain(noise.take(len)).collect();
        let _ = Message::decode(&packet);
    }
}
