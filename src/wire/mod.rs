//! The handoff protocol, without policy.
//!
//! # The mechanism
//!
//! It knows a serving process, *old*, and its successor, *new*, and no policy.
//!
//! Both speak over one connected `SOCK_SEQPACKET` Unix socket, the *control socket*, that they got by one of two ways: old
//! started new and left it the socket (spawn), or new found old at a path (rendezvous). From there on both ways are one.
//!
//! # Transitions
//!
//! Old, with the type that is the state:
//!
//! | state | comes | sends | goes to |
//! | --- | --- | --- | --- |
//! | greeting (`accept_hello`) | `Join` | | `Applicant` |
//! | | `HandOver` | | an operator waits for `Outcome`; `Leaving` sends it to the process that is at the path now |
//! | `Applicant` | as many generations drain as may | `Wait` | |
//! | | an offer of the server | `Hello`, `Listeners`.., `Section`.., `Offered` | waiting |
//! | waiting | `Ready` | | `ReadyPeer` |
//! | `ReadyPeer` | the server's commit | `Commit` | `ConnectionSender` |
//! | `ConnectionSender` | `Credit`, connections of the server | `Connections` | |
//! | | `Taken` | | the oldest batch is new's |
//! | | `Refused` | | the oldest batch is given back |
//! | | `Trim` | | nothing: each generation drains until its own limit |
//! | | an older generation ends | `Older` | |
//! | | `Leaving` | | what is unsent is given back; once all is answered `Done`, `TransferOutcome::Left` |
//! | | the last handle is dropped, all is answered | | `FinalStatePhase` |
//! | `FinalStatePhase` | the server's final sections, a `FinalTaken` for each | `Section`.., `Done` | the end |
//!
//! New:
//!
//! | state | comes | sends | goes to |
//! | --- | --- | --- | --- |
//! | joining (`join_blocking`) | | `Join` | |
//! | | `Wait` | | it waits so much longer for `Hello` |
//! | | `Hello`, `Listeners`.., `Section`.., `Offered` | | `Joined`, then `Candidate` |
//! | any up to `Commit` | a stop of the server | `Leaving` | the end |
//! | `Candidate` | the server is able to accept | `Ready` | waiting |
//! | waiting | `Commit` | | `ConnectionReceiver` |
//! | `ConnectionReceiver` | | `Credit`, as there is room | |
//! | | `Connections` | `Taken`, and serves them then; or `Refused` | |
//! | | `Section` | `FinalTaken` | |
//! | | `Older` | | the server knows how many generations drain |
//! | | the server's word | `Leaving` | |
//! | | `Done` | | the end |
//!
//! # Refusals
//!
//! Before `Commit` old rolls back after any of these, and nothing has changed for anybody. New does not serve, but for the row that
//! says so.
//!
//! | who | when | because | `Refusal` |
//! | --- | --- | --- | --- |
//! | both | any | no version that both speak; the other side is told | `Version` |
//! | both | any | a packet that is too long, or no message | `Malformed` |
//! | both | any | a message where another was to come | `OutOfOrder` |
//! | old | before `Commit` | `Failed`, with new's reason; `Leaving` | `Declined` |
//! | old | before `Commit` | new closes the socket: it has exited, crashed or been killed | `Gone` |
//! | old | before `Commit` | the server's own timeout, or a stop: it drops the future, and new is told `Abort` | |
//! | new | before `Commit` | `Abort`, with old's reason: old serves on | `Declined` |
//! | new | before `Listeners` are complete | old closes the socket: new has nothing (by spawn: what it inherited) | `Gone` |
//! | new | later, before `Commit` | old closes the socket without `Abort`, so it has died: new serves alone, at once | `Gone` |
//! | new | joining | the deadline | `TimedOut` |
//! | new | joining | descriptors that do not fit the message, or not into the table | `Descriptors` |
//!
//! After `Commit` there is no way back for the listeners, and each connection is in one place:
//!
//! | who | when | what becomes of the connections |
//! | --- | --- | --- |
//! | old | new closes the socket without `Leaving` | all that is not `Taken` is given back: `TransferOutcome::Died` |
//! | old | new breaks the protocol | old sends nothing more (`Abort`, if there is room, and the end), and reads until new closes the socket: what was not sent, what is `Refused`, and what is unanswered at that end is given back: `TransferOutcome::Broken` |
//! | old | an answer that fits no batch, or cannot be read | as above, but what is unanswered is closed here: new may have it |
//! | old | new breaks the protocol and then does nothing | what was sent is neither served nor given back; it is closed here at the drain's deadline |
//! | old | a message cannot be sent: too long, no memory | it is tried with fewer connections; one that cannot be sent alone is given back |
//! | old | the bytes ahead of a connection do not fit into a memfd | that connection is given back |
//! | new | its table is full, the descriptors do not fit the records, the server does not admit it, new is leaving | that batch is `Refused`: old keeps it |
//! | new | `Taken` cannot be sent, as old has closed | new serves that batch when old's *process* has ended (pidfd); it closes it if it finds an `Abort`, if old lives on for 30 s, or if it cannot know |
//! | new | old closes the socket without `Done`, or breaks the protocol | what is taken is served on: `Ended::Died`, `Ended::Broken` |
//!
//! `send.rs` and `receive.rs` list what holds at every moment on each side. `protocol.rs` says what is written, and how versions agree.
//!
//! An unknown kind of message is ignored everywhere, and descriptors that belong to no message are closed. What is believed of each
//! field, and what is asked of the kernel, is in a table in `docs/handoff.md` ("What is believed").

pub(crate) mod batch;
pub(crate) mod channel;
pub(crate) mod error;
pub(crate) mod final_state;
pub(crate) mod join;
pub(crate) mod moved;
pub(crate) mod offer;
pub(crate) mod older;
pub(crate) mod packet;
pub(crate) mod peers;
mod printable;
pub(crate) mod protocol;
pub(crate) mod reason;
pub(crate) mod receive;
pub(crate) mod records;
pub(crate) mod section;
pub(crate) mod send;
pub(crate) mod socket_path;
pub(crate) mod version;

#[cfg(test)]
mod tests;
