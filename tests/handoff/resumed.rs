//! The examples whose handlers go on in the next process, each with real clients through one handoff after the other.
//!
//! Needs Debian's packages curl and util-linux.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Bytes, Message,
        protocol::frame::{
            Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

use crate::support::{
    needs,
    process::Process,
    program::Program,
    wait::{LIMIT, find},
};

/// The processes of an example, one after the other. The last one is killed at the end of the test.
struct Generations {
    first: Program,
    executable: PathBuf,
    last: u32,
}

impl Generations {
    fn start(example: &str) -> Self {
        let first = Program::start(example);
        let last = first.process.pid().as_raw_nonzero().get().unsigned_abs();
        let executable = needs::example(example).canonicalize().expect("it is there");
        Self { first, executable, last }
    }

    /// Hands over by SIGHUP, and waits until the old process has ended.
    fn hand_over(&mut self) {
        self.signal(Signal::HUP);
        self.await_handed_over();
    }

    /// Waits until the next process runs and the old one has ended.
    fn await_handed_over(&mut self) {
        let old = self.last;
        self.last = find(
            || format!("a successor of process {old}, which has ended"),
            || (!is_process_of(old, &self.executable)).then(|| self.successor()).flatten(),
        );
    }

    fn successor(&self) -> Option<u32> {
        processes().into_iter().find(|pid| *pid != self.last && is_process_of(*pid, &self.executable))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.last).ok().and_then(Pid::from_raw).expect("it is a process id");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        if is_process_of(self.last, &self.executable) {
            self.signal(Signal::KILL);
        }
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Whether it runs, and that program; a process that has ended has none.
fn is_process_of(pid: u32, executable: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == executable)
}

async fn member(generations: &Generations) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(generations.first.addr()).await.expect("it listens");
    client_async("ws://test/", stream).await.expect("it upgrades").0
}

async fn next(member: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    timeout(LIMIT, member.next()).await.expect("it comes in time").and_then(Result::ok)
}

#[tokio::test]
async fn the_members_of_the_chat_room_stay_and_miss_nothing() {
    let mut generations = Generations::start("websocket");
    let mut members = [member(&generations).await, member(&generations).await, member(&generations).await];
    let mut said = Vec::new();
    for handoff in 0..4 {
        for number in 0..10 {
            let text = format!("message {number} after {handoff} handoffs");
            members[number % 3].send(Message::text(&text)).await.expect("it is connected");
            for member in &mut members {
                assert_eq!(next(member).await, Some(Message::text(&text)));
            }
            said.push(text);
        }
        // And one that is still on its way when the service is asked to hand over.
        members[handoff % 3].send(Message::text("on its way")).await.expect("it is connected");
        generations.hand_over();
        for member in &mut members {
            assert_eq!(next(member).await, Some(Message::text("on its way")));
        }
        said.push("on its way".to_owned());
    }
    let mut late = member(&generations).await;
    for text in &said[said.len() - 10..] {
        assert_eq!(next(&mut late).await, Some(Message::text(text)), "a new member is shown the last messages");
    }
    generations.signal(Signal::TERM);
    for member in &mut members {
        let Some(Message::Close(Some(close))) = next(member).await else { panic!("no close frame") };
        assert_eq!(close.code, CloseCode::Restart);
    }
}

#[tokio::test]
async fn a_message_under_way_at_the_handoff_comes_before_the_next_one_of_its_member() {
    let frame =
        |text: &str, opcode, is_last| Message::Frame(Frame::message(text.to_owned(), OpCode::Data(opcode), is_last));
    let mut generations = Generations::start("websocket");
    let mut slow = member(&generations).await;
    let mut other = member(&generations).await;
    for handoff in 0..5 {
        slow.send(frame("be", Data::Text, false)).await.expect("it is connected");
        // The first fragment is read when the answer comes.
        slow.send(Message::Ping(Bytes::new())).await.expect("it is connected");
        assert_eq!(next(&mut slow).await, Some(Message::Pong(Bytes::new())));
        generations.signal(Signal::HUP);
        find(|| "the next process".to_owned(), || generations.successor());
        // The other member leaves meanwhile, or has left: what it says now closes nothing and is seen by all.
        let text = format!("the other one {handoff}");
        other.send(Message::text(&text)).await.expect("it is connected");
        assert_eq!(next(&mut other).await, Some(Message::text(&text)));

        slow.send(frame("fore", Data::Continue, true)).await.expect("it is connected");
        slow.send(Message::text("after")).await.expect("it is connected");
        generations.await_handed_over();
        for member in [&mut slow, &mut other] {
            let mut seen = Vec::new();
            while seen.last() != Some(&Message::text("after")) {
                seen.extend(next(member).await.filter(|message| *message != Message::text(&text)));
            }
            assert_eq!(seen, ["before", "after"].map(Message::text), "after {handoff} handoffs");
        }
    }
}

#[test]
fn curl_gets_each_event_once_and_sees_no_handoff() {
    needs::program("curl", "curl");
    let mut generations = Generations::start("sse");
    let mut curl = Command::new("curl");
    curl.args(["-sSN", "--max-time", "50"]).arg(format!("http://{}/", generations.first.addr()));
    let curl = Process::start(curl.stdout(Stdio::piped()));
    for id in 1..=4 {
        assert_eq!(
            [curl.line(), curl.line(), curl.line()],
            ["data: tick".to_owned(), format!("id: {id}"), String::new()]
        );
        generations.hand_over();
    }
    generations.signal(Signal::TERM);
    let rest = curl.finish();
    assert!(rest.contains("event: bye\n"), "curl has seen the end, which has come in order: {rest}");
}
