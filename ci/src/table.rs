//! The router's counters, read the way an operator reads them: a key on the console, then a table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::router::{Image, Router};

/// What one table said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// The lines of the console it was read from.
    pub(crate) text: String,
    /// By interface: packets in, packets out.
    packets: BTreeMap<String, (u64, u64)>,
    drops: BTreeMap<String, u64>,
    /// Bytes of heap and packet memory in use, as the console words them.
    pub(crate) memory: Option<String>,
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

    /// Packets received by all interfaces.
    pub(crate) fn received_in_all(&self) -> u64 {
        self.packets.values().map(|counts| counts.0).sum()
    }
}

/// Presses a key and reads the table that follows.
pub(crate) fn read(router: &mut Router) -> Result<Table> {
    let position = router.machine.console.position();
    match router.image {
        Image::Weir => {
            router.machine.type_keys(b"s")?;
            router.machine.console.wait_after(position, "memory", Duration::from_secs(3))?;
        }
        Image::Linux => {
            router.machine.type_keys(b"\n")?;
            router.machine.console.wait_after(position, "end of table", Duration::from_secs(3))?;
        }
    }
    // The rest of the table follows at the console's speed: it is whole once nothing more comes.
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut lines = router.machine.console.since(position);
    loop {
        std::thread::sleep(Duration::from_millis(40));
        let more = router.machine.console.since(position);
        if more.len() == lines.len() {
            break;
        }
        if Instant::now() > deadline {
            bail!("the console does not come to rest");
        }
        lines = more;
    }
    let text: String = lines.iter().map(|line| format!("{}\n", line.text)).collect();
    Ok(match router.image {
        Image::Weir => parse_weir(&text),
        Image::Linux => parse_linux(&text),
    })
}

fn parse_weir(_text: &str) -> Table {
    Table::default()
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
    fn reads_proc_net_dev() {
        let table = parse_linux("Inter-| x\n  eth0: 100 2 0 0 0 0 0 0 300 4 0 0 0 0 0 0\n");
        assert_eq!((table.received("wan"), table.sent("wan")), (2, 4));
    }
}
