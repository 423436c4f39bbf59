//! Handoffs that come about.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Builder, time::Instant};

use super::{
    super::{
        protocol::{FinalTaken, SectionKind},
        receive::{ConnectionReceiver, Ended},
        send::TransferOutcome,
    },
    child::play,
    support::*,
};
use crate::idle_connection::{IdleConnection, LONGEST_READ_AHEAD, Protocol, Times};

#[tokio::test]
async fn what_is_offered_arrives() {
    let sections = vec![
        section(SectionKind::State, "short", "abc"),
        section(SectionKind::State, "long", vec![7; 1 << 20]),
        section(SectionKind::State, "", ""),
    ];
    for count in [0, 1, 253, 254, 600] {
        let offered = an_offer(count, sections.clone());
        let records: Vec<_> = offered.listeners.iter().map(|(record, fd)| (record.clone(), inode(fd))).collect();
        let (_old, joined) = meet(offered).await;
        assert_eq!((joined.hello.generation, joined.hello.draining), (7, 2));
        assert_eq!(joined.hello.pid, std::process::id());
        assert!(!joined.is_orphaned);
        assert_eq!(joined.sections, sections);
        let received: Vec<_> = joined.listeners.into_iter().map(|(record, fd)| (record, inode(fd.unwrap()))).collect();
        assert_eq!(received, records);
    }
}

#[test]
fn ten_thousand_connections_move_in_half_a_second_of_processor_time_with_the_bytes_ahead_of_each() {
    // In a process of its own, where no other test takes of that time.
    let name = "::ten_thousand_connections_move_in_half_a_second_of_processor_time_with_the_bytes_ahead_of_each";
    play(&[module_path!(), name].concat(), false, || {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(move_ten_thousand());
    });
}

async fn move_ten_thousand() {
    const COUNT: usize = 10_000;
    crate::sys::table::raise_limit();
    let sizes = [0, 1, 4096, 4097, 100 * 1024];
    // A hundred of the longest are enough to copy.
    let size = |i: usize| if i % 100 == 0 { sizes[4] } else { sizes[i % 4] };
    let ahead = |i: usize| vec![u8::try_from(i % 251).unwrap(); size(i)];
    let keeps = Keeps::default();
    let connections: Vec<_> = (0..COUNT).map(|i| keeps.on(connection(ahead(i)))).collect();
    let inodes: Vec<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();

    let ((sender, handle), (receiver, _words)) = committed().await;
    let start = processor_time();
    connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
    drop(handle);
    let new = tokio::spawn(take_all(receiver));
    let mut old = Old::default();
    let TransferOutcome::Moved(final_state) = sender.run(&mut old).await else { panic!("it did not move") };
    let elapsed = processor_time() - start;
    let answers = final_state.finish(vec![section(SectionKind::Final, "end", vec![1; 5000])]).await.unwrap();
    assert_eq!(answers, [FinalTaken { name: "end".to_owned(), error: None }]);
    let (ended, new) = new.await.unwrap();
    assert_eq!(ended, Ended::Done);
    assert_eq!((old.resumed, keeps.count()), (vec![], 0));
    assert_eq!(new.finals, [section(SectionKind::Final, "end", vec![1; 5000])]);
    assert_eq!(new.served.iter().map(|connection| inode(&connection.stream)).collect::<Vec<_>>(), inodes);
    for (i, connection) in new.served.iter().enumerate() {
        assert_eq!(connection.read_ahead, ahead(i), "{i}");
    }
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
}

/// What all threads of this process have used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

async fn take_all(receiver: ConnectionReceiver) -> (Ended, New) {
    let mut new = New::default();
    (receiver.run(&mut new).await, new)
}

#[tokio::test]
async fn connections_move_however_much_is_ahead_of_them() {
    let longest = (0..3).map(|_| vec![1; LONGEST_READ_AHEAD]);
    let ahead: Vec<_> = (0..300).map(|i| vec![u8::try_from(i % 251).unwrap(); 100 * 1024]).chain(longest).collect();
    let ((sender, handle), (receiver, _words)) = committed().await;
    ahead.iter().for_each(|ahead| handle.send(connection(ahead.clone())).unwrap());
    drop(handle);
    let new = tokio::spawn(take_all(receiver));
    let mut old = Old::default();
    let TransferOutcome::Moved(final_state) = sender.run(&mut old).await else { panic!("it did not move") };
    final_state.finish(Vec::new()).await.unwrap();
    let (ended, new) = new.await.unwrap();
    assert_eq!((ended, old.resumed), (Ended::Done, vec![]));
    assert!(new.served.iter().map(|connection| &connection.read_ahead).eq(&ahead));
}

#[tokio::test]
async fn the_limits_of_a_connection_go_on_where_it_arrives() {
    let ((sender, handle), (receiver, _words)) = committed().await;
    let (began, ago) = (Instant::now(), |seconds| Instant::now() - Duration::from_secs(seconds));
    let times = Times { opened: ago(3000), quiet_since: ago(200), headers_since: Some(ago(10)) };
    handle.send(IdleConnection { times, ..connection("GET") }).unwrap();
    drop(handle);
    let new = tokio::spawn(take_all(receiver));
    let TransferOutcome::Moved(final_state) = sender.run(&mut Old::default()).await else { panic!("it did not move") };
    final_state.finish(Vec::new()).await.unwrap();
    let arrived = new.await.unwrap().1.served[0].times;
    // The time on the way is not counted.
    let is_same = |sent: Instant, arrived: Instant| {
        arrived - sent <= began.elapsed() && arrived + Duration::from_micros(1) > sent
    };
    assert!(is_same(times.opened, arrived.opened) && is_same(times.quiet_since, arrived.quiet_since));
    assert!(is_same(times.headers_since.unwrap(), arrived.headers_since.unwrap()));
}

#[tokio::test]
async fn what_comes_with_a_connection_arrives_with_it() {
    let ((sender, handle), (receiver, _words)) = committed().await;
    let peers = ["127.0.0.1:80", "[fe80::1%2]:80", "unix:/a (pid 1, uid 2, gid 3)", "@b", "vsock:1:2"];
    for (i, peer) in peers.iter().enumerate() {
        let listener = ["http", "admin", ""][i % 3].into();
        let connection = IdleConnection {
            listener,
            peer: peer.parse().unwrap(),
            protocol: if i % 2 == 0 { Protocol::Undetected } else { Protocol::Http1 },
            ..connection("x")
        };
        handle.send(connection).unwrap();
    }
    drop(handle);
    let new = tokio::spawn(take_all(receiver));
    let TransferOutcome::Moved(final_state) = sender.run(&mut Old::default()).await else { panic!("it did not move") };
    final_state.finish(Vec::new()).await.unwrap();
    let served = new.await.unwrap().1.served;
    for (i, (connection, peer)) in served.iter().zip(peers).enumerate() {
        assert_eq!(&*connection.listener, ["http", "admin", ""][i % 3]);
        assert_eq!(
            (connection.peer.to_string(), connection.protocol == Protocol::Undetected),
            (peer.to_owned(), i % 2 == 0)
        );
    }
    assert_eq!(served.len(), peers.len());
}
