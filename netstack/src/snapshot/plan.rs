//! What the control side wishes for, and what can be wrong with it.

use super::{Flaw, MAX_DEPTH, MAX_GROUPS, MAX_MEMBERS};
use crate::capture::Taps;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use weir_netif::{IfCounters, IfIndex, Offloads};

/// Smallest MTU of an IPv4 link (RFC 791 §3.2).
pub const MIN_MTU4: u16 = 68;
/// Smallest MTU of an IPv6 link (RFC 8200 §5). IPv6 is off on links below.
pub const MIN_MTU6: u16 = 1280;

/// Highest number of a VLAN; 4095 is reserved (IEEE 802.1Q §9.6).
pub const MAX_VLAN: u16 = 4094;

/// What the router shall be: the control side's wish.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The interfaces, in no order that matters.
    pub interfaces: Vec<InterfacePlan>,
    /// Static routes; connected and local ones come from the addresses.
    pub routes: Vec<RoutePlan>,
    /// Counts packets whose interface is not in this plan.
    pub unconfigured: Arc<IfCounters>,
    /// What watches packets; it outlives the snapshot.
    pub taps: Arc<Taps>,
}

/// An interface of a [`Plan`].
#[derive(Clone, Debug)]
pub struct InterfacePlan {
    /// Its place in the table, the same in each snapshot for as long as CPUs are to know it again. `None`: its place in
    /// the plan.
    pub index: Option<IfIndex>,
    /// On a VLAN of another interface, instead of a device of its own: `mac` is that one's too, and so are the offloads as far as they do
    /// tagged frames.
    pub vlan: Option<VlanPlan>,
    /// For people. Unique.
    pub name: String,
    /// Station address.
    pub mac: [u8; 6],
    /// Largest layer-3 packet, in bytes, at least [`MIN_MTU4`].
    pub mtu: u16,
    /// What its device does on transmit.
    pub offloads: Offloads,
    /// Host addresses with the prefix lengths of their networks. A link-local IPv6 address is added if there is none
    /// and the MTU allows IPv6.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Of these addresses, and of the link-local one that is added, those that are not [`Claim::Ours`].
    pub claims: Vec<(IpAddr, Claim)>,
    /// Of these addresses, those that no connection begins from while there is another one (RFC 4862 §5.5.4).
    pub deprecated: Vec<IpAddr>,
    /// Source check.
    pub reverse_path: ReversePath,
    /// Router advertisements.
    pub advertise: Advertise,
    /// Whether what other routers advertise is handed on ([`Egress::advertised`](crate::Egress::advertised)).
    pub heeds_routers: bool,
    /// Whether sockets for management answer what comes in here.
    pub management: bool,
    /// Whether it takes part.
    pub state: State,
    /// Its statistics; they outlive the snapshot.
    pub counters: Arc<IfCounters>,
}

impl InterfacePlan {
    /// An interface that is up, without addresses or offloads, with MTU 1500.
    pub fn new(name: impl Into<String>, mac: [u8; 6]) -> Self {
        Self {
            index: None,
            vlan: None,
            name: name.into(),
            mac,
            mtu: 1500,
            offloads: Offloads::default(),
            addresses: Vec::new(),
            claims: Vec::new(),
            deprecated: Vec::new(),
            reverse_path: ReversePath::Off,
            advertise: Advertise::Off,
            heeds_routers: false,
            management: false,
            state: State::Up,
            counters: Arc::default(),
        }
    }
}

/// Which VLAN an interface is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VlanPlan {
    /// The interface with the device.
    pub parent: IfIndex,
    /// 1 to [`MAX_VLAN`], another one for each interface with this parent.
    pub id: u16,
}

/// How sure it is that nobody else on the link has an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Claim {
    /// It is this router's.
    #[default]
    Ours,
    /// It is used while others are asked; what they know of it is not overridden (RFC 4429).
    Optimistic,
    /// It is not used, nor is its network, before others were asked (RFC 4862 §5.4, RFC 5227 §2.1).
    Tentative,
    /// Somebody else has it: it is not used, its network is. Without a link-local address IPv6 is off (RFC 4862 §5.4.5).
    Duplicate,
}

impl Claim {
    /// Whether packets come from the address, and are taken to it.
    pub fn is_used(self) -> bool {
        matches!(self, Self::Ours | Self::Optimistic)
    }
}

/// Source check of packets received on an interface (RFC 3704 §2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReversePath {
    /// None.
    #[default]
    Off,
    /// The best route to the source leaves by this interface.
    Strict,
    /// There is a route to the source.
    Loose,
}

/// Whether an interface takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It does.
    #[default]
    Up,
    /// It does not: no packets, and neither its addresses nor routes over it exist.
    Down,
}

/// Whether routers are advertised on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Advertise {
    /// No.
    #[default]
    Off,
    /// Yes: this router, with the interface's global prefixes, its MTU and its station address.
    On(Advertisement),
}

/// Variables of RFC 4861 §6.2.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// MaxRtrAdvInterval, 4 s to 1800 s.
    pub max_interval: Duration,
    /// MinRtrAdvInterval, 3 s to ¾ of the maximum.
    pub min_interval: Duration,
    /// AdvDefaultLifetime in seconds; 0: not a default router.
    pub lifetime_s: u16,
    /// AdvCurHopLimit.
    pub hop_limit: u8,
    /// AdvValidLifetime of every prefix, in seconds.
    pub valid_s: u32,
    /// AdvPreferredLifetime of every prefix, in seconds.
    pub preferred_s: u32,
}

