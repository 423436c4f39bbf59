//! Text of another process, made safe for logs and terminals.
//!
//! The other process may belong to another user. A line break or an escape sequence of a terminal in its text would look as if this
//! process had written it, so received text has none.

use serde::{Deserialize, Deserializer};

pub(super) fn text<'de, D: Deserializer<'de>>(words: D) -> Result<String, D::Error> {
    String::deserialize(words).map(escaped)
}

pub(super) fn optional<'de, D: Deserializer<'de>>(words: D) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(words)?.map(escaped))
}

/// With each control character as Rust writes it: `\n`, `\u{1b}`.
fn escaped(words: String) -> String {
    if !words.contains(char::is_control) {
        return words;
    }
    let mut escaped = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter.is_control() {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Abort, Message, Outcome};

    #[test]
    fn words_that_are_received_have_no_control_characters() {
        let said = "no room\n\u{1b}[2J2026-01-01 INFO fine\u{9b}\u{fc}".to_owned();
        let shown = "no room\\n\\u{1b}[2J2026-01-01 INFO fine\\u{9b}\u{fc}".to_owned();
        let received = |message: Message| Message::decode(&message.encode().unwrap()).unwrap().unwrap();
        assert_eq!(received(Abort { reason: said.clone() }.into()), Abort { reason: shown.clone() }.into());
        let outcome = Outcome { pid: None, reason: Some(said) };
        assert_eq!(received(outcome.into()), Outcome { pid: None, reason: Some(shown) }.into());
    }
}
