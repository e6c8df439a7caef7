//! A filter's text as tokens.

use super::Wrong;
use super::words::{Word, word};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::ops::Range;

/// What a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Word(Word),
    Number(u32),
    /// The first so many bits of an IPv4 address, two to four numbers.
    Address4(u32, u8),
    Address6(Ipv6Addr),
    Mac([u8; 6]),
    /// Anything else that looks like a name, or what follows a backslash.
    Name,
    /// An operator, a bracket or a colon.
    Sign(Sign),
    End,
}

/// Signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Colon,
    Plus,
    Minus,
    Times,
    Slash,
    Percent,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

const SIGNS: &[(&str, Kind)] = &[
    ("&&", Kind::Word(Word::And)),
    ("||", Kind::Word(Word::Or)),
    ("<<", Kind::Sign(Sign::ShiftLeft)),
    (">>", Kind::Sign(Sign::ShiftRight)),
    ("==", Kind::Sign(Sign::Equal)),
    ("!=", Kind::Sign(Sign::NotEqual)),
    ("<=", Kind::Sign(Sign::LessOrEqual)),
    (">=", Kind::Sign(Sign::GreaterOrEqual)),
    ("!", Kind::Word(Word::Not)),
    ("(", Kind::Sign(Sign::Open)),
    (")", Kind::Sign(Sign::Close)),
    ("[", Kind::Sign(Sign::OpenIndex)),
    ("]", Kind::Sign(Sign::CloseIndex)),
    (":", Kind::Sign(Sign::Colon)),
    ("+", Kind::Sign(Sign::Plus)),
    ("-", Kind::Sign(Sign::Minus)),
    ("*", Kind::Sign(Sign::Times)),
    ("/", Kind::Sign(Sign::Slash)),
    ("%", Kind::Sign(Sign::Percent)),
    ("&", Kind::Sign(Sign::And)),
    ("|", Kind::Sign(Sign::Or)),
    ("^", Kind::Sign(Sign::Xor)),
    ("=", Kind::Sign(Sign::Equal)),
    ("<", Kind::Sign(Sign::Less)),
    (">", Kind::Sign(Sign::Greater)),
];

/// All tokens, an [`Kind::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Wrong> {
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        if matches!(first, ' ' | '\t' | '\r' | '\n') {
            at += 1;
            continue;
        }
        let (kind, len) = token(rest, first, at)?;
        list.push(Token { kind, span: at..at + len });
        at += len;
    }
    list.push(Token { kind: Kind::End, span: text.len()..text.len() });
    Ok(list)
}

/// What the text begins with, and its length; the longest that fits, as tcpdump has it.
fn token(rest: &str, first: char, at: usize) -> Result<(Kind, usize), Wrong> {
    if first == '\\' {
        let end = rest.find([' ', '!', '(', ')', '\n', '\t']).unwrap_or(rest.len());
        if end > 1 {
            return Ok((Kind::Name, end));
        }
    }
    let name = prefix(rest, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let name = name.trim_end_matches(['-', '_']);
    // "port:" is a port and a colon, "fe80:" is not.
    let address = prefix(rest, |c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
    if address.contains("::") || address.matches(':').count() > 4 {
        let span = at..at + address.len();
        if let Some(mac) = mac(address, ':') {
            return Ok((Kind::Mac(mac), address.len()));
        }
        return match address.parse() {
            Ok(parsed) => Ok((Kind::Address6(parsed), address.len())),
            Err(_) => Err(Wrong::new(span, &["\"", address, "\" is no address"])
                .help("Ethernet addresses look like 52:54:00:12:34:56, those of IPv6 like 2001:db8::1")),
        };
    }
    if first.is_ascii_alphanumeric() {
        let span = at..at + name.len();
        return Ok((named(name, span)?, name.len()));
    }
    if let Some((sign, kind)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        return Ok((*kind, sign.len()));
    }
    let len = first.len_utf8();
    Err(Wrong::new(at..at + len, &["\"", &rest[..len], "\" has no meaning here"])
        .help("conditions and values are joined by and, or and parentheses"))
}

fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    text.find(|c| !belongs(c)).and_then(|end| text.get(..end)).unwrap_or(text)
}

fn named(name: &str, span: Range<usize>) -> Result<Kind, Wrong> {
    if let Some(word) = word(name) {
        return Ok(match word {
            Word::Number(number) => Kind::Number(number),
            word => Kind::Word(word),
        });
    }
    if let Some(mac) = mac(name, '-').or_else(|| mac(name, '.')).or_else(|| grouped_mac(name)) {
        return Ok(Kind::Mac(mac));
    }
    if looks_numeric(name) {
        return number(name, span).map(Kind::Number);
    }
    let parts = name.split('.').count();
    if (2..=4).contains(&parts) && name.split('.').all(looks_numeric) {
        let mut address = 0u32;
        for part in name.split('.') {
            match number(part, span.clone())? {
                octet @ 0..=255 => address = address << 8 | octet,
                _ => {
                    return Err(Wrong::new(span, &["\"", name, "\" is no IPv4 address"])
                        .help("each of its numbers is at most 255"));
                }
            }
        }
        return Ok(Kind::Address4(address, parts as u8 * 8));
    }
    Ok(Kind::Name)
}

fn looks_numeric(text: &str) -> bool {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()),
    }
}

/// A number as C writes it: decimal, hexadecimal after 0x, octal after 0.
fn number(text: &str, span: Range<usize>) -> Result<u32, Wrong> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    u32::from_str_radix(digits, radix).map_err(|_| match radix {
        8 if text.contains(['8', '9']) => {
            Wrong::new(span, &["\"", text, "\" is no number"]).help("a number that begins with 0 is octal")
        }
        _ => Wrong::new(span, &["\"", text, "\" does not fit into 32 bits"]),
    })
}

/// Six numbers of one or two hexadecimal digits.
fn mac(text: &str, between: char) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(between);
    for byte in &mut mac {
        let part = parts.next()?;
        if !(1..=2).contains(&part.len()) || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Twelve hexadecimal digits, or three times four with dots.
fn grouped_mac(text: &str) -> Option<[u8; 6]> {
    let grouped = text.len() == 14 && text.bytes().enumerate().all(|(at, c)| (c == b'.') == (at % 5 == 4));
    if text.len() != 12 && !grouped {
        return None;
    }
    let mut digits = text.bytes().filter(|&c| c != b'.').map(|c| char::from(c).to_digit(16));
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = (digits.next()?? << 4 | digits.next()??) as u8;
    }
    Some(mac)
}
