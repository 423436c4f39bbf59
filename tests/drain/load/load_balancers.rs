//! No request is lost behind a load balancer: HAProxy and nginx, each with the configuration file that is shipped, in front of
//! two instances that are stopped and started one after the other under load. There is no handoff and no socket that
//! outlives a process; keep-alive to the instances is on. The clients never send a request twice, and each request is
//! processed once.
//!
//! `DRAINS=20 cargo test --test drain load_balancers` for so many stops a test; 10 without.
//!
//! Needs Debian's packages haproxy and nginx-light.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use crate::support::{
    clients::{Clients, Habit, Idlers, times},
    generation::{Chronicle, Generation, Settings},
    proxies::{Addresses, Proxy},
    wait::{eventually, until},
};

const CLIENTS: usize = 64;
const GET: Habit = Habit { posts: false, thinks: Duration::ZERO, opens: false, looks: true };
const POST: Habit = Habit { posts: true, thinks: Duration::from_millis(100), ..GET };
/// How many answers show that all clients are at work again.
const ANSWERS_BETWEEN: u64 = 1000;

/// As haproxy.cfg asks for, and the default.
const HAPROXY: Behind =
    Behind { proxy: Proxy::haproxy, lame_duck: Duration::from_secs(2), keep_alive_grace: Duration::from_secs(1) };
/// As nginx.conf asks for.
const NGINX: Behind =
    Behind { proxy: Proxy::nginx, lame_duck: Duration::ZERO, keep_alive_grace: Duration::from_secs(2) };

#[test]
fn haproxy_loses_no_get() {
    HAPROXY.restart_under_load(GET);
}

#[test]
fn haproxy_loses_no_post() {
    HAPROXY.restart_under_load(POST);
}

#[test]
fn haproxy_loses_no_post_of_a_burst_when_idle_connections_end() {
    HAPROXY.restart_and_burst();
}

#[test]
fn nginx_loses_no_get() {
    NGINX.restart_under_load(GET);
}

#[test]
fn nginx_loses_no_post() {
    NGINX.restart_under_load(POST);
}

#[test]
fn nginx_loses_no_post_of_a_burst_when_idle_connections_end() {
    NGINX.restart_and_burst();
}

/// A proxy, and what the instances do for it.
struct Behind {
    proxy: fn(Addresses) -> Proxy,
    lame_duck: Duration,
    keep_alive_grace: Duration,
}

/// Two instances, and the proxy in front of them.
struct Site {
    settings: [Settings; 2],
    instances: [Generation; 2],
    proxy: Proxy,
    chronicle: Chronicle,
}

impl Behind {
    /// Stops one instance after the other while all clients ask without a pause.
    fn restart_under_load(&self, habit: Habit) {
        let mut site = self.start();
        let clients = Clients::new(site.proxy.addr(), habit);
        thread::scope(|scope| {
            let _stop = clients.stop_on_drop();
            (0..CLIENTS).for_each(|_| drop(scope.spawn(|| clients.run())));
            for stop in 0..times("DRAINS", 10) {
                clients.wait_for(ANSWERS_BETWEEN);
                site.instances[stop % 2].terminate();
                site.end(stop % 2);
                clients.wait_for(ANSWERS_BETWEEN);
                site.start_again(stop % 2);
            }
            clients.wait_for(ANSWERS_BETWEEN);
        });
        let (requests, connections) = site.finish(&clients);
        assert!(connections * 3 < requests, "hardly any keep-alive: {connections} for {requests} requests");
    }

    /// Stops one instance after the other while the proxy has idle connections to it, and has all clients ask at the very time
    /// at which those, or the sockets, are closed.
    fn restart_and_burst(&self) {
        let mut site = self.start();
        let clients = Clients::new(site.proxy.addr(), Habit { thinks: Duration::ZERO, ..POST });
        let closed = [self.keep_alive_grace, self.lame_duck + self.keep_alive_grace, self.lame_duck];
        thread::scope(|scope| {
            let burst = Burst { idlers: Idlers::start(scope, &clients, CLIENTS), clients: &clients };
            for stop in 0..times("DRAINS", 10) {
                (0..3).for_each(|_| burst.ask());
                site.instances[stop % 2].terminate();
                let early = Duration::from_millis(u64::try_from(stop % 4).unwrap());
                burst.ask_at(Instant::now() + closed[stop % closed.len()].saturating_sub(early));
                site.end(stop % 2);
                burst.ask();
                site.start_again(stop % 2);
            }
        });
        site.finish(&clients);
    }

    fn start(&self) -> Site {
        let addresses = Addresses::new();
        let settings = addresses.instances.map(|addr| Settings {
            addr,
            lame_duck: self.lame_duck,
            keep_alive_grace: self.keep_alive_grace,
        });
        let instances = settings.each_ref().map(Generation::start_alone);
        Site { settings, instances, proxy: (self.proxy)(addresses), chronicle: Chronicle::default() }
    }
}

impl Site {
    /// Waits for the end of an instance that was asked to.
    fn end(&mut self, which: usize) {
        self.chronicle.add(self.instances[which].end());
    }

    fn start_again(&mut self, which: usize) {
        self.instances[which] = Generation::start_alone(&self.settings[which]);
        self.proxy.wait_for_instances();
    }

    /// Ends all of it, and fails where a request was lost or was processed more than once: requests, and connections for them.
    fn finish(mut self, clients: &Clients) -> (u64, u64) {
        self.instances.into_iter().for_each(|instance| self.chronicle.add(instance.drain()));
        let outcome = mem::take(&mut *clients.outcome());
        println!("{} stops: {} requests, {} lost", self.chronicle.epitaphs.len(), clients.sent(), outcome.lost.len());
        assert!(outcome.lost.is_empty(), "lost requests: {:#?}, and the proxy: {}", outcome.lost, self.proxy.log());
        self.chronicle.assert_each_once(clients.sent());
        self.chronicle.assert_clean();
        let connections = self.chronicle.epitaphs.iter().map(|epitaph| epitaph.connections("connections finished"));
        (clients.sent(), connections.sum())
    }
}

/// Clients that ask all at once.
struct Burst<'a> {
    idlers: Idlers,
    clients: &'a Clients,
}

impl Burst<'_> {
    /// One request of each, and its answer.
    fn ask(&self) {
        let answered = self.done() + self.idlers.len();
        self.idlers.ask_all();
        eventually("all are answered", || self.done() == answered);
    }

    /// As `ask`, at that time: it is the time that is tested.
    fn ask_at(&self, when: Instant) {
        until(when);
        self.ask();
    }

    fn done(&self) -> usize {
        let outcome = self.clients.outcome();
        usize::try_from(outcome.answered).expect("not so many") + outcome.lost.len()
    }
}
