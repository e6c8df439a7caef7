//! A tree as conditions, in the order they were written: VLANs and labels move what comes after them.

use super::graph::Conditions;
use super::syntax::{Arithmetic, Expression, Identity, Join, Number, Primitive, Qualifiers, What};
use super::table::Id;
use super::value::{Compare, Inverted, MAX_OFFSET, Op, Size, Values};
use super::words::{IP, IP6, Protocol};
use super::{Options, Wrong};
use core::ops::Range;

/// Conditions before they are shortened: far more than any program of 4096 instructions has.
const MAX_CONDITIONS: usize = 65_536;

/// `SKF_AD_OFF` of Linux, and what lies there.
pub(super) const PACKET_TYPE: u32 = 0xffff_f000 + 4;
pub(super) const INTERFACE: u32 = 0xffff_f000 + 8;
pub(super) const VLAN_TAG: u32 = 0xffff_f000 + 44;
pub(super) const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
/// `PACKET_OUTGOING`.
const OUTGOING: u32 = 4;

/// A place in the packet: so many bytes behind a computed number, or behind the frame's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) base: Option<Id>,
    pub(super) at: u32,
}

impl Place {
    pub(super) fn plus(self, bytes: u32) -> Self {
        Self { at: self.at + bytes, ..self }
    }
}

/// What the type field is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    Ethernet,
    /// In a session of PPPoE.
    Ppp,
}

/// Where the headers are that what comes next is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    pub(super) kind: Link,
    pub(super) link: Place,
    /// The field that tells what the payload is.
    pub(super) type_field: Place,
    pub(super) payload: Place,
    pub(super) network: Place,
    /// How many MPLS labels there are before it.
    pub(super) labels: u32,
}

/// What a filter comes to so far.
pub(super) struct Lower {
    pub(super) options: Options,
    pub(super) values: Values,
    pub(super) conditions: Conditions,
    pub(super) headers: Headers,
}

/// A value with what qualifies it.
pub(super) struct Qualified<'a> {
    pub(super) qualifiers: Qualifiers,
    pub(super) identity: &'a Identity,
    /// If the value is one.
    pub(super) name: Option<&'a str>,
    pub(super) span: &'a Range<usize>,
    /// Where the value itself stands.
    pub(super) value: &'a Range<usize>,
}

/// What is computed, and what must hold for it.
type Computed = (Id, Option<Id>);

impl Lower {
    pub(super) fn new(options: Options) -> Self {
        let at = |at| Place { base: None, at };
        let headers = Headers {
            kind: Link::Ethernet,
            link: at(0),
            type_field: at(12),
            payload: at(14),
            network: at(14),
            labels: 0,
        };
        Self { options, values: Values::new(), conditions: Conditions::new(), headers }
    }

    pub(super) fn expression(&mut self, text: &str, tree: &Expression) -> Result<Id, Wrong> {
        match tree {
            Expression::Chain(first, rest) => {
                let mut all = self.expression(text, first)?;
                for (join, next) in rest {
                    let next = self.expression(text, next)?;
                    all = match join {
                        Join::And => self.conditions.both(all, next),
                        Join::Or => self.conditions.either(all, next),
                    };
                }
                Ok(all)
            }
            Expression::Not(other) => {
                let other = self.expression(text, other)?;
                Ok(self.conditions.not(other))
            }
            Expression::Primitive(primitive, span) => {
                if self.conditions.len() > MAX_CONDITIONS {
                    return Err(Wrong::new(span.clone(), &["the filter is too long"])
                        .help("name a net or a range of ports instead of each one"));
                }
                self.primitive(text, primitive, span)
            }
            Expression::Relation(left, compare, inverted, right) => {
                self.relation(left, *compare, *inverted, right)
            }
        }
    }

