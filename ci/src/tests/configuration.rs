//! What the router makes of its boot module: right, wrong, absent.

use anyhow::{Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::rig::{FrameRig, SILENCE};
use crate::router::{Config, Image};

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("config-error-names-line-and-key", WEIR, |cx| {
            let text = Config::two_ports().toml().replace("10.0.1.1/24", "10.0.1.1/240");
            let line = 1 + text.lines().position(|line| line.contains("/240")).unwrap_or_default();
            refuses(cx, &text, &[&line.to_string(), "interface.lan.addresses", "10.0.1.1/240"])
        }),
        Test::new("config-error-names-unknown-key", WEIR, |cx| {
            let text = Config::two_ports().toml().replace("addresses = [\"192", "adresses = [\"192");
            let line = 1 + text.lines().position(|line| line.contains("adresses =")).unwrap_or_default();
            refuses(cx, &text, &[&line.to_string(), "adresses"])
        }),
        Test::new("config-error-in-toml-syntax", WEIR, |cx| {
            let text = Config::two_ports().toml().replace("[interface.lan]", "[interface.lan");
            let line = 1 + text.lines().position(|line| line == "[interface.lan").unwrap_or_default();
            refuses(cx, &text, &[&line.to_string()])
        }),
        Test::new("config-not-utf8", WEIR, |cx| {
            let mut bytes = Config::two_ports().toml().into_bytes();
            bytes.extend([b'\n', b'#', 0xff, 0xfe, b'\n']);
            refuses_bytes(cx, Some(bytes), &["UTF-8"])
        }),
        Test::new("config-absent", WEIR, |cx| refuses_bytes(cx, None, &["there is no boot module"])),
        Test::new("config-empty", WEIR, |cx| {
            FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.module = Some(b"\n".to_vec()))?
                .check(&cx.name, stays_silent)
        }),
        Test::new("config-by-mac", WEIR, by_mac),
        Test::new("config-names-absent-device", WEIR, absent_device),
    ]
}

fn refuses(cx: &Context, text: &str, complaints: &[&str]) -> Result<()> {
    refuses_bytes(cx, Some(text.as_bytes().to_vec()), complaints)
}

/// The console names what is wrong; the router runs on without an interface.
fn refuses_bytes(cx: &Context, module: Option<Vec<u8>>, complaints: &[&str]) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.module = module)?.check(&cx.name, |rig| {
        for complaint in complaints {
            rig.router.machine.wait(complaint, cx.image.patience())?;
        }
        stays_silent(rig)
    })
}

/// Runs, answers its console, has no address.
fn stays_silent(rig: &mut FrameRig) -> Result<()> {
    rig.router.machine.wait("no interface is configured", Image::Weir.patience())?;
    let a = &rig.hosts[0];
    ensure!(a.arp(a.identity().gateway_v4, SILENCE * 2).is_err(), "ARP answered without a configuration");
    crate::table::read(&mut rig.router).map(|_| ())
}

fn by_mac(cx: &Context) -> Result<()> {
    let mut config = Config::two_ports();
    let text = config.toml().replace("port = 0", "mac = \"52:54:00:00:00:01\"");
    let text = text.replace("port = 1", "mac = \"52:54:00:00:00:02\"");
    // The other order in the file: the address decides.
    config.interfaces.swap(0, 1);
    FrameRig::start(cx.image, config, 2, |setup| setup.module = Some(text.into_bytes()))?.check(
        &cx.name,
        |rig| {
            rig.router.ready()?;
            everything_works(rig)
        },
    )
}

/// One interface of two has a device: the console names the other, and the devices there are.
fn absent_device(cx: &Context) -> Result<()> {
    let text = Config::two_ports().toml().replace("port = 1", "mac = \"52:54:00:00:00:99\"");
    let setup = |setup: &mut crate::router::Setup| setup.module = Some(text.into_bytes());
    FrameRig::start(cx.image, Config::two_ports(), 2, setup)?.check(&cx.name, |rig| {
        for part in ["52:54:00:00:00:99", "interface.lan", "52:54:00:00:00:02"] {
            rig.router.machine.wait(part, cx.image.patience())?;
        }
        crate::table::read(&mut rig.router).map(|_| ())
    })
}
