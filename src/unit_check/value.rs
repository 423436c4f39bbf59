//! Values that several settings share: booleans, time spans of `systemd.time(7)`, sizes.
//!
//! A value that systemd would not read is `None`: systemd ignores such an assignment with a warning in the journal, and
//! so does a check.

use std::time::Duration;

/// What `infinity` is, and more than anything else.
pub(super) const INFINITY: Duration = Duration::MAX;

/// Each unit of time with its length in microseconds; a month is a twelfth of a year, a year has 365.25 days.
const UNITS: &[(&[&str], u64)] = &[
    (&["usec", "us", "\u{b5}s", "\u{3bc}s"], 1),
    (&["msec", "ms"], 1_000),
    (&["seconds", "second", "sec", "s", ""], 1_000_000),
    (&["minutes", "minute", "min", "m"], 60_000_000),
    (&["hours", "hour", "hr", "h"], 3_600_000_000),
    (&["days", "day", "d"], 86_400_000_000),
    (&["weeks", "week", "w"], 604_800_000_000),
    (&["months", "month", "M"], 2_629_800_000_000),
    (&["years", "year", "y"], 31_557_600_000_000),
];

/// `yes`, `true`, `on`, `1` and their opposites, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A time span of systemd.time(7): `90`, `1min 30s`, `1.5h`. A number without a unit is seconds, `infinity` is
/// [`Duration::MAX`].
///
/// ```
/// use std::time::Duration;
/// use axum_activation::unit_check::time_span;
///
/// assert_eq!(time_span("1min 30s"), Some(Duration::from_secs(90)));
/// assert_eq!(time_span("soon"), None);
/// ```
#[must_use]
pub fn time_span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(INFINITY);
    }
    let mut sum = None;
    while !rest.is_empty() {
        let (micros, after) = one_span(rest)?;
        sum = Some(micros.checked_add(sum.unwrap_or(0))?);
        rest = after.trim_start();
    }
    sum.map(Duration::from_micros)
}

/// As [`time_span`], where 0 has meant "none" for so long that it still does.
pub(super) fn time_limit(text: &str) -> Option<Duration> {
    time_span(text).map(|limit| if limit.is_zero() { INFINITY } else { limit })
}

/// A count or a size: decimal, `K`, `M`, `G`, `T` to the base of 1024, or `infinity`.
pub(super) fn size(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// A time span in words, in whole seconds and rounded up.
pub(super) fn in_words(span: Duration) -> String {
    let seconds = in_seconds(span);
    if span == INFINITY { seconds } else { format!("{seconds} s") }
}

/// A time span that systemd reads, in whole seconds and rounded up.
pub(super) fn in_seconds(span: Duration) -> String {
    let rounded = span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0));
    if span == INFINITY { "infinity".to_owned() } else { rounded.to_string() }
}

/// A number with its unit, in microseconds, and what follows.
fn one_span(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let rest = rest.trim_start();
    let (unit, rest) =
        rest.split_at(rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace() || c == '.').unwrap_or(rest.len()));
    let (_, length) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
    Some((scaled(number, *length)?, rest))
}

/// `number` times `length`; digits beyond the microsecond are dropped.
fn scaled(number: &str, length: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole =
        if whole.is_empty() && number.starts_with('.') { 0 } else { whole.parse::<u64>().ok()?.checked_mul(length)? };
    let mut part = 0;
    let mut digit_length = length;
    for digit in fraction.bytes() {
        digit_length /= 10;
        part += u64::from(digit - b'0') * digit_length;
    }
    whole.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boolean_is_any_of_the_words_that_systemd_takes() {
        for (text, expected) in
            [("yes", Some(true)), ("On", Some(true)), ("T", Some(true)), ("0", Some(false)), ("OFF", Some(false))]
        {
            assert_eq!(boolean(text), expected, "{text}");
        }
        assert_eq!(boolean("maybe"), None);
        assert_eq!(boolean(""), None);
    }

    #[test]
    fn a_size_may_have_a_suffix() {
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("4K"), Some(4096));
        assert_eq!(size("infinity"), Some(u64::MAX));
        assert_eq!(size("4X"), None);
        assert_eq!(size("99999999999999T"), None);
    }

    #[test]
    fn a_span_is_written_so_that_it_is_read_as_no_less() {
        assert_eq!(in_seconds(Duration::from_millis(1500)), "2");
        assert_eq!(in_seconds(Duration::from_secs(35)), "35");
        assert_eq!(in_seconds(INFINITY), "infinity");
        assert_eq!((in_words(Duration::from_secs(35)), in_words(INFINITY)), ("35 s".to_owned(), "infinity".to_owned()));
        assert_eq!(time_limit("0"), Some(INFINITY));
    }
}
