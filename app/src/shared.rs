//! What all CPUs see: the configuration in force, the buffer arena, counters, and the ways between packet work and
//! management.

use crate::manage::Known;
use crate::port::Port;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crossbeam_queue::ArrayQueue;
use spin::Once;
use weir_machine::task::Signal;
use weir_machine::{clock, trace};
use weir_netif::{Arena, Fault, IfIndex};
use weir_netstack::Snapshot;
use weir_netstack::capture::Taps;
use weir_sync::{Counter, CpuId, PerCpu, Published};
use weir_transport::{Ports, Transport};

/// What packet work tells management.
#[derive(Clone, Copy, Debug)]
pub enum Notice {
    /// A device broke its protocol; it forwards nothing from now on and must be stopped.
    Broken {
        /// Whose device.
        interface: IfIndex,
        /// What it did.
        fault: Fault,
    },
}

/// Advertisements of other routers that may wait. They are repeated; more at once are an attack.
const ADVERTISEMENTS: usize = 8;
/// Bytes of one: what fits a link of the least MTU.
const LONGEST_ADVERTISEMENT: usize = 1280 - 40;

/// What another router advertises.
#[derive(Clone, Debug)]
pub struct Advertised {
    /// Where it came in by.
    pub interface: IfIndex,
    /// Who says so.
    pub source: Ipv6Addr,
    len: usize,
    bytes: [u8; LONGEST_ADVERTISEMENT],
}

impl Advertised {
    /// The ICMPv6 message.
    pub fn message(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// An address that others have too.
#[derive(Clone, Copy, Debug)]
pub struct Contested {
    /// Where it was heard.
    pub interface: IfIndex,
    /// Which address of ours.
    pub address: IpAddr,
    /// The station that has it, or wants it.
    pub by: [u8; 6],
}

/// Of these, so many may wait: whoever has an address says so again.
const CONTESTS: usize = 16;

/// The tasks that learn, each with a signal that something else is published, or was heard.
#[derive(Debug, Default)]
pub struct Learners {
    /// Addresses.
    pub addresses: Signal,
    /// The time.
    pub ntp: Signal,
    /// Where the log goes.
    pub syslog: Signal,
}

/// Notices that may wait; a port breaks once, so there are never more than ports.
const NOTICES: usize = 256;
/// Entries of each CPU's flight recorder.
const RECORDED: usize = 256;
/// Ports that may wait for one CPU to take them over: twice the interfaces there can be.
pub const INBOX: usize = 128;

/// The configuration in force: replaced as a whole, by one store. `[I]` all of it.
#[derive(Clone, Debug)]
pub struct Running {
    /// Another one for each publication.
    pub generation: u64,
    /// What the stack reads.
    pub snapshot: Snapshot,
    /// By interface index: where its frames go in and out. Interfaces on VLANs share a place with their parent.
    pub places: Box<[Option<Place>]>,
    /// By CPU: the queue pairs it was sent until this was published. It takes so many and leaves what follows them: that is
    /// of a configuration to come.
    pub sent: Box<[u64]>,
    /// CPUs that forward, numbered from 0.
    pub cpus: usize,
    /// Who processes a packet.
    pub steering: Steering,
}

/// A device in service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which: the index of the interface that has it to itself.
    pub port: IfIndex,
    /// Each attachment of a device has another number: a CPU gives ports of others back.
    pub attachment: u32,
    /// Queue pairs; pair *n* is CPU *n*'s.
    pub queues: u16,
}

/// Who processes the packets of devices with fewer queues than there are CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Steering {
    /// The CPU that received them. Forwarding costs less than handing over, there and for transmission back: one queue
    /// and two CPUs forward 37.7 million packets a second so, and 20.7 with [`Flows`](Self::Flows) (`docs/benchmarks.md`).
    #[default]
    Off,
    /// The CPU their flow hashes to: for work of more than a few hundred cycles a packet.
    Flows,
}

impl Running {
    /// The device that `interface` is on.
    #[inline]
    pub fn place(&self, interface: IfIndex) -> Option<&Place> {
        self.places.get(interface.index())?.as_ref()
    }

    /// The queue pairs that `cpu` was sent until this was published.
    pub fn sent_to(&self, cpu: CpuId) -> u64 {
        self.sent.get(cpu.index()).copied().unwrap_or(0)
    }

    /// The CPU whose queue transmits what `cpu` has for `interface`: itself if it has one.
    #[inline]
    pub fn owner(&self, interface: IfIndex, cpu: CpuId) -> Option<CpuId> {
        let queues = usize::from(self.place(interface)?.queues);
        CpuId::new(cpu.index().checked_rem(queues)?)
    }

