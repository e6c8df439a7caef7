//! Messages (RFC 9915 §8) and the options that a client needs (§21, RFC 3646).

use crate::LEAST_S;
use crate::read::Bytes;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

const CLIENT: u16 = 1;
const SERVER: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const WANTED: u16 = 6;
const PREFERENCE: u16 = 7;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const DNS: u16 = 23;
const REFRESH: u16 = 32;
const SOLICIT_MAX: u16 = 82;
const INFORM_MAX: u16 = 83;

/// Status codes (RFC 9915 §21.13).
pub(super) const SUCCESS: u16 = 0;
pub(super) const NO_BINDING: u16 = 3;

/// Addresses, associations and name servers that are looked at, each.
pub(super) const MOST: usize = 8;
/// The longest DUID (RFC 9915 §11.1).
const LONGEST_DUID: usize = 130;

/// What a message is for (RFC 9915 §7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who has addresses?
    Solicit = 1,
    /// These could be yours.
    Advertise = 2,
    /// I want them.
    Request = 3,
    /// Do they belong to this link?
    Confirm = 4,
    /// I want to keep them, of you.
    Renew = 5,
    /// I want to keep them, of anyone.
    Rebind = 6,
    /// An answer.
    Reply = 7,
    /// I am done with them.
    Release = 8,
    /// Somebody else has them.
    Decline = 9,
    /// What else is there?
    Information = 11,
}

/// A server's answer, checked in itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// [`Kind::Advertise`] or [`Kind::Reply`].
    pub kind: Kind,
    /// Which request it answers: 24 bits.
    pub xid: u32,
    /// Whose: a DUID.
    pub client: Vec<u8>,
    /// Who answers: a DUID.
    pub server: Vec<u8>,
    /// Of offers the highest is taken.
    pub preference: u8,
    /// 0: success.
    pub status: u16,
    /// It answers a solicitation at once.
    pub rapid: bool,
    /// Addresses.
    pub associations: Vec<Association>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Seconds until other things are to be asked for again.
    pub refresh_s: Option<u32>,
    /// The longest waits between solicitations, and between questions for other things.
    pub solicit_max_s: Option<u32>,
    /// As above.
    pub inform_max_s: Option<u32>,
}

/// Addresses that are renewed together (RFC 9915 §21.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Association {
    /// Which of the client's.
    pub iaid: u32,
    /// Seconds until it is renewed, and by any server; 0: the client decides.
    pub t1_s: u32,
    /// As above.
    pub t2_s: u32,
    /// 0: success.
    pub status: u16,
    /// The addresses.
    pub given: Vec<Given>,
}

/// An address (RFC 9915 §21.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// It.
    pub address: Ipv6Addr,
    /// Seconds.
    pub preferred_s: u32,
    /// Seconds; 0: not any more.
    pub valid_s: u32,
}

impl Association {
    /// Whether there is an address in it to use.
    pub fn is_usable(&self) -> bool {
        self.status == SUCCESS && self.given.iter().any(|given| given.valid_s > 0)
    }
}

/// The next option.
fn option<'a>(bytes: &mut Bytes<'a>) -> Option<(u16, Bytes<'a>)> {
    let (code, len) = (bytes.u16()?, bytes.u16()?);
    Some((code, Bytes(bytes.take(len.into())?)))
}

