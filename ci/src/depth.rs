//! Looks through the image's machine code for functions that take much of a stack at once: a CPU's softints run on top of
//! whatever task they interrupt, and what does not fit ends the router.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::disassembly;

/// Bytes that one function may take. A run stack has 128 KiB.
const MOST: u64 = 16 << 10;

/// Disassembles an image with symbols. The largest frame, in bytes, and whose it is.
///
/// # Errors
/// Names each function that takes more than [`MOST`], and what takes an unknown number of bytes.
pub(crate) fn check(image: &Path) -> Result<(u64, String)> {
    let text = disassembly::text(image)?;
    let frames = read(&text)?;
    let too_large: Vec<String> = frames
        .iter()
        .filter(|(bytes, _)| *bytes > MOST)
        .map(|(bytes, name)| format!("{bytes} bytes in {name}"))
        .collect();
    ensure!(too_large.is_empty(), "more than {MOST} bytes of a stack at once:\n{}", too_large.join("\n"));
    let largest = frames.into_iter().max().context("the image has no function")?;
    Ok((largest.0, largest.1.to_owned()))
}

/// The frames in `objdump -d`, in bytes.
fn read(text: &str) -> Result<Vec<(u64, &str)>> {
    disassembly::functions(text)
        .into_iter()
        .map(|(name, instructions)| Ok((frame(name, &instructions)?, name)))
        .collect()
}

/// The frame of one function. A large one is taken page by page, so that none can leap over a guard page: in so many steps, or in
/// a loop down to an address that was worked out before, in R11.
fn frame(name: &str, instructions: &[&str]) -> Result<u64> {
    let mut bytes = 0;
    // Of the loop: how far it goes, and whether its step was met.
    let (mut bound, mut stepped) = (0, false);
    for instruction in instructions {
        let (word, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let Some((from, to)) = operands.trim().rsplit_once(',') else { continue };
        let down = match (word, to) {
            ("sub" | "lea", "%rsp" | "%r11") => down(word, from),
            ("cmp", "%rsp") if from == "%r11" => {
                ensure!(bound != 0 && stepped, "a loop without a bound takes stack in {name}: {instruction}");
                (bytes, bound) = (bytes + bound, 0);
                continue;
            }
            ("add" | "and" | "mov" | "xchg", "%rsp") if bytes == 0 && word != "mov" => down(word, from),
            _ => continue,
        };
        match (down, to) {
            (Some(down), "%rsp") if bound != 0 => stepped = down > 0,
            (Some(down), "%rsp") => bytes += down,
            (Some(down), _) if down >= PAGE && bytes < PAGE => (bound, stepped) = (down, false),
            (None, "%rsp") if ASKED.iter().any(|&(asked, _)| asked == name) => {}
            (None, "%rsp") => bail!("no telling how much of a stack {name} takes: {instruction}"),
            _ => {}
        }
    }
    Ok(bytes)
}

/// Assembly that takes as much as the CPU says, and why that is little.
const ASKED: &[(&str, &str)] =
    &[("weir_preempt", "the interrupted task's vector registers, 2.7 KiB with AVX-512")];

/// What a loop takes at a time.
const PAGE: u64 = 0x1000;

/// By how many bytes an instruction lowers what it is about; `None` if that is not to be told. Upwards is none.
fn down(word: &str, from: &str) -> Option<u64> {
    let hexadecimal = |digits: &str| u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok();
    match word {
        "sub" => hexadecimal(from.strip_prefix('$')?).map(|number| (number as i64).max(0) as u64),
        "add" => hexadecimal(from.strip_prefix('$')?).map(|number| (number as i64).min(0).unsigned_abs()),
        // Aligned: by less than what the mask leaves out.
        "and" => hexadecimal(from.strip_prefix('$')?).map(|mask| !mask),
        // From the frame pointer: back up, at the end.
        "lea" if from.ends_with("(%rsp)") => {
            hexadecimal(from.strip_suffix("(%rsp)")?.strip_prefix('-').unwrap_or("0x0"))
        }
        _ => Some(0),
    }
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
        assert_eq!(read(text).unwrap(), [(0x40, "small"), (0x22b8, "steps"), (0x14580, "a::loop")]);
    }

    #[test]
    fn knows_other_ways_or_says_that_it_does_not() {
        let bytes = |body: &str| {
            let lines: String = body.split(';').map(|one| format!("  100000:\t{one}\n")).collect();
            read(&format!("0000000000100000 <f>:\n{lines}"))
                .map(|frames| frames[0].0)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            bytes("lea    -0x5000(%rsp),%r11;sub    $0x1000,%rsp;cmp    %r11,%rsp;sub    $0x8,%rsp"),
            Ok(0x5008)
        );
        assert_eq!(bytes("lea    -0x80(%rsp),%rsp;lea    -0x28(%rbp),%rsp"), Ok(0x80));
        assert_eq!(bytes("add    $0xffffffffffffff80,%rsp"), Ok(0x80));
        assert_eq!(bytes("sub    $0xffffffffffffff80,%rsp"), Ok(0));
        assert_eq!(bytes("and    $0xffffffffffffffc0,%rsp;sub    $0x100,%rsp"), Ok(0x13f));
        assert!(bytes("sub    %rax,%rsp").unwrap_err().contains("no telling how much of a stack f takes"));
        assert!(bytes("sub    $0x1000,%rsp;cmp    %r11,%rsp").unwrap_err().contains("without a bound"));
    }
}
