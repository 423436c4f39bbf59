//! A new process meets the one that serves, at a path.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::connect::{ConnectedOrBound, connect_or_bind};
use crate::{
    activation::{ActivatedListeners, ActivatedListenersBuilder, Predecessor},
    error::Error,
    handoff::{failure::refused, new::provenance::provenance},
    log,
    wire::join::{Joined, join_blocking},
};

/// How long the process that serves may take to say what it has.
const LIMIT: Duration = Duration::from_secs(30);

/// How often to go there once more when the process that serves ends in between.
const TRIES: usize = 10;

impl ActivatedListenersBuilder {
    /// Takes over from the process that serves at `path`, if there is one: its sockets join the set under their names,
    /// before any fallback is bound. [`Server`](crate::Server) then takes its connections too, and serves the path
    /// itself.
    ///
    /// It is for processes that do not start each other: containers that share a directory, two units, another
    /// supervisor. Both must run as one user, unless [`handoff_peers`](Self::handoff_peers) names the other one. For a
    /// process that runs as root, the directory must not be writable by other users. It blocks until the process there
    /// has said what it has, 30 s at most.
    ///
    /// Nothing is asked at `path` where a predecessor has started this process.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let folder = tempfile::tempdir()?; // a program has a directory of its own, such as /run/app
    /// let activated = ActivatedListeners::builder()
    ///     .handoff_socket(folder.path().join("handoff.sock"))
    ///     .fallback("http", "127.0.0.1:0")
    ///     .from_env()?;
    /// # drop(activated);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`from_env`](Self::from_env) fails if the process there does not let this one take over, or the path cannot be
    /// used.
    pub fn handoff_socket(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.takeover(move |set| meet_predecessor(set, &path))
    }

    /// The users beside its own whose processes this one takes over from, and hands over to, at
    /// [`handoff_socket`](Self::handoff_socket); none by default, and root is no exception.
    ///
    /// It is for a service that changes its user from one version to the next: a process of user 0 that takes over from
    /// one of user 1000 names 1000, and does so only for as long as that is needed. It trusts that user with what the
    /// service is: its listeners, their names, its state and its clients. What the kernel can be asked is not believed
    /// all the same: who a client is, and which file a socket is bound to. An old process hands over to root without
    /// being asked to.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let activated = ActivatedListeners::builder()
    ///     .handoff_socket(folder.path().join("handoff.sock")) // the directory belongs to user 1000
    ///     .handoff_peers([1000])
    ///     .fallback("http", "127.0.0.1:0")
    ///     .from_env()?;
    /// # drop(activated);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handoff_peers(self, users: impl IntoIterator<Item = u32>) -> Self {
        self.peers(users)
    }
}

/// Takes the sockets of the process that serves at `path` into `set`, or takes the place where there is none. Blocks.
fn meet_predecessor(set: &ActivatedListeners, path: &Path) -> Result<(), Error> {
    set.set_handoff_path(path);
    let _alone = set.lock_takeover();
    if set.has_predecessor() || set.has_bound_path() {
        return Ok(());
    }
    let (deadline, peers) = (Instant::now() + LIMIT, set.handoff_peers());
    for _ in 0..TRIES {
        match connect_or_bind(path, &peers, deadline)? {
            ConnectedOrBound::Bound(bound) => {
                set.set_bound_path(bound);
                return Ok(());
            }
            ConnectedOrBound::Connected(control) => match join_blocking(control, deadline) {
                Ok(joined) => {
                    admit(set, joined);
                    return Ok(());
                }
                Err(refusal) if refusal.is_gone() => log::debug!(%refusal, "who served there has just ended"),
                Err(refusal) => return Err(refused(refusal.to_string())),
            },
        }
    }
    Err(refused(format!("who serves at {} ends whenever it is asked", path.display())))
}

fn admit(set: &ActivatedListeners, mut joined: Joined) {
    log::info!(pid = joined.peer.pid, user = joined.peer.user, "taking over from the process that serves");
    let user = joined.peer.user;
    let sockets = joined.listeners.drain(..).filter_map(|(record, fd)| {
        let provenance = provenance(&record, user);
        fd.map(|fd| (record.name, fd, provenance))
    });
    set.admit(sockets);
    set.set_predecessor(Predecessor::Rendezvous(Box::new(joined)));
}
