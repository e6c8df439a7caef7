//! Where the configuration comes from at boot: [`SOURCES`] in their order. The first that has one counts, and
//! if that one is wrong the router says so and takes no other. Boot CPU, task level, once.

use crate::config::{Config, MAX_BYTES, command_line, longest};
use crate::disk;
use crate::guest::{self, CONFIG, Guest};
use crate::modules::{self, Modules};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use core::fmt::{Display, Write};
use weir_machine::hermit::FileError;
use weir_machine::smbios::{self, Strings};
use weir_machine::{fw_cfg, hermit, info, warn, xen};
use weir_sync::Control;

/// Name of the file in QEMU's fw_cfg.
const FW_CFG_FILE: &str = "opt/org.weir/config";
/// Path of the file that uhyve shows to its guest.
const UHYVE_FILE: &str = "/weir.toml";
/// How an SMBIOS OEM string begins that is a configuration, as it is and in base64.
const OEM_TEXT: &str = "weir.config=";
const OEM_BASE64: &str = "weir.config.binary=";
/// What cures a text that is too long for the memory there is.
const MORE: &str = "give the machine more memory";

/// What sources look at.
pub struct Search<'a> {
    /// Task level of the boot CPU.
    pub cx: &'a Control,
    /// What the loader brought.
    pub modules: Modules,
    /// On Xen: the way to its store.
    pub guest: Option<&'a mut Guest>,
    /// The kernel's.
    pub command_line: &'a str,
    /// Whether its end is lost.
    pub command_line_is_cut: bool,
    /// Bytes of memory that are to be had now.
    pub free: fn() -> u64,
}

/// What a source has.
#[derive(PartialEq, Eq, Debug)]
pub struct Found {
    /// What people call the place.
    pub place: String,
    /// The configuration, or what is wrong with it, as text for the console.
    pub config: Result<Config, String>,
}

/// A place where a configuration may be.
struct Source {
    name: &'static str,
    /// `None`: there is none.
    find: fn(&mut Search) -> Option<Found>,
    /// How to give this machine one; `None`: not on this machine.
    way: fn(&Search) -> Option<String>,
}

/// All, the first one first.
const SOURCES: [Source; 7] = [
    Source { name: "boot module", find: boot_module, way: boot_module_way },
    Source { name: "fw_cfg", find: fw_cfg_file, way: fw_cfg_way },
    Source { name: "SMBIOS", find: smbios_string, way: smbios_way },
    Source { name: "xenstore", find: xenstore, way: xenstore_way },
    Source { name: "uhyve", find: uhyve_file, way: uhyve_way },
    DISK,
    Source { name: "command line", find: kernel_words, way: kernel_words_way },
];

const DISK: Source = Source { name: "disk", find: disk_file, way: disk_way };

/// A word of the command line: the disk comes first. A boot loader says so that is on the disk and brings a
/// copy of the file as boot module, for disks that cannot be read here.
const DISK_FIRST: &str = "config=disk";

/// The configuration to begin with.
///
/// # Errors
/// There is none: how to give this machine one, as text for the console.
pub fn find(search: &mut Search) -> Result<Found, String> {
    let disk_first = search.command_line.split_ascii_whitespace().any(|word| word == DISK_FIRST);
    let first = disk_first.then_some(&DISK);
    let others = SOURCES.iter().filter(|source| !disk_first || source.name != DISK.name);
    let Some(found) = first.into_iter().chain(others).find_map(|source| (source.find)(search)) else {
        return Err(advice(search));
    };
    if found.place != command_line::NAME
        && let Some(word) = command_line::words(search.command_line).next()
    {
        warn!("command line: {} is not used: {} comes first", command_line::shown(word), found.place);
    }
    Ok(found)
}

fn advice(search: &Search) -> String {
    let mut text = String::from("there is no configuration; give this machine one by\n");
    for source in &SOURCES {
        if let Some(way) = (source.way)(search) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:<13} {way}", source.name);
        }
    }
    text
}

impl Search<'_> {
    /// What `place` has: a text, or a reason why it cannot be had.
    fn found(&self, place: &str, text: Result<impl AsRef<[u8]>, impl Display>) -> Found {
        let config = match text {
            Ok(text) => Config::read(text.as_ref(), place, (self.free)()),
            Err(wrong) => Err(format!("{place}: {wrong}\n")),
        };
        Found { place: place.to_string(), config }
    }
}

fn boot_module(search: &mut Search) -> Option<Found> {
    let read = || Found { place: modules::place(1), config: search.modules.config(1, (search.free)()) };
    (!search.modules.is_empty()).then(read)
}

fn boot_module_way(_: &Search) -> Option<String> {
    let way = if xen::present() { "ramdisk = \"weir.toml\"" } else { "-initrd weir.toml" };
    (!hermit::present()).then(|| way.into())
}

