//! The console's line: what an operator types becomes commands. Pure: the caller prints and acts.

use alloc::format;
use alloc::vec::Vec;
use weir_machine::trace::Switch;

/// What the router can be told.
pub const HELP: &str = "\
config   replaces the configuration: paste TOML, end it with a line that is a single dot, or with Ctrl-D;
         Ctrl-C gives up. What is wrong with it is said, and then nothing has changed
config modules   says where the configuration is from, and lists the boot modules
config confirm   keeps a commit that waits to be confirmed
config revert    takes it back
config module N  replaces the configuration by boot module N
help     this list
trace on | trace off
         starts or stops noting what every CPU does: softints, tasks, sleep, packets handed over
trace    prints the last events of every CPU; `lab trace` makes a time line of them
locks    how often each lock was taken, and waited for
token    prints a token that may use the API for a quarter of an hour
any other key prints the table of interfaces and CPUs
";

/// Said before a configuration is pasted.
const PASTE: &str = "paste the configuration, then a line with a single dot or Ctrl-D; Ctrl-C gives up\r\n";

/// Words that are waited for to be whole; every other key acts at once.
const WORDS: [&[u8]; 5] = [b"config", b"help", b"trace", b"locks", b"token"];
/// Longest line that is no configuration.
const LONGEST: usize = 64;

const END_OF_TEXT: u8 = 3;
const END_OF_TRANSMISSION: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];

/// A whole command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Print the table.
    Table,
    /// Print [`HELP`].
    Help,
    /// Start or stop noting events.
    Trace(Switch),
    /// Print the events that were noted.
    Events,
    /// Print the locks' counters.
    Locks,
    /// Replace the configuration by this text.
    Replace(Vec<u8>),
    /// Keep the commit that waits to be confirmed.
    Confirm,
    /// Take it back.
    Revert,
    /// Give out a token of the API.
    Token,
    /// List the boot modules.
    Modules,
    /// Replace the configuration by this boot module, counted from 1.
    Module(usize),
}

/// What was typed so far.
#[derive(Debug, Default)]
pub struct Line {
    /// The line, or the configuration with all its lines.
    text: Vec<u8>,
    mode: Mode,
    /// The last byte was a carriage return: a line feed after it ends no further line.
    returned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    #[default]
    Command,
    Paste,
    /// Too long: the rest is read and thrown away.
    Overflow,
}

impl Line {
    /// Whether nothing is being typed: output disturbs nobody.
    pub fn is_idle(&self) -> bool {
        self.mode == Mode::Command && self.text.is_empty()
    }

    /// Takes a byte; what is to be shown for it goes to `echo`. A configuration may have `longest` bytes.
    pub fn typed(&mut self, byte: u8, longest: usize, echo: impl FnMut(&str)) -> Option<Command> {
        let after_return = core::mem::replace(&mut self.returned, byte == b'\r');
        if byte == b'\n' && after_return {
            return None;
        }
        let byte = if byte == b'\r' { b'\n' } else { byte };
        match self.mode {
            Mode::Command => self.command(byte, echo),
            Mode::Paste | Mode::Overflow => self.pasted(byte, longest, echo),
        }
    }

    fn command(&mut self, byte: u8, mut echo: impl FnMut(&str)) -> Option<Command> {
        if self.text.is_empty() && !WORDS.iter().any(|word| word.first() == Some(&byte)) {
            return Some(Command::Table);
        }
        match byte {
            b'\n' => {
                echo("\r\n");
                let line = core::mem::take(&mut self.text);
                let words: Vec<&[u8]> =
                    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
                match words.as_slice() {
                    [b"trace", b"on"] => Some(Command::Trace(Switch::On)),
                    [b"trace", b"off"] => Some(Command::Trace(Switch::Off)),
                    [b"trace"] => Some(Command::Events),
                    [b"locks"] => Some(Command::Locks),
                    [b"config"] => {
                        self.mode = Mode::Paste;
                        echo(PASTE);
                        None
                    }
                    [b"token"] => Some(Command::Token),
                    [b"config", b"confirm"] => Some(Command::Confirm),
                    [b"config", b"revert"] => Some(Command::Revert),
                    [b"config", b"modules"] => Some(Command::Modules),
                    [b"config", b"module", number] => {
                        let number = core::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                        Some(number.map_or(Command::Help, Command::Module))
                    }
                    _ => Some(Command::Help),
                }
            }
            END_OF_TEXT | END_OF_TRANSMISSION => {
                echo("\r\n");
                self.text.clear();
                None
            }
            byte if BACKSPACE.contains(&byte) => {
                self.text.pop();
                echo("\x08 \x08");
                None
            }
            byte if self.text.len() < LONGEST && matches!(byte, b' '..=b'~') => {
                self.text.push(byte);
                if let Ok(shown) = core::str::from_utf8(&[byte]) {
                    echo(shown);
                }
                None
            }
            _ => None,
        }
    }

