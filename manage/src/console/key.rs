//! Bytes from a terminal become keys: ASCII, control characters, the escape sequences of VT100 and xterm, pasted text.

/// A key, or what the terminal says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// A printable ASCII character.
    Char(char),
    /// The line is done.
    Enter,
    /// Completes.
    Tab,
    /// Deletes before the cursor.
    Backspace,
    /// Deletes under the cursor.
    Delete,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// To the word's begin.
    WordLeft,
    /// To the word's end.
    WordRight,
    /// Older line.
    Up,
    /// Newer line.
    Down,
    /// To the line's begin.
    Home,
    /// To the line's end.
    End,
    /// Ctrl and this capital letter.
    Control(char),
    /// Alt and this letter.
    Alt(char),
    /// The terminal begins to paste.
    PasteBegin,
    /// The terminal has pasted.
    PasteEnd,
    /// The terminal answers where its cursor is, from 1.
    Position {
        /// Its row.
        row: u16,
        /// Its column.
        column: u16,
    },
    /// The begin of a character outside ASCII.
    Foreign,
}

/// Longest list of numbers in a sequence that is looked at.
const PARAMETERS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After `ESC [`, with the numbers so far.
    Csi([u16; PARAMETERS], usize),
    /// After `ESC O`.
    Ss3,
}

/// Where in a sequence the input is.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    /// The last byte was a carriage return: a line feed after it is no further key.
    returned: bool,
}

impl Decoder {
    /// Whether the last byte was a carriage return, so that a line feed would belong to it.
    pub(super) fn returned(&self) -> bool {
        self.returned
    }

    /// Takes a byte; a key, if it is the last of one.
    pub(super) fn decode(&mut self, byte: u8) -> Option<Key> {
        let returned = core::mem::replace(&mut self.returned, byte == b'\r');
        // A control character ends whatever was begun, so that a broken sequence costs no more than itself.
        match (byte, core::mem::take(&mut self.state)) {
            (b'\n', _) if returned => None,
            (0x1b, _) => {
                self.state = State::Escape;
                None
            }
            (0..0x20 | 0x7f, _) | (_, State::Ground) => ground(byte),
            (b'[', State::Escape) => {
                self.state = State::Csi([0; PARAMETERS], 0);
                None
            }
            (b'O', State::Escape) => {
                self.state = State::Ss3;
                None
            }
            (b'a'..=b'z' | b'A'..=b'Z', State::Escape) => {
                Some(Key::Alt(char::from(byte.to_ascii_lowercase())))
            }
            (_, State::Escape) => None,
            (_, State::Ss3) => named(byte),
            (_, State::Csi(numbers, at)) => self.csi(byte, numbers, at),
        }
    }

    fn csi(&mut self, byte: u8, mut numbers: [u16; PARAMETERS], at: usize) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                if let Some(number) = numbers.get_mut(at) {
                    *number = number.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
                self.state = State::Csi(numbers, at);
                None
            }
            b';' => {
                self.state = State::Csi(numbers, (at + 1).min(PARAMETERS));
                None
            }
            // Private markers and intermediates: no key that is known, but its end is.
            0x20..=0x3f => {
                self.state = State::Csi(numbers, PARAMETERS);
                None
            }
            b'R' => Some(Key::Position { row: numbers[0], column: numbers[1] }),
            b'C' if numbers[1] > 1 => Some(Key::WordRight),
            b'D' if numbers[1] > 1 => Some(Key::WordLeft),
            b'~' => match numbers[0] {
                1 | 7 => Some(Key::Home),
                3 => Some(Key::Delete),
                4 | 8 => Some(Key::End),
                200 => Some(Key::PasteBegin),
                201 => Some(Key::PasteEnd),
                _ => None,
            },
            _ => named(byte),
        }
    }
}

fn ground(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        b'\t' => Some(Key::Tab),
        8 | 0x7f => Some(Key::Backspace),
        b' '..=b'~' => Some(Key::Char(char::from(byte))),
        1..=26 => Some(Key::Control(char::from(b'A' + byte - 1))),
        0xc0.. => Some(Key::Foreign),
        _ => None,
    }
}

fn named(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'F' => Some(Key::End),
        b'H' => Some(Key::Home),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|&byte| decoder.decode(byte)).collect()
    }

    #[test]
    fn sequences_of_terminals_are_keys() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[1~\x1b[H\x1bOH\x1b[7~"), [Key::Home; 4]);
        assert_eq!(keys(b"\x1b[4~\x1b[F\x1b[3~\x1b[1;5C"), [Key::End, Key::End, Key::Delete, Key::WordRight]);
        assert_eq!(keys(b"\x1b[24;80R"), [Key::Position { row: 24, column: 80 }]);
        assert_eq!(keys(b"\x1b[200~a\x1b[201~"), [Key::PasteBegin, Key::Char('a'), Key::PasteEnd]);
        assert_eq!(
            keys(b"\x1bb\x01\x7f\x08"),
            [Key::Alt('b'), Key::Control('A'), Key::Backspace, Key::Backspace]
        );
    }

    #[test]
    fn a_return_and_its_line_feed_are_one_key() {
        assert_eq!(keys(b"\r\n\n\r\r"), [Key::Enter; 4]);
    }

    #[test]
    fn what_is_no_key_is_swallowed_whole() {
        assert_eq!(keys(b"\x1b[?1;2c\x1b[99999999;1;1;1;1;1z\x1b[15~x"), [Key::Char('x')]);
        // Cut off by a control character, which counts.
        assert_eq!(keys(b"\x1b[12\x03y"), [Key::Control('C'), Key::Char('y')]);
        assert_eq!(keys("é€x".as_bytes()), [Key::Foreign, Key::Foreign, Key::Char('x')]);
    }
}
