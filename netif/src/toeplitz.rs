//! The Toeplitz hash that spreads flows over queues and CPUs, by devices and in software alike.

/// Bytes of a hash key, as devices take it (virtio 1.2 §5.1.6.5.7).
pub const KEY: usize = 40;

/// Key whose 16-bit period makes the hash symmetric: swapping source and destination, addresses and ports alike,
/// changes nothing (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling", 2012).
pub const SYMMETRIC_KEY: [u8; KEY] = {
    let mut key = [0; KEY];
    let mut at = 0;
    while at < KEY {
        key[at] = if at % 2 == 0 { HALF.to_be_bytes()[0] } else { HALF.to_be_bytes()[1] };
        at += 1;
    }
    key
};

/// The period of [`SYMMETRIC_KEY`].
const HALF: u16 = 0x6d5a;

/// The hash of `input` by any key, bit by bit: the definition. Bits of `input` beyond what the key covers are ignored.
pub const fn toeplitz(key: &[u8; KEY], input: &[u8]) -> u32 {
    let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let (mut hash, mut at) = (0, 0);
    while at < 8 * input.len() && at + 32 <= 8 * KEY {
        if input[at / 8] >> (7 - at % 8) & 1 == 1 {
            hash ^= window;
        }
        let next = if at + 32 < 8 * KEY { key[at / 8 + 4] >> (7 - at % 8) & 1 } else { 0 };
        window = window << 1 | next as u32;
        at += 1;
    }
    hash
}

/// [`toeplitz`] by [`SYMMETRIC_KEY`] of an input of 16-bit words, given their exclusive or: as the key repeats every 16
/// bits, each word counts alike, wherever it stands. Never 0, which stands for "not computed".
#[inline]
pub fn symmetric(folded: u16) -> u32 {
    let [high, low] = folded.to_be_bytes();
    let half = u32::from(TABLES.0[usize::from(high)] ^ TABLES.1[usize::from(low)]);
    (half << 16 | half).max(1)
}

/// The hash's upper half for each value of a word's upper and lower byte.
static TABLES: ([u16; 256], [u16; 256]) = {
    let mut tables = ([0; 256], [0; 256]);
    let mut byte = 0;
    while byte < 256 {
        tables.0[byte] = (toeplitz(&SYMMETRIC_KEY, &[byte as u8, 0]) >> 16) as u16;
        tables.1[byte] = (toeplitz(&SYMMETRIC_KEY, &[0, byte as u8]) >> 16) as u16;
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    /// The key of the published examples ("Verifying the RSS Hash Calculation", Windows driver documentation).
    const PUBLISHED: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn input(source: &[u8], destination: &[u8], ports: Option<(u16, u16)>) -> Vec<u8> {
        let mut input = [source, destination].concat();
        for port in ports.into_iter().flat_map(|(from, to)| [from, to]) {
            input.extend(port.to_be_bytes());
        }
        input
    }

    #[test]
    fn gives_the_published_hashes() {
        // Destination, source, ports to and from; the hash of addresses alone and with ports.
        let v4 = [
            ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323e_8fc2, 0x51cc_c178),
            ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xd718_262a, 0xc626_b0ea),
            ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xd2d0_a5de, 0x5c2b_394a),
            ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x8298_9176, 0xafc7_327f),
            ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5d18_09c5, 0x10e8_28a2),
        ];
        for (to, to_port, from, from_port, addresses, all) in v4 {
            let octets = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
            let hash = |ports| toeplitz(&PUBLISHED, &input(&octets(from), &octets(to), ports));
            assert_eq!((hash(None), hash(Some((from_port, to_port)))), (addresses, all), "{from} to {to}");
        }
        let v6 = [
            ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2cc1_8cd5, 0x4020_7d3d),
            ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0f0c_461c, 0xdde5_1bbf),
            (
                "fe80::200:f8ff:fe21:67cf",
                38024,
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (to, to_port, from, from_port, addresses, all) in v6 {
            let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            let hash = |ports| toeplitz(&PUBLISHED, &input(&octets(from), &octets(to), ports));
            assert_eq!((hash(None), hash(Some((from_port, to_port)))), (addresses, all), "{from} to {to}");
        }
    }

    proptest! {
        #[test]
        fn both_directions_hash_alike(source: [u8; 16], destination: [u8; 16], from: u16, to: u16) {
            let there = input(&source, &destination, Some((from, to)));
            let back = input(&destination, &source, Some((to, from)));
            prop_assert_eq!(toeplitz(&SYMMETRIC_KEY, &there), toeplitz(&SYMMETRIC_KEY, &back));
        }

        #[test]
        fn the_quick_form_is_the_definition(words in proptest::collection::vec(any::<u16>(), 0..=18)) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let folded = words.iter().fold(0, |sum, word| sum ^ word);
            prop_assert_eq!(symmetric(folded), toeplitz(&SYMMETRIC_KEY, &bytes).max(1));
        }
    }
}
