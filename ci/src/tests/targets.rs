//! What `images` has for each target, as far as it can be tried without it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::cleanup::{Made, Thing};
use crate::command;
use crate::console::Console;
use crate::qemu::Platform;
use crate::rig::FrameRig;
use crate::router::{Config, Image, weir_elf, workspace};

const WEIR: Needs = Needs { root: false, programs: &[], weir: true, alone: false };

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("target-qemu-q35", WEIR, |_| runs("q35")),
        Test::new("target-qemu-microvm", WEIR, |_| runs("microvm")),
        Test::new("target-cpu-without-rdrand", WEIR, plain_cpu),
        Test::new(
            "target-libvirt-schema",
            Needs { programs: &["virt-xml-validate", "xmllint"], ..WEIR },
            |_| {
                let file = images()?.join("libvirt/weir.xml");
                command::capture(
                    "virt-xml-validate",
                    &[&file.to_string_lossy(), "domain"],
                    Duration::from_secs(20),
                )
                .map(drop)
            },
        ),
        Test::new("target-firecracker-fields", WEIR, |_| firecracker_fields()),
        Test::new("target-firecracker-devices", WEIR, firecracker_devices),
    ]
}

fn images() -> Result<PathBuf> {
    Ok(workspace()?.join("images"))
}

/// The script boots the router with the example configuration.
fn runs(machine: &str) -> Result<()> {
    let mut child = Command::new(images()?.join("qemu/run.sh"))
        .arg(machine)
        .env("IMAGE", weir_elf()?)
        .envs([("ACCEL", "tcg"), ("WAN", "user"), ("LAN", "user")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("images/qemu/run.sh")?;
    let made = Made::register_until(Thing::Process(child.id()), Duration::from_secs(120));
    let (console, errors) = (Console::default(), Console::default());
    console.follow(child.stdout.take().context("no output")?);
    errors.follow(child.stderr.take().context("no errors")?);
    let outcome = console.wait("weir: ready", Image::Weir.patience());
    // Killed while the child is still ours to name.
    drop(made);
    let _ = child.wait();
    outcome.map(drop).context(errors.text())
}

/// QEMU's CPU where nobody names another has neither RDRAND nor XSAVE: the router says what that means, and works.
fn plain_cpu(cx: &Context) -> Result<()> {
    let rig = FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.extra.extend(["-cpu", "qemu64"].map(str::to_owned));
    })?;
    rig.check(&cx.name, |rig| {
        rig.router.ready()?;
        let said = rig.router.machine.console.text();
        ensure!(said.contains("the CPU has no RDRAND: "), "no warning:\n{said}");
        everything_works(rig)
    })
}

/// The fields of Firecracker's `--config-file` (its docs, getting-started and firecracker.yaml) that are there, and must be.
fn firecracker_fields() -> Result<()> {
    let text = std::fs::read_to_string(images()?.join("firecracker/weir.json"))?;
    let config: Value = serde_json::from_str(&text).context("weir.json")?;
    let check = |what: &str, object: &Value, must: &[&str], may: &[&str]| {
        let keys: BTreeSet<&str> =
            object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        for key in must {
            ensure!(keys.contains(key), "{what} lacks {key}");
        }
        let unknown: Vec<_> = keys.iter().filter(|key| !must.contains(key) && !may.contains(key)).collect();
        ensure!(unknown.is_empty(), "{what} knows no {unknown:?}");
        Ok(())
    };
    check(
        "weir.json",
        &config,
        &["boot-source", "drives", "machine-config", "network-interfaces"],
        &["balloon", "cpu-config", "entropy", "logger", "metrics", "mmds-config", "vsock"],
    )?;
    check("boot-source", &config["boot-source"], &["kernel_image_path"], &["boot_args", "initrd_path"])?;
    check(
        "machine-config",
        &config["machine-config"],
        &["vcpu_count", "mem_size_mib"],
        &["cpu_template", "huge_pages", "smt", "track_dirty_pages"],
    )?;
    ensure!(
        config["machine-config"]["mem_size_mib"].is_u64() && config["machine-config"]["vcpu_count"].is_u64()
    );
    let interfaces = config["network-interfaces"].as_array().context("network-interfaces is no list")?;
    ensure!(interfaces.len() == 2, "a router has two networks");
    interfaces.iter().try_for_each(|interface| {
        let may = ["guest_mac", "mtu", "rx_rate_limiter", "tx_rate_limiter"];
        check("network-interfaces", interface, &["iface_id", "host_dev_name"], &may)
    })
}

/// No ACPI, devices named as Firecracker names them, and its usual words around them.
fn firecracker_devices(cx: &Context) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| {
        setup.platform = Platform::Microvm;
        setup.early = ["-machine", "acpi=off,auto-kernel-cmdline=off"].map(str::to_owned).into();
        // QEMU fills its windows from the last one down.
        setup.command_line = "console=ttyS0 reboot=k panic=1 pci=off virtio_mmio.device=4K@0xfeb00e00:12 \
                              virtio_mmio.device=4K@0xfeb00c00:11"
            .to_owned();
    })?
    .check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)
    })
}
