//! From a reset to a running device (virtio 1.2 §3.1.1, §5.1.5).

use super::config::Config;
use super::control::{Answer, Control as ControlQueue};
use super::features::{self, Wanted};
use super::pair::{Halves, Pair};
use super::receive::Receiver;
use super::transmit::Transmitter;
use super::{Filter, MAX_QUEUE_SIZE, MIN_QUEUE_SIZE, Net, Options, header, rss};
use crate::error::Error;
use crate::queue::{Events, SplitQueue};
use crate::transport::{Event, Interrupts, Notify, QueueMemory, Transport, advance, reset};
use crate::violation::Health;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use virtio_spec::DeviceStatus;
use virtio_spec::net::F;
use weir_machine::interrupt::{self, Interrupt};
use weir_machine::{clock, debug, hermit, warn};
use weir_netif::{DeviceInfo, MIN_CAPACITY, Offloads, QueuePair};
use weir_sync::CpuId;

/// Entries the control queue must have: a command and the place for its answer.
const MIN_CONTROL_SIZE: u16 = 2;
/// What an IP packet has in front of it in a buffer: both headers, and a VLAN tag.
const OVERHEAD: u16 = header::LEN as u16 + 14 + 4;
/// Layer-3 packet that a single receive buffer holds.
const SINGLE_BUFFER_MTU: u16 = MIN_CAPACITY as u16 - OVERHEAD;
/// Layer-3 packet that fits what uhyve 0.10 hands over of a frame: its first 1500 bytes, without a word about the rest. It
/// mostly says 1500 whatever its TAP has, being barred from reading that.
pub const UHYVE_MTU: u16 = 1500 - 14;
/// Layer-3 packet a device carries that does not say.
const DEFAULT_MTU: u16 = 1500;

/// Attaches a network device.
pub(super) fn attach(transport: Box<dyn Transport>, options: &Options) -> Result<Net, Error> {
    new(transport).run(options)
}

fn new(transport: Box<dyn Transport>) -> Attach {
    let name = format!("virtio-net {}", transport.place());
    let info = DeviceInfo { name, mac: [0; 6], mtu: DEFAULT_MTU, queues: 0, offloads: Offloads::empty() };
    // From here on a failure drops this, which resets the device.
    let net = Net {
        transport,
        info,
        features: F::empty(),
        health: Arc::new(Health::default()),
        pairs: Vec::new(),
        control: None,
        interrupts: Vec::new(),
        config_source: 0,
        told: None,
    };
    Attach { net, status: DeviceStatus::empty(), max_pairs: 1 }
}

/// Says of a network device what can be said before features are settled, and resets it. It must not run for that:
/// uhyve's cannot be reset once it did.
pub(super) fn look(transport: Box<dyn Transport>) -> Result<DeviceInfo, Error> {
    let mut attach = new(transport);
    let (_, config) = attach.wake()?;
    attach.describe(0, &config, false);
    Ok(attach.net.info.clone())
}

struct Attach {
    net: Net,
    status: DeviceStatus,
    /// Queue pairs the device says it has.
    max_pairs: u16,
}

impl Attach {
    fn run(mut self, options: &Options) -> Result<Net, Error> {
        let (offered, config) = self.wake()?;
        self.negotiate(options, offered, &config)?;
        let pairs = self.queue_pairs(options.queue_pairs);
        self.set_up_pairs(pairs, options.receive_buffers)?;
        self.set_up_control()?;
        self.set_up_config_interrupt()?;
        self.advance(DeviceStatus::DRIVER_OK);
        let hashes = self.steer(pairs, &config)?;
        self.filter(options.filter)?;
        self.describe(pairs, &config, hashes);
        let bits = features::to_bits(self.net.features);
        debug!("{}: {pairs} queue pairs, features {bits:#x}", self.net.info.name);
        Ok(self.net)
    }

    fn advance(&mut self, bit: DeviceStatus) {
        advance(&mut *self.net.transport, &mut self.status, bit);
    }

    /// From a reset to what the device offers (§3.1.1, steps 1 to 4).
    fn wake(&mut self) -> Result<(F, Config), Error> {
        if !reset(&mut *self.net.transport) {
            return Err(Error::ResetTimeout);
        }
        self.advance(DeviceStatus::ACKNOWLEDGE);
        self.advance(DeviceStatus::DRIVER);
        let transport = &mut *self.net.transport;
        let offered = features::from_bits(transport.read_features());
        if !offered.contains(F::VERSION_1) {
            return Err(Error::NotVersion1);
        }
        self.net.features = offered;
        let config = Config::read(transport, offered)?;
        Ok((offered, config))
    }

