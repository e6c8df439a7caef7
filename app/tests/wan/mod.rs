//! An interface with a device that carries nothing, for configurations that are only read.

use weir_app::attach::Attached;
use weir_app::observe::State;
use weir_netif::{Device, DeviceInfo, Fault, IfIndex, Link, Offloads, QueuePair};
use weir_sync::Control;

/// A device without packets.
struct Nothing(DeviceInfo);

impl Device for Nothing {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }

    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        Vec::new()
    }

    fn config_source(&self) -> u8 {
        0
    }

    fn link(&mut self, _: &Control) -> Link {
        Link::Up
    }

    fn service(&mut self, _: &Control) -> Result<(), Fault> {
        Ok(())
    }

    fn stop(&mut self, _: &Control) {}
}

/// The interface `wan`, at port 0.
pub(crate) fn wan() -> Attached {
    let (name, mac) = ("nothing".into(), [2, 0, 0, 0, 0, 1]);
    let info = DeviceInfo { name, mac, mtu: 1500, queues: 1, offloads: Offloads::empty() };
    Attached {
        attachment: 0,
        queues: 0,
        interface: IfIndex(0),
        name: "wan".into(),
        device: Box::new(Nothing(info)),
        state: State::Link(Link::Up),
        counters: Default::default(),
        cuts_told: false,
    }
}
