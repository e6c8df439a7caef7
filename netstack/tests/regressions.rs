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
#[path = "../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

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
