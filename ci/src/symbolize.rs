//! A panic's backtrace made readable: addresses on the console to function, file and line.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command;

/// `text` with every backtrace line (`  #3 0x101234`) followed by what it names in `image`.
pub(crate) fn symbolize(image: &Path, text: &str) -> Result<String> {
    ensure!(image.is_file(), "there is no {}: make image", image.display());
    let wanted: Vec<u64> = text.lines().filter_map(frame).map(|frame| frame.look_up()).collect();
    let names = look_up(image, &wanted)?;
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(line);
        out.push('\n');
        let Some(frame) = frame(line) else { continue };
        for place in names.get(&frame.look_up()).into_iter().flatten() {
            out.push_str(&format!("        {place}\n"));
        }
    }
    Ok(out)
}

/// Whether `text` has a backtrace at all.
pub(crate) fn has_backtrace(text: &str) -> bool {
    text.lines().any(|line| frame(line).is_some())
}

struct StackFrame {
    number: usize,
    address: u64,
}

impl StackFrame {
    /// A caller's address is where it goes on: the call is before it.
    fn look_up(&self) -> u64 {
        if self.number == 0 { self.address } else { self.address.saturating_sub(1) }
    }
}

fn frame(line: &str) -> Option<StackFrame> {
    let (_, rest) = line.split_once('#')?;
    let mut words = rest.split_whitespace();
    let number = words.next()?.trim_end_matches(':').parse().ok()?;
    let address = words.next()?.strip_prefix("0x")?;
    let digits = address.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(address.len());
    Some(StackFrame { number, address: u64::from_str_radix(&address[..digits], 16).ok()? })
}

/// Asks binutils' addr2line: for each address its function and place, inlined callers after it.
pub(crate) fn look_up(image: &Path, addresses: &[u64]) -> Result<BTreeMap<u64, Vec<String>>> {
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    if addresses.is_empty() {
        return Ok(names);
    }
    let mut ask = Command::new("addr2line");
    ask.args(["-a", "-f", "-i", "-C", "-e"]).arg(image).args(addresses.iter().map(|a| format!("{a:#x}")));
    let text = command::run(&mut ask, &[], Duration::from_secs(60))?.success("addr2line")?;
    let here = crate::router::workspace().map(|path| format!("{}/", path.display())).unwrap_or_default();
    let mut current = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(address) = line.strip_prefix("0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            names.entry(address).or_default().clear();
            current = Some(address);
            continue;
        }
        let place = lines.next().unwrap_or("??:0");
        let place = place.split(" (discriminator").next().unwrap_or(place).replace(&here, "");
        if let Some(address) = current {
            names.entry(address).or_default().push(format!("{line}  {place}"));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_backtrace_lines() {
        let frame = frame("[    1.0] cpu0   #2 0x0000000000101234 <").unwrap();
        assert_eq!((frame.number, frame.address, frame.look_up()), (2, 0x101234, 0x101233));
        assert!(super::frame("task #3 of 4").is_none() && !has_backtrace("cpu0 0x12"));
    }

    #[test]
    fn names_a_function_of_this_very_program() {
        let own = std::env::current_exe().unwrap();
        let table = Command::new("nm").arg(&own).output().unwrap();
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        let line = table
            .lines()
            .find(|line| line.contains("3lab9symbolize") && line.to_lowercase().contains(" t "))
            .unwrap();
        let text = format!("panic\n  #0 0x{}\n", line.split(' ').next().unwrap());
        let named = symbolize(&own, &text).unwrap();
        assert!(named.contains("symbolize.rs:"), "{named}");
    }
}
