//! A chat room whose members stay in it while the program is replaced: no WebSocket is closed, no message is lost.
//!
//! ```text
//! cargo run --example websocket --features websocket
//! websocat ws://127.0.0.1:8080/             # in two terminals, and say something
//! kill -HUP $(pgrep -x websocket)           # the next process has the members and the last messages
//! ```
//!
//! What a member has seen goes along with the member ([`Resume`]), and so does a message of its own that came too late for this process: its
//! next one is posted in the next process, and must not overtake it. What the room remembers is in two parts: the last messages
//! before the next process is ready, and at the end those that have come since. At Ctrl-C each member gets a Close with code
//! 1012 ("service restart").

use std::{
    convert::Infallible,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
};
use axum_activation::{
    ActivatedListeners, Error, Server,
    handoff::{Snapshot, StatePart},
    resume::{Received, ResumableWebSocket, Resume},
};
use tokio::sync::Notify;

/// So many messages are shown to a new member.
const SHOWN: usize = 10;

/// A longer message does not go along with its member: a state has up to 64 KiB.
const LONGEST_CARRIED: usize = 32 << 10;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:8080").from_env()?;
    for socket in &activated {
        println!("{socket}");
    }
    let room = Arc::new(Room::default());
    let app = Router::new().route("/", get(join)).with_state(Arc::clone(&room));
    let [exporting, importing, ending, adding] = [(); 4].map(|()| Arc::clone(&room));
    let report = Server::new(activated)
        .serve("http", app)
        .handoff_state(StatePart::new(
            "history",
            move || std::future::ready(Ok::<_, Infallible>(exporting.history())),
            move |history| std::future::ready(importing.remember(&history)),
        ))
        .final_handoff_state(StatePart::new(
            "late",
            move || std::future::ready(Ok::<_, Infallible>(ending.late())),
            move |late| std::future::ready(adding.post_all(&late)),
        ))
        .run()
        .await?;
    println!("{report}");
    Ok(())
}

async fn join(upgrade: WebSocketUpgrade, resume: Resume, State(room): State<Arc<Room>>) -> Response {
    upgrade.on_upgrade(async move |socket| {
        let mut socket = resume.websocket(socket);
        let seen = match resume.state() {
            Some(state) => room.resumed_at(state),
            None => {
                let (seen, last) = room.joined_at();
                for text in last {
                    let _ = socket.send(text.into()).await;
                }
                seen
            }
        };
        let mut unposted = None;
        serve(socket, &room, seen, &mut unposted).await;
        // The member has not taken it along.
        unposted.into_iter().for_each(|text| room.post_late(text));
    })
}

