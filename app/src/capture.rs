//! Packet captures of this router: from the taps' rings, one a CPU, to one stream in the order of time. Task level.
//!
//! The flight recorder's entries are told here too.

use crate::manage::View;
use crate::shared::Shared;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_bpf::expression::{self, Options};
use weir_bpf::{Filter, Program};
use weir_machine::interrupt::MESSAGE;
use weir_machine::{clock, code::Code, dispatch, frames, mask, task};
use weir_manage::capture::{Line, Source, Wish};
use weir_manage::model::Recorded;
use weir_manage::pcapng::{self, Counts};
use weir_manage::problem::{Refused, refuse};
use weir_netif::{Drop, IfIndex};
use weir_netstack::Snapshot;
use weir_netstack::capture::{self as taps, Attached, CAPTURES, Capture, Direction, Record};
use weir_netstack::recorder::{Entry, What};
use weir_netstack::snapshot::LinkId;
use weir_sync::records::Consumer;
use weir_sync::{Control, CpuId, cpu};

/// Packets younger than this wait: another CPU may have an older one that it has not committed yet.
const SETTLE_NS: u64 = 2_000_000;
/// What is left of memory to others, at least: a part of what is free.
const SHARE: u64 = 2;

/// Ticks of the TSC as nanoseconds: of one clock from its beginning on, whatever becomes of the others.
#[derive(Clone, Copy, Debug)]
struct Scale {
    ticks: u64,
    ns: u64,
    hz: u64,
}

impl Scale {
    /// Since entry.
    fn now() -> Self {
        Self { ticks: clock::tsc(), ns: clock::now(), hz: clock::tsc_hz().max(1) }
    }

    /// The same since 1970 if somebody knows the time of day. It does not follow when that is set again.
    fn since(self, entry: Option<i64>) -> Self {
        Self { ns: self.ns.saturating_add_signed(entry.unwrap_or(0)), ..self }
    }

    fn ns(&self, ticks: u64) -> u64 {
        let scaled =
            |ticks: u64| (u128::from(ticks) * u128::from(clock::SECOND) / u128::from(self.hz)) as u64;
        match ticks.checked_sub(self.ticks) {
            Some(after) => self.ns.saturating_add(scaled(after)),
            None => self.ns.saturating_sub(scaled(self.ticks - ticks)),
        }
    }
}

/// What captures of `text` let pass; `None`: all. In machine code, or interpreted where there are no pages for that.
fn filter(text: &str, snaplen: u32) -> Result<Option<Box<dyn Filter>>, Refused> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let options = Options { snap_length: snaplen, ..Options::default() };
    let wrong = |detail: String| {
        let cure = "pcap-filter(7) describes filters: host 192.0.2.1 and tcp port 443, for example";
        refuse(400, "The filter cannot be", detail, cure)
    };
    let instructions =
        expression::compile(text, options).map_err(|error| wrong(error.to_string()).at(error.column))?;
    let program = Program::new(&instructions).map_err(|rejected| wrong(rejected.to_string()))?;
    Ok(Some(match Code::load(weir_bpf::compile(program)) {
        Ok(code) => Box::new(code),
        Err(compiled) => Box::new(compiled.program().clone()),
    }))
}

/// A capture that goes on. Dropping it ends it.
pub struct Session {
    shared: &'static Shared,
    capture: Arc<Capture>,
    /// `None`: it was stopped.
    attached: Option<Attached>,
    rings: Vec<Consumer>,
    scale: Scale,
    /// What it captures, by number.
    names: Vec<String>,
    links: Vec<(IfIndex, LinkId)>,
}

