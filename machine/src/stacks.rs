//! A CPU's stacks in one block of memory, each above a guard page of its own.
//!
//! The boot CPU's block is part of the image; the others' come from the frame allocator.

use core::ops::Range;

/// Unmapped bytes under every stack.
pub(crate) const GUARD: u64 = 4096;

/// The stacks of one CPU, lowest address first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stack {
    /// The interrupt stubs.
    Interrupt,
    /// NMI.
    Nmi,
    /// Double fault.
    DoubleFault,
    /// Machine check.
    MachineCheck,
    /// Page fault.
    PageFault,
    /// All other exceptions.
    Fault,
    /// The dispatcher: boot, softints, tasks.
    Run,
}

impl Stack {
    /// In the order in which they lie.
    pub(crate) const ALL: [Stack; 7] = [
        Stack::Interrupt,
        Stack::Nmi,
        Stack::DoubleFault,
        Stack::MachineCheck,
        Stack::PageFault,
        Stack::Fault,
        Stack::Run,
    ];

    /// Index into the TSS's list, from 1; 0 means that the CPU stays on the stack it is on
    /// (Intel SDM vol. 3A §7.14.5).
    pub(crate) const fn ist(self) -> u8 {
        match self {
            Stack::Run => 0,
            other => other as u8 + 1,
        }
    }

    /// Usable bytes.
    const fn size(self) -> u64 {
        match self {
            Stack::Interrupt => 4 << 10,
            Stack::Run => 128 << 10,
            _ => 8 << 10,
        }
    }

    /// What a report calls it.
    #[cfg_attr(not(feature = "image"), expect(dead_code, reason = "only the image reports"))]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Stack::Interrupt => "interrupt",
            Stack::Nmi => "NMI",
            Stack::DoubleFault => "double fault",
            Stack::MachineCheck => "machine check",
            Stack::PageFault => "page fault",
            Stack::Fault => "fault",
            Stack::Run => "run",
        }
    }
}

/// Bytes of a whole block.
pub(crate) const BLOCK: u64 = {
    let (mut sum, mut i) = (0, 0);
    while i < Stack::ALL.len() {
        sum += GUARD + Stack::ALL[i].size();
        i += 1;
    }
    sum
};

/// The usable bytes of `stack` in the block at `base`.
pub(crate) const fn range(base: u64, stack: Stack) -> Range<u64> {
    let (mut at, mut i) = (base, 0);
    loop {
        at += GUARD;
        let size = Stack::ALL[i].size();
        if i == stack as usize {
            return at..at + size;
        }
        at += size;
        i += 1;
    }
}

/// The guard page under `stack` in the block at `base`.
pub(crate) const fn guard(base: u64, stack: Stack) -> Range<u64> {
    let start = range(base, stack).start;
    start - GUARD..start
}

/// The stack of the block at `base` whose guard page holds `address`: the one that overflowed.
pub(crate) fn overflowed(base: u64, address: u64) -> Option<Stack> {
    Stack::ALL.into_iter().find(|&stack| guard(base, stack).contains(&address))
}

/// The stack of the block at `base` that holds `address`.
pub(crate) fn holding(base: u64, address: u64) -> Option<Stack> {
    Stack::ALL.into_iter().find(|&stack| range(base, stack).contains(&address))
}

/// How many bytes from a stack's lowest on are zero, as all of them were at first: what nothing has reached yet, or what a
/// function took there and did not write to.
pub(crate) fn unused(stack: &Range<u64>, word: impl Fn(u64) -> u64) -> u64 {
    let mut words = (stack.start..stack.end).step_by(8);
    words.find(|&at| word(at) != 0).unwrap_or(stack.end) - stack.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_and_guards_tile_the_block() {
        let base = 0x10_0000;
        let mut at = base;
        for stack in Stack::ALL {
            assert_eq!(guard(base, stack), at..at + GUARD);
            let usable = range(base, stack);
            assert_eq!((usable.start, usable.start % 4096, usable.end % 4096), (at + GUARD, 0, 0));
            at = usable.end;
        }
        assert_eq!(at, base + BLOCK);
    }

    #[test]
    fn what_is_unused_ends_where_anything_was_written() {
        let stack = 0x1000..0x2000;
        assert_eq!(unused(&stack, |_| 0), 0x1000);
        assert_eq!(unused(&stack, |at| u64::from(at == 0x1000)), 0);
        assert_eq!(unused(&stack, |at| u64::from(at == 0x1ff8 || at == 0x1a08)), 0xa08);
    }

    #[test]
    fn tells_an_overflow_from_an_address_in_a_stack() {
        let base = 0x10_0000;
        for stack in Stack::ALL {
            let usable = range(base, stack);
            assert_eq!(overflowed(base, usable.start - 1), Some(stack));
            assert_eq!(overflowed(base, usable.start), None);
            assert_eq!(holding(base, usable.end - 1), Some(stack));
            assert_eq!(holding(base, usable.start - 1), None);
        }
        assert_eq!(overflowed(base, base + BLOCK), None);
    }

    #[test]
    fn the_list_of_the_tss_holds_all_but_the_run_stack() {
        let used: Vec<u8> = Stack::ALL.into_iter().map(Stack::ist).collect();
        assert_eq!(used, [1, 2, 3, 4, 5, 6, 0]);
    }
}
