//! The console's table: the model's interfaces, CPUs and tasks on one page, for a look in passing.

use crate::model::{Cpu, Interface, Lock, Status, Task, Xen};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Interfaces with packets, bytes and losses by reason, CPUs, tasks, and a last line about memory.
pub struct Table<'a> {
    /// In the configuration's order.
    pub interfaces: &'a [Interface],
    /// In order.
    pub cpus: &'a [Cpu],
    /// What the tasks of all CPUs cost: a row a name.
    pub tasks: &'a [Task],
    /// The last line.
    pub status: &'a Status,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.interfaces(f)?;
        self.cpus(f)?;
        let status = self.status;
        if let Some(Xen { grants, grants_in_limbo, grants_most, watches }) = &status.xen {
            writeln!(
                f,
                "xen {grants} grants used of {grants_most}; {grants_in_limbo} in limbo; {watches} watches"
            )?;
        }
        let lost = match status.buffers_lost {
            0 => String::new(),
            lost => format!(" ({lost} lost)"),
        };
        writeln!(
            f,
            "memory {} KiB used of {} KiB; buffers {} used of {}{lost}; up {}.{:03} s; busy {} ticks",
            status.memory_bytes.saturating_sub(status.memory_free_bytes) >> 10,
            status.memory_bytes >> 10,
            status.buffers.saturating_sub(status.buffers_free),
            status.buffers,
            status.uptime_ms / 1000,
            status.uptime_ms % 1000,
            self.cpus.first().map_or(0, |boot| boot.busy_ticks),
        )
    }
}

impl Table<'_> {
    fn interfaces(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<15} {:<8} {:>12} {:>15} {:>12} {:>15} {:>10}",
            "interface", "state", "rx packets", "rx bytes", "tx packets", "tx bytes", "dropped"
        )?;
        for interface in self.interfaces {
            let Interface { name, state, rx_packets, rx_bytes, tx_packets, tx_bytes, dropped, .. } =
                interface;
            writeln!(
                f,
                "{name:<15} {state:<8} {rx_packets:>12} {rx_bytes:>15} {tx_packets:>12} {tx_bytes:>15} {dropped:>10}"
            )?;
            if let Some(fault) = &interface.fault {
                writeln!(f, "  broken: {fault}")?;
            }
            for loss in &interface.drops {
                writeln!(f, "  {:>10} {}", loss.packets, loss.reason)?;
            }
        }
        if self.interfaces.is_empty() {
            writeln!(f, "(no interface is configured)")?;
        }
        writeln!(f, "{:<15} {:>12} {:>13}", "device of", "interrupts", "notifications")?;
        let signalled = |interface: &&Interface| interface.interrupts + interface.notifications != 0;
        for Interface { name, interrupts, notifications, .. } in self.interfaces.iter().filter(signalled) {
            writeln!(f, "{name:<15} {interrupts:>12} {notifications:>13}")?;
        }
        Ok(())
    }

    fn cpus(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>12} {:>12} {:>12} {:>12} {:>7}",
            "cpu", "received", "sent", "handed-over", "turns", "busy"
        )?;
        for Cpu { name, received, sent, handed_over, turns, busy_permille, .. } in self.cpus {
            let (whole, tenth) = (busy_permille / 10, busy_permille % 10);
            writeln!(
                f,
                "{name:<8} {received:>12} {sent:>12} {handed_over:>12} {turns:>12} {whole:>4}.{tenth}%"
            )?;
        }
        writeln!(
            f,
            "{:<15} {:>8} {:>12} {:>12} {:>12} {:>12}",
            "task", "tasks", "polls", "total ms", "over 1 ms", "longest us"
        )?;
        let everywhere = joined(self.tasks.iter().cloned(), |one, other| one.name == other.name);
        for Task { name, tasks, polls, total_ns, longest_ns, long_polls, .. } in everywhere {
            let (total_ms, longest_us) = (total_ns / 1_000_000, longest_ns / 1000);
            writeln!(
                f,
                "{name:<15} {tasks:>8} {polls:>12} {total_ms:>12} {long_polls:>12} {longest_us:>12}"
            )?;
        }
        Ok(())
    }
}

/// Tasks that are the `same` as one, which has the first's name and CPU; those that took longest come first.
pub fn joined(tasks: impl Iterator<Item = Task>, same: fn(&Task, &Task) -> bool) -> Vec<Task> {
    let mut all: Vec<Task> = Vec::new();
    for task in tasks {
        // Those of one name were mostly begun one after the other.
        match all.iter_mut().rev().find(|known| same(known, &task)) {
            Some(known) => {
                known.tasks += task.tasks;
                known.polls += task.polls;
                known.total_ns += task.total_ns;
                known.longest_ns = known.longest_ns.max(task.longest_ns);
                known.long_polls += task.long_polls;
            }
            None => all.push(task),
        }
    }
    let mut sorted: Vec<Task> = Vec::with_capacity(all.len());
    for task in all {
        sorted.insert(sorted.partition_point(|before| before.total_ns >= task.total_ns), task);
    }
    sorted
}

