//! What an operator reads on the console: the ready line and the table of interfaces.

use crate::guest::Holdings;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use ipnet::IpNet;
use weir_machine::task::Report;
use weir_netif::{Drop, Link, Totals};
use weir_sync::CpuId;
use weir_sync::rank::Contention;

/// An interface as an operator sees it.
#[derive(Clone, Debug)]
pub struct InterfaceStatus {
    /// Its configured name.
    pub name: String,
    /// Its carrier, or the fault that took its device down.
    pub state: State,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its counters.
    pub totals: Totals,
}

/// Whether packets can pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its device is not plugged in.
    Absent,
    /// The configuration says `enabled = false`.
    Disabled,
    /// The device lives and reports its carrier.
    Link(Link),
    /// The device broke its protocol and was taken down; why.
    Broken(&'static str),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Absent => "absent",
            State::Disabled => "disabled",
            State::Link(Link::Up) => "up",
            State::Link(Link::Down) => "down",
            State::Broken(_) => "broken",
        })
    }
}

/// The router's own means.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// Bytes of memory in all, and bytes not given to anybody.
    pub memory: u64,
    /// Of these, free.
    pub memory_free: u64,
    /// Packet buffers in all, and those free.
    pub buffers: usize,
    /// Of these, free.
    pub buffers_free: usize,
    /// Of these, never used again: a device that was not ended may still write to them.
    pub buffers_lost: usize,
    /// Nanoseconds since entry.
    pub uptime_ns: u64,
    /// TSC ticks that the boot CPU was not asleep.
    pub busy_ticks: u64,
}

/// What a CPU has done.
#[derive(Clone, Copy, Debug)]
pub struct CpuStatus {
    /// Which.
    pub cpu: CpuId,
    /// Packets its stack received.
    pub received: u64,
    /// Packets it transmitted.
    pub sent: u64,
    /// Packets it sent to other CPUs.
    pub handed_over: u64,
    /// Softints it served.
    pub turns: u64,
    /// How much of the time since entry it was awake.
    pub busy_permille: u64,
}

/// The table of interfaces with packets, bytes and drops by reason, of CPUs and of tasks, and a last line about memory.
pub struct Table<'a> {
    /// In table order.
    pub interfaces: &'a [InterfaceStatus],
    /// In order.
    pub cpus: &'a [CpuStatus],
    /// What the tasks of all CPUs cost.
    pub tasks: &'a [Report],
    /// On Xen: what we hold of its means.
    pub holdings: Option<Holdings>,
    /// The last line.
    pub means: Means,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<15} {:<8} {:>12} {:>15} {:>12} {:>15} {:>10}",
            "interface", "state", "rx packets", "rx bytes", "tx packets", "tx bytes", "dropped"
        )?;
        for interface in self.interfaces {
            let totals = &interface.totals;
            let lost = || totals.drops().filter(|&(reason, _)| reason != Drop::Consumed);
            writeln!(
                f,
                "{:<15} {:<8} {:>12} {:>15} {:>12} {:>15} {:>10}",
                interface.name,
                interface.state,
                totals.rx_packets,
                totals.rx_bytes,
                totals.tx_packets,
                totals.tx_bytes,
                lost().map(|(_, count)| count).sum::<u64>(),
            )?;
            if let State::Broken(reason) = interface.state {
                writeln!(f, "  broken: {reason}")?;
            }
            for (reason, count) in lost() {
                writeln!(f, "  {count:>10} {reason}")?;
            }
        }
        if self.interfaces.is_empty() {
            writeln!(f, "(no interface is configured)")?;
        }
        writeln!(f, "{:<15} {:>12} {:>13}", "device of", "interrupts", "notifications")?;
        let signalled = |totals: &Totals| totals.interrupts + totals.notifications != 0;
        for InterfaceStatus { name, totals, .. } in self.interfaces.iter().filter(|i| signalled(&i.totals)) {
            writeln!(f, "{name:<15} {:>12} {:>13}", totals.interrupts, totals.notifications)?;
        }
        writeln!(
            f,
            "{:<8} {:>12} {:>12} {:>12} {:>12} {:>7}",
            "cpu", "received", "sent", "handed-over", "turns", "busy"
        )?;
        for cpu in self.cpus {
            writeln!(
                f,
                "{:<8} {:>12} {:>12} {:>12} {:>12} {:>4}.{}%",
                cpu.cpu.to_string(),
                cpu.received,
                cpu.sent,
                cpu.handed_over,
                cpu.turns,
                cpu.busy_permille / 10,
                cpu.busy_permille % 10,
            )?;
        }
        writeln!(f, "{:<15} {:<8} {:>12} {:>15} {:>12}", "task", "cpu", "polls", "over 1 ms", "longest us")?;
        for task in self.tasks {
            let (cpu, longest) = (task.cpu.to_string(), task.longest_ns / 1000);
            writeln!(
                f,
                "{:<15} {cpu:<8} {:>12} {:>15} {longest:>12}",
                task.name, task.polls, task.long_polls
            )?;
        }
        if let Some(Holdings { grants, limbo, entries, watches }) = self.holdings {
            writeln!(f, "xen {grants} grants used of {entries}; {limbo} in limbo; {watches} watches")?;
        }
        let means = &self.means;
        let lost = match means.buffers_lost {
            0 => String::new(),
            lost => format!(" ({lost} lost)"),
        };
        writeln!(
            f,
            "memory {} KiB used of {} KiB; buffers {} used of {}{lost}; up {} s; busy {} ticks",
            (means.memory - means.memory_free.min(means.memory)) >> 10,
            means.memory >> 10,
            means.buffers - means.buffers_free.min(means.buffers),
            means.buffers,
            Seconds(means.uptime_ns),
            means.busy_ticks,
        )
    }
}