    fn primitive(&mut self, text: &str, primitive: &Primitive, span: &Range<usize>) -> Result<Id, Wrong> {
        match *primitive {
            Primitive::Protocol(protocol) => self.protocol(protocol, span),
            Primitive::Qualified(qualifiers, ref identity, ref value) => {
                let name = match identity {
                    Identity::Name(name) => text.get(name.clone()),
                    _ => None,
                };
                self.qualified(&Qualified { qualifiers, identity, name, span, value })
            }
            Primitive::Broadcast(protocol) => self.broadcast(protocol, span),
            Primitive::Multicast(protocol) => self.multicast(protocol, span),
            Primitive::Less(length) => {
                let more = self.length(Compare::Greater, length);
                Ok(self.conditions.not(more))
            }
            Primitive::Greater(length) => Ok(self.length(Compare::GreaterOrEqual, length)),
            Primitive::Outbound(inverted) => {
                let direction = self.values.load(Size::Half, PACKET_TYPE);
                let outgoing = self.compare(direction, Compare::Equal, OUTGOING);
                Ok(if inverted == Inverted::Yes { self.conditions.not(outgoing) } else { outgoing })
            }
            Primitive::InterfaceIndex(index) => {
                let interface = self.values.load(Size::Word, INTERFACE);
                Ok(self.compare(interface, Compare::Equal, index))
            }
            Primitive::Vlan(id) => self.vlan(id, span),
            Primitive::Mpls(label) => self.mpls(label, span),
            Primitive::PppoeDiscovery => self.carries(0x8863, span),
            Primitive::PppoeSession(session) => self.pppoe(session, span),
        }
    }

    fn qualified(&mut self, qualified: &Qualified<'_>) -> Result<Id, Wrong> {
        match qualified.qualifiers.kind {
            None | Some(What::Host | What::Net) => self.address(qualified),
            Some(What::Port | What::PortRange) => self.port(qualified),
            Some(What::Proto) => self.proto(qualified),
        }
    }

    fn length(&mut self, compare: Compare, with: u32) -> Id {
        let length = self.values.length();
        self.compare(length, compare, with)
    }

    #[inline(never)]
    pub(super) fn compare(&mut self, value: Id, compare: Compare, with: u32) -> Id {
        let with = self.values.constant(with);
        let test = self.values.test(value, compare, with);
        self.conditions.test(test)
    }

    #[inline(never)]
    pub(super) fn load(&mut self, size: Size, place: Place) -> Id {
        match place.base {
            Some(base) => self.values.load_at(size, base, place.at),
            None => self.values.load(size, place.at),
        }
    }

    /// Whether what is at a place is this.
    #[inline(never)]
    pub(super) fn equal(&mut self, size: Size, place: Place, with: u32) -> Id {
        let value = self.load(size, place);
        self.compare(value, Compare::Equal, with)
    }

    /// Whether it is, of the bits in the mask.
    #[inline(never)]
    pub(super) fn equal_masked(&mut self, size: Size, place: Place, mask: u32, with: u32) -> Id {
        let value = self.load(size, place);
        let masked = self.masked(value, mask);
        self.compare(masked, Compare::Equal, with)
    }

    pub(super) fn masked(&mut self, value: Id, mask: u32) -> Id {
        self.operate(Op::And, value, mask)
    }

    /// An operation with a constant that is no 0 where that would divide.
    pub(super) fn operate(&mut self, op: Op, value: Id, with: u32) -> Id {
        let with = self.values.constant(with);
        self.values.compute(op, value, with).unwrap_or(value)
    }

    fn relation(
        &mut self,
        left: &Arithmetic,
        compare: Compare,
        inverted: Inverted,
        right: &Arithmetic,
    ) -> Result<Id, Wrong> {
        let (left, left_needs) = self.arithmetic(left)?;
        let (right, right_needs) = self.arithmetic(right)?;
        let test = match (self.values.as_constant(left), self.values.as_constant(right)) {
            (Some(left), Some(right)) => self.conditions.constant(compare.holds(left, right)),
            _ => {
                let test = self.values.test(left, compare, right);
                self.conditions.test(test)
            }
        };
        let test = if inverted == Inverted::Yes { self.conditions.not(test) } else { test };
        let needs = self.all(left_needs, right_needs);
        Ok(self.all(needs, Some(test)).unwrap_or(test))
    }

    fn all(&mut self, first: Option<Id>, second: Option<Id>) -> Option<Id> {
        match (first, second) {
            (Some(first), Some(second)) => Some(self.conditions.both(first, second)),
            (first, second) => first.or(second),
        }
    }

    fn arithmetic(&mut self, number: &Arithmetic) -> Result<Computed, Wrong> {
        match &number.kind {
            Number::Constant(constant) => Ok((self.values.constant(*constant), None)),
            Number::Length => Ok((self.values.length(), None)),
            Number::Negative(of) => {
                let (of, needs) = self.arithmetic(of)?;
                Ok((self.values.negative(of), needs))
            }
            Number::Compute(op, left, right) => {
                let span = right.span.clone();
                let (left, needs) = self.arithmetic(left)?;
                // As libpcap has it, only the left operand's protocol is asked for.
                let (right, _) = self.arithmetic(right)?;
                let computed = self.values.compute(*op, left, right);
                let by_zero = |_| Wrong::new(span, &["this divides by 0"]);
                Ok((computed.map_err(by_zero)?, needs))
            }
            Number::Bytes(protocol, index, size) => {
                let (index_value, index_needs) = self.arithmetic(index)?;
                if self.values.as_constant(index_value).is_some_and(|index| index > MAX_OFFSET) {
                    return Err(Wrong::new(index.span.clone(), &["no packet is so long"]));
                }
                let (base, needs) = self.header(*protocol, &number.span)?;
                let start = match base.base {
                    // A constant index stays one.
                    Some(base) => self.values.compute(Op::Add, base, index_value).unwrap_or(base),
                    None => index_value,
                };
                let value = self.values.load_at(*size, start, base.at);
                Ok((value, self.all(index_needs, needs)))
            }
        }
    }

