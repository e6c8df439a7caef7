//! The console of a program: standard output, and no input.

use crate::console::Sink;
use std::io::Write;

/// Standard output. Text that cannot be written is lost, as on a serial line without a listener.
pub(crate) static STANDARD: Sink = Sink::new("stdout", write, write, || None);

fn write(text: &[u8]) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text).and_then(|()| out.flush());
}
