//! Linux's 64-bit boot protocol, done as Firecracker does it: rust-vmm's loader puts an ELF kernel, its command line,
//! its module and the page of `boot_params` into guest memory. QEMU has no such loader, so it copies that memory into the
//! machine, and a stub that it starts by PVH takes the place of the VMM that sets the CPU's registers.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{Elf, KernelLoader, bootparam, load_cmdline};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

/// The least address at which a kernel may lie.
const HIGH_MEMORY: u64 = 0x10_0000;
/// Guest memory that is announced; the firmware has its tables above.
const RAM: u64 = 120 << 20;
/// What Firecracker has below 640 KiB, where QEMU's firmware is at work, lies here. The stub is loaded behind it.
const AREA: u64 = 48 << 20;
const ZERO_PAGE: u64 = AREA;
const COMMAND_LINE: u64 = AREA + 0x1000;
const PAGE_TABLES: u64 = AREA + 0x3000;
const MODULE: u64 = AREA + 0x1_0000;
const STUB: u64 = AREA + (8 << 20);

const KERNEL_BOOT_FLAG: u16 = 0xaa55;
const HDRS: u32 = u32::from_le_bytes(*b"HdrS");
const UNDEFINED_LOADER: u8 = 0xff;
const E820_RAM: u32 = 1;

/// A kernel in guest memory.
pub(crate) struct Loaded {
    pub(crate) memory: GuestMemoryMmap,
    /// The ELF entry point.
    pub(crate) entry: u64,
    /// PVH's, by its note.
    pub(crate) pvh_entry: Option<u64>,
    /// End of the kernel's segments.
    pub(crate) end: u64,
    module_len: usize,
}

/// Fills guest memory.
pub(crate) fn load(kernel: &Path, command_line: &str, module: &[u8]) -> Result<Loaded> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM as usize)]).context("guest memory")?;
    let mut file = File::open(kernel).with_context(|| format!("opening {}", kernel.display()))?;
    let loaded = Elf::load(&memory, None, &mut file, Some(GuestAddress(HIGH_MEMORY)))?;
    let mut words = Cmdline::new(0x1000)?;
    words.insert_str(command_line)?;
    load_cmdline(&memory, GuestAddress(COMMAND_LINE), &words)?;
    memory.write_slice(module, GuestAddress(MODULE))?;

    let mut params = bootparam::boot_params::default();
    params.hdr.boot_flag = KERNEL_BOOT_FLAG;
    params.hdr.header = HDRS;
    params.hdr.type_of_loader = UNDEFINED_LOADER;
    params.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    params.hdr.cmdline_size = command_line.len() as u32;
    params.hdr.ramdisk_image = MODULE as u32;
    params.hdr.ramdisk_size = module.len() as u32;
    for (entry, (addr, size)) in [(0, 0x9_fc00), (HIGH_MEMORY, RAM - HIGH_MEMORY)].into_iter().enumerate() {
        params.e820_table[entry] = bootparam::boot_e820_entry { addr, size, r#type: E820_RAM };
        params.e820_entries = entry as u8 + 1;
    }
    LinuxBootConfigurator::write_bootparams(&BootParams::new(&params, GuestAddress(ZERO_PAGE)), &memory)?;
    // The first GiB, as the protocol asks for at least the kernel and all that is handed over.
    let flags = 3;
    memory.write_obj(PAGE_TABLES + 0x1000 + flags, GuestAddress(PAGE_TABLES))?;
    memory.write_obj(PAGE_TABLES + 0x2000 + flags, GuestAddress(PAGE_TABLES + 0x1000))?;
    for page in 0..512 {
        memory.write_obj(page << 21 | 0x83, GuestAddress(PAGE_TABLES + 0x2000 + page * 8))?;
    }
    Ok(Loaded {
        entry: loaded.kernel_load.raw_value(),
        pvh_entry: match loaded.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(at) => Some(at.raw_value()),
            _ => None,
        },
        end: loaded.kernel_end,
        memory,
        module_len: module.len(),
    })
}

impl Loaded {
    /// What the loader must have found in our image, and left for it: both entries and the layout.
    pub(crate) fn check(&self, command_line: &str, module: &[u8]) -> Result<()> {
        let image = HIGH_MEMORY..self.end;
        let pvh = self.pvh_entry.context("the loader finds no PVH note")?;
        ensure!(image.contains(&pvh) && pvh != self.entry, "PVH's entry is at {pvh:#x}");
        ensure!(image.contains(&self.entry), "the 64-bit entry is at {:#x}", self.entry);
        ensure!(self.end > HIGH_MEMORY + (1 << 20) && self.end < AREA, "the image ends at {:#x}", self.end);
        // cli; cld: the code is where the entry point says.
        ensure!(
            self.read(self.entry, 2)? == [0xfa, 0xfc],
            "the 64-bit entry is not where the ELF header says"
        );
        // What the image tells the protocol by, and what a VMM leaves.
        ensure!(self.read(ZERO_PAGE + 0x202, 4)? == b"HdrS", "boot_params have no HdrS");
        let words = self.read(COMMAND_LINE, command_line.len() + 1)?;
        ensure!(words == [command_line.as_bytes(), b"\0"].concat(), "the command line is {words:?}");
        ensure!(self.read(MODULE, module.len())? == module, "the module is not at {MODULE:#x}");
        Ok(())
    }

