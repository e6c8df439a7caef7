//! The router seen from its links.

mod addresses;
mod arp;
mod claims;
mod conservation;
mod discovery;
mod errors;
mod forwarding;
mod fragments;
mod local;
mod network;
mod offload;
mod reconfiguration;
mod vlans;

const LAN: &str = "10.0.1.1/24";
const WAN: &str = "192.0.2.1/24";
const LAN6: &str = "2001:db8:1::1/64";
const WAN6: &str = "2001:db8:2::1/64";

use crate::sim::{Rig, host_mac, plan};

/// Two interfaces with both families, and a host on each that the router knows.
fn rig() -> Rig {
    acquainted(Rig::new(&plan(&[&[LAN, LAN6], &[WAN, WAN6]])))
}

fn acquainted(mut rig: Rig) -> Rig {
    for (n, v4, v6) in [(0, "10.0.1.10", "2001:db8:1::10"), (1, "192.0.2.20", "2001:db8:2::20")] {
        rig.introduce4(n, v4, host_mac(n as u8));
        rig.introduce6(n, v6, host_mac(n as u8));
    }
    rig
}
