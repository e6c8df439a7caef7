//! What takes room in the image: its sections by `size`, and its functions and constants by crate, from the symbols of
//! `weir.debug`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command;

/// The stripped image may have as many bytes.
pub(crate) const MOST: u64 = 2 << 20;

/// Prints the table. Whether the image is small enough.
pub(crate) fn run(elf: &Path, debug: &Path) -> Result<bool> {
    let bytes = std::fs::metadata(elf).with_context(|| format!("{}: make image", elf.display()))?.len();
    let symbols = command::capture(
        "nm",
        &["--print-size", "--demangle", "--defined-only", &debug.to_string_lossy()],
        Duration::from_secs(60),
    )?;
    let crates = by_crate(&symbols);
    ensure!(!crates.is_empty(), "{} has no symbols", debug.display());
    println!("| Crate | Code | Constants and data | Zeroed at boot |\n|---|---:|---:|---:|");
    let mut rows: Vec<_> = crates.iter().collect();
    rows.sort_by_key(|(_, sizes)| std::cmp::Reverse(sizes.code + sizes.data));
    let mut total = Sizes::default();
    for (name, sizes) in rows {
        println!("| {name} | {} | {} | {} |", sizes.code, sizes.data, sizes.zeroed);
        total.add(*sizes);
    }
    println!("| all symbols | {} | {} | {} |", total.code, total.data, total.zeroed);
    println!("\n{}: {bytes} bytes, {MOST} are the most", elf.display());
    Ok(bytes <= MOST)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    code: u64,
    data: u64,
    zeroed: u64,
}

impl Sizes {
    fn add(&mut self, other: Sizes) {
        self.code += other.code;
        self.data += other.data;
        self.zeroed += other.zeroed;
    }
}

/// Sums `nm --print-size`'s lines: address, size, kind, name.
fn by_crate(symbols: &str) -> BTreeMap<String, Sizes> {
    let mut crates: BTreeMap<String, Sizes> = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(size), Some(kind), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(size) = u64::from_str_radix(size, 16) else { continue };
        let sizes = match kind {
            "t" | "T" | "w" | "W" => Sizes { code: size, ..Sizes::default() },
            "b" | "B" => Sizes { zeroed: size, ..Sizes::default() },
            _ => Sizes { data: size, ..Sizes::default() },
        };
        crates.entry(crate_of(name)).or_default().add(sizes);
    }
    crates
}

/// The crate of a demangled name: of `<a::B as c::D>::e` that of the type, where the code was written for.
fn crate_of(name: &str) -> String {
    let inner = name.trim_start_matches(['<', '&', '*', '(', '[', ' ']);
    let inner = ["mut ", "const ", "dyn "].iter().fold(inner, |name, word| name.trim_start_matches(word));
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    match inner[end..].starts_with("::") {
        true => inner[..end].to_owned(),
        false if inner.starts_with("anon.") || inner.starts_with(".L") => {
            "constants without a name".to_owned()
        }
        false => "assembly, memory functions and others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_crate() {
        let symbols = "\
0000000000100000 0000000000000010 t weir_app::start::start
0000000000100010 0000000000000020 T <weir_app::observe::Ready as core::fmt::Display>::fmt
0000000000100030 0000000000000001 r <&mut weir_netif::Batch>::X
0000000000200000 0000000000000040 b weir_machine::boot::STACKS
0000000000100040 t weir_entry
0000000000100050 0000000000000008 T memcpy
0000000000100060 0000000000000004 r anon.4567.8";
        let crates = by_crate(symbols);
        assert_eq!(crates["weir_app"], Sizes { code: 0x30, ..Sizes::default() });
        assert_eq!(crates["weir_netif"], Sizes { data: 1, ..Sizes::default() });
        assert_eq!(crates["weir_machine"], Sizes { zeroed: 0x40, ..Sizes::default() });
        assert_eq!(crates["assembly, memory functions and others"].code, 8);
        assert_eq!(crates["constants without a name"].data, 4);
        assert_eq!(crates.len(), 5);
    }
}
