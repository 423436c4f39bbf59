//! A process of the last build before `Accepts` and `CarriedConnections`: what it sends and what it is sent, byte by byte, as recorded
//! from a handoff between two of them.

use std::{os::fd::AsFd, time::Instant};

use tokio::task::spawn_blocking;

use super::{
    super::{
        channel::Channel,
        join::join_blocking,
        offer::{Committed, Offer, offer},
        protocol::*,
        reason::ReturnReason,
        receive::Ended,
        send::TransferOutcome,
    },
    carried::{all, http2},
    support::*,
};
use crate::{
    idle_connection::{Elapsed, IdleConnection, Protocol},
    sys::scm,
};

/// `Join` of the process 3837, and `Hello` of the process 2048.
const JOIN: &[u8] = b"\x20\0\x02\x01\xfd\x1d";
const HELLO: &[u8] = b"\x01\0\x02\x01\0\x80\x10\0";
/// `Listeners`: `http`, which the old process had bound.
const LISTENERS: &[u8] = b"\x09\0\x01\x07\x04http\0\x01\0";
/// A part of the state, version 7, and one of the final state, version 0.
const STATE: &[u8] = b"\x03\0\0\x07numbers\x07\x03\x01\x03\0\0\0";
const FINAL: &[u8] = b"\x03\0\x01\x05count\0\x08\x01\x08\0\0\0\0\0\0\0\0";
const OFFERED: &[u8] = b"\x04\0";
const READY: &[u8] = b"\x21\0";
const COMMIT: &[u8] = b"\x05\0";
/// For 3953 connections.
const CREDIT: &[u8] = b"\x23\0\xf1\x1e";
/// Four `Connections` of `http`: one that has sent nothing, one that has sent half of a request behind others, an idle one, and one that
/// has sent half of its first request.
const CONNECTIONS: &[u8] = b"\x0a\0\x04\
    \x17\x04http\0\x7f\0\0\x01\xa8\x97\x02\x01\0\0\xc6\xea\x07\xc6\xea\x07\0\
    \x21\x04http\0\x7f\0\0\x01\xc0\x97\x02\0\0\x0bGET /who HT\x9b\xe1\x07\x9a\x1e\0\
    \x17\x04http\0\x7f\0\0\x01\xaa\x97\x02\0\0\0\xb3\xe8\x07\x83\xe6\x07\0\
    \x21\x04http\0\x7f\0\0\x01\xb6\x97\x02\0\0\x07GET /wh\xb4\xe4\x07\xb4\xe4\x07\x01\xf9\xe2\x07";
const TAKEN: &[u8] = b"\x24\0\x04";
const FINAL_TAKEN: &[u8] = b"\x26\0\x05count\0";
const DONE: &[u8] = b"\x07\0";

/// What those connections have ahead, in their order.
const AHEAD: [&[u8]; 4] = [b"", b"GET /who HT", b"", b"GET /wh"];

