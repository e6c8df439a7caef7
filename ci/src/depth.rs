//! Looks through the image's machine code for functions that take much of a stack at once: a CPU's softints run on top of
//! whatever task they interrupt, and what does not fit ends the router.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command;

/// Bytes that one function may take. A run stack has 128 KiB.
const MOST: u64 = 16 << 10;

/// Disassembles an image with symbols. The largest frame, in bytes, and whose it is.
///
/// # Errors
/// Names each function that takes more than [`MOST`].
pub(crate) fn check(image: &Path) -> Result<(u64, String)> {
    let arguments = ["-d", "--no-show-raw-insn", "-C", &image.display().to_string()];
    let text = command::capture("objdump", &arguments, Duration::from_secs(120))
        .context("disassembling the image")?;
    let frames = read(&text);
    let too_large: Vec<String> = frames
        .iter()
        .filter(|(bytes, _)| *bytes > MOST)
        .map(|(bytes, name)| format!("{bytes} bytes in {name}"))
        .collect();
    ensure!(too_large.is_empty(), "more than {MOST} bytes of a stack at once:\n{}", too_large.join("\n"));
    let largest = frames.into_iter().max().context("the image has no function")?;
    Ok((largest.0, largest.1.to_owned()))
}

/// The frames in `objdump -d`, in bytes. A large one is taken page by page, so that none can leap over a guard page: in so many
/// steps, or in a loop down to an address that was worked out before.
fn read(text: &str) -> Vec<(u64, &str)> {
    let mut frames: Vec<(u64, &str)> = Vec::new();
    let mut in_loop = false;
    for line in text.lines() {
        if let Some(head) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            frames.push((0, head.1));
            in_loop = false;
            continue;
        }
        let Some((_, instruction)) = line.split_once(":\t") else { continue };
        let Some((bytes, _)) = frames.last_mut() else { continue };
        let Some((number, register)) = instruction
            .strip_prefix("sub ")
            .and_then(|operands| operands.trim().strip_prefix("$0x"))
            .and_then(|operands| operands.split_once(','))
        else {
            continue;
        };
        let number = u64::from_str_radix(number, 16).unwrap_or_default();
        match register {
            "%rsp" if in_loop => in_loop = false,
            "%rsp" => *bytes += number,
            // The loop's end; later on it is a register like any other.
            "%r11" if number >= 0x1000 && number.is_multiple_of(0x1000) && *bytes < 0x1000 => {
                *bytes += number;
                in_loop = true;
            }
            _ => {}
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_a_function_takes() {
        let text = "0000000000100000 <small>:\n  100000:\tsub    $0x40,%rsp\n  100004:\tsub    $0x8,%rax\n\
                    0000000000100010 <steps>:\n  100010:\tsub    $0x1000,%rsp\n  100014:\tmovq   $0x0,(%rsp)\n\
                    \x20 100018:\tsub    $0x1000,%rsp\n  10001c:\tsub    $0x2b8,%rsp\n\
                    0000000000100020 <a::loop>:\n  100020:\tsub    $0x40,%rsp\n  100024:\tmov    %rsp,%r11\n\
                    \x20 100028:\tsub    $0x14000,%r11\n  10002c:\tsub    $0x1000,%rsp\n  100030:\tcmp    %r11,%rsp\n\
                    \x20 100034:\tsub    $0x540,%rsp\n";
        assert_eq!(read(text), [(0x40, "small"), (0x22b8, "steps"), (0x14580, "a::loop")]);
    }
}
