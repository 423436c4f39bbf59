//! The events that the crate logs: [`tracing`]'s macros, behind [`guarded`].
//!
//! The crate logs in the loops that accept, drain and hand over. A subscriber that panics there would end them: the
//! default writer of `tracing_subscriber::fmt` panics in `eprintln!` when the reader of stderr is gone. Every event of
//! the crate is therefore logged by the macros of this file, and by no other; `tests/layering.rs` holds that.
//!
//! Levels: ERROR is what an operator has to act on, WARN what will fail or has been worked around, INFO a step in the
//! life of the service (start, drain, handoff), DEBUG and TRACE one connection or one message.

use tracing::{Level, level_filters::LevelFilter};

use crate::unwind::caught;

/// Logs by calling `event`, and drops the event if the subscriber panics.
///
/// It is cold, so that the fields of an event are computed out of line: nearly every event of the crate is off, or
/// rare.
#[cold]
pub(crate) fn guarded(event: impl FnOnce()) {
    // The panic hook has reported it; there is no other place to.
    let _ = caught(event);
}

/// Whether a subscriber, or in its absence `log`, may want events of `level`.
#[inline]
pub(crate) fn may_be_on(level: Level) -> bool {
    let most = LevelFilter::current();
    level <= most || most == LevelFilter::OFF
}

/// The level is looked up without asking the subscriber, so a level that is off costs two loads.
///
/// Without a subscriber the level is `OFF`. [`tracing`] itself then decides what becomes of the event: with its feature `log` it
/// is a record of the `log` crate.
macro_rules! event {
    ($level:ident, $($fields:tt)+) => {
        if tracing::Level::$level <= tracing::level_filters::STATIC_MAX_LEVEL
            && $crate::log::may_be_on(tracing::Level::$level)
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