/// What happened at the locks: a row a rank, in the order in which they are taken.
pub struct Locks<'a>(pub &'a [Lock]);

impl fmt::Display for Locks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<15} {:>12} {:>12} {:>12}", "lock", "acquired", "contended", "spins")?;
        self.0.iter().try_for_each(|Lock { name, acquired, contended, spins }| {
            writeln!(f, "{name:<15} {acquired:>12} {contended:>12} {spins:>12}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InterfaceState, Loss};
    use alloc::string::ToString;

    #[test]
    fn the_table_lists_what_was_lost_and_not_what_was_consumed() {
        let status = Status {
            memory_bytes: 128 << 20,
            memory_free_bytes: 100 << 20,
            buffers: 4096,
            buffers_free: 4000,
            uptime_ms: 12_345,
            ..Status::default()
        };
        let wan = Interface {
            name: "wan".into(),
            state: InterfaceState::Up,
            rx_packets: 3,
            rx_bytes: 192,
            tx_packets: 2,
            tx_bytes: 128,
            dropped: 1,
            consumed: 1,
            interrupts: 2,
            notifications: 1,
            drops: [Loss { reason: "ttl-expired".into(), packets: 1 }].into(),
            ..Interface::default()
        };
        let cpu = Cpu {
            name: "cpu0".into(),
            received: 3,
            sent: 2,
            handed_over: 1,
            turns: 9,
            busy_permille: 123,
            busy_ticks: 7,
            busy_us: 0,
            buffers_idle: 0,
            stack_free_bytes: 0,
        };
        let management = Task {
            name: "management".into(),
            cpu: "cpu0".into(),
            tasks: 1,
            polls: 12,
            total_ns: 9_000_000,
            longest_ns: 1_234_567,
            long_polls: 1,
        };
        let api = |cpu: &str| Task { name: "api".into(), cpu: cpu.into(), tasks: 16, ..management.clone() };
        let tasks = [api("cpu0"), management.clone(), api("cpu1")];
        let table = Table { interfaces: &[wan], cpus: &[cpu], tasks: &tasks, status: &status }.to_string();
        let expected = "\
interface       state      rx packets        rx bytes   tx packets        tx bytes    dropped
wan             up                  3             192            2             128          1
           1 ttl-expired
device of         interrupts notifications
wan                        2             1
cpu          received         sent  handed-over        turns    busy
cpu0                3            2            1            9   12.3%
task               tasks        polls     total ms    over 1 ms   longest us
api                   32           24           18            2         1234
management             1           12            9            1         1234
memory 28672 KiB used of 131072 KiB; buffers 96 used of 4096; up 12.345 s; busy 7 ticks
";
        assert_eq!(table, expected);
        let status = Status { buffers_lost: 3, ..status };
        let table = Table { interfaces: &[], cpus: &[], tasks: &[], status: &status }.to_string();
        assert!(table.contains("buffers 96 used of 4096 (3 lost); up 12.345 s"), "{table}");
        assert!(table.contains("(no interface is configured)"), "{table}");
    }

    #[test]
    fn tasks_that_are_the_same_are_one_and_the_dearest_comes_first() {
        let task = |name: &str, cpu: &str, ns| Task {
            name: name.into(),
            cpu: cpu.into(),
            tasks: 1,
            polls: 2,
            total_ns: ns,
            longest_ns: ns / 2,
            long_polls: u64::from(ns > 30),
        };
        let all = [
            task("log", "cpu0", 20),
            task("api", "cpu0", 10),
            task("api", "cpu0", 40),
            task("api", "cpu1", 5),
        ];
        let on_a_cpu =
            joined(all.into_iter(), |one, other| (&one.name, &one.cpu) == (&other.name, &other.cpu));
        let api = Task { tasks: 2, polls: 4, total_ns: 50, longest_ns: 20, ..task("api", "cpu0", 40) };
        assert_eq!(on_a_cpu, [api.clone(), task("log", "cpu0", 20), task("api", "cpu1", 5)]);
        let everywhere = joined(on_a_cpu.into_iter(), |one, other| one.name == other.name);
        let api = Task { tasks: 3, polls: 6, total_ns: 55, ..api };
        assert_eq!(everywhere, [api, task("log", "cpu0", 20)]);
    }

    #[test]
    fn locks_have_a_row_each() {
        let lock =
            |name: &str, acquired, contended, spins| Lock { name: name.into(), acquired, contended, spins };
        let expected = "\
lock                acquired    contended        spins
Heap                       3            1           40
Frames                     0            0            0
";
        assert_eq!(Locks(&[lock("Heap", 3, 1, 40), lock("Frames", 0, 0, 0)]).to_string(), expected);
    }
}
