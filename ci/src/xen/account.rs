//! What a guest holds: memory and buffers by its own account; grants, event channels and pages by Xen's. Vifs that come
//! and go again must leave all of it as it was.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::dom0::Dom0;
use super::guest::Guest;
use super::traffic;
use crate::router::Image;
use crate::table::{self, Table};

const NOTICE: Duration = Duration::from_secs(10);

/// Buffers in receive rings, which are filled in batches, may differ by this.
const RING: u64 = 64;

/// Weir's table, by an empty line on its console. A console whose daemon is late loses lines: then once more.
pub(crate) fn weir(dom0: &mut Dom0, guest: &Guest) -> Result<Table> {
    read(dom0, guest).or_else(|_| read(dom0, guest))
}

fn read(dom0: &mut Dom0, guest: &Guest) -> Result<Table> {
    let before = guest.console_len(dom0)?;
    guest.type_keys(dom0, "\\n")?;
    let deadline = Instant::now() + NOTICE;
    let mut length = 0;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let new = guest.console_after(dom0, before)?;
        // It is whole once nothing more comes.
        if new.contains("memory") && new.len() == length {
            return Ok(table::parse_weir(&new));
        }
        length = new.len();
        ensure!(Instant::now() < deadline, "no table on the guest's console, only {new:?}");
    }
}

/// What Xen knows that a guest holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Grants that another domain has mapped or uses.
    pub(crate) grants: usize,
    /// Pages of its grant table.
    pub(crate) frames: usize,
    pub(crate) channels: usize,
}

/// Has Xen print its tables, and reads what is about the guest.
pub(crate) fn holdings(dom0: &mut Dom0, guest: &Guest) -> Result<Holdings> {
    Ok(parse(&printed(dom0, guest)?, guest.id))
}

fn printed(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    let position = dom0.machine.console.position();
    dom0.check("xl debug-keys g; xl debug-keys e", NOTICE)?;
    dom0.machine.console.wait_after(position, "gnttab_usage_print_all ] done", NOTICE)?;
    dom0.machine.console.wait_after(
        position,
        &format!("Event channel information for domain {}:", guest.id),
        NOTICE,
    )?;
    let mut lines = dom0.machine.console.since(position).len();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let all = dom0.machine.console.since(position);
        if all.len() == lines {
            return Ok(all.iter().map(|line| format!("{}\n", line.text)).collect());
        }
        lines = all.len();
    }
}

/// dom0's end of the guest's event channel `port`.
pub(crate) fn far_port(dom0: &mut Dom0, guest: &Guest, port: u32) -> Result<u32> {
    let text = printed(dom0, guest)?;
    parse_far_port(&text, guest.id, port).with_context(|| format!("no port {port} of dom0's in {text}"))
}

fn parse_far_port(text: &str, id: u32, port: u32) -> Option<u32> {
    let (_, own) = text.split_once(&format!("Event channel information for domain {id}:"))?;
    let mut lines = own.lines().map(|line| line.strip_prefix("(XEN) ").unwrap_or(line).trim());
    let line = lines.find(|line| line.starts_with(&format!("{port} [")))?;
    line.contains(" s=3 ").then_some(())?;
    line.split(" p=").nth(1)?.split_whitespace().next()?.parse().ok()
}

fn parse(text: &str, id: u32) -> Holdings {
    let mut found = Holdings::default();
    let (mut grants, mut channels) = (false, false);
    for line in text.lines() {
        let line = line.strip_prefix("(XEN) ").unwrap_or(line).trim();
        if let Some(rest) = line.strip_prefix("grant-table for remote d") {
            grants = rest.split(' ').next() == Some(&id.to_string());
            channels = false;
        } else if let Some(rest) = line.strip_prefix("Event channel information for domain ") {
            channels = rest.trim_end_matches(':') == id.to_string();
            grants = false;
        } else if grants && line.starts_with("[0x") {
            found.grants += 1;
        } else if grants && let Some((frames, _)) = line.split_once(" frames (") {
            found.frames = frames.parse().unwrap_or_default();
        } else if channels && line.contains("]: s=") {
            found.channels += 1;
        }
    }
    found
}

/// The line of Weir's table about grants and watches.
fn means(table: &Table) -> Option<String> {
    table.text.lines().rev().map(str::trim).find(|line| line.starts_with("xen ")).map(str::to_owned)
}