    /// Where a protocol's header begins, and what must hold for it to be there.
    fn header(&mut self, protocol: Protocol, span: &Range<usize>) -> Result<(Place, Option<Id>), Wrong> {
        let network = self.headers.network;
        Ok(match protocol {
            Protocol::Link => (self.headers.link, None),
            Protocol::Type(_) => (network, Some(self.protocol(protocol, span)?)),
            Protocol::Ip(_) | Protocol::Ip4(_) => {
                // Only in IPv4, and not in a fragment without that header.
                let ip = self.carries(IP, span)?;
                let carried = self.protocol(protocol, span)?;
                let carried = self.conditions.both(ip, carried);
                let whole = self.first_fragment();
                (self.behind_ip4(), Some(self.conditions.both(carried, whole)))
            }
            Protocol::Ip6(number) => {
                let ip = self.carries(IP6, span)?;
                let carried = self.equal(Size::Byte, network.plus(6), number.into());
                (network.plus(40), Some(self.conditions.both(ip, carried)))
            }
        })
    }

    /// What follows the IPv4 header.
    pub(super) fn behind_ip4(&mut self) -> Place {
        let network = self.headers.network;
        let Some(base) = network.base else {
            return Place { base: Some(self.values.header_length(network.at)), ..network };
        };
        let first = self.load(Size::Byte, network);
        let words = self.masked(first, 0x0f);
        let length = self.operate(Op::Lsh, words, 2);
        let behind = self.values.compute(Op::Add, length, base).unwrap_or(base);
        Place { base: Some(behind), ..network }
    }

    /// Whether an IPv4 packet has its payload's first byte.
    pub(super) fn first_fragment(&mut self) -> Id {
        let fragment = self.load(Size::Half, self.headers.network.plus(6));
        let later = self.compare(fragment, Compare::Set, 0x1fff);
        self.conditions.not(later)
    }

    /// A protocol's name alone.
    fn protocol(&mut self, protocol: Protocol, span: &Range<usize>) -> Result<Id, Wrong> {
        match protocol {
            Protocol::Link => Err(Wrong::new(span.clone(), &["every frame here is Ethernet"])
                .help("go on with host, src, dst, proto, broadcast, multicast or an index: ether[0]")),
            Protocol::Type(number) => self.carries(number, span),
            Protocol::Ip4(number) => self.carried_by_ip4(number.into(), span),
            Protocol::Ip6(number) => self.carried_by_ip6(number.into(), span),
            Protocol::Ip(number) => self.carried_by_ip(number.into(), span),
        }
    }

    pub(super) fn carried_by_ip4(&mut self, number: u32, span: &Range<usize>) -> Result<Id, Wrong> {
        let ip = self.carries(IP, span)?;
        let carried = self.equal(Size::Byte, self.headers.network.plus(9), number);
        Ok(self.conditions.both(ip, carried))
    }

    /// At once or behind a fragment header.
    pub(super) fn carried_by_ip6(&mut self, number: u32, span: &Range<usize>) -> Result<Id, Wrong> {
        let network = self.headers.network;
        let ip = self.carries(IP6, span)?;
        let fragment = self.equal(Size::Byte, network.plus(6), 44);
        let behind = self.equal(Size::Byte, network.plus(40), number);
        let behind = self.conditions.both(fragment, behind);
        let at_once = self.equal(Size::Byte, network.plus(6), number);
        let either = self.conditions.either(at_once, behind);
        Ok(self.conditions.both(ip, either))
    }

    pub(super) fn carried_by_ip(&mut self, number: u32, span: &Range<usize>) -> Result<Id, Wrong> {
        let ip4 = self.carried_by_ip4(number, span)?;
        let ip6 = self.carried_by_ip6(number, span)?;
        Ok(self.conditions.either(ip4, ip6))
    }
}
