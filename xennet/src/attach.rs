//! From a vif in the store to a running device. Task level.

use crate::control::Control as ControlRing;
use crate::device::{Net, Standing};
use crate::error::Error;
use crate::features::{self, Features};
use crate::ids::{Mark, SLOTS};
use crate::pair::{Events, Halves, Pair, Source};
use crate::receive::Receiver;
use crate::ring::{FrontRing, PAGE};
use crate::stock::{Buffers, Stock};
use crate::transmit::Transmitter;
use crate::violation::Health;
use crate::xenbus::{Place, State, failed};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_machine::xen::event::Channel;
use weir_machine::xen::grant::{Access, Lent, Page, Table};
use weir_machine::xen::store::{Store, StoreError, Transaction};
use weir_machine::{clock, debug, frames, interrupt, warn};
use weir_netif::{Arena, Device, DeviceInfo, Offloads, QueuePair};
use weir_sync::sort::sort;
use weir_sync::{Control, CpuId};

/// Pages for copies of a trusted vif: what few packets need that take too many requests as they lie, six of 64 KiB.
const FEW_PAGES: usize = 96;
/// Pages below which there is no point: one packet of 64 KiB.
const LEAST_PAGES: usize = 18;
/// What of a former connection could mislead the backend.
const STALE: [&str; 8] = [
    "multi-queue-num-queues",
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "event-channel-tx",
    "event-channel-rx",
    "ctrl-ring-ref",
    "event-channel-ctrl",
];

/// What vifs are made of.
#[derive(Clone, Copy, Debug)]
pub struct Xen {
    /// Where front and back end find each other.
    pub store: &'static Store,
    /// Where pages are lent.
    pub grants: &'static Table,
    /// The packet arena.
    pub arena: &'static Arena,
    /// The packet arena, lent to the one backend domain that is trusted with it. Vifs of other domains, and untrusted
    /// ones, send and receive copies; so do trusted ones receive if the arena's buffers are no pages, not all are lent,
    /// or too many are in receive rings already.
    pub lent: Option<&'static Lent>,
}

/// How to attach a vif.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Queues wanted: as many as there are CPUs. It gets at most what the backend allows, and queue *n* belongs to
    /// CPU *n*.
    pub queue_pairs: u16,
    /// Offloads wanted; the backend may have fewer.
    pub offloads: Offloads,
    /// Nanoseconds the backend has for each step of connecting and closing.
    pub patience_ns: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_pairs: 1, offloads: Offloads::all(), patience_ns: 5 * clock::SECOND }
    }
}

/// A vif the toolstack made for us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Vif {
    /// Its number: *n* in `device/vif/n`.
    pub handle: u32,
}

impl Vif {
    /// All of them, by number.
    ///
    /// # Errors
    /// Those of the store; no vif is none.
    pub fn list(cx: &Control, store: &Store) -> Result<Vec<Vif>, Error> {
        const PATH: &str = "device/vif";
        let names = match store.list(cx, PATH) {
            Ok(names) => names,
            Err(StoreError::NotFound) => Vec::new(),
            Err(why) => return Err(failed(PATH, why)),
        };
        let mut vifs: Vec<Vif> =
            names.iter().filter_map(|name| Some(Vif { handle: name.parse().ok()? })).collect();
        sort(&mut vifs);
        Ok(vifs)
    }
}

/// What vif `handle` would be if it were attached now; touches nothing. Its backend must have got as far as to offer
/// its features, and is waited for.
pub fn describe(cx: &Control, xen: &Xen, handle: u32, options: &Options) -> Result<DeviceInfo, Error> {
    let place = Place::find(cx, xen.store, handle)?;
    let ready = [State::InitWait, State::Initialised, State::Connected, State::Closing, State::Closed];
    place.wait(cx, &ready, options.patience_ns)?;
    let features = Features::read(cx, &place, options.offloads)?;
    let queues = queue_count(&features, options);
    info(cx, &place, handle, &features, queues)
}

