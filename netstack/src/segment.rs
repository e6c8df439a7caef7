//! Cuts TCP super-packets into frames, where the egress device cannot (segmentation offload in software).
//!
//! Called by the egress stage, in softint context. Copies: the frames are linear whatever the super-packet's chain
//! looks like, unless they exceed one buffer.

use crate::checksum::{self, TCP, internet, pseudo4, pseudo6};
use crate::datagram::{self, IPV6_HEADER, field};
use crate::ipv6ext;
use crate::pieces::{MAX_PIECES, all_or_nothing, cursor};
use weir_netif::{Checksum, Drop, Gso, GsoKind, Packet, Pool};

/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Where its checksum stands.
const TCP_CHECKSUM: u16 = 16;
/// Bytes of headers a super-packet may have, from the start of the frame.
const MAX_HEADERS: usize = 1024;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What becomes of the frames' TCP checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksums {
    /// Complete in the bytes.
    Finish,
    /// Owed, for a device with `TX_CHECKSUM`.
    Leave,
}

/// Cuts the super-packet `packet`, whose IP header begins at `l3_offset`, and hands the frames to `out` in order.
/// Returns how many.
///
/// Each frame gets its own length, sequence number, IPv4 identification (counting up) and IPv4 header checksum. FIN and
/// PSH stay on the last one alone, and CWR on the first if the metadata says ECN (RFC 3168 §6.1.2); else all keep it.
///
/// # Errors
/// The packet is freed and nothing is handed out: [`Drop::OffloadMalformed`] if metadata and bytes disagree,
/// [`Drop::OffloadUnsupported`] for more than 1024 frames, [`Drop::NoBuffer`] when the pool ran dry.
pub fn segment(
    packet: Packet,
    l3_offset: usize,
    checksums: Checksums,
    pool: &mut Pool,
    out: impl FnMut(&mut Pool, Packet),
) -> Result<usize, Drop> {
    let result = Plan::new(&packet, l3_offset)
        .ok_or(Drop::OffloadMalformed)
        .and_then(|plan| plan.cut(&packet, checksums, pool, out));
    pool.free(packet);
    result
}

/// Bytes, from the IP header on, of the largest frame that [`segment`] would make; `None` for what it would refuse as
/// malformed. This is what to compare with an MTU.
#[inline]
pub fn largest(packet: &Packet, l3_offset: usize) -> Option<usize> {
    Plan::new(packet, l3_offset).map(|plan| plan.headers - l3_offset + plan.payload.min(plan.size))
}

/// How to cut.
struct Plan {
    gso: Gso,
    l3: usize,
    /// Start of the TCP header.
    l4: usize,
    /// Bytes of all headers, from the start of the frame.
    headers: usize,
    /// Bytes behind them.
    payload: usize,
    /// Bytes of payload a frame carries.
    size: usize,
    /// Of the first frame.
    id: u16,
    sequence: u32,
    flags: u8,
}

impl Plan {
    /// `None` if metadata and bytes disagree.
    fn new(packet: &Packet, l3: usize) -> Option<Plan> {
        let gso = packet.meta().gso?;
        let (l4, total, id) = match gso.kind {
            GsoKind::Tcp4 => {
                let ip = datagram::Ipv4::parse(packet, l3)?;
                let fragment = ip.flags_offset() & 0x3fff != 0;
                (ip.protocol() == TCP && !fragment).then_some((l3 + ip.header, ip.total, ip.id()))?
            }
            GsoKind::Tcp6 => {
                let ip = datagram::Ipv6::parse(packet, l3)?;
                let upper = ipv6ext::upper_layer(packet, l3).ok()?;
                (upper.protocol == TCP && upper.fragment.is_none()).then_some((upper.offset, ip.total, 0))?
            }
        };
        let tcp = packet.data().get(l4..)?;
        let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = *tcp.first_chunk::<TCP_HEADER>()?;
        let tcp_header = usize::from(offset >> 4) * 4;
        let headers = l4 + tcp_header;
        let size = usize::from(gso.size);
        let owed = Checksum::Partial { start: u16::try_from(l4).ok()?, offset: TCP_CHECKSUM };
        let sound = packet.meta().checksum == owed
            && (TCP_HEADER..=tcp.len()).contains(&tcp_header)
            && headers <= MAX_HEADERS
            && size > 0
            && headers - l3 + size <= usize::from(u16::MAX);
        if !sound {
            return None;
        }
        let payload = total.checked_sub(headers - l3)?;
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        Some(Plan { gso, l3, l4, headers, payload, size, id, sequence, flags })
    }

