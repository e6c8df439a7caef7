//! What IPv4 and IPv6 addresses have in common, and which of them are special.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weir_sync::sort::sort;

/// The limited broadcast address.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;
/// All systems on this subnet (RFC 1112).
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All routers on this subnet (RFC 1256).
pub const ALL_ROUTERS4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// All nodes on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers on the link (RFC 4291 §2.7.1).
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// An unsigned integer as wide as an address.
pub trait Bits: Copy + Ord + Debug + Send + Sync + 'static {
    /// Bits in it.
    const WIDTH: u8;
    /// All zeros.
    const ZERO: Self;
    /// What most addresses begin with: the lowest 32 bits to do so, and how many bits that are.
    const SHARED: (u32, u8);
    /// The highest 32 bits.
    fn high(self) -> u32;
    /// The six bits that follow the first `at`, zeros behind the last; `at` is less than [`WIDTH`](Self::WIDTH).
    fn six(self, at: u8) -> usize;
    /// Without the first `count` bits, zeros behind the last; `count` is less than [`WIDTH`](Self::WIDTH).
    fn skip(self, count: u8) -> Self;
    /// The highest `len` bits set, the rest clear.
    fn mask(len: u8) -> Self;
    /// Bitwise and.
    fn and(self, other: Self) -> Self;
    /// This with the bits of `mask` left out set to one.
    fn fill(self, mask: Self) -> Self;
    /// One more, unless it is the highest.
    fn next(self) -> Option<Self>;
    /// Mixed so far that the highest bits depend on all.
    fn spread(self) -> u32;
    /// How many of the highest bits are those of `other`.
    fn common(self, other: Self) -> u8;
    /// Well mixed: every bit depends on every bit of the address and of `seed`.
    fn hash(self, seed: u64) -> u64;
}

/// 64×64→128 multiplication, folded: mixes all bits in a few cycles.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Odd, with well spread bits: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

macro_rules! bits {
    ($int:ty, $shared:expr, $six:expr, $spread:expr, $hash:expr) => {
        impl Bits for $int {
            const WIDTH: u8 = <$int>::BITS as u8;
            const ZERO: Self = 0;
            const SHARED: (u32, u8) = $shared;
            #[inline]
            fn high(self) -> u32 {
                (self >> (Self::WIDTH - 32)) as u32
            }
            #[inline]
            fn six(self, at: u8) -> usize {
                let six: fn($int, u32) -> usize = $six;
                six(self, u32::from(at))
            }
            #[inline(always)]
            fn skip(self, count: u8) -> Self {
                self.wrapping_shl(count.into())
            }
            #[inline]
            fn mask(len: u8) -> Self {
                (Self::MAX).checked_shl(u32::from(Self::WIDTH - len.min(Self::WIDTH))).unwrap_or(0)
            }
            #[inline]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline]
            fn fill(self, mask: Self) -> Self {
                self | !mask
            }
            #[inline]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            #[inline(always)]
            fn spread(self) -> u32 {
                let spread: fn($int) -> u32 = $spread;
                spread(self)
            }
            #[inline]
            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
            #[inline]
            fn hash(self, seed: u64) -> u64 {
                let hash: fn($int, u64) -> u64 = $hash;
                hash(self, seed)
            }
        }
    };
}

bits!(
    u32,
    (0, 0),
    |bits, at| (bits.wrapping_shl(at) >> 26) as usize,
    // As it lies in a packet.
    |bits| bits.to_be().wrapping_mul((GOLDEN >> 32) as u32 | 1),
    |bits, seed| fold(u64::from(bits) ^ seed, GOLDEN ^ seed.rotate_left(32))
);
bits!(
    u128,
    // IANA allocates from 2000::/4, the first half of the global unicast addresses (RFC 4291 §2.4).
    (0x2000_0000, 4),
    |bits, at| match at {
        // Without a shift over both halves: routes are seldom longer.
        0..=58 => (((bits >> 64) as u64) << at >> 58) as usize,
        _ => (bits.wrapping_shl(at) >> 122) as usize,
    },
    |bits| {
        // As it lies in a packet.
        let [high, low] = [(bits >> 64) as u64, bits as u64].map(u64::to_be);
        let both = high.wrapping_mul(GOLDEN) ^ low;
        (both.wrapping_mul(GOLDEN) >> 32) as u32
    },
    |bits, seed| {
        let high = fold((bits >> 64) as u64 ^ seed, GOLDEN);
        fold(bits as u64 ^ high, GOLDEN ^ seed.rotate_left(32))
    }
);

