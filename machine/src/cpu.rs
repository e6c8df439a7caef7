//! One CPU: its block of data reached through GS, its segments and task state, the features it runs with.
//!
//! The boot CPU loads these first thing, the others on their way in; whoever asks "which CPU is this" reads
//! GS.

use crate::dispatch::Slept;
use crate::stacks::{self, Stack};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use raw_cpuid::CpuId as Cpuid;
use spin::Once;
use weir_sync::{Counter, CpuId, MAX_CPUS, Pending};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::GsBase;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// What a CPU is doing, for reports and for the interrupt stub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Context {
    /// Starting up.
    Boot,
    /// In a softint turn.
    Softint,
    /// In a task.
    Task,
    /// Halted, or about to.
    Idle,
}

impl Context {
    /// What a report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Context::Boot => "boot",
            Context::Softint => "softint",
            Context::Task => "task",
            Context::Idle => "idle",
        }
    }
}

/// What one CPU's assembly and Rust share. GS points to the CPU's own; `raise` finds those of others.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Block {
    /// `[A]` Softint sources; the stubs set bits at offset 0.
    pub(crate) pending: Pending,
    /// `[C]` Address of the local APIC's EOI register; 0: it is in x2APIC mode. Read by the stubs.
    pub(crate) eoi: AtomicU64,
    /// `[C]` How often softints are masked; the stubs preempt at zero only.
    masked: AtomicU32,
    /// `[I]` Register sets that XSAVE is to save, as in XCR0; 0: FXSAVE.
    vector_sets: AtomicU32,
    /// `[I]` Bytes that takes.
    vector_bytes: AtomicU64,
    /// `[C]` A [`Context`].
    context: AtomicU8,
    /// `[C]` Interrupts on vectors that nobody allocated, counted by the stubs.
    strays: AtomicU64,
    /// `[I]` This block.
    this: AtomicU64,
    /// `[I]` The CPU's number.
    number: AtomicU16,
    /// `[I]` Its local APIC.
    pub(crate) apic: AtomicU32,
    /// `[I]` Base of its stacks; 0: it has none and cannot run.
    pub(crate) stacks: AtomicU64,
    /// `[I]` Where its run stack begins; read by the entry code.
    run_top: AtomicU64,
    /// `[A]` TSC ticks it has slept.
    pub(crate) slept: Slept,
    /// `[C]` Ranks of the locks of the machine layer that it holds, a bit each. Touched with softints masked.
    pub(crate) held_ranks: AtomicU32,
    /// `[C]` Which changes of the map it has caught up with, see `paging::catch_up`.
    pub(crate) map: AtomicU64,
    /// `[A]` Tasks it has preempted. Written by itself, read by anyone.
    pub(crate) preemptions: Counter,
    /// `[A]` The CPU runs; set by itself (Release), read by whoever sends to it or waits for it (Acquire).
    pub(crate) running: AtomicBool,
}

/// Offsets that the assembly uses.
pub(crate) const PENDING: usize = offset_of!(Block, pending);
pub(crate) const EOI: usize = offset_of!(Block, eoi);
pub(crate) const MASKED: usize = offset_of!(Block, masked);
pub(crate) const VECTOR_SETS: usize = offset_of!(Block, vector_sets);
pub(crate) const VECTOR_BYTES: usize = offset_of!(Block, vector_bytes);
pub(crate) const STRAYS: usize = offset_of!(Block, strays);
pub(crate) const RUN_TOP: usize = offset_of!(Block, run_top);
const THIS: usize = offset_of!(Block, this);
const NUMBER: usize = offset_of!(Block, number);
const _: () = assert!(PENDING == 0 && EOI == 64, "the stubs' fields share the block's first two cache lines");
const _: () = assert!(size_of::<Pending>() == 64);

/// What FXSAVE writes (Intel SDM vol. 1 §10.5.1).
const FXSAVE_BYTES: u64 = 512;
/// FXSAVE's part and the header (Intel SDM vol. 1 §13.4).
const XSAVE_LEAST: u64 = 576;

impl Block {
    const fn new() -> Self {
        Self {
            pending: Pending::new(),
            eoi: AtomicU64::new(0),
            masked: AtomicU32::new(0),
            vector_sets: AtomicU32::new(0),
            vector_bytes: AtomicU64::new(0),
            context: AtomicU8::new(Context::Boot as u8),
            strays: AtomicU64::new(0),
            this: AtomicU64::new(0),
            number: AtomicU16::new(0),
            apic: AtomicU32::new(0),
            stacks: AtomicU64::new(0),
            run_top: AtomicU64::new(0),
            slept: Slept::new(),
            held_ranks: AtomicU32::new(0),
            map: AtomicU64::new(0),
            preemptions: Counter::new(),
            running: AtomicBool::new(false),
        }
    }

