//! HTTP/2 (RFC 9113) as it passes: enough of it to move a connection to another instance of the library.
//!
//! The library is never asked for its state. [`session::Session`] stands between the socket and the library and follows
//! the frames in both directions.
//!
//! | file | part |
//! | --- | --- |
//! | [`frame`] | the header of a frame, and the few frames that this side writes itself |
//! | [`walk`] | finds the frames in a stream of bytes that comes in pieces of any size |
//! | [`settings`], [`streams`] | the values of SETTINGS, and the streams that are open |
//! | [`seen`] | what both sides have agreed upon so far: settings, windows, what is owed |
//! | [`header_block`], [`table`] | whether header blocks use the table of their compression (RFC 7541) |
//! | [`ready`], [`held`] | bytes on their way to the library, and frames of new streams that wait |
//! | [`inbound`] | from the client to the library |
//! | [`outbound`], [`gate`] | from the library to the client |
//! | [`opening`] | the opening of a connection as it is played to a new instance of the library |
//! | [`session`] | both directions, and the steps of a move |

pub(in crate::server) mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gate;
mod header_block;
mod held;
mod inbound;
mod opening;
mod outbound;
pub(in crate::server) mod ready;
pub(in crate::server) mod record;
mod seen;
pub(in crate::server) mod session;
mod settings;
mod streams;
mod table;
mod walk;

#[cfg(test)]
mod tests;
