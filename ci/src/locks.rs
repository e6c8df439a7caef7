//! Looks through the image's machine code for locked instructions on the way of a packet that is forwarded without
//! state: read-modify-writes of memory that other CPUs use, and full fences.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::disassembly;

/// Where a packet's way begins: whatever these call belongs to it. Calls through a table of functions end at the next of
/// them.
const ROOTS: &[&str] = &[
    "Stack>::input",
    "Stack>::transmit",
    "net::pair::Pair as weir_netif::device::Queue>::receive",
    "net::pair::Pair as weir_netif::device::Queue>::transmit",
    "net::pair::Pair as weir_netif::device::Queue>::disarm",
    "net::pair::Pair as weir_netif::device::Queue>::arm",
];

/// Below the roots too: the same path once more, compiled for CPUs with more instructions.
const WIDE: &str = "weir_sync::wide::wide";

/// What may have them, or leads only to what may, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("weir_virtio::queue::SplitQueue<T>::publish", "a full fence a batch, before the device's wish is read"),
    ("weir_xennet::ring::FrontRing<_>::push", "a full fence a batch, before the backend's wish is read"),
    ("weir_xennet::ring::FrontRing<_>::arm", "a full fence when polling ends, before the last look"),
    ("device::Queue>::arm", "the same"),
    ("weir_netif::pool::Pool::reload", "a magazine of 64 buffers changes hands"),
    ("weir_netif::pool::Pool::unload", "a magazine of 64 buffers changes hands"),
    (
        "ArrayQueue<T>::push_or_else",
        "packets that waited for a neighbour whose entry was evicted, on their way home",
    ),
    ("weir_netif::pool::send_home", "a buffer of another arena than the pool's"),
    ("health::Health<V>::fail", "the device broke its protocol"),
    ("iterator::Iterator>::fold", "the device broke its protocol, and what it was lent is taken back"),
    ("RawVec", "a vector that is made with its capacity and does not grow"),
    ("weir_netstack::path::output", "an error message, rate-limited"),
    ("weir_netstack::icmp", "an error message, rate-limited"),
    ("core::panicking", "the end"),
    ("core::option::", "the end"),
    ("core::slice::index", "the end"),
    ("drop_in_place", "a packet that found its pool full"),
];

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Functions looked through.
    pub(crate) functions: usize,
    /// Allowed ones that have locked instructions.
    pub(crate) allowed: BTreeSet<String>,
}

/// Disassembles an image with symbols and follows all direct calls from the roots.
///
/// # Errors
/// Names each function with locked instructions that is not allowed any.
pub(crate) fn check(image: &Path) -> Result<Report> {
    let text = disassembly::text(image)?;
    let functions = read(&text);
    for root in ROOTS {
        ensure!(functions.keys().any(|name| name.ends_with(root)), "the image has no function …{root}");
    }
    let mut todo: Vec<&str> =
        functions.keys().copied().filter(|name| ROOTS.iter().any(|root| name.ends_with(root))).collect();
    // Each with a caller.
    let mut seen: BTreeMap<&str, &str> = todo.iter().map(|&root| (root, "")).collect();
    let (mut wrong, mut allowed) = (Vec::new(), BTreeSet::new());
    while let Some(name) = todo.pop() {
        let Some(function) = functions.get(name) else { continue };
        let excused = ALLOWED.iter().any(|(part, _)| name.contains(part));
        match (function.locked, excused) {
            (0, _) => {}
            (_, true) => drop(allowed.insert(name.to_owned())),
            (count, false) => wrong.push(format!("{count} in {name}, called by {}", seen[name])),
        }
        if !excused {
            for &callee in &function.calls {
                if !seen.contains_key(callee) {
                    seen.insert(callee, name);
                    todo.push(callee);
                }
            }
        }
    }
    ensure!(
        seen.keys().any(|name| name.starts_with(WIDE)),
        "no path compiled for x86-64-v3: no call of {WIDE}"
    );
    ensure!(wrong.is_empty(), "locked instructions on a packet's way:\n{}", wrong.join("\n"));
    Ok(Report { functions: seen.len(), allowed })
}

/// A function of the image.
#[derive(Debug, Default, PartialEq, Eq)]
struct Function<'t> {
    calls: BTreeSet<&'t str>,
    locked: usize,
}

/// Reads `objdump -d`.
fn read(text: &str) -> BTreeMap<&str, Function<'_>> {
    let mut functions = BTreeMap::<&str, Function<'_>>::new();
    for (name, instructions) in disassembly::functions(text) {
        let function = functions.entry(name).or_default();
        for instruction in instructions {
            let word = instruction.split_whitespace().next().unwrap_or_default();
            let memory = instruction.contains('(');
            if word == "lock" || word == "mfence" || word.starts_with("xchg") && memory {
                function.locked += 1;
            }
            let target = instruction.split_once(" <").and_then(|(_, target)| target.strip_suffix('>'));
            if let Some(target) = target.filter(|_| word.starts_with("call") || word.starts_with('j')) {
                // A jump into the middle of a function leaves out its beginning.
                let callee = target.rsplit_once("+0x").map_or(target, |(callee, _)| callee);
                if callee != name {
                    function.calls.insert(callee);
                }
            }
        }
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_locks_and_calls() {
        let text = "0000000000100000 <a::b>:\n  100000:\tlock xadd %rax,(%rdi)\n  100004:\tcall   100020 <<x as y>::z>\n\
                    \x20 100008:\tjmp    100030 <w+0x10>\n  10000a:\txchg   %ax,%ax\n  10000c:\txchg   %rax,(%rdi)\n\
                    \x20 10000e:\tjne    100004 <a::b+0x4>\n";
        let functions = read(text);
        assert_eq!(functions["a::b"].locked, 2);
        assert_eq!(functions["a::b"].calls.iter().copied().collect::<Vec<_>>(), ["<x as y>::z", "w"]);
    }
}
