//! All counters as text for Prometheus. Names are stable; labels are names, never numbers of the router's own.

use crate::model::{Cpus, Interface, InterfaceState, Queue, Sockets, Status, Task};
use crate::router::Router;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// Nanoseconds and thousandths, as the seconds and ratios that Prometheus wants.
struct Scaled(u64, u32);

impl core::fmt::Display for Scaled {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let unit = 10u64.pow(self.1);
        write!(f, "{}.{:0width$}", self.0 / unit, self.0 % unit, width = self.1 as usize)
    }
}

/// How the page is written. The samples are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// OpenMetrics 1.0, which Prometheus asks for.
    Open,
    /// Prometheus' own text format 0.0.4, for all others.
    Plain,
}

/// Families of metrics, written one after the other.
struct Page(String, Format);

impl Page {
    /// Begins a family. `kind` is OpenMetrics' name of its type.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Where OpenMetrics names the family, the older format names its samples.
        let (suffix, kind) = match (self.1, kind) {
            (Format::Plain, "counter") => ("_total", kind),
            (Format::Plain, "info") => ("_info", "gauge"),
            _ => ("", kind),
        };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP weir_{name}{suffix} {help}\n# TYPE weir_{name}{suffix} {kind}\n");
    }

    /// A sample: `labels` without braces, or none.
    fn sample(&mut self, name: &str, labels: &str, value: impl core::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "weir_{name} {value}"),
            _ => writeln!(self.0, "weir_{name}{{{labels}}} {value}"),
        };
    }

    /// A family of counters, one of each item.
    fn counters<T>(&mut self, name: &str, help: &str, items: &[T], of: &dyn Fn(&T) -> (String, String)) {
        self.family(name, "counter", help);
        let name = format!("{name}_total");
        self.samples(&name, items, of);
    }

    /// A family of gauges, one of each item.
    fn gauges<T>(&mut self, name: &str, help: &str, items: &[T], of: &dyn Fn(&T) -> (String, String)) {
        self.family(name, "gauge", help);
        self.samples(name, items, of);
    }

    // By `dyn`, here and above: there are thirty of them.
    fn samples<T>(&mut self, name: &str, items: &[T], of: &dyn Fn(&T) -> (String, String)) {
        for item in items {
            let (labels, value) = of(item);
            self.sample(name, &labels, value);
        }
    }
}

/// A label and its value, with what OpenMetrics wants escaped.
fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

/// The page.
pub async fn page<R: Router>(router: &R, format: Format) -> String {
    let mut page = Page(String::new(), format);
    router_metrics(&mut page, &router.status());
    interface_metrics(&mut page, &router.interfaces());
    drop_metrics(&mut page, router);
    cpu_metrics(&mut page, &router.cpus());
    table_metrics(&mut page, router).await;
    if format == Format::Open {
        page.0.push_str("# EOF\n");
    }
    page.0
}

fn router_metrics(page: &mut Page, status: &Status) {
    page.family("build", "info", "The release that runs.");
    let labels = [label("version", &status.version), label("hostname", &status.hostname)].join(",");
    page.sample("build_info", &labels, 1);
    let gauges = [
        ("memory_bytes", "Memory.", status.memory_bytes),
        ("memory_free_bytes", "Memory that is free.", status.memory_free_bytes),
        ("buffers", "Packet buffers.", status.buffers),
        ("buffers_free", "Packet buffers that are free.", status.buffers_free),
        ("buffers_lost", "Packet buffers never used again.", status.buffers_lost),
    ];
    for (name, help, value) in gauges {
        page.family(name, "gauge", help);
        page.sample(name, "", value);
    }
    page.family("uptime_seconds", "gauge", "Time since the router was entered.");
    page.sample("uptime_seconds", "", Scaled(status.uptime_ms, 3));
    let lost = "Bytes of a console that nobody took in time.";
    page.counters("console_lost_bytes", lost, &status.consoles, &|console| {
        (label("console", &console.name), format!("{}", console.lost_bytes))
    });
}

