//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/config/` through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/config.rs"]
mod config;

use std::path::Path;

#[test]
fn configuration_texts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/config");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing to replay in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        config::run(&std::fs::read(&file).unwrap());
    }
}
