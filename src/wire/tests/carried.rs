//! Connections whose protocol has a record: to a process that takes them, and to others.

use std::sync::Arc;

use super::{
    super::{packet::LONGEST_INLINE, reason::ReturnReason, receive::Ended, send::TransferOutcome},
    support::*,
};
use crate::idle_connection::{
    Accepts, Http2Record, IdleConnection, LONGEST_PROTOCOL_RECORD, LONGEST_READ_AHEAD, Protocol, ResumableRecord,
};

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
fn all() -> Vec<(Arc<str>, Accepts)> {
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