/// Attaches vif `handle`: negotiates with its backend, lends it rings and pages, and waits until it is connected. What
/// was left of a former connection is closed first.
///
/// [`Device::stop`] ends the connection. A device dropped without it leaves its pages with the backend.
pub fn probe(cx: &Control, xen: &Xen, handle: u32, options: &Options) -> Result<Box<dyn Device>, Error> {
    xen.grants.retry();
    let place = Place::find(cx, xen.store, handle)?;
    place.begin(cx, options.patience_ns)?;
    match connect(cx, xen, &place, handle, options) {
        Ok(net) => Ok(Box::new(net)),
        Err(why) => {
            // The first error counts.
            let _ = place.close(cx, options.patience_ns);
            xen.grants.retry();
            Err(why)
        }
    }
}

fn connect(cx: &Control, xen: &Xen, place: &Place, handle: u32, options: &Options) -> Result<Net, Error> {
    let features = Features::read(cx, place, options.offloads)?;
    let count = queue_count(&features, options);
    let mut info = info(cx, place, handle, &features, count)?;
    let lent = match place.our_number(cx, "trusted")? {
        Some(0) => None,
        _ => xen.lent.filter(|lent| lent.to() == place.backend),
    };
    let salt = clock::tsc() as u16;
    let queues = Queues { xen, place, features: &features, lent, count, salt };
    let halves = (0..count).map(|queue| queues.build(queue)).collect::<Result<Vec<_>, _>>()?;
    let control = match info.offloads.contains(Offloads::RX_RSS) {
        true => ControlRing::new(xen.grants, place.backend, xen.store.interrupt(), salt)
            .inspect_err(|why| warn!("{}: no control ring: {why}", info.name))
            .ok(),
        false => None,
    };
    if control.is_none() {
        info.offloads.remove(Offloads::RX_RSS);
    }
    publish(cx, place, &features, &halves, control.as_ref())?;
    place.set_state(cx, State::Connected)?;
    place.wait(cx, &[State::Connected], options.patience_ns)?;
    let watch = xen.store.watch(cx, &place.back).map_err(|why| failed(&place.back, why))?;
    debug!("{}: {count} queues, {:?}, lent {}", info.name, features, lent.is_some());
    let health = Arc::new(Health::default());
    let pairs = halves.into_iter().map(|halves| QueuePair {
        cpu: halves.events.target.0.cpu,
        source: halves.events.target.0.bit,
        queue: Box::new(Pair::new(halves, health.clone())),
    });
    let mut net = Net {
        info,
        pairs: pairs.collect(),
        control,
        health,
        place: place.clone(),
        watch: Some(watch),
        xen: *xen,
        patience_ns: options.patience_ns,
        chains: features.offers.chains,
        standing: Standing::Serves,
        wrong: None,
    };
    match net.spread() {
        Ok(()) => Ok(net),
        Err(violation) => {
            net.stop(cx);
            Err(violation.into())
        }
    }
}

fn queue_count(features: &Features, options: &Options) -> u16 {
    // Ids tell 16 queues apart.
    options.queue_pairs.min(features.queues).min(weir_sync::cpu::count() as u16).clamp(1, 16)
}

fn info(
    cx: &Control,
    place: &Place,
    handle: u32,
    features: &Features,
    queues: u16,
) -> Result<DeviceInfo, Error> {
    Ok(DeviceInfo {
        name: format!("xennet vif {handle}"),
        mac: features::read_mac(cx, place)?,
        mtu: features::read_mtu(cx, place, features.offers.chains)?,
        queues,
        offloads: features.offloads(queues),
    })
}

/// What all queues of a vif have in common.
struct Queues<'a> {
    xen: &'a Xen,
    place: &'a Place,
    features: &'a Features,
    lent: Option<&'static Lent>,
    count: u16,
    salt: u16,
}