fn interface_metrics(page: &mut Page, interfaces: &[Interface]) {
    type Count = fn(&Interface) -> u64;
    let counters: [(&str, &str, Count); 8] = [
        ("interface_receive_packets", "Frames received.", |i| i.rx_packets),
        ("interface_receive_bytes", "Bytes received.", |i| i.rx_bytes),
        ("interface_transmit_packets", "Frames sent.", |i| i.tx_packets),
        ("interface_transmit_bytes", "Bytes sent.", |i| i.tx_bytes),
        ("interface_dropped_packets", "Packets lost, for all reasons.", |i| i.dropped),
        ("interface_consumed_packets", "Packets for the router itself.", |i| i.consumed),
        ("interface_interrupts", "Interrupts that ended a wait for packets.", |i| i.interrupts),
        ("interface_notifications", "Notifications of the device.", |i| i.notifications),
    ];
    for (name, help, count) in counters {
        page.counters(name, help, interfaces, &|interface| {
            (label("interface", &interface.name), format!("{}", count(interface)))
        });
    }
    page.gauges("interface_up", "Whether packets can pass.", interfaces, &|interface| {
        let up = u8::from(interface.state == InterfaceState::Up);
        (label("interface", &interface.name), format!("{up}"))
    });
    page.gauges("interface_queues", "Queue pairs of the device.", interfaces, &|interface| {
        (label("interface", &interface.name), format!("{}", interface.queues))
    });
}

fn drop_metrics<R: Router>(page: &mut Page, router: &R) {
    page.counters("dropped_packets", "Packets lost, by interface and reason.", &router.drops(), &|loss| {
        let interface = label("interface", loss.interface.as_deref().unwrap_or(""));
        ([interface, label("reason", &loss.reason)].join(","), format!("{}", loss.packets))
    });
}

fn cpu_metrics(page: &mut Page, all: &Cpus) {
    let Cpus { cpus, queues, sockets, tasks, locks } = all;
    type Count = fn(&Queue) -> u64;
    let counters: [(&str, &str, Count); 6] = [
        ("queue_receive_packets", "Frames that the queue pair received.", |q| q.rx_packets),
        ("queue_receive_bytes", "Bytes that it received.", |q| q.rx_bytes),
        ("queue_transmit_packets", "Frames that it sent.", |q| q.tx_packets),
        ("queue_transmit_bytes", "Bytes that it sent.", |q| q.tx_bytes),
        ("queue_interrupts", "Its interrupts that ended a wait for packets.", |q| q.interrupts),
        ("queue_notifications", "Its notifications of the device.", |q| q.notifications),
    ];
    for (name, help, count) in counters {
        page.counters(name, help, queues, &|queue| {
            let labels = [label("interface", &queue.interface), label("cpu", &queue.cpu)];
            (labels.join(","), format!("{}", count(queue)))
        });
    }
    socket_metrics(page, sockets);
    page.counters("cpu_received_packets", "Packets that the CPU's stack received.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.received))
    });
    page.counters("cpu_sent_packets", "Packets that the CPU sent.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.sent))
    });
    page.counters("cpu_handed_over_packets", "Packets handed to other CPUs.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.handed_over))
    });
    page.counters("cpu_turns", "Softints served.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.turns))
    });
    page.counters("cpu_busy_ticks", "TSC ticks that the CPU was awake.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.busy_ticks))
    });
    page.gauges("cpu_busy_ratio", "Share of the time since entry that it was awake.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", Scaled(cpu.busy_permille, 3)))
    });
    page.gauges("cpu_pool_buffers", "Free packet buffers in the CPU's pool.", cpus, &|cpu| {
        (label("cpu", &cpu.name), format!("{}", cpu.buffers_idle))
    });
    page.gauges(
        "cpu_stack_free_bytes",
        "Bytes of the CPU's stack that were never written to.",
        cpus,
        &|cpu| (label("cpu", &cpu.name), format!("{}", cpu.stack_free_bytes)),
    );
    let task_labels = |task: &Task| [label("task", &task.name), label("cpu", &task.cpu)].join(",");
    page.gauges("tasks", "Tasks of the name.", tasks, &|task| (task_labels(task), format!("{}", task.tasks)));
    page.family("task_poll_seconds", "summary", "Time that polls of tasks took.");
    for task in tasks {
        page.sample("task_poll_seconds_count", &task_labels(task), task.polls);
        page.sample("task_poll_seconds_sum", &task_labels(task), Scaled(task.total_ns, 9));
    }
    page.gauges("task_longest_poll_seconds", "The longest poll of a task.", tasks, &|task| {
        (task_labels(task), format!("{}", Scaled(task.longest_ns, 9)))
    });
    page.counters("task_long_polls", "Polls of a task over a millisecond.", tasks, &|task| {
        (task_labels(task), format!("{}", task.long_polls))
    });
    page.counters("lock_acquired", "Times a lock of the rank was taken.", locks, &|lock| {
        (label("lock", &lock.name), format!("{}", lock.acquired))
    });
    page.counters("lock_contended", "Times somebody else held it then.", locks, &|lock| {
        (label("lock", &lock.name), format!("{}", lock.contended))
    });
    page.counters("lock_spins", "Turns of the waiting loop.", locks, &|lock| {
        (label("lock", &lock.name), format!("{}", lock.spins))
    });
}

