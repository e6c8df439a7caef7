//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/expression/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/expression.rs"]
mod expression;
#[path = "../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn filters() {
    replay::replay("expression", expression::run);
}
