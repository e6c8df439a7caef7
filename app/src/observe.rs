//! The router's own state as values of the management plane's model, which every face shows. Task level.

use crate::guest::Holdings;
use crate::shared::Shared;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use ipnet::IpNet;
use weir_clients::syslog::Time;
use weir_machine::{clock, console, dispatch, frames, task};
use weir_manage::model::{self, InterfaceState, Loss};
use weir_netif::{Drop, IfCounters, Link, Totals};
use weir_sync::{CpuId, rank};

/// An interface as it is now; its counters go on.
#[derive(Clone, Debug)]
pub struct InterfaceStatus {
    /// Its configured name.
    pub name: String,
    /// Its carrier, or the fault that took its device down.
    pub state: State,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Of these, those that were learnt.
    pub learnt: Vec<model::LearntAddress>,
    /// Addresses that may not be its alone.
    pub dad: Vec<model::Detection>,
    /// On a VLAN: whose device it shares, and the VLAN's number.
    pub vlan: Option<(String, u16)>,
    /// What serves it, if that is there.
    pub device: Option<DeviceStatus>,
}

/// What serves an interface.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// Driver and place.
    pub name: String,
    /// Station address.
    pub mac: [u8; 6],
    /// Octets of an IP packet: what the configuration says, or the device.
    pub mtu: u16,
    /// Queue pairs in use.
    pub queues: u16,
    /// The interface's statistics.
    pub counters: Arc<IfCounters>,
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

