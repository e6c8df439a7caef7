//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/config/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/config.rs"]
mod config;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn configuration_texts() {
    replay::replay("config", config::run);
}
