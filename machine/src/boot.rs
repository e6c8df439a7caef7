//! From the loader's jump to the application's `main`: stacks, exceptions, memory, page tables, clocks, in
//! that order, on the boot CPU, each step once.

use crate::frames;
use crate::hermit::{self, boot_info};
use crate::paging::{self, Segments};
use crate::stacks::{self, Stack};
use crate::start_info::{Areas, Memory, StartInfo};
use crate::{
    acpi, apic, clock, console, cpu, interrupt, ioapic, linux_boot, log, memory_functions, mmio_devices,
};
use crate::{multiboot2, pci, power, pvh, report, smp, timer, xen};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;
use spin::Once;
use weir_sync::CpuId;
use weir_sync::cpu::set_count;

/// What the application learns about the machine it runs on.
#[derive(Debug)]
pub struct Boot {
    /// The loader's command line; what is not UTF-8 shows as U+FFFD.
    pub command_line: &'static str,
    /// Whether the loader's was longer than [`MAX_COMMAND_LINE`](crate::start_info::MAX_COMMAND_LINE) - 1
    /// bytes, and the rest is lost.
    pub command_line_is_cut: bool,
    /// The modules (`-initrd`, `ramdisk=`), read-only, in the loader's order; `None` for one that cannot be
    /// read.
    pub modules: &'static [Option<&'static [u8]>],
    /// Bytes of RAM.
    pub memory: u64,
    /// CPUs that can be started, this one included.
    pub cpus: usize,
    /// The hypervisor, by its CPUID signature: `qemu` (without KVM), `kvm`, `xen`, …; `uhyve` if that is what
    /// runs on KVM; `bare machine` if none.
    pub platform: &'static str,
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
}

/// Names the application's `main`, a `fn(&'static Boot) -> !`. Runs on the boot CPU in task-like
/// surroundings: interrupts off, heap ready, the other CPUs not started.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(export_name = "weir_main")]
        fn weir_main(boot: &'static $crate::boot::Boot) -> ! {
            let main: fn(&'static $crate::boot::Boot) -> ! = $main;
            main(boot)
        }
    };
}

