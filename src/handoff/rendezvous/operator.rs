//! An operator's program asks the serving process for a handoff, and learns what became of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::connect::connect_to_ask;
use crate::{
    blocking::on_thread,
    error::{Error, Kind},
    wire::{
        channel::{Channel, unexpected},
        error::Refusal,
        protocol::{HandOver, Message, Outcome},
    },
};

/// How long the serving process may take to let the program in.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the process that serves at `path` ([`handoff_socket`](crate::ActivatedListenersBuilder::handoff_socket)) to
/// hand over to a next one, and waits until it has. Returns the process id of the new one, as the old one sees it.
///
/// Root may ask the service of any user: what comes back is a process id and a reason, and nothing is done with either.
///
/// It is for deploy scripts, which it lets fail: the example `handoff_request` is such a program. It waits as long as
/// the handoff takes, which the serving process bounds (`handoff_timeout`). Where that process hangs, it waits for
/// ever.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use axum_activation::handoff::request_handoff;
///
/// match request_handoff("/run/app/handoff.sock").await {
///     Ok(pid) => println!("process {pid} serves now"),
///     Err(error) => eprintln!("{error}"), // no handoff at /run/app/handoff.sock: ..
/// }
/// # }
/// ```
///
/// # Errors
///
/// No process serves at `path`, it lets only its own user and root in, or the handoff has failed, with the reason: then
/// the old process serves on.
///
/// # Cancel safety
///
/// What has been asked for goes on when the future is dropped.
///
/// # Panics
///
/// Outside a tokio runtime.
pub async fn request_handoff(path: impl Into<PathBuf>) -> Result<u32, Error> {
    let path = path.into();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask(&path, deadline).await? {
            // The old process of a handoff has given the path to the new one, which is found there now.
            Ok(Message::Leaving(_)) if Instant::now() < deadline => {}
            Err(refusal) if refusal.is_unread() && Instant::now() < deadline => {}
            Ok(message) => return outcome(&path, message),
            Err(refusal) => return Err(failed(&path, refusal.to_string())),
        }
    }
}

/// Asks once: the answer, or why there is none. An error where there is no process to ask.
async fn ask(path: &Path, deadline: Instant) -> Result<Result<Message, Refusal>, Error> {
    let visited = path.to_owned();
    let visited = on_thread(move || connect_to_ask(&visited, deadline)).await;
    let failed = |reason: String| failed(path, reason);
    let control = visited.map_err(|error| failed(error.to_string()))??;
    let control =
        control.ok_or_else(|| failed("no process serves there; start the service, or fix the path".to_owned()))?;
    let channel = Channel::new(control).map_err(|error| failed(error.to_string()))?;
    let answer = match channel.send(HandOver {}, &[]).await {
        Ok(()) => channel.receive("the outcome").await,
        Err(refusal) => Err(refusal),
    };
    Ok(answer.map(|envelope| envelope.message))
}

fn outcome(path: &Path, answer: Message) -> Result<u32, Error> {
    match answer {
        Message::Outcome(Outcome { pid: Some(pid), .. }) => Ok(pid),
        Message::Outcome(Outcome { reason, .. }) => {
            Err(failed(path, reason.unwrap_or_else(|| "no reason is given".to_owned())))
        }
        message => Err(failed(path, unexpected(message, "the outcome").to_string())),
    }
}

fn failed(path: &Path, reason: String) -> Error {
    Kind::Requested { path: path.to_owned(), reason }.into()
}
