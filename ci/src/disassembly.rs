//! The image's machine code as text.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;

/// Disassembles an image with symbols, in AT&T syntax.
pub(crate) fn text(image: &Path) -> Result<String> {
    let arguments = ["-d", "--no-show-raw-insn", "-C", &image.display().to_string()];
    command::capture("objdump", &arguments, Duration::from_secs(120)).context("disassembling the image")
}

/// What `objdump -d` printed: each function's name, with its instructions.
pub(crate) fn functions(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut functions: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            functions.push((name, Vec::new()));
        } else if let (Some((_, body)), Some((_, instruction))) =
            (functions.last_mut(), line.split_once(":\t"))
        {
            body.push(instruction.trim_end());
        }
    }
    functions
}
