//! The FADT: PM timer, power-off and reset registers (ACPI 6.5, 5.2.9).

use super::Info;
use super::tables::{u32_at, u64_at};

/// Where a register lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Physical memory address.
    Memory(u64),
    /// I/O port.
    Port(u16),
}

/// The free-running 3.579545 MHz counter (ACPI 6.5, 4.8.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// Its 32-bit register.
    pub register: Register,
    /// Bits that count: `0xFF_FFFF` or `0xFFFF_FFFF`.
    pub mask: u32,
}

/// How to leave: sleep state S5 and reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// `SLP_TYPa` and `SLP_TYPb` of S5, from the `\_S5_` package.
    pub s5: Option<(u8, u8)>,
    /// PM1a control, 16 bits.
    pub pm1a_control: Option<Register>,
    /// PM1b control, 16 bits.
    pub pm1b_control: Option<Register>,
    /// SMI command port and the value that turns ACPI mode on; `None` where it is on for good.
    pub enable: Option<(u16, u8)>,
    /// Hardware-reduced sleep control, 8 bits.
    pub sleep_control: Option<Register>,
    /// Reset register, 8 bits, and the value that resets.
    pub reset: Option<(Register, u8)>,
}

/// Fixed feature flags, ACPI 6.5 table 5.10.
const TMR_VAL_EXT: u32 = 1 << 8;
const RESET_REG_SUP: u32 = 1 << 10;
const HW_REDUCED_ACPI: u32 = 1 << 20;

/// Fills in what `table` (header included) says; returns the DSDT's address.
pub(super) fn parse(table: &[u8], info: &mut Info) -> Option<u64> {
    let flags = u32_at(table, 112).unwrap_or(0);
    let hardware_reduced = flags & HW_REDUCED_ACPI != 0;
    let power = &mut info.power;
    if hardware_reduced {
        power.sleep_control = generic(table, 244);
    } else {
        power.pm1a_control = generic(table, 172).or_else(|| port(table, 64));
        power.pm1b_control = generic(table, 184).or_else(|| port(table, 68));
        power.enable = match (u32_at(table, 48), table.get(52)) {
            (Some(command), Some(&value)) if command != 0 && value != 0 => {
                u16::try_from(command).ok().map(|command| (command, value))
            }
            _ => None,
        };
        let mask = if flags & TMR_VAL_EXT != 0 { u32::MAX } else { 0xFF_FFFF };
        let present = table.get(91) == Some(&4);
        let register = generic(table, 208).or_else(|| port(table, 76));
        info.pm_timer = register.filter(|_| present).map(|register| PmTimer { register, mask });
    }
    if flags & RESET_REG_SUP != 0
        && let (Some(register), Some(&value)) = (generic(table, 116), table.get(128))
    {
        power.reset = Some((register, value));
    }
    let long = u64_at(table, 140).filter(|&address| address != 0);
    long.or_else(|| u32_at(table, 40).map(u64::from)).filter(|&address| address != 0)
}

/// A Generic Address Structure (ACPI 6.5, 5.2.3.2); `None` if it is absent, zero or in a space no register
/// here can be in.
fn generic(table: &[u8], offset: usize) -> Option<Register> {
    let address = u64_at(table, offset + 4).filter(|&address| address != 0)?;
    match table.get(offset)? {
        0 => Some(Register::Memory(address)),
        1 => u16::try_from(address).ok().map(Register::Port),
        _ => None,
    }
}

/// A 32-bit port field of the first FADT.
fn port(table: &[u8], offset: usize) -> Option<Register> {
    let port = u32_at(table, offset).filter(|&port| port != 0)?;
    u16::try_from(port).ok().map(Register::Port)
}
