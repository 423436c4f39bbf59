//! Connections whose protocol has a record: to a process that takes them, and to others.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::time::timeout;

use super::{
    super::{
        accepts::{AcceptsRecord, SuccessorAccepts},
        channel::Channel,
        offer::{Committed, offer},
        packet::LONGEST_INLINE,
        protocol::{
            self, Blob, CarriedConnections, CarriedRecord, Connections, Credit, Done, Join, Message, Ready, Refused,
            Taken,
        },
        reason::ReturnReason,
        receive::Ended,
        records::Payload,
        send::{ConnectionSender, OldProcess, SenderHandle, TransferOutcome},
        version::VERSION,
    },
    support::*,
};
use crate::idle_connection::{
    Accepts, Http2Record, IdleConnection, LONGEST_PROTOCOL_RECORD, LONGEST_READ_AHEAD, Protocol, ResumableRecord,
};
use crate::sys::memfd;

pub(super) fn http2(highest_stream: u32) -> Protocol {
    Protocol::Http2(Box::new(Http2Record { highest_stream, receive_window: 65_535, ..Http2Record::default() }))
}

pub(super) fn resumable(state: usize) -> Protocol {
    Protocol::Resumable(Box::new(ResumableRecord {
        method: "GET".to_owned(),
        target: "/chat".to_owned(),
        headers: vec![("host".to_owned(), b"a".to_vec())],
        status: 101,
        answer: Vec::new(),
        state: vec![7; state],
        state_version: 3,
    }))
}

fn carrying(protocol: Protocol, ahead: usize) -> IdleConnection {
    IdleConnection { protocol, ..connection(vec![1; ahead]) }
}

/// Takes both kinds, and says so of `http` alone.
pub(super) fn all() -> Vec<(Arc<str>, Accepts)> {
    vec![("http".into(), Accepts { http2: true, resumable: true })]
}

/// Moves them all to a process that takes such, and returns what became of them in both processes.
async fn moved(connections: Vec<IdleConnection>, accepts: Vec<(Arc<str>, Accepts)>) -> (Old, New) {
    let ((sender, handle), (receiver, _words)) = committed_accepting(accepts).await;
    connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
    drop(handle);
    let taking = tokio::spawn(async move {
        let mut new = New::default();
        (receiver.run(&mut new).await, new)
    });
    let mut old = Old::default();
    let TransferOutcome::Moved(final_state) = sender.run(&mut old).await else { panic!("it did not move") };
    final_state.finish(Vec::new()).await.unwrap();
    let (ended, new) = taking.await.unwrap();
    assert_eq!(ended, Ended::Done);
    (old, new)
}

#[tokio::test]
async fn what_a_protocol_needs_arrives_however_long_it_is_and_in_any_order() {
    let sizes = [0, 1, LONGEST_INLINE, LONGEST_INLINE + 1, 100_000];
    let mut sent = Vec::new();
    for (i, ahead) in sizes.into_iter().enumerate() {
        sent.push((Protocol::Http1, ahead));
        sent.push((http2(2 * u32::try_from(i).unwrap() + 1), ahead));
        sent.extend(sizes.into_iter().map(|state| (resumable(state), ahead)));
        sent.push((Protocol::Undetected, ahead));
    }
    sent.push((resumable(LONGEST_PROTOCOL_RECORD - 100), LONGEST_READ_AHEAD));
    sent.push((http2(1), LONGEST_READ_AHEAD));
    let connections: Vec<_> = sent.iter().map(|(protocol, ahead)| carrying(protocol.clone(), *ahead)).collect();
    let mut expected: Vec<_> =
        sent.into_iter().zip(&connections).map(|(sent, connection)| (inode(&connection.stream), sent)).collect();
    let (old, new) = moved(connections, all()).await;
    assert_eq!(old.resumed, []);
    let arrived = |connection: &IdleConnection| {
        let IdleConnection { stream, protocol, read_ahead, .. } = connection;
        assert!(read_ahead.iter().all(|byte| *byte == 1));
        (inode(stream), (protocol.clone(), read_ahead.len()))
    };
    let mut arrived: Vec<_> = new.served.iter().map(arrived).collect();
    expected.sort_by_key(|(inode, _)| *inode);
    arrived.sort_by_key(|(inode, _)| *inode);
    assert!(arrived == expected);
}

