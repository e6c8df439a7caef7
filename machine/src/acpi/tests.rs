//! Tables captured from QEMU 7.2 (two CPUs, 256 MiB), whole and mangled.

use super::tables::{build, fix_checksum};
use super::*;
use proptest::prelude::*;

/// A machine's memory: pieces at their addresses.
#[derive(Clone, Default)]
struct Pieces(Vec<(u64, Vec<u8>)>);

impl Pieces {
    fn leak(&self) -> &'static Pieces {
        Box::leak(Box::new(self.clone()))
    }
}

impl Memory<'static> for &'static Pieces {
    fn bytes(&self, address: u64, len: usize) -> Option<&'static [u8]> {
        self.0.iter().find_map(|(base, bytes)| {
            let start = usize::try_from(address.checked_sub(*base)?).ok()?;
            bytes.get(start..start.checked_add(len)?)
        })
    }
}

/// Memory with the RSDP at `rsdp.0` and the tables at `tables.0`.
fn pieces(rsdp: (u64, &[u8]), tables: (u64, &[u8])) -> Pieces {
    Pieces(vec![(rsdp.0, rsdp.1.to_vec()), (tables.0, tables.1.to_vec())])
}

fn q35() -> Pieces {
    let (rsdp, tables) = (include_bytes!("testdata/q35-rsdp.bin"), include_bytes!("testdata/q35-tables.bin"));
    pieces((Q35_RSDP, rsdp), (0xFFE_0000, tables))
}

fn pc() -> Pieces {
    let (rsdp, tables) = (include_bytes!("testdata/pc-rsdp.bin"), include_bytes!("testdata/pc-tables.bin"));
    pieces((0xF_59D0, rsdp), (0xFFE_0000, tables))
}

fn microvm() -> Pieces {
    let (rsdp, tables) =
        (include_bytes!("testdata/microvm-rsdp.bin"), include_bytes!("testdata/microvm-tables.bin"));
    pieces((MICROVM_RSDP, rsdp), (0xE_FCC0, tables))
}

fn microvm_pcie() -> Pieces {
    let rsdp = include_bytes!("testdata/microvm-pcie-rsdp.bin");
    pieces((MICROVM_RSDP, rsdp), (0xE_F280, include_bytes!("testdata/microvm-pcie-tables.bin")))
}

const Q35_RSDP: u64 = 0xF_59E0;
const MICROVM_RSDP: u64 = 0xF_34D0;

fn read(pieces: &Pieces, rsdp: u64) -> Info {
    parse(&pieces.leak(), Some(rsdp))
}

fn isa_override(irq: u8, gsi: u32, trigger: Trigger) -> Override {
    Override { irq, gsi, trigger, polarity: Polarity::High }
}

#[test]
fn reads_q35() {
    let expected = Info {
        present: true,
        cpus: vec![0, 1],
        local_apic: 0xFEE0_0000,
        has_8259: true,
        ioapics: vec![IoApic { id: 0, base: 0xFEC0_0000, gsi_base: 0 }],
        overrides: vec![
            isa_override(0, 2, Trigger::Edge),
            isa_override(5, 5, Trigger::Level),
            isa_override(9, 9, Trigger::Level),
            isa_override(10, 10, Trigger::Level),
            isa_override(11, 11, Trigger::Level),
        ],
        ecam: vec![Ecam { base: 0xB000_0000, segment: 0, first_bus: 0, last_bus: 255 }],
        pci_windows: vec![(0xB000_0000, 0xBFFF_FFFF), (0x1000_0000, 0xAFFF_FFFF), (0xC000_0000, 0xFEBF_FFFF)],
        pm_timer: Some(PmTimer { register: Register::Port(0x608), mask: 0xFF_FFFF }),
        power: Power {
            s5: Some((0, 0)),
            pm1a_control: Some(Register::Port(0x604)),
            pm1b_control: None,
            enable: Some((0xB2, 2)),
            sleep_control: None,
            reset: Some((Register::Port(0xCF9), 15)),
        },
        virtio_mmio: vec![],
        fw_cfg: Some(0x510),
        problems: vec![],
    };
    assert_eq!(read(&q35(), Q35_RSDP), expected);
}

