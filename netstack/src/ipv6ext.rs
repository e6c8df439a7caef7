//! The way through IPv6 extension headers to the upper layer (RFC 8200 §4), in bounded steps.

use crate::checksum::Malformed;
use weir_netif::Packet;

/// Hop-by-hop options' next-header value.
pub const HOP_BY_HOP: u8 = 0;
/// Routing header's.
pub const ROUTING: u8 = 43;
/// Fragment header's.
pub const FRAGMENT: u8 = 44;
/// Authentication header's (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// "No next header".
pub const NO_NEXT_HEADER: u8 = 59;
/// Destination options'.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Extension headers a packet may have.
const MAX_HEADERS: usize = 8;
/// Bytes of the fixed header.
const FIXED: usize = 40;

/// What a fragment header says (RFC 8200 §4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentInfo {
    /// Bytes from the start of the packet buffer to the fragment header.
    pub header: usize,
    /// Bytes from the start of the packet buffer to the next-header field that names it.
    pub named_at: usize,
    /// Where this fragment's data belongs, in bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

/// A routing header that was passed (RFC 8200 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Routing {
    /// Bytes from the start of the packet buffer to the header.
    pub header: usize,
    /// Routing type; 0 is deprecated (RFC 5095).
    pub kind: u8,
    /// Listed nodes yet to be visited.
    pub segments_left: u8,
}

/// Where the extension headers end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Next-header value of what stands at `offset`.
    pub protocol: u8,
    /// Bytes from the start of the packet buffer. Behind a fragment header with a non-zero offset it is fragment
    /// data, not a header.
    pub offset: usize,
    /// The fragment header, if there is one.
    pub fragment: Option<FragmentInfo>,
    /// The routing header, if there is one; of several, one of type 0 if any, else the last.
    pub routing: Option<Routing>,
    /// Whether there is a hop-by-hop options header.
    pub hop_by_hop: bool,
}

impl Upper {
    /// Whether this is a fragment other than the first, so that no upper-layer header follows.
    #[inline]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }

    /// Whether there is a routing header of type 0, which must not be followed (RFC 5095 §3).
    #[inline]
    pub fn has_routing_type0(&self) -> bool {
        self.routing.is_some_and(|routing| routing.kind == 0)
    }
}

/// Walks from the IPv6 header at `l3_offset` to the upper layer.
///
/// [`Malformed`] if the chain leaves the first segment or the payload, has more than 8 headers, or has hop-by-hop
/// options anywhere but first. A payload length of 0 stands for the rest of the packet (RFC 2675, super-packets).
#[inline]
pub fn upper_layer(packet: &Packet, l3_offset: usize) -> Result<Upper, Malformed> {
    find(packet, l3_offset).and_then(|(upper, whole)| whole.map(|()| upper))
}

/// Whether this is the first fragment of a packet whose headers do not end in it, which [`upper_layer`] refuses.
pub fn is_cut_first_fragment(packet: &Packet, l3_offset: usize) -> bool {
    let first = |fragment: FragmentInfo| fragment.offset == 0 && fragment.more;
    find(packet, l3_offset).is_ok_and(|(upper, whole)| whole.is_err() && upper.fragment.is_some_and(first))
}

/// How far the walk comes, and whether that is the upper layer.
#[inline]
fn find(packet: &Packet, l3_offset: usize) -> Result<(Upper, Result<(), Malformed>), Malformed> {
    let data = packet.data();
    let fixed = data.get(l3_offset..).and_then(|rest| rest.first_chunk::<FIXED>()).ok_or(Malformed)?;
    let [_, _, _, _, high, low, next, ..] = *fixed;
    let offset = l3_offset + FIXED;
    let mut upper = Upper { protocol: next, offset, fragment: None, routing: None, hop_by_hop: false };
    if !is_extension(next) {
        return Ok((upper, Ok(())));
    }
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let headers = data.get(offset..).unwrap_or(&[]);
    let headers = if payload == 0 { headers } else { headers.get(..payload).unwrap_or(headers) };
    let whole = walk(headers, &mut upper);
    Ok((upper, whole))
}

