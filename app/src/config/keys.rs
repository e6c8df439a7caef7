//! The keys of each section, and what an operator who wrote another one may have meant.

pub(super) use weir_manage::console::nearest;

/// One key the configuration knows.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What other systems call it.
    pub(super) synonyms: &'static [&'static str],
}

const fn key(name: &'static str, synonyms: &'static [&'static str]) -> Key {
    Key { name, synonyms }
}

pub(super) const ROOT: &[Key] = &[
    key("hostname", &["name", "host"]),
    key("steering", &["rps", "rss", "spread"]),
    key("interface", &["if"]),
    key("dns", &["nameserver", "nameservers", "resolver", "name-servers"]),
    key("ntp", &["time", "clock", "timeserver", "time-servers"]),
    key("syslog", &["log", "logging"]),
    key("management", &["api", "users", "user", "token"]),
    key("route", &["static-route"]),
];

pub(super) const INTERFACE: &[Key] = &[
    key("match", &["device", "dev", "driver"]),
    key("parent", &["link", "lower", "master", "raw-device", "vlan-raw-device"]),
    key("vlan", &["vid", "vlan-id", "tag", "id"]),
    key("addresses", &["ip", "ips", "ipv4", "ipv6", "dhcp", "dhcp4", "slaac"]),
    key("mtu", &[]),
    key("router-advertisement", &["ra", "radvd", "send-ra"]),
    key("reverse-path-filter", &["rp-filter", "rpf", "urpf"]),
    key("management", &["mgmt", "admin", "services"]),
    key("enabled", &["up", "enable", "disable", "disabled", "shutdown"]),
];

pub(super) const MATCH: &[Key] =
    &[key("mac", &["address", "hwaddr", "ether"]), key("port", &["index", "slot", "device"])];

pub(super) const ROUTE: &[Key] = &[
    key("to", &["dst", "destination", "dest", "network", "prefix"]),
    key("via", &["gateway", "gw", "next-hop", "nexthop"]),
    key("interface", &["dev", "device", "if", "oif"]),
    key("reject", &["type", "blackhole", "unreachable", "prohibit"]),
    key("metric", &["preference", "distance", "priority"]),
];

pub(super) const DNS: &[Key] = &[key("servers", &["server", "address", "addresses", "nameserver"])];

pub(super) const NTP: &[Key] = &[key("servers", &["server", "pool", "pools", "address", "addresses"])];

pub(super) const SYSLOG: &[Key] =
    &[key("server", &["host", "address", "servers", "target"]), key("port", &["udp-port"])];

pub(super) const MANAGEMENT: &[Key] = &[key("token", &["tokens", "user", "users", "key"])];

pub(super) const TOKEN: &[Key] =
    &[key("name", &["user", "id"]), key("hash", &["password", "secret", "key", "token"])];

pub(super) const NEXT_HOP: &[Key] = &[
    key("address", &["via", "gateway", "gw", "next-hop", "nexthop"]),
    key("interface", &["dev", "device", "if", "oif"]),
    key("weight", &["metric", "share", "ratio"]),
];

/// Every section with where its keys stand in the file, but for next hops: what they are called means something else elsewhere.
pub(super) const SECTIONS: [(&[Key], &str); 7] = [
    (ROOT, "at the top of the file, before the first [section]"),
    (INTERFACE, "in an [interface.NAME] section"),
    (MATCH, "in an interface's match = { ... }"),
    (DNS, "in the section [dns]"),
    (NTP, "in the section [ntp] or [dns]"),
    (SYSLOG, "in a [[syslog]] section"),
    (ROUTE, "in a [[route]] section"),
];

/// The key of `known` that `word` stands for in other systems or nearly spells.
pub(super) fn meant(word: &str, known: &[Key]) -> Option<&'static str> {
    let synonym = known.iter().find(|key| key.synonyms.contains(&word)).map(|key| key.name);
    synonym.or_else(|| nearest(word, known.iter().map(|key| key.name)))
}

/// Where a key spelled exactly `word` belongs. The inner sections come first: a word that is both a section
/// and a key of another one (`interface`) was meant as the key.
pub(super) fn home(word: &str) -> Option<&'static str> {
    SECTIONS.iter().rev().find(|(keys, _)| keys.iter().any(|key| key.name == word)).map(|&(_, place)| place)
}