#[test]
fn reads_pc() {
    let info = read(&pc(), 0xF_59D0);
    assert_eq!(info.problems, []);
    assert_eq!(info.cpus, [0, 1]);
    assert_eq!(info.pm_timer, Some(PmTimer { register: Register::Port(0x608), mask: 0xFF_FFFF }));
    assert_eq!((info.power.s5, info.power.pm1a_control), (Some((0, 0)), Some(Register::Port(0x604))));
    assert_eq!(info.power.reset, None);
    assert_eq!(info.ecam, []);
    assert_eq!(info.pci_windows, [(0x1000_0000, 0xFEBF_FFFF)]);
    assert_eq!(info.fw_cfg, Some(0x510));
}

#[test]
fn reads_microvm() {
    let info = read(&microvm(), MICROVM_RSDP);
    assert_eq!(info.problems, []);
    assert_eq!(info.cpus, [0, 1]);
    let ioapics = [(0, 0xFEC0_0000, 0), (1, 0xFEC1_0000, 24)];
    assert_eq!(info.ioapics, ioapics.map(|(id, base, gsi_base)| IoApic { id, base, gsi_base }));
    let (trigger, polarity) = (Trigger::Level, Polarity::High);
    assert_eq!(info.virtio_mmio, [MmioDevice { base: 0xFEB0_2E00, len: 512, gsi: 47, trigger, polarity }]);
    assert_eq!(info.pm_timer, None);
    assert_eq!(info.fw_cfg, Some(0x510));
    let power = Power {
        s5: Some((5, 0)),
        sleep_control: Some(Register::Memory(0xFEA0_0200)),
        reset: Some((Register::Memory(0xFEA0_0202), 0x42)),
        ..Power::default()
    };
    assert_eq!(info.power, power);
}

#[test]
fn fw_cfg_is_where_its_fixed_ports_are_whole() {
    let body = |crs: &[u8]| [b"\x08_HID\rQEMU0002\0\x08_CRS\x11\r\n\n".as_slice(), crs].concat();
    let found = |crs: &[u8]| aml::ports(&body(crs), b"QEMU0002", 2);
    assert_eq!(found(&[0x47, 1, 0x10, 5, 0x10, 5, 1, 2, 0x79, 0]), Some(0x510));
    assert_eq!(found(&[0x47, 1, 0x10, 5, 0x10, 5, 1, 1, 0x79, 0]), None, "one port is too few");
    assert_eq!(found(&[0x47, 1, 0x10, 5, 0x10, 6, 1, 2, 0x79, 0]), None, "it may lie elsewhere");
    assert_eq!(found(&[0x47, 1, 0x10, 5, 0x10, 5, 1]), None, "cut");
    assert_eq!(found(&[0x47, 1, 0xfe, 0xff, 0xfe, 0xff, 1, 2, 0x79, 0]), Some(0xfffe));
    assert_eq!(found(&[0x47, 1, 0xff, 0xff, 0xff, 0xff, 1, 2, 0x79, 0]), None, "there is no port 0x10000");
    let far = [&[0; 300][..], &[0x47, 1, 0x10, 5, 0x10, 5, 1, 2, 0x79, 0]].concat();
    assert_eq!(found(&far), None, "another device's");
    assert_eq!(aml::ports(&body(&[0x47, 1, 0x10, 5, 0x10, 5, 1, 2, 0x79]), b"QEMU0003", 2), None);
}

#[test]
fn reads_the_configuration_window_of_microvm_from_cba() {
    let info = read(&microvm_pcie(), MICROVM_RSDP);
    assert_eq!(info.ecam, [Ecam { base: 0xE000_0000, segment: 0, first_bus: 0, last_bus: 255 }]);
    assert_eq!(info.pci_windows, [(0xC000_0000, 0xDFFF_FFFF)]);
    assert_eq!(info.virtio_mmio, []);
}

#[test]
fn finds_the_root_pointer_in_the_bios_area() {
    let mut memory = microvm();
    let rsdp = memory.0.remove(0).1;
    let mut bios = vec![0; 0x2_0000];
    let at = (MICROVM_RSDP - 0xE_0000) as usize;
    bios[at..at + rsdp.len()].copy_from_slice(&rsdp);
    let (base, tables) = memory.0.remove(0);
    let at = (base - 0xE_0000) as usize;
    bios[at..at + tables.len()].copy_from_slice(&tables);
    memory.0.push((0xE_0000, bios));
    let info = parse(&memory.leak(), None);
    assert_eq!(info, read(&microvm(), MICROVM_RSDP));
}

#[test]
fn a_machine_without_tables_has_the_defaults_of_a_pc() {
    let nothing = Pieces::default();
    assert_eq!(parse(&nothing.leak(), None), Info::default());
    let info = read(&nothing, 0x1000);
    assert_eq!(info, Info { problems: vec![Problem::Unreadable(0x1000)], ..Info::default() });
    assert_eq!(info.ioapics, [IoApic { id: 0, base: 0xFEC0_0000, gsi_base: 0 }]);
}