    /// Settles features (§3.1.1, steps 4 to 6).
    fn negotiate(&mut self, options: &Options, offered: F, config: &Config) -> Result<(), Error> {
        let wanted = Wanted {
            offloads: options.offloads,
            multiqueue: options.queue_pairs > 1 && config.pairs > 1,
            mtu: offered.contains(F::MRG_RXBUF) || config.mtu.is_some_and(|mtu| mtu <= SINGLE_BUFFER_MTU),
        };
        let features = features::choose(offered, wanted);
        let transport = &mut *self.net.transport;
        transport.write_features(features::to_bits(features));
        self.advance(DeviceStatus::FEATURES_OK);
        let status = DeviceStatus::from_bits_retain(self.net.transport.read_status());
        if !status.contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::FeaturesRefused(features::to_bits(features)));
        }
        self.net.features = features;
        self.max_pairs = config.pairs;
        Ok(())
    }

    /// How many queue pairs to use: as wanted, as offered, one vector each, one CPU each.
    fn queue_pairs(&mut self, wanted: u16) -> u16 {
        let offered = if self.net.features.intersects(F::MQ | F::RSS) { self.max_pairs } else { 1 };
        let vectors = match self.net.transport.interrupts() {
            Interrupts::Messages(vectors) => vectors,
            Interrupts::Wired => 1,
        };
        wanted.min(offered).min(vectors).min(weir_sync::cpu::count() as u16).max(1)
    }

    /// Sets up receive queue 2n and transmit queue 2n + 1 of each pair n (§5.1.2); the former share `buffers`.
    fn set_up_pairs(&mut self, pairs: u16, buffers: usize) -> Result<(), Error> {
        let share = (buffers / usize::from(pairs)).clamp(MIN_QUEUE_SIZE.into(), MAX_QUEUE_SIZE.into());
        let share = 1 << share.ilog2();
        for pair in 0..pairs {
            let interrupt = self.interrupt(pair)?;
            let vector = pair;
            let wired = self.net.transport.interrupts() == Interrupts::Wired;
            self.net.transport.route(vector, interrupt)?;
            let line = if wired { self.net.transport.acknowledge() } else { None };
            if wired && line.is_none() {
                return Err(Error::NoInterruptLine);
            }
            let features = self.net.features;
            let (queue, notify) = self.set_up_queue(2 * pair, MIN_QUEUE_SIZE..=share, Some(vector))?;
            let receiver = Receiver::new(queue, notify, features);
            let (queue, notify) = self.set_up_queue(2 * pair + 1, MIN_QUEUE_SIZE..=MAX_QUEUE_SIZE, None)?;
            let transmitter = Transmitter { queue, notify, features, notifications: 0 };
            let queue = Pair::new(Halves { receiver, transmitter, line }, self.net.health.clone());
            self.net.pairs.push(QueuePair {
                cpu: interrupt.cpu,
                source: interrupt.bit,
                queue: Box::new(queue),
            });
        }
        Ok(())
    }

    /// Sets up the control queue, if there is one: behind all the pairs the device has (§5.1.2).
    fn set_up_control(&mut self) -> Result<(), Error> {
        if !self.net.features.contains(F::CTRL_VQ) {
            return Ok(());
        }
        let multiqueue = self.net.features.intersects(F::MQ | F::RSS);
        let pairs = if multiqueue { self.max_pairs } else { 1 };
        let index = pairs.checked_mul(2).ok_or(Error::QueuePairs(pairs))?;
        let (queue, notify) = self.set_up_queue(index, MIN_CONTROL_SIZE..=MAX_QUEUE_SIZE, None)?;
        let control = ControlQueue::new(queue, notify, self.net.health.clone()).ok_or(Error::NoMemory)?;
        self.net.control = Some(control);
        Ok(())
    }

    /// Gives the configuration a vector of its own, or the first queue's if there is none left.
    fn set_up_config_interrupt(&mut self) -> Result<(), Error> {
        let pairs = self.net.pairs.len() as u16;
        self.net.config_source = self.net.pairs.first().map_or(0, |pair| pair.source);
        let Interrupts::Messages(vectors) = self.net.transport.interrupts() else { return Ok(()) };
        let own = if vectors > pairs { interrupt::allocate(CpuId::BOOT) } else { None };
        let mut vector = 0;
        if let Some(interrupt) = own {
            self.net.interrupts.push(interrupt);
            self.net.config_source = interrupt.bit;
            vector = pairs;
            self.net.transport.route(vector, interrupt)?;
        }
        self.net.transport.assign(Event::Configuration, vector)
    }

    /// An interrupt source of the CPU that owns pair `pair`.
    fn interrupt(&mut self, pair: u16) -> Result<Interrupt, Error> {
        let cpu = CpuId::new(pair.into()).ok_or(Error::QueuePairs(pair))?;
        let interrupt = interrupt::allocate(cpu).ok_or(Error::NoInterrupt)?;
        self.net.interrupts.push(interrupt);
        Ok(interrupt)
    }

    /// Gives queue `index` memory of its own for a number of entries within `sizes` (§4.1.5.1.3, §4.2.3.2), interrupting
    /// by `vector` or not at all.
    fn set_up_queue<T>(
        &mut self,
        index: u16,
        sizes: RangeInclusive<u16>,
        vector: Option<u16>,
    ) -> Result<(SplitQueue<T>, Box<dyn Notify>), Error> {
        let transport = &mut *self.net.transport;
        // uhyve stops at the selection of a queue that it lacks.
        if transport.read_queue_count().is_some_and(|count| index >= count) {
            return Err(Error::QueueMissing(index));
        }
        let offered = transport.read_queue_size(index);
        if offered == 0 {
            return Err(Error::QueueMissing(index));
        }
        let size = offered.min(*sizes.end());
        if !offered.is_power_of_two() || size < *sizes.start() {
            return Err(Error::QueueSize(index, offered));
        }
        let events = if self.net.features.contains(F::EVENT_IDX) { Events::Index } else { Events::Flags };
        let queue = SplitQueue::new(size, events).ok_or(Error::NoMemory)?;
        if let (Some(vector), Interrupts::Messages(_)) = (vector, transport.interrupts()) {
            transport.assign(Event::Queue(index), vector)?;
        }
        let rings = queue.rings();
        let memory = QueueMemory {
            size,
            descriptors: rings.descriptors(),
            available: rings.available(),
            used: rings.used(),
        };
        let notify = transport.enable_queue(index, &memory)?;
        Ok((queue, notify))
    }

    /// Has the device use all pairs. Returns whether it spreads flows by a symmetric hash.
    fn steer(&mut self, pairs: u16, config: &Config) -> Result<bool, Error> {
        let features = self.net.features;
        let Some(control) = self.net.control.as_mut().filter(|_| pairs > 1) else { return Ok(false) };
        let rss =
            config.rss.filter(|_| features.contains(F::RSS)).and_then(|limits| rss::config(pairs, limits));
        if let Some(rss) = rss {
            if control.set_rss(&rss)? == Answer::Done {
                return Ok(true);
            }
            warn!("{}: refused receive-side scaling", self.net.info.name);
        }
        if features.contains(F::MQ) && control.set_queue_pairs(pairs)? == Answer::Done {
            return Ok(false);
        }
        Err(Error::SteeringRefused)
    }

    /// Sets the receive filter; a device without one hands over everything.
    fn filter(&mut self, filter: Filter) -> Result<(), Error> {
        let features = self.net.features;
        let Some(control) = self.net.control.as_mut().filter(|_| features.contains(F::CTRL_RX)) else {
            return Ok(());
        };
        // Groups first: neighbour discovery and routing protocols live on them.
        let groups = control.set_all_multicast(1)?;
        let stations =
            control.set_promiscuous(u8::from(filter == Filter::Everything || groups == Answer::Refused))?;
        if (groups, stations) != (Answer::Done, Answer::Done) {
            warn!("{}: refused a receive filter; multicast may be missing", self.net.info.name);
        }
        Ok(())
    }

    fn describe(&mut self, pairs: u16, config: &Config, hashes: bool) {
        let info = &mut self.net.info;
        info.queues = pairs;
        info.offloads = features::offloads(self.net.features, hashes);
        info.mac = config.mac.unwrap_or_else(random_mac);
        if hermit::present() {
            info.mac = beside(info.mac);
        }
        let mtu = config.mtu.unwrap_or(DEFAULT_MTU);
        info.mtu = if self.net.features.contains(F::MRG_RXBUF) { mtu } else { mtu.min(SINGLE_BUFFER_MTU) };
        if hermit::present() {
            info.mtu = info.mtu.min(UHYVE_MTU);
        } else if info.mtu != mtu {
            warn!(
                "{}: MTU {} instead of {mtu}: without VIRTIO_NET_F_MRG_RXBUF a frame must fit one buffer",
                info.name, info.mtu
            );
        }
    }
}

/// A station address for the guest of uhyve, which passes on its TAP's own: that is the host's, or its bridge takes it for
/// its own. uhyve hands every frame over, whatever its destination.
fn beside(mut tap: [u8; 6]) -> [u8; 6] {
    tap[0] = tap[0] & !1 ^ 0x40 | 0x02;
    tap
}

/// A locally administered unicast address (IEEE 802 §8.4), for a device without one.
fn random_mac() -> [u8; 6] {
    // Multiplied so that two devices attached soon after one another differ in all bytes.
    let mixed = clock::tsc().wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let [a, b, c, d, e, ..] = mixed;
    [0x02, a, b, c, d, e]
}
