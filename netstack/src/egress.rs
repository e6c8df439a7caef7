//! The way out: frames are made to fit their device and gathered in one batch an interface.
//!
//! `[C]` Called by the path with whole frames, in softint context. What a device does itself (checksums,
//! segmentation) is left to it; what it does not, is done here.

use crate::boxed;
use crate::capture::{Direction, Framing};
use crate::checksum;
use crate::ethernet;
use crate::fragment::fragment4;
use crate::segment::{self, Checksums};
use crate::snapshot::{Interface, Snapshot};
use crate::stack::Turn;
use alloc::boxed::Box;
use core::net::{IpAddr, Ipv6Addr};
use weir_netif::{BATCH, Batch, Drop, Gso, GsoKind, IfIndex, Offloads, Packet, Pool};
use weir_sync::Softint;

/// The application's side: where batches go.
pub trait Egress {
    /// Transmits the packets of `batch` from the front, or passes them on, and says who transmits those of `interface`. What
    /// it leaves is dropped.
    fn flush(&mut self, interface: IfIndex, batch: &mut Batch, pool: &mut Pool) -> Carrier;

    /// Whether a queue of this CPU would transmit the frames of `interface` now. Asked while something captures.
    fn transmits(&self, _interface: IfIndex) -> bool {
        true
    }

    /// Takes a packet whose flow's state is another CPU's there, to go on in [`Stack::resume`](crate::Stack::resume).
    /// It comes back where it is this CPU's to go on with. `hash` is its flow's ([`flow::hash`](crate::flow::hash)).
    fn bring_home(&mut self, packet: Packet, _hash: u32) -> Option<Packet> {
        Some(packet)
    }

    /// Another router said `message`, an ICMPv6 message that is valid, on an interface that heeds routers.
    fn advertised(&mut self, _interface: IfIndex, _router: Ipv6Addr, _message: &[u8]) {}

    /// The station `by` has, or wants, an address of this interface. Of [`Claim::Ours`](crate::snapshot::Claim::Ours) it is
    /// told as seldom as such an address is defended.
    fn contested(&mut self, _interface: IfIndex, _address: IpAddr, _by: [u8; 6]) {}

    /// Hands a packet to the sockets of this CPU, which its flow belongs to.
    fn deliver(&mut self, packet: Packet, _local: &Local<'_>) -> Delivery {
        Delivery::NoSocket(packet)
    }
}

/// A packet for a socket of the router.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Where it came in by.
    pub interface: &'a Interface,
    /// What it is.
    pub kind: Upper,
    /// The port of this side: the destination's; of an error, the source's that is quoted in it. Of an echo request its
    /// identifier.
    pub port: u16,
}

/// What sockets take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upper {
    /// A TCP segment.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// An ICMP error about a TCP segment.
    TcpError,
    /// An ICMP error about a UDP datagram.
    UdpError,
    /// The reply to an echo request.
    Echo,
    /// An ICMP error about one.
    EchoError,
}

/// What became of a packet for a socket.
#[derive(Debug)]
pub enum Delivery {
    /// It is there.
    Taken,
    /// Nobody has that port, or not for this interface.
    NoSocket(Packet),
    /// Too many wait already.
    Full(Packet),
}

/// Who transmits on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    /// A queue of this CPU: what it takes is counted as sent, what it leaves is a [`Drop::TxRingFull`].
    ThisCpu,
    /// Another CPU, which counts; what finds no room on the way to it is a [`Drop::HandoffFull`].
    AnotherCpu,
    /// Nobody: all frames are left, and dropped for this reason.
    Nobody(Drop),
}

/// What is left of a turn when its pool is lent elsewhere.
struct Ports<'t> {
    cx: &'t Softint,
    snapshot: &'t Snapshot,
    egress: &'t mut dyn Egress,
}

/// Interfaces that frames can be gathered for at once: as many as a word has bits.
const LANES: usize = 64;

/// Frames for one interface.
#[derive(Debug, Default)]
struct Lane {
    interface: IfIndex,
    batch: Batch,
    bytes: u64,
}

/// Where frames for an interface are gathered. Interfaces on VLANs have the indices behind those of devices: the first of
/// them is to meet none of the first devices.
#[inline]
fn lane(interface: IfIndex) -> usize {
    let index = interface.index();
    (index ^ (index / LANES * 37)) % LANES
}

