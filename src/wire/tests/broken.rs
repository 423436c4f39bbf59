//! A successor that breaks the protocol after it was sent connections: each is served by one process.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout};

use super::{
    super::{
        channel::Channel,
        join::join_blocking,
        offer::{Committed, offer},
        protocol::*,
        reason::ReturnReason,
        send::TransferOutcome,
    },
    support::*,
};

#[tokio::test]
async fn answers_behind_what_breaks_the_protocol_are_about_the_batches_in_their_order() {
    let (sender, handle, new) = committed_to_raw().await;
    let (keeps, mut old) = (Keeps::default(), Old::default());
    let connections: Vec<_> = (0..4).map(|_| keeps.on(connection("GET"))).collect();
    let inodes: Vec<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();
    connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
    let talk = async move {
        for _ in 0..2 {
            new.say(Credit { connections: 2 }).await;
            new.hear_connections().await;
        }
        new.throw(&[1]).await;
        new.say(Refused { count: 2, reason: "full".to_owned() }).await;
        new.say(Taken { count: 2 }).await;
        new.hear_abort().await
    };
    let (parted, _) = tokio::join!(sender.run(&mut old), talk);
    assert!(matches!(parted, TransferOutcome::Broken(_)), "{parted:?}");
    let refused = |inode| (inode, ReturnReason::Refused("full".into()));
    assert_eq!(old.resumed, [refused(inodes[0]), refused(inodes[1])]);
    assert_eq!(keeps.count(), 0);
}

/// How a successor goes on that has sent garbage and read nothing of what it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Later {
    Takes,
    Refuses,
    Ends,
    AnswersAnother,
    Never,
}

#[tokio::test(start_paused = true)]
async fn what_a_successor_may_still_read_is_served_by_no_other_until_it_has_answered_or_ended() {
    const COUNT: usize = 2_000;
    for later in [Later::Takes, Later::Refuses, Later::Ends, Later::AnswersAnother, Later::Never] {
        let (sender, handle, new) = committed_to_raw().await;
        let keeps = Keeps::default();
        fill(handle, &keeps, COUNT, &[7; 4000]);
        new.say(Credit { connections: u32::MAX }).await;
        let mut old = Old::default();
        let mut moving = Box::pin(sender.run(&mut old));
        for _ in 0..1_000 {
            assert!(poll_fn(|context| Poll::Ready(moving.as_mut().poll(context).is_pending())).await);
        }
        new.throw(&[1]).await;
        // The queue is full, so it cannot even get the reason.
        assert!(timeout(Duration::from_secs(3600), &mut moving).await.is_err(), "{later:?}");
        let talk = async move {
            let mut sent = 0;
            while let Ok(envelope) = new.0.receive("what was sent").await {
                let Message::Connections(Connections { records }) = envelope.message else { continue };
                sent += records.len();
                let count = records.len().try_into().unwrap();
                match later {
                    Later::Takes => new.say(Taken { count }).await,
                    Later::Refuses => new.say(Refused { count, reason: String::new() }).await,
                    Later::AnswersAnother => new.say(Taken { count: count + 1 }).await,
                    Later::Ends | Later::Never => {}
                }
            }
            if later == Later::Never {
                std::future::pending::<()>().await;
            }
            sent
        };
        let sent = if later == Later::Never {
            let _ = timeout(Duration::from_secs(3600), async { tokio::join!(&mut moving, talk) }).await.unwrap_err();
            drop(moving);
            COUNT - old.resumed.len()
        } else {
            let (parted, sent) = tokio::join!(moving, talk);
            assert!(matches!(parted, TransferOutcome::Broken(_)), "{later:?}: {parted:?}");
            sent
        };
        let back = if matches!(later, Later::Refuses | Later::Ends) { sent } else { 0 };
        assert!(sent > 0 && sent < COUNT, "{later:?}: {sent} sent");
        assert_eq!((old.resumed.len(), keeps.count()), (COUNT - sent + back, 0), "{later:?}");
    }
}

#[tokio::test]
async fn a_connection_is_never_with_both_however_late_the_successor_reads_on() {
    const COUNT: usize = 3_000;
    crate::sys::table::raise_limit();
    let (channel, control) = Channel::pair().unwrap();
    let garbage = Raw::new(control.try_clone().unwrap());
    let old = tokio::spawn(offer(channel, an_offer(1, Vec::new())));
    let joined = spawn_blocking(|| join_blocking(control, Instant::now() + PATIENCE)).await.unwrap().unwrap();
    let new = tokio::spawn(joined.control.into_candidate().unwrap().into_ready_receiver());
    let Committed { sender, handle } = old.await.unwrap().unwrap().commit().await.unwrap();
    let (receiver, _words) = new.await.unwrap().unwrap();

    let keeps = Keeps::default();
    let connections: Vec<_> = (0..COUNT).map(|_| keeps.on(connection(vec![7; 4000]))).collect();
    let mut all: Vec<_> = connections.iter().map(|connection| inode(&connection.stream)).collect();
    connections.into_iter().for_each(|connection| handle.send(connection).unwrap());
    drop(handle);
    garbage.say(Credit { connections: u32::MAX }).await;
    let mut old = Old::default();
    let mut moving = Box::pin(sender.run(&mut old));
    for _ in 0..1_000 {
        assert!(poll_fn(|context| Poll::Ready(moving.as_mut().poll(context).is_pending())).await);
    }
    garbage.throw(&[1]).await;
    assert!(timeout(Duration::from_secs(2), &mut moving).await.is_err());
    drop(garbage);
    let mut new = New::default();
    let (parted, _) = timeout(PATIENCE, async { tokio::join!(moving, receiver.run(&mut new)) }).await.unwrap();
    assert!(matches!(parted, TransferOutcome::Broken(_)), "{parted:?}");
    let served = new.served.iter().map(|connection| inode(&connection.stream));
    let mut somewhere: Vec<_> = old.resumed.iter().map(|(inode, _)| *inode).chain(served).collect();
    assert!(!new.served.is_empty() && !old.resumed.is_empty());
    somewhere.sort_unstable();
    all.sort_unstable();
    assert_eq!(somewhere, all);
}
