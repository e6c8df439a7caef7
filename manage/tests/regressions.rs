//! What the fuzzer once found, and some that it did not: every file of `fuzz/regressions/` for the console, the HTTP server
//! and the API through its target.

#![expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]

#[path = "../../fuzz/src/api.rs"]
mod api;
#[path = "../../fuzz/src/console.rs"]
mod console;
#[path = "../../fuzz/src/http.rs"]
mod http;
#[expect(dead_code, reason = "other targets use the rest")]
#[path = "../../fuzz/src/input.rs"]
mod input;
mod simulated;

use std::path::Path;

#[test]
fn what_was_typed() {
    replay("console", console::run);
}

#[test]
fn what_came_by_http() {
    replay("http", http::run);
}

#[test]
fn what_was_asked_of_the_api() {
    replay("api", api::run);
}

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