    /// Whether packets received on `interface` are spread over CPUs in software.
    #[inline]
    pub fn steers(&self, interface: IfIndex) -> bool {
        self.steering == Steering::Flows
            && self.place(interface).is_some_and(|place| usize::from(place.queues) < self.cpus)
    }

    /// The CPU that a flow belongs to.
    #[inline]
    pub fn cpu_of(&self, hash: u32) -> Option<CpuId> {
        home(hash, self.cpus)
    }
}

/// The CPU of so many that a flow belongs to.
#[inline]
pub(crate) fn home(hash: u32, cpus: usize) -> Option<CpuId> {
    CpuId::new(((u64::from(hash) * cpus as u64) >> 32) as usize)
}

/// One CPU's own counts. `[A]` Written by it alone, read by management.
#[derive(Debug, Default)]
pub struct CpuCounters {
    /// Free buffers in its pool: a gauge.
    pub pool_idle: Counter,
    /// Packets it sent to other CPUs.
    pub handed_over: Counter,
    /// Softints it served.
    pub turns: Counter,
}

/// What a CPU's sockets counted, as far as its task has said. `[A]` Written by that task, read by management.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "as in `weir_transport::Counters`")]
pub struct SocketCounters {
    pub connections: Counter,
    pub half_open: Counter,
    pub accepted: Counter,
    pub by_cookie: Counter,
    pub syn_flood: Counter,
    pub no_room: Counter,
    pub over_share: Counter,
    pub evicted: Counter,
    pub doubted: Counter,
    pub resets: Counter,
    pub checksum_errors: Counter,
    pub unmatched: Counter,
    pub datagrams_lost: Counter,
}

impl SocketCounters {
    /// Says what `transport` counts now.
    pub fn tell(&self, transport: &Transport) {
        let (half_open, connections) = transport.load();
        let now = transport.counters();
        self.connections.set(connections as u64);
        self.half_open.set(half_open as u64);
        self.accepted.set(now.accepted);
        self.by_cookie.set(now.by_cookie);
        self.syn_flood.set(now.syn_flood);
        self.no_room.set(now.no_room);
        self.over_share.set(now.over_share);
        self.evicted.set(now.evicted_parked + now.evicted_closing + now.evicted_queued);
        self.doubted.set(now.doubted);
        self.resets.set(now.resets);
        self.checksum_errors.set(now.checksum);
        self.unmatched.set(now.unmatched);
        self.datagrams_lost.set(now.datagrams_lost);
    }
}

/// A task's question after a CPU's neighbours. `[A]` Room for one of each.
pub struct Census {
    /// Pushed by the task, popped by the CPU's packet work: an empty list with room for what it is to hold.
    pub question: ArrayQueue<Vec<Known>>,
    /// Pushed by the CPU's packet work, popped by the task: the same list, filled.
    pub answer: ArrayQueue<Vec<Known>>,
}

/// State shared by all CPUs.
pub struct Shared {
    /// `[P]` The configuration in force.
    pub running: Published<Running>,
    /// `[I]` Packet buffers.
    pub arena: &'static Arena,
    /// `[A]` Each CPU's counts.
    pub counters: PerCpu<CpuCounters>,
    /// `[A]` Each CPU's sockets.
    pub sockets: PerCpu<SocketCounters>,
    /// `[A]` Ports on their way to the CPU that will own them: pushed by management before the configuration that needs
    /// them is published, popped by that CPU when it sees that one, not before ([`Running::sent`]).
    pub inbox: PerCpu<ArrayQueue<Port>>,
    /// `[A]` Ports that their CPUs do not need any more; room for all there can be.
    pub returned: ArrayQueue<Port>,
    /// `[A]` Questions after each CPU's neighbours.
    pub census: PerCpu<Census>,
    /// `[I]` The ports with sockets, once a CPU has any; `[A]` inside.
    pub ports: PerCpu<Once<Arc<Ports>>>,
    /// `[A]` What watches packets: captures and the flight recorder, the same in each snapshot.
    pub taps: Arc<Taps>,
    /// `[A]` Wakes management: a notice, a key, a change of a device, a port that came back.
    pub news: Signal,
    /// `[A]` Wakes the tasks that learn.
    pub learners: Learners,
    /// `[A]` Written by softints of any CPU, read by the clients' task.
    advertisements: ArrayQueue<Advertised>,
    /// `[A]` As these.
    contests: ArrayQueue<Contested>,
    /// `[A]` Written by softints of any CPU, read by management.
    notices: ArrayQueue<Notice>,
    /// `[A]` Some device announced a change of its configuration. Set by softints, taken by management.
    changed: AtomicBool,
    /// `[A]` The console has input. Set by softints, taken by management.
    typed: AtomicBool,
    /// `[A]` CPUs whose services listen. Counted up (Release) by a task of each, read (Acquire) by management.
    listening: AtomicUsize,
}