#[test]
fn something_else_at_the_root_pointer_is_refused() {
    let mut memory = q35();
    memory.0[0].1[0] ^= 1;
    assert_eq!(read(&memory, Q35_RSDP).problems, [Problem::NotRoot(Q35_RSDP)]);
    let mut memory = q35();
    memory.0[0].1[17] ^= 1;
    assert_eq!(read(&memory, Q35_RSDP).problems, [Problem::Checksum(Q35_RSDP)]);
}

/// Offset of a table in a capture.
fn offset_of(tables: &[u8], signature: &[u8; 4]) -> usize {
    let found = tables.windows(8).position(|w| &w[..4] == signature && w[7] == 0 && w[6] == 0);
    found.expect("the capture has that table")
}

#[test]
fn a_table_with_a_bad_checksum_is_passed_over_and_the_others_are_read() {
    let mut memory = q35();
    let tables = &mut memory.0[1].1;
    let madt = offset_of(tables, b"APIC");
    tables[madt + 44] ^= 0x80;
    let info = read(&memory, Q35_RSDP);
    assert_eq!(info.problems, [Problem::Checksum(0xFFE_0000 + madt as u64)]);
    assert_eq!((info.cpus.len(), info.ioapics.len(), info.ecam.len()), (0, 1, 1));
}

#[test]
fn a_table_with_an_impossible_length_is_passed_over() {
    for len in [0_u32, 35, 0x10_0000, u32::MAX] {
        let mut memory = q35();
        let tables = &mut memory.0[1].1;
        let madt = offset_of(tables, b"APIC");
        tables[madt + 4..madt + 8].copy_from_slice(&len.to_le_bytes());
        let info = read(&memory, Q35_RSDP);
        assert_eq!(info.problems, [Problem::Length(0xFFE_0000 + madt as u64)], "{len}");
        assert!(info.pm_timer.is_some());
    }
}

#[test]
fn a_broken_xsdt_leaves_the_rsdt() {
    let madt = build(b"APIC", &[0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 7, 1, 0, 0, 0]);
    let rsdt = build(b"RSDT", &0x3000_u32.to_le_bytes());
    let mut xsdt = build(b"XSDT", &0x3000_u64.to_le_bytes());
    xsdt[20] ^= 1;
    let mut rsdp = b"RSD PTR \0WEIR  \x02\0\x20\0\0\x24\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0".to_vec();
    rsdp[8] = rsdp[..20].iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
    rsdp[32] = rsdp.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
    assert_eq!(rsdp.len(), 36);
    let memory = Pieces(vec![(0x500, rsdp), (0x1000, xsdt), (0x2000, rsdt), (0x3000, madt)]);
    let info = read(&memory, 0x500);
    assert_eq!(info.cpus, [7]);
}

/// What `parse` makes of a MADT with these structures.
fn madt_of(structures: &[u8]) -> Info {
    let mut info = Info::default();
    madt::parse(&build(b"APIC", &[&[0, 0, 0xE0, 0xFE, 0, 0, 0, 0], structures].concat()), &mut info);
    info
}

#[test]
fn reads_x2apics_and_skips_cpus_that_are_off_or_listed_twice() {
    let x2apic =
        |id: u32, flags: u32| [&[9, 16, 0, 0][..], &id.to_le_bytes(), &flags.to_le_bytes(), &[0; 4]].concat();
    let apic = |id, flags| vec![0, 8, 0, id, flags, 0, 0, 0];
    let structures = [
        apic(0, 1),
        apic(1, 0),
        apic(0xFF, 1),
        x2apic(0, 1),
        x2apic(300, 1),
        x2apic(301, 2),
        x2apic(u32::MAX, 1),
    ];
    let info = madt_of(&structures.concat());
    assert_eq!(info.cpus, [0, 300]);
    assert!(!info.has_8259);
}