/// Begins one.
///
/// # Errors
/// The filter, the interface, memory, or the number of captures: in words, with what helps.
pub(crate) fn begin(shared: &'static Shared, view: &View, wish: &Wish) -> Result<Session, Refused> {
    let filter = filter(&wish.filter, wish.snaplen)?;
    if let Some(name) = &wish.interface
        && !view.config.interfaces.iter().any(|interface| *interface.name == **name)
    {
        let known: Vec<&str> = view.config.interfaces.iter().map(|interface| &*interface.name).collect();
        let cure = format!("the interfaces are {}", known.join(", "));
        return Err(refuse(404, "There is no such interface", format!("found {name:?}"), cure));
    }
    let chosen = mask::masked(|cx| chosen(&shared.running.read(cx).snapshot, wish.interface.as_deref()));
    if chosen.is_empty() {
        return Err(refuse(
            409,
            "There is nothing to capture from",
            "no such interface is in service",
            "`show interfaces` and GET /api/v1/interfaces say why",
        ));
    }
    let (mut names, mut links) = (Vec::new(), Vec::new());
    for (index, link, name) in chosen {
        names.push(name);
        links.push((index, link));
    }
    // The longest record has room twice.
    let ring = wish.buffer.max(2 * (wish.snaplen as usize + 64)).next_power_of_two();
    let (needed, free) = ((ring as u64).saturating_mul(cpu::count() as u64), frames::free_bytes());
    let no_memory = || {
        refuse(
            503,
            "There is too little memory",
            format!("the buffers take {} KiB and {} KiB are free", needed >> 10, free >> 10),
            "ask for a smaller buffer or snaplen, or give the machine more memory",
        )
    };
    if needed > free / SHARE {
        return Err(no_memory());
    }
    let interfaces: Vec<IfIndex> = links.iter().map(|(index, _)| *index).collect();
    let (interfaces, directions, snaplen) = (&interfaces[..], wish.directions, wish.snaplen);
    let (capture, rings) =
        Capture::new(taps::Wish { interfaces, directions, snaplen, filter, ring }).ok_or_else(no_memory)?;
    let scale = Scale::now().since(clock::wall::offset());
    let attached = task::control(|cx| shared.taps.attach(cx, &capture)).ok_or_else(|| {
        let detail = format!("{CAPTURES} go on already");
        refuse(503, "There are too many captures", detail, "end one, or wait for one to end")
    })?;
    // Each CPU's stack looks for captures when it is told to.
    (0..cpu::count()).filter_map(CpuId::new).for_each(|cpu| dispatch::raise(cpu, MESSAGE));
    Ok(Session { shared, capture, attached: Some(attached), rings, scale, names, links })
}

/// The interface of that name, with those on VLANs of it; or all.
fn chosen(snapshot: &Snapshot, name: Option<&str>) -> Vec<(IfIndex, LinkId, String)> {
    let named = snapshot.interfaces().find(|interface| Some(&*interface.name) == name);
    let all = snapshot.interfaces().filter(|interface| match (name, named) {
        (None, _) => true,
        (Some(_), Some(named)) => {
            interface.index == named.index || named.link.vlan == 0 && interface.link.port == named.index
        }
        (Some(_), None) => false,
    });
    all.map(|interface| (interface.index, interface.link, interface.name.clone())).collect()
}

impl Session {
    /// The ring with the oldest packet, and when that passed.
    fn oldest(&mut self) -> Option<(usize, u64)> {
        let heads = self.rings.iter_mut().enumerate().filter_map(|(number, ring)| {
            Some((number, ring.front(|bytes| Record::parse(bytes).map_or(0, |record| record.ticks))?))
        });
        heads.min_by_key(|(_, ticks)| *ticks)
    }
}

