//! Where a function's virtio structures lie: its vendor-specific capabilities (virtio 1.2 §4.1.4), checked.

use super::COMMON_LEN;
use crate::error::Error;
use weir_machine::mmio::Window;
use weir_machine::pci::{Bar, Function};

/// PCI's capability id for vendor-specific ones.
const VENDOR_SPECIFIC: u8 = 0x09;
/// `struct virtio_pci_cap`, bytes from the capability's start.
const CAP_LEN: u16 = 2;
const CFG_TYPE: u16 = 3;
const BAR: u16 = 4;
const OFFSET: u16 = 8;
const LENGTH: u16 = 12;
const NOTIFY_OFF_MULTIPLIER: u16 = 16;
/// Its size, and with the notification multiplier.
const SIZE: u8 = 16;
const NOTIFY_SIZE: u8 = 20;

/// `cfg_type`.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// Base address registers a function can have.
const BARS: usize = 6;

/// A range of registers inside a memory BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Physical address.
    pub(super) addr: u64,
    /// Bytes.
    pub(super) len: u64,
}

impl Place {
    /// `len` bytes from `offset` on; `None` unless they lie inside, on a multiple of `len`.
    pub(super) fn part(&self, offset: u64, len: u64) -> Option<Place> {
        let addr = self.addr.checked_add(offset)?;
        (offset.checked_add(len)? <= self.len && addr % len == 0).then_some(Place { addr, len })
    }

    /// Maps the first `len` bytes.
    pub(super) fn map(&self, what: &'static str, len: u64) -> Result<Window, Error> {
        Window::map(self.addr, len as usize).ok_or(Error::Unmappable(what, self.addr, len))
    }
}

/// A function's structures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Structures {
    pub(super) common: Place,
    pub(super) notify: Place,
    pub(super) notify_multiplier: u32,
    pub(super) isr: Place,
    pub(super) config: Option<Place>,
}

/// One capability, as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Capability {
    kind: u8,
    bar: u8,
    offset: u32,
    length: u32,
    multiplier: u32,
}

impl Structures {
    /// Walks the capability list. The first usable one of a kind counts, as the device prefers it (§4.1.4.1).
    pub(super) fn find(function: &Function) -> Result<Self, Error> {
        let listed = function.capabilities().filter(|(id, _)| *id == VENDOR_SPECIFIC);
        let capabilities = listed.filter_map(|(_, at)| read(function, at));
        let mut bars: [Option<Option<Bar>>; BARS] = [None; BARS];
        gather(capabilities, |index| {
            // Sizing a BAR takes the device off the bus: once each.
            let known = bars.get_mut(usize::from(index))?;
            *known.get_or_insert_with(|| function.bar(index.into()))
        })
    }
}

fn read(function: &Function, at: u16) -> Option<Capability> {
    let len = function.read_u8(at + CAP_LEN);
    let kind = function.read_u8(at + CFG_TYPE);
    let least = if kind == NOTIFY { NOTIFY_SIZE } else { SIZE };
    if len < least || at + u16::from(least) > 256 {
        return None;
    }
    Some(Capability {
        kind,
        bar: function.read_u8(at + BAR),
        offset: function.read_u32(at + OFFSET),
        length: function.read_u32(at + LENGTH),
        multiplier: if kind == NOTIFY { function.read_u32(at + NOTIFY_OFF_MULTIPLIER) } else { 0 },
    })
}

fn gather(
    capabilities: impl Iterator<Item = Capability>,
    mut bar: impl FnMut(u8) -> Option<Bar>,
) -> Result<Structures, Error> {
    let (mut common, mut notify, mut isr, mut config) = (None, None, None, None);
    for capability in capabilities {
        let found = match capability.kind {
            COMMON => &mut common,
            NOTIFY => &mut notify,
            ISR => &mut isr,
            DEVICE => &mut config,
            _ => continue,
        };
        if found.is_none() {
            *found = place(&capability, &mut bar).map(|place| (place, capability.multiplier));
        }
    }
    let missing = |which| {
        if common.is_none() && notify.is_none() && isr.is_none() {
            Error::LegacyPci
        } else {
            Error::Capability(which)
        }
    };
    let (common, _) = common.ok_or_else(|| missing("common configuration"))?;
    let (notify, notify_multiplier) = notify.ok_or_else(|| missing("notification"))?;
    let (isr, _) = isr.ok_or_else(|| missing("interrupt status"))?;
    Ok(Structures { common, notify, notify_multiplier, isr, config: config.map(|(place, _)| place) })
}

