//! The opening of a connection, played to a new instance of the library in the client's place.
//!
//! # What the library does (h2 0.4)
//!
//! It writes its SETTINGS, reads the preface, and acknowledges each SETTINGS before it reads on. When a read finds nothing
//! it makes its window on the connection as large as it wants it: with a `WINDOW_UPDATE`, if that exceeds 65,535 by 32,767
//! or more. Then it flushes. Only then is it known how much it lets the client send.

use super::{
    frame::{self, PREFACE},
    seen::{FIRST_WINDOW, Seen},
    settings::{HEADER_TABLE_SIZE, LIMITS, Settings},
};

/// The size of the table of our own header compression, which the library does not change.
const TABLE_SIZE: u32 = 4096;

/// SETTINGS that are played, each of which the library acknowledges.
const PLAYED: u32 = 3;

/// What is known of the library's part of the opening.
#[derive(Debug)]
pub(super) struct Opening {
    acknowledgements: u32,
    settings: Option<Settings>,
    /// How much the library lets the client send on the connection.
    pub(super) window: i64,
}

impl Opening {
    pub(super) fn new() -> Self {
        Self { acknowledgements: 0, settings: None, window: FIRST_WINDOW }
    }

    /// What the library reads: the preface, the client's settings, an acknowledgement of its own, and the client's window.
    ///
    /// The table of the library's header compression is emptied and gets its size again. So its first header block says to
    /// the client to empty that table (RFC 7541, section 4.2). Each value has a frame, as the library keeps one of a frame.
    pub(super) fn of_client(seen: &Seen) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame::settings([(HEADER_TABLE_SIZE, 0)]));
        bytes.extend(frame::settings([(HEADER_TABLE_SIZE, TABLE_SIZE)]));
        bytes.extend(frame::settings(seen.client.pairs()));
        bytes.extend(frame::settings_ack());
        if let Ok(increment @ 1..) = u32::try_from(seen.send_window - FIRST_WINDOW) {
            bytes.extend(frame::window_update(0, increment));
        }
        bytes
    }

    /// Whether the library has not written its own SETTINGS yet.
    pub(super) fn awaits_settings(&self) -> bool {
        self.settings.is_none()
    }

    pub(super) fn begin_settings(&mut self) {
        self.settings = Some(Settings::default());
    }

    pub(super) fn setting(&mut self, id: u16, value: u32) {
        if let Some(settings) = &mut self.settings {
            settings.set(id, value);
        }
    }

    /// What the client must be sent in the place of the library's SETTINGS: the size of the table, and what is greater than
    /// what the client has acknowledged. `None` if the library allows the client less.
    pub(super) fn announcement(&self, seen: &Seen) -> Option<Settings> {
        let mut announced = Settings::default();
        announced.set(HEADER_TABLE_SIZE, TABLE_SIZE);
        for id in LIMITS {
            let (wanted, agreed) = (self.settings.as_ref()?.value(id), seen.own.value(id));
            if wanted < agreed {
                return None;
            }
            if wanted > agreed {
                announced.set(id, wanted);
            }
        }
        Some(announced)
    }

    /// The library acknowledges SETTINGS. Whether they are those that were played.
    pub(super) fn acknowledge(&mut self) -> bool {
        let is_played = self.acknowledgements < PLAYED;
        self.acknowledgements += u32::from(is_played);
        is_played
    }

    /// Whether the library has done its part, if it flushes now.
    pub(super) fn is_complete(&self) -> bool {
        self.acknowledgements == PLAYED && self.settings.is_some()
    }
}
