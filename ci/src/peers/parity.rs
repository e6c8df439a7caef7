//! The bars that the design sets, and what was measured.

use std::collections::BTreeMap;

use super::Size;
use super::compare::{MILLION, SIZES, cell};
use super::report::{Report, Table};
use super::samples::Figure;

/// A case of forwarding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) size: Size,
    pub(super) batch: usize,
    pub(super) cpus: usize,
    pub(super) flows: usize,
}

/// Cycles of both, measured in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) ours: Figure,
    pub(super) theirs: Figure,
}

impl Pair {
    /// Above 1: ours takes less. By the quickest samples.
    pub(super) fn ratio(&self) -> String {
        format!("{:.2}", self.theirs.best / self.ours.best)
    }

    pub(super) fn note(&self, report: &mut Report, what: &str, case: &str) {
        let unit = if what == "instructions" { what } else { "cycles" };
        report.measure([what, case, "Weir", unit], self.ours);
        report.measure([what, case, "DPDK", unit], self.theirs);
    }
}

/// What bars are compared with.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) forward: BTreeMap<Key, Pair>,
    pub(super) lookup: Option<Pair>,
    pub(super) lookup_bytes: Option<f64>,
    /// Removing and inserting.
    pub(super) updates: Vec<Pair>,
    pub(super) handoff: Vec<(&'static str, Pair)>,
}

/// Forwarding: what, of which family, in which batches, the bar, and whether DPDK is a bar as well.
const FORWARD: [(&str, bool, usize, f64, bool); 4] = [
    ("IPv4 forward, batch 64", false, 64, 100.0, true),
    ("IPv4 forward, batch 16", false, 16, 150.0, false),
    ("IPv4 forward, batch 1", false, 1, 400.0, false),
    ("IPv6 forward, batch 64", true, 64, 80.0, false),
];
/// What is not there to be measured.
const NOT_BUILT: [(&str, &str); 5] = [
    ("bridge, learn and forward", "150"),
    ("state and NAT, 200 flows", "200"),
    ("state and NAT, 50 k flows", "450"),
    ("ESP AES-GCM tunnel, 64 / 512 / 1400 bytes", "348 / 575 / 1008"),
    ("SA look-up, 100 k SAs", "50"),
];
const LOOKUP: f64 = 20.0;
const LOOKUP_MIB: f64 = 16.0;
const UPDATE: f64 = 5000.0;
const HANDOFF: f64 = 10.0;

/// Bars and figures. A bar is met if the quickest sample is not above it.
pub(super) fn table(measured: &Measured) -> Table {
    let title = "Bars and figures, cycles a packet, look-up, change or element";
    let mut table = Table::new(title, &["work", "case", "bar", "Weir", "DPDK", "bar met"]);
    let mut row = |work: &str, case: &str, bar: &str, pair: &Pair, met: bool| {
        let met = if met { "yes" } else { "no" };
        table.row(&[work, case, bar, &cell(pair.ours), &cell(pair.theirs), met]);
    };
    for (work, six, batch, bar, dpdk_too) in FORWARD {
        for size in SIZES.into_iter().filter(|size| size.six == six) {
            let (flows, many) = if size.routes == 10 { (64, "64") } else { (MILLION, "1 M") };
            let Some(pair) = measured.forward.get(&Key { size, flows, batch, cpus: 1 }) else { continue };
            let met = pair.ours.best <= bar && !(dpdk_too && pair.ours.best > pair.theirs.best);
            let text = if dpdk_too { format!("≤ {bar}, ≤ DPDK") } else { format!("≤ {bar}") };
            row(work, &format!("{} routes, {many} flows", super::short(size.routes)), &text, pair, met);
        }
    }
    if let Some(pair) = growth(&measured.forward) {
        let met = pair.ours.best <= pair.theirs.best;
        row("IPv4 forward, growth from 1 to 1 M flows", "1 M routes", "≤ DPDK", &pair, met);
    }
    if let (Some(pair), Some(bytes)) = (&measured.lookup, measured.lookup_bytes) {
        let mib = bytes / f64::from(1 << 20);
        let met = pair.ours.best <= LOOKUP && mib <= LOOKUP_MIB;
        let bar = format!("≤ {LOOKUP} in ≤ {LOOKUP_MIB} MiB");
        row("IPv4 look-up, batch 64", &format!("1 M routes, ours in {mib:.1} MiB"), &bar, pair, met);
    }
    for (pair, what) in measured.updates.iter().zip(["remove", "insert"]) {
        let met = pair.ours.best <= UPDATE;
        row(&format!("FIB update, {what}"), "1 M IPv4 routes", &format!("≤ {UPDATE}"), pair, met);
    }
    for (threads, pair) in &measured.handoff {
        row("hand-off, 32 at a time", threads, &format!("≤ {HANDOFF}"), pair, pair.ours.best <= HANDOFF);
    }
    for (work, bar) in NOT_BUILT {
        table.row(&[work, "–", &format!("≤ {bar}"), "not built", "–", "no"]);
    }
    table
}

/// What a million flows cost more than one, in the large table.
fn growth(forward: &BTreeMap<Key, Pair>) -> Option<Pair> {
    let of = |flows| forward.get(&Key { size: SIZES[1], flows, batch: 64, cpus: 1 });
    let (one, million) = (of(1)?, of(MILLION)?);
    Some(Pair { ours: million.ours.less(one.ours), theirs: million.theirs.less(one.theirs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ours: f64, theirs: f64) -> Pair {
        let figure = |best: f64| Figure { best, median: best + 1.0 };
        Pair { ours: figure(ours), theirs: figure(theirs) }
    }

    #[test]
    fn a_bar_is_met_or_not() {
        let key = |size, flows, batch| Key { size, flows, batch, cpus: 1 };
        let forward = BTreeMap::from([
            (key(SIZES[0], 64, 64), pair(90.0, 95.0)),
            (key(SIZES[1], MILLION, 64), pair(90.0, 80.0)),
            (key(SIZES[1], 1, 64), pair(70.0, 55.0)),
            (key(SIZES[3], MILLION, 64), pair(81.0, 90.0)),
        ]);
        let measured = Measured {
            forward,
            lookup: Some(pair(15.0, 18.0)),
            lookup_bytes: Some(17.0 * 1024.0 * 1024.0),
            updates: vec![pair(4000.0, 1000.0), pair(6000.0, 1000.0)],
            handoff: vec![("one", pair(9.0, 3.0))],
        };
        let text = table(&measured).text();
        let met = |work: &str| -> Vec<bool> {
            text.lines().filter(|line| line.contains(work)).map(|line| line.ends_with("yes")).collect()
        };
        assert_eq!(met("IPv4 forward, batch 64"), [true, false], "DPDK is a bar too");
        assert_eq!(met("growth"), [true], "20 against 25");
        assert_eq!(met("IPv6"), [false]);
        assert_eq!(met("look-up, batch"), [false], "too much memory");
        assert_eq!(met("FIB update"), [true, false]);
        assert_eq!(met("hand-off"), [true]);
        assert_eq!(text.matches("not built").count(), NOT_BUILT.len());
    }
}