    fn pasted(&mut self, byte: u8, longest: usize, mut echo: impl FnMut(&str)) -> Option<Command> {
        let dotted = byte == b'\n' && matches!(self.text.as_slice(), b"." | [.., b'\n', b'.']);
        if byte == END_OF_TEXT {
            *self = Self::default();
            echo("given up; the configuration is as it was\r\n");
            return None;
        }
        if dotted || byte == END_OF_TRANSMISSION {
            let overflow = self.mode == Mode::Overflow;
            let mut text = core::mem::take(&mut self.text);
            self.mode = Mode::Command;
            if overflow {
                echo(&format!(
                    "too long, at most {longest} bytes can be read; the configuration is as it was\r\n"
                ));
                return None;
            }
            if dotted {
                text.pop();
            }
            return Some(Command::Replace(text));
        }
        // Beyond the limit, what tells a line with a dot is enough.
        if self.text.len() >= longest {
            self.mode = Mode::Overflow;
            self.text.clear();
        }
        self.text.push(byte);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    const LONGEST: usize = 4096;

    fn type_all(line: &mut Line, text: &[u8]) -> (Vec<Command>, String) {
        let mut shown = String::new();
        let commands =
            text.iter().filter_map(|&byte| line.typed(byte, LONGEST, |echo| shown.push_str(echo))).collect();
        (commands, shown)
    }

    #[test]
    fn any_other_key_prints_the_table() {
        assert_eq!(type_all(&mut Line::default(), b"s \n").0, vec![Command::Table; 3]);
    }

    #[test]
    fn a_configuration_ends_with_a_dot_or_ctrl_d() {
        for end in [&b".\n"[..], b".\r\n", b"\x04", b".\r"] {
            let mut line = Line::default();
            let text = [b"config\r\nhostname = \"a.b\"\n# .\n", end].concat();
            let (commands, shown) = type_all(&mut line, &text);
            assert_eq!(commands, [Command::Replace(b"hostname = \"a.b\"\n# .\n".to_vec())], "{end:?}");
            assert!(shown.starts_with("config\r\npaste"));
            assert!(line.is_idle());
        }
    }

    #[test]
    fn a_boot_module_is_named_by_its_number() {
        let commands = |text: &[u8]| type_all(&mut Line::default(), text).0;
        assert_eq!(commands(b"config modules\n"), [Command::Modules]);
        assert_eq!(commands(b"config  module 12 \r\n"), [Command::Module(12)]);
        let wrong: [&[u8]; 4] =
            [b"config module\n", b"config module x\n", b"config module -1\n", b"config 1\n"];
        wrong.iter().for_each(|text| assert_eq!(commands(text), [Command::Help]));
    }

    #[test]
    fn ctrl_c_gives_up() {
        let mut line = Line::default();
        assert_eq!(type_all(&mut line, b"config\nhost\x03s").0, [Command::Table]);
    }

    #[test]
    fn an_unknown_word_and_help_print_help() {
        assert_eq!(type_all(&mut Line::default(), b"help\nconfgi\n").0, vec![Command::Help; 2]);
        assert_eq!(type_all(&mut Line::default(), b"hel\x7f\x08elp\n").0, vec![Command::Help]);
    }

    #[test]
    fn words_become_commands() {
        let typed = b"trace on\rlocks \ntrace\ntrace off\ntrace of\n";
        let expected = [
            Command::Trace(Switch::On),
            Command::Locks,
            Command::Events,
            Command::Trace(Switch::Off),
            Command::Help,
        ];
        assert_eq!(type_all(&mut Line::default(), typed).0, expected);
    }

    #[test]
    fn what_is_too_long_is_refused_whole() {
        let mut line = Line::default();
        type_all(&mut line, b"config\n");
        type_all(&mut line, &vec![b'x'; LONGEST + 1]);
        let (commands, shown) = type_all(&mut line, b"\n.\n");
        assert!(commands.is_empty() && shown.contains("too long"));
        assert!(line.is_idle());
    }
}
