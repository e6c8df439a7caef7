//! From a booted machine to a router: devices, configuration, snapshot, the other CPUs. Boot CPU, once.

use crate::attach::{self, Bay};
use crate::config::Config;
use crate::forwarder::Forwarder;
use crate::guest::{CONFIG, Guest};
use crate::interfaces::Interfaces;
use crate::management::Management;
use crate::mesh::{Exchange, mesh};
use crate::modules::{APPETITE, Modules};
use crate::router::Router;
use crate::shared::Shared;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use crossbeam_queue::ArrayQueue;
use spin::Once;
use weir_machine::boot::Boot;
use weir_machine::interrupt::{CONSOLE, Interrupt};
use weir_machine::{
    clock, console, dispatch, dma, error, frames, hermit, info, mmio_devices, pci, print, random, smp, xen,
};
use weir_netif::{Arena, BUFFER, PAGE_BUFFER, Queue};
use weir_netstack::stack::{Duty, Settings};
use weir_netstack::{Instant, Stack};
use weir_sync::{Control, Cpu, CpuId, PerCpu};
use weir_virtio::net;

/// What the other CPUs begin with.
static CREW: Once<Crew> = Once::new();

struct Crew {
    shared: &'static Shared,
    /// Each CPU's ends of the rings between all, until it takes them.
    exchanges: PerCpu<ArrayQueue<Exchange>>,
}

impl Crew {
    /// The packet work of `cpu`.
    fn forwarder(&self, cpu: CpuId) -> Forwarder {
        let Some(exchange) = self.exchanges.of(cpu).pop() else { panic!("{cpu} forwards already") };
        let duty = if cpu == CpuId::BOOT { Duty::Speaker } else { Duty::Worker };
        let stack = Stack::new(Settings { seed: random::seed(), duty, ..Settings::default() });
        Forwarder::new(self.shared, stack, exchange)
    }
}

/// Everything from devices to the ready line. What is wrong is said on the console; the router then runs
/// without interfaces. Each queue pair goes through `dress`, for programs that measure; the router's hands it back.
pub fn start(
    cx: &Control,
    boot: &'static Boot,
    dress: fn(Box<dyn Queue>) -> Box<dyn Queue>,
) -> (Router, Management) {
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(arena(boot.memory), boot.cpus)));
    let crew = CREW.call_once(|| {
        let exchanges = PerCpu::new(|_| ArrayQueue::new(1));
        for (queue, exchange) in exchanges.iter().zip(mesh(boot.cpus)) {
            let _ = queue.push(exchange);
        }
        Crew { shared, exchanges }
    });
    let cpus = smp::start_others(other);
    let bays = bays(cpus);
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
    let configured =
        configuration(cx, &modules, guest.as_mut()).and_then(|config| interfaces.replace(cx, config));
    if let Some(guest) = &guest {
        guest.tell_outcome(cx, configured.as_ref().map(drop));
    }
    if let Err(wrong) = &configured {
        print!("{wrong}");
        error!("no interface is configured");
    }
    let management = Management::new(shared, interfaces, modules, guest, Instant::from_nanos(clock::now()));
    let router = Router::new(crew.forwarder(cx.cpu()));
    console::enable_interrupt(Interrupt { cpu: cx.cpu(), bit: CONSOLE });
    if configured.is_ok() {
        print!("{}", management.ready_line(cpus, boot.memory));
    }
    (router, management)
}

/// The configuration to begin with: the first that is found of boot module and Xen's store.
fn configuration(cx: &Control, modules: &Modules, guest: Option<&mut Guest>) -> Result<Config, String> {
    let free = frames::free_bytes();
    if modules.is_empty()
        && let Some(guest) = guest
    {
        return match guest.configuration(cx) {
            Some(config) => {
                info!("configuration: {CONFIG} in xenstore");
                config
            }
            None => Err(alloc::format!(
                "weir.toml: there is neither a boot module (xl: ramdisk = \"weir.toml\") nor {CONFIG} in xenstore\n"
            )),
        };
    }
    if !modules.is_empty() {
        info!("configuration: boot module 1");
    } else if hermit::present() {
        return uhyve_file(free);
    }
    modules.at_boot(free)
}

/// Where uhyve shows its guest the configuration.
const UHYVE_FILE: &str = "/weir.toml";

fn uhyve_file(free: u64) -> Result<Config, String> {
    match hermit::read_file(UHYVE_FILE, (free / APPETITE) as usize) {
        Ok(Some(text)) => {
            info!("configuration: file {UHYVE_FILE} of uhyve");
            Config::parse(&text).map_err(|errors| errors.in_file(UHYVE_FILE).to_string())
        }
        Ok(None) => Err(alloc::format!(
            "weir.toml: uhyve shows no such file (uhyve: --file-mapping weir.toml:{UHYVE_FILE})\n"
        )),
        Err(wrong) => Err(alloc::format!("{UHYVE_FILE}: {wrong}\n")),
    }
}

fn other(cpu: Cpu) -> ! {
    let Some(crew) = CREW.get() else { panic!("{} started before there was work", cpu.id()) };
    let router = Router::new(crew.forwarder(cpu.id()));
    dispatch::run(cpu, Box::new(router), |_| ())
}

/// Packet buffers: a quarter of memory, at most 64 MiB. Under Xen each is a page, which is what can be lent.
fn arena(memory: u64) -> &'static Arena {
    let bytes = (memory / 4).clamp(1 << 20, 64 << 20) as usize;
    let pages = xen::present();
    match dma::Region::stale(bytes, if pages { PAGE_BUFFER } else { BUFFER }) {
        Some(region) if pages => Arena::of_pages(region.leak()),
        Some(region) => Arena::new(region.leak()),
        None => panic!("no {bytes} contiguous bytes for packet buffers: the machine needs more memory"),
    }
}

/// All network devices, in discovery order: PCI by address, then virtio-mmio. Each gets a queue pair a CPU, if it has
/// as many.
fn bays(cpus: usize) -> Vec<Bay> {
    let options = net::Options { queue_pairs: cpus as u16, ..net::Options::default() };
    let mut bays = Vec::new();
    for function in pci::functions().iter().copied().filter(net::matches) {
        let place = move |wrong| alloc::format!("virtio-net pci {}: {wrong}", function.address);
        let probe = move |cx: &Control| net::probe_pci(cx, &function, &options).map_err(place);
        match net::look_pci(&function) {
            Ok(info) => bays.push(Bay::known(info, Box::new(probe))),
            Err(wrong) => error!("{}", place(wrong)),
        }
    }
    for slot in mmio_devices::virtio().iter().copied() {
        let place = move |wrong| alloc::format!("virtio-net mmio {:#x}: {wrong}", slot.base);
        let probe = move |cx: &Control| net::probe_mmio(cx, &slot, &options).map_err(place);
        match net::look_mmio(&slot) {
            Ok(info) => bays.push(Bay::known(info, Box::new(probe))),
            // A slot of a board that nothing is plugged into, or something else is.
            Err(weir_virtio::Error::EmptySlot | weir_virtio::Error::NotNetwork(_)) => {}
            Err(wrong) => error!("{}", place(wrong)),
        }
    }
    bays
}
