//! The end of a conversation on a control socket that a thread blocks on.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use crate::wire::channel::leave;

/// Ends the conversation of a thread that blocks on a control socket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    is_interrupted: bool,
    /// A duplicate of the control socket that the thread blocks on.
    control: Option<OwnedFd>,
}

impl Interrupt {
    /// One for a thread, and what the task keeps that waits for the thread.
    pub(crate) fn new() -> (Self, InterruptOnDrop) {
        let interrupt = Self::default();
        (interrupt.clone(), InterruptOnDrop(interrupt))
    }

    /// Runs `talk` on `control`. An interrupt ends it at once, and tells the other process that this one stops.
    pub(crate) fn during<T>(&self, control: OwnedFd, talk: impl FnOnce(OwnedFd) -> T) -> T {
        // Without a descriptor for the duplicate the conversation goes on until its deadline.
        self.change(|state| {
            state.control = control.try_clone().ok();
            state.leave();
        });
        let said = talk(control);
        // A duplicate that stays open would hide the end of the control socket from the other process.
        self.change(|state| state.control = None);
        said
    }

    fn interrupt(&self) {
        self.change(|state| {
            state.is_interrupted = true;
            state.leave();
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn leave(&mut self) {
        if let Some(control) = self.control.as_ref().filter(|_| self.is_interrupted) {
            leave(control);
        }
    }
}

/// Interrupts when dropped.
#[derive(Debug)]
pub(crate) struct InterruptOnDrop(Interrupt);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}
