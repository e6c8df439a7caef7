//! The words of the language, and the names of numbers.

/// What a protocol's name stands for, as a qualifier or alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// The link's own header.
    Link,
    /// What the link's type field or an 802.2 header names.
    Type(u16),
    /// What IPv4 carries.
    Ip4(u8),
    /// What IPv6 carries.
    Ip6(u8),
    /// What either carries.
    Ip(u8),
}

pub(super) const IP: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const RARP: u16 = 0x8035;
pub(super) const IP6: u16 = 0x86dd;
pub(super) const APPLETALK: u16 = 0x809b;
pub(super) const AARP: u16 = 0x80f3;
/// 802.2 service access points.
pub(super) const SAP_IPX: u16 = 0xe0;
pub(super) const SAP_ISO: u16 = 0xfe;
pub(super) const SAP_NETBEUI: u16 = 0xf0;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// A word with a meaning of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    Protocol(Protocol),
    Number(u32),
    Source,
    Destination,
    Host,
    Net,
    Mask,
    Port,
    PortRange,
    Proto,
    ProtoChain,
    Gateway,
    Less,
    Greater,
    Broadcast,
    Multicast,
    And,
    Or,
    Not,
    Length,
    Inbound,
    Outbound,
    InterfaceIndex,
    Vlan,
    Mpls,
    PppoeDiscovery,
    PppoeSession,
    /// tcpdump knows it; this router does not.
    Unsupported,
}

use Protocol::{Ip, Ip4, Ip6, Link, Type};