/// What happened at the locks: a row a rank, in the order in which they are taken.
pub struct Locks<'a>(pub &'a [Contention]);

impl fmt::Display for Locks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<15} {:>12} {:>12} {:>12}", "lock", "acquired", "contended", "spins")?;
        self.0.iter().try_for_each(|rank| {
            let (acquired, contended, spins) = (rank.acquired(), rank.contended(), rank.spins());
            writeln!(f, "{:<15} {acquired:>12} {contended:>12} {spins:>12}", rank.name())
        })
    }
}

/// Nanoseconds as seconds with three decimals.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

/// The line that says the router forwards. Starts with `weir: ready`.
pub struct Ready<'a> {
    /// Its name.
    pub hostname: &'a str,
    /// Nanoseconds, and TSC ticks, since entry.
    pub since_entry_ns: u64,
    /// TSC ticks since entry: under an instruction-counting emulator, instructions.
    pub since_entry_ticks: u64,
    /// CPUs that run.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Name and addresses of each interface.
    pub interfaces: &'a [InterfaceStatus],
}

impl fmt::Display for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "weir: ready in {}.{:02} ms ({} ticks), {}, {} CPU{}, {} MiB",
            self.since_entry_ns / 1_000_000,
            self.since_entry_ns / 10_000 % 100,
            self.since_entry_ticks,
            self.hostname,
            self.cpus,
            if self.cpus == 1 { "" } else { "s" },
            self.memory.div_ceil(1 << 20),
        )?;
        for interface in self.interfaces {
            write!(f, "; {}", interface.name)?;
            if let State::Link(Link::Up) = interface.state {
            } else {
                write!(f, " ({})", interface.state)?;
            }
            for address in &interface.addresses {
                write!(f, " {address}")?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_netif::IfCounters;

    fn wan() -> InterfaceStatus {
        let counters = IfCounters::new();
        counters.received(CpuId::BOOT, 3, 192);
        counters.sent(CpuId::BOOT, 2, 128);
        counters.dropped(CpuId::BOOT, Drop::TtlExpired);
        counters.dropped(CpuId::BOOT, Drop::Consumed);
        counters.signalled(CpuId::BOOT, 2, 1);
        InterfaceStatus {
            name: "wan".into(),
            state: State::Link(Link::Up),
            addresses: ["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()].into(),
            totals: counters.totals(),
        }
    }

    #[test]
    fn the_table_lists_what_was_lost_and_not_what_was_consumed() {
        let means = Means {
            memory: 128 << 20,
            memory_free: 100 << 20,
            buffers: 4096,
            buffers_free: 4000,
            buffers_lost: 0,
            uptime_ns: 12_345_678_901,
            busy_ticks: 7,
        };
        let cpu = CpuStatus {
            cpu: CpuId::BOOT,
            received: 3,
            sent: 2,
            handed_over: 1,
            turns: 9,
            busy_permille: 123,
        };
        let management = Report {
            name: "management",
            cpu: CpuId::BOOT,
            polls: 12,
            total_ns: 9_000_000,
            longest_ns: 1_234_567,
            long_polls: 1,
        };
        let table = Table { interfaces: &[wan()], cpus: &[cpu], tasks: &[management], holdings: None, means }
            .to_string();
        let expected = "\
interface       state      rx packets        rx bytes   tx packets        tx bytes    dropped
wan             up                  3             192            2             128          1
           1 ttl-expired
device of         interrupts notifications
wan                        2             1
cpu          received         sent  handed-over        turns    busy
cpu0                3            2            1            9   12.3%
task            cpu             polls       over 1 ms   longest us
management      cpu0               12               1         1234
memory 28672 KiB used of 131072 KiB; buffers 96 used of 4096; up 12.345 s; busy 7 ticks
";
        assert_eq!(table, expected);
        let means = Means { buffers_lost: 3, ..means };
        let table = Table { interfaces: &[], cpus: &[], tasks: &[], holdings: None, means }.to_string();
        assert!(table.contains("buffers 96 used of 4096 (3 lost); up 12.345 s"), "{table}");
    }

    #[test]
    fn locks_have_a_row_each() {
        let heap = Contention::new("Heap");
        (0..3).for_each(|_| heap.count_acquired());
        heap.count_contended();
        heap.count_spins(40);
        let expected = "\
lock                acquired    contended        spins
Heap                       3            1           40
Frames                     0            0            0
";
        assert_eq!(Locks(&[heap, Contention::new("Frames")]).to_string(), expected);
    }

    #[test]
    fn the_ready_line_is_one_line_with_every_address() {
        let line = Ready {
            hostname: "edge1",
            since_entry_ns: 3_256_000,
            since_entry_ticks: 99,
            cpus: 2,
            memory: 128 << 20,
            interfaces: &[wan()],
        };
        assert_eq!(
            line.to_string(),
            "weir: ready in 3.25 ms (99 ticks), edge1, 2 CPUs, 128 MiB; wan 192.0.2.1/24 2001:db8::1/64\n"
        );
    }
}
