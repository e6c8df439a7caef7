//! What is in a frame before IP: types, stations, VLANs, labels, sessions.

use super::lower::{Link, Lower, Place, VLAN_TAG, VLAN_TAG_PRESENT};
use super::syntax::Direction;
use super::table::Id;
use super::value::{Compare, Op, Size};
use super::words::{AARP, APPLETALK, IP, IP6, Protocol, SAP_IPX, SAP_ISO, SAP_NETBEUI};
use super::{Tags, Wrong};
use core::ops::Range;

/// The largest number in a type field that is a length.
const MAX_LENGTH: u32 = 1500;
const IPX: u32 = 0x8137;

impl Lower {
    /// Whether the link carries a protocol: a type, or an 802.2 access point below 1501.
    #[inline(never)]
    pub(super) fn carries(&mut self, number: u16, span: &Range<usize>) -> Result<Id, Wrong> {
        if self.headers.labels > 0 {
            return self.labelled(number, span);
        }
        let field = self.headers.type_field;
        if self.headers.kind == Link::Ppp {
            let number = match number {
                IP => 0x21,
                IP6 => 0x57,
                SAP_ISO => 0x23,
                0x6003 => 0x27,
                APPLETALK => 0x29,
                SAP_IPX => 0x2b,
                other => other,
            };
            return Ok(self.equal(Size::Half, field, number.into()));
        }
        let payload = self.headers.payload;
        Ok(match number {
            SAP_ISO | SAP_NETBEUI => {
                let short = self.is_length();
                let points = self.equal(Size::Half, payload, u32::from(number) << 8 | u32::from(number));
                self.conditions.both(short, points)
            }
            SAP_IPX => {
                let short = self.is_length();
                let point = self.equal(Size::Byte, payload, number.into());
                let raw = self.equal(Size::Half, payload, 0xffff);
                let unnamed = self.conditions.either(point, raw);
                let named = self.snap(0x0000, IPX);
                let within = self.conditions.either(named, unnamed);
                let within = self.conditions.both(short, within);
                let typed = self.equal(Size::Half, field, IPX);
                self.conditions.either(typed, within)
            }
            APPLETALK | AARP => {
                let short = self.is_length();
                let organization = if number == APPLETALK { 0x0008_0007 } else { 0 };
                let named = self.snap(organization, number.into());
                let within = self.conditions.both(short, named);
                let typed = self.equal(Size::Half, field, number.into());
                self.conditions.either(typed, within)
            }
            _ if u32::from(number) <= MAX_LENGTH => {
                let short = self.is_length();
                let point = self.equal(Size::Byte, payload, number.into());
                self.conditions.both(short, point)
            }
            _ => self.equal(Size::Half, field, number.into()),
        })
    }

    /// Whether the type field is an 802.3 length.
    fn is_length(&mut self) -> Id {
        let field = self.load(Size::Half, self.headers.type_field);
        let longer = self.compare(field, Compare::Greater, MAX_LENGTH);
        self.conditions.not(longer)
    }

    /// A SNAP header: of an organization's 24 bits, and its protocol.
    fn snap(&mut self, organization: u32, number: u32) -> Id {
        let payload = self.headers.payload;
        let second = self.equal(Size::Word, payload.plus(4), (organization & 0xffff) << 16 | number);
        let first = self.equal(Size::Word, payload, 0xaaaa_0300 | organization >> 16);
        self.conditions.both(second, first)
    }

    /// What is behind the last label, which nothing names: IP by its version.
    fn labelled(&mut self, number: u16, span: &Range<usize>) -> Result<Id, Wrong> {
        let version = match number {
            IP => 0x40,
            IP6 => 0x60,
            _ => {
                return Err(Wrong::new(span.clone(), &["behind a label nothing tells this protocol"])
                    .help("only ip and ip6, and what they carry, can be told there"));
            }
        };
        let network = self.headers.network;
        let last = self.equal_masked(Size::Byte, before(network, 2), 1, 1);
        let is_version = self.equal_masked(Size::Byte, network, 0xf0, version);
        Ok(self.conditions.both(last, is_version))
    }