/// Serves one member, who has seen so many messages of this process. The last message that it sends may be `unposted`.
async fn serve(mut socket: ResumableWebSocket, room: &Room, mut seen: usize, unposted: &mut Option<String>) {
    loop {
        tokio::select! {
            received = socket.recv() => match received {
                Received::Message(Message::Text(text)) => {
                    // A message that was under way when the handoff began is the last one here.
                    let before = unposted.take();
                    before.into_iter().for_each(|text| room.post_late(text));
                    *unposted = room.post(text.to_string());
                }
                // Pings are answered already.
                Received::Message(_) => {}
                Received::Leave => {
                    // Nothing is added to the messages of this process any more; the member gets the last of them here.
                    room.close();
                    if send_new(&mut socket, room, &mut seen).await.is_ok() {
                        let carried = unposted.take_if(|text| text.len() <= LONGEST_CARRIED);
                        if let Err(error) = socket.leave(room.seen(seen, carried.as_deref())).await {
                            eprintln!("{error}");
                            *unposted = carried;
                        }
                    }
                    return;
                }
                Received::Close => return socket.close_for_restart().await,
                Received::End => return,
            },
            () = room.more_than(seen) => {
                if send_new(&mut socket, room, &mut seen).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn send_new(socket: &mut ResumableWebSocket, room: &Room, seen: &mut usize) -> Result<(), axum::Error> {
    while let Some(text) = room.message(*seen) {
        socket.send(text.into()).await?;
        *seen += 1;
    }
    Ok(())
}

/// What was said. The messages of each process have numbers of their own.
#[derive(Default)]
struct Room {
    said: Mutex<Said>,
    changed: Notify,
}

#[derive(Default)]
struct Said {
    /// The last messages of the processes before.
    before: Vec<String>,
    /// Those of this one.
    here: Vec<String>,
    /// So many of these were given to the next process with its history.
    exported: usize,
    /// A member has left for the next process: what is said now is said there.
    is_closed: bool,
    late: Vec<String>,
}

impl Said {
    fn last(&self) -> Vec<String> {
        let all: Vec<_> = self.before.iter().chain(&self.here).collect();
        all[all.len().saturating_sub(SHOWN)..].iter().map(|text| (*text).clone()).collect()
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the message back if the room is closed.
    fn post(&self, text: String) -> Option<String> {
        let mut said = self.lock();
        if said.is_closed {
            return Some(text);
        }
        said.here.push(text);
        drop(said);
        self.changed.notify_waiters();
        None
    }

    /// Posts in the next process if the room is closed.
    fn post_late(&self, text: String) {
        if let Some(text) = self.post(text) {
            self.lock().late.push(text);
        }
    }

    fn message(&self, number: usize) -> Option<String> {
        self.lock().here.get(number).cloned()
    }

    /// Resolves when there are more messages.
    async fn more_than(&self, seen: usize) {
        loop {
            let changed = self.changed.notified();
            if self.lock().here.len() > seen {
                return;
            }
            changed.await;
        }
    }

    /// The number of the next message, and the last ones, for a new member.
    fn joined_at(&self) -> (usize, Vec<String>) {
        let said = self.lock();
        (said.here.len(), said.last())
    }

    fn close(&self) {
        self.lock().is_closed = true;
    }

    /// What goes along with a member.
    fn seen(&self, seen: usize, unposted: Option<&str>) -> Snapshot {
        Snapshot::new(1, serde_json::to_vec(&(process::id(), seen, unposted)).unwrap_or_default())
    }

    /// Where a member goes on who comes with that: at the first message of this process. One that comes back, as the next process has
    /// died, goes on where it was.
    fn resumed_at(&self, state: &Snapshot) -> usize {
        let state: (u32, usize, Option<String>) = serde_json::from_slice(state.bytes()).unwrap_or_default();
        let (pid, seen, unposted) = state;
        let is_back = pid == process::id();
        if is_back {
            let mut said = self.lock();
            said.is_closed = false;
            let late = std::mem::take(&mut said.late);
            said.here.extend(late);
            drop(said);
            self.changed.notify_waiters();
        }
        unposted.into_iter().for_each(|text| self.post_late(text));
        if is_back { seen } else { 0 }
    }

    fn history(&self) -> Snapshot {
        let mut said = self.lock();
        said.exported = said.here.len();
        Snapshot::new(1, serde_json::to_vec(&said.last()).unwrap_or_default())
    }

    fn remember(&self, history: &Snapshot) -> serde_json::Result<()> {
        self.lock().before = serde_json::from_slice(history.bytes())?;
        Ok(())
    }

    /// What was said since the history was given away: first what the members have got, and then what they have not.
    fn late(&self) -> Snapshot {
        let said = self.lock();
        let known = &said.here[said.exported..];
        Snapshot::new(1, serde_json::to_vec(&(known, &said.late)).unwrap_or_default())
    }

    fn post_all(&self, late: &Snapshot) -> serde_json::Result<()> {
        let (known, late): (Vec<String>, Vec<String>) = serde_json::from_slice(late.bytes())?;
        self.lock().before.extend(known);
        late.into_iter().for_each(|text| self.post_late(text));
        Ok(())
    }
}