/// An address of either family.
pub trait Address: Copy + Ord + Debug + Display + Into<IpAddr> + Send + Sync + 'static {
    /// As a number.
    type Bits: Bits;
    /// The address as a number, most significant byte first.
    fn bits(self) -> Self::Bits;
    /// The number as an address.
    fn with_bits(bits: Self::Bits) -> Self;
}

impl Address for Ipv4Addr {
    type Bits = u32;
    #[inline]
    fn bits(self) -> u32 {
        self.to_bits()
    }
    #[inline]
    fn with_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
}

impl Address for Ipv6Addr {
    type Bits = u128;
    #[inline]
    fn bits(self) -> u128 {
        self.to_bits()
    }
    #[inline]
    fn with_bits(bits: u128) -> Self {
        Self::from_bits(bits)
    }
}

/// A network: an address without host bits, and how many bits are the network's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix<A> {
    address: A,
    len: u8,
}

impl<A: Address> Prefix<A> {
    /// The network of `len` bits that `address` is in; `None` if the family has no such length.
    pub fn new(address: A, len: u8) -> Option<Self> {
        (len <= A::Bits::WIDTH)
            .then(|| Self { address: A::with_bits(address.bits().and(A::Bits::mask(len))), len })
    }

    /// The lowest address.
    pub fn first(&self) -> A {
        self.address
    }

    /// The highest address.
    pub fn last(&self) -> A {
        A::with_bits(self.address.bits().fill(A::Bits::mask(self.len)))
    }

    /// Bits of the network.
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether it covers everything.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `address` is in it.
    #[inline]
    pub fn contains(&self, address: A) -> bool {
        address.bits().and(A::Bits::mask(self.len)) == self.address.bits()
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl<A: Display> Display for Prefix<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// Places of the filter in front of a [`Set`].
const FILTER: usize = 2048;

/// A few addresses, among many that are asked for: a miss costs a multiplication and one load.
#[derive(Clone, Debug)]
pub struct Set<A> {
    /// Whether there is a member with this hash. Bytes, as they take less looking than bits.
    filter: Box<[bool; FILTER]>,
    sorted: Box<[A]>,
}

impl<A: Address> Set<A> {
    /// The set of `members`.
    pub fn new(mut members: Vec<A>) -> Self {
        sort(&mut members);
        members.dedup();
        let mut filter = Box::new([false; FILTER]);
        for member in &members {
            if let Some(there) = filter.get_mut(place(*member)) {
                *there = true;
            }
        }
        Self { filter, sorted: members.into() }
    }

    /// Whether `address` is a member.
    #[inline]
    pub fn contains(&self, address: A) -> bool {
        self.may_contain(address) && self.search(address)
    }

    /// `false` only if `address` is no member.
    #[inline(always)]
    pub fn may_contain(&self, address: A) -> bool {
        self.filter().may_contain(address)
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = A> {
        self.sorted.iter().copied()
    }

    #[cold]
    fn search(&self, address: A) -> bool {
        self.sorted.binary_search(&address).is_ok()
    }

    /// What tells most others from members, to ask for many.
    #[inline(always)]
    pub fn filter(&self) -> Filter<'_> {
        Filter(&self.filter)
    }
}

/// What tells most addresses from the members of a [`Set`].
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a>(&'a [bool; FILTER]);

impl Filter<'_> {
    /// `false` only if `address` is no member.
    #[inline(always)]
    pub fn may_contain<A: Address>(self, address: A) -> bool {
        self.0.get(place(address)).copied().unwrap_or(true)
    }
}

#[inline(always)]
fn place<A: Address>(address: A) -> usize {
    (address.bits().spread() >> (u32::BITS - FILTER.ilog2())) as usize
}

/// What kind of IPv4 address it is, as far as that does not depend on configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An ordinary one.
    Unicast,
    /// Valid on its link alone (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
    /// A group.
    Multicast,
    /// None at all: 0.0.0.0 or ::.
    Unspecified,
    /// All hosts of the link: 255.255.255.255.
    Broadcast,
    /// Never on a wire: loopback, 0/8, class E, IPv4-mapped (RFC 1812 §5.3.7, RFC 6890).
    Martian,
}

/// The kind of an IPv4 address.
#[inline]
pub fn kind4(address: Ipv4Addr) -> Kind {
    let [a, b, ..] = address.octets();
    // Most addresses leave by the first line.
    match a {
        1..=126 | 128..=168 | 170..=223 => Kind::Unicast,
        169 if b != 254 => Kind::Unicast,
        169 => Kind::LinkLocal,
        224..=239 => Kind::Multicast,
        _ if address.is_unspecified() => Kind::Unspecified,
        _ if address.is_broadcast() => Kind::Broadcast,
        _ => Kind::Martian,
    }
}

/// Whether [`kind4`] calls it [`Kind::Unicast`], without a branch.
#[inline]
pub fn is_unicast4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    let first = bits >> 24;
    (first.wrapping_sub(1) < 223) & (first != 127) & (bits >> 16 != 0xa9fe)
}

