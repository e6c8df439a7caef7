//! Where the configuration comes from: each source on each machine that has it, their order, and what is said of a
//! wrong one and of none.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::configuration::{command, stays_silent};
use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::cleanup::{self, Made};
use crate::qemu::Platform;
use crate::rig::{FrameRig, PATIENCE};
use crate::router::{Config, Image, Setup};

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

/// The same as `Config::two_ports`.
const WORDS: &str = "weir.hostname=edge1 weir.interface.wan.match.port=0 \
    weir.interface.wan.addresses=192.0.2.1/24,2001:db8:1::1/64 weir.interface.lan.match.port=1 \
    weir.interface.lan.addresses=10.0.1.1/24,2001:db8:2::1/64";

/// A place of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Module,
    FwCfg,
    SmbiosText,
    SmbiosBase64,
    Words,
}

use Source::{FwCfg, Module, SmbiosBase64, SmbiosText, Words};

impl Source {
    /// What the console calls it.
    fn place(self) -> &'static str {
        match self {
            Module => "boot module 1",
            FwCfg => "fw_cfg opt/org.weir/config",
            SmbiosText => "SMBIOS weir.config",
            SmbiosBase64 => "SMBIOS weir.config.binary",
            Words => "command line",
        }
    }
}

pub(super) fn tests() -> Vec<Test> {
    use Platform::{Microvm, Pc, Q35};
    let mut tests = Vec::new();
    for (platform, sources) in [
        (Q35, &[FwCfg, SmbiosText, SmbiosBase64, Words][..]),
        (Pc, &[FwCfg, SmbiosBase64]),
        (Microvm, &[FwCfg, Words]),
    ] {
        for &source in sources {
            let name = format!("{source:?}").to_lowercase();
            let name = format!("source-{name}-{}", platform.name());
            tests.push(Test::new(name, WEIR, move |cx| routes_with(cx, platform, source)));
        }
    }
    for platform in [Q35, Microvm] {
        let name = format!("source-none-{}", platform.name());
        tests.push(Test::new(name, WEIR, move |cx| says_the_ways(cx, platform)));
    }
    for first in [Module, FwCfg, SmbiosBase64] {
        let name = format!("source-order-{first:?}").to_lowercase();
        tests.push(Test::new(name, WEIR, move |cx| first_counts(cx, first)));
    }
    for source in [Module, FwCfg, SmbiosText, SmbiosBase64] {
        let name = format!("source-wrong-{source:?}").to_lowercase();
        tests.push(Test::new(name, WEIR, move |cx| wrong_is_named(cx, source)));
    }
    tests.extend([
        Test::new("source-wrong-words", WEIR, wrong_words),
        Test::new("source-wrong-base64", WEIR, wrong_base64),
        Test::new("source-module-too-long", WEIR, |cx| too_long(cx, Module)),
        Test::new("source-fwcfg-too-long", WEIR, |cx| too_long(cx, FwCfg)),
        Test::new("source-too-long-for-memory", WEIR, too_long_for_memory),
        Test::new("least-memory", WEIR, least_memory),
    ]);
    tests
}

/// Texts for sources, as files that QEMU reads.
struct Texts {
    given: Vec<(Source, Vec<u8>)>,
    path: PathBuf,
    _folder: Made,
}

impl Texts {
    fn new(given: &[(Source, &[u8])]) -> Result<Texts> {
        let (path, _folder) = cleanup::directory()?;
        let given = given.iter().map(|&(source, text)| (source, text.to_vec())).collect();
        let texts = Texts { given, path, _folder };
        for (source, text) in &texts.given {
            let start: &[u8] = if *source == SmbiosText { b"weir.config=" } else { b"" };
            std::fs::write(texts.path.join(format!("{source:?}")), [start, text].concat())?;
        }
        Ok(texts)
    }

