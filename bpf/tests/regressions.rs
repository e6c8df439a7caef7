//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/expression/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/expression.rs"]
mod expression;

use std::path::Path;

#[test]
fn filters() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/expression");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing to replay in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        expression::run(&std::fs::read(&file).unwrap());
    }
}
