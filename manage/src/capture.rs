//! Packet captures: what is asked for, and the stream of pcapng that answers it.

mod line;

pub use line::{Line, Told};

use crate::pcapng::{self, Counts, Packet};
use crate::problem::{Refused, refuse};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Which way frames go that are wanted: a bit each.
pub const DIRECTIONS: [(&str, u8); 3] = [("in", 1), ("out", 2), ("drop", 4)];
/// Bytes that are kept of a frame, unless it says how many, and at most: a super-packet with its tag fits.
pub const SNAPLEN: (u64, u64) = (1 << 17, 1 << 17);
/// KiB of each CPU's ring, at least, unless it says how many, and at most.
pub const BUFFER_KIB: (u64, u64, u64) = (64, 1024, 65_536);
/// Bytes of a filter expression at most.
pub const LONGEST_FILTER: u64 = 2048;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// An interface's name, with those on VLANs of it; `None`: all.
    pub interface: Option<String>,
    /// A filter expression, pcap-filter(7); empty: all.
    pub filter: String,
    /// Bytes to keep of a frame at most.
    pub snaplen: u32,
    /// Bits of [`DIRECTIONS`].
    pub directions: u8,
    /// Packets after which it ends; `None`: it does not.
    pub limit: Option<u64>,
    /// Bytes of each CPU's ring.
    pub buffer: usize,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            interface: None,
            filter: String::new(),
            snaplen: SNAPLEN.0 as u32,
            directions: 7,
            limit: None,
            buffer: (BUFFER_KIB.1 as usize) << 10,
        }
    }
}

/// Reads `in,out,drop`, or some of them.
///
/// # Errors
/// Another word.
pub fn directions(text: &str) -> Result<u8, Refused> {
    text.split(',').try_fold(0, |bits, word| match DIRECTIONS.iter().find(|(name, _)| *name == word) {
        Some((_, bit)) => Ok(bits | bit),
        None => Err(refuse(
            400,
            "The query cannot be",
            format!("direction: found {word:?}"),
            "give in, out, drop, or several with commas between",
        )),
    })
}

/// A capture that goes on. It ends when it is dropped.
pub trait Source {
    /// What its packets' interfaces are called, by number.
    fn interfaces(&self) -> &[String];

    /// Hands over packets in the order of time, until there is none or `each` says `false`.
    fn read(&mut self, each: &mut dyn FnMut(&Packet<'_>) -> bool);

    /// No more packets are to come; those that wait do.
    fn stop(&mut self);

    /// What was counted of an interface.
    fn counts(&self, interface: usize) -> Counts;

    /// Now, as packets have it.
    fn now_ns(&self) -> u64;

    /// Whether what it captures has become something else, so that it ends.
    fn is_over(&self) -> bool;
}

/// Makes the stream of a capture, piece by piece.
pub struct Stream<S> {
    source: S,
    wish: Wish,
    packets: u64,
    spoken_ns: u64,
    ending: bool,
}

/// A piece is sent once it has so many bytes.
const PIECE: usize = 16 << 10;
/// After so long without packets statistics are sent: so that both sides know that the other is there.
const SILENT_NS: u64 = 5_000_000_000;

impl<S: Source> Stream<S> {
    /// Of `source`; the text in `out` begins it.
    pub fn begin(source: S, wish: Wish, out: &mut Vec<u8>) -> Self {
        let (hardware, os, application) =
            ("x86-64", concat!("Weir ", env!("CARGO_PKG_VERSION")), "weir capture");
        pcapng::section(out, &pcapng::Section { hardware, os, application });
        for name in source.interfaces() {
            let (snaplen, filter) = (wish.snaplen, &*wish.filter);
            pcapng::interface(out, &pcapng::Interface { name, snaplen, filter });
        }
        let spoken_ns = source.now_ns();
        Self { source, wish, packets: 0, spoken_ns, ending: false }
    }

    /// Adds what there is by now, about a piece. `false`: nothing follows.
    pub fn next(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.ending && self.source.is_over() {
            self.end();
        }
        let Self { source, packets, .. } = self;
        let limit = self.wish.limit.unwrap_or(u64::MAX);
        source.read(&mut |packet| {
            pcapng::packet(out, packet);
            *packets += 1;
            *packets < limit && out.len() < PIECE
        });
        if *packets >= limit || self.ending && out.is_empty() {
            self.end();
            self.statistics(out);
            return false;
        }
        let now_ns = self.source.now_ns();
        if !out.is_empty() {
            self.spoken_ns = now_ns;
        } else if now_ns.saturating_sub(self.spoken_ns) >= SILENT_NS {
            self.spoken_ns = now_ns;
            self.statistics(out);
        }
        true
    }

    /// Has it end with the packets that wait.
    pub fn end(&mut self) {
        self.source.stop();
        self.ending = true;
    }

    fn statistics(&self, out: &mut Vec<u8>) {
        let at_ns = self.source.now_ns();
        for (number, _) in (0..).zip(self.source.interfaces()) {
            pcapng::statistics(out, number, at_ns, self.source.counts(number as usize));
        }
    }
}

/// What a router that captures nothing has.
impl Source for core::convert::Infallible {
    fn interfaces(&self) -> &[String] {
        match *self {}
    }

    fn read(&mut self, _: &mut dyn FnMut(&Packet<'_>) -> bool) {
        match *self {}
    }

    fn stop(&mut self) {
        match *self {}
    }

    fn counts(&self, _: usize) -> Counts {
        match *self {}
    }

    fn now_ns(&self) -> u64 {
        match *self {}
    }

    fn is_over(&self) -> bool {
        match *self {}
    }
}
