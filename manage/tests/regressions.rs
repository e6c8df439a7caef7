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
#[path = "../../fuzz/src/replay.rs"]
mod replay;
mod simulated;

use replay::replay;

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
