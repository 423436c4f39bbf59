//! Hand-overs that come about.

use std::time::{Duration, Instant};

use super::{
    super::{
        inbound::Ended,
        mover::{FinalAnswer, Parted},
        protocol::SectionKind,
    },
    support::*,
};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_move_in_half_a_second_with_the_bytes_ahead_of_each() {
    const COUNT: usize = 10_000;
    crate::sys::table::raise_limit();
    let sizes = [0, 1, 4096, 4097, 100 * 1024];
    // A hundred of the longest are enough to copy.
    let size = |i: usize| if i % 100 == 0 { sizes[4] } else { sizes[i % 4] };
    let ahead = |i: usize| vec![u8::try_from(i % 251).unwrap(); size(i)];
    let keeps = Keeps::default();
    let connections: Vec<_> = (0..COUNT).map(|i| keeps.on(connection(ahead(i)))).collect();
    let inodes: Vec<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();

    let ((mover, handle), (inbound, _words)) = committed().await;
    let start = Instant::now();
    connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
    drop(handle);
    let new = tokio::spawn(async move {
        let mut new = New::default();
        let ended = inbound.run(&mut new).await;
        (ended, new)
    });
    let mut old = Old::default();
    let Parted::Moved(farewell) = mover.run(&mut old).await else { panic!("it did not move") };
    let elapsed = start.elapsed();
    let answers = farewell.finish(vec![section(SectionKind::Final, "end", vec![1; 5000])], &mut old).await.unwrap();
    assert_eq!(answers, [FinalAnswer { name: "end".to_owned(), error: None }]);
    let (ended, new) = new.await.unwrap();
    assert_eq!(ended, Ended::Done);
    assert_eq!((old.resumed, keeps.count()), (vec![], 0));
    assert_eq!(new.finals, [section(SectionKind::Final, "end", vec![1; 5000])]);
    assert_eq!(new.served.iter().map(|connection| inode(&connection.stream)).collect::<Vec<_>>(), inodes);
    for (i, connection) in new.served.iter().enumerate() {
        assert_eq!(connection.ahead, ahead(i), "{i}");
    }
    println!("{elapsed:?}");
    assert!(elapsed < Duration::from_millis(500), "{elapsed:?}");
}