impl Source for Session {
    fn interfaces(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, each: &mut dyn FnMut(&pcapng::Packet<'_>) -> bool) {
        // Looked at before the rings are: what is not committed by then is younger.
        let settled =
            if self.attached.is_some() { self.now_ns().saturating_sub(SETTLE_NS) } else { u64::MAX };
        let scale = self.scale;
        while let Some((number, ticks)) = self.oldest() {
            let at_ns = scale.ns(ticks);
            if at_ns > settled {
                return;
            }
            let Some(ring) = self.rings.get_mut(number) else { return };
            let goes_on = ring.front(|bytes| {
                Record::parse(bytes).is_none_or(|record| {
                    each(&pcapng::Packet {
                        at_ns,
                        interface: record.interface.into(),
                        cpu: number as u32,
                        direction: match record.direction {
                            Direction::In => pcapng::Direction::Inbound,
                            Direction::Out => pcapng::Direction::Outbound,
                            Direction::Drop => {
                                pcapng::Direction::Lost(record.reason.map_or("unknown", Drop::name))
                            }
                        },
                        owed: record.owed,
                        verified: record.verified,
                        segments: record.gso != 0,
                        len: record.len,
                        bytes: record.bytes,
                    })
                })
            });
            ring.advance();
            if goes_on != Some(true) {
                return;
            }
        }
    }

    fn stop(&mut self) {
        if let Some(attached) = self.attached.take() {
            task::control(|cx| self.shared.taps.detach(cx, attached));
        }
    }

    fn counts(&self, interface: usize) -> Counts {
        let taps::Counts { received, matched, dropped, .. } = self.capture.counts(interface);
        Counts { received, matched, dropped }
    }

    fn now_ns(&self) -> u64 {
        self.scale.ns(clock::tsc())
    }

    fn is_over(&self) -> bool {
        let is_there = |snapshot: &Snapshot, &(index, link): &(IfIndex, LinkId), name: &String| {
            snapshot.interface(index).is_some_and(|own| own.link == link && own.name == *name)
        };
        mask::masked(|cx| {
            let snapshot = &self.shared.running.read(cx).snapshot;
            !self.links.iter().zip(&self.names).all(|(link, name)| is_there(snapshot, link, name))
        })
    }
}

impl core::ops::Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The flight recorder's newest entries, at most so many.
pub(crate) fn recorded(cx: &mut Control, shared: &Shared, most: usize) -> Vec<Recorded> {
    let scale = Scale::now();
    let entries = shared.taps.recorder.newest(most);
    let mut name =
        |index| cx.masked(|cx| shared.running.read(cx).snapshot.interface(index).map(|own| own.name.clone()));
    entries.iter().map(|entry| told(entry, &scale, name(entry.interface))).collect()
}

fn told(entry: &Entry, scale: &Scale, interface: Option<String>) -> Recorded {
    let is_packet = matches!(entry.what, What::Dropped(_)) && !entry.head().is_empty();
    Recorded {
        at_us: scale.ns(entry.ticks) / 1000,
        cpu: entry.cpu.to_string(),
        interface: interface.filter(|_| entry.what != What::Configured),
        what: entry.what.name().into(),
        bytes: entry.len.into(),
        packet: if is_packet { Line(entry.head()).to_string() } else { String::new() },
        head: entry.head().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect(),
    }
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

/// Says the newest losses and changes of each CPU. Allocates and waits for nothing: for a panic.
pub fn last_words(shared: &Shared, say: &mut dyn FnMut(core::fmt::Arguments<'_>)) {
    /// Of each CPU.
    const MOST: usize = 8;
    let scale = Scale::now();
    for cpu in (0..cpu::count()).filter_map(CpuId::new) {
        for entry in shared.taps.of(cpu, MOST) {
            let ms = scale.ns(entry.ticks) / 1_000_000;
            let (number, what) = (entry.interface.0, entry.what.name());
            say(format_args!("{cpu} {ms} ms, interface {number}: {what} {}", Line(entry.head())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_clock_as_it_was_when_the_capture_began() {
        let entry = Scale { ticks: 5_000, ns: 2_000_000, hz: 2_000_000_000 };
        assert_eq!([3_000, 5_000, 9_000].map(|ticks| entry.ns(ticks)), [1_999_000, 2_000_000, 2_002_000]);
        let of_day = entry.since(Some(1_795_284_000_000_000_000));
        assert_eq!(of_day.ns(9_000), 1_795_284_000_002_002_000);
        assert_eq!(entry.since(None).ns(9_000), 2_002_000);
        // An hour on, to the nanosecond.
        assert_eq!(of_day.ns(5_000 + 7_200_000_000_000), 1_795_287_600_002_000_000);
    }
}
