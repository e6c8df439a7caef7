//! What the router makes of its boot module: right, wrong, absent.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::rig::{FrameRig, SILENCE};
use crate::router::{Config, Image, Router};

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
        Test::new("config-empty", WEIR, |cx| {
            FrameRig::start(cx.image, Config::two_ports(), 2, |setup| setup.module = Some(b"\n".to_vec()))?
                .check(&cx.name, stays_silent)
        }),
        Test::new("config-by-mac", WEIR, by_mac),
        Test::new("config-names-absent-device", WEIR, absent_device),
        Test::new("config-module-again", WEIR, module_again),
        Test::new("config-module-is-wrong", WEIR, module_is_wrong),
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
pub(super) fn stays_silent(rig: &mut FrameRig) -> Result<()> {
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

/// Types a line on the console and waits for what is said to it.
pub(super) fn command(router: &mut Router, line: &str, answer: &str) -> Result<()> {
    let position = router.machine.console.position();
    router.machine.type_keys(line.as_bytes())?;
    router.machine.type_keys(b"\n")?;
    router.machine.console.wait_after(position, answer, Duration::from_secs(10)).map(|_| ())
}

/// What was pasted gives way to the boot module again, at run time.
fn module_again(cx: &Context) -> Result<()> {
    let first = Config::two_ports();
    let text = format!("# two networks\n{}", first.toml());
    let listed = format!("module 1: {} bytes: # two networks", text.len());
    let other = first.toml().replace("192.0.2.1/24", "198.51.100.1/24");
    FrameRig::start(cx.image, first, 2, |setup| setup.module = Some(text.into_bytes()))?.check(
        &cx.name,
        |rig| {
            rig.router.ready()?;
            everything_works(rig)?;
            rig.router.replace(&other)?;
            let gateway = rig.hosts[0].identity().gateway_v4;
            ensure!(rig.hosts[0].arp(gateway, SILENCE).is_err(), "an address that is gone answered");
            command(&mut rig.router, "config modules", "the configuration is from: console")?;
            command(&mut rig.router, "config modules", &listed)?;
            command(&mut rig.router, "config module 2", "there is no module 2; the loader brought 1")?;
            ensure!(rig.hosts[0].arp(gateway, SILENCE).is_err(), "a missing module changed something");
            command(&mut rig.router, "config module 1", "the configuration is replaced")?;
            everything_works(rig)
        },
    )
}

/// A module that is wrong is so at run time too, and changes nothing then.
fn module_is_wrong(cx: &Context) -> Result<()> {
    let right = Config::two_ports();
    let text = right.toml().replace("10.0.1.1/24", "10.0.1.1/240");
    let line = 1 + text.lines().position(|line| line.contains("/240")).unwrap_or_default();
    FrameRig::start(cx.image, right.clone(), 2, |setup| setup.module = Some(text.into_bytes()))?.check(
        &cx.name,
        |rig| {
            rig.router.machine.wait("no interface is configured", cx.image.patience())?;
            rig.router.replace(&right.toml())?;
            everything_works(rig)?;
            command(&mut rig.router, "config module 1", &format!("boot module 1:{line}:"))?;
            everything_works(rig)
        },
    )
}