/// By the first byte of an IPv4 address: 0 if it is [`Kind::Unicast`] beyond doubt.
const SPECIAL4: [u8; 256] = {
    let mut table = [0; 256];
    let mut first = 0;
    while first < 256 {
        // Of 169.0.0.0/8 some are link-local.
        table[first] = !matches!(first, 1..=126 | 128..=168 | 170..=223) as u8;
        first += 1;
    }
    table
};

/// Not 0 if an IPv6 address with this first byte can be of another kind than [`Kind::Unicast`].
#[inline(always)]
pub fn special6(first: u8) -> u8 {
    u8::from(matches!(first, 0 | 0xfe..))
}

/// Not 0 if an IPv4 address with this first byte can be of another kind than [`Kind::Unicast`].
#[inline(always)]
pub fn special4(first: u8) -> u8 {
    SPECIAL4.get(usize::from(first)).copied().unwrap_or(1)
}

/// Whether it is [`Kind::Unicast`] beyond doubt, without a branch: not so for `::/16`, which few use, nor behind `fe80::`.
#[inline]
pub fn is_unicast6(address: Ipv6Addr) -> bool {
    ((address.to_bits() >> 112) as u16).wrapping_sub(1) < 0xfe7f
}

/// The kind of an IPv6 address.
#[inline]
pub fn kind6(address: Ipv6Addr) -> Kind {
    let bits = address.to_bits();
    match (bits >> 112) as u16 {
        0 => match bits {
            0 => Kind::Unspecified,
            1 => Kind::Martian,
            _ if bits >> 32 == 0xffff => Kind::Martian,
            _ => Kind::Unicast,
        },
        0xfe80..=0xfebf => Kind::LinkLocal,
        0xff00..=0xffff => Kind::Multicast,
        _ => Kind::Unicast,
    }
}

/// The group in which `address`'s owner hears solicitations (RFC 4291 §2.7.1).
#[inline]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | (address.to_bits() & 0xff_ffff))
}

