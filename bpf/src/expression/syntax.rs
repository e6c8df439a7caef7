//! What a filter says, as a tree.

use super::value::{Compare, Inverted, Op, Size};
use super::words::Protocol;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::ops::Range;

/// How two parts are joined; both words bind alike, to the left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Join {
    And,
    Or,
}

/// What holds or does not.
#[derive(Debug)]
pub(super) enum Expression {
    /// The first, and what joins each further one to all before it.
    Chain(Box<Expression>, Vec<(Join, Expression)>),
    Not(Box<Expression>),
    Primitive(Primitive, Range<usize>),
    /// A comparison; inverted if that is so.
    Relation(Arithmetic, Compare, Inverted, Arithmetic),
}

/// Something that is tested by itself.
#[derive(Debug)]
pub(super) enum Primitive {
    Protocol(Protocol),
    /// A value, where it stands, and what qualifies it.
    Qualified(Qualifiers, Identity, Range<usize>),
    Broadcast(Option<Protocol>),
    Multicast(Option<Protocol>),
    Less(u32),
    Greater(u32),
    Outbound(Inverted),
    InterfaceIndex(u32),
    Vlan(Option<u32>),
    Mpls(Option<u32>),
    PppoeDiscovery,
    PppoeSession(Option<u32>),
}

/// What stands before a value, or stood before an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Qualifiers {
    pub(super) protocol: Option<Protocol>,
    pub(super) direction: Option<Direction>,
    pub(super) kind: Option<What>,
}

/// Which of a packet's two addresses or ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Source,
    Destination,
    Either,
    Both,
}

/// What a value names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// A value.
#[derive(Debug)]
pub(super) enum Identity {
    Number(u32),
    /// The first so many bits of an address.
    Address4(u32, u8),
    Net4 {
        address: u32,
        mask: u32,
    },
    Address6(Ipv6Addr),
    Net6(Ipv6Addr, u8),
    Mac([u8; 6]),
    /// Where its text stands.
    Name(Range<usize>),
}

/// A number that is computed.
#[derive(Debug)]
pub(super) struct Arithmetic {
    pub(super) kind: Number,
    pub(super) span: Range<usize>,
    /// How many lie within each other.
    pub(super) depth: usize,
}

/// How it is computed.
#[derive(Debug)]
pub(super) enum Number {
    Constant(u32),
    Length,
    Bytes(Protocol, Box<Arithmetic>, Size),
    Negative(Box<Arithmetic>),
    Compute(Op, Box<Arithmetic>, Box<Arithmetic>),
}
