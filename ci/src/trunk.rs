//! Several hosts on one NIC's wire, each on a VLAN of its own or untagged: a switch whose trunk port is the router's. Hosts
//! are the ordinary ones and know nothing of tags.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::Sockets;
use crate::line::{Line, Reader};
use crate::qemu::Wire;

/// Tag protocol identifier (IEEE 802.1Q §9.6).
const TPID: [u8; 2] = [0x81, 0];

/// The switch. Dropping it ends its threads.
pub(crate) struct Trunk {
    sockets: Sockets,
    stop: Arc<AtomicBool>,
}

/// A port to a host: its VLAN, and our end of its wire.
struct Access {
    vlan: Option<u16>,
    line: Arc<Line>,
}

impl Trunk {
    /// Takes over a NIC's wire. Returns a wire for each of `vlans`, which are as they are, to start hosts on.
    pub(crate) fn new(sockets: Sockets, vlans: &[Option<u16>]) -> Result<(Trunk, Vec<Sockets>)> {
        let (mut ports, mut wires) = (Vec::new(), Vec::new());
        for &vlan in vlans {
            let wire = Sockets::new()?;
            let Wire::Dgram { guest, host } = &wire.wire else { bail!("a host's wire is a pair of sockets") };
            let line = Arc::new(Line::datagrams(guest)?);
            line.connect(host).with_context(|| format!("connecting to {}", host.display()))?;
            ports.push(Access { vlan, line });
            wires.push(wire);
        }
        let trunk = Trunk { sockets, stop: Arc::default() };
        let uplink = trunk.sockets.line.clone();
        for Access { vlan, line } in &ports {
            let (vlan, from, to, stop) = (*vlan, line.clone(), uplink.clone(), trunk.stop.clone());
            forward(from, stop, move |frame| drop(to.send(&tag(vlan, frame))));
        }
        forward(uplink, trunk.stop.clone(), move |frame| {
            let (vlan, frame) = untag(frame);
            for port in ports.iter().filter(|port| port.vlan == vlan) {
                let _ = port.line.send(&frame);
            }
        });
        Ok((trunk, wires))
    }

    /// The router's NIC.
    pub(crate) fn wire(&self) -> Wire {
        self.sockets.wire.clone()
    }

    /// Waits for QEMU to open its end.
    pub(crate) fn connect(&self) -> Result<()> {
        self.sockets.connect(Duration::from_secs(10))
    }

    /// Sends the router a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        self.sockets.line.send(frame).context("the router's NIC takes no frames")
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Hands all frames that arrive at `from` on, until told to stop.
fn forward(from: Arc<Line>, stop: Arc<AtomicBool>, to: impl Fn(&[u8]) + Send + 'static) {
    thread::spawn(move || {
        let mut reader = Reader::new(&from);
        while !stop.load(Ordering::Relaxed) {
            reader.receive(&to);
        }
    });
}

/// The frame with the tag of `vlan`.
pub(crate) fn tag(vlan: Option<u16>, frame: &[u8]) -> Vec<u8> {
    match (vlan, frame.split_at_checked(12)) {
        (Some(vlan), Some((addresses, rest))) => [addresses, &TPID, &vlan.to_be_bytes(), rest].concat(),
        _ => frame.to_vec(),
    }
}

/// A frame's VLAN, and the frame without its tag.
pub(crate) fn untag(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    match (frame.get(12..14), frame.get(14..16), frame.get(16..)) {
        (Some(tpid), Some(&[high, low]), Some(rest)) if tpid == TPID => {
            (Some(u16::from_be_bytes([high, low])), [&frame[..12], rest].concat())
        }
        _ => (None, frame.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_in_and_come_out() {
        let frame: Vec<u8> = (0..60).collect();
        assert_eq!(untag(&frame), (None, frame.clone()));
        let tagged = tag(Some(0x0123), &frame);
        assert_eq!(tagged[12..16], [0x81, 0, 1, 0x23]);
        assert_eq!(untag(&tagged), (Some(0x0123), frame));
    }
}