/// The Ethernet group of an IPv6 group (RFC 2464 §7).
#[inline]
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The link-local address formed from a station address (RFC 4291 appendix A).
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let interface_id = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(interface_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_know_their_bounds() {
        let net = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), 22).unwrap();
        assert_eq!(net.first(), Ipv4Addr::new(10, 1, 0, 0));
        assert_eq!(net.last(), Ipv4Addr::new(10, 1, 3, 255));
        assert!(net.contains(Ipv4Addr::new(10, 1, 3, 9)) && !net.contains(Ipv4Addr::new(10, 1, 4, 0)));
        assert!(Prefix::new(Ipv4Addr::LOCALHOST, 33).is_none());
        let all = Prefix::new(Ipv6Addr::LOCALHOST, 0).unwrap();
        assert_eq!((all.first(), all.last().to_bits()), (Ipv6Addr::UNSPECIFIED, u128::MAX));
    }

    #[test]
    fn strides_cut_an_address_into_its_bits() {
        assert_eq!(0x1234_5678u32.high(), 0x1234_5678);
        assert_eq!((0x1234_5678u128 << 96).high(), 0x1234_5678);
        let mut seen = 0;
        for at in (0..32).step_by(6) {
            seen = seen << 6 | 0x1234_5679u32.six(at);
        }
        assert_eq!(seen, 0x1234_5679 << 4);
        let address = 0x2001_0db8_0123_4567_89ab_cdef_8421_8421u128;
        for at in 0..128 {
            assert_eq!(address.six(at) as u128, address << at >> 122, "{at}");
        }
    }

    #[test]
    fn special_addresses_have_their_kind() {
        let kind = |text: &str| match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(v4) => kind4(v4),
            IpAddr::V6(v6) => kind6(v6),
        };
        for (kind_, texts) in [
            (Kind::Unicast, &["1.0.0.1", "169.253.0.1", "223.255.255.255", "2001:db8::1", "::5.6.7.8"][..]),
            (Kind::LinkLocal, &["169.254.1.1", "fe80::1", "febf::1"]),
            (Kind::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            (Kind::Unspecified, &["0.0.0.0", "::"]),
            (Kind::Broadcast, &["255.255.255.255"]),
            (
                Kind::Martian,
                &["0.0.0.1", "127.0.0.1", "240.0.0.1", "255.255.255.254", "::1", "::ffff:1.2.3.4"],
            ),
        ] {
            for text in texts {
                assert_eq!(kind(text), kind_, "{text}");
            }
        }
    }

    #[test]
    fn unicast_is_told_without_branches_too() {
        for high in 0..=u16::MAX {
            let address = Ipv4Addr::from_bits(u32::from(high) << 16 | 1);
            assert_eq!(is_unicast4(address), kind4(address) == Kind::Unicast, "{address}");
            let [first, ..] = address.octets();
            assert!(special4(first) != 0 || kind4(address) == Kind::Unicast, "{address}");
            assert!(special4(first) == 0 || first == 169 || kind4(address) != Kind::Unicast, "{address}");
            let address = Ipv6Addr::from_bits(u128::from(high) << 112 | 2);
            assert!(special6(address.octets()[0]) != 0 || kind6(address) == Kind::Unicast, "{address}");
            let sure = kind6(address) == Kind::Unicast && (1..0xfe80).contains(&high);
            assert_eq!(is_unicast6(address), sure, "{address}");
        }
    }

    #[test]
    fn multicast_and_link_local_forms() {
        let address: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(group_mac(solicited_node(address)), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        let own = link_local([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(own, "fe80::5054:ff:fe12:3456".parse::<Ipv6Addr>().unwrap());
    }

    proptest! {
        #[test]
        fn a_set_holds_its_members_and_nothing_else(members: Vec<u32>, asked: Vec<u32>) {
            let set = Set::new(members.iter().map(|&bits| Ipv4Addr::from_bits(bits)).collect());
            for bits in members.iter().chain(&asked) {
                prop_assert_eq!(set.contains(Ipv4Addr::from_bits(*bits)), members.contains(bits));
            }
        }
    }
}