#[tokio::test]
async fn what_the_new_process_does_not_take_comes_back_and_all_else_moves() {
    let only = |http2, resumable| vec![("http".into(), Accepts { http2, resumable })];
    let other: Vec<(Arc<str>, _)> = vec![("admin".into(), all().swap_remove(0).1)];
    for (accepts, stays) in [
        (Vec::new(), vec![1, 2]),
        (other, vec![1, 2]),
        (only(true, false), vec![2]),
        (only(false, true), vec![1]),
        (all(), vec![]),
    ] {
        let protocols = [Protocol::Http1, http2(1), resumable(5), Protocol::Undetected];
        let connections = protocols.map(|protocol| carrying(protocol, 5));
        let inodes = connections.each_ref().map(|connection| inode(&connection.stream));
        let (old, new) = moved(connections.into(), accepts).await;
        let resumed: Vec<_> = old.resumed.iter().map(|(inode, _)| *inode).collect();
        assert_eq!(resumed, stays.iter().map(|i| inodes[*i]).collect::<Vec<_>>());
        assert!(old.resumed.iter().all(|(_, why)| matches!(why, ReturnReason::NotTaken(_))));
        assert_eq!(new.served.len(), 4 - stays.len());
    }
}

/// An old process that keeps what comes back.
#[derive(Debug, Default)]
struct Returned(Vec<(IdleConnection, ReturnReason)>);

impl OldProcess for Returned {
    fn resume(&mut self, connection: IdleConnection, why: &ReturnReason) {
        self.0.push((connection, why.clone()));
    }

    fn stop_moving(&mut self, _: &ReturnReason) {}
}

/// An old process right after its commit, and a successor that takes both kinds of `http` and is played by hand.
async fn committed_to_raw_accepting(version: u32) -> (ConnectionSender, SenderHandle, Raw) {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let joining = async {
        new.say(Join { version, ..Join::own() }).await;
        while !matches!(new.hear().await, Message::Offered(_)) {}
        let record = AcceptsRecord { name: "http".to_owned(), http2: true, resumable: true };
        new.say(protocol::Accepts { listeners: vec![record] }).await;
        new.say(Ready {}).await;
    };
    let (prepared, ()) = tokio::join!(offer(channel, an_offer(1, Vec::new())), joining);
    let Committed { sender, handle } = prepared.unwrap().commit().await.unwrap();
    assert_eq!(new.hear().await, protocol::Commit {}.into());
    (sender, handle, new)
}

#[tokio::test]
async fn each_kind_has_messages_of_its_own_and_one_that_is_refused_comes_back_whole() {
    let (sender, handle, new) = committed_to_raw_accepting(VERSION).await;
    let protocols = [Protocol::Http1, http2(9), resumable(5), Protocol::Undetected, http2(7), resumable(5)];
    protocols.into_iter().for_each(|protocol| handle.send(carrying(protocol, 5)).unwrap());
    drop(handle);
    new.say(Credit { connections: 100 }).await;
    let talk = async {
        let Message::Connections(Connections { records }) = new.hear().await else { panic!("HTTP/1 comes first") };
        assert_eq!(records.iter().map(|record| record.undetected).collect::<Vec<_>>(), [false, true]);
        for kind in [1, 2] {
            let Message::CarriedConnections(CarriedConnections { records }) = new.hear().await else {
                panic!("{kind}")
            };
            assert_eq!(records.iter().map(|record| record.kind).collect::<Vec<_>>(), [kind; 2]);
        }
        new.say(Taken { count: 2 }).await;
        new.say(Refused { count: 2, reason: "no".to_owned() }).await;
        new.say(Taken { count: 2 }).await;
    };
    let mut old = Returned::default();
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
    for ((connection, why), stream) in old.0.iter().zip([9, 7]) {
        assert_eq!((&connection.protocol, &*connection.read_ahead), (&http2(stream), &[1; 5][..]));
        assert_eq!(*why, ReturnReason::Refused("no".into()));
    }
    assert_eq!(old.0.len(), 2);
}

