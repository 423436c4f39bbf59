//! What the next process must know of an HTTP/2 connection that moves (RFC 9113).

use serde::{Deserialize, Serialize};

/// The greatest stream identifier, and the greatest window (RFC 9113, sections 5.1.1 and 6.9.1).
const GREATEST: u32 = (1 << 31) - 1;

/// The most settings of one side that travel: more are not defined.
const MOST_SETTINGS: usize = 32;

/// The state of an HTTP/2 connection without an open stream, as far as both sides have agreed upon it on the wire.
///
/// A later version may add fields at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Http2Record {
    /// The client's settings, as pairs of identifier and value: the last value of each.
    pub(crate) client_settings: Vec<(u16, u32)>,
    /// The settings of this side that the client has acknowledged.
    pub(crate) own_settings: Vec<(u16, u32)>,
    /// The highest stream identifier that the client has used.
    pub(crate) highest_stream: u32,
    /// How many bytes of DATA this side may still send on the connection.
    pub(crate) send_window: u32,
    /// How many bytes of DATA the client may still send on the connection.
    pub(crate) receive_window: u32,
    /// A header block of the client has shown that it has emptied the table of its header compression (RFC 7541).
    pub(crate) table_emptied: bool,
}

impl Http2Record {
    /// Whether there can be such a connection. The record comes from another process, and numbers out of range would end in one that h2
    /// does not expect.
    ///
    /// # Errors
    ///
    /// What there cannot be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { client_settings, own_settings, highest_stream, send_window, receive_window, table_emptied: _ } =
            self;
        check_settings(client_settings).map_err(|problem| format!("the client's settings have {problem}"))?;
        check_settings(own_settings).map_err(|problem| format!("the server's settings have {problem}"))?;
        if *highest_stream > GREATEST || (*highest_stream != 0 && highest_stream % 2 == 0) {
            return Err(format!("no client opens a stream {highest_stream}"));
        }
        match [send_window, receive_window].into_iter().find(|window| **window > GREATEST) {
            Some(window) => Err(format!("a window of {window} bytes is too large")),
            None => Ok(()),
        }
    }
}

/// Whether each setting is there once, with a value that it can have (RFC 9113, section 6.5.2; RFC 8441, section 3). Those of later RFCs
/// may have any.
fn check_settings(settings: &[(u16, u32)]) -> Result<(), String> {
    if settings.len() > MOST_SETTINGS {
        return Err(format!("{} entries", settings.len()));
    }
    for (i, (id, value)) in settings.iter().enumerate() {
        if settings[..i].iter().any(|(other, _)| other == id) {
            return Err(format!("two values of setting {id}"));
        }
        let is_valid = match id {
            2 | 8 => *value <= 1,
            4 => *value <= GREATEST,
            5 => (1 << 14..1 << 24).contains(value),
            _ => true,
        };
        if !is_valid {
            return Err(format!("the value {value} of setting {id}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The greatest of everything.
    fn record() -> Http2Record {
        let settings =
            vec![(1, u32::MAX), (2, 1), (3, u32::MAX), (4, GREATEST), (5, (1 << 24) - 1), (6, u32::MAX), (8, 1)];
        Http2Record {
            client_settings: settings.clone(),
            own_settings: settings,
            highest_stream: GREATEST,
            send_window: GREATEST,
            receive_window: GREATEST,
            table_emptied: true,
        }
    }

    #[test]
    fn what_can_be_is_let_through() {
        record().check().unwrap();
        Http2Record::default().check().unwrap();
        Http2Record { own_settings: vec![(5, 1 << 14), (1000, 7)], highest_stream: 1, ..Http2Record::default() }
            .check()
            .unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_reason() {
        let settings = |settings: &[(u16, u32)]| settings.to_vec();
        let many = (100..).take(MOST_SETTINGS + 1).map(|id| (id, 0)).collect();
        for (record, says) in [
            (Http2Record { highest_stream: 2, ..record() }, "no client opens a stream 2"),
            (Http2Record { highest_stream: GREATEST + 2, ..record() }, "no client opens a stream 2147483649"),
            (Http2Record { send_window: GREATEST + 1, ..record() }, "a window of 2147483648 bytes is too large"),
            (Http2Record { receive_window: u32::MAX, ..record() }, "a window of 4294967295 bytes is too large"),
            (
                Http2Record { client_settings: settings(&[(2, 2)]), ..record() },
                "the client's settings have the value 2 of setting 2",
            ),
            (
                Http2Record { own_settings: settings(&[(4, 1 << 31)]), ..record() },
                "the server's settings have the value 2147483648 of setting 4",
            ),
            (Http2Record { own_settings: settings(&[(5, (1 << 14) - 1)]), ..record() }, "the value 16383 of setting 5"),
            (Http2Record { own_settings: settings(&[(5, 1 << 24)]), ..record() }, "the value 16777216 of setting 5"),
            (Http2Record { own_settings: settings(&[(8, 2)]), ..record() }, "the value 2 of setting 8"),
            (Http2Record { own_settings: settings(&[(3, 1), (3, 1)]), ..record() }, "two values of setting 3"),
            (Http2Record { client_settings: many, ..record() }, "33 entries"),
        ] {
            let problem = record.check().unwrap_err();
            assert!(problem.contains(says), "{says}: {problem}");
        }
    }
}