    /// Leaves nothing to tell the protocol by.
    pub(crate) fn forget_header(&self) -> Result<()> {
        self.memory.write_slice(&[0; 4], GuestAddress(ZERO_PAGE + 0x202)).context("boot_params")
    }

    /// Bytes of guest memory.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .with_context(|| format!("guest memory at {at:#x}"))?;
        Ok(bytes)
    }

    /// Writes guest memory and the stub into `directory`: the stub's path, and QEMU's options beside it.
    pub(crate) fn write(&self, directory: &Path) -> Result<(PathBuf, Vec<String>)> {
        let mut options = Vec::new();
        let area = MODULE + self.module_len as u64;
        ensure!(self.end <= AREA && area <= STUB, "the kernel or its module is too large");
        for (name, from, to) in [("kernel", HIGH_MEMORY, self.end), ("area", AREA, area)] {
            let path = directory.join(name);
            std::fs::write(&path, self.read(from, (to - from) as usize)?)
                .with_context(|| format!("writing {}", path.display()))?;
            let device = format!("loader,file={},addr={from:#x},force-raw=on", path.display());
            options.extend(["-device".to_owned(), device]);
        }
        let path = directory.join("stub");
        std::fs::write(&path, stub(self.entry)).with_context(|| format!("writing {}", path.display()))?;
        Ok((path, options))
    }
}

/// An ELF file with PVH's note whose code enters long mode as a VMM would have set it, RSI = boot_params, and jumps to
/// `entry`.
fn stub(entry: u64) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    const NOTE: u64 = HEADERS;
    const TABLE: u64 = NOTE + 24;
    const POINTER: u64 = TABLE + 4 * 8;
    const CODE: u64 = POINTER + 8;
    // Of the code below, up to the far jump's target.
    const LONG: u64 = CODE + 53;
    let at = |offset: u64| ((STUB + offset) as u32).to_le_bytes();

    let mut bytes = Vec::new();
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    [2u16, 62].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    bytes.extend(1u32.to_le_bytes());
    [STUB + CODE, 64, 0].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    bytes.extend(0u32.to_le_bytes());
    [64u16, 56, 2, 64, 0, 0].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    for (kind, offset, len) in [(1u32, 0, 4096u64), (4, NOTE, 20)] {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        [offset, STUB + offset, STUB + offset, len, len, 4]
            .iter()
            .for_each(|field| bytes.extend(field.to_le_bytes()));
    }
    [4u32, 4, 18].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
    bytes.extend(b"Xen\0");
    bytes.extend(at(CODE));
    bytes.extend([0; 4]);
    // Linux's __BOOT_CS and __BOOT_DS.
    [0u64, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]
        .iter()
        .for_each(|entry| bytes.extend(entry.to_le_bytes()));
    bytes.extend(31u16.to_le_bytes());
    bytes.extend(at(TABLE));
    bytes.extend([0; 2]);

    let tables = (PAGE_TABLES as u32).to_le_bytes();
    let code: [&[u8]; 19] = [
        &[0xfa], // cli
        &[0xb8], // mov eax, page tables
        &tables,
        &[0x0f, 0x22, 0xd8],                         // mov cr3, eax
        &[0xb8, 0x20, 0, 0, 0, 0x0f, 0x22, 0xe0],    // mov cr4, PAE
        &[0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32],       // mov ecx, EFER; rdmsr
        &[0x0d, 0, 1, 0, 0, 0x0f, 0x30],             // or eax, LME; wrmsr
        &[0xb8, 0x31, 0, 0, 0x80, 0x0f, 0x22, 0xc0], // mov cr0, PG | NE | ET | PE
        &[0x0f, 0x01, 0x15],                         // lgdt
        &at(POINTER),
        &[0xea], // ljmp
        &at(LONG),
        &[0x10, 0],
        &[0xb8, 0x18, 0, 0, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // mov ds, es, ss
        &[0xbe],                                                    // mov esi, boot_params
        &(ZERO_PAGE as u32).to_le_bytes(),
        &[0x48, 0xb8], // mov rax, entry
        &entry.to_le_bytes(),
        &[0xff, 0xe0], // jmp rax
    ];
    code.iter().for_each(|part| bytes.extend(*part));
    bytes.resize(4096, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stubs_far_jump_lands_behind_itself() {
        let bytes = stub(0x1122_3344_5566);
        let jump = bytes.windows(3).position(|window| window == [0x0f, 0x01, 0x15]).unwrap() + 7;
        let target = u32::from_le_bytes(bytes[jump + 1..jump + 5].try_into().unwrap());
        assert_eq!(u64::from(target) - STUB, jump as u64 + 7);
    }
}