/// Whether `next` is a header this walk passes over.
#[inline]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

fn walk(headers: &[u8], upper: &mut Upper) -> Result<(), Malformed> {
    let (mut rest, mut named_at) = (headers, upper.offset - FIXED + 6);
    for passed in 0..=MAX_HEADERS {
        if !is_extension(upper.protocol) {
            return Ok(());
        }
        let &[next, length, byte2, byte3, byte4, byte5, byte6, byte7] =
            rest.first_chunk::<8>().ok_or(Malformed)?;
        let mut bytes = 8 * (usize::from(length) + 1);
        match upper.protocol {
            HOP_BY_HOP if passed == 0 => upper.hop_by_hop = true,
            HOP_BY_HOP => return Err(Malformed),
            ROUTING if !upper.has_routing_type0() => {
                upper.routing = Some(Routing { header: upper.offset, kind: byte2, segments_left: byte3 });
            }
            FRAGMENT => {
                let field = u16::from_be_bytes([byte2, byte3]);
                let id = u32::from_be_bytes([byte4, byte5, byte6, byte7]);
                let (offset, more) = (field & !7, field & 1 != 0);
                let fragment = FragmentInfo { header: upper.offset, named_at, offset, more, id };
                // A fragment of a fragment cannot be: only the source fragments (RFC 8200 §4.5).
                if upper.fragment.replace(fragment).is_some() {
                    return Err(Malformed);
                }
                // The length byte is reserved here.
                bytes = 8;
            }
            AUTHENTICATION => bytes = 4 * (usize::from(length) + 2),
            _ => {}
        }
        rest = rest.get(bytes..).ok_or(Malformed)?;
        named_at = upper.offset;
        upper.protocol = next;
        upper.offset += bytes;
        if upper.is_later_fragment() {
            return Ok(());
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{ETHERNET, assert_nothing_leaked, chain, ethernet, ipv6, pool};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const FIRST: usize = ETHERNET + FIXED;

    fn walk_frame(next: u8, data: &[u8], first_segment: usize) -> Result<Upper, Malformed> {
        let mut pool = pool(8);
        let packet = chain(&mut pool, &[ethernet(0x86dd), ipv6(next, data)].concat(), &[first_segment]);
        let upper = upper_layer(&packet, ETHERNET);
        pool.free(packet);
        assert_nothing_leaked(&mut pool);
        upper
    }

    fn options(next: u8, words: usize) -> Vec<u8> {
        let mut header = vec![0; words * 8];
        header[..2].copy_from_slice(&[next, (words - 1) as u8]);
        header
    }

    #[test]
    fn without_extension_headers_the_upper_layer_follows() {
        for protocol in [6, 17, 58, 50, 59, 89, 135, 255] {
            let upper = walk_frame(protocol, &[], 1500).unwrap();
            let expected =
                Upper { protocol, offset: FIRST, fragment: None, routing: None, hop_by_hop: false };
            assert_eq!(upper, expected);
        }
    }

    #[test]
    fn passes_every_kind_of_header_by_its_own_length_rule() {
        let data = [
            options(60, 1),
            options(43, 3),
            vec![51, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // An authentication header counts in 4-byte units, less two.
            vec![44, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // The second byte of a fragment header is no length.
            vec![6, 77, 0, 1, 1, 2, 3, 4],
            vec![0; 20],
        ]
        .concat();
        let upper = walk_frame(0, &data, 1500).unwrap();
        assert_eq!((upper.protocol, upper.offset), (6, FIRST + 8 + 24 + 24 + 24 + 8));
        assert!(upper.hop_by_hop && !upper.is_later_fragment() && !upper.has_routing_type0());
        assert_eq!(upper.routing, Some(Routing { header: FIRST + 32, kind: 4, segments_left: 1 }));
        let (header, named_at, id) = (FIRST + 80, FIRST + 56, 0x0102_0304);
        let fragment = FragmentInfo { header, named_at, offset: 0, more: true, id };
        assert_eq!(upper.fragment, Some(fragment));
    }

    #[test]
    fn a_later_fragment_ends_the_walk_whatever_follows() {
        let data = [vec![60, 0, 0x05, 0xa0, 0, 0, 0, 1], vec![0xff; 8]].concat();
        let upper = walk_frame(44, &data, 1500).unwrap();
        assert!(upper.is_later_fragment());
        assert_eq!((upper.protocol, upper.offset), (60, FIRST + 8));
        assert_eq!(upper.fragment.map(|fragment| (fragment.offset, fragment.more)), Some((1440, false)));
    }

    #[test]
    fn a_routing_header_of_type_0_is_reported_wherever_it_stands() {
        let routing = |next, kind, left| vec![next, 0, kind, left, 0, 0, 0, 0];
        for data in [
            [routing(43, 0, 1), routing(6, 4, 0)].concat(),
            [routing(43, 4, 0), routing(6, 0, 1)].concat(),
            [options(43, 2), routing(6, 0, 1)].concat(),
        ] {
            let next = if data[1] == 1 { 60 } else { 43 };
            assert!(walk_frame(next, &data, 1500).unwrap().has_routing_type0());
        }
        assert!(!walk_frame(43, &routing(6, 2, 1), 1500).unwrap().has_routing_type0());
    }

    #[test]
    fn eight_headers_pass_and_nine_do_not() {
        let chain_of = |count: usize| {
            let headers = (1..=count).map(|nth| options(if nth == count { 17 } else { 60 }, 1));
            headers.collect::<Vec<_>>().concat()
        };
        assert_eq!(walk_frame(60, &chain_of(8), 1500).map(|upper| upper.offset), Ok(FIRST + 64));
        assert_eq!(walk_frame(60, &chain_of(9), 1500), Err(Malformed));
    }

    #[test]
    fn hundreds_of_bytes_of_options_pass() {
        let data = [options(60, 100), options(6, 40)].concat();
        assert_eq!(walk_frame(0, &data, 1500).map(|upper| upper.offset), Ok(FIRST + 1120));
    }

    #[test]
    fn refuses_chains_that_break() {
        let cases: [(&str, u8, Vec<u8>, usize); 6] = [
            ("past the payload", 60, vec![6, 1, 0, 0, 0, 0, 0, 0], 1500),
            ("cut inside a header", 60, vec![6, 0, 0, 0], 1500),
            ("past the first segment", 60, options(6, 2), FIRST + 15),
            ("hop-by-hop second", 60, [options(0, 1), options(6, 1)].concat(), 1500),
            ("hop-by-hop twice", 0, [options(0, 1), options(6, 1)].concat(), 1500),
            (
                "two fragment headers",
                44,
                [[44, 0, 0, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0, 0, 0]].concat(),
                1500,
            ),
        ];
        for (what, next, data, first_segment) in cases {
            assert_eq!(walk_frame(next, &data, first_segment), Err(Malformed), "{what}");
        }
        let mut pool = pool(2);
        let packet = chain(&mut pool, &[0x60; 39], &[]);
        assert_eq!(upper_layer(&packet, 0), Err(Malformed));
        assert_eq!(upper_layer(&packet, usize::MAX), Err(Malformed));
        pool.free(packet);
    }

    #[test]
    fn headers_end_with_the_payload_though_the_frame_goes_on() {
        let mut pool = pool(2);
        let mut frame = [ethernet(0x86dd), ipv6(60, &options(17, 1))].concat();
        frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&[0, 7]);
        let packet = chain(&mut pool, &frame, &[]);
        assert_eq!(upper_layer(&packet, ETHERNET), Err(Malformed));
        pool.free(packet);
    }

    proptest! {
        #[test]
        fn the_upper_layer_lies_within_the_first_segment(
            next in prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60)],
            data in prop::collection::vec(
                prop_oneof![Just(0u8), Just(1), Just(43), Just(44), Just(51), Just(60), any::<u8>()], 0..200),
            first in 0usize..300,
        ) {
            if let Ok(upper) = walk_frame(next, &data, first) {
                prop_assert!(upper.offset <= (FIRST + data.len()).min(first.max(FIRST)));
                prop_assert!(upper.is_later_fragment() || !is_extension(upper.protocol));
            }
        }
    }
}
