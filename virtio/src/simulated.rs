//! A device for tests. It reaches rings and buffers as a real one does: from outside the program, through nothing but
//! the addresses it was given (the kernel's `/proc/self/mem` stands for the bus).
//!
//! By default it behaves. Its public fields and raw accessors let a test make it lie.

use crate::error::Error;
use crate::transport::{Acknowledge, Event, Interrupts, Notify, QueueMemory, Transport};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard};
use std::vec;
use std::vec::Vec;
use virtio_spec::net::F;
use weir_machine::interrupt::Interrupt;

/// Bytes of `struct virtio_net_hdr`.
pub(crate) const HEADER: usize = 12;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The bus: this process' memory.
pub(crate) struct Bus(File);

impl Bus {
    fn new() -> Self {
        Self(OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap())
    }

    fn read<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, addr).unwrap();
        bytes
    }

    pub(crate) fn read_to(&self, addr: u64, to: &mut [u8]) {
        self.0.read_exact_at(to, addr).unwrap();
    }

    pub(crate) fn write(&self, addr: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, addr).unwrap();
    }

    fn read_u16(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.read(addr))
    }
}

/// What the control queue does with a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manners {
    Obey,
    Refuse,
    Garble,
    Ignore,
}

/// A buffer the driver made available.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) head: u16,
    /// Address, length, whether the device may write.
    pub(crate) segments: Vec<(u64, u32, bool)>,
}

/// The device's side of one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueState {
    /// Size offered.
    pub(crate) offered: u16,
    pub(crate) memory: Option<QueueMemory>,
    vector: Option<u16>,
    last_avail: u16,
    used: u16,
    signalled: u16,
    pub(crate) notifications: usize,
    pub(crate) interrupts: usize,
}

/// What a test has the device do when a queue is notified.
pub(crate) type Reaction = Box<dyn FnMut(&mut State, usize) + Send>;

/// All of the device.
pub(crate) struct State {
    pub(crate) bus: Bus,
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) status: u8,
    /// Every status written.
    pub(crate) statuses: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) queues: Vec<QueueState>,
    /// Queues the bus announces; `None` as on MMIO.
    pub(crate) announced: Option<u16>,
    pub(crate) vectors: Option<u16>,
    pub(crate) routes: Vec<(u16, Interrupt)>,
    pub(crate) config_vector: Option<u16>,
    pub(crate) generation: u32,
    pub(crate) manners: Manners,
    /// Control commands that came: class, command, data.
    pub(crate) commands: Vec<(u8, u8, Vec<u8>)>,
    pub(crate) acknowledgements: usize,
    pub(crate) isolated: bool,
    /// Lies about itself.
    pub(crate) refuses_features: bool,
    pub(crate) never_resets: bool,
    pub(crate) generation_runs: bool,
    pub(crate) refuses_vectors: bool,
    /// Takes the place of the control queue.
    pub(crate) reaction: Option<Reaction>,
}

