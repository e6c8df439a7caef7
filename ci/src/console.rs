//! The router's serial console, read by a thread: lines with the moment they arrived, and waiting for one.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::command::last_lines;

/// A line of the console.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

#[derive(Default)]
struct Log {
    lines: Vec<Line>,
    partial: Vec<u8>,
    ended: bool,
    /// While set, bytes also go to the lab's own standard output.
    attached: bool,
}

/// Shared handle to a console's log.
#[derive(Clone, Default)]
pub(crate) struct Console {
    inner: Arc<(Mutex<Log>, Condvar)>,
}

impl Console {
    /// Reads `from` until it ends.
    pub(crate) fn follow(&self, mut from: impl Read + Send + 'static) {
        let inner = self.inner.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let bytes = buffer.get(..count).unwrap_or_default();
                let mut log = inner.0.lock().unwrap_or_else(PoisonError::into_inner);
                if log.attached {
                    let mut out = std::io::stdout();
                    let _ = out.write_all(bytes).and_then(|()| out.flush());
                }
                for byte in bytes {
                    match byte {
                        b'\n' => {
                            let text = readable(&std::mem::take(&mut log.partial));
                            log.lines.push(Line { at: Instant::now(), text });
                        }
                        _ => log.partial.push(*byte),
                    }
                }
                inner.1.notify_all();
            }
            inner.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            inner.1.notify_all();
        });
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of whole lines so far: a position for `wait_after` and `since`.
    pub(crate) fn position(&self) -> usize {
        self.log().lines.len()
    }

    /// Lines from `position` on.
    pub(crate) fn since(&self, position: usize) -> Vec<Line> {
        self.log().lines.get(position..).unwrap_or_default().to_vec()
    }

    /// All text so far, the unfinished line too.
    pub(crate) fn text(&self) -> String {
        let log = self.log();
        let mut text: String = log.lines.iter().map(|line| format!("{}\n", line.text)).collect();
        text.push_str(&readable(&log.partial));
        text
    }

    /// First line from `position` on that has `needle`. The error quotes the end of the console.
    pub(crate) fn wait_after(&self, position: usize, needle: &str, limit: Duration) -> Result<Line> {
        let deadline = Instant::now() + limit;
        let mut log = self.log();
        loop {
            if let Some(line) = log.lines.iter().skip(position).find(|line| line.text.contains(needle)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                let why = match log.ended {
                    true => "the machine ended".to_owned(),
                    false => format!("{:.1} s passed", limit.as_secs_f32()),
                };
                let tail: Vec<&str> = log.lines.iter().map(|line| line.text.as_str()).collect();
                bail!(
                    "{why} without \"{needle}\" on the console, which ends:\n{}",
                    last_lines(&tail.join("\n"), 15)
                );
            }
            log = self.inner.1.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the unfinished line is `text`: what was typed is shown.
    pub(crate) fn wait_row(&self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut log = self.log();
        while readable(&log.partial) != text {
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                let row = readable(&log.partial);
                bail!("in {:.1} s the console's row is not {text:?} but {row:?}", limit.as_secs_f32());
            }
            log = self.inner.1.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// `wait_after` from the beginning.
    pub(crate) fn wait(&self, needle: &str, limit: Duration) -> Result<Line> {
        self.wait_after(0, needle, limit)
    }

    /// Copies everything that arrives from now on to the lab's own output.
    pub(crate) fn attach(&self) {
        self.log().attached = true;
    }

    /// Whether the machine has closed its console.
    pub(crate) fn ended(&self) -> bool {
        self.log().ended
    }
}

/// Text without carriage returns and escape sequences (firmware colours the console).
fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    let lossy = String::from_utf8_lossy(bytes);
    let mut chars = lossy.chars();
    while let Some(c) = chars.next() {
        match c {
            // Of two characters, or up to a letter (ECMA-48 §5.4).
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
                }
            }
            '\r' => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_escapes_and_returns() {
        assert_eq!(readable(b"\x1b[2J\x1b[01;31mweir\x1b[0m: ready\r"), "weir: ready");
        assert_eq!(readable(b"\x1b7\x1b[999;999H\x1b[6n\x1b8edge1> show"), "edge1> show");
    }

    #[test]
    fn waits_for_the_unfinished_line() {
        let console = Console::default();
        console.follow(&b"edge1> show\nedge1> \x1b[Kshow sta"[..]);
        console.wait_row("edge1> show sta", Duration::from_secs(20)).unwrap();
        let error = console.wait_row("edge1> show", Duration::from_millis(1)).unwrap_err().to_string();
        assert!(error.contains("\"edge1> show sta\""), "{error}");
    }

    #[test]
    fn finds_line_that_arrives_later_and_quotes_tail_when_it_does_not() {
        let console = Console::default();
        console.follow(&b"one\ntwo\nthree"[..]);
        assert_eq!(console.wait("two", Duration::from_secs(1)).map(|l| l.text).ok().as_deref(), Some("two"));
        let error = console.wait("four", Duration::from_secs(1)).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("the machine ended") && error.contains("two"), "{error}");
        assert_eq!(console.text(), "one\ntwo\nthree");
    }
}
