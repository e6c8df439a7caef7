//! What firmware says of the machine in ACPI tables: CPUs, interrupt controllers, PCI configuration
//! windows, the PM timer, power-off. Read once at boot; no AML runs.
//!
//! `init` parses physical memory, [`get`] hands the result to everyone. A machine without tables gets
//! [`Info::default`]: one CPU and the addresses every PC has.

mod aml;
mod fadt;
mod madt;
mod tables;
#[cfg(test)]
mod tests;

pub use fadt::{PmTimer, Power, Register};
pub use madt::{IoApic, Override};
#[cfg(feature = "image")]
pub(crate) use tables::Physical;
pub use tables::{Memory, Problem};

use crate::fw_cfg;
use crate::mmio_devices::MmioDevice;
use alloc::vec::Vec;
use spin::Once;

/// Physical address of the first IOAPIC where no table says otherwise.
const DEFAULT_IOAPIC: u64 = 0xFEC0_0000;
/// Physical address of the local APICs where no table says otherwise (Intel SDM vol. 3, 11.4.1).
const DEFAULT_LOCAL_APIC: u64 = 0xFEE0_0000;

/// `[I]` Set once by `init` on the boot CPU.
static INFO: Once<Info> = Once::new();

/// How an interrupt line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// One pulse, one interrupt.
    Edge,
    /// Asserted until the device is served.
    Level,
}

/// Which voltage means asserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// Active high.
    High,
    /// Active low.
    Low,
}

/// A memory window of PCI configuration space: 4 KiB a function, 1 MiB a bus
/// (PCI Firmware Specification 3.2, 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ecam {
    /// Physical address of bus 0's first byte, even if `first_bus` is not 0.
    pub base: u64,
    /// PCI segment group.
    pub segment: u16,
    /// First bus decoded.
    pub first_bus: u8,
    /// Last bus decoded.
    pub last_bus: u8,
}

/// Everything the image takes from ACPI.
#[derive(Clone, PartialEq, Debug)]
pub struct Info {
    /// Whether tables were found at all.
    pub present: bool,
    /// Local APIC ids of the usable CPUs in firmware order. Empty without a MADT: then only the boot CPU is known.
    pub cpus: Vec<u32>,
    /// Physical address of the local APICs.
    pub local_apic: u64,
    /// Whether a pair of 8259 controllers exists and must be masked.
    pub has_8259: bool,
    /// The IOAPICs.
    pub ioapics: Vec<IoApic>,
    /// ISA interrupts that are wired otherwise than line *n* to GSI *n*, edge, active high.
    pub overrides: Vec<Override>,
    /// PCI configuration windows.
    pub ecam: Vec<Ecam>,
    /// Memory below 4 GiB that the PCI host bridge passes on or keeps for itself (`ecam`): first and last address
    /// of each window.
    pub pci_windows: Vec<(u32, u32)>,
    /// The ACPI power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// How to switch the machine off and reset it.
    pub power: Power,
    /// virtio-mmio devices (`_HID` "LNRO0005").
    pub virtio_mmio: Vec<MmioDevice>,
    /// First port of QEMU's firmware configuration device (`_HID` "QEMU0002").
    pub fw_cfg: Option<u16>,
    /// Tables that were passed over, and why.
    pub problems: Vec<Problem>,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            present: false,
            cpus: Vec::new(),
            local_apic: DEFAULT_LOCAL_APIC,
            has_8259: true,
            ioapics: alloc::vec![IoApic { id: 0, base: DEFAULT_IOAPIC, gsi_base: 0 }],
            overrides: Vec::new(),
            ecam: Vec::new(),
            pci_windows: Vec::new(),
            pm_timer: None,
            power: Power::default(),
            virtio_mmio: Vec::new(),
            fw_cfg: None,
            problems: Vec::new(),
        }
    }
}

