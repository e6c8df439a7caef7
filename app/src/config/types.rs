//! What a configuration says, as plain values. Every rule of `docs/configuration.md` holds for a
//! [`Config`] that [`Config::parse`] returned, so that its users check nothing again.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;
pub use weir_manage::access::Token;

/// The whole configuration of one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The router's name (RFC 1123 §2.1); `weir` unless given.
    pub hostname: String,
    /// Who processes packets of devices with fewer queues than there are CPUs.
    pub steering: Steering,
    /// In the order of the text; at least one, at most [`MAX_INTERFACES`](super::MAX_INTERFACES).
    pub interfaces: Vec<Interface>,
    /// Who may use the API; in the order of the text, at most [`MAX_TOKENS`](super::MAX_TOKENS), their names unique.
    pub tokens: Vec<Token>,
    /// Name servers; at most [`MAX_SERVERS`](super::MAX_SERVERS). Empty: those that were learnt.
    pub dns: Vec<IpAddr>,
    /// Time servers; at most [`MAX_SERVERS`](super::MAX_SERVERS). Empty: those that were learnt.
    pub ntp: Vec<Host>,
    /// Where the log goes; at most [`MAX_SYSLOG`](super::MAX_SYSLOG).
    pub syslog: Vec<Syslog>,
    /// What it was read from.
    pub text: SourceText,
    /// In the order of the text, with at most [`MAX_ROUTES`](super::MAX_ROUTES) destinations; prefix and metric together are
    /// unique.
    pub routes: Vec<Route>,
}

/// The text of a configuration. It is no part of what the configuration says: all are equal.
#[derive(Clone, Debug)]
pub struct SourceText(pub Arc<str>);

impl Default for SourceText {
    fn default() -> Self {
        Self("".into())
    }
}

impl PartialEq for SourceText {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SourceText {}

/// Who processes the packets of devices with fewer queues than there are CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// The CPU that received them.
    #[default]
    Off,
    /// The CPU that their flow hashes to.
    Flows,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Unique; 1 to 15 characters of `a-z 0-9 . _ -`, the first a letter or digit.
    pub name: String,
    /// Where its frames go in and out; no two interfaces have the same.
    pub attachment: Attachment,
    /// Host address and prefix length together; the connected network is `.trunc()`. Unique over all
    /// interfaces, link-local IPv6 addresses excepted; networks of different interfaces never overlap.
    pub addresses: Vec<IpNet>,
    /// Further addresses that others give it.
    pub learn: Learn,
    /// Octets of an IP packet, 68 to 9216; from 1280 on with an IPv6 address; on a VLAN not more than its parent's. `None`:
    /// the parent's, or what the device says.
    pub mtu: Option<u16>,
    /// Whether routers are advertised here (RFC 4861 §6.2). Implies an IPv6 address with a /64.
    pub router_advertisement: bool,
    /// Source address check of packets received here.
    pub reverse_path_filter: ReversePathFilter,
    /// Whether the router's own services answer what comes in here.
    pub management: bool,
    /// Whether the interface is up; `true` unless given. All other rules hold for a disabled interface too.
    pub enabled: bool,
}

/// Where an interface's addresses come from, beside those that the configuration gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learn {
    /// From a DHCPv4 server (`"dhcp"`).
    pub dhcp: bool,
    /// From IPv6 routers on the link, and from a DHCPv6 server if they say so (`"auto"`).
    pub auto: bool,
}

impl Learn {
    /// Whether anything is to be learnt.
    pub fn any(self) -> bool {
        self.dhcp || self.auto
    }
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    Address(IpAddr),
    /// By a name that name servers know.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// The server.
    pub host: Host,
    /// Its UDP port.
    pub port: u16,
}

/// What an interface is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A device of its own.
    Device(Match),
    /// A VLAN of another interface's device (IEEE 802.1Q).
    Vlan {
        /// Index into [`Config::interfaces`] of one with a device.
        parent: usize,
        /// 1 to 4094.
        id: u16,
    },
}

/// What picks an interface's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// The device with this Ethernet address: unicast and not zero.
    Mac([u8; 6]),
    /// The device found at this place in the order of discovery, from 0.
    Port(u16),
}

/// Source address check of received packets (RFC 3704 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReversePathFilter {
    /// No check.
    #[default]
    Off,
    /// The best route to the source leaves by the interface the packet came in on (RFC 3704 §2.2).
    Strict,
    /// There is a route to the source, by whichever interface (RFC 3704 §2.4).
    Loose,
}

/// Static routes that are alike but for their destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations, at least one; host bits are zero.
    pub to: Vec<IpNet>,
    /// What becomes of packets to them.
    pub target: Target,
    /// Of routes with the same prefix the lowest metric wins; 0 unless given.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On, by one of these; at least one, at most [`MAX_NEXT_HOPS`](super::MAX_NEXT_HOPS), none twice.
    Forward(Vec<NextHop>),
    /// Nowhere.
    Reject(Reject),
}

/// Where a packet is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The next router: of the same family as the destination, never an address of our own. `None`: the hosts on the link of
    /// `interface` themselves.
    pub via: Option<IpAddr>,
    /// Index into [`Config::interfaces`]: who has `via` on one of its networks, or as link-local neighbour. `None`: other
    /// routes lead to `via`.
    pub interface: Option<usize>,
    /// What share of the flows it gets, in proportion to the others' weights; 1 unless given.
    pub weight: u8,
}

/// How a packet is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Silently.
    Blackhole,
    /// With ICMP host unreachable (RFC 792, code 1), ICMPv6 no route to destination (RFC 4443 §3.1, code 0).
    Unreachable,
    /// With ICMP or ICMPv6 administratively prohibited (RFC 1812 §5.2.7.1, code 13; RFC 4443 §3.1, code 1).
    Prohibit,
}

impl fmt::Display for Match {
    /// As in the configuration: `mac 52:54:00:00:00:01` or `port 0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Mac([a, b, c, d, e, g]) => {
                write!(f, "mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Match::Port(port) => write!(f, "port {port}"),
        }
    }
}
