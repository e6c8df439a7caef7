//! What the fuzz targets run. The tests of `app` and `netstack` run the same over `regressions/`.
#![forbid(unsafe_code)]

pub mod config;
pub mod frames;
pub mod input;
pub mod packets;
pub mod reassembly;