impl Queues<'_> {
    /// Queue `number`, not known to the backend yet.
    fn build(&self, number: u16) -> Result<Halves, Error> {
        let cpu = CpuId::new(number.into()).ok_or(Error::NoInterrupt)?;
        let target = Source(interrupt::allocate(cpu).ok_or(Error::NoInterrupt)?);
        let receive = self.channel(&target)?;
        let transmit = if self.features.split_events { Some(self.channel(&target)?) } else { None };
        let mark = Mark::new(self.salt, number);
        // Of the grants that are left, and of half of the memory, for each direction of each queue that comes, its ring's
        // page included.
        let left = self.xen.grants.entries().saturating_sub(self.xen.grants.in_use()).min(spare_pages());
        let share = (left / (2 * usize::from(self.count.saturating_sub(number).max(1)))).saturating_sub(1);
        let receiver = Receiver::new(
            FrontRing::new(self.page(Access::ReadWrite)?),
            match self.lent.and_then(|lent| Buffers::new(lent, self.xen.arena, self.count)) {
                Some(buffers) => Stock::Buffers(buffers),
                None => Stock::Pages(self.pages(SLOTS.min(share), Access::ReadWrite)?),
            },
            mark,
            self.features.accepts(self.count),
        );
        let copies = if self.lent.is_some() { FEW_PAGES } else { SLOTS };
        let transmitter = Transmitter::new(
            FrontRing::new(self.page(Access::ReadWrite)?),
            self.lent,
            self.pages(copies.min(share), Access::ReadOnly)?,
            mark,
            self.features.offers,
        );
        Ok(Halves { receiver, transmitter, events: Events { receive, transmit, target, notifications: 0 } })
    }

    fn channel(&self, target: &Source) -> Result<Channel, Error> {
        Channel::allocate(self.place.backend, target.0).map_err(Error::no_channel)
    }

    fn page(&self, access: Access) -> Result<Page, Error> {
        Page::new(self.xen.grants, self.place.backend, access).map_err(|_| Error::NoMemory)
    }

    fn pages(&self, count: usize, access: Access) -> Result<Vec<Page>, Error> {
        if count < LEAST_PAGES {
            return Err(Error::NoMemory);
        }
        (0..count).map(|_| self.page(access)).collect()
    }
}

/// Pages of half of the memory that is free; no end of them on a host.
fn spare_pages() -> usize {
    match frames::total_bytes() {
        0 => usize::MAX,
        _ => (frames::free_bytes() / 2) as usize / PAGE,
    }
}

/// Tells the backend where the queues are, and what is wanted, all at once.
fn publish(
    cx: &Control,
    place: &Place,
    features: &Features,
    queues: &[Halves],
    control: Option<&ControlRing>,
) -> Result<(), Error> {
    let done = place.store.transaction(cx, |store| {
        let kept = store.list(&place.front)?;
        let is_stale = |name: &&String| name.starts_with("queue-") || STALE.contains(&name.as_str());
        for name in kept.iter().filter(is_stale) {
            store.remove(&place.ours(name))?;
        }
        for (key, value) in features.nodes() {
            store.write(&place.ours(key), if value { "1" } else { "0" })?;
        }
        if let Some(control) = control {
            store.write(&place.ours("ctrl-ring-ref"), control.reference().to_string())?;
            store.write(&place.ours("event-channel-ctrl"), control.port().to_string())?;
        }
        let [only] = queues else {
            store.write(&place.ours("multi-queue-num-queues"), queues.len().to_string())?;
            return queues.iter().enumerate().try_for_each(|(number, queue)| {
                publish_queue(store, &place.ours(&format!("queue-{number}")), queue)
            });
        };
        publish_queue(store, &place.front, only)
    });
    done.map_err(|why| failed(&place.front, why))
}

fn publish_queue(store: &Transaction<'_>, directory: &str, queue: &Halves) -> Result<(), StoreError> {
    let write = |key: &str, value: u32| store.write(&format!("{directory}/{key}"), value.to_string());
    write("tx-ring-ref", queue.transmitter.reference())?;
    write("rx-ring-ref", queue.receiver.reference())?;
    let Events { receive, transmit, .. } = &queue.events;
    match transmit {
        None => write("event-channel", receive.port()),
        Some(transmit) => {
            write("event-channel-tx", transmit.port())?;
            write("event-channel-rx", receive.port())
        }
    }
}
