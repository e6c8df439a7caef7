//! Tokens as a tree: pcap-filter(7)'s grammar. `and` and `or` bind alike; a value without qualifiers takes the last ones.

use super::lexer::{Kind, Sign, Token};
use super::syntax::{Arithmetic, Direction, Expression, Identity, Join, Number, Primitive, Qualifiers, What};
use super::value::{Compare, Inverted, Op, Size};
use super::words::{Protocol, Word};
use super::{MAX_DEPTH, Wrong};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

/// The filter's tree; nothing for an empty text.
pub(super) fn parse(text: &str, tokens: &[Token]) -> Result<Option<Expression>, Wrong> {
    let mut parser = Parser { text, tokens, at: 0, depth: 0 };
    if parser.kind() == Kind::End {
        return Ok(None);
    }
    let mut last = None;
    let item = parser.chain(&mut last)?;
    let tree = parser.condition(item, last)?;
    match parser.kind() {
        Kind::End => Ok(Some(tree)),
        Kind::Sign(Sign::Close) => Err(Wrong::new(parser.span(), &["there is no \"(\" for this \")\""])),
        _ => Err(parser.expected("\"and\", \"or\" or the end")),
    }
}

/// What was read: where it goes on decides between the two.
enum Item {
    Condition(Expression),
    Number(Arithmetic),
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

type Last = Option<Qualifiers>;

impl Parser<'_> {
    fn kind(&self) -> Kind {
        self.tokens.get(self.at).map_or(Kind::End, |token| token.kind)
    }

    fn span(&self) -> Range<usize> {
        self.tokens.get(self.at).map_or(self.text.len()..self.text.len(), |token| token.span.clone())
    }

    fn take(&mut self) -> Range<usize> {
        let span = self.span();
        self.at += 1;
        span
    }

    fn is_word(&self, word: Word) -> bool {
        self.kind() == Kind::Word(word)
    }