    /// Says which CPU the block is for and where its stacks lie. Before that CPU runs.
    pub(crate) fn prepare(&self, number: CpuId, stack_block: u64) {
        self.this.store(self as *const Self as u64, Ordering::Relaxed);
        // Down to zero only when the dispatcher lends the CPU to a task.
        self.masked.store(1, Ordering::Relaxed);
        self.vector_bytes.store(FXSAVE_BYTES, Ordering::Relaxed);
        self.number.store(number.index() as u16, Ordering::Relaxed);
        self.stacks.store(stack_block, Ordering::Relaxed);
        self.run_top.store(stacks::range(stack_block, Stack::Run).end, Ordering::Release);
    }

    /// Bytes at the far end of its run stack that are zero still, as all were at first.
    pub(crate) fn stack_free(&self) -> u64 {
        let base = self.stacks.load(Ordering::Relaxed);
        if base == 0 {
            return 0;
        }
        stacks::unused(&stacks::range(base, Stack::Run), |at| {
            let word: u64;
            // SAFETY: the load is of an aligned word of a CPU's run stack, which is mapped for good. That CPU may store to it at the same
            // time: to the processor one load is then of what was there before or after, and the compiler knows of no access here
            // that could race with those it made itself.
            unsafe {
                core::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) at, options(nostack, preserves_flags, readonly));
            }
            word
        })
    }

    pub(crate) fn number(&self) -> CpuId {
        CpuId::new(self.number.load(Ordering::Relaxed).into()).unwrap_or(CpuId::BOOT)
    }

    /// What the CPU is doing.
    pub(crate) fn context(&self) -> Context {
        match self.context.load(Ordering::Relaxed) {
            1 => Context::Softint,
            2 => Context::Task,
            3 => Context::Idle,
            _ => Context::Boot,
        }
    }

    /// Says what the CPU is doing. On that CPU.
    #[inline]
    pub(crate) fn enter(&self, context: Context) {
        self.context.store(context as u8, Ordering::Relaxed);
    }

    /// Interrupts on vectors that nobody allocated.
    pub(crate) fn strays(&self) -> u64 {
        self.strays.load(Ordering::Relaxed)
    }
}