/// Attaches and detaches the third vif `count` times, with a ping each time, and compares before and after. The first
/// round is not compared: it may take what is then kept for the next.
pub(crate) fn cycles(dom0: &mut Dom0, guest: &Guest, count: usize, target: IpAddr) -> Result<String> {
    let round = |dom0: &mut Dom0, number: usize| -> Result<()> {
        guest.attach(dom0, 2)?;
        guest.connected(dom0, 2, NOTICE)?;
        // A thousand rounds need not all prove that it forwards.
        if number.is_multiple_of(10) {
            traffic::ping(dom0, &guest.hosts, 2, target)?;
        }
        guest.detach(dom0, 2)
    };
    round(dom0, 0).context("first round")?;
    let began = Instant::now();
    let before = Account::take(dom0, guest)?;
    for number in 1..=count {
        round(dom0, number).with_context(|| format!("round {number} of {count}"))?;
        if number.is_multiple_of(100) {
            let means = Account::take(dom0, guest)?.means().unwrap_or_default();
            println!("      {number} rounds, {:.0} s: {means}", began.elapsed().as_secs_f64());
        }
    }
    let held = before.compare(&Account::take(dom0, guest)?)?;
    let seconds = began.elapsed().as_secs_f64() / count.max(1) as f64;
    Ok(format!("{count} rounds, {seconds:.1} s each; {held}"))
}

/// All that a guest holds.
pub(crate) struct Account {
    xen: Holdings,
    /// Weir's own table.
    own: Option<Table>,
}

impl Account {
    pub(crate) fn take(dom0: &mut Dom0, guest: &Guest) -> Result<Account> {
        let own = if guest.plan.image == Image::Weir { Some(weir(dom0, guest)?) } else { None };
        Ok(Account { xen: holdings(dom0, guest)?, own })
    }

    fn means(&self) -> Option<String> {
        means(self.own.as_ref()?)
    }

    /// Nothing may stay behind until `after`. What was held then and now.
    pub(crate) fn compare(&self, after: &Account) -> Result<String> {
        let mut said = Vec::new();
        for (what, old, new) in [
            ("grants in use", self.xen.grants, after.xen.grants),
            ("grant frames", self.xen.frames, after.xen.frames),
            ("event channels", self.xen.channels, after.xen.channels),
        ] {
            said.push(format!("{what} {old} -> {new}"));
        }
        if let Some((old, new)) = self.means().zip(after.means()) {
            ensure!(old == new, "it keeps what is Xen's: {old} -> {new}");
            said.push(new);
        }
        let memory = |account: &Account| account.own.as_ref()?.memory;
        if let Some((old, new)) = memory(self).zip(memory(after)) {
            said.push(format!("{} -> {} KiB, {} -> {} buffers", old.kib, new.kib, old.buffers, new.buffers));
            let kept = new.kib > old.kib || new.buffers > old.buffers + RING;
            ensure!(!kept, "it keeps memory: {}", said.join("; "));
        }
        let said = said.join("; ");
        // A grant in the middle of its use may be seen or not.
        let leak = after.xen.channels > self.xen.channels || after.xen.frames > self.xen.frames;
        ensure!(!leak && after.xen.grants <= self.xen.grants + 4, "something stays behind: {said}");
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_xen_prints_about_one_guest() {
        let text = "(XEN) grant-table for remote d0 (v1)\n(XEN)   1 frames (64 max), 2 maptrack frames (1024 max)\n\
                    (XEN) no active grant table entries\n(XEN) grant-table for remote d1 (v1)\n\
                    (XEN)   3 frames (64 max), 0 maptrack frames (1024 max)\n\
                    (XEN) [0x000]      0 0xb88a9 0x00000002          0 0x0fefff 0x19\n\
                    (XEN) [0x40a]      0 0xb5d95 0x00000001          0 0x005b95 0x19\n\
                    (XEN) gnttab_usage_print_all ] done\n(XEN) Event channel information for domain 0:\n\
                    (XEN)        1 [0/0/  -   ]: s=5 n=0 x=0 v=0\n(XEN) Event channel information for domain 1:\n\
                    (XEN) Polling vCPUs: {}\n(XEN)     port [p/m/s]\n\
                    (XEN)        1 [0/0/  -   ]: s=3 n=0 x=0 d=0 p=24\n";
        assert_eq!(parse(text, 1), Holdings { grants: 2, frames: 3, channels: 1 });
        assert_eq!((parse_far_port(text, 1, 1), parse_far_port(text, 1, 2)), (Some(24), None));
    }
}