    fn take_sign(&mut self, sign: Sign) -> bool {
        let is = self.kind() == Kind::Sign(sign);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: Sign, name: &str) -> Result<(), Wrong> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.expected(name)) }
    }

    fn written(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    fn expected(&self, what: &str) -> Wrong {
        let span = self.span();
        let wrong = match self.kind() {
            Kind::End => Wrong::new(span, &["the filter ends where ", what, " was expected"]),
            _ => Wrong::new(span.clone(), &["expected ", what, ", found \"", self.written(&span), "\""]),
        };
        match self.kind() {
            Kind::Word(Word::Unsupported) => wrong.help(UNSUPPORTED),
            _ => wrong,
        }
    }

    /// One level deeper: parentheses, an accessor, or what stands behind an operator.
    fn enter(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Wrong::new(self.span(), &["too many parentheses within each other"])
                .help("there may be 16, and as many operators in a row"));
        }
        Ok(())
    }

    fn chain(&mut self, last: &mut Last) -> Result<Item, Wrong> {
        let first = self.term(last)?;
        let mut rest = Vec::new();
        if !matches!(self.kind(), Kind::Word(Word::And | Word::Or)) {
            return Ok(first);
        }
        let first = self.condition(first, *last)?;
        loop {
            let join = match self.kind() {
                Kind::Word(Word::And) => Join::And,
                Kind::Word(Word::Or) => Join::Or,
                _ => return Ok(Item::Condition(Expression::Chain(Box::new(first), rest))),
            };
            self.at += 1;
            let next = self.term(last)?;
            rest.push((join, self.condition(next, *last)?));
        }
    }

    /// An item as a condition: a number is a value that the last qualifiers tell the meaning of.
    fn condition(&self, item: Item, last: Last) -> Result<Expression, Wrong> {
        match (item, last) {
            (Item::Condition(condition), _) => Ok(condition),
            (Item::Number(Arithmetic { kind: Number::Constant(number), span, .. }), Some(last)) => {
                let primitive = Primitive::Qualified(last, Identity::Number(number), span.clone());
                Ok(Expression::Primitive(primitive, span))
            }
            (Item::Number(Arithmetic { kind: Number::Constant(_), span, .. }), None) => Err(self.bare(span)),
            (Item::Number(number), _) => Err(Wrong::new(number.span, &["this is a number and no condition"])
                .help("compare it with another: len > 100")),
        }
    }

    fn bare(&self, span: Range<usize>) -> Wrong {
        Wrong::new(span.clone(), &["\"", self.written(&span), "\" alone says nothing"])
            .help("write host, net, port or proto before it")
    }

    fn term(&mut self, last: &mut Last) -> Result<Item, Wrong> {
        let negated = self.nots();
        let item = self.relation(last)?;
        match negated {
            None => Ok(item),
            Some(Inverted::No) => Ok(Item::Condition(self.condition(item, *last)?)),
            Some(Inverted::Yes) => {
                Ok(Item::Condition(Expression::Not(Box::new(self.condition(item, *last)?))))
            }
        }
    }

    /// Any number of `not`.
    fn nots(&mut self) -> Option<Inverted> {
        let mut inverted = None;
        while self.is_word(Word::Not) {
            self.at += 1;
            inverted = Some(if inverted == Some(Inverted::Yes) { Inverted::No } else { Inverted::Yes });
        }
        inverted
    }

    fn relation(&mut self, last: &mut Last) -> Result<Item, Wrong> {
        let left = match self.arithmetic(0, last)? {
            Item::Number(number) => number,
            condition => return Ok(condition),
        };
        let (compare, inverted) = match self.kind() {
            Kind::Sign(Sign::Equal) => (Compare::Equal, Inverted::No),
            Kind::Sign(Sign::NotEqual) => (Compare::Equal, Inverted::Yes),
            Kind::Sign(Sign::Greater) => (Compare::Greater, Inverted::No),
            Kind::Sign(Sign::GreaterOrEqual) => (Compare::GreaterOrEqual, Inverted::No),
            Kind::Sign(Sign::Less) => (Compare::GreaterOrEqual, Inverted::Yes),
            Kind::Sign(Sign::LessOrEqual) => (Compare::Greater, Inverted::Yes),
            _ => return Ok(Item::Number(left)),
        };
        self.at += 1;
        let right = self.number(0)?;
        *last = None;
        Ok(Item::Condition(Expression::Relation(left, compare, inverted, right)))
    }

    fn number(&mut self, least: u8) -> Result<Arithmetic, Wrong> {
        let start = self.span();
        match self.kind() {
            Kind::Sign(Sign::Open | Sign::Minus) => {}
            Kind::Sign(_) | Kind::End => return Err(self.expected("a number")),
            _ => {}
        }
        match self.arithmetic(least, &mut None)? {
            Item::Number(number) => Ok(number),
            Item::Condition(_) => Err(Wrong::new(start.clone(), &["expected a number, found a condition"])),
        }
    }

    /// Operators that bind at least so strongly.
    fn arithmetic(&mut self, least: u8, last: &mut Last) -> Result<Item, Wrong> {
        let mut left = match self.operand(last)? {
            Item::Number(number) => number,
            condition => return Ok(condition),
        };
        let mut first = true;
        while let Some((op, strength)) = self.operator() {
            // libpcap's grammar gives these two no strength, so that a % b + c is a % (b + c) there.
            let weak = matches!(op, Op::Mod | Op::Xor);
            if weak && (!first || least > 0) {
                return Err(self.unclear());
            }
            if strength < least {
                break;
            }
            self.at += 1;
            self.enter()?;
            let right = self.number(strength + 1)?;
            self.depth -= 1;
            if weak && self.operator().is_some() {
                return Err(self.unclear());
            }
            first = false;
            let depth = left.depth.max(right.depth) + 1;
            let span = left.span.start..right.span.end;
            if depth > MAX_DEPTH {
                return Err(Wrong::new(span, &["too many operators in a row"])
                    .help("there may be 16, and as many parentheses within each other"));
            }
            let kind = Number::Compute(op, Box::new(left), Box::new(right));
            left = Arithmetic { kind, span, depth };
        }
        Ok(Item::Number(left))
    }

    fn unclear(&self) -> Wrong {
        Wrong::new(
            self.span(),
            &["\"%\" and \"^\" beside other operators mean different things to different readers"],
        )
        .help("write parentheses: (a % b) + c")
    }

    fn operator(&self) -> Option<(Op, u8)> {
        let Kind::Sign(sign) = self.kind() else { return None };
        Some(match sign {
            Sign::Or => (Op::Or, 1),
            Sign::And => (Op::And, 2),
            Sign::ShiftLeft => (Op::Lsh, 3),
            Sign::ShiftRight => (Op::Rsh, 3),
            Sign::Plus => (Op::Add, 4),
            Sign::Minus => (Op::Sub, 4),
            Sign::Times => (Op::Mul, 5),
            Sign::Slash => (Op::Div, 5),
            Sign::Percent => (Op::Mod, 5),
            Sign::Xor => (Op::Xor, 5),
            _ => return None,
        })
    }

    fn operand(&mut self, last: &mut Last) -> Result<Item, Wrong> {
        let span = self.span();
        let leaf = |kind| Ok(Item::Number(Arithmetic { kind, span: span.clone(), depth: 0 }));
        match self.kind() {
            Kind::Number(number) => {
                self.at += 1;
                leaf(Number::Constant(number))
            }
            Kind::Word(Word::Length) => {
                self.at += 1;
                leaf(Number::Length)
            }
            Kind::Sign(Sign::Minus) => {
                self.at += 1;
                self.enter()?;
                let of = self.number(6)?;
                self.depth -= 1;
                let (span, depth) = (span.start..of.span.end, of.depth + 1);
                let kind = Number::Negative(Box::new(of));
                Ok(Item::Number(Arithmetic { kind, span, depth }))
            }
            Kind::Sign(Sign::Open) => {
                let before = *last;
                let item = self.parentheses(last)?;
                if matches!(item, Item::Condition(_)) {
                    *last = before;
                }
                Ok(item)
            }
            Kind::Word(Word::Protocol(protocol)) if self.next_is(Sign::OpenIndex) => self.accessor(protocol),
            Kind::Word(_) => self.primitive(last).map(Item::Condition),
            Kind::Address4(..) | Kind::Address6(_) | Kind::Mac(_) | Kind::Name => match *last {
                Some(last) => self.value(last).map(Item::Condition),
                None => Err(self.bare(span)),
            },
            Kind::Sign(_) | Kind::End => Err(self.expected("a condition")),
        }
    }

    fn next_is(&self, sign: Sign) -> bool {
        self.tokens.get(self.at + 1).is_some_and(|token| token.kind == Kind::Sign(sign))
    }

    fn parentheses(&mut self, last: &mut Last) -> Result<Item, Wrong> {
        self.enter()?;
        self.at += 1;
        let item = self.chain(last)?;
        self.expect(Sign::Close, "\")\"")?;
        self.depth -= 1;
        Ok(item)
    }

    /// `protocol[number:size]`
    fn accessor(&mut self, protocol: Protocol) -> Result<Item, Wrong> {
        let start = self.take().start;
        self.enter()?;
        self.at += 1;
        let index = self.number(0)?;
        let size = if self.take_sign(Sign::Colon) {
            let size = match self.kind() {
                Kind::Number(1) => Size::Byte,
                Kind::Number(2) => Size::Half,
                Kind::Number(4) => Size::Word,
                _ => return Err(self.expected("1, 2 or 4 bytes")),
            };
            self.at += 1;
            size
        } else {
            Size::Byte
        };
        let end = self.span().end;
        self.expect(Sign::CloseIndex, "\"]\"")?;
        self.depth -= 1;
        let depth = index.depth + 1;
        let kind = Number::Bytes(protocol, Box::new(index), size);
        Ok(Item::Number(Arithmetic { kind, span: start..end, depth }))
    }

    /// What begins with a word.
    fn primitive(&mut self, last: &mut Last) -> Result<Expression, Wrong> {
        let start = self.span();
        let protocol = match self.kind() {
            Kind::Word(Word::Protocol(protocol)) => {
                self.at += 1;
                Some(protocol)
            }
            _ => None,
        };
        let direction = self.direction();
        let kind = match self.kind() {
            Kind::Word(Word::Host) => Some(What::Host),
            Kind::Word(Word::Net) => Some(What::Net),
            Kind::Word(Word::Port) => Some(What::Port),
            Kind::Word(Word::PortRange) => Some(What::PortRange),
            Kind::Word(Word::Proto) if direction.is_none() => Some(What::Proto),
            Kind::Word(Word::ProtoChain) => {
                return Err(Wrong::new(self.span(), &["\"protochain\" needs a program with loops"])
                    .help("proto tests the first header, ip6[6] and ip6[40] the next ones"));
            }
            Kind::Word(Word::Gateway) => {
                return Err(Wrong::new(self.span(), &["\"gateway\" needs the names of hosts"])
                    .help("write: ether host 52:54:00:12:34:56 and not host 192.0.2.1"));
            }
            _ => None,
        };
        if kind.is_some() || direction.is_some() {
            self.at += usize::from(kind.is_some());
            let qualifiers = Qualifiers { protocol, direction, kind };
            *last = Some(qualifiers);
            return self.identity(qualifiers, start.start);
        }
        *last = None;
        let primitive = self.alone(protocol)?;
        let end = self.tokens.get(self.at - 1).map_or(start.end, |token| token.span.end);
        Ok(Expression::Primitive(primitive, start.start..end))
    }

    fn direction(&mut self) -> Option<Direction> {
        let (direction, other) = match self.kind() {
            Kind::Word(Word::Source) => (Direction::Source, Word::Destination),
            Kind::Word(Word::Destination) => (Direction::Destination, Word::Source),
            _ => return None,
        };
        self.at += 1;
        let second = self.tokens.get(self.at + 1).map(|token| token.kind);
        match self.kind() {
            Kind::Word(join @ (Word::And | Word::Or)) if second == Some(Kind::Word(other)) => {
                self.at += 2;
                Some(if join == Word::And { Direction::Both } else { Direction::Either })
            }
            _ => Some(direction),
        }
    }

    /// What needs no value, or only a number of its own.
    fn alone(&mut self, protocol: Option<Protocol>) -> Result<Primitive, Wrong> {
        let word = match (self.kind(), protocol) {
            (Kind::Word(Word::Broadcast), protocol) => {
                self.at += 1;
                return Ok(Primitive::Broadcast(protocol));
            }
            (Kind::Word(Word::Multicast), protocol) => {
                self.at += 1;
                return Ok(Primitive::Multicast(protocol));
            }
            (_, Some(protocol)) => return Ok(Primitive::Protocol(protocol)),
            (Kind::Word(word), None) => word,
            _ => return Err(self.expected("a condition")),
        };
        if word == Word::Unsupported {
            let span = self.span();
            return Err(Wrong::new(span.clone(), &["\"", self.written(&span), "\" is not supported"])
                .help(UNSUPPORTED));
        }
        self.at += 1;
        let known = match word {
            Word::Less => Primitive::Less(self.own_number()?),
            Word::Greater => Primitive::Greater(self.own_number()?),
            Word::InterfaceIndex => Primitive::InterfaceIndex(self.own_number()?),
            Word::Inbound => Primitive::Outbound(Inverted::Yes),
            Word::Outbound => Primitive::Outbound(Inverted::No),
            Word::Vlan => Primitive::Vlan(self.own_number().ok()),
            Word::Mpls => Primitive::Mpls(self.own_number().ok()),
            Word::PppoeDiscovery => Primitive::PppoeDiscovery,
            Word::PppoeSession => Primitive::PppoeSession(self.own_number().ok()),
            _ => {
                self.at -= 1;
                return Err(self.expected("a condition"));
            }
        };
        Ok(known)
    }

    fn own_number(&mut self) -> Result<u32, Wrong> {
        match self.kind() {
            Kind::Number(number) => {
                self.at += 1;
                Ok(number)
            }
            _ => Err(self.expected("a number")),
        }
    }

    /// The value that qualifiers stand before, or several in parentheses.
    fn identity(&mut self, qualifiers: Qualifiers, start: usize) -> Result<Expression, Wrong> {
        let negated = self.nots();
        let mut value = if self.kind() == Kind::Sign(Sign::Open) {
            let mut last = Some(qualifiers);
            let item = self.parentheses(&mut last)?;
            self.condition(item, Some(qualifiers))?
        } else {
            self.value(qualifiers)?
        };
        if let Expression::Primitive(_, span) = &mut value {
            span.start = start;
        }
        Ok(if negated == Some(Inverted::Yes) { Expression::Not(Box::new(value)) } else { value })
    }

    fn value(&mut self, qualifiers: Qualifiers) -> Result<Expression, Wrong> {
        let (kind, span) = (self.kind(), self.span());
        let identity = match (kind, qualifiers.kind) {
            (Kind::Number(number), _) => Identity::Number(number),
            (Kind::Address4(address, bits), _) => Identity::Address4(address, bits),
            (Kind::Address6(address), _) => Identity::Address6(address),
            (Kind::Mac(mac), _) => Identity::Mac(mac),
            (Kind::Name, _) => {
                let escaped = self.written(&span).starts_with('\\');
                Identity::Name(span.start + usize::from(escaped)..span.end)
            }
            // tcpdump wants a backslash before the name of a protocol that is a word too.
            (Kind::Word(_), Some(What::Proto)) => Identity::Name(span.clone()),
            (_, Some(What::Port)) => return Err(self.expected("the number or name of a port")),
            (_, Some(What::PortRange)) => return Err(self.expected("a range such as 6000-6008")),
            (_, Some(What::Proto)) => return Err(self.expected("the number or name of a protocol")),
            (_, Some(What::Net)) => return Err(self.expected("a net such as 192.0.2.0/24")),
            _ => return Err(self.expected("an address")),
        };
        self.at += 1;
        let identity = self.masked(identity, qualifiers.kind == Some(What::Net), &span)?;
        let end = self.tokens.get(self.at - 1).map_or(span.end, |token| token.span.end);
        let value = span.start..end;
        Ok(Expression::Primitive(Primitive::Qualified(qualifiers, identity, value.clone()), value))
    }

    /// An address with what follows of a prefix length or a mask.
    fn masked(&mut self, identity: Identity, is_net: bool, span: &Range<usize>) -> Result<Identity, Wrong> {
        let by_length = match self.kind() {
            Kind::Sign(Sign::Slash) => true,
            Kind::Word(Word::Mask) => false,
            _ => return Ok(identity),
        };
        let address = match identity {
            Identity::Address4(address, bits) => address << (32 - bits),
            Identity::Number(number @ 0..=255) if is_net => number << 24,
            Identity::Address6(_) if by_length => 0,
            other => return Ok(other),
        };
        self.at += 1;
        let whole = span.start..self.span().end;
        if !is_net {
            return Err(
                Wrong::new(whole, &["only nets have a prefix length or a mask"]).help("write net before it")
            );
        }
        let (net, host_bits) = match (identity, by_length, self.kind()) {
            (Identity::Address6(address), _, Kind::Number(length @ 0..=128)) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                (Identity::Net6(address, length as u8), u128::from(address) & !mask != 0)
            }
            (Identity::Address6(_), ..) => return Err(self.expected("a prefix length from 0 to 128")),
            (_, true, Kind::Number(length @ 0..=32)) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                (Identity::Net4 { address, mask }, address & !mask != 0)
            }
            (_, false, Kind::Address4(mask, bits)) => {
                let mask = mask << (32 - bits);
                (Identity::Net4 { address, mask }, address & !mask != 0)
            }
            (_, true, _) => return Err(self.expected("a prefix length from 0 to 32")),
            _ => return Err(self.expected("a mask such as 255.255.255.0")),
        };
        self.at += 1;
        if host_bits {
            return Err(Wrong::new(
                whole.clone(),
                &["\"", self.written(&whole), "\" has bits that are not the net's"],
            )
            .help("make them 0, or write host and the address alone"));
        }
        Ok(net)
    }
}

const UNSUPPORTED: &str = "docs/filters.md says what is";