static BLOCKS: [Block; MAX_CPUS] = [const { Block::new() }; MAX_CPUS];
static TASK_STATES: [Once<TaskStateSegment>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
static SEGMENTS: [Once<GlobalDescriptorTable>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

/// The block of `cpu`.
#[inline]
pub(crate) fn block(cpu: CpuId) -> &'static Block {
    &BLOCKS[cpu.index()]
}

/// The block of the CPU this runs on.
#[inline]
pub(crate) fn this() -> &'static Block {
    let block: *const Block;
    // SAFETY: GS points to a block since the CPU's first Rust function (`load`), whose `this` field is the
    // block's own address. Reads memory only.
    unsafe {
        core::arch::asm!("mov {}, gs:[{}]", out(reg) block, const THIS, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: `this` is the address of a static.
    unsafe { &*block }
}

/// The CPU this runs on.
#[inline]
pub fn current() -> CpuId {
    let number: u32;
    // SAFETY: GS points to a block since the CPU's first Rust function (`load`). Reads memory only.
    unsafe {
        core::arch::asm!("movzx {:e}, word ptr gs:[{}]", out(reg) number, const NUMBER, options(nostack, preserves_flags, readonly));
    }
    CpuId::new(number as usize).unwrap_or(CpuId::BOOT)
}

/// Makes this CPU the one of `block`: GS, segments, task state with the interrupt stacks.
///
/// # Panics
/// If the block has no stacks.
pub(crate) fn load(block: &'static Block) {
    let stack_block = block.stacks.load(Ordering::Acquire);
    GsBase::write(VirtAddr::from_ptr(block));
    assert!(stack_block != 0, "a CPU without stacks");

    let index = block.number().index();
    let task_state = TASK_STATES[index].call_once(|| {
        let mut task_state = TaskStateSegment::new();
        for stack in Stack::ALL.into_iter().filter(|stack| stack.ist() != 0) {
            let top = stacks::range(stack_block, stack).end;
            task_state.interrupt_stack_table[usize::from(stack.ist()) - 1] = VirtAddr::new(top);
        }
        task_state
    });
    let mut selectors = (None, None, None);
    let segments = SEGMENTS[index].call_once(|| {
        let mut segments = GlobalDescriptorTable::new();
        selectors.0 = Some(segments.append(Descriptor::kernel_code_segment()));
        selectors.1 = Some(segments.append(Descriptor::kernel_data_segment()));
        selectors.2 = Some(segments.append(Descriptor::tss_segment(task_state)));
        segments
    });
    let (Some(code), Some(data), Some(task)) = selectors else { panic!("{} loaded twice", block.number()) };
    segments.load();
    // SAFETY: `code` is the 64-bit code segment of the table just loaded.
    unsafe { CS::set_reg(code) };
    // SAFETY: `data` is the data segment of the table just loaded.
    unsafe { SS::set_reg(data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(data) };
    // SAFETY: `task` is a task state of that table with every interrupt stack set; loaded once.
    unsafe { load_tss(task) };
}

/// Turns on what this CPU has: machine checks, supervisor protection (SMEP, SMAP, UMIP), AVX state.
pub(crate) fn features() {
    let cpuid = Cpuid::new();
    let basic = cpuid.get_feature_info();
    let has = |test: fn(&raw_cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(test);
    let extended = cpuid.get_extended_feature_info();
    let has_extended = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(test);
    let avx = has(raw_cpuid::FeatureInfo::has_xsave) && has(raw_cpuid::FeatureInfo::has_avx);

    let mut flags = Cr4::read();
    flags.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, has(raw_cpuid::FeatureInfo::has_mce));
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        has_extended(raw_cpuid::ExtendedFeatures::has_smep),
    );
    flags.set(
        Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        has_extended(raw_cpuid::ExtendedFeatures::has_smap),
    );
    flags
        .set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, has_extended(raw_cpuid::ExtendedFeatures::has_umip));
    flags.set(Cr4Flags::OSXSAVE, avx);
    // SAFETY: each bit is set only if CPUID says the CPU has it; no page is user-accessible.
    unsafe { Cr4::write(flags) };
    if avx {
        let sets = XCr0Flags::X87 | XCr0Flags::SSE | XCr0Flags::AVX;
        // SAFETY: CR4.OSXSAVE is on and the CPU has AVX; x87 and SSE go with it (Intel SDM vol. 1 §13.3).
        unsafe { XCr0::write(sets) };
        // CPUID counts what XCR0 has enabled by now (Intel SDM vol. 1 §13.2).
        let bytes = cpuid.get_extended_state_info().map_or(0, |leaf| leaf.xsave_area_size_enabled_features());
        if u64::from(bytes) <= XSAVE_LEAST {
            // QEMU's emulation of SVM lets a guest's XSETBV pass its hypervisor by, which then knows of no
            // AVX state and takes XCR0 back at the next exit. FXSAVE saves all there is without AVX.
            flags.remove(Cr4Flags::OSXSAVE);
            // SAFETY: as above, less one bit: no AVX instruction has run, and XSETBV, the only one that
            // needed the bit, is not used again.
            unsafe { Cr4::write(flags) };
            return;
        }
        let block = this();
        block.vector_bytes.store(bytes.into(), Ordering::Relaxed);
        block.vector_sets.store(sets.bits() as u32, Ordering::Relaxed);
    }
}

/// Whether page tables may use the no-execute bit: the entry code turned it on if the CPU has it.
pub(crate) fn has_no_execute() -> bool {
    Cpuid::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|leaf| leaf.has_execute_disable())
}

/// Whether `rep movsb` and `rep stosb` are quick: ERMS, but not under QEMU's translator, which goes byte by
/// byte.
pub(crate) fn has_quick_strings() -> bool {
    let has_erms = Cpuid::new().get_extended_feature_info().is_some_and(|leaf| leaf.has_rep_movsb_stosb());
    has_erms && hypervisor() != "qemu"
}

/// Who runs this machine, by the signature at CPUID 4000_0000h.
pub(crate) fn hypervisor() -> &'static str {
    use raw_cpuid::Hypervisor;
    match Cpuid::new().get_hypervisor_info().map(|info| info.identify()) {
        Some(Hypervisor::Xen) => "xen",
        Some(Hypervisor::KVM) => "kvm",
        Some(Hypervisor::QEMU) => "qemu",
        Some(Hypervisor::HyperV) => "hyper-v",
        Some(Hypervisor::VMware) => "vmware",
        Some(Hypervisor::Bhyve) => "bhyve",
        Some(Hypervisor::ACRN) => "acrn",
        Some(Hypervisor::QNX) => "qnx",
        Some(Hypervisor::Unknown(..)) => "unknown hypervisor",
        None => "bare machine",
    }
}