/// The batches on their way out.
#[derive(Debug)]
pub(crate) struct Lanes {
    /// An interface's lane is [`lane`] of its index: who finds another's frames there sends them off.
    lanes: Box<[Lane; LANES]>,
    /// A bit for each lane with frames.
    taken: u64,
    /// Interfaces there can be.
    interfaces: usize,
    /// Frames that one packet became more than one of.
    split: u64,
    /// Interfaces whose batches go to the application as they are: all there can be, or none while something captures. What
    /// is behind them is looked at once more, so that a look at captures costs nothing without any.
    unseen: usize,
}

impl Lanes {
    pub(crate) fn new(interfaces: usize) -> Self {
        Self { lanes: boxed::array(Lane::default), taken: 0, interfaces, split: 0, unseen: interfaces }
    }

    /// Whether something captures, or did a moment ago: see [`Stack::listen`](crate::Stack::listen).
    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.unseen == 0
    }

    /// From now on something captures, or nothing does.
    pub(crate) fn listen(&mut self, tapped: bool) {
        self.unseen = if tapped { 0 } else { self.interfaces };
    }

    /// Takes a frame for `out`: whole, with its addresses.
    #[inline]
    pub(crate) fn send(&mut self, turn: &mut Turn<'_>, out: &Interface, packet: Packet) {
        let (meta, len) = (packet.meta(), packet.len());
        let plain = meta.is_plain();
        let (mut ports, pool) = split(turn);
        if plain && len <= ethernet::HEADER + usize::from(out.mtu) {
            self.emit(&mut ports, pool, out, packet, len);
        } else if let Err((reason, received)) = self.adapt(&mut ports, pool, out, packet) {
            ports.lost(received, reason);
        }
    }

    /// Takes a frame of `len` bytes that fits `to` and owes nothing.
    #[inline]
    pub(crate) fn whole(&mut self, turn: &mut Turn<'_>, to: IfIndex, packet: Packet, len: usize) {
        let Some(lane) = self.lanes.get_mut(lane(to)) else { return };
        // Neither the first frame nor the last that there is room for.
        if (lane.interface == to) & (lane.batch.len().wrapping_sub(1) < BATCH - 2) {
            lane.bytes += len as u64;
            let _ = lane.batch.try_push(packet).map_err(|full| turn.pool.free(full.element()));
        } else {
            let (mut ports, pool) = split(turn);
            self.push(&mut ports, pool, to, packet, len);
        }
    }

    /// Takes a batch of untagged frames of one Ethernet type that fit `to` and owe nothing, `bytes` bytes of them, and leaves it
    /// empty.
    #[inline]
    pub(crate) fn all(&mut self, turn: &mut Turn<'_>, to: IfIndex, batch: &mut Batch, bytes: u64) {
        // What came before goes before.
        self.flush(turn);
        let (mut ports, pool) = split(turn);
        if to.index() < self.unseen {
            ports.flush(pool, to, batch, bytes);
        } else {
            self.all_seen(&mut ports, pool, to, batch, bytes);
        }
    }

    /// The same while something captures, or for an interface that cannot be.
    #[cold]
    #[inline(never)]
    fn all_seen(&self, ports: &mut Ports<'_>, pool: &mut Pool, to: IfIndex, batch: &mut Batch, bytes: u64) {
        if to.index() < self.interfaces {
            let kind = batch.first().and_then(|packet| ethernet::kind(packet.data()));
            ports.tap((to, kind), batch);
            ports.flush(pool, to, batch, bytes);
        } else {
            batch.drain(..).for_each(|packet| ports.discard(pool, packet, Drop::InterfaceUnconfigured));
        }
    }

    /// Hands over frames that another CPU made ready for `interface`.
    pub(crate) fn carry(&mut self, turn: &mut Turn<'_>, interface: IfIndex, batch: &mut Batch) {
        let (mut ports, pool) = split(turn);
        for packet in batch.drain(..) {
            let len = packet.len();
            self.push(&mut ports, pool, interface, packet, len);
        }
        self.flush(turn);
    }

    /// Hands all frames over.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        let (mut ports, pool) = split(turn);
        while self.taken != 0 {
            let number = self.taken.trailing_zeros() as usize;
            self.taken &= self.taken - 1;
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.flush(&mut ports, pool, self.unseen);
            }
        }
    }

    /// How many frames there are more than packets that became them.
    pub(crate) fn split(&self) -> u64 {
        self.split
    }

    /// Takes a frame that fits `out`.
    #[inline]
    fn emit(&mut self, ports: &mut Ports<'_>, pool: &mut Pool, out: &Interface, packet: Packet, len: usize) {
        if out.link.vlan == 0 {
            self.push(ports, pool, out.index, packet, len);
        } else {
            self.emit_tagged(ports, pool, out, packet);
        }
    }

    #[inline(never)]
    fn emit_tagged(&mut self, ports: &mut Ports<'_>, pool: &mut Pool, out: &Interface, packet: Packet) {
        match tagged(packet, pool, out.link.vlan) {
            Ok(packet) => {
                let len = packet.len();
                self.push(ports, pool, out.index, packet, len);
            }
            Err(packet) => ports.discard(pool, packet, Drop::NoBuffer),
        }
    }

    #[inline(never)]
    fn push(&mut self, ports: &mut Ports<'_>, pool: &mut Pool, to: IfIndex, packet: Packet, len: usize) {
        let number = lane(to);
        let lane = self.lanes.get_mut(number).filter(|_| to.index() < self.interfaces);
        let Some(lane) = lane else { return ports.discard(pool, packet, Drop::InterfaceUnconfigured) };
        if lane.interface != to {
            lane.flush(ports, pool, self.unseen);
            lane.interface = to;
        }
        lane.bytes += len as u64;
        // Never full here: a batch that became full was flushed.
        if let Err(full) = lane.batch.try_push(packet) {
            return ports.discard(pool, full.element(), Drop::TxRingFull);
        }
        self.taken |= 1 << number;
        if lane.batch.is_full() {
            lane.flush(ports, pool, self.unseen);
        }
    }

    /// Makes a frame fit `out`. An error is the reason it was freed for uncounted, and the interface it came in by.
    #[cold]
    fn adapt(
        &mut self,
        ports: &mut Ports<'_>,
        pool: &mut Pool,
        out: &Interface,
        mut packet: Packet,
    ) -> Result<(), (Drop, IfIndex)> {
        let received = packet.meta().received;
        let fail = |ports: &mut Ports<'_>, pool: &mut Pool, packet: Packet, reason| {
            ports.discard(pool, packet, reason);
            Ok(())
        };
        let (mtu, len) = (usize::from(out.mtu), packet.len());
        let ipv4 = ethernet::kind(packet.data()) == Some(ethernet::IPV4);
        let can_checksum = out.offloads.contains(Offloads::TX_CHECKSUM);
        let pieces = if let Some(gso) = packet.meta().gso {
            let Some(largest) = segment::largest(&packet, ethernet::HEADER) else {
                return fail(ports, pool, packet, Drop::OffloadMalformed);
            };
            if out.offloads.contains(needed(gso)) && largest <= mtu {
                self.emit(ports, pool, out, packet, len);
                return Ok(());
            }
            let fits = largest <= mtu;
            let checksums = if fits && can_checksum { Checksums::Leave } else { Checksums::Finish };
            let mut more = 0;
            let cut = segment::segment(packet, ethernet::HEADER, checksums, pool, |pool, piece| {
                let len = piece.len();
                if len <= ethernet::HEADER + mtu {
                    self.emit(ports, pool, out, piece, len);
                } else if ipv4 {
                    more += self.fragment(ports, pool, out, piece);
                } else {
                    ports.discard(pool, piece, Drop::TooBig);
                }
            });
            cut.map(|pieces| pieces as u64 + more)
        } else if len > ethernet::HEADER + mtu {
            if !ipv4 {
                return fail(ports, pool, packet, Drop::TooBig);
            }
            Ok(1 + self.fragment(ports, pool, out, packet))
        } else {
            let sound = if can_checksum {
                checksum::is_owed_soundly(&packet, ethernet::HEADER)
            } else {
                checksum::finish(&mut packet).is_ok()
            };
            if !sound {
                return fail(ports, pool, packet, Drop::OffloadMalformed);
            }
            self.emit(ports, pool, out, packet, len);
            return Ok(());
        };
        match pieces {
            Ok(pieces) => {
                self.split += pieces.saturating_sub(1);
                Ok(())
            }
            Err(reason) => Err((reason, received)),
        }
    }

    /// Sends an IPv4 packet in fragments. Returns how many there are beside the first.
    fn fragment(&mut self, ports: &mut Ports<'_>, pool: &mut Pool, out: &Interface, packet: Packet) -> u64 {
        let received = packet.meta().received;
        let cut = fragment4(packet, ethernet::HEADER, out.mtu.into(), pool, |pool, piece| {
            let len = piece.len();
            self.emit(ports, pool, out, piece, len);
        });
        match cut {
            Ok(pieces) => (pieces as u64).saturating_sub(1),
            Err(reason) => {
                ports.lost(received, reason);
                0
            }
        }
    }
}

