//! A backend for tests. It reaches rings and pages as a real one does: by the references and ports it finds in the store.
//!
//! By default it behaves as Linux's netback does. Its public fields and raw accessors let a test make it lie.

use crate::ring::PAGE;
use crate::wire::{
    Ctrl, CtrlResponse, Extra, RxRequest, RxResponse, SLOTS_MAX, TxRequest, TxResponse, ctrl_status, extra,
    rx, status, tx,
};
use crate::xenbus::State;
use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;
use std::vec::Vec;
use weir_machine::xen::DomId;
use weir_machine::xen::event::Remote;
use weir_machine::xen::grant::Table;
use weir_machine::xen::store::{Peer, Store};

/// Offsets in a ring's page.
const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 4;
const RSP_PROD: usize = 8;
const RSP_EVENT: usize = 12;
const FIRST: usize = 64;

/// The backend's half of a ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackRing {
    reference: u32,
    words: usize,
    req_cons: u32,
    rsp_prod: u32,
    published: u32,
}

impl BackRing {
    pub(crate) fn reference(&self) -> u32 {
        self.reference
    }
}

/// The backend's side of one queue.
pub(crate) struct Queue {
    pub(crate) tx: BackRing,
    pub(crate) rx: BackRing,
    pub(crate) tx_events: Remote,
    pub(crate) rx_events: Remote,
}

/// A packet that was transmitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) requests: Vec<TxRequest>,
    pub(crate) extras: Vec<Extra>,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn flags(&self) -> u16 {
        self.requests[0].flags & !(tx::MORE_DATA | tx::EXTRA_INFO)
    }
}

/// How flows are spread, as Linux's netback keeps it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Spread {
    pub(crate) algorithm: u32,
    pub(crate) flags: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) table: Vec<u32>,
}

/// What becomes of an answer on the control ring.
pub(crate) enum Answer {
    Given(CtrlResponse),
    /// None comes.
    None,
    /// So many are claimed to be there.
    Claimed(u32),
}

/// All of the backend.
pub(crate) struct Backend {
    pub(crate) me: DomId,
    pub(crate) table: &'static Table,
    pub(crate) queues: Vec<Queue>,
    /// Front end states that it answers to by none of its own.
    pub(crate) ignores: Vec<State>,
    /// What it answers to others instead.
    pub(crate) instead: BTreeMap<u8, State>,
    /// Keeps everything mapped when it closes.
    pub(crate) keeps: bool,
    /// It wrote nonsense to what it reads itself.
    pub(crate) spoiled_tx: bool,
    pub(crate) spoiled_rx: bool,
    /// What it was told by the control ring.
    pub(crate) spread: Spread,
    /// What it makes of its honest answer to a control request.
    pub(crate) answers: fn(Ctrl, CtrlResponse) -> Answer,
    /// States of the front end that it saw.
    pub(crate) seen: Vec<State>,
    /// References it maps.
    mapped: Vec<u32>,
    /// Connections it had.
    life: u32,
}

/// A handle to the backend; clones are the same backend.
#[derive(Clone)]
pub(crate) struct Simulated {
    pub(crate) store: &'static Store,
    pub(crate) peer: Peer,
    pub(crate) table: &'static Table,
    pub(crate) front: String,
    pub(crate) back: String,
    backend: Arc<Mutex<Backend>>,
}

