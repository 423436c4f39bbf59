//! The set of named sockets that all clones of [`ActivatedListeners`] share.
//!
//! Each part has a lock of its own, because two of the waits are long: another process is asked, and a name is looked
//! up. The others are held for a look or a change, and never across an await.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "handoff")]
use super::predecessor::HandoffLink;
use super::{info::ActivatedSocket, slot::Slot, stored::StoredFds};
use crate::{
    error::{Error, Kind},
    log,
};

/// The sockets that this process was passed, and those it bound as they were not passed, by name.
///
/// Each is owned once: the caller that takes a name has it alone. Clones share one set. What was passed is claimed once
/// a process, with close-on-exec and non-blocking set at once. A second [`from_env`](Self::from_env) answers with the
/// same set, and the environment is never edited.
///
/// # Names
///
/// - Names repeat: a `.socket` unit with several `ListenStream=` lines passes them all under its one
///   `FileDescriptorName=`.
/// - Without that line the name is the unit's own, such as `app.socket`.
/// - Where no names are passed, each is `""`. Where the program then has one name for a listener, that of its fallbacks
///   or of the server's one route, the listeners get this name.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use axum_activation::ActivatedListeners;
///
/// let activated = ActivatedListeners::builder()
///     .fallback("http", "127.0.0.1:0") // bound only if no socket named "http" was passed
///     .from_env()?;
///
/// for socket in &activated {
///     println!("{socket}");
/// }
/// let listener = activated.one("http")?;
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
///
/// In a handler it is an extractor, under [`Server`](crate::Server): it shows what this process serves, and takes
/// nothing.
#[derive(Clone)]
#[doc(alias = "sd_listen_fds_with_names")]
pub struct ActivatedListeners {
    set: Arc<Set>,
    shown_only: bool,
}

/// What clones share. A function that holds several of these locks takes them in this order.
struct Set {
    takeover: Mutex<()>,
    completion: Mutex<()>,
    slots: Mutex<Vec<Slot>>,
    stored: Mutex<StoredFds>,
    #[cfg(feature = "handoff")]
    handoff: Mutex<HandoffLink>,
}

impl ActivatedListeners {
    /// The names of this set, each once, in the order in which they were passed and then bound.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder()
    ///     .fallback("http", "127.0.0.1:0")
    ///     .fallback("http", "@axum-activation-names")
    ///     .build()?;
    /// assert_eq!(activated.names(), ["http"]);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for slot in self.lock().iter() {
            let name = slot.info.name();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// What is in the set now, taken or not, in the order in which it was passed and then bound.
    ///
    /// ```
    /// use axum_activation::ActivatedListeners;
    ///
    /// let activated = ActivatedListeners::builder().fallback("http", "127.0.0.1:0").build()?;
    /// assert_eq!(activated.iter().filter(|socket| !socket.is_taken()).count(), 1);
    /// # Ok::<(), axum_activation::Error>(())
    /// ```
    #[must_use]
    pub fn iter(&self) -> std::vec::IntoIter<ActivatedSocket> {
        let infos: Vec<_> = self.lock().iter().map(|slot| slot.info.clone()).collect();
        infos.into_iter()
    }

    /// Names the listeners that were passed without a name, where no socket that was passed has one and none is named
    /// `name`: the launcher cannot name sockets, and the program asks for no other.
    pub(crate) fn name_unnamed(&self, name: &str) {
        let mut slots = self.lock();
        let is_named = |slot: &Slot| slot.info.is_passed() && !slot.info.name().is_empty();
        if slots.iter().any(|slot| is_named(slot) || slot.info.name() == name) {
            return;
        }
        for slot in slots.iter_mut().filter(|slot| slot.info.is_passed() && slot.is_free() && slot.is_listener()) {
            log::info!(
                address = slot.info.place(),
                name,
                "a socket that was passed without a name gets the only name there is"
            );
            slot.rename(name);
        }
    }

    /// The connection of an `Accept=yes` unit, when that is all that was passed.
    pub(crate) fn one_connection(&self) -> Option<ActivatedSocket> {
        let slots = self.lock();
        let mut passed = slots.iter().filter(|slot| slot.info.is_passed());
        match (passed.next(), passed.next()) {
            (Some(slot), None) if slot.is_connection() => Some(slot.info.clone()),
            _ => None,
        }
    }

    /// The same set as a handler is shown it.
    pub(crate) fn shown(&self) -> Self {
        Self { set: Arc::clone(&self.set), shown_only: true }
    }

    pub(super) fn new(slots: Vec<Slot>) -> Self {
        let set = Set {
            slots: Mutex::new(slots),
            stored: Mutex::default(),
            #[cfg(feature = "handoff")]
            handoff: Mutex::default(),
            completion: Mutex::default(),
            takeover: Mutex::default(),
        };
        Self { set: Arc::new(set), shown_only: false }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.set.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stored(&self) -> MutexGuard<'_, StoredFds> {
        self.set.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "handoff")]
    pub(super) fn handoff(&self) -> MutexGuard<'_, HandoffLink> {
        self.set.handoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other threads from adding sockets meanwhile that both would find missing. It is never held for long.
    pub(super) fn lock_completion(&self) -> MutexGuard<'_, ()> {
        self.set.completion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other threads from taking over from another process meanwhile: they wait, and find what this one has found. It is held for
    /// as long as that takes.
    pub(crate) fn lock_takeover(&self) -> MutexGuard<'_, ()> {
        self.set.takeover.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_not_shown_only(&self, name: &str) -> Result<(), Error> {
        if self.shown_only { Err(Kind::ShownOnly { name: name.to_owned() }.into()) } else { Ok(()) }
    }
}

impl fmt::Debug for ActivatedListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|socket| socket.to_string())).finish()
    }
}

impl IntoIterator for &ActivatedListeners {
    type Item = ActivatedSocket;
    type IntoIter = std::vec::IntoIter<ActivatedSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