    /// Gives them to a machine.
    fn give(&self, setup: &mut Setup) {
        setup.module = None;
        for (source, text) in &self.given {
            let file = self.path.join(format!("{source:?}")).display().to_string();
            let mut option = |name: &str, value: String| setup.extra.extend([name.to_owned(), value]);
            match source {
                Module => setup.module = Some(text.clone()),
                FwCfg => option("-fw_cfg", format!("name=opt/org.weir/config,file={file}")),
                SmbiosText => option("-smbios", format!("type=11,path={file}")),
                SmbiosBase64 => {
                    option("-smbios", format!("type=11,value=weir.config.binary={}", base64(text)));
                }
                Words => setup.command_line = String::from_utf8_lossy(text).into_owned(),
            }
        }
    }
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain(&[0; 2]).take(3).fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        for (n, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if n <= chunk.len() { LETTERS[bits >> shift & 63].into() } else { '=' });
        }
    }
    text
}

/// A machine with two NICs and these texts, and no other configuration.
fn machine(cx: &Context, texts: &Texts, prepare: impl FnOnce(&mut Setup)) -> Result<FrameRig> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        texts.give(setup);
        prepare(setup);
    })
}

fn routes_with(cx: &Context, platform: Platform, source: Source) -> Result<()> {
    let toml = Config::two_ports().toml();
    let text = if source == Words { format!("log=info {WORDS}") } else { toml };
    let texts = Texts::new(&[(source, text.as_bytes())])?;
    machine(cx, &texts, |setup| setup.platform = platform)?.check(&cx.name, |rig| {
        rig.router.ready()?;
        rig.router.machine.wait(&format!("configuration: {}", source.place()), PATIENCE)?;
        everything_works(rig)?;
        command(&mut rig.router, "config modules", &format!("the configuration is from: {}", source.place()))
    })
}

fn says_the_ways(cx: &Context, platform: Platform) -> Result<()> {
    let texts = Texts::new(&[])?;
    machine(cx, &texts, |setup| setup.platform = platform)?.check(&cx.name, |rig| {
        stays_silent(rig)?;
        let text = rig.router.machine.console.text();
        let ways: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.starts_with("there is no configuration"))
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .filter_map(|line| line.split("  ").nth(1))
            .map(str::trim)
            .collect();
        let expected: &[&str] = match platform {
            Platform::Microvm => &["boot module", "fw_cfg", "command line"],
            _ => &["boot module", "fw_cfg", "SMBIOS", "command line"],
        };
        ensure!(ways == expected, "{ways:?} are named:\n{text}");
        Ok(())
    })
}

/// All sources have something; what comes after the first is wrong, and that harms nobody.
fn first_counts(cx: &Context, first: Source) -> Result<()> {
    let toml = Config::two_ports().toml();
    let order = [Module, FwCfg, SmbiosBase64, Words];
    let rest = order.iter().skip_while(|&&source| source != first);
    let texts: Vec<(Source, &[u8])> = rest
        .map(|&source| match source {
            Words => (source, &b"weir.nonsense=1"[..]),
            source if source == first => (source, toml.as_bytes()),
            source => (source, &b"nonsense"[..]),
        })
        .collect();
    let texts = Texts::new(&texts)?;
    machine(cx, &texts, |_| ())?.check(&cx.name, |rig| {
        rig.router.ready()?;
        rig.router.machine.wait(&format!("configuration: {}", first.place()), PATIENCE)?;
        let ignored = format!("command line: weir.nonsense=1 is not used: {} comes first", first.place());
        rig.router.machine.wait(&ignored, PATIENCE)?;
        everything_works(rig)
    })
}

/// A wrong one is named with line and column, and the right words behind it are not taken.
fn wrong_is_named(cx: &Context, source: Source) -> Result<()> {
    let toml = Config::two_ports().toml().replace("10.0.1.1/24", "10.0.1.1/240");
    let line = 1 + toml.lines().position(|line| line.contains("/240")).context("no such line")?;
    let texts = Texts::new(&[(source, toml.as_bytes()), (Words, WORDS.as_bytes())])?;
    machine(cx, &texts, |_| ())?.check(&cx.name, |rig| {
        let complaint = format!("{}:{line}:14: error: interface.lan.addresses[0]", source.place());
        rig.router.machine.wait(&complaint, cx.image.patience())?;
        stays_silent(rig)
    })
}

