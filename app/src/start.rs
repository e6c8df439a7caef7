//! From a booted machine to a router: devices, configuration, snapshot, the other CPUs. Boot CPU, once.

use crate::attach::{self, Attached};
use crate::config::Config;
use crate::forwarder::{Forwarder, Port};
use crate::management::Management;
use crate::router::{IdleCpu, Router};
use crate::shared::Shared;
use crate::show::State;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_machine::boot::Boot;
use weir_machine::interrupt::{CONSOLE, Interrupt};
use weir_machine::{clock, console, dispatch, dma, error, frames, info, mmio_devices, pci, print, smp};
use weir_netif::{Arena, BUFFER, Device, IfCounters, IfIndex, Pool, Queue};
use weir_netstack::stack::Settings;
use weir_netstack::{Instant, Stack};
use weir_sync::{Control, Cpu, Published};
use weir_virtio::net;

/// Everything from devices to the ready line. What is wrong is said on the console; the router then runs
/// without interfaces. Each queue pair goes through `dress`, for programs that measure; the router's hands it back.
pub fn start(
    cx: &Control,
    boot: &'static Boot,
    dress: fn(Box<dyn Queue>) -> Box<dyn Queue>,
) -> (Router, Management) {
    let arena = arena(boot.memory);
    let devices = devices(cx);
    for (port, device) in devices.iter().enumerate() {
        info!("{}", attach::describe(port, device.info()));
    }
    let (config, attached, ports) =
        match configure(boot, devices).map(|(config, chosen)| connect(cx, config, chosen, dress)) {
            Ok(connected) => connected,
            Err(wrong) => {
                print!("{wrong}");
                error!("no interface is configured; give a weir.toml as the boot module and start again");
                (
                    Config { hostname: "weir".into(), interfaces: Vec::new(), routes: Vec::new() },
                    Vec::new(),
                    Vec::new(),
                )
            }
        };
    let snapshot = match attach::snapshot(&config, &attached) {
        Ok(snapshot) => snapshot,
        Err(conflict) => panic!("a configuration that was checked has a conflict: {conflict}"),
    };
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(Published::new(Box::new(snapshot)), arena)));
    let cpus = smp::start_others(idle);
    let now = Instant::from_nanos(clock::now());
    let ready = !attached.is_empty();
    let management = Management::new(shared, config, attached, now);
    // The first turn of each queue lends it buffers and asks for interrupts.
    ports.iter().for_each(|port| dispatch::raise(cx.cpu(), port.source));
    let stack = Stack::new(Settings { seed: clock::tsc(), ..Settings::default() });
    let router = Router::new(Forwarder::new(shared, stack, Pool::new(arena), ports));
    console::enable_interrupt(Interrupt { cpu: cx.cpu(), bit: CONSOLE });
    if ready {
        print!("{}", management.ready_line(cpus, boot.memory));
    }
    (router, management)
}

fn idle(cpu: Cpu) -> ! {
    dispatch::run(cpu, Box::new(IdleCpu), |_| ())
}

/// Packet buffers: a quarter of memory, at most 64 MiB.
fn arena(memory: u64) -> &'static Arena {
    let bytes = (memory / 4).clamp(1 << 20, 64 << 20) as usize;
    match dma::Region::stale(bytes, BUFFER) {
        Some(region) => Arena::new(region.leak()),
        None => panic!("no {bytes} contiguous bytes for packet buffers: the machine needs more memory"),
    }
}

/// All network devices, in discovery order: PCI by address, then virtio-mmio.
fn devices(cx: &Control) -> Vec<Box<dyn Device>> {
    let options = net::Options::default();
    let mut devices: Vec<Box<dyn Device>> = Vec::new();
    for function in pci::functions().iter().filter(|function| net::matches(function)) {
        match net::probe_pci(cx, function, &options) {
            Ok(device) => devices.push(device),
            Err(wrong) => error!("virtio-net pci {}: {wrong}", function.address),
        }
    }
    for slot in &mmio_devices::virtio() {
        match net::probe_mmio(cx, slot, &options) {
            Ok(device) => devices.push(device),
            // A slot of a board that nothing is plugged into, or something else is.
            Err(weir_virtio::Error::EmptySlot | weir_virtio::Error::NotNetwork(_)) => {}
            Err(wrong) => error!("virtio-net mmio {:#x}: {wrong}", slot.base),
        }
    }
    devices
}

/// The configuration of the boot module and each interface's device.
///
/// # Errors
/// What is wrong with it, as text for the console.
fn configure(boot: &Boot, devices: Vec<Box<dyn Device>>) -> Result<(Config, Vec<Box<dyn Device>>), String> {
    let Some(text) = boot.module else {
        return Err("weir.toml: there is no boot module (QEMU: -initrd weir.toml)\n".into());
    };
    // Parsing takes up to 128 times the text for a moment.
    let needed = text.len() as u64 * 128;
    if needed > frames::free_bytes() {
        return Err(alloc::format!(
            "weir.toml: {} bytes take up to {} MiB to read and {} MiB are free: give the machine more memory\n",
            text.len(),
            needed >> 20,
            frames::free_bytes() >> 20
        ));
    }
    let config = Config::parse(text).map_err(|errors| alloc::format!("{}", errors.in_file("weir.toml")))?;
    let infos: Vec<_> = devices.iter().map(|device| device.info()).collect();
    let chosen = attach::choose(&config, &infos)?;
    let mut devices: Vec<Option<Box<dyn Device>>> = devices.into_iter().map(Some).collect();
    let chosen = chosen.into_iter().filter_map(|number| devices.get_mut(number)?.take()).collect();
    Ok((config, chosen))
}

/// Attaches each interface's device: its queues to this CPU, the rest to management.
fn connect(
    cx: &Control,
    config: Config,
    devices: Vec<Box<dyn Device>>,
    dress: fn(Box<dyn Queue>) -> Box<dyn Queue>,
) -> (Config, Vec<Attached>, Vec<Port>) {
    let mut ports = Vec::new();
    let mut attached = Vec::new();
    for ((number, wish), mut device) in (0..).zip(&config.interfaces).zip(devices) {
        let interface = IfIndex(number);
        let pairs = device.queues(cx);
        ports.extend(pairs.into_iter().map(|pair| Port::new(interface, pair.source, dress(pair.queue))));
        let link = device.link(cx);
        attached.push(Attached {
            interface,
            name: wish.name.clone(),
            device,
            state: if wish.enabled { State::Link(link) } else { State::Disabled },
            counters: Arc::new(IfCounters::new()),
        });
    }
    (config, attached, ports)
}
