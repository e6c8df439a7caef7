//! What the fuzz targets run. The tests of `app`, `bpf`, `clients`, `manage` and `netstack` run the same over `regressions/`.
#![forbid(unsafe_code)]

pub mod api;
pub mod bpf;
pub mod config;
pub mod console;
pub mod dhcp;
pub mod dhcp6;
pub mod dns;
pub mod expression;
pub mod frames;
pub mod http;
pub mod input;
pub mod ntp;
pub mod packets;
pub mod reassembly;

#[path = "../../manage/tests/simulated/mod.rs"]
mod simulated;