const WORDS: &[(&str, Word)] = &[
    ("and", Word::And),
    ("or", Word::Or),
    ("not", Word::Not),
    ("src", Word::Source),
    ("dst", Word::Destination),
    ("host", Word::Host),
    ("net", Word::Net),
    ("mask", Word::Mask),
    ("port", Word::Port),
    ("portrange", Word::PortRange),
    ("proto", Word::Proto),
    ("protochain", Word::ProtoChain),
    ("gateway", Word::Gateway),
    ("less", Word::Less),
    ("greater", Word::Greater),
    ("broadcast", Word::Broadcast),
    ("multicast", Word::Multicast),
    ("len", Word::Length),
    ("length", Word::Length),
    ("inbound", Word::Inbound),
    ("outbound", Word::Outbound),
    ("ifindex", Word::InterfaceIndex),
    ("vlan", Word::Vlan),
    ("mpls", Word::Mpls),
    ("pppoed", Word::PppoeDiscovery),
    ("pppoes", Word::PppoeSession),
    ("ether", Word::Protocol(Link)),
    ("link", Word::Protocol(Link)),
    ("ip", Word::Protocol(Type(IP))),
    ("arp", Word::Protocol(Type(ARP))),
    ("rarp", Word::Protocol(Type(RARP))),
    ("ip6", Word::Protocol(Type(IP6))),
    ("tcp", Word::Protocol(Ip(TCP))),
    ("udp", Word::Protocol(Ip(UDP))),
    ("sctp", Word::Protocol(Ip(SCTP))),
    ("icmp", Word::Protocol(Ip4(1))),
    ("igmp", Word::Protocol(Ip4(2))),
    ("igrp", Word::Protocol(Ip4(9))),
    ("vrrp", Word::Protocol(Ip4(112))),
    ("carp", Word::Protocol(Ip4(112))),
    ("pim", Word::Protocol(Ip(103))),
    ("ah", Word::Protocol(Ip(51))),
    ("esp", Word::Protocol(Ip(50))),
    ("icmp6", Word::Protocol(Ip6(ICMP6))),
    ("atalk", Word::Protocol(Type(APPLETALK))),
    ("aarp", Word::Protocol(Type(AARP))),
    ("decnet", Word::Protocol(Type(0x6003))),
    ("lat", Word::Protocol(Type(0x6004))),
    ("moprc", Word::Protocol(Type(0x6002))),
    ("mopdl", Word::Protocol(Type(0x6001))),
    ("sca", Word::Protocol(Type(0x6007))),
    ("stp", Word::Protocol(Type(0x42))),
    ("ipx", Word::Protocol(Type(SAP_IPX))),
    ("netbeui", Word::Protocol(Type(SAP_NETBEUI))),
    ("iso", Word::Protocol(Type(SAP_ISO))),
    ("icmptype", Word::Number(0)),
    ("icmpcode", Word::Number(1)),
    ("icmp-echoreply", Word::Number(0)),
    ("icmp-unreach", Word::Number(3)),
    ("icmp-sourcequench", Word::Number(4)),
    ("icmp-redirect", Word::Number(5)),
    ("icmp-echo", Word::Number(8)),
    ("icmp-routeradvert", Word::Number(9)),
    ("icmp-routersolicit", Word::Number(10)),
    ("icmp-timxceed", Word::Number(11)),
    ("icmp-paramprob", Word::Number(12)),
    ("icmp-tstamp", Word::Number(13)),
    ("icmp-tstampreply", Word::Number(14)),
    ("icmp-ireq", Word::Number(15)),
    ("icmp-ireqreply", Word::Number(16)),
    ("icmp-maskreq", Word::Number(17)),
    ("icmp-maskreply", Word::Number(18)),
    ("icmp6type", Word::Number(0)),
    ("icmp6code", Word::Number(1)),
    ("icmp6-destinationunreach", Word::Number(1)),
    ("icmp6-packettoobig", Word::Number(2)),
    ("icmp6-timeexceeded", Word::Number(3)),
    ("icmp6-parameterproblem", Word::Number(4)),
    ("icmp6-echo", Word::Number(128)),
    ("icmp6-echoreply", Word::Number(129)),
    ("icmp6-multicastlistenerquery", Word::Number(130)),
    ("icmp6-multicastlistenerreportv1", Word::Number(131)),
    ("icmp6-multicastlistenerdone", Word::Number(132)),
    ("icmp6-routersolicit", Word::Number(133)),
    ("icmp6-routeradvert", Word::Number(134)),
    ("icmp6-neighborsolicit", Word::Number(135)),
    ("icmp6-neighboradvert", Word::Number(136)),
    ("icmp6-redirect", Word::Number(137)),
    ("icmp6-routerrenum", Word::Number(138)),
    ("icmp6-nodeinformationquery", Word::Number(139)),
    ("icmp6-nodeinformationresponse", Word::Number(140)),
    ("icmp6-ineighbordiscoverysolicit", Word::Number(141)),
    ("icmp6-ineighbordiscoveryadvert", Word::Number(142)),
    ("icmp6-multicastlistenerreportv2", Word::Number(143)),
    ("icmp6-homeagentdiscoveryrequest", Word::Number(144)),
    ("icmp6-homeagentdiscoveryreply", Word::Number(145)),
    ("icmp6-mobileprefixsolicit", Word::Number(146)),
    ("icmp6-mobileprefixadvert", Word::Number(147)),
    ("icmp6-certpathsolicit", Word::Number(148)),
    ("icmp6-certpathadvert", Word::Number(149)),
    ("icmp6-multicastrouteradvert", Word::Number(151)),
    ("icmp6-multicastroutersolicit", Word::Number(152)),
    ("icmp6-multicastrouterterm", Word::Number(153)),
    ("tcpflags", Word::Number(13)),
    ("tcp-fin", Word::Number(0x01)),
    ("tcp-syn", Word::Number(0x02)),
    ("tcp-rst", Word::Number(0x04)),
    ("tcp-push", Word::Number(0x08)),
    ("tcp-ack", Word::Number(0x10)),
    ("tcp-urg", Word::Number(0x20)),
    ("tcp-ece", Word::Number(0x40)),
    ("tcp-cwr", Word::Number(0x80)),
];

