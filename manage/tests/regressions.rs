//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/console/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/console.rs"]
mod console;

use std::path::Path;

#[test]
fn what_was_typed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/console");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing to replay in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        console::run(&std::fs::read(&file).unwrap());
    }
}
