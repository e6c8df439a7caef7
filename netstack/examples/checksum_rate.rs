//! Measures the checksum: `cargo run --release -p weir-netstack --example checksum_rate`.
//!
//! Prints nanoseconds a call and bytes a nanosecond, best of many rounds, for lengths from a header to a super-packet.

use std::hint::black_box;
use std::time::Instant;
use weir_netstack::checksum;

const CALLS: u32 = 2000;
const ROUNDS: u32 = 200;

fn main() {
    let bytes: Vec<u8> = (0..65_536u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for len in [20, 40, 64, 128, 576, 1460, 9000, 65_536] {
        let calls = (CALLS * 1000 / (len as u32 + 200)).max(1);
        let best = (0..ROUNDS).map(|_| round(&bytes[..len], calls)).min_by(f64::total_cmp);
        let nanos = best.unwrap_or(f64::NAN);
        println!("{len:6} bytes {nanos:9.1} ns {:7.2} bytes/ns", len as f64 / nanos);
    }
}

fn round(bytes: &[u8], calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(checksum::internet(black_box(bytes)));
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}
