//! What the fuzz targets run. The tests of `app`, `bpf`, `manage` and `netstack` run the same over `regressions/`.
#![forbid(unsafe_code)]

pub mod api;
pub mod bpf;
pub mod config;
pub mod console;
pub mod frames;
pub mod http;
pub mod input;
pub mod packets;
pub mod reassembly;

#[path = "../../manage/tests/simulated/mod.rs"]
mod simulated;