fn fw_cfg_file(search: &mut Search) -> Option<Found> {
    let limit = longest((search.free)());
    let content = fw_cfg::read_file(FW_CFG_FILE, limit).transpose()?.map_err(|wrong| match wrong {
        fw_cfg::Problem::TooLong(..) if limit < MAX_BYTES => format!("{wrong}: {MORE}"),
        wrong => wrong.to_string(),
    });
    Some(search.found(&format!("fw_cfg {FW_CFG_FILE}"), content))
}

fn fw_cfg_way(_: &Search) -> Option<String> {
    fw_cfg::is_present().then(|| format!("-fw_cfg name={FW_CFG_FILE},file=weir.toml"))
}

fn smbios_string(search: &mut Search) -> Option<Found> {
    let strings = smbios::oem_strings();
    if let Some(problem) = strings.problem {
        warn!("SMBIOS: {problem}");
    }
    oem_string(search, &strings)
}

/// Among the OEM strings one may begin with `weir.`, and then it is a configuration.
fn oem_string(search: &Search, strings: &Strings) -> Option<Found> {
    let mut ours = strings.list.iter().filter(|string| string.starts_with(b"weir."));
    let string = ours.next()?;
    if ours.next().is_some() {
        let wrong = "several strings begin with \"weir.\", expected one";
        return Some(search.found("SMBIOS", Err::<&[u8], _>(wrong)));
    }
    if let Some(text) = string.strip_prefix(OEM_TEXT.as_bytes()) {
        return Some(search.found("SMBIOS weir.config", Ok::<_, &str>(text)));
    }
    Some(match string.strip_prefix(OEM_BASE64.as_bytes()) {
        Some(coded) if coded.len() as u64 * 2 > (search.free)() => {
            let wrong = format!("no memory for {} bytes of base64: give the machine more", coded.len());
            search.found("SMBIOS weir.config.binary", Err::<&[u8], _>(wrong))
        }
        Some(coded) => {
            // As `base64` writes it: in lines.
            let coded: Vec<u8> = coded.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let text = BASE64_STANDARD.decode(coded);
            search.found("SMBIOS weir.config.binary", text.map_err(|wrong| format!("not base64: {wrong}")))
        }
        None => {
            let start = string.split(|&byte| byte == b'=').next().unwrap_or_default();
            let start = String::from_utf8_lossy(start.get(..40).unwrap_or(start)).into_owned();
            let wrong =
                format!("a string begins with {start:?}, expected \"{OEM_TEXT}\" or \"{OEM_BASE64}\"");
            search.found("SMBIOS", Err::<&[u8], _>(wrong))
        }
    })
}

fn smbios_way(_: &Search) -> Option<String> {
    smbios::is_present().then(|| format!("-smbios type=11,value={OEM_BASE64}$(base64 -w0 weir.toml)"))
}

fn xenstore(search: &mut Search) -> Option<Found> {
    let free = (search.free)();
    let config = search.guest.as_mut()?.configuration(search.cx, free)?;
    Some(Found { place: guest::place(), config })
}

fn xenstore_way(search: &Search) -> Option<String> {
    search.guest.is_some().then(|| format!("xenstore-write /local/domain/ID/{CONFIG} \"$(cat weir.toml)\""))
}

fn uhyve_file(search: &mut Search) -> Option<Found> {
    // Its length shows only as it is read.
    let limit = longest((search.free)());
    let content = hermit::read_file(UHYVE_FILE, limit).transpose()?.map_err(|wrong| match wrong {
        FileError::Longer(_) if limit < MAX_BYTES => format!("{wrong}: {MORE}"),
        wrong => wrong.to_string(),
    });
    Some(search.found(&format!("uhyve {UHYVE_FILE}"), content))
}

fn uhyve_way(_: &Search) -> Option<String> {
    hermit::present().then(|| format!("--file-mapping weir.toml:{UHYVE_FILE}"))
}

fn disk_file(search: &mut Search) -> Option<Found> {
    let searched = disk::search(search.cx, longest((search.free)()));
    searched.passed.lines().for_each(|line| info!("{line}"));
    let file = searched.found?;
    Some(search.found(&file.place, file.content))
}

fn disk_way(_: &Search) -> Option<String> {
    disk::is_present().then(|| format!("{} in the root directory of a FAT partition", disk::FILE))
}

fn kernel_words(search: &mut Search) -> Option<Found> {
    let config = Config::from_command_line(search.command_line, search.command_line_is_cut)?;
    Some(Found { place: command_line::NAME.to_string(), config })
}

fn kernel_words_way(_: &Search) -> Option<String> {
    let words = command_line::EXAMPLE;
    Some(match () {
        () if xen::present() => format!("extra = \"{words}\""),
        () if hermit::present() => format!("uhyve weir.elf {words}"),
        () => format!("-append \"{words}\""),
    })
}

#[cfg(test)]
mod tests;
