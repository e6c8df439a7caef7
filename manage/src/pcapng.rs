//! The file format pcapng (draft-ietf-opsawg-pcapng), little-endian: blocks are appended to a vector.

use alloc::vec::Vec;
use core::fmt;

/// What wrote a capture, for its section header.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// The machine.
    pub hardware: &'a str,
    /// The operating system.
    pub os: &'a str,
    /// The program.
    pub application: &'a str,
}

/// An interface, for its description. Times are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes kept of a frame at most. All interfaces of a section have the same: libpcap wants that.
    pub snaplen: u32,
    /// The filter expression; may be empty.
    pub filter: &'a str,
}

/// Which way a packet went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// In.
    Inbound,
    /// Out.
    Outbound,
    /// Neither: it was lost, for this reason.
    Lost(&'static str),
}

/// A captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Nanoseconds.
    pub at_ns: u64,
    /// The interface's place among those of the section.
    pub interface: u32,
    /// The CPU, which is the queue.
    pub cpu: u32,
    /// Which way.
    pub direction: Direction,
    /// Its transport checksum is not finished.
    pub owed: bool,
    /// Its transport checksum was verified by hardware.
    pub verified: bool,
    /// It is a super-packet that hardware will cut.
    pub segments: bool,
    /// Bytes of the whole frame.
    pub len: u32,
    /// Its first bytes.
    pub bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// A whole frame that the first interface received, on the first CPU, and for which hardware did nothing.
    pub fn received(at_ns: u64, bytes: &'a [u8]) -> Self {
        let direction = Direction::Inbound;
        let (owed, verified, segments) = (false, false, false);
        let len = bytes.len() as u32;
        Self { at_ns, interface: 0, cpu: 0, direction, owed, verified, segments, len, bytes }
    }
}

/// What was counted of an interface, for its statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that passed.
    pub received: u64,
    /// Frames that the filter let pass.
    pub matched: u64,
    /// Of these those that found no room.
    pub dropped: u64,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

// Options: draft-ietf-opsawg-pcapng §§3.5, 4.1 to 4.6.
const END: u16 = 0;
const COMMENT: u16 = 1;
const SHB_HARDWARE: u16 = 2;
const SHB_OS: u16 = 3;
const SHB_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_RESOLUTION: u16 = 9;
const IF_FILTER: u16 = 11;
const EPB_FLAGS: u16 = 2;
const EPB_QUEUE: u16 = 6;
const ISB_RECEIVED: u16 = 4;
const ISB_ACCEPTED: u16 = 6;
const ISB_DROPPED: u16 = 7;

/// Begins a section. Its interfaces follow, in order.
pub fn section(out: &mut Vec<u8>, section: &Section<'_>) {
    block(out, SECTION, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        out.extend([1, 0, 0, 0]);
        // Of a length that is not known yet.
        out.extend(u64::MAX.to_le_bytes());
        option(out, SHB_HARDWARE, section.hardware.as_bytes());
        option(out, SHB_OS, section.os.as_bytes());
        option(out, SHB_APPLICATION, section.application.as_bytes());
        option(out, END, &[]);
    });
}

/// Describes the next interface.
pub fn interface(out: &mut Vec<u8>, interface: &Interface<'_>) {
    block(out, INTERFACE, |out| {
        out.extend(ETHERNET.to_le_bytes());
        out.extend([0; 2]);
        out.extend(interface.snaplen.to_le_bytes());
        option(out, IF_NAME, interface.name.as_bytes());
        option(out, IF_RESOLUTION, &[9]);
        if !interface.filter.is_empty() {
            // A filter as text begins with 0.
            option(out, IF_FILTER, &[&[0], interface.filter.as_bytes()].concat());
        }
        option(out, END, &[]);
    });
}

/// Adds a packet. A comment has its CPU, and the reason before if it was lost.
pub fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, PACKET, |out| {
        out.extend(packet.interface.to_le_bytes());
        time(out, packet.at_ns);
        out.extend((packet.bytes.len() as u32).to_le_bytes());
        out.extend(packet.len.to_le_bytes());
        padded(out, packet.bytes);
        let cpu = packet.cpu;
        let direction = match packet.direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
            Direction::Lost(_) => 0,
        };
        match packet.direction {
            Direction::Lost(reason) => text(out, COMMENT, format_args!("dropped: {reason}, cpu{cpu}")),
            _ => text(out, COMMENT, format_args!("cpu{cpu}")),
        }
        // §4.3.1: bit 9 not ready, bit 10 valid, bit 11 segmentation offload.
        let beside =
            u32::from(packet.owed) << 9 | u32::from(packet.verified) << 10 | u32::from(packet.segments) << 11;
        option(out, EPB_FLAGS, &(direction | beside).to_le_bytes());
        option(out, EPB_QUEUE, &cpu.to_le_bytes());
        option(out, END, &[]);
    });
}

