//! From a port to the interface that a frame's VLAN is.

use super::*;

impl Stack {
    /// Makes a tagged frame an untagged one of the interface that its VLAN is, which has received it from now on. VLAN 0
    /// is the port itself: such a tag carries a priority, which ends here.
    #[inline(never)]
    pub(super) fn untag<'s>(
        &mut self,
        turn: &Turn<'s>,
        port: &'s Interface,
        packet: &mut Packet,
    ) -> Result<&'s Interface, Drop> {
        // Frames that are not for us, whatever their VLAN, are the port's.
        ethernet::input(packet, port.mac)?;
        let len = packet.len() as u64;
        let vlan = match packet.meta().vlan & ethernet::VLAN_ID {
            0 if packet.meta().vlan == 0 => {
                ethernet::untag(packet).ok_or(Drop::EthernetTruncated)? & ethernet::VLAN_ID
            }
            beside => beside,
        };
        packet.meta_mut().vlan = 0;
        let mut interface = port;
        if vlan != 0 {
            let index = port.vlan(vlan).ok_or(Drop::EthernetUnknownVlan)?;
            interface = turn.snapshot.interface(index).ok_or(Drop::EthernetUnknownVlan)?;
            packet.meta_mut().received = index;
            interface.counters.received(turn.cx.cpu(), 1, len);
            self.tagged.0 += 1;
            self.tagged.1 += len;
        }
        if interface.state == State::Up { Ok(interface) } else { Err(Drop::InterfaceDown) }
    }
}