impl Default for Advertisement {
    /// The defaults of RFC 4861 §6.2.1.
    fn default() -> Self {
        Self {
            max_interval: Duration::from_secs(600),
            min_interval: Duration::from_secs(200),
            lifetime_s: 1800,
            hop_limit: 64,
            valid_s: 2_592_000,
            preferred_s: 604_800,
        }
    }
}

/// A static route of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// Destination and its prefix length; host bits are ignored.
    pub to: (IpAddr, u8),
    /// Where to.
    pub target: RouteTarget,
    /// Of several routes to the same destination the lowest wins. Connected networks come before all.
    pub metric: u32,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// As [`RouteTarget::Via`].
    Via {
        /// Its address.
        gateway: IpAddr,
        /// The interface whose link it is on.
        interface: IfIndex,
    },
    /// As [`RouteTarget::Through`].
    Through {
        /// Its address.
        gateway: IpAddr,
    },
    /// As [`RouteTarget::OnLink`].
    OnLink {
        /// The interface with that link.
        interface: IfIndex,
    },
}

/// A next hop of a route with several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// Where it leads.
    pub hop: NextHop,
    /// What share of the flows it gets, in proportion to the others' weights; not 0.
    pub weight: u8,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To the next router, on a network of `interface` or link-local there.
    Via {
        /// Its address.
        gateway: IpAddr,
        /// The interface whose link it is on.
        interface: IfIndex,
    },
    /// To a router that is no neighbour: where the other routes lead to it at present, to several next hops if they do. If
    /// that is nowhere because interfaces are down, the route is left out; if they turn packets to it away, so does this
    /// one (RFC 5635 §3: a next hop that is routed to a discard interface).
    Through {
        /// Its address.
        gateway: IpAddr,
    },
    /// To hosts on the link itself.
    OnLink {
        /// The interface with that link.
        interface: IfIndex,
    },
    /// By an interface that this plan does not have, or to a network of one. Left out, but what is to be reached through it
    /// waits for it.
    Absent,
    /// To several, by flow; in no order that matters.
    Multipath(Arc<[Weighted]>),
    /// Dropped in silence.
    Blackhole,
    /// Dropped, with an unreachable error.
    Unreachable,
    /// Dropped, with an administratively prohibited error.
    Prohibit,
}

/// What contradicts in a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// More than 65535 interfaces.
    TooManyInterfaces,
    /// Two interfaces have this place in the table.
    IndexTwice(IfIndex),
    /// Two interfaces have this name.
    NameTwice(String),
    /// The station address of this interface is a group or zero, or on a VLAN another than its parent's.
    Station(String),
    /// The MTU of this interface is below [`MIN_MTU4`], or below [`MIN_MTU6`] with an IPv6 address.
    Mtu(String),
    /// The VLAN of this interface is none, its parent is not there or on a VLAN itself, or another interface has both.
    Vlan(String),
    /// Not an address a host can have, or not a prefix length.
    NotAHost(IpAddr, u8),
    /// Two interfaces have this address, or one has it twice.
    AddressTwice(IpAddr),
    /// This address's network overlaps one of another interface.
    Overlap(IpAddr, u8),
    /// The route to this network names an interface that does not exist.
    UnknownInterface(IpAddr, u8),
    /// The route to this network has a gateway of the other family, off the interface's networks, our own address or no
    /// host's.
    Gateway(IpAddr, u8),
    /// No other route will ever lead to this gateway of the route to this network.
    Through(IpAddr, u8, IpAddr, Flaw),
    /// The route to this network has no next hop, more than [`MAX_MEMBERS`](super::MAX_MEMBERS), one twice or one of weight 0.
    NextHops(IpAddr, u8),
    /// Routes have more than [`MAX_GROUPS`](super::MAX_GROUPS) different lists of next hops.
    TooManyGroups,
    /// Not a network.
    NotANetwork(IpAddr, u8),
}

impl core::fmt::Display for Conflict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooManyInterfaces => write!(f, "too many interfaces"),
            Self::IndexTwice(index) => write!(f, "two interfaces have the index {}", index.0),
            Self::NameTwice(name) => write!(f, "two interfaces are named {name}"),
            Self::Station(name) => write!(f, "{name}: not a station address"),
            Self::Mtu(name) => write!(f, "{name}: the MTU is too small"),
            Self::Vlan(name) => write!(f, "{name}: not a VLAN of its own on an interface with a device"),
            Self::NotAHost(address, len) => write!(f, "{address}/{len} is not a host's address"),
            Self::AddressTwice(address) => write!(f, "{address} exists twice"),
            Self::Overlap(address, len) => {
                write!(f, "the network of {address}/{len} overlaps one of another interface")
            }
            Self::UnknownInterface(to, len) => {
                write!(f, "the route to {to}/{len} leaves by an unknown interface")
            }
            Self::Gateway(to, len) => {
                write!(
                    f,
                    "the gateway of the route to {to}/{len} is no neighbour on its interface, or no router's address"
                )
            }
            Self::Through(to, len, gateway, flaw) => {
                write!(f, "the route to {to}/{len}: its gateway {gateway} ")?;
                match flaw {
                    Flaw::Unreached => write!(f, "is on no network, and no other route leads to it"),
                    Flaw::Loop => write!(f, "is reached through the route itself"),
                    Flaw::Depth => write!(f, "is reached through more than {MAX_DEPTH} others"),
                }
            }
            Self::NextHops(to, len) => write!(
                f,
                "the route to {to}/{len} has no next hop, more than {MAX_MEMBERS}, one twice or one of weight 0"
            ),
            Self::TooManyGroups => {
                write!(f, "routes have more than {MAX_GROUPS} different lists of next hops")
            }
            Self::NotANetwork(to, len) => write!(f, "{to}/{len} is not a network"),
        }
    }
}

impl core::error::Error for Conflict {}
