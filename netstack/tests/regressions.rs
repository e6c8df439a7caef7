//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/packets.rs"]
mod packets;
#[path = "../../fuzz/src/reassembly.rs"]
mod reassembly;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions").join(target);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing to replay in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        run(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn frames_into_the_stack() {
    replay("frames", frames::run);
}

#[test]
fn packet_operations() {
    replay("packets", packets::run);
}

#[test]
fn fragments_for_the_router() {
    replay("reassembly", reassembly::run);
}
