//! Packets on the console as they pass: `capture`.

use super::parse::Parsed;
use super::{Console, Mode, Router, names};
use crate::capture::{Source, Told, Wish, directions};
use crate::pcapng::Counts;
use crate::problem::Refused;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes that are kept of a packet, unless the operator says how many: headers with all their options, most of the time.
const SNAPLEN: u32 = 128;
/// Bytes of each CPU's ring: a thousand packets and more. What waits there is old by the time a slow console shows it.
const BUFFER: usize = 256 << 10;
/// Output from which on packets wait in their rings.
const BACKLOG: usize = 4096;

impl Console {
    pub(super) fn begin_capture(&mut self, parsed: &Parsed, router: &mut dyn Router) {
        let interface = parsed.argument("NAME");
        if let Some(wanted) = interface {
            let names = names(&router.interfaces());
            if !names.iter().any(|name| name == wanted) {
                self.no_interface(wanted, &names);
                if parsed.says("filter") {
                    self.say("a filter of several words is written in quotes: filter \"port 53\"");
                }
                return;
            }
        }
        let whole = Wish::default();
        router.capture(Wish {
            interface: interface.map(String::from),
            filter: parsed.argument("FILTER").unwrap_or_default().into(),
            snaplen: parsed.number("BYTES").map_or(SNAPLEN, |bytes| bytes as u32),
            directions: parsed
                .argument("DIRECTION")
                .and_then(|words| directions(words).ok())
                .unwrap_or(whole.directions),
            limit: parsed.number("PACKETS"),
            buffer: BUFFER,
        });
        self.mode = Mode::Capture { stopped: false };
    }

    /// Says why [`Router::capture`] captures nothing, and where the filter is wrong if it is.
    pub fn capture_refused(&mut self, wish: &Wish, refused: &Refused) {
        if !self.waits_for_packets() {
            return;
        }
        if let Some(column) = refused.0.column {
            self.say(&wish.filter);
            let before = column.saturating_sub(1) as usize;
            self.say(&format!("{:before$}^", ""));
        }
        self.out.push_str(&refused.to_string());
        self.capture_ended();
    }

    fn capture_ended(&mut self) {
        self.mode = Mode::Line;
        self.refresh();
    }

    /// Whoever left it by two Ctrl-C waits for nothing: there is a prompt.
    fn waits_for_packets(&self) -> bool {
        matches!(self.mode, Mode::Capture { .. })
    }

    fn takes_packets(&self) -> bool {
        self.out.len() < BACKLOG
    }
}

/// A capture that the console shows. It ends when it is dropped.
#[derive(Debug)]
pub struct Listing<S> {
    source: S,
    names: Vec<String>,
    limit: u64,
    shown: u64,
}

impl<S: Source> Listing<S> {
    /// Of `source`, up to so many packets.
    pub fn begin(source: S, limit: Option<u64>, console: &mut Console) -> Self {
        let names = source.interfaces().to_vec();
        if console.waits_for_packets() {
            let place = match names.as_slice() {
                [only] => only.clone(),
                several => format!("{} interfaces", several.len()),
            };
            console.say(&format!("listening on {place}; Ctrl-C ends it"));
        }
        Self { source, names, limit: limit.unwrap_or(u64::MAX), shown: 0 }
    }

    /// Shows packets while the console has room for lines. `false`: that was all, and what was counted is said.
    pub fn next(&mut self, console: &mut Console) -> bool {
        let Self { source, names, limit, shown } = self;
        let is_over = source.is_over();
        let ends = is_over || !matches!(console.mode, Mode::Capture { stopped: false });
        if ends {
            // Nothing is added from here on: what is counted is what waits and what was shown.
            source.stop();
        }
        if console.waits_for_packets() && console.takes_packets() {
            source.read(&mut |packet| {
                let interface = names.get(packet.interface as usize).map_or("?", String::as_str);
                console.say(&Told { packet, interface }.to_string());
                *shown += 1;
                *shown < *limit && console.takes_packets()
            });
        }
        if !ends && *shown < *limit {
            return true;
        }
        source.stop();
        if console.waits_for_packets() {
            let mut all = Counts::default();
            for number in 0..names.len() {
                let counts = source.counts(number);
                all.received += counts.received;
                all.matched += counts.matched;
                all.dropped += counts.dropped;
            }
            let Counts { received, matched, dropped } = all;
            let captured = matched.saturating_sub(dropped);
            console.say(&format!(
                "{received} packets received, {matched} matched, {captured} captured, {dropped} dropped, {shown} shown"
            ));
            if is_over {
                console.say("the capture is over: its interfaces are others now");
            }
            console.capture_ended();
        }
        false
    }
}