#[tokio::test]
async fn what_a_dead_successor_has_not_answered_comes_back_whole() {
    for has_read in [false, true] {
        let (sender, handle, new) = committed_to_raw_accepting(VERSION).await;
        // One of them waits in the memfd, and one has not been sent.
        let protocols = [http2(9), http2(7), resumable(100_000), resumable(1)];
        protocols.clone().into_iter().for_each(|protocol| handle.send(carrying(protocol, 5000)).unwrap());
        new.say(Credit { connections: 3 }).await;
        let talk = async {
            while has_read
                && matches!(new.hear().await, Message::CarriedConnections(message) if message.records[0].kind == 1)
            {
            }
            drop(new);
        };
        let mut old = Returned::default();
        let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
        assert!(matches!(parted, TransferOutcome::Died), "{parted:?}");
        assert!(
            old.0.iter().all(|(connection, why)| *why == ReturnReason::Died && connection.read_ahead.len() == 5000)
        );
        let mut states: Vec<_> =
            old.0.into_iter().map(|(connection, _)| connection.protocol.encode().unwrap()).collect();
        let mut expected = protocols.map(|protocol| protocol.encode().unwrap());
        states.sort();
        expected.sort();
        assert!(states == expected);
    }
}

#[tokio::test]
async fn a_successor_that_speaks_version_1_is_sent_none() {
    let (sender, handle, new) = committed_to_raw_accepting(1).await;
    assert_eq!(handle.accepts("http"), Accepts::default());
    [http2(9), resumable(5)].into_iter().for_each(|protocol| handle.send(carrying(protocol, 5)).unwrap());
    drop(handle);
    new.say(Credit { connections: 100 }).await;
    let mut old = Returned::default();
    let parted = sender.run(&mut old).await;
    assert!(matches!(parted, TransferOutcome::Moved(_)), "{parted:?}");
    assert!(old.0.iter().all(|(_, why)| matches!(why, ReturnReason::NotTaken(_))) && old.0.len() == 2);
}

#[tokio::test]
async fn a_record_that_is_too_long_stays_alone() {
    let sizes = [10, LONGEST_PROTOCOL_RECORD, 20, LONGEST_PROTOCOL_RECORD - 100];
    let connections: Vec<_> = sizes.into_iter().map(|state| carrying(resumable(state), 0)).collect();
    let too_long = inode(&connections[1].stream);
    let (old, new) = moved(connections, all()).await;
    assert!(
        matches!(&old.resumed[..], [(inode, ReturnReason::Unsendable(_))] if *inode == too_long),
        "{:?}",
        old.resumed
    );
    assert_eq!(new.served.len(), 3);
}

#[test]
fn so_many_listeners_are_remembered_and_no_more() {
    let record = |i| AcceptsRecord { name: format!("name{i}"), http2: true, resumable: false };
    let mut accepts = SuccessorAccepts::default();
    for message in 0..100 {
        accepts.add(protocol::Accepts { listeners: (100 * message..100 * (message + 1)).map(record).collect() });
    }
    let taken = |i| accepts.of(&format!("name{i}")).http2;
    assert!(taken(0) && taken(4095) && !taken(4096) && !taken(9999));
}

#[tokio::test]
async fn what_listeners_take_is_said_of_all_of_them() {
    let takes = |i: usize| Accepts { http2: i % 2 == 0, resumable: i % 3 == 0 };
    let accepts: Vec<_> = (0..500).map(|i| (Arc::from(format!("{}{i}", "x".repeat(200))), takes(i))).collect();
    let ((_sender, handle), _new) = committed_accepting(accepts.clone()).await;
    for (name, takes) in accepts {
        assert_eq!(handle.accepts(&name), takes);
    }
}

fn record(kind: u32, state: Payload) -> CarriedRecord {
    CarriedRecord { connection: a_record(Payload::Inline(Blob::default())), kind, protocol: state }
}

fn inline(bytes: impl Into<Vec<u8>>) -> Payload {
    Payload::Inline(Blob(bytes.into().into()))
}

