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
    let data = packet.data();
    let fixed = data.get(l3_offset..).and_then(|rest| rest.first_chunk::<FIXED>()).ok_or(Malformed)?;
    let [_, _, _, _, high, low, next, ..] = *fixed;
    let offset = l3_offset + FIXED;
    let upper = Upper { protocol: next, offset, fragment: None, routing: None, hop_by_hop: false };
    if !is_extension(next) {
        return Ok(upper);
    }
    let payload = usize::from(u16::from_be_bytes([high, low]));
    let headers = data.get(offset..).unwrap_or(&[]);
    let headers = if payload == 0 { headers } else { headers.get(..payload).unwrap_or(headers) };
    walk(headers, upper)
}

/// Whether `next` is a header this walk passes over.
#[inline]
fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

fn walk(headers: &[u8], mut upper: Upper) -> Result<Upper, Malformed> {
    let mut rest = headers;
    for passed in 0..=MAX_HEADERS {
        if !is_extension(upper.protocol) {
            return Ok(upper);
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
                let fragment =
                    FragmentInfo { header: upper.offset, offset: field & !7, more: field & 1 != 0, id };
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
        upper.protocol = next;
        upper.offset += bytes;
        if upper.is_later_fragment() {
            return Ok(upper);
        }
    }
    Err(Malformed)
}