/// Where a capability's structure lies; `None` unless it is whole, aligned and inside a memory BAR.
fn place(capability: &Capability, bar: &mut impl FnMut(u8) -> Option<Bar>) -> Option<Place> {
    // Sizes and alignments by §4.1.4.3.1, §4.1.4.4.1, §4.1.4.5, §4.1.4.6.1.
    let (least, alignment) = match capability.kind {
        COMMON => (COMMON_LEN, 4),
        NOTIFY => (2, 2),
        ISR => (1, 1),
        _ => (4, 4),
    };
    // Ports would need another kind of access: a device that has them has memory too.
    let Bar::Memory { addr, len, .. } = bar(capability.bar)? else { return None };
    let (offset, length) = (u64::from(capability.offset), u64::from(capability.length));
    let first = addr.checked_add(offset)?;
    let inside = offset + length <= len && first.checked_add(length).is_some();
    (inside && length >= least && first % alignment == 0).then_some(Place { addr: first, len: length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const BASE: u64 = 0xfe00_0000;

    fn bar(index: u8) -> Option<Bar> {
        match index {
            1 => Some(Bar::Io { port: 0xc000, len: 64 }),
            4 => Some(Bar::Memory { addr: BASE, len: 0x4000, prefetchable: true }),
            _ => None,
        }
    }

    fn capability(kind: u8, offset: u32, length: u32) -> Capability {
        Capability { kind, bar: 4, offset, length, multiplier: if kind == NOTIFY { 4 } else { 0 } }
    }

    /// What QEMU lists.
    fn qemu() -> Vec<Capability> {
        let places = [(COMMON, 0), (ISR, 0x1000), (DEVICE, 0x2000), (NOTIFY, 0x3000)];
        let mut list: Vec<_> = places.map(|(kind, offset)| capability(kind, offset, 0x1000)).into();
        list.insert(0, Capability { kind: 5, bar: 0, offset: 0, length: 0, multiplier: 0 });
        list
    }

    fn found(list: Vec<Capability>) -> Result<Structures, Error> {
        gather(list.into_iter(), bar)
    }

    #[test]
    fn finds_what_qemu_lists() {
        let structures = found(qemu()).unwrap();
        assert_eq!(structures.common, Place { addr: BASE, len: 0x1000 });
        assert_eq!(structures.isr.addr, BASE + 0x1000);
        assert_eq!(structures.config.unwrap().addr, BASE + 0x2000);
        assert_eq!((structures.notify.addr, structures.notify_multiplier), (BASE + 0x3000, 4));
    }

    #[test]
    fn the_first_usable_one_counts() {
        let mut list = qemu();
        list.insert(0, Capability { bar: 1, ..capability(COMMON, 0, 0x1000) });
        list.insert(1, Capability { bar: 7, ..capability(COMMON, 0, 0x1000) });
        list.insert(2, capability(COMMON, 2, 0x1000));
        list.insert(3, capability(COMMON, 0x3fd0, 0x38));
        list.insert(4, capability(COMMON, 0, 55));
        list.push(capability(COMMON, 0x200, 0x100));
        assert_eq!(found(list).unwrap().common.addr, BASE);
    }

    #[test]
    fn a_structure_beyond_its_bar_is_as_good_as_missing() {
        for (offset, length) in
            [(0x4000, 1), (0xffff_ffff, 1), (0xffff_ffff, 0xffff_ffff), (1, 0x4000), (0, 0)]
        {
            let mut list = qemu();
            list.retain(|capability| capability.kind != ISR);
            list.push(capability(ISR, offset, length));
            assert_eq!(found(list), Err(Error::Capability("interrupt status")), "{offset:#x}+{length:#x}");
        }
    }

    #[test]
    fn a_device_without_any_is_legacy() {
        assert_eq!(found(Vec::new()), Err(Error::LegacyPci));
        assert_eq!(found([capability(DEVICE, 0, 64)].into()), Err(Error::LegacyPci));
        assert_eq!(found([capability(COMMON, 0, 64)].into()), Err(Error::Capability("notification")));
    }

    #[test]
    fn notification_registers_stay_inside_their_structure() {
        let place = Place { addr: BASE, len: 0x10 };
        assert_eq!(place.part(0xe, 2), Some(Place { addr: BASE + 0xe, len: 2 }));
        for offset in [0xf, 0x10, 1, u64::from(u16::MAX) * u64::from(u32::MAX), u64::MAX] {
            assert_eq!(place.part(offset, 2), None);
        }
    }
}