/// What is wrong with a message, how many descriptors come with it, how long its memfd is, and what is said of it.
fn lies() -> Vec<(Vec<CarriedRecord>, usize, Option<usize>, &'static str)> {
    let good = || inline(http2(1).encode().unwrap());
    let even = inline(http2(2).encode().unwrap());
    let mut short = http2(1).encode().unwrap();
    short.pop();
    let long = |len| Payload::Memfd { len };
    let ahead = |len, state| CarriedRecord { connection: a_record(Payload::Memfd { len }), ..record(1, state) };
    vec![
        (vec![record(1, good())], 0, None, "0 descriptors came with 1 connections, not 1"),
        (vec![record(1, good())], 2, None, "2 descriptors came with 1 connections, not 1"),
        (vec![record(1, good())], 1, Some(10), "2 descriptors came with 1 connections, not 1"),
        (vec![record(1, long(10))], 1, None, "1 descriptors came with 1 connections, not 2"),
        (vec![record(1, long(10))], 2, None, "what came is no memfd"),
        (vec![record(1, long(10))], 1, Some(9), "of another length than announced"),
        (vec![ahead(5, long(5))], 1, Some(11), "of another length than announced"),
        (vec![record(1, long(0))], 1, None, "too many bytes ahead"),
        (vec![ahead(u64::MAX, long(1))], 1, Some(1), "too many bytes ahead"),
        (vec![record(1, long(20 << 20))], 1, Some(1), "too many bytes ahead"),
        (vec![record(1, long((1 << 20) + 1))], 1, Some((1 << 20) + 1), "the most is 1048576"),
        (vec![record(1, good()), record(1, even)], 2, None, "no client opens a stream 2"),
        (vec![record(1, good()), record(1, inline(short))], 2, None, "the record of its protocol: "),
        (vec![record(1, inline(""))], 1, None, "the record of its protocol: "),
        (vec![record(2, good())], 1, None, "the record of its protocol: "),
        (vec![record(0, good())], 1, None, "a connection of the kind 0 is not known here"),
        (vec![record(3, good())], 1, None, "a connection of the kind 3 is not known here"),
        (vec![record(u32::MAX, good())], 1, None, "a connection of the kind 4294967295 is not known here"),
    ]
}

#[tokio::test]
async fn a_record_that_cannot_be_is_refused_with_its_message_and_nothing_else_is() {
    let (receiver, _handle, old) = committed_by_raw().await;
    let mut new = New::default();
    let send = async |records: Vec<CarriedRecord>, streams: usize, memfd: Option<usize>| {
        let memfd = memfd.map(|len| memfd::sealed("test", &[&vec![0; len]]).unwrap());
        let fds: Vec<OwnedFd> = (0..streams).map(|_| connection("").stream).chain(memfd).collect();
        let packet = Message::from(CarriedConnections { records }).encode().unwrap();
        old.0.send_packet(&packet, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.unwrap();
        loop {
            match old.hear().await {
                Message::Credit(_) => {}
                answer => break answer,
            }
        }
    };
    let talk = async {
        for (records, streams, memfd, says) in lies() {
            let answer = send(records, streams, memfd).await;
            assert!(
                matches!(&answer, Message::Refused(refused) if refused.reason.contains(says)),
                "{says}: {answer:?}"
            );
        }
        let good = inline(http2(1).encode().unwrap());
        assert_eq!(send(vec![record(1, good)], 1, None).await, Taken { count: 1 }.into());
        old.say(Done {}).await;
    };
    let (ended, ()) = timeout(10 * PATIENCE, async { tokio::join!(receiver.run(&mut new), talk) }).await.unwrap();
    assert_eq!(ended, Ended::Done);
    assert!(new.served.iter().map(|connection| &connection.protocol).eq([&http2(1)]));
}

#[tokio::test]
async fn carried_connections_that_a_dead_predecessor_has_sent_are_served_once_it_is_dead() {
    let (mut receiver, _handle, old) = committed_by_raw().await;
    receiver.set_predecessor(Some(an_ended_process()));
    let state = inline(http2(5).encode().unwrap());
    old.say_with(CarriedConnections { records: vec![record(1, state)] }, &[connection("").stream]).await;
    drop(old);
    let mut new = New::default();
    assert_eq!(timeout(PATIENCE, receiver.run(&mut new)).await.unwrap(), Ended::Died);
    assert!(new.served.iter().map(|connection| &connection.protocol).eq([&http2(5)]));
}
