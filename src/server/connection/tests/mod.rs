//! Whatever a client does and whenever the process changes: each request is answered once, by one process, with its own body.
//!
//! `MOVES=100000 cargo test --lib connection::tests` tries as many cases; `PROPTEST_RNG_SEED` has others.

use std::{cell::Cell, env, time::Duration};

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

mod app;
mod client;
mod http2;
mod http2_moves;
mod model;
#[cfg(feature = "websocket")]
mod resume;
mod script;
mod wire;
mod world;

use self::{
    app::App,
    client::{Client, Time},
    script::{Answer, Expects, Reads, Request, Script, Step, Tail, Transport, script},
    world::World,
};

#[test]
fn each_request_is_answered_once_wherever_its_connection_moves() {
    explore(1500, Time::Stopped, &[Transport::Tcp, Transport::Unix, Transport::Narrow]);
}

#[test]
fn each_request_is_answered_once_while_bodies_are_dropped_by_other_threads() {
    explore(200, Time::Real, &[Transport::Tcp, Transport::Unix, Transport::Narrow]);
}

#[test]
fn a_connection_moves_when_the_last_body_that_was_received_in_full_is_dropped_elsewhere() {
    let steps = vec![Step::Write(1000), Step::Settle, Step::HandOver, Step::Settle];
    let requests = vec![Request::upload(Reads::Keeps)];
    let script = Script { transport: Transport::Unix, requests, tail: Tail::Nothing, steps };
    play(&script, Time::Stopped).unwrap();
}

#[test]
fn a_body_that_is_read_when_its_response_is_complete_has_an_end() {
    let script = Script {
        transport: Transport::Unix,
        requests: vec![Request { expects: Expects::Impatiently, ..Request::upload(Reads::Later) }],
        tail: Tail::Nothing,
        steps: vec![Step::Write(1000), Step::Settle],
    };
    play(&script, Time::Stopped).unwrap();
}

#[test]
fn a_request_that_was_read_before_the_last_response_was_written_is_answered() {
    let mut first = Request { answer: Answer::Pieces(vec![4354]), ..Request::upload(Reads::Half) };
    first.body.as_mut().unwrap().chunks = Some(vec![1]);
    let requests = vec![first, Request { body: None, ..Request::upload(Reads::All) }];
    let script = Script { transport: Transport::Narrow, requests, tail: Tail::Nothing, steps: vec![] };
    play(&script, Time::Stopped).unwrap();
}

/// Plays so many scripts.
fn explore(cases: u32, time: Time, transports: &'static [Transport]) {
    let (tried, failed) = (Cell::new(0_u32), Cell::new(false));
    let result = TestRunner::new(config(cases)).run(&script(transports), |script| {
        // Not those of shrinking.
        tried.set(tried.get() + u32::from(!failed.get()));
        let played = play(&script, time);
        failed.set(failed.get() || played.is_err());
        played.map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("case {}: {failure}", tried.get());
    }
}

/// So many cases, or as many as the environment says.
fn config(cases: u32) -> Config {
    let cases = env::var("MOVES").map_or(cases, |cases| cases.parse().expect("MOVES is a number"));
    Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() }
}

fn play(script: &Script, time: Time) -> Result<(), String> {
    let runtime = match time {
        Time::Stopped => Builder::new_current_thread().enable_all().start_paused(true).build(),
        Time::Real => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    runtime.unwrap().block_on(async {
        let app = App::new(script.clone());
        let world = World::new(app.clone());
        let mut client = Client::connect(script, time, &world);
        let ran = client.run(script, &world, &app).await;
        let (outcome, log) = (client.outcome.clone(), app.log().clone());
        let report = |problem: String| format!("{problem}\n{outcome:?}\n{log:?}");
        ran.map_err(report)?;
        drop(client);
        for _ in 0..2000 {
            if world.open() == 0 {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        let finished = timeout(Duration::from_secs(20), app.finish()).await.is_ok();
        let log = app.log().clone();
        let report = |problem: String| format!("{problem}\n{outcome:?}\n{log:?}");
        if !finished {
            return Err(report("a body is read for ever".to_owned()));
        }
        if world.open() > 0 {
            return Err(report("a connection outlives its client".to_owned()));
        }
        model::check(script, &outcome, &log).map_err(report)
    })
}