/// What Linux 6.1's netback offers.
pub(crate) const FEATURES: [(&str, &str); 11] = [
    ("feature-rx-copy", "1"),
    ("feature-rx-flip", "0"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
    ("feature-multicast-control", "1"),
    ("feature-dynamic-multicast-control", "1"),
    ("feature-split-event-channels", "1"),
    ("multi-queue-max-queues", "4"),
    ("feature-ctrl-ring", "1"),
];

impl Simulated {
    /// Vif 0, of domain 0.
    pub(crate) fn new() -> Self {
        let (store, peer) = Store::simulated();
        Self::of(store, peer, Table::simulated(8), 0, DomId(0))
    }

    /// Vif `handle`, of domain `me`, in a store of others too.
    pub(crate) fn of(
        store: &'static Store,
        peer: Peer,
        table: &'static Table,
        handle: u32,
        me: DomId,
    ) -> Self {
        let front = format!("{}/device/vif/{handle}", peer.home());
        let back = format!("/local/domain/{}/backend/vif/1/{handle}", me.0);
        let backend = Backend {
            me,
            table,
            queues: Vec::new(),
            ignores: Vec::new(),
            instead: BTreeMap::new(),
            keeps: false,
            spoiled_tx: false,
            spoiled_rx: false,
            spread: Spread::default(),
            answers: |_, honest| Answer::Given(honest),
            seen: Vec::new(),
            mapped: Vec::new(),
            life: 0,
        };
        let sim = Self { store, peer, table, front, back, backend: Arc::new(Mutex::new(backend)) };
        for (key, value) in [
            ("backend", sim.back.as_str()),
            ("backend-id", &me.0.to_string()),
            ("mac", "00:16:3e:00:00:01"),
            ("handle", &handle.to_string()),
            ("state", "1"),
        ] {
            sim.peer.write(&format!("{}/{key}", sim.front), value);
        }
        for (key, value) in FEATURES {
            sim.offer(key, value);
        }
        sim.offer("state", "1");
        let (reacting, path) = (sim.clone(), format!("{}/state", sim.front));
        sim.peer.on_change(&path.clone(), move |peer, _| {
            let state = State::parse(peer.read(&path).as_deref());
            reacting.front_changed(state);
        });
        sim
    }

    /// Sets a node of the backend's.
    pub(crate) fn offer(&self, key: &str, value: &str) {
        self.peer.write(&format!("{}/{key}", self.back), value);
    }

    /// Takes one away.
    pub(crate) fn withdraw(&self, key: &str) {
        self.peer.remove(&format!("{}/{key}", self.back));
    }

    /// A node of the front end's.
    pub(crate) fn front_key(&self, key: &str) -> Option<String> {
        self.peer.read_text(&format!("{}/{key}", self.front))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Backend> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn front_changed(&self, state: State) {
        let mut backend = self.state();
        backend.seen.push(state);
        if backend.ignores.contains(&state) {
            return;
        }
        let answer = match state {
            State::Initialising => State::InitWait,
            State::Connected => {
                self.connect(&mut backend);
                State::Connected
            }
            State::Closing => {
                backend.disconnect();
                State::Closing
            }
            State::Closed => {
                backend.disconnect();
                State::Closed
            }
            _ => return,
        };
        let answer = backend.instead.get(&(state as u8)).copied().unwrap_or(answer);
        drop(backend);
        self.offer("state", &(answer as u8).to_string());
    }

    /// Takes the driver away, as writing to `unbind` does, and has another one get ready.
    pub(crate) fn unbind(&self) {
        let mut backend = self.state();
        backend.disconnect();
        backend.spread = Spread::default();
        drop(backend);
        self.offer("state", "2");
    }

    /// The other one takes over what is there.
    pub(crate) fn bind(&self) {
        self.connect(&mut self.state());
        self.offer("state", "4");
    }

    fn connect(&self, backend: &mut Backend) {
        assert_eq!(self.front_key("request-rx-copy").as_deref(), Some("1"));
        let queues = self.front_key("multi-queue-num-queues").map_or(1, |count| count.parse().unwrap());
        for number in 0..queues {
            let prefix = if queues == 1 { String::new() } else { format!("queue-{number}/") };
            let number = |key: &str| {
                self.front_key(&format!("{prefix}{key}")).map(|text| text.parse::<u32>().unwrap())
            };
            let ring = |key: &str, words| {
                let reference = number(key).unwrap();
                assert!(backend.table.map(reference, backend.me).unwrap().1, "rings are writable");
                backend.attach(reference, words)
            };
            let (tx, rx) = (ring("tx-ring-ref", 3), ring("rx-ring-ref", 2));
            let events = |port: u32| Remote::connect(port, backend.me).unwrap();
            let (tx_events, rx_events) = match (number("event-channel-tx"), number("event-channel-rx")) {
                (Some(tx), Some(rx)) => (events(tx), events(rx)),
                _ => (events(number("event-channel").unwrap()), events(number("event-channel").unwrap())),
            };
            backend.mapped.extend([tx.reference, rx.reference]);
            backend.queues.push(Queue { tx, rx, tx_events, rx_events });
        }
        let number = |key: &str| self.front_key(key).map(|text| text.parse::<u32>().unwrap());
        if let (Some(reference), Some(port)) = (number("ctrl-ring-ref"), number("event-channel-ctrl")) {
            assert!(backend.table.map(reference, backend.me).unwrap().1, "rings are writable");
            backend.mapped.push(reference);
            let (ring, life) = (backend.attach(reference, 4), backend.life);
            let (serving, events) = (self.clone(), Remote::connect(port, backend.me).unwrap());
            std::thread::spawn(move || serving.serve_control(ring, life, &events));
        }
    }
}

impl Simulated {
    /// A thread of the backend's, for as long as the connection lasts.
    fn serve_control(&self, mut ring: BackRing, life: u32, events: &Remote) {
        while !events.is_closed() {
            let mut backend = self.state();
            if backend.life != life {
                return;
            }
            if let Some(words) = backend.take::<4>(&mut ring) {
                backend.control(&mut ring, words);
                drop(backend);
                events.fire();
            } else {
                drop(backend);
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

impl Backend {
    /// A ring with whatever is in it, as netback takes one over.
    fn attach(&self, reference: u32, words: usize) -> BackRing {
        let ring = BackRing { reference, words, ..BackRing::default() };
        let at = self.word(&ring, RSP_PROD);
        BackRing { req_cons: at, rsp_prod: at, published: at, ..ring }
    }

    fn control(&mut self, ring: &mut BackRing, [which, a, b, c]: [u32; 4]) {
        let (id, kind) = (which as u16, (which >> 16) as u16);
        let all = [
            Ctrl::GetHashFlags,
            Ctrl::SetHashFlags,
            Ctrl::SetHashKey,
            Ctrl::GetHashMappingSize,
            Ctrl::SetHashMappingSize,
            Ctrl::SetHashMapping,
            Ctrl::SetHashAlgorithm,
        ];
        let known = all.into_iter().find(|known| *known as u16 == kind).expect("unknown request");
        let outcome = match known {
            Ctrl::SetHashAlgorithm if a <= 1 => {
                self.spread.algorithm = a;
                Ok(0)
            }
            _ if self.spread.algorithm == 0 => Err(ctrl_status::NOT_SUPPORTED),
            Ctrl::GetHashFlags => Ok(0xf),
            Ctrl::SetHashFlags if a <= 0xf => {
                self.spread.flags = a;
                Ok(0)
            }
            Ctrl::SetHashKey if b <= 40 => {
                let mut key = vec![0; b as usize];
                assert!(self.table.peer_read(a, self.me, 0, &mut key), "not granted");
                assert!(!self.table.peer_write(a, self.me, 0, &[1]), "it need not write there");
                self.spread.key = key;
                Ok(0)
            }
            Ctrl::GetHashMappingSize => Ok(128),
            Ctrl::SetHashMappingSize if a <= 128 => {
                self.spread.table = vec![0; a as usize];
                Ok(0)
            }
            Ctrl::SetHashMapping if c + b <= self.spread.table.len() as u32 => {
                let mut bytes = vec![0; b as usize * 4];
                assert!(self.table.peer_read(a, self.me, 0, &mut bytes), "not granted");
                let entries = bytes.as_chunks::<4>().0.iter().map(|entry| u32::from_ne_bytes(*entry));
                let queues = self.queues.len() as u32;
                for (place, entry) in self.spread.table.iter_mut().skip(c as usize).zip(entries) {
                    assert!(entry < queues, "no such queue");
                    *place = entry;
                }
                Ok(0)
            }
            _ => Err(ctrl_status::INVALID_PARAMETER),
        };
        let status = outcome.err().unwrap_or(ctrl_status::SUCCESS);
        let honest = CtrlResponse { id, kind, status, data: outcome.unwrap_or(0) };
        match (self.answers)(known, honest) {
            Answer::Given(response) => {
                self.put(ring, &response.to_words());
                self.publish(ring);
            }
            Answer::None => {}
            Answer::Claimed(count) => self.set_word(ring, RSP_PROD, ring.published.wrapping_add(count)),
        }
    }

    fn disconnect(&mut self) {
        if !self.keeps {
            self.mapped.drain(..).for_each(|reference| self.table.unmap(reference));
        }
        self.queues.clear();
        self.life += 1;
    }

    /// Lets go of what it kept.
    pub(crate) fn let_go(&mut self) {
        self.mapped.drain(..).for_each(|reference| self.table.unmap(reference));
    }

    fn word(&self, ring: &BackRing, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        assert!(self.table.peer_read(ring.reference, self.me, offset, &mut bytes));
        u32::from_ne_bytes(bytes)
    }

    pub(crate) fn set_word(&self, ring: &BackRing, offset: usize, word: u32) {
        assert!(self.table.peer_write(ring.reference, self.me, offset, &word.to_ne_bytes()));
    }

    fn slot(ring: &BackRing, index: u32) -> usize {
        let slots = 1 << ((PAGE - FIRST) / (ring.words * 4)).ilog2();
        FIRST + index as usize % slots * ring.words * 4
    }

    /// The next request's words.
    fn take<const N: usize>(&self, ring: &mut BackRing) -> Option<[u32; N]> {
        let available = self.word(ring, REQ_PROD).wrapping_sub(ring.req_cons);
        assert!(available <= 256, "the front end's index ran away");
        if available == 0 {
            self.set_word(ring, REQ_EVENT, ring.req_cons.wrapping_add(1));
            return None;
        }
        let at = Self::slot(ring, ring.req_cons);
        ring.req_cons = ring.req_cons.wrapping_add(1);
        Some(core::array::from_fn(|nth| self.word(ring, at + nth * 4)))
    }

    /// Writes the next response's words, unpublished.
    fn put(&self, ring: &mut BackRing, words: &[u32]) {
        let at = Self::slot(ring, ring.rsp_prod);
        for (nth, &word) in words.iter().enumerate() {
            self.set_word(ring, at + nth * 4, word);
        }
        ring.rsp_prod = ring.rsp_prod.wrapping_add(1);
    }

    /// Publishes responses; whether the front end wants an event.
    fn publish(&self, ring: &mut BackRing) -> bool {
        let (old, new) = (ring.published, ring.rsp_prod);
        self.set_word(ring, RSP_PROD, new);
        ring.published = new;
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let event = self.word(ring, RSP_EVENT);
        new != old && new.wrapping_sub(event) < new.wrapping_sub(old)
    }

    /// The next receive request.
    pub(crate) fn take_rx(&mut self, queue: usize) -> Option<RxRequest> {
        let mut ring = self.queues[queue].rx;
        let words = self.take(&mut ring);
        self.queues[queue].rx = ring;
        words.map(RxRequest::from_words)
    }

    /// Writes a receive response, unpublished.
    pub(crate) fn put_rx(&mut self, queue: usize, words: [u32; 2]) {
        let mut ring = self.queues[queue].rx;
        self.put(&mut ring, &words);
        self.queues[queue].rx = ring;
    }

    /// Publishes receive responses and fires if the front end wants it.
    pub(crate) fn publish_rx(&mut self, queue: usize) {
        let mut ring = self.queues[queue].rx;
        let wanted = self.publish(&mut ring);
        self.queues[queue].rx = ring;
        if wanted {
            self.queues[queue].rx_events.fire();
        }
    }

    /// Claims that so many more responses are there.
    pub(crate) fn claim(&mut self, queue: usize, transmit: bool, responses: u32) {
        let ring = if transmit { self.queues[queue].tx } else { self.queues[queue].rx };
        self.set_word(&ring, RSP_PROD, ring.published.wrapping_add(responses));
    }

    /// Receive requests that are there.
    pub(crate) fn rx_available(&self, queue: usize) -> u32 {
        let ring = &self.queues[queue].rx;
        self.word(ring, REQ_PROD).wrapping_sub(ring.req_cons)
    }

    /// Copies a frame into pages as netback does, unpublished. False without enough requests.
    pub(crate) fn deliver(&mut self, queue: usize, frame: &[u8], flags: u16, gso: Option<Extra>) -> bool {
        self.deliver_in(queue, frame, PAGE, 0, flags, gso)
    }

    /// The same with at most `piece` bytes from `offset` on in each page.
    pub(crate) fn deliver_in(
        &mut self,
        queue: usize,
        frame: &[u8],
        piece: usize,
        offset: usize,
        flags: u16,
        gso: Option<Extra>,
    ) -> bool {
        let pieces = frame.len().div_ceil(piece).max(1);
        if (self.rx_available(queue) as usize) < pieces + usize::from(gso.is_some()) {
            return false;
        }
        for nth in 0..pieces {
            let request = self.take_rx(queue).unwrap();
            let bytes = &frame[nth * piece..frame.len().min((nth + 1) * piece)];
            assert!(self.table.peer_write(request.reference, self.me, offset, bytes), "not granted");
            let mut own = if nth == 0 { flags } else { 0 };
            own |= if nth + 1 < pieces { rx::MORE_DATA } else { 0 };
            own |= if nth == 0 && gso.is_some() { rx::EXTRA_INFO } else { 0 };
            let response =
                RxResponse { id: request.id, offset: offset as u16, flags: own, status: bytes.len() as i16 };
            self.put_rx(queue, response.to_words());
            if let Some(gso) = gso.filter(|_| nth == 0) {
                self.take_rx(queue).unwrap();
                self.put_rx(queue, gso.to_words());
            }
        }
        true
    }

    /// The next transmitted packet, checked as strictly as netback does.
    pub(crate) fn collect(&mut self, queue: usize) -> Option<Sent> {
        let mut ring = self.queues[queue].tx;
        let first = TxRequest::from_words(self.take(&mut ring)?);
        let mut sent = Sent { requests: vec![first], extras: Vec::new(), bytes: Vec::new() };
        let mut more = first.flags & tx::EXTRA_INFO != 0;
        while more {
            let [a, b, _] = self.take(&mut ring).expect("extra info is missing");
            let info = Extra::from_words([a, b]);
            more = info.flags & extra::FLAG_MORE != 0;
            sent.extras.push(info);
        }
        while sent.requests.last().unwrap().flags & tx::MORE_DATA != 0 {
            sent.requests.push(TxRequest::from_words(self.take(&mut ring).expect("a request is missing")));
        }
        assert!(sent.requests.len() <= SLOTS_MAX, "too many slots");
        self.queues[queue].tx = ring;
        let rest: usize = sent.requests[1..].iter().map(|request| usize::from(request.size)).sum();
        let first_size = usize::from(first.size).checked_sub(rest).expect("the first request has a size");
        assert!(first_size >= 14, "netback drops what has less in its first slot");
        for (nth, request) in sent.requests.iter().enumerate() {
            let size = if nth == 0 { first_size } else { request.size.into() };
            assert!(size != 0 && usize::from(request.offset) + size <= PAGE, "crosses its page");
            let at = sent.bytes.len();
            sent.bytes.resize(at + size, 0);
            let offset = request.offset.into();
            assert!(
                self.table.peer_read(request.reference, self.me, offset, &mut sent.bytes[at..]),
                "not granted"
            );
        }
        Some(sent)
    }

    /// Writes a transmit response, unpublished.
    pub(crate) fn put_tx(&mut self, queue: usize, id: u16, status: i16) {
        let mut ring = self.queues[queue].tx;
        self.put(&mut ring, &TxResponse { id, status }.to_words());
        self.queues[queue].tx = ring;
    }

    /// Publishes transmit responses and fires if the front end wants it.
    pub(crate) fn publish_tx(&mut self, queue: usize) {
        let mut ring = self.queues[queue].tx;
        let wanted = self.publish(&mut ring);
        self.queues[queue].tx = ring;
        if wanted {
            self.queues[queue].tx_events.fire();
        }
    }

    /// Answers all requests of a packet, in the order netback does.
    pub(crate) fn finish(&mut self, queue: usize, sent: &Sent, answer: i16) {
        for (nth, request) in sent.requests.iter().enumerate() {
            self.put_tx(queue, request.id, answer);
            let extras = if nth == 0 { sent.extras.len() } else { 0 };
            (0..extras).for_each(|_| self.put_tx(queue, 0xdead, status::NULL));
        }
    }

    /// All the pages that it can make out by trying each reference: what a backend that looks around finds.
    pub(crate) fn everything_it_sees(&self) -> Vec<u8> {
        let mut seen = Vec::new();
        for reference in 0..self.table.entries() as u32 + 8 {
            let mut page = [0; PAGE];
            if self.table.peer_read(reference, self.me, 0, &mut page) {
                seen.extend(page);
            }
        }
        seen
    }
}