impl Reply {
    /// Reads a server's message; `None` if it is none, or lacks who it is from and for.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(message);
        let [kind, x, y, z] = bytes.array()?;
        let kind = match kind {
            2 => Kind::Advertise,
            7 => Kind::Reply,
            _ => return None,
        };
        let mut reply = Self {
            kind,
            xid: u32::from_be_bytes([0, x, y, z]),
            client: Vec::new(),
            server: Vec::new(),
            preference: 0,
            status: SUCCESS,
            rapid: false,
            associations: Vec::new(),
            dns: Vec::new(),
            refresh_s: None,
            solicit_max_s: None,
            inform_max_s: None,
        };
        while !bytes.0.is_empty() {
            let (code, mut value) = option(&mut bytes)?;
            match code {
                CLIENT => reply.client = value.0.into(),
                SERVER if value.0.len() <= LONGEST_DUID => reply.server = value.0.into(),
                PREFERENCE => reply.preference = value.u8()?,
                STATUS => reply.status = value.u16()?,
                RAPID_COMMIT => reply.rapid = true,
                IA_NA if reply.associations.len() < MOST => {
                    reply.associations.extend(Association::read(value))
                }
                DNS => {
                    while let Some(octets) = value.array::<16>() {
                        let address = Ipv6Addr::from(octets);
                        if reply.dns.len() < MOST && !address.is_multicast() && !address.is_unspecified() {
                            reply.dns.push(address);
                        }
                    }
                }
                REFRESH => reply.refresh_s = value.u32(),
                SOLICIT_MAX => reply.solicit_max_s = value.u32(),
                INFORM_MAX => reply.inform_max_s = value.u32(),
                _ => {}
            }
        }
        (!reply.client.is_empty() && !reply.server.is_empty()).then_some(reply)
    }
}

impl Association {
    fn read(mut bytes: Bytes<'_>) -> Option<Self> {
        let (iaid, t1_s, t2_s) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
        let mut read = Self { iaid, t1_s, t2_s, status: SUCCESS, given: Vec::new() };
        while !bytes.0.is_empty() {
            let (code, mut value) = option(&mut bytes)?;
            match code {
                STATUS => read.status = value.u16()?,
                IA_ADDRESS if read.given.len() < MOST => read.given.extend(Given::read(value)),
                _ => {}
            }
        }
        // RFC 9915 §21.4: it is to be passed over.
        (t1_s <= t2_s || t2_s == 0).then_some(read)
    }
}

impl Given {
    fn read(mut bytes: Bytes<'_>) -> Option<Self> {
        let address = Ipv6Addr::from(bytes.array::<16>()?);
        let (preferred_s, valid_s) = (bytes.u32()?, bytes.u32()?);
        while !bytes.0.is_empty() {
            if let (STATUS, mut value) = option(&mut bytes)?
                && value.u16()? != SUCCESS
            {
                return None;
            }
        }
        let host = !(address.is_multicast()
            || address.is_unspecified()
            || address.is_loopback()
            || address.is_unicast_link_local());
        let lasts = valid_s == 0 || valid_s >= LEAST_S;
        (host && lasts && preferred_s <= valid_s).then_some(Self { address, preferred_s, valid_s })
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) xid: u32,
    pub(super) client: &'a [u8],
    pub(super) server: Option<&'a [u8]>,
    pub(super) iaid: u32,
    pub(super) addresses: &'a [Ipv6Addr],
    /// Hundredths of a second since the exchange began.
    pub(super) elapsed: u16,
}

impl Request<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let [_, x, y, z] = self.xid.to_be_bytes();
        let mut out = Vec::from([self.kind as u8, x, y, z]);
        let mut option = |code: u16, value: &[u8]| {
            out.extend(code.to_be_bytes());
            out.extend((value.len() as u16).to_be_bytes());
            out.extend_from_slice(value);
        };
        option(CLIENT, self.client);
        if let Some(server) = self.server {
            option(SERVER, server);
        }
        if self.kind != Kind::Information {
            let mut association = Vec::from(self.iaid.to_be_bytes());
            association.extend([0; 8]);
            for address in self.addresses {
                association.extend([0, IA_ADDRESS as u8, 0, 24]);
                association.extend(address.octets());
                association.extend([0; 8]);
            }
            option(IA_NA, &association);
        }
        option(ELAPSED, &self.elapsed.to_be_bytes());
        match self.kind {
            Kind::Confirm | Kind::Release | Kind::Decline => {}
            Kind::Information => option(WANTED, &[0, DNS as u8, 0, REFRESH as u8, 0, INFORM_MAX as u8]),
            _ => option(WANTED, &[0, DNS as u8, 0, SOLICIT_MAX as u8]),
        }
        if self.kind == Kind::Solicit {
            option(RAPID_COMMIT, &[]);
        }
        out
    }
}
