//! Handoff: a running process hands its sockets, its state and its idle connections to the next one, and no client notices.
//!
//! [`Server`](crate::Server) hands over at SIGHUP, at [`Handoff::start`], or when the next process comes to its
//! [`handoff_socket`](crate::ActivatedListenersBuilder::handoff_socket). [`Handoff::builder`] does it for services that another server
//! serves, and [`request_handoff`] asks a running service for one. `docs/handoff.md` is for users; what follows is for a reader of the code.
//!
//! # One handoff, step by step
//!
//! Both processes run the same loop, the `Coordinator`. It owns the phase of its process, its signals (`Stop`, `DrainSignals`) and the
//! requests for a handoff (`Requests`). What the process serves with is a `Service`: `ServerService` in `server`, `ExternalService` here. The
//! bytes between the processes are in `wire`.
//!
//! The old process serves, and waits in `Coordinator::run` for the next `Request`. A signal and `Handoff::start` ask for
//! `Trigger::Spawn`, a new process at the path brings `Trigger::Rendezvous`.
//!
//! | | the old process | the new process |
//! | --: | --- | --- |
//! | 1 | `Coordinator::hand_over`: `SpawnPermit::check`, then `GenerationInfo::wait_for_draining_slot` | |
//! | 2 | `prepare_successor` starts it (`NextProcess`), or takes the one that has come (`Applicant`), and offers listeners and state | `Coordinator::join`: `PendingTakeover::join` reads the offer, `import` the state |
//! | 3 | waits; a failure or a stop here undoes all, and this process has never stopped accepting | initialises the service; `Coordinator::take_over` says that it is ready |
//! | 4 | `PreparedSuccessor`: `Service::pause` stops accepting, `Event::MainPid` names the main process to systemd | waits |
//! | 5 | `PreparedSuccessor::commit`: the point of no return | `Takeover::Serves` |
//! | 6 | `Coordinator::transfer`: `Service::start_drain`, and the `ConnectionSender` runs beside `Service::drained` | `Coordinator::start`: accepts, opens the path, and the `ConnectionReceiver` adopts what comes |
//! | 7 | `send_final_state` when the last request is answered | `StateParts::import_final` |
//! | 8 | `Service::end` | `Handoff::predecessor_gone` resolves |
//!
//! A step is a type that the next step consumes (`Applicant`, `PreparedSuccessor`, `Successor`; `PendingTakeover`, `Takeover`), so that a
//! wrong order does not compile.
//!
//! # What can come in between
//!
//! - The new process fails, hangs or refuses before step 5: it is sent away, and killed if it was started here. `Event::RolledBack`.
//! - The service is asked to stop before step 5: that drops the handoff, and `Service::shut_down` drains. `Event::Stopped`.
//! - Another request for a handoff: refused up to step 5 (`Requests::refuse_all`). Later the new process is the one to ask: the old one sends
//!   visitors of the path there (`Requests::refer_all`).
//! - The new process dies during step 6: if the `Service` can resume, `Service::resume` makes the old process serve again.
//! - A second signal of the operator during steps 6 to 8: `DrainSignals::aborted` ends every wait, and what is open is aborted.
//!
//! # Where to look
//!
//! | module | what it does |
//! | --- | --- |
//! | `coordinator`, `service`, `signals`, `requests` | the loop, and what it waits for |
//! | `old` | prepare a new process, commit, move connections, send the final state |
//! | `new` | take over |
//! | `rendezvous` | both processes meet at a path |
//! | `spawn` | whether a process may start the next one, and how it does |
//! | `builder`, `handle`, `options`, `state_part` | what a program calls |

mod builder;
mod coordinator;
mod failure;
mod handle;
mod hook;
mod main_pid;
mod new;
mod old;
mod options;
mod rendezvous;
mod requests;
mod service;
mod signals;
mod spawn;
mod state_part;

pub use self::{
    builder::{Active, HandoffBuilder, Pending},
    handle::Handoff,
    options::PlainSuccessor,
    rendezvous::operator::request_handoff,
    spawn::next_process::start_process,
    state_part::{Snapshot, StatePart},
};
pub(crate) use self::{
    coordinator::Coordinator,
    failure::failed,
    handle::Calls,
    hook::BoxError,
    main_pid::set_main_pid,
    new::takeover::Takeover,
    options::Options,
    service::{Event, Service},
    signals::{Signals, Stop},
    state_part::StateParts,
};
