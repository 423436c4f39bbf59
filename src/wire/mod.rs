//! The handoff protocol, without policy.
//!
//! A serving process, *old*, hands its listeners, its state and its idle connections to the next one, *new*. This module has the
//! messages and both sides of the conversation. It does not decide when a handoff starts, how new is started, or what is served.
//!
//! Both processes talk over one connected `SOCK_SEQPACKET` Unix socket, the *control socket*. They get it in one of two ways: old has
//! spawned new and left it the socket, or new has found old at a path (rendezvous). From there on both ways are the same.
//!
//! | file | has |
//! | --- | --- |
//! | `packet`, `version`, `records`, `carried` | the bytes of a message, the versions, the entries of a list |
//! | `protocol` | the messages, but for four |
//! | `accepts` | the message `Accepts`, and what the new process takes |
//! | `moved`, `older` | the messages `Moved`, `Older` and `Wait`, and when `Older` is sent |
//! | `printable` | text of the other process, without control characters |
//! | `error`, `reason` | `Refusal`: why one process does not go on with the other; `ReturnReason`: why a connection comes back |
//! | `channel`, `inbox` | the control socket; what arrives on it |
//! | `section`, `batch` | a part of the state; the connections of one message |
//! | `offer`, then `send`, then `final_state` | the steps of old, and `OldProcess`: old's server as these steps see it |
//! | `join`, then `receive` | the steps of new, and `NewProcess`: new's server as these steps see it |
//! | `socket_path`, `peers` | the path of a rendezvous, and the users that may come there |
//!
//! # Transitions
//!
//! Old. The type is the state:
//!
//! | state | event | sends | next state |
//! | --- | --- | --- | --- |
//! | `accept_join` | `Join` | | `Applicant` |
//! | | `HandOver` | | an operator waits for `Outcome`; `Leaving` sends it to the process that is at the path now |
//! | `Applicant` | as many generations drain as may | `Wait` | |
//! | | old does not hand over now | `Abort` | the end |
//! | | old has handed over | nothing, it closes the socket | the end: new comes to the path again |
//! | | the server's offer | `Hello`, `Listeners`.., `SectionRecord`.., `Offered` | waiting |
//! | waiting | `Moved` | | waiting: old closes these listeners after the commit |
//! | | `Accepts` | | waiting: old sends connections of these kinds |
//! | | `Ready` | | `ReadyPeer` |
//! | `ReadyPeer` | the server's commit | `Commit` | `Committed`, with a `ConnectionSender` |
//! | `ConnectionSender` | `Credit`, and connections of the server | `Connections`; `CarriedConnections` for those whose protocol has a record, if new takes them | |
//! | | `Taken` | | new owns the oldest batch |
//! | | `Refused` | | the oldest batch comes back |
//! | | connections wait for 2 s and none can be sent: `Event::Stalled` | | those that wait come back. Without `Credit` the next ones come back at once |
//! | | `Trim` | | nothing: each generation drains until its own deadline |
//! | | an older generation ends | `Older` | |
//! | | `Leaving` | | unsent connections come back; once all is answered `Done`, `TransferOutcome::Left` |
//! | | the last handle is dropped, and all is answered | | `FinalStatePhase` |
//! | `FinalStatePhase` | the server's final sections, and `FinalTaken` for each | `SectionRecord`.., `Done` | the end |
//!
//! New:
//!
//! | state | event | sends | next state |
//! | --- | --- | --- | --- |
//! | `join_blocking` | | `Join` | |
//! | | `Wait` | | it waits that much longer for `Hello` |
//! | | `Hello`, `Listeners`.., `SectionRecord`.., `Offered` | | `Joined`, then `Candidate` |
//! | any up to `Commit` | the server stops | `Leaving` | the end |
//! | `Candidate` | the server is able to accept | `Moved`, if it does not go on with some of old's listeners; `Accepts`, if it takes more than idle HTTP/1; `Ready` | waiting |
//! | waiting | `Commit` | | `ConnectionReceiver` |
//! | `ConnectionReceiver` | there is room | `Credit` | |
//! | | `Connections`, `CarriedConnections` | `Taken`, and then it serves them; or `Refused` | |
//! | | `SectionRecord` | `FinalTaken` | |
//! | | `Older` | | the server knows how many generations drain |
//! | | the server stops | `Leaving` | |
//! | | `Done` | | the end |
//!
//! `Failed`, and all other cases of `Abort`, are in the tables below.
//!
//! # What comes back
//!
//! A connection comes back by `OldProcess::resume`, with a `ReturnReason`. The server of old serves it on only if new has died. After all
//! other reasons it ends in old: new accepts, or the service ends.
//!
//! | `ReturnReason` | if |
//! | --- | --- |
//! | `Refused` | new answers `Refused`; connections wait for 2 s; or new breaks the protocol |
//! | `NotTaken` | new has not said that it takes such a connection |
//! | `Unsendable` | the kernel does not send this connection, or what it has read ahead does not fit |
//! | `Leaving` | new stops |
//! | `Died` | new closes the socket without `Leaving` |
//!
//! # Refusals
//!
//! Before `Commit`, old rolls back after any of these, and nothing has changed for any client. New does not serve, except where the table
//! says so.
//!
//! | process | when | because | `Refusal` |
//! | --- | --- | --- | --- |
//! | both | any | there is no version that both speak; the other process gets the reason | `Version` |
//! | both | any | a packet is too long, or is no message | `Malformed` |
//! | both | any | another message was awaited | `OutOfOrder` |
//! | old | before `Commit` | `Failed`, with new's reason; `Leaving` | `Declined` |
//! | old | before `Commit` | new closes the socket: it has exited, crashed or been killed | `Gone` |
//! | old | before `Commit` | the server's timeout or stop: it drops the future, and new gets `Abort` | |
//! | old | before the offer | another handoff is under way, or as many generations drain as may and none ends in time: new gets `Abort` with that reason | |
//! | new | before `Commit` | `Abort`, with old's reason: old serves on | `Declined` |
//! | new | before `Listeners` are complete | old closes the socket: new has nothing (if spawned: what it has inherited) | `Gone` |
//! | new | later, before `Commit` | old closes the socket without `Abort`, so it has died: new serves alone, at once | `Gone` |
//! | new | joining | the deadline | `TimedOut` |
//! | new | joining | descriptors do not fit the message, or the table of this process | `Descriptors` |
//!
//! After `Commit` there is no way back for the listeners, and each connection is in one process:
//!
//! | process | when | what happens to the connections |
//! | --- | --- | --- |
//! | old | new closes the socket without `Leaving` | all that is not `Taken` comes back: `TransferOutcome::Died` |
//! | old | new breaks the protocol | old sends nothing more (`Abort`, if there is room, and the end), and reads until new closes the socket. What was not sent, what is `Refused`, and what is unanswered at that end comes back: `TransferOutcome::Broken` |
//! | old | an answer fits no batch, or cannot be decoded | as above, but old closes what is unanswered: new may have it |
//! | old | new breaks the protocol and then does nothing | old neither serves nor gets back what was sent, and closes it at the drain's deadline |
//! | old | a message cannot be sent: too long, no memory | old tries fewer connections; one that cannot be sent alone comes back |
//! | old | connections wait for 2 s and none can be sent: new has no room, or does not read | what waits comes back. The transfer goes on when new has room |
//! | old | the bytes that a connection has read ahead do not fit into a memfd | that connection comes back |
//! | new | its table is full, the descriptors do not fit the records, a record cannot be, the server does not admit it, or new is leaving | that batch is `Refused`: it comes back to old |
//! | new | `Taken` cannot be sent, as old has closed the socket | new serves that batch when old's *process* has ended (pidfd). It closes it if it finds an `Abort`, if old lives on for 30 s, or if the kernel does not show old |
//! | new | old closes the socket without `Done`, or breaks the protocol | new serves on what it has taken: `Ended::Died`, `Ended::Broken` |
//!
//! `send.rs` and `receive.rs` list the invariants of each side. `protocol.rs` says how versions agree.
//!
//! Both sides ignore a message of an unknown kind, and keep its descriptors open until the control socket is closed. They close descriptors
//! that do not belong to a message that they know. A table in `docs/reference/handoff.md` ("What is
//! believed") has what is checked of each field, and what the kernel is asked.

pub(crate) mod accepts;
pub(crate) mod batch;
mod carried;
pub(crate) mod channel;
pub(crate) mod error;
pub(crate) mod final_state;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod inbox;
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