    pub(super) fn vlan(&mut self, id: Option<u32>, span: &Range<usize>) -> Result<Id, Wrong> {
        if self.headers.labels > 0 || self.headers.kind == Link::Ppp {
            return Err(Wrong::new(span.clone(), &["there is no VLAN tag behind labels or in a session"])
                .help("write vlan first"));
        }
        if id.is_some_and(|id| id > 4095) {
            return Err(Wrong::new(span.clone(), &["the numbers of VLANs end with 4095"]));
        }
        let (field, tag) = (self.headers.type_field, self.headers.payload);
        let mut tagged = self.equal(Size::Half, field, 0x8100);
        for number in [0x88a8, 0x9100] {
            let other = self.equal(Size::Half, field, number);
            tagged = self.conditions.either(tagged, other);
        }
        if let Some(id) = id {
            let right = self.equal_masked(Size::Half, tag, 0x0fff, id);
            tagged = self.conditions.both(tagged, right);
        }
        if self.options.tags == Tags::Metadata && field == (Place { base: None, at: 12 }) {
            return Ok(self.vlan_beside(id, tagged));
        }
        self.shift(Place { at: 4, base: None });
        Ok(tagged)
    }

    /// The outermost tag, beside the frame or in it.
    fn vlan_beside(&mut self, id: Option<u32>, in_frame: Id) -> Id {
        let present = self.values.load(Size::Byte, VLAN_TAG_PRESENT);
        let is_beside = self.compare(present, Compare::Equal, 1);
        let mut beside = is_beside;
        if let Some(id) = id {
            let tag = self.values.load(Size::Half, VLAN_TAG);
            let tag = self.masked(tag, 0x0fff);
            let right = self.compare(tag, Compare::Equal, id);
            beside = self.conditions.both(beside, right);
        }
        let not_beside = self.conditions.not(is_beside);
        let in_frame = self.conditions.both(not_beside, in_frame);
        // A tag beside the frame moves nothing in it: 0 or 4 bytes.
        let absent = self.operate(Op::Xor, present, 1);
        let base = self.operate(Op::Lsh, absent, 2);
        self.shift(Place { at: 0, base: Some(base) });
        self.conditions.either(beside, in_frame)
    }

    /// Moves what is behind a tag.
    fn shift(&mut self, by: Place) {
        let headers = &mut self.headers;
        for place in [&mut headers.type_field, &mut headers.payload, &mut headers.network] {
            *place = Place { base: by.base.or(place.base), at: place.at + by.at };
        }
    }

    pub(super) fn mpls(&mut self, label: Option<u32>, span: &Range<usize>) -> Result<Id, Wrong> {
        if label.is_some_and(|label| label > 0xf_ffff) {
            return Err(Wrong::new(span.clone(), &["the numbers of labels end with 1048575"]));
        }
        let network = self.headers.network;
        let mut found = if self.headers.labels > 0 {
            self.equal_masked(Size::Byte, before(network, 2), 1, 0)
        } else {
            let kind = if self.headers.kind == Link::Ppp { 0x281 } else { 0x8847 };
            self.carries_exactly(kind)
        };
        if let Some(label) = label {
            let right = self.equal_masked(Size::Word, network, 0xffff_f000, label << 12);
            found = self.conditions.both(found, right);
        }
        self.headers.network = network.plus(4);
        self.headers.labels += 1;
        Ok(found)
    }

    fn carries_exactly(&mut self, number: u32) -> Id {
        self.equal(Size::Half, self.headers.type_field, number)
    }

