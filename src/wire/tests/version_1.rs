//! A process of the first release, which speaks version 1 alone: what it sends and what it is sent, byte by byte, as recorded from it.

use std::{os::fd::AsFd, time::Instant};

use tokio::task::spawn_blocking;

use super::{
    super::{
        channel::Channel,
        join::join_blocking,
        offer::{Committed, offer},
        protocol::*,
        receive::Ended,
        send::TransferOutcome,
        version::VERSION,
    },
    support::*,
};
use crate::{
    idle_connection::{IdleConnection, Protocol, Times},
    sys::scm,
};

/// `Join` of version 1, of the process 300.
const JOIN: &[u8] = b"\x20\0\x01\x01\xac\x02";
/// `Hello` of version 1: generation 1, process 300, none drains.
const HELLO: &[u8] = b"\x01\0\x01\x01\x01\xac\x02\0";
/// Two `Listeners`: `name0`, which was passed on and bound, and `name1`.
const LISTENERS: &[u8] = b"\x02\0\x02\x05name0\0\x01\x05name1\0\0\0";
const OFFERED: &[u8] = b"\x04\0";
const COMMIT: &[u8] = b"\x05\0";
const READY: &[u8] = b"\x21\0";
/// Two `Connections` of `http`, from 127.0.0.1:80: undetected, and with `GET /` ahead.
const CONNECTIONS: &[u8] = b"\x06\0\x02\x04http\0\x7f\0\0\x01\x50\x01\0\0\x04http\0\x7f\0\0\x01\x50\0\0\x05GET /";
const TAKEN: &[u8] = b"\x24\0\x02";
const DONE: &[u8] = b"\x07\0";

fn two_connections() -> [IdleConnection; 2] {
    let peer = "127.0.0.1:80".parse::<crate::addr::PeerAddr>().unwrap();
    [
        IdleConnection { protocol: Protocol::Undetected, peer: peer.clone(), ..connection("") },
        IdleConnection { peer, ..connection("GET /") },
    ]
}

#[tokio::test]
async fn a_successor_of_version_1_is_sent_what_it_understands() {
    let (channel, control) = Channel::pair().unwrap();
    let new = Raw::new(control);
    let offering = tokio::spawn(offer(channel, an_offer(2, Vec::new())));
    new.throw(JOIN).await;
    let hello = Message::decode(&new.hear_packet().await).unwrap().unwrap();
    assert!(matches!(hello, Message::Hello(Hello { version: VERSION, oldest_version: 1, .. })), "{hello:?}");
    assert_eq!(new.hear_packet().await, LISTENERS);
    assert_eq!(new.hear_packet().await, OFFERED);
    new.throw(READY).await;
    let Committed { sender, handle } = offering.await.unwrap().unwrap().commit().await.unwrap();
    assert_eq!(new.hear_packet().await, COMMIT);
    two_connections().into_iter().for_each(|connection| handle.send(connection).unwrap());
    drop(handle);
    let talk = async {
        new.say(Credit { connections: 2 }).await;
        assert_eq!(new.hear_packet().await, CONNECTIONS);
        new.throw(TAKEN).await;
    };
    let mut old = Old::default();
    let (parted, ()) = tokio::join!(sender.run(&mut old), talk);
    let TransferOutcome::Moved(final_state) = parted else { panic!("{parted:?}") };
    assert_eq!(old.resumed, []);
    final_state.finish(Vec::new()).await.unwrap();
    assert_eq!(new.hear_packet().await, DONE);
}

#[tokio::test]
async fn what_a_predecessor_of_version_1_sends_is_served_and_its_limits_begin() {
    let began = Times::now();
    let (own, control) = scm::pair().unwrap();
    let old = Raw::new(own);
    for packet in [HELLO, LISTENERS, OFFERED] {
        old.throw(packet).await;
    }
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    let names = joined.listeners.iter().map(|(record, _)| (&*record.name, record.bound)).collect::<Vec<_>>();
    assert_eq!(names, [("name0", true), ("name1", false)]);
    let join = Message::decode(&old.hear_packet().await).unwrap().unwrap();
    assert!(matches!(join, Message::Join(Join { version: VERSION, oldest_version: 1, .. })), "{join:?}");
    old.throw(COMMIT).await;
    let (receiver, _handle) = joined.control.into_candidate().unwrap().into_ready_receiver().await.unwrap();
    assert_eq!(old.hear_packet().await, READY);

    let streams = two_connections().map(|connection| connection.stream);
    old.0.send_packet(CONNECTIONS, &streams.each_ref().map(AsFd::as_fd)).await.unwrap();
    let mut new = New::default();
    let talk = async {
        while old.hear_packet().await != TAKEN {}
        old.throw(DONE).await;
    };
    let (ended, ()) = tokio::join!(receiver.run(&mut new), talk);
    assert_eq!(ended, Ended::Done);
    let served: Vec<_> = new
        .served
        .iter()
        .map(|connection| (connection.protocol == Protocol::Undetected, &*connection.read_ahead))
        .collect();
    assert_eq!(served, [(true, &b""[..]), (false, b"GET /")]);
    let begins = |times: &Times| times.opened >= began.opened && times.quiet_since >= began.opened;
    assert!(new.served.iter().all(|new| begins(&new.times) && new.times.headers_since.is_none()));
}
