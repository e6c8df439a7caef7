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
    ) -> Result<(&'s Interface, Payload), Drop> {
        let len = packet.len() as u64;
        let vlan = match packet.meta().vlan {
            0 => ethernet::untag(packet).ok_or(Drop::EthernetTruncated)? & ethernet::VLAN_ID,
            beside => beside,
        };
        let mut interface = port;
        if vlan != 0 {
            let index = port.vlan(vlan).ok_or(Drop::EthernetUnknownVlan)?;
            interface = turn.snapshot.interface(index).ok_or(Drop::EthernetUnknownVlan)?;
            let meta = packet.meta_mut();
            (meta.received, meta.vlan) = (index, 0);
            interface.counters.received(turn.cx.cpu(), 1, len);
            self.tagged.0 += 1;
            self.tagged.1 += len;
        }
        if interface.state != State::Up {
            return Err(Drop::InterfaceDown);
        }
        let kind = ethernet::kind(packet.data()).ok_or(Drop::EthernetTruncated)?;
        Ok((interface, ethernet::payload(kind)?))
    }
}
