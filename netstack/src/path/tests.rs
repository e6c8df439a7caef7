//! The router seen from its links.

use crate::sim::*;
use weir_netif::Drop;

const LAN: &str = "10.0.1.1/24";
const WAN: &str = "192.0.2.1/24";

#[test]
fn forwards_between_connected_networks_after_arp() {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    let frame = v4("10.0.1.10", "192.0.2.20").frame(0, b"hello");
    rig.receive(0, &[frame.clone()]);
    let request = rig.one(1);
    assert_eq!(request, arp_request(router_mac(1), a4("192.0.2.1"), a4("192.0.2.20")));
    rig.receive(1, &[arp_reply(router_mac(1), host_mac(1), a4("192.0.2.20"), a4("192.0.2.1"))]);
    let forwarded = rig.one(1);
    let mut expected = frame;
    expected[..6].copy_from_slice(&host_mac(1));
    expected[6..12].copy_from_slice(&router_mac(1));
    expected[22] = 63;
    crate::frames::seal_ipv4(&mut expected[14..34]);
    assert_eq!(forwarded, expected);
    rig.assert_drops(0, &[]);
    rig.assert_drops(1, &[]);
}

#[test]
fn drops_packet_when_ttl_expires_and_tells_its_sender() {
    let mut rig = Rig::new(&plan(&[&[LAN], &[WAN]]));
    rig.introduce4(0, "10.0.1.10", host_mac(0));
    for ttl in [0, 1] {
        rig.receive(0, &[V4 { ttl, ..v4("10.0.1.10", "192.0.2.20") }.frame(0, b"hello")]);
        let error = rig.one(0);
        assert_sound(&error);
        assert_eq!(error[..12], [host_mac(0), router_mac(0)].concat());
        assert_eq!((&error[26..30], &error[30..34]), (&[10, 0, 1, 1][..], &[10, 0, 1, 10][..]));
        assert_eq!((error[34], error[35]), (11, 0));
    }
    rig.assert_drops(0, &[(Drop::TtlExpired, 2)]);
}