    pub(super) fn pppoe(&mut self, session: Option<u32>, span: &Range<usize>) -> Result<Id, Wrong> {
        if session.is_some_and(|session| session > 0xffff) {
            return Err(Wrong::new(span.clone(), &["the numbers of sessions end with 65535"]));
        }
        let mut found = self.carries(0x8864, span)?;
        let header = self.headers.network;
        if let Some(session) = session {
            let right = self.equal_masked(Size::Word, header, 0xffff, session);
            found = self.conditions.both(found, right);
        }
        let headers = &mut self.headers;
        headers.kind = Link::Ppp;
        headers.link = header.plus(6);
        headers.type_field = header.plus(6);
        headers.payload = header.plus(8);
        headers.network = header.plus(8);
        Ok(found)
    }

    /// An address of a station.
    pub(super) fn station(
        &mut self,
        mac: [u8; 6],
        direction: Option<Direction>,
        span: &Range<usize>,
    ) -> Result<Id, Wrong> {
        if self.headers.kind == Link::Ppp {
            return Err(Wrong::new(span.clone(), &["a session of PPPoE has no stations of its own"])
                .help("write it before pppoes"));
        }
        let [a, b, c, d, e, f] = mac;
        let link = self.headers.link;
        Ok(self.either_end(direction, |lower, end| {
            let at = link.plus(if end == Direction::Source { 6 } else { 0 });
            let last = lower.equal(Size::Word, at.plus(2), u32::from_be_bytes([c, d, e, f]));
            let first = lower.equal(Size::Half, at, u16::from_be_bytes([a, b]).into());
            lower.conditions.both(last, first)
        }))
    }

    /// What holds of a packet's source, its destination, or both of them.
    pub(super) fn either_end(
        &mut self,
        direction: Option<Direction>,
        mut holds: impl FnMut(&mut Self, Direction) -> Id,
    ) -> Id {
        match direction {
            Some(one @ (Direction::Source | Direction::Destination)) => holds(self, one),
            both => {
                let source = holds(self, Direction::Source);
                let destination = holds(self, Direction::Destination);
                match both {
                    Some(Direction::Both) => self.conditions.both(source, destination),
                    _ => self.conditions.either(source, destination),
                }
            }
        }
    }

    pub(super) fn broadcast(&mut self, protocol: Option<Protocol>, span: &Range<usize>) -> Result<Id, Wrong> {
        match protocol {
            None | Some(Protocol::Link) => self.station([0xff; 6], Some(Direction::Destination), span),
            Some(Protocol::Type(IP)) => {
                let ip = self.carries(IP, span)?;
                let to = self.headers.network.plus(16);
                let zeros = self.equal(Size::Word, to, 0);
                let ones = self.equal(Size::Word, to, u32::MAX);
                let either = self.conditions.either(zeros, ones);
                Ok(self.conditions.both(ip, either))
            }
            _ => Err(Wrong::new(span.clone(), &["this protocol has no broadcast"])
                .help("write ether broadcast or ip broadcast")),
        }
    }

    pub(super) fn multicast(&mut self, protocol: Option<Protocol>, span: &Range<usize>) -> Result<Id, Wrong> {
        let network = self.headers.network;
        match protocol {
            None | Some(Protocol::Link) if self.headers.kind == Link::Ethernet => {
                let first = self.load(Size::Byte, self.headers.link);
                Ok(self.compare(first, Compare::Set, 1))
            }
            Some(Protocol::Type(IP)) => {
                let ip = self.carries(IP, span)?;
                let first = self.load(Size::Byte, network.plus(16));
                let group = self.compare(first, Compare::GreaterOrEqual, 224);
                Ok(self.conditions.both(ip, group))
            }
            Some(Protocol::Type(IP6)) => {
                let ip = self.carries(IP6, span)?;
                let group = self.equal(Size::Byte, network.plus(24), 255);
                Ok(self.conditions.both(ip, group))
            }
            _ => Err(Wrong::new(span.clone(), &["this protocol has no multicast"])
                .help("write ether multicast, ip multicast or ip6 multicast")),
        }
    }
}

/// A place that is before another: labels are behind a type field.
fn before(place: Place, bytes: u32) -> Place {
    Place { at: place.at - bytes, ..place }
}
