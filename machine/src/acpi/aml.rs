//! Facts taken from AML without running it: `\_S5_`, constants, and resources in constant buffers.
//! Encodings: ACPI 6.5, 20.2 (AML) and 6.4 (resource descriptors).

use super::tables::{u16_at, u32_at, u64_at};
use super::{Polarity, Trigger};
use crate::mmio_devices::MmioDevice;
use alloc::vec::Vec;

const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const NAME: u8 = 0x08;
const BYTE: u8 = 0x0A;
const WORD: u8 = 0x0B;
const DWORD: u8 = 0x0C;
const STRING: u8 = 0x0D;
const QWORD: u8 = 0x0E;
const PACKAGE: u8 = 0x12;
const METHOD: u8 = 0x14;
const RETURN: u8 = 0xA4;
const ROOT: u8 = b'\\';

/// Resource descriptor tags, ACPI 6.5, 6.4.2 and 6.4.3.
const FIXED_MEMORY: u8 = 0x86;
const DWORD_SPACE: u8 = 0x87;
const IO_PORTS: u8 = 0x47;
const EXTENDED_INTERRUPT: u8 = 0x89;
const END_TAG: u8 = 0x79;

/// How far behind its `_HID` a device's resources may begin.
const DEVICE_SPAN: usize = 256;

/// `SLP_TYPa` and `SLP_TYPb` from `Name (\_S5, Package {a, b, …})` (ACPI 6.5, 7.4.2).
pub(super) fn s5(aml: &[u8]) -> Option<(u8, u8)> {
    named(aml, b"_S5_").find_map(|object| {
        let [PACKAGE, rest @ ..] = object else { return None };
        // PkgLength: the top two bits of its first byte count the bytes that follow.
        let skip = 1 + usize::from(rest.first()? >> 6);
        let [count, elements @ ..] = rest.get(skip..)? else { return None };
        if *count == 0 {
            return None;
        }
        let (a, used) = constant(elements)?;
        let b = if *count > 1 { constant(elements.get(used..)?)?.0 } else { a };
        // SLP_TYP is three bits wide.
        Some((u8::try_from(a).ok().filter(|a| *a < 8)?, u8::try_from(b).ok().filter(|b| *b < 8)?))
    })
}

/// The value of `Name (name, Integer)` or of `Method (name) { Return (Integer) }`.
pub(super) fn integer(aml: &[u8], name: &[u8; 4]) -> Option<u64> {
    // The body of such a method is shorter than 64 bytes, so its PkgLength is the one byte before the name.
    let method = || {
        aml.windows(4).enumerate().filter(|(_, window)| window == name).find_map(|(at, _)| {
            let [_flags, RETURN, value @ ..] = aml.get(at + 4..)? else { return None };
            let is_method = aml.get(..at)?.ends_with(&[METHOD, *aml.get(at.checked_sub(1)?)?]);
            constant(value).filter(|_| is_method)
        })
    };
    named(aml, name).find_map(constant).or_else(method).map(|(value, _)| value)
}

/// 32-bit memory windows that host bridges pass on: first and last address. Null and wrapped ones are left
/// out.
pub(super) fn bridge_windows(aml: &[u8]) -> Vec<(u32, u32)> {
    // DWordMemory produced by the bridge: tag, length 23, resource type 0, general flags with bit 0 clear.
    aml.windows(26)
        .filter_map(|window| {
            let [DWORD_SPACE, 23, 0, 0, flags, ..] = window else { return None };
            let (min, max) = (u32_at(window, 10)?, u32_at(window, 14)?);
            let (offset, len) = (u32_at(window, 18)?, u32_at(window, 22)?);
            let whole = max.checked_sub(min)?.checked_add(1) == Some(len);
            (flags & 1 == 0 && offset == 0 && whole).then_some((min, max))
        })
        .collect()
}

/// Devices with `_HID` `hid` whose `_CRS` holds a 32-bit fixed memory window followed by an interrupt.
pub(super) fn fixed_devices(aml: &[u8], hid: &[u8; 8]) -> Vec<MmioDevice> {
    named(aml, b"_HID")
        .filter_map(|object| {
            let [STRING, rest @ ..] = object else { return None };
            let rest = rest.strip_prefix(hid)?.strip_prefix(&[0])?;
            resources(rest.get(..DEVICE_SPAN).unwrap_or(rest))
        })
        .collect()
}

/// The ports of the first device with `_HID` `hid` whose `_CRS` is one fixed range of at least `least` ports:
/// the first.
pub(super) fn ports(aml: &[u8], hid: &[u8; 8], least: u8) -> Option<u16> {
    named(aml, b"_HID").find_map(|object| {
        let [STRING, rest @ ..] = object else { return None };
        let rest = rest.strip_prefix(hid)?.strip_prefix(&[0])?;
        // Tag, decoding of 16 bits, lowest and highest base, alignment, length; then the end.
        rest.get(..DEVICE_SPAN).unwrap_or(rest).windows(9).find_map(|window| match *window {
            [IO_PORTS, 1, low, high, low_max, high_max, _, len, END_TAG]
                if (low, high) == (low_max, high_max) && len >= least =>
            {
                let first = u16::from_le_bytes([low, high]);
                first.checked_add(u16::from(least).saturating_sub(1)).map(|_last| first)
            }
            _ => None,
        })
    })
}

fn resources(span: &[u8]) -> Option<MmioDevice> {
    // Memory32Fixed: tag, length 9, flags, base, length.
    let at = span.windows(3).position(|window| window == [FIXED_MEMORY, 9, 0])?;
    let (base, len) = (u32_at(span, at + 4)?, u32_at(span, at + 8)?);
    // Extended interrupt: tag, length ≥ 6, flags, count, first interrupt.
    let [EXTENDED_INTERRUPT, _, _, flags, count, interrupt @ ..] = span.get(at + 12..)? else { return None };
    let gsi = u32_at(interrupt, 0)?;
    let ends = interrupt.get(4) == Some(&END_TAG);
    if *count != 1 || !ends || len == 0 {
        return None;
    }
    let trigger = if flags & 2 != 0 { Trigger::Edge } else { Trigger::Level };
    let polarity = if flags & 4 != 0 { Polarity::Low } else { Polarity::High };
    Some(MmioDevice { base: u64::from(base), len: u64::from(len), gsi, trigger, polarity })
}

/// What follows each `Name (name, …)`.
fn named<'a>(aml: &'a [u8], name: &[u8; 4]) -> impl Iterator<Item = &'a [u8]> {
    aml.windows(4).enumerate().filter_map(move |(at, window)| {
        let before = aml.get(..at)?;
        let is_name = before.ends_with(&[NAME]) || before.ends_with(&[NAME, ROOT]);
        if window == name && is_name { aml.get(at + 4..) } else { None }
    })
}

/// An integer constant and the bytes it takes.
fn constant(aml: &[u8]) -> Option<(u64, usize)> {
    match *aml.first()? {
        ZERO => Some((0, 1)),
        ONE => Some((1, 1)),
        BYTE => Some((u64::from(*aml.get(1)?), 2)),
        WORD => Some((u64::from(u16_at(aml, 1)?), 3)),
        DWORD => Some((u64::from(u32_at(aml, 1)?), 5)),
        QWORD => Some((u64_at(aml, 1)?, 9)),
        _ => None,
    }
}