/// A handle to the device; clones are the same device.
#[derive(Clone)]
pub(crate) struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    /// A device that offers `features`, with `pairs` queue pairs of `size` and a control queue.
    pub(crate) fn new(features: F, pairs: u16, size: u16) -> Self {
        let mut config = vec![0; 24];
        config[..6].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        config[6] = 1;
        config[8..10].copy_from_slice(&pairs.to_le_bytes());
        config[10..12].copy_from_slice(&1500_u16.to_le_bytes());
        config[17] = 40;
        config[18..20].copy_from_slice(&128_u16.to_le_bytes());
        config[20..24].copy_from_slice(&0x3f_u32.to_le_bytes());
        let queues = usize::from(pairs) * 2 + 1;
        Self(Arc::new(Mutex::new(State {
            bus: Bus::new(),
            offered: features.bits().to_ne() as u64,
            accepted: 0,
            status: 0,
            statuses: Vec::new(),
            config,
            queues: vec![QueueState { offered: size, ..QueueState::default() }; queues],
            announced: Some(queues as u16),
            vectors: Some(pairs + 1),
            routes: Vec::new(),
            config_vector: None,
            generation: 0,
            manners: Manners::Obey,
            commands: Vec::new(),
            acknowledgements: 0,
            isolated: false,
            refuses_features: false,
            never_resets: false,
            generation_runs: false,
            refuses_vectors: false,
            reaction: None,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Whether it was reset and cut off.
    pub(crate) fn is_quenched(&self) -> bool {
        let state = self.state();
        state.status == 0 && state.isolated
    }

    /// The transport to attach it by.
    pub(crate) fn transport(&self) -> Box<dyn Transport> {
        Box::new(self.clone())
    }
}

impl State {
    fn memory(&self, queue: usize) -> QueueMemory {
        self.queues[queue].memory.unwrap()
    }

    fn has(&self, feature: F) -> bool {
        self.accepted & feature.bits().to_ne() as u64 != 0
    }

    fn available(&self, queue: usize) -> u16 {
        self.bus.read_u16(self.memory(queue).available + 2)
    }

    /// The next available buffer. Asks for a notification when there is none.
    pub(crate) fn take(&mut self, queue: usize) -> Option<Chain> {
        let memory = self.memory(queue);
        let last = self.queues[queue].last_avail;
        if self.available(queue) == last {
            if self.has(F::EVENT_IDX) {
                let avail_event = memory.used + 4 + 8 * u64::from(memory.size);
                self.bus.write(avail_event, &last.to_le_bytes());
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            }
            if self.available(queue) == last {
                return None;
            }
        }
        let head = self.bus.read_u16(memory.available + 4 + 2 * u64::from(last % memory.size));
        self.queues[queue].last_avail = last.wrapping_add(1);
        Some(self.chain(queue, head))
    }

    fn chain(&self, queue: usize, head: u16) -> Chain {
        let memory = self.memory(queue);
        let mut segments = Vec::new();
        let mut at = head;
        loop {
            assert!(at < memory.size, "descriptor {at} of {}", memory.size);
            let bytes: [u8; 16] = self.bus.read(memory.descriptors + 16 * u64::from(at));
            let addr = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            let flags = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
            assert_ne!(len, 0, "a descriptor of no bytes");
            segments.push((addr, len, flags & WRITE != 0));
            assert!(segments.len() <= usize::from(memory.size), "a chain longer than the ring");
            if flags & NEXT == 0 {
                return Chain { head, segments };
            }
            at = u16::from_le_bytes(bytes[14..].try_into().unwrap());
        }
    }

    /// Writes a used entry, unpublished.
    pub(crate) fn put(&mut self, queue: usize, id: u32, len: u32) {
        let memory = self.memory(queue);
        let state = &mut self.queues[queue];
        let at = memory.used + 4 + 8 * u64::from(state.used % memory.size);
        state.used = state.used.wrapping_add(1);
        self.bus.write(at, &(u64::from(id) | u64::from(len) << 32).to_le_bytes());
    }

    /// Publishes the used index, and interrupts if the driver wants it.
    pub(crate) fn publish(&mut self, queue: usize) {
        let used = self.queues[queue].used;
        self.publish_index(queue, used);
        let memory = self.memory(queue);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let wanted = if self.has(F::EVENT_IDX) {
            let event = self.bus.read_u16(memory.available + 4 + 2 * u64::from(memory.size));
            let old = self.queues[queue].signalled;
            used.wrapping_sub(event).wrapping_sub(1) < used.wrapping_sub(old)
        } else {
            self.bus.read_u16(memory.available) & 1 == 0
        };
        self.queues[queue].signalled = used;
        self.queues[queue].interrupts += usize::from(wanted);
    }

    /// Publishes any used index.
    pub(crate) fn publish_index(&mut self, queue: usize, index: u16) {
        let at = self.memory(queue).used + 2;
        self.bus.write(at, &index.to_le_bytes());
    }

    /// The used index so far.
    pub(crate) fn used(&self, queue: usize) -> u16 {
        self.queues[queue].used
    }

    /// Asks for no notifications, where event indices are not in use.
    pub(crate) fn suppress_notifications(&self, queue: usize, flag: u16) {
        self.bus.write(self.memory(queue).used, &flag.to_le_bytes());
    }

    /// Overwrites everything the driver wrote into a queue's memory but the rings' indices it owns.
    pub(crate) fn scribble(&self, queue: usize, with: u8) {
        let memory = self.memory(queue);
        self.bus.write(memory.descriptors, &vec![with; 16 * usize::from(memory.size)]);
        self.bus.write(memory.available, &vec![with; 4 + 2 * usize::from(memory.size)]);
    }

    /// Writes bytes into a buffer's first segment.
    pub(crate) fn write(&self, chain: &Chain, bytes: &[u8]) {
        self.bus.write(chain.segments[0].0, bytes);
    }

    /// Delivers a frame behind `header`, in as many buffers as it takes; `false` if there are not enough. Fills in
    /// the number of buffers. Does not publish.
    pub(crate) fn deliver(&mut self, queue: usize, mut header: [u8; HEADER], frame: &[u8]) -> bool {
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        while room < HEADER + frame.len() {
            let Some(chain) = self.take(queue) else {
                // Not enough: they wait for the next frame.
                self.queues[queue].last_avail =
                    self.queues[queue].last_avail.wrapping_sub(chains.len() as u16);
                return false;
            };
            assert!(chain.segments.len() == 1 && chain.segments[0].2);
            room += chain.segments[0].1 as usize;
            chains.push(chain);
        }
        header[10..].copy_from_slice(&(chains.len() as u16).to_le_bytes());
        let bytes = [&header[..], frame].concat();
        let mut rest = &bytes[..];
        for chain in chains {
            let (now, later) = rest.split_at(rest.len().min(chain.segments[0].1 as usize));
            self.write(&chain, now);
            self.put(queue, chain.head.into(), now.len() as u32);
            rest = later;
        }
        true
    }

    /// Takes a frame that the driver transmits: header and bytes. Does not return the buffer.
    pub(crate) fn collect(&mut self, queue: usize) -> Option<(Chain, [u8; HEADER], Vec<u8>)> {
        let chain = self.take(queue)?;
        let mut bytes = Vec::new();
        for &(addr, len, writable) in &chain.segments {
            assert!(!writable);
            let at = bytes.len();
            bytes.resize(at + len as usize, 0);
            self.bus.read_to(addr, &mut bytes[at..]);
        }
        let frame = bytes.split_off(HEADER);
        Some((chain, bytes.try_into().unwrap(), frame))
    }

    fn notified(&mut self, queue: usize) {
        self.queues[queue].notifications += 1;
        if let Some(mut reaction) = self.reaction.take() {
            reaction(self, queue);
            self.reaction = Some(reaction);
            return;
        }
        if self.commands_come_by(queue) && self.manners != Manners::Ignore {
            while let Some(chain) = self.take(queue) {
                self.command(queue, &chain);
            }
        }
    }

    fn commands_come_by(&self, queue: usize) -> bool {
        let multiqueue = self.has(F::MQ) || self.has(F::RSS);
        self.has(F::CTRL_VQ) && queue == if multiqueue { self.queues.len() - 1 } else { 2 }
    }

    fn command(&mut self, queue: usize, chain: &Chain) {
        let [(request, len, false), (answer, 1, true)] = chain.segments[..] else { panic!("{chain:?}") };
        let mut bytes = vec![0; len as usize];
        self.bus.read_to(request, &mut bytes);
        self.commands.push((bytes[0], bytes[1], bytes[2..].into()));
        let said = match self.manners {
            Manners::Obey => 0,
            Manners::Refuse => 1,
            _ => 0x5a,
        };
        self.bus.write(answer, &[said]);
        self.put(queue, chain.head.into(), 1);
        self.publish(queue);
    }

    fn reset(&mut self) {
        self.status = 0;
        self.accepted = 0;
        for queue in &mut self.queues {
            *queue = QueueState { offered: queue.offered, ..QueueState::default() };
        }
    }
}

impl Transport for Simulated {
    fn place(&self) -> String {
        "simulated".into()
    }

    fn read_status(&mut self) -> u8 {
        self.state().status
    }

    fn write_status(&mut self, status: u8) {
        let mut state = self.state();
        state.statuses.push(status);
        if status != 0 {
            let refused = if state.refuses_features { 8 } else { 0 };
            state.status = status & !refused;
        } else if !state.never_resets {
            state.reset();
        }
    }

    fn read_features(&mut self) -> u64 {
        self.state().offered
    }

    fn write_features(&mut self, features: u64) {
        self.state().accepted = features;
    }

    fn read_config_generation(&mut self) -> u32 {
        let mut state = self.state();
        state.generation += u32::from(state.generation_runs);
        state.generation
    }

    fn read_config_u8(&mut self, offset: usize) -> Option<u8> {
        self.state().config.get(offset).copied()
    }

    fn read_config_u16(&mut self, offset: usize) -> Option<u16> {
        assert!(offset.is_multiple_of(2));
        let state = self.state();
        state.config.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn read_config_u32(&mut self, offset: usize) -> Option<u32> {
        assert!(offset.is_multiple_of(4));
        let state = self.state();
        state.config.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn read_queue_count(&mut self) -> Option<u16> {
        self.state().announced
    }

    fn read_queue_size(&mut self, queue: u16) -> u16 {
        let state = self.state();
        assert!(state.announced.is_none_or(|count| queue < count), "selects a queue the device lacks");
        state.queues.get(usize::from(queue)).map_or(0, |queue| queue.offered)
    }

    fn enable_queue(&mut self, queue: u16, memory: &QueueMemory) -> Result<Box<dyn Notify>, Error> {
        let mut state = self.state();
        assert_eq!(state.status, 11, "queues are set up between FEATURES_OK and DRIVER_OK");
        let slot = &mut state.queues[usize::from(queue)];
        assert!(slot.memory.is_none() && memory.size <= slot.offered);
        assert!(memory.descriptors.is_multiple_of(16));
        assert!(memory.available.is_multiple_of(2) && memory.used.is_multiple_of(4));
        slot.memory = Some(*memory);
        Ok(Box::new(Doorbell { device: self.clone(), queue: queue.into() }))
    }

    fn interrupts(&self) -> Interrupts {
        self.state().vectors.map_or(Interrupts::Wired, Interrupts::Messages)
    }

    fn route(&mut self, vector: u16, interrupt: Interrupt) -> Result<(), Error> {
        self.state().routes.push((vector, interrupt));
        Ok(())
    }

    fn assign(&mut self, event: Event, vector: u16) -> Result<(), Error> {
        let mut state = self.state();
        if state.refuses_vectors || state.vectors.is_none_or(|vectors| vector >= vectors) {
            return Err(Error::VectorRefused);
        }
        match event {
            Event::Configuration => state.config_vector = Some(vector),
            Event::Queue(queue) => state.queues[usize::from(queue)].vector = Some(vector),
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Option<Box<dyn Acknowledge>> {
        Some(Box::new(self.clone()))
    }

    fn isolate(&mut self) {
        self.state().isolated = true;
    }
}

impl Acknowledge for Simulated {
    fn acknowledge(&self) {
        self.state().acknowledgements += 1;
    }
}

struct Doorbell {
    device: Simulated,
    queue: usize,
}

impl Notify for Doorbell {
    fn notify(&self) {
        self.device.state().notified(self.queue);
    }
}
