//! A text that is pasted: bytes up to a line with a single dot.

use alloc::vec::Vec;

const END_OF_TEXT: u8 = 3;
const END_OF_TRANSMISSION: u8 = 4;
/// Longest sequence of a terminal that is looked for.
const SEQUENCE: usize = 16;

/// What was pasted so far.
#[derive(Debug)]
pub(super) struct Paste {
    text: Vec<u8>,
    /// Most bytes.
    longest: usize,
    /// There were more: the rest is read and thrown away.
    overflow: bool,
    /// The last byte was a carriage return: a line feed after it ends no further line.
    returned: bool,
}

/// How it ended.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// All of it is here.
    Whole(Vec<u8>),
    /// It has more than so many bytes.
    TooLong(usize),
    /// Ctrl-C.
    GivenUp,
}

impl Paste {
    /// Of at most `longest` bytes; `returned`: a line feed may still come that belongs to the line before.
    pub(super) fn new(longest: usize, returned: bool) -> Self {
        Self { text: Vec::new(), longest, overflow: false, returned }
    }

    /// Takes a byte.
    pub(super) fn typed(&mut self, byte: u8) -> Option<Ended> {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        if byte == b'\n' && returned {
            return None;
        }
        let byte = if byte == b'\r' { b'\n' } else { byte };
        let dotted = byte == b'\n' && matches!(self.text.as_slice(), b"." | [.., b'\n', b'.']);
        if byte == END_OF_TEXT {
            return Some(Ended::GivenUp);
        }
        if dotted || byte == END_OF_TRANSMISSION {
            let mut text = core::mem::take(&mut self.text);
            if dotted {
                text.pop();
            }
            return Some(if self.overflow { Ended::TooLong(self.longest) } else { Ended::Whole(text) });
        }
        // Beyond the limit, what tells a line with a dot is enough.
        if self.text.len() >= self.longest {
            self.overflow = true;
            self.text.clear();
        }
        self.text.push(byte);
        self.drop_sequence(byte);
        None
    }

    /// Takes out what a terminal sends by itself: where its cursor is, and where a paste begins and ends.
    fn drop_sequence(&mut self, byte: u8) {
        if !matches!(byte, b'R' | b'~') {
            return;
        }
        let tail = self.text.len().saturating_sub(SEQUENCE);
        let Some(escape) = self.text.iter().skip(tail).rposition(|&byte| byte == 0x1b) else { return };
        let sequence = self.text.get(tail + escape..).unwrap_or_default();
        let inner = sequence.strip_prefix(b"\x1b[").and_then(|rest| rest.split_last());
        if inner.is_some_and(|(_, inner)| inner.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';'))) {
            self.text.truncate(tail + escape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn paste(bytes: &[u8]) -> Option<Ended> {
        let mut paste = Paste::new(64, false);
        bytes.iter().find_map(|&byte| paste.typed(byte))
    }

    #[test]
    fn a_text_ends_with_a_dot_or_ctrl_d() {
        for end in [&b".\n"[..], b".\r\n", b"\x04", b".\r"] {
            let text = [b"hostname = \"a.b\"\r\n# .\n", end].concat();
            assert_eq!(paste(&text), Some(Ended::Whole(b"hostname = \"a.b\"\n# .\n".to_vec())), "{end:?}");
        }
        assert_eq!(paste(b"host\x03"), Some(Ended::GivenUp));
    }

    #[test]
    fn what_is_too_long_is_refused_whole() {
        let text = [&vec![b'x'; 65][..], b"\n.\n"].concat();
        assert_eq!(paste(&text), Some(Ended::TooLong(64)));
    }

    #[test]
    fn what_a_terminal_says_by_itself_is_no_text() {
        let text = b"\x1b[200~a = \"R~\"\x1b[24;80R\n\x1b[201~.\n";
        assert_eq!(paste(text), Some(Ended::Whole(b"a = \"R~\"\n".to_vec())));
    }
}
