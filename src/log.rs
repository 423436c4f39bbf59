//! The events that the crate logs: [`tracing`]'s macros, behind [`guarded`].
//!
//! The crate logs in the loops that accept, drain and hand over. A subscriber that panics there would end them: the default
//! writer of `tracing_subscriber::fmt` panics in `eprintln!` when the reader of stderr is gone. Every event of the crate is
//! therefore logged by the macros of this file, and by no other; `tests/layering.rs` holds that.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Logs by calling `event`, and drops the event if the subscriber panics.
///
/// The panic hook has run by then, so the panic itself is not silent. With `panic = "abort"` nothing can be caught.
#[cold]
pub(crate) fn guarded(event: impl FnOnce()) {
    // A subscriber that panics is the application's; none of its state is looked at here.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(event)) {
        // The payload of a panic may panic when it is dropped.
        std::mem::forget(panic);
    }
}

/// The level is looked up without asking the subscriber, so a level that is off costs two loads.
macro_rules! event {
    ($level:ident, $($fields:tt)+) => {
        if tracing::Level::$level <= tracing::level_filters::STATIC_MAX_LEVEL
            && tracing::Level::$level <= tracing::level_filters::LevelFilter::current()
        {
            $crate::log::guarded(|| tracing::event!(tracing::Level::$level, $($fields)+));
        }
    };
}

macro_rules! trace_ {
    ($($fields:tt)+) => { $crate::log::event!(TRACE, $($fields)+) };
}

macro_rules! debug_ {
    ($($fields:tt)+) => { $crate::log::event!(DEBUG, $($fields)+) };
}

macro_rules! info_ {
    ($($fields:tt)+) => { $crate::log::event!(INFO, $($fields)+) };
}

macro_rules! warn_ {
    ($($fields:tt)+) => { $crate::log::event!(WARN, $($fields)+) };
}

macro_rules! error_ {
    ($($fields:tt)+) => { $crate::log::event!(ERROR, $($fields)+) };
}

pub(crate) use {debug_ as debug, error_ as error, event, info_ as info, trace_ as trace, warn_ as warn};