impl Shared {
    /// Without interfaces, for `cpus` CPUs.
    pub fn new(arena: &'static Arena, cpus: usize) -> Self {
        let taps = Arc::new(Taps::new(clock::tsc, RECORDED));
        let running = Running {
            generation: 0,
            snapshot: Snapshot::empty().with_taps(taps.clone()),
            places: Box::default(),
            sent: Box::default(),
            cpus,
            steering: Steering::Off,
        };
        Self {
            running: Published::new(Box::new(running)),
            arena,
            counters: PerCpu::new(|_| CpuCounters::default()),
            sockets: PerCpu::new(|_| SocketCounters::default()),
            inbox: PerCpu::new(|_| ArrayQueue::new(INBOX)),
            returned: ArrayQueue::new(INBOX * cpus.max(1)),
            census: PerCpu::new(|_| Census { question: ArrayQueue::new(1), answer: ArrayQueue::new(1) }),
            ports: PerCpu::new(|_| Once::new()),
            taps,
            news: Signal::new(),
            learners: Learners::default(),
            advertisements: ArrayQueue::new(ADVERTISEMENTS),
            contests: ArrayQueue::new(CONTESTS),
            notices: ArrayQueue::new(NOTICES),
            changed: AtomicBool::new(false),
            typed: AtomicBool::new(false),
            listening: AtomicUsize::new(0),
        }
    }

    /// Leaves a notice and wakes management. Any context.
    pub fn notify(&self, notice: Notice) {
        let Notice::Broken { interface, .. } = notice;
        trace::note(weir_sync::Event::Broken, || [interface.index() as u64, 0, 0]);
        // Full only if more ports broke than there are; nothing waits for a lost notice.
        let _ = self.notices.push(notice);
        self.news.set();
    }

    /// Leaves what a router advertises for the clients, if there is room. Any context.
    pub fn advertised(&self, interface: IfIndex, source: Ipv6Addr, message: &[u8]) {
        let mut bytes = [0; LONGEST_ADVERTISEMENT];
        if let Some(place) = bytes.get_mut(..message.len()) {
            place.copy_from_slice(message);
            let _ = self.advertisements.push(Advertised { interface, source, len: message.len(), bytes });
            self.learners.addresses.set();
        }
    }

    /// The oldest of these. Task level.
    pub fn next_advertisement(&self) -> Option<Advertised> {
        self.advertisements.pop()
    }

    /// Says that somebody else has an address of ours, if there is room. Any context.
    pub fn contested(&self, contested: Contested) {
        if self.contests.push(contested).is_ok() {
            self.learners.addresses.set();
        }
    }

    /// The oldest of these. Task level.
    pub fn next_contest(&self) -> Option<Contested> {
        self.contests.pop()
    }

    /// The oldest notice. Task level.
    pub fn next_notice(&self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Says that a device may have changed: its link, its health. Any context.
    pub fn device_changed(&self) {
        self.changed.store(true, Ordering::Release);
        self.news.set();
    }

    /// Whether a device may have changed since the last call. Task level.
    pub fn take_device_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }

    /// Says that the console has input. Any context.
    pub fn console_typed(&self) {
        self.typed.store(true, Ordering::Release);
        self.news.set();
    }

    /// Says that the services of a CPU listen. Task level, once on each.
    pub fn listens(&self) {
        self.listening.fetch_add(1, Ordering::Release);
        self.news.set();
    }

    /// CPUs whose services listen.
    pub fn listening(&self) -> usize {
        self.listening.load(Ordering::Acquire)
    }

    /// Whether the console had input since the last call. Task level.
    pub fn take_console_typed(&self) -> bool {
        self.typed.swap(false, Ordering::Acquire)
    }

    /// Free packet buffers, of a moment ago.
    pub fn buffers_free(&self) -> usize {
        let idle = self.counters.iter().map(|counters| counters.pool_idle.get() as usize);
        self.arena.idle() + idle.sum::<usize>()
    }
}
