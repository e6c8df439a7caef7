//! A wire with weather: frames between a router's NIC and a TAP device that are lost, doubled and overtaken. QEMU without a
//! machine holds the TAP, as the lab holds no `unsafe` code that could.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::host::Sockets;
use crate::line::{Line, Reader};
use crate::netns::Daemon;
use crate::qemu::Wire;
use crate::random::Random;

/// How long an overtaken frame is held.
const HELD: Duration = Duration::from_millis(2);

/// What the wire does, of a thousand frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) overtaken: u64,
}

/// The wire. Dropping it ends it.
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    /// Frames that were lost.
    pub(crate) lost: Arc<AtomicU64>,
    router: Arc<Sockets>,
    _hub: Daemon,
}

impl Relay {
    /// Joins `device`, a TAP in the network namespace, to the router's end, which [`wire`](Self::wire) names.
    pub(crate) fn start(namespace: &str, device: &str, weather: Weather) -> Result<Relay> {
        let (router, tap) = (Arc::new(Sockets::new()?), Sockets::new()?);
        let Wire::Dgram { guest, host } = &tap.wire else { anyhow::bail!("a wire of datagrams") };
        let mut command = Command::new("ip");
        let net = format!(
            "dgram,id=d,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            guest.display(),
            host.display()
        );
        let open = format!("tap,id=t,ifname={device},script=no,downscript=no,vnet_hdr=off");
        command.args(["netns", "exec", namespace, "qemu-system-x86_64", "-machine", "none", "-nodefaults"]);
        command.args(["-display", "none", "-netdev", &net, "-netdev", &open]);
        command.args([
            "-netdev",
            "hubport,id=h0,hubid=0,netdev=d",
            "-netdev",
            "hubport,id=h1,hubid=0,netdev=t",
        ]);
        command.stdin(Stdio::null());
        let hub = Daemon::start("qemu-system-x86_64", command)?;
        tap.connect(Duration::from_secs(10)).with_context(|| hub.errors.text())?;
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tap = Arc::new(tap);
        for (from, to, seed) in [(router.clone(), tap.clone(), 1), (tap, router.clone(), 2)] {
            let (stop, lost) = (stop.clone(), lost.clone());
            thread::spawn(move || carry(&from.line, &to.line, weather, seed, &stop, &lost));
        }
        Ok(Relay { stop, lost, router, _hub: hub })
    }

    /// What the router's NIC is attached to.
    pub(crate) fn wire(&self) -> Wire {
        self.router.wire.clone()
    }

    /// Reaches the router's end, which exists once its machine runs.
    pub(crate) fn connect(&self) -> Result<()> {
        self.router.connect(Duration::from_secs(10))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn carry(from: &Line, to: &Line, weather: Weather, seed: u64, stop: &AtomicBool, lost: &AtomicU64) {
    let mut random = Random::new(seed);
    let mut reader = Reader::new(from);
    let mut held: Option<(Instant, Vec<u8>)> = None;
    while !stop.load(Ordering::Relaxed) {
        reader.receive(|frame| {
            if random.next() % 1000 < weather.lost {
                lost.fetch_add(1, Ordering::Relaxed);
            } else if held.is_none() && random.next() % 1000 < weather.overtaken {
                held = Some((Instant::now(), frame.to_vec()));
            } else {
                // A NIC that is not there yet, or takes nothing: one more way to be lost.
                let _ = to.send(frame);
            }
        });
        if let Some((_, frame)) = held.take_if(|(since, _)| since.elapsed() > HELD) {
            let _ = to.send(&frame);
        }
    }
}
