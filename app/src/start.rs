//! From a booted machine to a router: devices, configuration, snapshot, the other CPUs. Boot CPU, once.

use crate::attach::{self, Bay};
use crate::capture;
use crate::forwarder::Forwarder;
use crate::guest::Guest;
use crate::interfaces::Interfaces;
use crate::management::Management;
use crate::mesh::{Exchange, mesh};
use crate::modules::Modules;
use crate::router::Router;
use crate::shared::Shared;
use crate::sources::{self, Search};
use crate::transport::{self, Line};
use crate::vlans;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use crossbeam_queue::ArrayQueue;
use spin::Once;
use weir_machine::boot::Boot;
use weir_machine::interrupt::{CONSOLE, Interrupt};
use weir_machine::{
    clock, console, dispatch, dma, error, frames, info, mmio_devices, pci, print, random, report, smp, task,
    warn, xen,
};
use weir_netif::{Arena, BUFFER, Device, DeviceInfo, PAGE_BUFFER, Queue};
use weir_netstack::reassembly;
use weir_netstack::stack::{Duty, Settings};
use weir_netstack::{Instant, Stack};
use weir_sync::{Control, Cpu, CpuId, PerCpu};
use weir_transport::Transport;
use weir_virtio::net;

/// Memory that a router with two interfaces and a short configuration runs in: this much, and this much more
/// a CPU.
const LEAST_MEMORY: u64 = 8 << 20;
const LEAST_MEMORY_A_CPU: u64 = 2 << 20;

/// What the other CPUs begin with.
static CREW: Once<Crew> = Once::new();

struct Crew {
    shared: &'static Shared,
    /// Each CPU's ends of the rings between all, until it takes them.
    exchanges: PerCpu<ArrayQueue<Exchange>>,
    /// Bytes of buffers that fragments may hold on each CPU.
    reassembly: usize,
    memory: u64,
    /// Spawns what uses a CPU's sockets.
    services: fn(&Transport),
}

impl Crew {
    /// The packet work of `cpu`, and the way from it to the CPU's sockets.
    fn forwarder(&self, cpu: CpuId) -> (Forwarder, Line) {
        let Some(exchange) = self.exchanges.of(cpu).pop() else { panic!("{cpu} forwards already") };
        let duty = if cpu == CpuId::BOOT { Duty::Speaker } else { Duty::Worker };
        let stack = Stack::new(Settings {
            interfaces: vlans::MAX_INDICES,
            seed: random::seed(),
            duty,
            reassembly: self.reassembly,
            ..Settings::default()
        });
        let (sockets, line) = transport::line(cpu, exchange.cpus(), self.shared.arena);
        (Forwarder::new(self.shared, stack, exchange).with_sockets(sockets), line)
    }

    /// The task of a CPU's sockets, on that CPU.
    fn transport(&self, line: Line) {
        spawn("transport", transport::run(line, self.shared, self.memory, self.services));
    }
}

/// Everything from devices to the ready line, and the tasks of the boot CPU, to be spawned there. What is wrong is said on the console; the router then runs
/// without interfaces. Each queue pair goes through `dress`, for programs that measure; the router's hands it
/// back. `services` runs on every CPU and spawns what uses its sockets.
pub fn start(
    cx: &Control,
    boot: &'static Boot,
    dress: fn(Box<dyn Queue>) -> Box<dyn Queue>,
    services: fn(&Transport),
) -> (Router, impl FnOnce() + use<>) {
    let memory = boot.memory.next_multiple_of(1 << 20);
    let least = LEAST_MEMORY + boot.cpus as u64 * LEAST_MEMORY_A_CPU;
    if memory < least {
        let [memory, least, base, a_cpu] =
            [memory, least, LEAST_MEMORY, LEAST_MEMORY_A_CPU].map(|bytes| bytes >> 20);
        panic!(
            "{memory} MiB of memory are too little, expected {least} MiB: {base}, and {a_cpu} for each CPU"
        );
    }
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena(boot.memory), boot.cpus)));
    let crew = CREW.call_once(|| {
        let exchanges = PerCpu::new(|_| ArrayQueue::new(1));
        for (queue, exchange) in exchanges.iter().zip(mesh(boot.cpus)) {
            let _ = queue.push(exchange);
        }
        // An eighth of all buffers, however small the machine.
        let share = shared.arena.slots() * shared.arena.slot_size() / 8 / boot.cpus.max(1);
        Crew { shared, exchanges, reassembly: share.min(reassembly::BYTES), memory: boot.memory, services }
    });
    report::add(|say| {
        if let Some(crew) = CREW.get() {
            capture::last_words(crew.shared, say);
        }
    });
    if !random::is_hardware() {
        warn!(
            "the CPU has no RDRAND: keys and tokens come from the clock's jitter; with QEMU take -cpu host or max"
        );
    }
    let cpus = smp::start_others(other);
    let bays = bays(cpus, shared.arena.slots());
    for (port, bay) in bays.iter().enumerate() {
        info!("{}", attach::describe(port, bay.info()));
    }
    let mut interfaces = Interfaces::new(shared, cpus, bays).dressed(dress);
    let mut guest = Guest::open(cx, shared.arena, cpus);
    if let Some(guest) = &mut guest {
        interfaces = interfaces.hot_plug();
        for (port, bay) in guest.vifs(cx) {
            interfaces.plug(cx, port, bay);
        }
    }
    let modules = Modules::new(boot.modules);
    let found = sources::find(&mut Search {
        cx,
        modules,
        guest: guest.as_mut(),
        command_line: boot.command_line,
        command_line_is_cut: boot.command_line_is_cut,
        free: frames::free_bytes,
    });
    let (place, config) = match found {
        Ok(found) => (Some(found.place), found.config),
        Err(advice) => (None, Err(advice)),
    };
    if let Some(place) = &place {
        info!("configuration: {place}");
    }
    let configured = config.and_then(|config| interfaces.replace(cx, config));
    let place = place.filter(|_| configured.is_ok());
    if let Some(guest) = &guest {
        guest.tell_outcome(cx, configured.as_ref().map(drop));
    }
    if let Err(wrong) = &configured {
        print!("{wrong}");
        error!("no interface is configured");
    }
    let now = Instant::from_nanos(clock::now());
    let management =
        Management::new(shared, interfaces, modules, boot.platform.to_string(), place, guest, now);
    let (forwarder, line) = crew.forwarder(cx.cpu());
    console::enable_interrupt(Interrupt { cpu: cx.cpu(), bit: CONSOLE });
    let ready = configured.is_ok().then_some(boot.memory);
    let tasks = move || {
        spawn("management", management.run(ready));
        crew.transport(line);
    };
    (Router::new(forwarder), tasks)
}