fn socket_metrics(page: &mut Page, sockets: &[Sockets]) {
    type Count = fn(&Sockets) -> u64;
    let gauges: [(&str, &str, Count); 2] = [
        ("sockets_connections", "TCP connections of the router.", |s| s.connections),
        ("sockets_half_open", "TCP handshakes with it that have begun.", |s| s.half_open),
    ];
    let counters: [(&str, &str, Count); 11] = [
        ("sockets_accepted", "TCP connections accepted.", |s| s.accepted),
        ("sockets_accepted_by_cookie", "TCP connections accepted by a SYN cookie.", |s| s.by_cookie),
        ("sockets_syn_flood", "Handshakes pushed out by later ones.", |s| s.syn_flood),
        ("sockets_no_room", "Handshakes not finished for want of room.", |s| s.no_room),
        (
            "sockets_over_share",
            "Handshakes not finished as their peer had its share of the connections.",
            |s| s.over_share,
        ),
        ("sockets_evicted", "Connections that made room for others.", |s| s.evicted),
        ("sockets_doubted", "SYNs and resets of connections that were not believed.", |s| s.doubted),
        ("sockets_sent_resets", "Resets sent to segments of no connection.", |s| s.resets),
        ("sockets_checksum_errors", "Packets whose checksum was wrong.", |s| s.checksum_errors),
        ("sockets_unmatched", "Packets malformed or for no socket.", |s| s.unmatched),
        ("sockets_datagrams_lost", "Datagrams that found a full queue.", |s| s.datagrams_lost),
    ];
    for (name, help, count) in gauges {
        page.gauges(name, help, sockets, &|own| (label("cpu", &own.cpu), format!("{}", count(own))));
    }
    for (name, help, count) in counters {
        page.counters(name, help, sockets, &|own| (label("cpu", &own.cpu), format!("{}", count(own))));
    }
}

async fn table_metrics<R: Router>(page: &mut Page, router: &R) {
    page.family("routes", "gauge", "Routes.");
    page.sample("routes", "", router.routes(0, 0).total);
    let mut neighbors: BTreeMap<String, u64> = BTreeMap::new();
    for neighbor in router.neighbors().await {
        let labels =
            [label("interface", &neighbor.interface), label("state", neighbor.state.word())].join(",");
        *neighbors.entry(labels).or_default() += 1;
    }
    page.family("neighbors", "gauge", "Neighbours, by interface and state.");
    for (labels, count) in &neighbors {
        page.sample("neighbors", labels, count);
    }
    let view = router.configurations();
    page.family("configuration_version", "gauge", "The version in force; it grows with every change.");
    page.sample("configuration_version", "", view.version);
    page.family("configuration_unconfirmed", "gauge", "Whether the version in force waits to be confirmed.");
    page.sample("configuration_unconfirmed", "", u8::from(view.pending.is_some()));
}
