//! The router's counters, read the way an operator reads them: a word on the console, then a table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rig::PATIENCE;
use crate::router::{Image, Router};

/// How long a table may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// What the router has given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) kib: u64,
    /// Packet buffers: in receive rings, waiting for neighbours, sent and not taken back yet.
    pub(crate) buffers: u64,
}

/// What a CPU has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuRow {
    pub(crate) received: u64,
    /// Packets sent to other CPUs.
    pub(crate) handed_over: u64,
    /// Softints it served.
    pub(crate) turns: u64,
}

/// What one table said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// The lines of the console it was read from.
    pub(crate) text: String,
    /// By interface: packets in, packets out.
    packets: BTreeMap<String, (u64, u64)>,
    drops: BTreeMap<String, u64>,
    /// By interface: interrupts from its device, notifications to it.
    signals: BTreeMap<String, (u64, u64)>,
    pub(crate) memory: Option<Memory>,
    /// In order.
    pub(crate) cpus: Vec<CpuRow>,
    /// TSC ticks the boot CPU was not asleep.
    pub(crate) busy_ticks: Option<u64>,
}

impl Table {
    /// Packets an interface received.
    pub(crate) fn received(&self, interface: &str) -> u64 {
        self.packets.get(interface).map_or(0, |counts| counts.0)
    }

    /// Packets an interface sent.
    pub(crate) fn sent(&self, interface: &str) -> u64 {
        self.packets.get(interface).map_or(0, |counts| counts.1)
    }

    /// Packets dropped for a reason, over all interfaces.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        self.drops.get(reason).copied().unwrap_or_default()
    }

    /// Interrupts from all devices, and notifications to them.
    pub(crate) fn signals(&self) -> (u64, u64) {
        self.signals.values().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1))
    }

    /// Packets received by all interfaces.
    pub(crate) fn received_in_all(&self) -> u64 {
        self.packets.values().map(|counts| counts.0).sum()
    }
}

/// Asks for the table and reads it.
pub(crate) fn read(router: &mut Router) -> Result<Table> {
    let console = router.machine.console.clone();
    let position = console.position();
    // What is typed, the line above the answer, and its last line.
    let (word, first, last) = match router.image {
        Image::Weir => ("table\n", "> table", " KiB used of "),
        Image::Linux => ("\n", "", "end of table"),
    };
    router.machine.type_keys(word.as_bytes())?;
    // Below what was typed: the router prints a table by itself now and then.
    console.wait_after(position, first, LIMIT)?;
    let asked = console.since(position).iter().position(|line| line.text.contains(first)).unwrap_or(0);
    console.wait_after(position + asked, last, LIMIT)?;
    let lines = console.since(position + asked);
    let whole = lines.iter().position(|line| line.text.contains(last)).unwrap_or(lines.len());
    let text: String = lines.iter().take(whole + 1).map(|line| format!("{}\n", line.text)).collect();
    Ok(match router.image {
        Image::Weir => parse_weir(&text),
        Image::Linux => parse_linux(&text),
    })
}

/// Asks for tables until one is as it `is` to be: what was sent is counted once the router has come to it.
pub(crate) fn until(router: &mut Router, what: &str, is: impl Fn(&Table) -> bool) -> Result<Table> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let table = read(router)?;
        if is(&table) {
            return Ok(table);
        }
        ensure!(Instant::now() < deadline, "{what}: not so in {} s:\n{}", PATIENCE.as_secs(), table.text);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A head, a row an interface, below it a line a drop reason; a last line about memory. The last table counts.
pub(crate) fn parse_weir(text: &str) -> Table {
    let mut table = Table { text: text.to_owned(), ..Table::default() };
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match words.as_slice() {
            ["interface", "state", ..] => {
                table.packets.clear();
                table.drops.clear();
                table.cpus.clear();
                table.signals.clear();
            }
            ["memory", ..] => {
                let buffers =
                    line.split("buffers ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
                table.memory = number(1).zip(buffers).map(|(kib, buffers)| Memory { kib, buffers });
                let busy = line.split("busy ").nth(1).and_then(|rest| rest.split(' ').next());
                table.busy_ticks = busy.and_then(|ticks| ticks.parse().ok());
            }
            [cpu, received, _, handed_over, turns, busy] if cpu.starts_with("cpu") && busy.ends_with('%') => {
                let numbers = (received.parse(), handed_over.parse(), turns.parse());
                if let (Ok(received), Ok(handed_over), Ok(turns)) = numbers {
                    table.cpus.push(CpuRow { received, handed_over, turns });
                }
            }
            [name, _, _] => {
                if let (Some(interrupts), Some(notifications)) = (number(1), number(2)) {
                    table.signals.insert((*name).to_owned(), (interrupts, notifications));
                }
            }
            [_, reason] => {
                if let Some(count) = number(0) {
                    *table.drops.entry((*reason).to_owned()).or_default() += count;
                }
            }
            [name, ..] if words.len() == 7 => {
                if let (Some(received), Some(sent)) = (number(2), number(4)) {
                    table.packets.insert((*name).to_owned(), (received, sent));
                }
            }
            _ => {}
        }
    }
    table
}

/// `/proc/net/dev`: receive bytes, packets, ... in columns 1 and 2, transmit in 9 and 10. Ports are named as in
/// `Config::two_ports`.
fn parse_linux(text: &str) -> Table {
    let mut table = Table { text: text.to_owned(), ..Table::default() };
    for line in text.lines() {
        let Some((name, rest)) = line.trim().split_once(':') else { continue };
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let interface = match name {
            "eth0" => "wan",
            "eth1" => "lan",
            other => other,
        };
        if let (Some(received), Some(sent)) = (numbers.get(1), numbers.get(9)) {
            table.packets.insert(interface.to_owned(), (*received, *sent));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_last_of_weirs_tables() {
        let row = |packets: u64| format!("wan             up   {packets}   640   7   448   3\n");
        let head =
            "interface       state      rx packets        rx bytes   tx packets        tx bytes    dropped\n";
        let memory =
            "memory 28672 KiB used of 131072 KiB; buffers 96 used of 4096; up 12.345 s; busy 7 ticks\n";
        let cpus = "cpu          received         sent  handed-over        turns    busy\n\
                    cpu0               10            7            3            9   12.3%\n";
        let drops = "           2 ttl-expired\n           1 no-route\n";
        let signals = "device of         interrupts notifications\nwan   5   6\nlan   7  8\n";
        let news = "[ 1.0] cpu0 info  lan: link down\n";
        let text = [head, &row(5), drops, memory, news, head, &row(10), drops, signals, cpus];
        let table = parse_weir(&(text.concat() + memory));
        assert_eq!(table.cpus, [CpuRow { received: 10, handed_over: 3, turns: 9 }]);
        assert_eq!((table.received("wan"), table.sent("wan"), table.received("lan")), (10, 7, 0));
        assert_eq!((table.drops("ttl-expired"), table.drops("no-route")), (2, 1));
        assert_eq!(table.memory, Some(Memory { kib: 28672, buffers: 96 }));
        assert_eq!(table.busy_ticks, Some(7));
        assert_eq!(table.signals(), (12, 14));
    }

    #[test]
    fn reads_proc_net_dev() {
        let table = parse_linux("Inter-| x\n  eth0: 100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n");
        assert_eq!((table.received("wan"), table.sent("wan")), (2, 4));
    }
}