#[test]
fn takes_the_64_bit_local_apic_address() {
    let info = madt_of(&[5, 12, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(info.local_apic, 1 << 32);
}

#[test]
fn a_structure_with_an_impossible_length_ends_the_walk() {
    for bad in [&[0_u8, 0][..], &[0, 1], &[0, 9, 0, 0], &[0]] {
        let structures = [&[0, 8, 0, 3, 1, 0, 0, 0][..], bad].concat();
        assert_eq!(madt_of(&structures).cpus, [3], "{bad:?}");
    }
}

#[test]
fn a_structure_too_short_for_its_kind_is_skipped() {
    let info = madt_of(&[0, 4, 0, 3, 9, 4, 0, 0, 1, 4, 0, 0, 2, 4, 0, 9, 5, 4, 0, 0, 0, 8, 0, 2, 1, 0, 0, 0]);
    assert_eq!((info.cpus, info.ioapics, info.overrides), (vec![2], vec![], vec![]));
}

#[test]
fn s5_comes_in_several_encodings() {
    let bare = |package: &[u8]| aml::s5(&[b"\x08_S5_", package].concat());
    assert_eq!(bare(&[0x12, 6, 4, 0x0A, 5, 0x0A, 6, 0, 0]), Some((5, 6)));
    assert_eq!(bare(&[0x12, 4, 2, 1, 0]), Some((1, 0)));
    assert_eq!(bare(&[0x12, 0x47, 0x00, 1, 0x0B, 7, 0]), Some((7, 7)), "two bytes of length, one element");
    assert_eq!(bare(&[0x12, 4, 2, 0x0A, 8, 0]), None, "four bits");
    assert_eq!(bare(&[0x12, 4, 0]), None);
    assert_eq!(bare(&[0x12]), None);
    assert_eq!(bare(&[0x11, 4, 2, 1, 0]), None, "a buffer");
    assert_eq!(aml::s5(b"_S5_\x12\x04\x02\x01\0"), None, "a reference, not a definition");
    assert_eq!(aml::s5(b"\x08\\_S5_\x12\x04\x02\x01\0"), Some((1, 0)));
}

#[test]
fn integers_come_as_names_and_as_methods() {
    assert_eq!(aml::integer(b"\x08_CBA\x0C\0\0\0\xE0", b"_CBA"), Some(0xE000_0000));
    assert_eq!(aml::integer(b"\x14\x0C_CBA\0\xA4\x0C\0\0\0\xE0", b"_CBA"), Some(0xE000_0000));
    assert_eq!(aml::integer(b"\x08_CBA\x0E\0\0\0\0\x01\0\0", b"_CBA"), None, "cut short");
    assert_eq!(aml::integer(b"\x14\x0C_CBA\0\x70\x0C\0\0\0\xE0", b"_CBA"), None, "computed");
}

proptest! {
    #[test]
    fn no_flipped_byte_panics_or_goes_unnoticed(at in 0_usize..8_980, bit in 0_u8..8) {
        let mut memory = q35();
        memory.0[1].1[at] ^= 1 << bit;
        let info = read(&memory, Q35_RSDP);
        let whole = read(&q35(), Q35_RSDP);
        // What no table covers, and the tables nobody reads (FACS has no checksum), may change freely.
        prop_assert!(info == whole || !info.problems.is_empty());
    }

    #[test]
    fn tables_mangled_under_a_right_checksum_do_not_panic(
        changes in prop::collection::vec((36_usize..2000, any::<u8>()), 1..20), kind in 0_usize..4
    ) {
        let mut memory = q35();
        let tables = &mut memory.0[1].1;
        let start = offset_of(tables, [b"APIC", b"FACP", b"DSDT", b"MCFG"][kind]);
        let len = u32::from_le_bytes(tables[start + 4..start + 8].try_into().unwrap()) as usize;
        let table = &mut tables[start..start + len];
        for (at, value) in changes {
            let at = 36 + (at - 36) % (len - 36);
            table[at] = value;
        }
        fix_checksum(table);
        read(&memory, Q35_RSDP);
    }

    #[test]
    fn memory_that_ends_anywhere_does_not_panic(end in 0_usize..8_980) {
        let mut memory = q35();
        memory.0[1].1.truncate(end);
        let info = read(&memory, Q35_RSDP);
        prop_assert!(!info.problems.is_empty());
    }

    #[test]
    fn any_aml_is_walked_without_panic(body in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..300) {
        let mut body = body;
        for part in [&b"\x08_S5_\x12"[..], b"\x08_HID\x0DLNRO0005\0", b"\x14\x0C_CBA\0\xA4", b"\x87\x17\0\0"] {
            let at = at.min(body.len());
            body.splice(at..at, part.iter().copied());
        }
        let _ = (aml::s5(&body), aml::integer(&body, b"_CBA"), aml::bridge_windows(&body));
        let _ = aml::fixed_devices(&body, b"LNRO0005");
    }
}
