//! The text of a unit file, `systemd.syntax(7)`: sections, assignments, continued lines, comments.

use std::mem;

/// `key=value` under a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// The line that it begins in, from 1.
    pub(super) line: usize,
}

/// Every assignment of `text` in its order. What systemd would ignore with a complaint is left out.
pub(super) fn parse(text: &str) -> Vec<Assignment> {
    let mut section = None;
    let mut assignments = Vec::new();
    for (line, text) in logical_lines(text.trim_start_matches('\u{feff}')) {
        if let Some(name) = text.strip_prefix('[') {
            section = name.strip_suffix(']').map(str::to_owned);
        } else if let (Some(section), Some((key, value))) = (&section, text.split_once('=')) {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            assignments.push(Assignment { section: section.clone(), key, value, line });
        }
    }
    assignments
}

/// Lines with what continues them, each with the number of its first. Comments are gone, also those within a continuation;
/// an empty line ends one.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut started = String::new();
    let mut first = 1;
    for (line, text) in text.lines().enumerate() {
        let text = text.trim_start();
        if text.starts_with(['#', ';']) {
            continue;
        }
        if started.is_empty() {
            first = line + 1;
        }
        started += text;
        if is_continued(text) {
            started.pop();
            started.push(' ');
        } else {
            lines.push((first, mem::take(&mut started)));
        }
    }
    lines.push((first, started));
    lines.into_iter().map(|(line, text)| (line, text.trim().to_owned())).filter(|(_, text)| !text.is_empty()).collect()
}

/// A backslash at the end that no other one escapes.
fn is_continued(text: &str) -> bool {
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        let place = |Assignment { section, key, value, line }| (line, format!("{section}/{key}"), value);
        parse(text).into_iter().map(place).collect()
    }

    fn pair(line: usize, key: &str, value: &str) -> (usize, String, String) {
        (line, key.to_owned(), value.to_owned())
    }

    #[test]
    fn assignments_belong_to_the_section_above_them_and_space_around_them_does_not_count() {
        let text =
            "Lost=1\n[Unit]\nA=1\n \t B = x = y \n[Service]\r\nC=\r\n[Broken\nLost=2\nno assignment\n[Unit]\nD=2";
        assert_eq!(
            pairs(text),
            [pair(3, "Unit/A", "1"), pair(4, "Unit/B", "x = y"), pair(6, "Service/C", ""), pair(11, "Unit/D", "2")]
        );
    }

    #[test]
    fn a_comment_begins_at_the_start_of_a_line_only() {
        assert_eq!(pairs("# x\n[S]\n ; A=1\nB=2 # not a comment\n"), [pair(4, "S/B", "2 # not a comment")]);
    }

    #[test]
    fn a_backslash_at_the_end_continues_a_line_over_comments_and_up_to_an_empty_one() {
        assert_eq!(
            pairs("[S]\nA=1 \\\n# A comment \\\n  ; another\n   2\\\n3\nB=4\\\n\nC=5\\\\\nD=6\\ \nE=7\\"),
            [
                pair(2, "S/A", "1  2 3"),
                pair(7, "S/B", "4"),
                pair(9, "S/C", "5\\\\"),
                pair(10, "S/D", "6\\"),
                pair(11, "S/E", "7"),
            ]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(pairs("\u{feff}[S]\nA=1"), [pair(2, "S/A", "1")]);
    }
}
