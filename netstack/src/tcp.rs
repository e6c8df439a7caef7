//! Resets (RFC 9293 §3.10.7.1): what a segment to a port without a socket is answered with. All else of TCP is above.
//!
//! Called by the local stage, in softint context.

use crate::checksum::{TCP, pseudo4, pseudo6};
use crate::datagram::{IPV4_HEADER, IPV6_HEADER};
use core::net::IpAddr;
use weir_netif::{Checksum, Packet, Pool};

/// Bytes of a header without options.
const HEADER: usize = 20;
/// Hops of what the router itself sends.
const HOPS: u8 = 64;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Builds the reset that the segment of `len` bytes at `offset` of `original`, sent to `local`, is owed. It begins with its
/// IP header and has headroom. `None` if none is owed, as the segment is a reset or broken, or without a buffer.
pub fn reset(
    pool: &mut Pool,
    original: &Packet,
    (offset, len): (usize, usize),
    (local, remote): (IpAddr, IpAddr),
) -> Option<Packet> {
    let segment: &[u8; HEADER] = original.data().get(offset..)?.first_chunk()?;
    let &[f0, f1, t0, t1, s0, s1, s2, s3, a0, a1, a2, a3, data, flags, ..] = segment;
    let payload = len.checked_sub(usize::from(data >> 4) * 4).filter(|_| data >> 4 >= 5)?;
    if flags & RST != 0 {
        return None;
    }
    let counted = payload as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let (seq, ack, answer) = match flags & ACK != 0 {
        true => ([a0, a1, a2, a3], [0; 4], RST),
        false => {
            ([0; 4], u32::from_be_bytes([s0, s1, s2, s3]).wrapping_add(counted).to_be_bytes(), RST | ACK)
        }
    };
    let mut tcp = [0; HEADER];
    let fields = [[t0, t1, f0, f1], seq, ack, [5 << 4, answer, 0, 0]];
    tcp.iter_mut().zip(fields.as_flattened()).for_each(|(to, from)| *to = *from);
    let mut packet = pool.alloc()?;
    let written = match (local, remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            let mut sum = pseudo4(local, remote, TCP, HEADER as u32);
            sum.add(&tcp);
            let [high, low] = sum.checksum().to_be_bytes();
            (tcp[16], tcp[17]) = (high, low);
            let [total_high, total_low] = ((IPV4_HEADER + HEADER) as u16).to_be_bytes();
            let mut ip = [0; IPV4_HEADER];
            let fields = [[0x45, 0, total_high, total_low], [0, 0, 0x40, 0], [HOPS, TCP, 0, 0]];
            let fields = [fields.as_flattened(), &local.octets(), &remote.octets()];
            ip.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
            let [high, low] = crate::checksum::internet(&ip).to_be_bytes();
            (ip[10], ip[11]) = (high, low);
            packet.extend(&ip)
        }
        (IpAddr::V6(local), IpAddr::V6(remote)) => {
            let mut sum = pseudo6(local, remote, TCP, HEADER as u32);
            sum.add(&tcp);
            let [high, low] = sum.checksum().to_be_bytes();
            (tcp[16], tcp[17]) = (high, low);
            let mut ip = [0; IPV6_HEADER];
            let fixed = [0x60, 0, 0, 0, 0, HEADER as u8, TCP, HOPS];
            let fields = [&fixed[..], &local.octets(), &remote.octets()];
            ip.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
            packet.extend(&ip)
        }
        _ => false,
    };
    if !(written && packet.extend(&tcp)) {
        pool.free(packet);
        return None;
    }
    packet.meta_mut().received = original.meta().received;
    packet.meta_mut().checksum = Checksum::Verified;
    Some(packet)
}
