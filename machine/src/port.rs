//! I/O ports. Used by the platform drivers of this crate only.

use x86_64::instructions::port::{Port, PortRead, PortWrite};

/// Reads `port`; all ones where nothing answers.
#[inline]
pub(crate) fn read<T: PortRead>(port: u16) -> T {
    let mut port: Port<T> = Port::new(port);
    // SAFETY: the image runs in ring 0, and a port read touches no memory.
    unsafe { port.read() }
}

/// Writes `port`. Callers name ports of devices they own; none of those starts DMA by a port write alone.
#[inline]
pub(crate) fn write<T: PortWrite>(port: u16, value: T) {
    let mut port: Port<T> = Port::new(port);
    // SAFETY: the image runs in ring 0, and no port this crate writes makes a device write memory.
    unsafe { port.write(value) }
}

/// Reads `into.len()` bytes from `port`, one after the other, in one instruction: a hypervisor sees few exits.
pub(crate) fn read_bytes(port: u16, into: &mut [u8]) {
    // SAFETY: the image runs in ring 0; the instruction writes `len` bytes from the start of `into` on, the direction
    // flag being clear as the ABI has it, and a port read touches no other memory.
    unsafe {
        core::arch::asm!(
            "rep insb",
            in("dx") port,
            inout("rdi") into.as_mut_ptr() => _,
            inout("rcx") into.len() => _,
            options(nostack, preserves_flags),
        );
    }
}