fn wrong_words(cx: &Context) -> Result<()> {
    let words = format!("log=debug {WORDS} weir.foo=1 weir.interface.lan.mtu=20");
    let texts = Texts::new(&[(Words, words.as_bytes())])?;
    machine(cx, &texts, |_| ())?.check(&cx.name, |rig| {
        for complaint in [
            "command line: weir.foo=1: error: foo: unknown key",
            "command line: weir.interface.lan.mtu=20: error: interface.lan.mtu: found the number 20",
        ] {
            rig.router.machine.wait(complaint, cx.image.patience())?;
        }
        stays_silent(rig)
    })
}

fn wrong_base64(cx: &Context) -> Result<()> {
    let texts = Texts::new(&[(Words, WORDS.as_bytes())])?;
    let broken = |setup: &mut Setup| {
        setup.extra.extend(["-smbios", "type=11,value=weir.config.binary=W2ludGV_"].map(str::to_owned));
    };
    machine(cx, &texts, broken)?.check(&cx.name, |rig| {
        rig.router.machine.wait("SMBIOS weir.config.binary: not base64: Invalid", cx.image.patience())?;
        stays_silent(rig)
    })
}

fn too_long(cx: &Context, source: Source) -> Result<()> {
    let text = "#".repeat((64 << 20) + 1);
    let texts = Texts::new(&[(source, text.as_bytes()), (Words, WORDS.as_bytes())])?;
    machine(cx, &texts, |setup| setup.memory_mib = 256)?.check(&cx.name, |rig| {
        let complaint = match source {
            FwCfg => "fw_cfg opt/org.weir/config: the file has 67108865 bytes, expected at most ",
            _ => "boot module 1:1:1: error: the configuration is too long, expected at most 67108864 bytes",
        };
        rig.router.machine.wait(complaint, cx.image.patience())?;
        stays_silent(rig)
    })
}

/// 80 KiB of sections are no work for 16 MiB.
fn too_long_for_memory(cx: &Context) -> Result<()> {
    let text = format!("{}\n{}", Config::two_ports().toml(), "[a]\n".repeat(20_000));
    let texts = Texts::new(&[(FwCfg, text.as_bytes())])?;
    machine(cx, &texts, |setup| setup.memory_mib = 16)?.check(&cx.name, |rig| {
        rig.router.machine.wait("bytes take up to 36 MiB to read and", cx.image.patience())?;
        rig.router.machine.wait("give the machine more memory", PATIENCE)?;
        stays_silent(rig)
    })
}

/// What the least says works, and one MiB less is refused by name.
fn least_memory(cx: &Context) -> Result<()> {
    for platform in [Platform::Q35, Platform::Microvm] {
        for (cpus, least) in [(1, 10), (4, 16)] {
            let config = Config::two_ports();
            let prepare = |memory| {
                move |setup: &mut Setup| {
                    (setup.platform, setup.cpus, setup.memory_mib) = (platform, cpus, memory);
                }
            };
            FrameRig::start(cx.image, config.clone(), 2, prepare(least))?.check(&cx.name, |rig| {
                rig.router.ready()?;
                everything_works(rig)
            })?;
            let rig = FrameRig::start(cx.image, config, 2, prepare(least - 1))?;
            let said = format!(
                "{} MiB of memory are too little, expected {least} MiB: 8, and 2 for each CPU",
                least - 1
            );
            rig.router.machine.wait("weir: fatal", Image::Weir.patience())?;
            rig.router.machine.wait(&said, PATIENCE)?;
        }
    }
    Ok(())
}