impl Lane {
    fn flush(&mut self, ports: &mut Ports<'_>, pool: &mut Pool, unseen: usize) {
        let bytes = core::mem::take(&mut self.bytes);
        if unseen == 0 && !self.batch.is_empty() {
            ports.tap((self.interface, None), &self.batch);
        }
        ports.flush(pool, self.interface, &mut self.batch, bytes);
    }
}

impl Ports<'_> {
    /// Hands a batch of `bytes` bytes over, and leaves it empty.
    #[inline]
    fn flush(&mut self, pool: &mut Pool, interface: IfIndex, batch: &mut Batch, mut bytes: u64) {
        if batch.is_empty() {
            return;
        }
        let packets = batch.len();
        let carrier = self.egress.flush(interface, batch, pool);
        let left = batch.len();
        if left != 0 {
            bytes = bytes.saturating_sub(self.refuse(pool, batch, carrier));
        }
        if carrier == Carrier::ThisCpu {
            let sent = packets.saturating_sub(left) as u64;
            self.snapshot.counters(interface).sent(self.cx.cpu(), sent, bytes);
        }
    }

    /// Shows captures what is about to be sent by an interface, all of one Ethernet type if that is known.
    #[cold]
    #[inline(never)]
    fn tap(&self, (interface, kind): (IfIndex, Option<u16>), batch: &Batch) {
        // What goes to another CPU is shown there.
        if self.egress.transmits(interface) {
            self.snapshot.taps().pass(self.cx, self.snapshot, Direction::Out, (interface, kind), batch);
        }
    }

    /// Counts a packet of which nothing is left.
    #[cold]
    fn lost(&self, received: IfIndex, reason: Drop) {
        self.snapshot.counters(received).dropped(self.cx.cpu(), reason);
        self.snapshot.taps().vanished(self.cx, received, reason);
    }

    /// Ends the way of what was left, and counts its bytes.
    #[cold]
    fn refuse(&mut self, pool: &mut Pool, batch: &mut Batch, carrier: Carrier) -> u64 {
        let reason = match carrier {
            Carrier::ThisCpu => Drop::TxRingFull,
            Carrier::AnotherCpu => Drop::HandoffFull,
            Carrier::Nobody(reason) => reason,
        };
        let mut bytes = 0;
        for packet in batch.drain(..) {
            bytes += packet.len() as u64;
            self.discard(pool, packet, reason);
        }
        bytes
    }

    fn discard(&mut self, pool: &mut Pool, packet: Packet, reason: Drop) {
        self.snapshot.counters(packet.meta().received).dropped(self.cx.cpu(), reason);
        self.snapshot.taps().dropped(self.cx, &packet, Framing::Whole, reason);
        pool.free(packet);
    }
}