fn spawn(name: &'static str, future: impl Future<Output = ()> + 'static) {
    if let Err(full) = task::spawn(name, future) {
        panic!("{name}: {full}");
    }
}

fn other(cpu: Cpu) -> ! {
    let Some(crew) = CREW.get() else { panic!("{} started before there was work", cpu.id()) };
    let (forwarder, line) = crew.forwarder(cpu.id());
    dispatch::run(cpu, Box::new(Router::new(forwarder)), |_| crew.transport(line))
}

/// Packet buffers: a quarter of memory, at most 64 MiB. Under Xen each is a page, which is what can be lent.
fn arena(memory: u64) -> &'static Arena {
    let bytes = (memory / 4).clamp(1 << 20, 64 << 20) as usize;
    let pages = xen::present();
    match dma::Region::stale(bytes, if pages { PAGE_BUFFER } else { BUFFER }) {
        Some(region) if pages => Arena::of_pages(region.leak()),
        Some(region) => Arena::new(region.leak()),
        None => panic!("no {bytes} contiguous bytes for packet buffers: give the machine more memory"),
    }
}

/// All network devices, in discovery order: PCI by address, then virtio-mmio. Each gets a queue pair a CPU,
/// if it has as many, and all receive queues together hold at most half of the buffers: packets on their way
/// need the rest.
fn bays(cpus: usize, buffers: usize) -> Vec<Bay> {
    let on_pci = pci::functions().iter().copied().filter(net::matches).map(Place::Pci).collect::<Vec<_>>();
    let on_mmio = mmio_devices::virtio().into_iter().map(Place::Mmio);
    let mut found = Vec::new();
    for place in on_pci.into_iter().chain(on_mmio) {
        match place.look() {
            Ok(info) => found.push((place, info)),
            // A slot of a board that nothing is plugged into, or something else is.
            Err(weir_virtio::Error::EmptySlot | weir_virtio::Error::NotNetwork(_)) => {}
            Err(wrong) => error!("{place}: {wrong}"),
        }
    }
    let receive_buffers = buffers / 2 / found.len().max(1);
    let options = net::Options { queue_pairs: cpus as u16, receive_buffers, ..net::Options::default() };
    let bay = |(place, info): (Place, DeviceInfo)| {
        let probe =
            move |cx: &Control| place.probe(cx, &options).map_err(|wrong| format!("{place}: {wrong}"));
        Bay::known(info, Box::new(probe))
    };
    found.into_iter().map(bay).collect()
}

/// Where a virtio network device may be.
#[derive(Clone, Copy)]
enum Place {
    Pci(pci::Function),
    Mmio(mmio_devices::MmioDevice),
}

impl Place {
    fn look(&self) -> Result<DeviceInfo, weir_virtio::Error> {
        match self {
            Place::Pci(function) => net::look_pci(function),
            Place::Mmio(slot) => net::look_mmio(slot),
        }
    }

    fn probe(&self, cx: &Control, options: &net::Options) -> Result<Box<dyn Device>, weir_virtio::Error> {
        match self {
            Place::Pci(function) => net::probe_pci(cx, function, options),
            Place::Mmio(slot) => net::probe_mmio(cx, slot, options),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pci(function) => write!(f, "virtio-net pci {}", function.address),
            Place::Mmio(slot) => write!(f, "virtio-net mmio {:#x}", slot.base),
        }
    }
}