/// Adds what was counted of `interface` until then.
pub fn statistics(out: &mut Vec<u8>, interface: u32, at_ns: u64, counts: Counts) {
    block(out, STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        time(out, at_ns);
        for (code, count) in
            [(ISB_RECEIVED, counts.received), (ISB_ACCEPTED, counts.matched), (ISB_DROPPED, counts.dropped)]
        {
            option(out, code, &count.to_le_bytes());
        }
        option(out, END, &[]);
    });
}

/// §3.1: type, length, body, length.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let len = ((out.len() - begin + 4) as u32).to_le_bytes();
    out.extend(len);
    if let Some(place) = out.get_mut(begin + 4..begin + 8) {
        place.copy_from_slice(&len);
    }
}

/// §4.3: the upper half first, each little-endian.
fn time(out: &mut Vec<u8>, at_ns: u64) {
    out.extend(((at_ns >> 32) as u32).to_le_bytes());
    out.extend((at_ns as u32).to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..value.len().min(u16::MAX.into())).unwrap_or_default();
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    padded(out, value);
}

/// An option of what is formatted, without memory of its own.
fn text(out: &mut Vec<u8>, code: u16, value: fmt::Arguments<'_>) {
    struct Text<'v>(&'v mut Vec<u8>);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    out.extend(code.to_le_bytes());
    out.extend([0; 2]);
    let begin = out.len();
    // It fails only if what is formatted does.
    let _ = fmt::Write::write_fmt(&mut Text(out), value);
    let len = out.len() - begin;
    if let Some(place) = out.get_mut(begin - 2..begin) {
        place.copy_from_slice(&(len as u16).to_le_bytes());
    }
    out.resize(begin + len.next_multiple_of(4), 0);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_the_draft_has_them() {
        let mut out = Vec::new();
        section(&mut out, &Section { hardware: "x86-64", os: "Weir", application: "weir" });
        assert_eq!(&out[..8], [0x0a, 0x0d, 0x0d, 0x0a, out.len() as u8, 0, 0, 0]);
        assert_eq!(&out[8..16], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
        assert_eq!(&out[16..24], [0xff; 8]);
        assert_eq!(&out[24..36], [2, 0, 6, 0, b'x', b'8', b'6', b'-', b'6', b'4', 0, 0]);
        out.clear();
        interface(&mut out, &Interface { name: "wan", snaplen: 96, filter: "udp" });
        let like = [
            &[1, 0, 0, 0, 48, 0, 0, 0, 1, 0, 0, 0, 96, 0, 0, 0][..],
            &[2, 0, 3, 0, b'w', b'a', b'n', 0, 9, 0, 1, 0, 9, 0, 0, 0],
            &[11, 0, 4, 0, 0, b'u', b'd', b'p', 0, 0, 0, 0, 48, 0, 0, 0],
        ];
        assert_eq!(out, like.concat());
        out.clear();
        let bytes = [1, 2, 3, 4, 5];
        let own = Packet {
            at_ns: 0x1_0000_0002,
            interface: 3,
            cpu: 1,
            direction: Direction::Lost("no-route"),
            owed: true,
            verified: false,
            segments: true,
            len: 60,
            bytes: &bytes,
        };
        packet(&mut out, &own);
        let like = [
            &[6, 0, 0, 0, 88, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0][..],
            &[1, 2, 3, 4, 5, 0, 0, 0, 1, 0, 23, 0],
            b"dropped: no-route, cpu1\0",
            &[2, 0, 4, 0, 0, 10, 0, 0, 6, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 88, 0, 0, 0],
        ];
        assert_eq!(out, like.concat());
        out.clear();
        statistics(&mut out, 2, 7, Counts { received: 9, matched: 8, dropped: 1 });
        let options =
            [&[4_u8, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0][..], &[6, 0, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(&out[8..20], [2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&out[20..44], options);
        assert_eq!(out.len(), 64);
    }

    #[test]
    fn a_block_of_any_content_says_its_length_twice_and_ends_on_a_word() {
        for len in 0..40 {
            let bytes = alloc::vec![7; len];
            for direction in [Direction::Inbound, Direction::Outbound, Direction::Lost("x")] {
                let mut out = alloc::vec![9];
                let verified = len % 2 == 0;
                let own = Packet { direction, verified, len: 99, ..Packet::received(u64::MAX, &bytes) };
                packet(&mut out, &own);
                let (first, last) = (&out[5..9], &out[out.len() - 4..]);
                assert_eq!((first, out.len() % 4), (last, 1));
                assert_eq!(u32::from_le_bytes(first.try_into().unwrap()) as usize, out.len() - 1);
            }
        }
    }
}
