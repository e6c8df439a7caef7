//! Interrupt sources: which vector of which CPU sets which softint bit, and the table that leads there.
//!
//! Vector 0x40 + bit sets that bit in the CPU's pending word. The assembly in `vectors.s` is all that runs in
//! interrupt context; where it finds a task it leaves that context and calls the dispatcher.

use core::sync::atomic::{AtomicU64, Ordering};
use weir_sync::{CpuId, MAX_CPUS};

/// Vector of bit 0.
pub const FIRST_VECTOR: u8 = 0x40;
/// Vector that wakes an idle CPU or interrupts a task, and sets no bit.
#[cfg(feature = "image")]
pub(crate) const WAKE_VECTOR: u8 = 0x30;
/// Vector of the local APIC's spurious interrupts.
#[cfg(feature = "image")]
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;
/// The CPU's one-shot timer.
pub const TIMER: u8 = 0;
/// Work sent by another CPU.
pub const MESSAGE: u8 = 1;
/// Console input.
pub const CONSOLE: u8 = 2;
/// Xen's event channels: which of them, the dispatcher looks up itself.
pub const EVENTS: u8 = 3;
/// News in Xen's store, on the boot CPU.
pub const STORE: u8 = 4;
/// First bit for devices.
pub const FIRST_DEVICE: u8 = 8;
/// Bits a CPU has.
pub const SOURCES: u8 = 64;

/// Where a device interrupt goes: a CPU and one of its softint bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupt {
    /// The CPU that serves it.
    pub cpu: CpuId,
    /// The softint bit it sets, 0–63; a lower one runs first.
    pub bit: u8,
}

impl Interrupt {
    /// The vector that the CPU's local APIC is to deliver.
    pub const fn vector(self) -> u8 {
        FIRST_VECTOR + self.bit % SOURCES
    }

    /// Gives a bit from [`allocate`] back. Its device must be quiet by now.
    pub fn free(self) {
        if self.bit >= FIRST_DEVICE {
            TAKEN[self.cpu.index()].fetch_and(!(1 << (self.bit % SOURCES)), Ordering::AcqRel);
        }
    }
}

/// `[A]` Bits in use on each CPU. AcqRel: a bit's new owner sees that the last one is done.
static TAKEN: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new((1 << FIRST_DEVICE) - 1) }; MAX_CPUS];

/// Takes the lowest free device source of `cpu`; `None` if all 56 are in use.
pub fn allocate(cpu: CpuId) -> Option<Interrupt> {
    let taken = &TAKEN[cpu.index()];
    let lowest_free = |bits: u64| (bits != u64::MAX).then(|| bits | (bits + 1));
    let before = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, lowest_free).ok()?;
    Some(Interrupt { cpu, bit: before.trailing_ones() as u8 })
}

#[cfg(feature = "image")]
pub use image::strays;
#[cfg(feature = "image")]
pub(crate) use image::{halt, load};

#[cfg(feature = "image")]
mod image {
    use crate::exception;
    use crate::stacks::Stack;
    use crate::{cpu, dispatch};
    use spin::Once;
    use weir_sync::CpuId;
    use x86_64::VirtAddr;
    use x86_64::instructions::tables::lidt;
    use x86_64::structures::DescriptorTablePointer;

    core::arch::global_asm!(
        include_str!("vectors.s"),
        pending = const cpu::PENDING,
        eoi = const cpu::EOI,
        strays = const cpu::STRAYS,
        masked = const cpu::MASKED,
        vector_sets = const cpu::VECTOR_SETS,
        vector_bytes = const cpu::VECTOR_BYTES,
        preempted = sym dispatch::preempted,
        exception = sym exception::enter,
    );

    unsafe extern "C" {
        /// 256 entries of [`STRIDE`] bytes.
        static weir_vectors: u8;
        /// `sti; hlt; ret`.
        safe fn weir_halt();
    }

    const STRIDE: u64 = 32;
    const CODE_SELECTOR: u128 = 0x08;
    /// Present, 64-bit interrupt gate: interrupts off on entry (Intel SDM vol. 3A §7.14.1).
    const GATE: u128 = 0x8e00;

    static TABLE: Once<[u128; 256]> = Once::new();

    /// Turns interrupts on and sleeps until the next one, or not at all if one is waiting. Interrupts are off before.
    #[inline]
    pub(crate) fn halt() {
        weir_halt();
    }

    /// Loads the interrupt table, the same on every CPU.
    pub(crate) fn load() {
        let table = TABLE.call_once(|| {
            let base = &raw const weir_vectors as u64;
            core::array::from_fn(|vector| gate(base + vector as u64 * STRIDE, stack(vector).ist()))
        });
        let limit = (size_of_val(table) - 1) as u16;
        let pointer = DescriptorTablePointer { limit, base: VirtAddr::from_ptr(table) };
        // SAFETY: the table is static, each gate leads to the stub of its vector, and every interrupt stack is
        // set in the task state loaded before.
        unsafe { lidt(&pointer) };
    }

    /// Interrupts that came to `cpu` on vectors nobody allocated: a device or the firmware left something on.
    pub fn strays(cpu: CpuId) -> u64 {
        cpu::block(cpu).strays()
    }

    fn stack(vector: usize) -> Stack {
        match vector {
            2 => Stack::Nmi,
            8 => Stack::DoubleFault,
            14 => Stack::PageFault,
            18 => Stack::MachineCheck,
            0..32 => Stack::Fault,
            _ => Stack::Interrupt,
        }
    }

    fn gate(handler: u64, ist: u8) -> u128 {
        let handler = u128::from(handler);
        (handler & 0xffff)
            | CODE_SELECTOR << 16
            | u128::from(ist) << 32
            | GATE << 32
            | (handler >> 16 & 0xffff) << 48
            | (handler >> 32) << 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(number: usize) -> CpuId {
        CpuId::new(number).unwrap()
    }

    #[test]
    fn gives_device_bits_from_8_up_to_63_and_then_none() {
        let bits: Vec<u8> = std::iter::from_fn(|| allocate(cpu(40))).map(|interrupt| interrupt.bit).collect();
        assert_eq!(bits, (8..64).collect::<Vec<u8>>());
        Interrupt { cpu: cpu(40), bit: 20 }.free();
        assert_eq!(allocate(cpu(40)), Some(Interrupt { cpu: cpu(40), bit: 20 }));
    }

    #[test]
    fn fixed_sources_cannot_be_freed_into_the_pool() {
        Interrupt { cpu: cpu(41), bit: TIMER }.free();
        assert_eq!(allocate(cpu(41)).map(|interrupt| interrupt.bit), Some(FIRST_DEVICE));
    }

    #[test]
    fn vectors_follow_bits() {
        assert_eq!(Interrupt { cpu: cpu(0), bit: MESSAGE }.vector(), 0x41);
        assert_eq!(Interrupt { cpu: cpu(0), bit: 63 }.vector(), 0x7f);
    }
}
