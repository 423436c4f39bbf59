//! What every handoff that fails has in common: only the process that asked for it sees it.

use std::thread;

use crate::support::{
    clients::{Clients, Habit},
    service::Service,
};

/// Clients that ask all the time, enough of them that some request is always under way.
const BUSY: usize = 4;
/// Connections that ask before and after, and are idle meanwhile.
const IDLE: usize = 4;

/// Fails unless the handoff that `spoil` has prepared fails with a reason that says `says`, while no client loses a request, and the
/// one after `fix` succeeds.
#[track_caller]
pub(crate) fn rolls_back(service: Service, says: &str, spoil: impl FnOnce(&Service), fix: impl FnOnce(&Service)) {
    under_load(service, |service| {
        let old = service.who();
        spoil(service);
        let reason = service.ask_to_hand_over().expect_err("it was to fail");
        assert!(reason.contains(says), "{reason:?} does not say {says:?}");
        assert_eq!(service.wait_for_word(old.pid, "failed "), reason, "the hook learns the same");
        for pid in service.pids().into_iter().filter(|pid| *pid != old.pid) {
            service.wait_for_end(pid);
        }
        assert_eq!(service.who(), old, "the old one serves on");
        fix(service);
        service.ask_to_hand_over().expect("and can try again");
        let new = service.wait_until_after(old);
        assert_eq!(new.generation, 1);
        service.wait_for_end(old.pid);
    });
}

/// Does it while clients ask, none of whom may lose a request or its connection; then ends the service, which must leave
/// nothing behind.
#[track_caller]
pub(crate) fn under_load(service: Service, act: impl FnOnce(&Service)) {
    let clients = Clients::new(service.addr, Habit { posts: true, ..Habit::default() });
    thread::scope(|scope| {
        let _stop = clients.stop_on_drop();
        (0..BUSY).for_each(|_| drop(scope.spawn(|| clients.run())));
        let mut idle: Vec<_> = (0..IDLE).map(|_| service.connect()).collect();
        idle.iter_mut().for_each(|idle| drop(idle.get("/who").unwrap()));
        clients.wait_for(50);
        act(&service);
        clients.wait_for(50);
        for idle in &mut idle {
            assert_eq!(idle.get("/who").unwrap().status, 200, "an idle connection is served on");
        }
    });
    let outcome = clients.outcome().clone();
    assert!(outcome.lost.is_empty(), "lost requests: {:#?}\n{}", outcome.lost, service.log());
    assert_eq!(outcome.opened, BUSY as u64, "connections were closed: {}", service.log());
    let (_, processed) = service.end();
    processed.assert_each_once(clients.sent());
}