    fn cut(
        &self,
        packet: &Packet,
        checksums: Checksums,
        pool: &mut Pool,
        out: impl FnMut(&mut Pool, Packet),
    ) -> Result<usize, Drop> {
        // Without payload it is one frame still.
        let count = self.payload.div_ceil(self.size).max(1);
        if count > MAX_PIECES {
            return Err(Drop::OffloadUnsupported);
        }
        let mut payload = cursor(packet, self.headers);
        let make = |index, pool: &mut Pool| {
            let mut frame = pool.alloc()?;
            let len = self.size.min(self.payload - index * self.size);
            let made = cursor(packet, 0)
                .copy(self.headers, &mut frame, pool)
                .and_then(|()| payload.copy(len, &mut frame, pool))
                .and_then(|()| self.adjust(packet, &mut frame, index, len))
                .filter(|()| {
                    checksums == Checksums::Leave || checksum::finish_at(&mut frame, self.l3).is_ok()
                });
            if made.is_none() {
                pool.free(frame);
                return None;
            }
            Some(frame)
        };
        all_or_nothing(count, pool, make, out).ok_or(Drop::NoBuffer)?;
        Ok(count)
    }

    /// Makes the copied headers those of frame `index` with `len` bytes of payload. `None` never: `new` has seen that
    /// the fields are there.
    fn adjust(&self, packet: &Packet, frame: &mut Packet, index: usize, len: usize) -> Option<()> {
        *frame.meta_mut() = *packet.meta();
        frame.meta_mut().gso = None;
        let l4_len = self.headers - self.l4 + len;
        let pseudo = match self.gso.kind {
            GsoKind::Tcp4 => {
                let total = (self.l4 - self.l3 + l4_len) as u16;
                *field(frame, self.l3 + 2)? = total.to_be_bytes();
                *field(frame, self.l3 + 4)? = self.id.wrapping_add(index as u16).to_be_bytes();
                *field(frame, self.l3 + 10)? = [0, 0];
                let header = internet(frame.data().get(self.l3..self.l4)?);
                *field(frame, self.l3 + 10)? = header.to_be_bytes();
                let ip = datagram::Ipv4::parse(frame, self.l3)?;
                pseudo4(ip.source(), ip.destination(), TCP, l4_len as u32)
            }
            GsoKind::Tcp6 => {
                let payload = (self.l4 - self.l3 - IPV6_HEADER + l4_len) as u16;
                *field(frame, self.l3 + 4)? = payload.to_be_bytes();
                let ip = datagram::Ipv6::parse(frame, self.l3)?;
                pseudo6(ip.source(), ip.destination(), TCP, l4_len as u32)
            }
        };
        let offset = index * self.size;
        let mut flags = self.flags;
        if offset + len < self.payload {
            flags &= !(FIN | PSH);
        }
        if offset > 0 && self.gso.ecn {
            flags &= !CWR;
        }
        *field(frame, self.l4 + 4)? = self.sequence.wrapping_add(offset as u32).to_be_bytes();
        *field(frame, self.l4 + 13)? = [flags];
        *field(frame, self.l4 + usize::from(TCP_CHECKSUM))? = pseudo.fold().to_be_bytes();
        Some(())
    }
}

#[cfg(test)]
mod tests;
