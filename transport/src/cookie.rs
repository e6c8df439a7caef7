//! SYN cookies (RFC 4987 §3.6): an initial sequence number that holds what the SYN said, so that the handshake's last
//! segment alone makes a connection. Laid out as FreeBSD's: 24 bits that only the key's owner can know, 8 bits of options.

use crate::wire::Flow;
use core::hash::{Hash, Hasher};
use siphasher::sip::SipHasher24;

/// What a SYN says about its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// Bytes of payload it takes in a segment.
    pub(crate) mss: u16,
    /// How far its windows are shifted, if it can do that.
    pub(crate) scale: Option<u8>,
    pub(crate) sack: bool,
}

/// The sizes a cookie can hold, as FreeBSD's `tcp_sc_msstab`: an offer is rounded down.
const SIZES: [u16; 8] = [216, 536, 1200, 1360, 1400, 1440, 1452, 1460];
/// Shifts above are held as this one (RFC 7323 §2.3 allows no more).
const MAX_SCALE: u8 = 14;
const NO_SCALE: u8 = 15;
/// How long a key's cookies are made; they are good for as long again.
const EPOCH_NS: u64 = 64_000_000_000;

impl Offer {
    /// Reads a SYN's options. Without an MSS it is 536 (RFC 9293 §3.7.1).
    pub(crate) fn parse(mut options: &[u8]) -> Self {
        let mut offer = Offer { mss: 536, scale: None, sack: false };
        while let [kind, rest @ ..] = options {
            let len = match (kind, rest.first()) {
                (0, _) => break,
                (1, _) => 1,
                (_, Some(&len)) if len >= 2 => usize::from(len),
                _ => break,
            };
            match options.get(..len) {
                Some(&[2, 4, high, low]) => offer.mss = u16::from_be_bytes([high, low]),
                Some(&[3, 3, shift]) => offer.scale = Some(shift.min(MAX_SCALE)),
                Some(&[4, 2]) => offer.sack = true,
                Some(_) => {}
                None => break,
            }
            options = options.get(len..).unwrap_or(&[]);
        }
        offer
    }

    fn pack(self) -> u8 {
        let size = SIZES.iter().rposition(|&size| size <= self.mss).unwrap_or(0) as u8;
        let scale = self.scale.map_or(NO_SCALE, |shift| shift.min(MAX_SCALE));
        size << 5 | scale << 1 | u8::from(self.sack)
    }

    fn unpack(packed: u8) -> Self {
        let mss = SIZES.get(usize::from(packed >> 5)).copied().unwrap_or(536);
        let scale = Some(packed >> 1 & 15).filter(|&shift| shift != NO_SCALE);
        Offer { mss, scale, sack: packed & 1 == 1 }
    }
}

/// The key of one CPU's cookies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(pub(crate) [u64; 2]);

impl Key {
    /// The initial sequence number of the answer to a SYN that came at `now_ns` with `irs`.
    pub(crate) fn cookie(&self, flow: &Flow, irs: u32, offer: Offer, now_ns: u64) -> u32 {
        self.sign(flow, irs, offer.pack(), now_ns / EPOCH_NS)
    }

    /// What the SYN said, if `iss` is the cookie that answered it one or two epochs ago at the most.
    pub(crate) fn open(&self, flow: &Flow, irs: u32, iss: u32, now_ns: u64) -> Option<Offer> {
        let [.., packed] = iss.to_be_bytes();
        let epoch = now_ns / EPOCH_NS;
        let signed = |epoch| self.sign(flow, irs, packed, epoch) == iss;
        (signed(epoch) || epoch.checked_sub(1).is_some_and(signed)).then(|| Offer::unpack(packed))
    }

    /// A number that nobody else can foresee, for a flow of this router's own (RFC 6528).
    pub(crate) fn seed(&self, flow: &Flow, now_ns: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0[0], self.0[1]);
        (flow, now_ns).hash(&mut hasher);
        hasher.finish()
    }

    fn sign(&self, flow: &Flow, irs: u32, packed: u8, epoch: u64) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.0[0], self.0[1]);
        (flow, irs, packed, epoch).hash(&mut hasher);
        (hasher.finish() as u32) << 8 | u32::from(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn flow(port: u16) -> Flow {
        Flow { local: "192.0.2.1:443".parse().unwrap(), remote: ([192, 0, 2, 9], port).into() }
    }

    proptest! {
        #[test]
        fn a_cookie_holds_the_offer(mss: u16, scale in prop::option::of(0..15u8), sack: bool, irs: u32, port: u16, at in 0..u64::MAX / 2) {
            let key = Key([1, 2]);
            let offer = Offer { mss, scale, sack };
            let iss = key.cookie(&flow(port), irs, offer, at);
            for later in [0, EPOCH_NS / 2, EPOCH_NS] {
                let held = key.open(&flow(port), irs, iss, at + later).unwrap();
                prop_assert!(held.mss <= mss.max(216) && (mss < 536 || held.mss >= 536));
                prop_assert_eq!((held.scale, held.sack), (scale, sack));
            }
            prop_assert_eq!(key.open(&flow(port), irs, iss, at + 2 * EPOCH_NS), None);
        }

        #[test]
        fn reads_any_options(options: Vec<u8>) {
            Offer::parse(&options);
        }
    }

    #[test]
    fn of_another_flow_or_key_or_number_is_none() {
        let key = Key([1, 2]);
        let offer = Offer { mss: 1460, scale: Some(7), sack: true };
        let iss = key.cookie(&flow(1), 5, offer, 0);
        assert_eq!(key.open(&flow(1), 5, iss, 0), Some(offer));
        assert_eq!(key.open(&flow(2), 5, iss, 0), None);
        assert_eq!(key.open(&flow(1), 6, iss, 0), None);
        assert_eq!(Key([1, 3]).open(&flow(1), 5, iss, 0), None);
        let guessed = (0..u32::MAX).step_by(65_537).filter(|&iss| key.open(&flow(1), 5, iss, 0).is_some());
        assert!(guessed.count() < 4, "24 bits have to be guessed");
    }

    #[test]
    fn options_of_linux() {
        // MSS 1460, SACK permitted, time stamps, NOP, window scale 7.
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(Offer::parse(&options), Offer { mss: 1460, scale: Some(7), sack: true });
    }
}