unsafe extern "Rust" {
    /// Made by [`entry!`] in the application.
    safe fn weir_main(boot: &'static Boot) -> !;
}

/// The boot CPU's stacks.
#[repr(C, align(4096))]
struct Stacks(core::cell::UnsafeCell<[u8; stacks::BLOCK as usize]>);

// SAFETY: only ever used as stack memory, by the boot CPU; others load words of it without a reference (`Block::stack_free`).
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(core::cell::UnsafeCell::new([0; stacks::BLOCK as usize]));

core::arch::global_asm!(
    include_str!("boot.s"),
    include_str!("multiboot2.s"),
    stacks = sym STACKS,
    stacks_len = const stacks::BLOCK,
    entry_tsc = sym clock::ENTRY_TSC,
    boot = sym enter,
    pvh = const PVH,
    hermit = const HERMIT,
    linux = const LINUX,
    unknown = const UNKNOWN,
    called = sym smp::CALLED,
    multiboot2 = const MULTIBOOT2,
    root = sym paging::ROOT,
    mailbox = sym smp::MAILBOX,
    run_top = const cpu::RUN_TOP,
    secondary = sym smp::enter,
);
const _: () = assert!(Stack::ALL[6] as usize == Stack::Run as usize, "the run stack ends the block");

unsafe extern "C" {
    // Borders that the linker script draws.
    static weir_image_start: u8;
    static weir_text_start: u8;
    static weir_text_end: u8;
    static weir_rodata_start: u8;
    static weir_rodata_end: u8;
    static weir_data_start: u8;
    static weir_image_end: u8;
}

/// The image's code.
pub(crate) fn text() -> Range<u64> {
    &raw const weir_text_start as u64..&raw const weir_text_end as u64
}

fn segments() -> Segments {
    Segments {
        text: text(),
        rodata: &raw const weir_rodata_start as u64..&raw const weir_rodata_end as u64,
        data: &raw const weir_data_start as u64..&raw const weir_image_end as u64,
    }
}

static BOOT: Once<Boot> = Once::new();

/// Boot protocols, as the entry code numbers them.
const PVH: u32 = 0;
const HERMIT: u32 = 1;
const LINUX: u32 = 2;
/// Something entered at the ELF entry point that follows neither Hermit's loader ABI nor Linux's protocol.
const UNKNOWN: u32 = u32::MAX;
const MULTIBOOT2: u32 = 3;

/// The first Rust function: on the boot CPU's run stack, the first 4 GiB mapped, no descriptor tables of
/// ours.
///
/// `info` is the physical address of what the loader left, `protocol` one of those above, as the entry code
/// saw it.
extern "C" fn enter(info: u64, protocol: u32) -> ! {
    let block = cpu::block(CpuId::BOOT);
    block.prepare(CpuId::BOOT, &raw const STACKS as u64);
    cpu::load(block);
    interrupt::load();
    let read = |at: u64, len: u64| -> Option<&[u8]> {
        let end = at.checked_add(len)?;
        if at == 0 || end > 1 << 32 {
            return None;
        }
        // SAFETY: the entry code mapped the first 4 GiB, and nothing writes what a loader left before the
        // allocators start, which keep out of it.
        Some(unsafe { core::slice::from_raw_parts(at as *const u8, len as usize) })
    };
    if protocol == HERMIT && boot_info::is_uhyve(info, &read) {
        hermit::start();
    } else {
        xen::start();
        console::init();
    }
    cpu::features();
    if cpu::has_quick_strings() {
        memory_functions::use_string_instructions();
    }

    let (name, start) = match protocol {
        PVH => ("PVH start info", pvh::parse(info, &read)),
        HERMIT => ("Hermit boot info", boot_info::parse(info, &read)),
        LINUX => ("Linux boot_params", linux_boot::parse(info, &read)),
        UNKNOWN => panic!(
            "whoever entered here speaks neither Hermit's loader ABI (RSI = CPU number) nor Linux's 64-bit boot \
             protocol (\"HdrS\" at RSI + 0x202): RSI = {info:#x}"
        ),
        MULTIBOOT2 => ("Multiboot2 information", multiboot2::parse(info, &read)),
        other => panic!("the entry code names boot protocol {other}, which there is not"),
    };
    let start = start.unwrap_or_else(|why| panic!("{name} at {info:#x}: {why}"));
    let command_line = memory(&start, &read);
    let level_known = log::init(command_line);
    let panic_known = report::init(command_line);
    xen::init();
    if let Some(khz) = start.tsc_khz {
        clock::hint(u64::from(khz) * 1000, "the boot protocol");
    }
    let acpi = match start.cpus {
        Some(cpus) => acpi::without_tables(cpus),
        None => acpi::init(start.rsdp),
    };
    power::init(acpi);
    apic::init(acpi.has_8259);
    xen::init_cpu(CpuId::BOOT);
    clock::init(acpi);
    timer::init_cpu();
    ioapic::init(acpi);
    pci::init(acpi);
    mmio_devices::init(command_line);
    if !level_known {
        crate::warn!("boot: log= is error, warn, info or debug");
    }
    if !panic_known {
        crate::warn!("boot: panic= is halt, reboot or a number of seconds");
    }
    smp::find_trampoline(start.ram.as_slice(), start.loader.as_slice());
    set_count(smp::named());
    block.running.store(true, Ordering::Release);
    let boot = BOOT.call_once(|| Boot {
        command_line,
        command_line_is_cut: start.command_line_is_cut(),
        modules: start
            .modules
            .as_slice()
            .iter()
            .map(|module| module.clone().map(loaded))
            .collect::<Vec<_>>()
            .leak(),
        memory: start.ram.as_slice().iter().map(|area| area.end - area.start).sum(),
        cpus: smp::named(),
        platform: if hermit::present() { "uhyve" } else { cpu::hypervisor() },
        rsdp: start.rsdp,
    });
    weir_main(boot)
}

/// Frame allocator, heap, page tables, guard pages. From here on memory is as the contracts of `paging` and
/// `frames` say. Returns a copy of the command line: a loader may leave it in page 0, which goes away.
fn memory(start: &StartInfo, read: Memory) -> &'static str {
    let image = &raw const weir_image_start as u64..&raw const weir_image_end as u64;
    let mut reserved = Areas::new();
    reserved.push(image);
    for area in start.loader.as_slice() {
        assert!(reserved.push(area.clone()), "the loader left too many pieces");
    }
    frames::start(start.ram.as_slice(), reserved.as_slice());
    let command_line =
        start.command_line.clone().and_then(|range| read(range.start, range.end - range.start));
    let command_line = String::from_utf8_lossy(command_line.unwrap_or(&[])).into_owned().leak();

    paging::start(cpu::has_no_execute(), start.ram.as_slice(), start.loader.as_slice(), &segments());
    paging::load();
    for stack in Stack::ALL {
        paging::guard(stacks::guard(&raw const STACKS as u64, stack).start);
    }
    command_line
}

/// Bytes the loader left, which the page tables map read-only and the allocator never hands out.
fn loaded(range: Range<u64>) -> &'static [u8] {
    if range.is_empty() {
        return &[];
    }
    // SAFETY: `StartInfo::add_module` listed the range among the loader's areas; `memory` kept it out of the
    // allocator and mapped it, whole pages, read-only.
    unsafe { core::slice::from_raw_parts(range.start as *const u8, (range.end - range.start) as usize) }
}
