//! Makes a time line of the trace on a router's console: `trace: ` lines of the command `trace` or of a fatal report.

use std::fmt::Write;

use weir_sync::trace::{Record, What};

/// What was found on a console.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// In the order of time, each once.
    pub(crate) records: Vec<Record>,
    /// TSC ticks a second, if the console said so.
    hz: Option<u64>,
    /// Lines that say they are records and are none: cut off, or mixed with others.
    pub(crate) spoilt: usize,
}

impl Trace {
    /// Reads a console's text.
    pub(crate) fn read(text: &str) -> Trace {
        let mut trace = Trace::default();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("trace: ") {
                match rest.split(' ').next().and_then(Record::from_hex) {
                    Some(record) => trace.records.push(record),
                    None => trace.spoilt += 1,
                }
            } else if let Some(rest) = line.trim_end().strip_suffix(" ticks a second")
                && line.contains("trace of ")
            {
                trace.hz = rest.rsplit(' ').next().and_then(|word| word.parse().ok());
            }
        }
        trace.records.sort_by_key(|r| (r.time, r.cpu, r.event, r.words));
        trace.records.dedup();
        trace
    }

    /// A line an event: time since the first one, time since the one before, CPU, what happened. Times are in
    /// microseconds, or in ticks where the console does not tell how long one is.
    pub(crate) fn timeline(&self) -> String {
        let mut text = String::new();
        let (unit, digits) = if self.hz.is_some() { ("us", 3) } else { ("ticks", 0) };
        let length = |ticks: u64| match self.hz {
            Some(hz) => ticks as f64 * 1e6 / hz.max(1) as f64,
            None => ticks as f64,
        };
        let _ = writeln!(text, "{:>14} {:>12}  cpu  event", unit, "since last");
        let first = self.records.first().map_or(0, |record| record.time);
        let mut last = first;
        for record in &self.records {
            let (at, since) = (length(record.time - first), length(record.time - last));
            let _ =
                writeln!(text, "{at:>14.digits$} {since:>+12.digits$}  {:>3}  {}", record.cpu, What(record));
            last = record.time;
        }
        if self.spoilt > 0 {
            let _ = writeln!(text, "{} lines could not be read", self.spoilt);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sync::Event;
    use weir_sync::trace::Hex;

    fn line(time: u64, cpu: u32, event: Event, word: u64) -> String {
        let record = Record { time, cpu, event: event as u32, words: [word, 0, 0] };
        format!("  trace: {} 0.5 cpu{cpu} {}\n", Hex(&record), What(&record))
    }

    #[test]
    fn sorts_the_events_of_all_cpus_and_tells_each_once() {
        let mut text = "noise\ntrace of 3 events, 0 lost; 2000000000 ticks a second\r\n".to_owned();
        text += &line(5000, 1, Event::Softint, 9);
        text += &line(3000, 0, Event::Raise, 9);
        text += &line(5000, 1, Event::Softint, 9);
        text += "[    0.1] cpu0 info  trace: torn\n";
        let expected = "            us   since last  cpu  event
         0.000       +0.000    0  Raise: raises source 9 of cpu 0
         1.000       +1.000    1  Softint: source 9 begins
1 lines could not be read
";
        assert_eq!(Trace::read(&text).timeline(), expected);
    }

    #[test]
    fn a_report_has_ticks() {
        let text = line(5000, 0, Event::Sleep, 0) + &line(5700, 0, Event::Wake, 256);
        let expected = "         ticks   since last  cpu  event
             0           +0    0  Sleep: sleeps
           700         +700    0  Wake: wakes, pending 0x100
";
        assert_eq!(Trace::read(&text).timeline(), expected);
    }

    #[test]
    fn no_trace_is_none() {
        assert!(Trace::read("weir: ready\n").records.is_empty());
    }
}