fn split<'t>(turn: &'t mut Turn<'_>) -> (Ports<'t>, &'t mut Pool) {
    (Ports { cx: turn.cx, snapshot: turn.snapshot, egress: turn.egress }, turn.pool)
}

/// A frame with the tag of `vlan`; as it was if it has no headroom and no buffer is left.
fn tagged(mut packet: Packet, pool: &mut Pool, vlan: u16) -> Result<Packet, Packet> {
    if !ethernet::tag(&mut packet, vlan) {
        packet = with_headroom(packet, pool)?;
        // A frame that is sent has a whole header.
        let _ = ethernet::tag(&mut packet, vlan);
    }
    Ok(packet)
}

/// Moves a packet's first segment to where it has headroom. Backends of Xen fill buffers from the first byte on, so
/// whatever comes from them and goes to a VLAN is copied here.
fn with_headroom(mut packet: Packet, pool: &mut Pool) -> Result<Packet, Packet> {
    let Some(mut front) = pool.alloc() else { return Err(packet) };
    *front.meta_mut() = *packet.meta();
    let len = packet.data().len().min(front.tail_room());
    // All headers are in what moves: a buffer holds more than they can have.
    if !(front.extend(packet.data().get(..len).unwrap_or(&[])) && packet.pull(len)) {
        pool.free(front);
        return Err(packet);
    }
    if packet.is_empty() {
        pool.free(packet);
    } else {
        front.append(packet);
    }
    Ok(front)
}

/// What a device must be able to do to take a super-packet.
fn needed(gso: Gso) -> Offloads {
    let kind = match gso.kind {
        GsoKind::Tcp4 => Offloads::TX_TCP4,
        GsoKind::Tcp6 => Offloads::TX_TCP6,
    };
    let ecn = if gso.ecn { Offloads::TX_ECN } else { Offloads::empty() };
    Offloads::TX_CHECKSUM | kind | ecn
}
