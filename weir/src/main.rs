//! The router image: finds devices, reads its configuration, forwards.
#![no_std]
#![no_main]

extern crate alloc;

#[forbid(unsafe_code)]
mod server;

use alloc::boxed::Box;
use weir_app::{clients, ping, start};
use weir_machine::boot::Boot;
use weir_machine::{dispatch, println};
use weir_sync::CpuId;
use weir_sync::cpu::claim;
use weir_transport::Transport;

weir_machine::entry!(main);

fn main(boot: &'static Boot) -> ! {
    println!(
        "Weir {} on {}, {} CPUs, {} MiB",
        env!("CARGO_PKG_VERSION"),
        boot.platform,
        boot.cpus,
        boot.memory.div_ceil(1 << 20)
    );
    let Some(mut cpu) = claim(CpuId::BOOT) else { panic!("the boot CPU has a dispatcher already") };
    let (router, tasks) = cpu.control(|cx| start::start(cx, boot, |queue| queue, services));
    dispatch::run(cpu, Box::new(router), |_| tasks())
}

fn services(transport: &Transport) {
    server::services(transport);
    clients::services(transport);
    ping::services(transport);
}