#[tokio::test]
async fn a_successor_of_that_build_is_sent_what_it_knows_and_the_rest_comes_back() {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let offer_one = an_offer(1, vec![section(SectionKind::State, "numbers", vec![0, 0, 0])]);
    let (record, fd) = offer_one.listeners.into_iter().next().unwrap();
    let listeners = vec![(ListenerRecord { name: "http".to_owned(), ..record }, fd)];
    let offering = tokio::spawn(offer(channel, Offer { listeners, ..offer_one }));
    new.throw(JOIN).await;
    assert_eq!(new.hear_packet().await[..4], HELLO[..4], "the versions");
    assert_eq!(new.hear_packet().await, LISTENERS);
    let section = [&STATE[..11], &[3], &STATE[12..]].concat();
    assert_eq!(new.hear_packet().await, section);
    assert_eq!(new.hear_packet().await, OFFERED);
    new.throw(READY).await;
    let Committed { sender, handle } = offering.await.unwrap().unwrap().commit().await.unwrap();
    assert_eq!(new.hear_packet().await, COMMIT);
    let Ok(Some(Message::Connections(recorded))) = Message::decode(CONNECTIONS) else { unreachable!() };
    for record in &recorded.records {
        let protocol = if record.undetected { Protocol::Undetected } else { Protocol::Http1 };
        let ahead = AHEAD[recorded.records.iter().position(|other| other == record).unwrap()];
        handle.send(IdleConnection { protocol, peer: record.peer.clone(), ..connection(ahead) }).unwrap();
    }
    handle.send(IdleConnection { protocol: http2(1), ..connection("") }).unwrap();
    drop(handle);
    let talk = async {
        new.throw(CREDIT).await;
        let Ok(Some(Message::Connections(sent))) = Message::decode(&new.hear_packet().await) else {
            panic!("none moved")
        };
        let timeless = |record: &ConnectionRecord| ConnectionRecord { elapsed: Elapsed::default(), ..record.clone() };
        assert!(sent.records.iter().map(timeless).eq(recorded.records.iter().map(timeless)));
        new.throw(TAKEN).await;
    };
    let mut old = Old::default();
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    let TransferOutcome::Moved(final_state) = parted else { panic!("{parted:?}") };
    assert!(matches!(&old.resumed[..], [(_, ReturnReason::NotTaken(_))]), "{:?}", old.resumed);
    new.throw(FINAL_TAKEN).await;
    final_state.finish(vec![section_of_count()]).await.unwrap();
    assert_eq!(new.hear_packet().await, FINAL);
    assert_eq!(new.hear_packet().await, DONE);
}

#[tokio::test]
async fn a_predecessor_of_that_build_is_joined_and_its_connections_are_taken() {
    let (own, control) = scm::pair().unwrap();
    let old = Raw::new(own);
    for packet in [HELLO, LISTENERS, STATE, OFFERED] {
        old.throw(packet).await;
    }
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    assert_eq!((&*joined.listeners[0].0.name, joined.listeners[0].0.bound), ("http", true));
    assert_eq!((&*joined.sections[0].name, joined.sections[0].version), ("numbers", 7));
    assert_eq!(old.hear_packet().await[..4], JOIN[..4], "the versions");
    old.throw(COMMIT).await;
    let candidate = joined.control.into_candidate().unwrap();
    candidate.ready(Vec::new(), &all()).await.unwrap();
    // It is of a kind that the old process does not know, and ignores.
    assert!(matches!(Message::decode(&old.hear_packet().await), Ok(Some(Message::Accepts(_)))));
    assert_eq!(old.hear_packet().await, READY);
    let (receiver, _handle) = candidate.into_receiver();
    let streams = [(); 4].map(|()| connection("").stream);
    old.0.send_packet(CONNECTIONS, &streams.each_ref().map(AsFd::as_fd)).await.unwrap();
    let mut new = New::default();
    let talk = async {
        while old.hear_packet().await != TAKEN {}
        old.throw(FINAL).await;
        while old.hear_packet().await != FINAL_TAKEN {}
        old.throw(DONE).await;
    };
    let (ended, ()) = tokio::join!(receiver.run(&mut new), talk);
    assert_eq!(ended, Ended::Done);
    assert_eq!(new.finals, [section_of_count()]);
    assert_eq!(new.served.iter().map(|connection| &*connection.read_ahead).collect::<Vec<_>>(), AHEAD);
    let undetected = new.served.iter().map(|connection| connection.protocol == Protocol::Undetected);
    assert_eq!(undetected.collect::<Vec<_>>(), [true, false, false, false]);
    let Ok(Some(Message::Connections(recorded))) = Message::decode(CONNECTIONS) else { unreachable!() };
    for (connection, record) in new.served.iter().zip(recorded.records) {
        let (now, then) = (connection.times.elapsed(tokio::time::Instant::now()), record.elapsed);
        assert!(now.age >= then.age && now.quiet >= then.quiet && now.headers >= then.headers, "{now:?} {then:?}");
    }
    assert!(new.served[3].times.headers_since.is_some());
}

fn section_of_count() -> super::super::section::Section {
    super::super::section::Section { version: 0, ..section(SectionKind::Final, "count", vec![0; 8]) }
}
