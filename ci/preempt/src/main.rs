//! The image for tests: `test=` on its command line says which.
//!
//! One program, as each would be linked with the whole router.
#![no_std]
#![no_main]

extern crate alloc;

#[expect(unreachable_pub, reason = "public where it is from")]
#[path = "../../../fuzz/src/bpf.rs"]
mod bpf;
mod code;
mod delay;
mod echo;
mod ends;
#[allow(dead_code, reason = "other targets use the rest")]
#[expect(unreachable_pub, reason = "public where it is from")]
#[path = "../../../fuzz/src/input.rs"]
mod input;
mod stress;

use weir_machine::boot::Boot;

weir_machine::entry!(main);

fn main(boot: &'static Boot) -> ! {
    let word = boot.command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("test="));
    match word {
        Some("code") => code::main(boot),
        Some("delay") => delay::main(boot),
        Some("echo") => echo::main(boot),
        Some("ends") => ends::main(boot),
        Some("stress") => stress::main(boot),
        _ => panic!("test= is code, delay, echo, ends or stress"),
    }
}
