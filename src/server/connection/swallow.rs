//! The headers of an answer that is not sent, as the client has it from the process before: where they end.

/// hyper ends each line with these two, and the headers with an empty line.
const END: &[u8; 4] = b"\r\n\r\n";

/// Follows the headers of one answer as hyper writes them.
#[derive(Debug, Default)]
pub(super) struct AnswerHead {
    /// How much of [`END`] has just passed.
    seen: usize,
}

impl AnswerHead {
    /// How many of these bytes belong to the headers.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for byte in bytes {
            if self.has_ended() {
                break;
            }
            taken += 1;
            self.seen = match END.get(self.seen) {
                Some(next) if next == byte => self.seen + 1,
                _ => usize::from(*byte == b'\r'),
            };
        }
        taken
    }

    pub(super) fn has_ended(&self) -> bool {
        self.seen == END.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_end_at_the_empty_line_however_they_are_cut() {
        let text = b"HTTP/1.1 200 OK\r\ndate: a\r\rb\r\n\r\n5\r\n\r\n\r\n\r\r\n";
        let end = 31;
        assert_eq!(&text[end - 4..end], END);
        for cut in 1..text.len() {
            let (mut head, mut taken) = (AnswerHead::default(), 0);
            text.chunks(cut).for_each(|bytes| taken += head.feed(bytes));
            assert_eq!((taken, head.has_ended()), (end, true), "in pieces of {cut}");
        }
        let mut head = AnswerHead::default();
        assert_eq!((head.feed(b"HTTP/1.1 200 OK\r\n\r"), head.has_ended()), (18, false));
    }
}
