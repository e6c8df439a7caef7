//! The MADT: CPUs, IOAPICs and how the ISA interrupts are wired (ACPI 6.5, 5.2.12).

use super::tables::{u16_at, u32_at, u64_at};
use super::{Info, Polarity, Trigger};

/// One IOAPIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its APIC id.
    pub id: u8,
    /// Physical address of its registers.
    pub base: u64,
    /// Global system interrupt of its pin 0.
    pub gsi_base: u32,
}

/// How one ISA interrupt is wired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// ISA interrupt, 0–15.
    pub irq: u8,
    /// The global system interrupt it arrives on.
    pub gsi: u32,
    /// How the line signals.
    pub trigger: Trigger,
    /// Its active level.
    pub polarity: Polarity,
}

/// Structure types, ACPI 6.5 table 5.21.
const LOCAL_APIC: u8 = 0;
const IO_APIC: u8 = 1;
const SOURCE_OVERRIDE: u8 = 2;
const LOCAL_APIC_ADDRESS: u8 = 5;
const LOCAL_X2APIC: u8 = 9;

const FLAG_PCAT_COMPAT: u32 = 1;
const CPU_ENABLED: u32 = 1;

/// Fills in what `table` (header included) says. A structure with an impossible length ends the walk.
pub(super) fn parse(table: &[u8], info: &mut Info) {
    let (Some(address), Some(flags), Some(mut rest)) =
        (u32_at(table, 36), u32_at(table, 40), table.get(44..))
    else {
        return;
    };
    if address != 0 {
        info.local_apic = u64::from(address);
    }
    info.has_8259 = flags & FLAG_PCAT_COMPAT != 0;
    info.ioapics.clear();
    while let [kind, len, ..] = *rest {
        let len = usize::from(len);
        if len < 2 {
            break;
        }
        let Some((entry, next)) = rest.split_at_checked(len) else { break };
        structure(kind, entry, info);
        rest = next;
    }
}

fn structure(kind: u8, entry: &[u8], info: &mut Info) -> Option<()> {
    match kind {
        LOCAL_APIC => {
            let id = *entry.get(3)?;
            // 0xFF is the broadcast id: firmware's way to say "no CPU here".
            if id != 0xFF && u32_at(entry, 4)? & CPU_ENABLED != 0 {
                cpu(u32::from(id), info);
            }
        }
        LOCAL_X2APIC => {
            let id = u32_at(entry, 4)?;
            if id != u32::MAX && u32_at(entry, 8)? & CPU_ENABLED != 0 {
                cpu(id, info);
            }
        }
        IO_APIC => {
            let controller = IoApic {
                id: *entry.get(2)?,
                base: u64::from(u32_at(entry, 4)?),
                gsi_base: u32_at(entry, 8)?,
            };
            info.ioapics.push(controller);
        }
        SOURCE_OVERRIDE => {
            let (bus, irq) = (*entry.get(2)?, *entry.get(3)?);
            let (gsi, flags) = (u32_at(entry, 4)?, u16_at(entry, 8)?);
            if bus == 0 && irq < 16 {
                let polarity = if flags & 3 == 3 { Polarity::Low } else { Polarity::High };
                let trigger = if flags >> 2 & 3 == 3 { Trigger::Level } else { Trigger::Edge };
                info.overrides.push(Override { irq, gsi, trigger, polarity });
            }
        }
        LOCAL_APIC_ADDRESS => info.local_apic = u64_at(entry, 4)?,
        _ => {}
    }
    Some(())
}

/// A CPU may be listed both as local APIC and as local x2APIC.
fn cpu(id: u32, info: &mut Info) {
    if !info.cpus.contains(&id) {
        info.cpus.push(id);
    }
}