/// Of other links, of other systems, or of protocols without a place here.
const UNSUPPORTED: &str = " ppp slip fddi tr wlan radio esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp type subtype \
    direction dir address1 addr1 address2 addr2 address3 addr3 address4 addr4 ra ta byte geneve lane llc metac bcc oam oamf4 \
    oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect on ifname rset ruleset rnr rulenum srnr subrulenum reason action \
    fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc hdpc hsls ";

pub(super) fn word(text: &str) -> Option<Word> {
    if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == text) {
        return Some(*word);
    }
    UNSUPPORTED.split(' ').any(|name| name == text && !name.is_empty()).then_some(Word::Unsupported)
}

/// Who uses a port: `t`, `u` or `b` for both of TCP and UDP, as Debian's /etc/services has it.
const SERVICES: &[(&str, u16, u8)] = &[
    ("echo", 7, b'b'),
    ("discard", 9, b'b'),
    ("ftp-data", 20, b't'),
    ("ftp", 21, b't'),
    ("ssh", 22, b't'),
    ("telnet", 23, b't'),
    ("smtp", 25, b't'),
    ("time", 37, b'b'),
    ("tacacs", 49, b'b'),
    ("domain", 53, b'b'),
    ("bootps", 67, b'u'),
    ("bootpc", 68, b'u'),
    ("tftp", 69, b'u'),
    ("http", 80, b't'),
    ("kerberos", 88, b'b'),
    ("pop3", 110, b't'),
    ("sunrpc", 111, b'b'),
    ("ntp", 123, b'u'),
    ("netbios-ns", 137, b'u'),
    ("netbios-dgm", 138, b'u'),
    ("netbios-ssn", 139, b't'),
    ("imap2", 143, b't'),
    ("snmp", 161, b'b'),
    ("snmp-trap", 162, b'b'),
    ("bgp", 179, b't'),
    ("ldap", 389, b'b'),
    ("https", 443, b'b'),
    ("microsoft-ds", 445, b'b'),
    ("isakmp", 500, b'u'),
    ("syslog", 514, b'u'),
    ("submission", 587, b't'),
    ("ldp", 646, b'b'),
    ("ldaps", 636, b'b'),
    ("rsync", 873, b't'),
    ("imaps", 993, b't'),
    ("pop3s", 995, b't'),
    ("openvpn", 1194, b'b'),
    ("l2f", 1701, b'u'),
    ("radius", 1812, b'b'),
    ("radius-acct", 1813, b'b'),
    ("nfs", 2049, b'b'),
    ("mysql", 3306, b't'),
    ("ipsec-nat-t", 4500, b'u'),
    ("sip", 5060, b'b'),
    ("sip-tls", 5061, b'b'),
    ("mdns", 5353, b'u'),
    ("postgresql", 5432, b't'),
];

/// A service's port, and the one protocol that has it, if it is one.
pub(super) fn service(name: &str) -> Option<(u16, Option<u8>)> {
    let (_, port, kind) = SERVICES.iter().find(|(known, ..)| *known == name)?;
    let protocol = match kind {
        b't' => Some(TCP),
        b'u' => Some(UDP),
        _ => None,
    };
    Some((*port, protocol))
}

/// Protocols over IP that are no word of the language, as Debian's /etc/protocols has them.
const OVER_IP: &[(&str, u8)] = &[
    ("ipencap", 4),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("eigrp", 88),
    ("ospf", 89),
    ("l2tp", 115),
    ("udplite", 136),
];

/// The number of a protocol over IP.
pub(super) fn over_ip(name: &str) -> Option<u32> {
    match word(name) {
        Some(Word::Protocol(Ip(number) | Ip4(number))) if name != "carp" => return Some(number.into()),
        _ => {}
    }
    OVER_IP.iter().find(|(known, _)| *known == name).map(|(_, number)| u32::from(*number))
}

/// The number of what Ethernet carries.
pub(super) fn over_ethernet(name: &str) -> Option<u32> {
    match (name, word(name)) {
        ("loopback", _) => Some(0x9000),
        (_, Some(Word::Protocol(Type(number)))) => Some(number.into()),
        _ => None,
    }
}