impl State {
    /// The model's word for it.
    pub fn model(self) -> InterfaceState {
        match self {
            State::Absent => InterfaceState::Absent,
            State::Disabled => InterfaceState::Disabled,
            State::Link(Link::Up) => InterfaceState::Up,
            State::Link(Link::Down) => InterfaceState::Down,
            State::Broken(_) => InterfaceState::Broken,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model().fmt(f)
    }
}

impl InterfaceStatus {
    /// The model's interface, with what its counters say now.
    pub fn model(&self) -> model::Interface {
        let device = self.device.as_ref();
        let totals = device.map(|device| device.counters.totals()).unwrap_or_default();
        let drops = losses(&totals);
        model::Interface {
            name: self.name.clone(),
            state: self.state.model(),
            fault: match self.state {
                State::Broken(reason) => Some(reason.into()),
                _ => None,
            },
            addresses: self.addresses.iter().map(IpNet::to_string).collect(),
            learnt: self.learnt.clone(),
            dad: self.dad.clone(),
            mac: device.map(|device| mac(device.mac)),
            mtu: device.map(|device| device.mtu),
            device: device.map(|device| device.name.clone()),
            parent: self.vlan.as_ref().map(|(parent, _)| parent.clone()),
            vlan: self.vlan.as_ref().map(|(_, id)| *id),
            queues: device.map_or(0, |device| device.queues.into()),
            rx_packets: totals.rx_packets,
            rx_bytes: totals.rx_bytes,
            tx_packets: totals.tx_packets,
            tx_bytes: totals.tx_bytes,
            dropped: drops.iter().map(|loss| loss.packets).sum(),
            consumed: totals.dropped(Drop::Consumed),
            interrupts: totals.interrupts,
            notifications: totals.notifications,
            drops,
        }
    }
}

/// What was lost, by reason.
pub fn losses(totals: &Totals) -> Vec<Loss> {
    let lost = totals.drops().filter(|&(reason, _)| reason != Drop::Consumed);
    lost.map(|(reason, packets)| Loss { reason: reason.name().into(), packets }).collect()
}

/// As people write it. By hand: every list of interfaces has some.
pub(crate) fn mac(octets: [u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for octet in octets {
        if !text.is_empty() {
            text.push(':');
        }
        let digits = [octet >> 4, octet & 15].map(|digit| char::from_digit(digit.into(), 16));
        text.extend(digits.into_iter().flatten());
    }
    text
}

/// The router as a whole.
pub fn status(
    shared: &Shared,
    platform: &str,
    hostname: &str,
    place: Option<&str>,
    cpus: usize,
    holdings: Option<Holdings>,
) -> model::Status {
    model::Status {
        hostname: hostname.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        platform: platform.into(),
        uptime_ms: clock::now() / 1_000_000,
        time: clock::wall::unix_us(clock::now()).map(|us| Time(us).to_string()),
        cpus: cpus as u64,
        memory_bytes: frames::total_bytes(),
        memory_free_bytes: frames::free_bytes(),
        buffers: shared.arena.slots() as u64,
        buffers_free: shared.buffers_free() as u64,
        buffers_lost: shared.arena.lost() as u64,
        configuration: place.map(String::from),
        xen: holdings.map(|held| model::Xen {
            grants: held.grants as u64,
            grants_most: held.entries as u64,
            grants_in_limbo: held.limbo as u64,
            watches: held.watches as u64,
        }),
        consoles: console::lost()
            .map(|(name, lost_bytes)| model::ConsolePort { name: name.into(), lost_bytes })
            .collect(),
    }
}

/// The queue pairs of all devices: pair n belongs to CPU n.
pub fn queues(interfaces: &[InterfaceStatus]) -> Vec<model::Queue> {
    let rows = |interface: &InterfaceStatus| {
        let device = interface.device.as_ref().filter(|_| interface.vlan.is_none());
        let is_on_it = |other: &&InterfaceStatus| {
            other.vlan.as_ref().map_or(&other.name, |(parent, _)| parent) == &interface.name
        };
        let row = |cpu: CpuId| {
            let mut totals = Totals::default();
            let all = interfaces.iter().filter(is_on_it).filter_map(|other| other.device.as_ref());
            all.for_each(|device| totals.merge(&device.counters.of(cpu)));
            model::Queue {
                interface: interface.name.clone(),
                cpu: cpu.to_string(),
                rx_packets: totals.rx_packets,
                rx_bytes: totals.rx_bytes,
                tx_packets: totals.tx_packets,
                tx_bytes: totals.tx_bytes,
                interrupts: totals.interrupts,
                notifications: totals.notifications,
            }
        };
        let queues = device.map_or(0, |device| device.queues);
        (0..queues.into()).filter_map(CpuId::new).map(row).collect::<Vec<_>>()
    };
    interfaces.iter().flat_map(rows).collect()
}

/// The router's own sockets, by CPU.
pub fn sockets(shared: &Shared, cpus: usize) -> Vec<model::Sockets> {
    let row = |cpu: CpuId| {
        let own = shared.sockets.of(cpu);
        model::Sockets {
            cpu: cpu.to_string(),
            connections: own.connections.get(),
            half_open: own.half_open.get(),
            accepted: own.accepted.get(),
            by_cookie: own.by_cookie.get(),
            syn_flood: own.syn_flood.get(),
            no_room: own.no_room.get(),
            over_share: own.over_share.get(),
            evicted: own.evicted.get(),
            doubted: own.doubted.get(),
            resets: own.resets.get(),
            checksum_errors: own.checksum_errors.get(),
            unmatched: own.unmatched.get(),
            datagrams_lost: own.datagrams_lost.get(),
        }
    };
    (0..cpus).filter_map(CpuId::new).map(row).collect()
}

/// The CPUs that forward; `counters` are those of all interfaces in service.
pub fn cpus<'a>(
    shared: &Shared,
    cpus: usize,
    counters: impl Iterator<Item = &'a Arc<IfCounters>> + Clone,
) -> Vec<model::Cpu> {
    let row = |cpu: CpuId| {
        let own = shared.counters.of(cpu);
        let sum = |field: fn(&Totals) -> u64| {
            counters.clone().map(|counters| field(&counters.of(cpu))).sum::<u64>()
        };
        let busy_ticks = dispatch::busy_ticks(cpu);
        model::Cpu {
            name: cpu.to_string(),
            received: sum(|totals| totals.rx_packets),
            sent: sum(|totals| totals.tx_packets),
            handed_over: own.handed_over.get(),
            turns: own.turns.get(),
            busy_permille: busy_ticks * 1000 / clock::since_entry().max(1),
            busy_ticks,
            busy_us: (u128::from(busy_ticks) * 1_000_000 / u128::from(clock::tsc_hz().max(1))) as u64,
            buffers_idle: own.pool_idle.get(),
            stack_free_bytes: dispatch::stack_free(cpu),
        }
    };
    (0..cpus).filter_map(CpuId::new).map(row).collect()
}

/// The tasks of all CPUs, those of one name on a CPU as one.
pub fn tasks() -> Vec<model::Task> {
    let row = |task: task::Report| model::Task {
        name: task.name.into(),
        cpu: task.cpu.to_string(),
        tasks: 1,
        polls: task.polls,
        total_ns: task.total_ns,
        longest_ns: task.longest_ns,
        long_polls: task.long_polls,
    };
    let same = |one: &model::Task, other: &model::Task| one.cpu == other.cpu && one.name == other.name;
    weir_manage::table::joined(task::tasks().map(row), same)
}

/// What happened at the locks, in the order in which they are taken.
pub fn locks() -> Vec<model::Lock> {
    let row = |rank: &rank::Contention| model::Lock {
        name: rank.name().into(),
        acquired: rank.acquired(),
        contended: rank.contended(),
        spins: rank.spins(),
    };
    rank::contention().iter().map(row).collect()
}

/// The line that says the router forwards. Starts with `weir: ready`.
pub struct Ready<'a> {
    /// Its name.
    pub hostname: &'a str,
    /// Nanoseconds since entry.
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
            learnt: Vec::new(),
            dad: Vec::new(),
            vlan: None,
            device: Some(DeviceStatus {
                name: "virtio-net pci 00:02.0".into(),
                mac: [0x52, 0x54, 0, 0, 0, 1],
                mtu: 1500,
                queues: 1,
                counters: Arc::new(counters),
            }),
        }
    }

    #[test]
    fn an_interface_has_what_was_lost_apart_from_what_was_consumed() {
        let model = wan().model();
        assert_eq!((model.rx_packets, model.tx_bytes, model.dropped, model.consumed), (3, 128, 1, 1));
        assert_eq!(model.drops, [Loss { reason: "ttl-expired".into(), packets: 1 }]);
        assert_eq!(model.mac.as_deref(), Some("52:54:00:00:00:01"));
        assert_eq!(model.addresses, ["192.0.2.1/24", "2001:db8::1/64"]);
        let gone = InterfaceStatus { device: None, state: State::Absent, ..wan() }.model();
        assert_eq!((gone.rx_packets, gone.mac, gone.state), (0, None, InterfaceState::Absent));
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