/// Parses the tables that the RSDP at `rsdp` roots, or that a scan of the BIOS areas finds when the boot
/// protocol passed none. Boot CPU only, once.
#[cfg(feature = "image")]
pub fn init(rsdp: Option<u64>) -> &'static Info {
    let info = INFO.call_once(|| parse(&tables::Physical, rsdp.filter(|&address| address != 0)));
    info.problems.iter().for_each(|problem| crate::warn!("acpi: {problem}"));
    if info.present {
        crate::info!("acpi: {} CPUs, {} IOAPICs", info.cpus.len(), info.ioapics.len());
    } else {
        crate::warn!("acpi: no tables: one CPU, an IOAPIC at {DEFAULT_IOAPIC:#x}, no power-off");
    }
    info
}

/// For a machine whose boot protocol says that there are `cpus` and no tables: nothing is searched. Boot CPU only, once,
/// instead of `init`.
#[cfg(feature = "image")]
pub(crate) fn without_tables(cpus: u32) -> &'static Info {
    INFO.call_once(|| Info { cpus: (0..cpus).collect(), ..Info::default() })
}

/// What `init` found; the defaults before it ran.
pub fn get() -> &'static Info {
    INFO.call_once(Info::default)
}

/// Parses the tables in `memory`. Never fails: what is absent or malformed keeps its default and is listed in
/// [`Info::problems`].
pub fn parse<'a, M: Memory<'a>>(memory: &M, rsdp: Option<u64>) -> Info {
    let mut info = Info::default();
    let Some(rsdp) = rsdp.or_else(|| tables::scan(memory)) else {
        return info;
    };
    let root = match tables::root(memory, rsdp) {
        Ok(root) => root,
        Err(problem) => {
            info.problems.push(problem);
            return info;
        }
    };
    info.present = true;
    let mut definition_blocks = Vec::new();
    for address in root.entries() {
        let table = match tables::table(memory, address) {
            Ok(table) => table,
            Err(problem) => {
                info.problems.push(problem);
                continue;
            }
        };
        match &table.signature {
            b"APIC" => madt::parse(table.bytes, &mut info),
            b"FACP" => {
                if let Some(dsdt) = fadt::parse(table.bytes, &mut info) {
                    match tables::table(memory, dsdt) {
                        Ok(dsdt) => definition_blocks.push(dsdt.body()),
                        Err(problem) => info.problems.push(problem),
                    }
                }
            }
            b"MCFG" => mcfg(table.body(), &mut info.ecam),
            b"SSDT" => definition_blocks.push(table.body()),
            _ => {}
        }
    }
    for body in definition_blocks {
        if info.power.s5.is_none() {
            info.power.s5 = aml::s5(body);
        }
        info.fw_cfg = info.fw_cfg.or_else(|| aml::ports(body, b"QEMU0002", fw_cfg::PORTS));
        info.virtio_mmio.extend(aml::fixed_devices(body, b"LNRO0005"));
        // The legacy VGA window is no place for a BAR.
        info.pci_windows.extend(aml::bridge_windows(body).into_iter().filter(|(min, _)| *min >= 1 << 20));
        // QEMU's microvm has no MCFG and names its window only in the host bridge's `_CBA`.
        if info.ecam.is_empty()
            && let Some(base) = aml::integer(body, b"_CBA").filter(|base| base % (1 << 20) == 0 && *base != 0)
        {
            info.ecam.push(Ecam { base, segment: 0, first_bus: 0, last_bus: 255 });
        }
    }
    info
}

/// PCI Firmware Specification 3.2, 4.1.2: eight reserved bytes, then 16 bytes a window.
fn mcfg(body: &[u8], windows: &mut Vec<Ecam>) {
    let Some(entries) = body.get(8..) else { return };
    for entry in entries.as_chunks::<16>().0 {
        let [b0, b1, b2, b3, b4, b5, b6, b7, s0, s1, first_bus, last_bus, ..] = *entry;
        let base = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
        let segment = u16::from_le_bytes([s0, s1]);
        if base != 0 && first_bus <= last_bus {
            windows.push(Ecam { base, segment, first_bus, last_bus });
        }
    }
}
