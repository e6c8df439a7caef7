//! Machines and NICs as they are found in the field: chipsets, CPU models and counts, memory, bridges, feature sets,
//! queue sizes.

use anyhow::Result;

use super::forwarding::everything_works;
use super::{Context, Needs, Test};
use crate::qemu::Platform;
use crate::rig::{FrameRig, PATIENCE};
use crate::router::{Config, Setup, weir_elf};
use crate::{cleanup, linux64};

pub(super) fn tests() -> Vec<Test> {
    let plain = Needs::default();
    let weir = Needs { weir: true, ..plain };
    let nic = |name: &'static str, properties: &'static [&'static str]| {
        Test::new(format!("nic-{name}"), plain, move |cx| {
            boots(cx, |setup| {
                // Some of these are properties of PCI.
                setup.platform = Platform::Q35;
                setup.nic_properties.extend(properties.iter().map(|&text| text.to_owned()));
            })
        })
    };
    let machine = |name: &'static str, needs: Needs, prepare: fn(&mut Setup)| {
        Test::new(format!("machine-{name}"), needs, move |cx| boots(cx, prepare))
    };
    vec![
        machine("with-32-mib", weir, |setup| setup.memory_mib = 32),
        machine("with-3-gib", plain, |setup| setup.memory_mib = 3072),
        machine("with-6-gib", plain, |setup| setup.memory_mib = 6144),
        machine("with-16-cpus", plain, |setup| setup.cpus = 16),
        machine("i440fx", plain, |setup| setup.platform = Platform::Pc),
        machine("with-cpu-qemu64", plain, |setup| setup.cpu = "qemu64"),
        machine("with-cpu-nehalem", plain, |setup| setup.cpu = "Nehalem"),
        machine("with-unknown-devices", plain, |setup| {
            setup.platform = Platform::Q35;
            let devices = ["-device", "virtio-rng-pci", "-device", "edu", "-device", "e1000"];
            setup.extra.extend(devices.map(str::to_owned));
        }),
        Test::new("boot-by-linux-64-bit-protocol", weir, |cx| {
            let (directory, _made) = cleanup::directory()?;
            let config = Config::two_ports();
            let module = config.toml().into_bytes();
            let loaded = linux64::load(&weir_elf()?, "log=debug", &module)?;
            loaded.check("log=debug", &module)?;
            let (stub, options) = loaded.write(&directory)?;
            let prepare = |setup: &mut Setup| {
                setup.platform = Platform::Q35;
                setup.cpus = 2;
                setup.kernel = Some(stub.clone());
                // The stub is told nothing; the configuration comes by boot_params.
                setup.module = None;
                setup.extra.extend(options.clone());
            };
            boots(cx, prepare)
        }),
        Test::new("boot-by-no-protocol-it-knows", weir, |cx| {
            let (directory, _made) = cleanup::directory()?;
            let loaded = linux64::load(&weir_elf()?, "", b"")?;
            loaded.forget_header()?;
            let (stub, options) = loaded.write(&directory)?;
            let mut setup = Setup::new(cx.image, Config::two_ports(), Vec::new());
            setup.platform = Platform::Q35;
            setup.kernel = Some(stub);
            setup.module = None;
            setup.extra.extend(options);
            let router = setup.start()?;
            router.machine.wait("weir: fatal", cx.image.patience())?;
            router.machine.wait("neither Hermit's loader ABI", PATIENCE)?;
            Ok(())
        }),
        machine("with-nics-behind-bridges", plain, |setup| {
            setup.platform = Platform::Q35;
            // As libvirt lays out every guest.
            for port in 0..setup.wires.len() {
                let bridge = format!("pcie-root-port,id=root{port},chassis={port},slot={port}");
                setup.early.extend(["-device".to_owned(), bridge]);
            }
            setup.bus = Some("root");
        }),
        nic("modern-only", &["disable-legacy=on"]),
        nic("with-packed-rings-on-offer", &["packed=on"]),
        nic("with-256-buffers", &["rx_queue_size=256", "tx_queue_size=256"]),
        nic("with-1024-buffers", &["rx_queue_size=1024"]),
        nic("without-msi-x", &["vectors=0"]),
        nic("without-event-index", &["event_idx=off", "indirect_desc=off"]),
        nic("without-mergeable-buffers", &["mrg_rxbuf=off"]),
        Test::new("nic-plain", plain, |cx| {
            // What remains is a MAC and a link status (virtio 1.2 §5.1.3).
            let control = ["ctrl_vq", "ctrl_rx", "ctrl_rx_extra", "ctrl_vlan", "ctrl_mac_addr"];
            let more = ["ctrl_guest_offloads", "guest_announce", "indirect_desc", "event_idx", "mrg_rxbuf"];
            boots(cx, move |setup| {
                let off = control.iter().chain(&more).map(|name| format!("{name}=off"));
                setup.nic_properties.extend(off.chain(NO_OFFLOADS.map(str::to_owned)));
            })
        }),
    ]
}

/// Properties of a NIC without checksum and segmentation offloads.
pub(super) const NO_OFFLOADS: [&str; 10] = [
    "csum=off",
    "guest_csum=off",
    "host_tso4=off",
    "host_tso6=off",
    "host_ecn=off",
    "host_ufo=off",
    "guest_tso4=off",
    "guest_tso6=off",
    "guest_ecn=off",
    "guest_ufo=off",
];

fn boots(cx: &Context, prepare: impl Fn(&mut Setup)) -> Result<()> {
    FrameRig::start(cx.image, Config::two_ports(), 2, |setup| prepare(setup))?.check(&cx.name, |rig| {
        rig.router.ready()?;
        everything_works(rig)?;
        everything_works(rig)
    })
}
