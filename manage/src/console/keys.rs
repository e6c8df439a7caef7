//! The configuration's keys, for completion and for what `set` writes. `docs/configuration.md` describes them; a test holds
//! the two together.

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its values are.
    pub shape: Shape,
    /// What it means.
    pub about: &'static str,
}

/// What values are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A text.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// Texts in an array; one alone, or some with commas between, become one.
    Texts,
    /// The name of an interface.
    Interface,
    /// A table in braces, with one of these keys.
    OneOf(&'static [Key]),
    /// A section with these keys.
    Section(&'static [Key]),
    /// Sections with a name and these keys.
    Named(&'static [Key]),
    /// Sections in double brackets, told apart by the first of these keys.
    List(&'static [Key]),
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, shape, about }
}

/// The keys at the top.
pub(super) const ROOT: &[Key] = &[
    key("hostname", Shape::Text, "the router's name"),
    key("steering", Shape::Choice(&["off", "flows"]), "who processes packets of devices with few queues"),
    key("interface", Shape::Named(INTERFACE), "an interface: its name, then its keys"),
    key("management", Shape::Section(MANAGEMENT), "who may use the API"),
    key("route", Shape::List(ROUTE), "a route: its destination, then its keys"),
    key("dns", Shape::Section(SERVERS), "whom the router asks for names"),
    key("ntp", Shape::Section(SERVERS), "whom it asks for the time"),
    key("syslog", Shape::List(SYSLOG), "where its log goes: a server, then its keys"),
];

const SERVERS: &[Key] = &[key("servers", Shape::Texts, "whom to ask, the best first")];

const SYSLOG: &[Key] = &[
    key("server", Shape::Text, "its address or name"),
    key("port", Shape::Number, "the UDP port that it listens at"),
];

const INTERFACE: &[Key] = &[
    key("match", Shape::OneOf(MATCH), "which device this is"),
    key("parent", Shape::Interface, "of a VLAN: the interface whose device it shares"),
    key("vlan", Shape::Number, "of a VLAN: its number"),
    key("addresses", Shape::Texts, "addresses with their prefix lengths"),
    key("mtu", Shape::Number, "longest IP packet in octets"),
    key("router-advertisement", Shape::Boolean, "whether hosts learn their IPv6 addresses and router here"),
    key("reverse-path-filter", Shape::Choice(&["off", "strict", "loose"]), "check of source addresses"),
    key("management", Shape::Boolean, "whether the router's own services answer here"),
    key("enabled", Shape::Boolean, "whether the interface is up"),
];

const MATCH: &[Key] = &[
    key("mac", Shape::Text, "the device with this Ethernet address"),
    key("port", Shape::Number, "the device at this place in the order of discovery, from 0"),
];

const ROUTE: &[Key] = &[
    key("to", Shape::Text, "destination"),
    key("via", Shape::Text, "the next router"),
    key("interface", Shape::Interface, "where the next router is"),
    key("reject", Shape::Choice(&["blackhole", "unreachable", "prohibit"]), "turns packets away"),
    key("metric", Shape::Number, "of routes to the same network the lowest wins"),
];

const MANAGEMENT: &[Key] = &[key("token", Shape::List(TOKEN), "a token: its name, then its hash")];

const TOKEN: &[Key] =
    &[key("name", Shape::Text, "name"), key("hash", Shape::Text, "what weir-check --hash-token prints")];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(keys: &'static [Key], names: &mut BTreeSet<&'static str>) {
        for key in keys {
            names.insert(key.name);
            match key.shape {
                Shape::OneOf(keys) | Shape::Section(keys) | Shape::Named(keys) | Shape::List(keys) => {
                    self::names(keys, names)
                }
                _ => {}
            }
        }
    }

    #[test]
    fn they_are_the_manuals() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        // A next hop's table stands within an array, which `set` takes as it is.
        let next_hop = ["address", "weight"];
        let described: BTreeSet<&str> =
            rows.map(|(key, _)| key).filter(|key| !next_hop.contains(key)).collect();
        let mut known = BTreeSet::new();
        names(ROOT, &mut known);
        known.remove("route");
        known.remove("token");
        assert_eq!(described, known);
    }
}
