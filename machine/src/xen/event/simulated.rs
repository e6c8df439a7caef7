//! Event channels between a driver and a test that plays the other side: [`Remote`].

use super::Error;
use crate::interrupt::Interrupt;
use crate::xen::DomId;
use crate::{clock, dispatch};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Every port of this process by its number, so that tests side by side cannot meet.
static PORTS: Mutex<(u32, BTreeMap<u32, Weak<Shared>>)> = Mutex::new((0, BTreeMap::new()));

/// What both ends of a channel share.
#[derive(Debug)]
pub(super) struct Shared {
    backend: Option<DomId>,
    state: Mutex<State>,
    fired: Condvar,
}

#[derive(Debug)]
struct State {
    target: Option<Interrupt>,
    masked: bool,
    pending: bool,
    closed: bool,
    notifications: u64,
}

impl Shared {
    fn new(backend: Option<DomId>, target: Option<Interrupt>) -> Arc<Shared> {
        let state = State { target, masked: true, pending: false, closed: false, notifications: 0 };
        Arc::new(Shared { backend, state: Mutex::new(state), fired: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the softint that finds a port pending does.
    fn deliver(&mut self) {
        if self.pending
            && !self.masked
            && let Some(target) = self.target
        {
            self.pending = false;
            self.masked = true;
            dispatch::raise(target.cpu, target.bit);
        }
    }
}

pub(super) type Line = Arc<Shared>;

fn insert(shared: &Line) -> u32 {
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    ports.0 += 1;
    let port = ports.0;
    ports.1.insert(port, Arc::downgrade(shared));
    port
}

fn find(port: u32) -> Option<Line> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner).1.get(&port)?.upgrade()
}

pub(super) fn allocate(backend: DomId, target: Interrupt) -> Result<(u32, Line), Error> {
    let shared = Shared::new(Some(backend), Some(target));
    Ok((insert(&shared), shared))
}

pub(super) fn bind(port: u32, target: Interrupt) -> Result<Line, Error> {
    let shared = find(port).ok_or(Error::Port)?;
    let mut state = shared.state();
    if state.target.is_some() || state.closed {
        return Err(Error::Port);
    }
    state.target = Some(target);
    drop(state);
    Ok(shared)
}

pub(super) fn notify(_port: u32, line: &Line) {
    line.state().notifications += 1;
}

pub(super) fn unmask(_port: u32, line: &Line) {
    let mut state = line.state();
    state.masked = false;
    state.deliver();
}

pub(super) fn mask(_port: u32, line: &Line) {
    line.state().masked = true;
}

pub(super) fn clear(_port: u32, line: &Line) {
    line.state().pending = false;
}

pub(super) fn wait(_port: u32, line: &Line, deadline_ns: u64) {
    let mut state = line.state();
    loop {
        let left = deadline_ns.saturating_sub(clock::now());
        if state.pending || left == 0 {
            return;
        }
        let waited = line.fired.wait_timeout(state, Duration::from_nanos(left));
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

pub(super) fn close(port: u32, line: &Line) {
    let mut state = line.state();
    state.closed = true;
    state.masked = true;
    state.pending = false;
    drop(state);
    PORTS.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&port);
}

/// The other side's end of a channel.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Line,
}

impl Remote {
    /// Connects to a port that a driver allocated for domain `me`; `None` if there is none, or it is for another domain.
    pub fn connect(port: u32, me: DomId) -> Option<Remote> {
        let shared = find(port)?;
        (shared.backend == Some(me)).then_some(Remote { shared })
    }

    /// A port connected beforehand, as the console's and the store's are: for [`Channel::bind`](super::Channel::bind), once.
    /// It lives as long as the `Remote` or the channel.
    pub fn prepare() -> (u32, Remote) {
        let shared = Shared::new(None, None);
        (insert(&shared), Remote { shared })
    }

    /// Sends an event. `false` once the driver has closed its end.
    pub fn fire(&self) -> bool {
        let mut state = self.shared.state();
        if state.closed {
            return false;
        }
        state.pending = true;
        state.deliver();
        self.shared.fired.notify_all();
        true
    }

    /// How often the driver has notified this side.
    pub fn notifications(&self) -> u64 {
        self.shared.state().notifications
    }

    /// Whether the driver would not hear of an event now.
    pub fn is_masked(&self) -> bool {
        self.shared.state().masked
    }

    /// Whether an event waits for the driver's unmasking.
    pub fn is_pending(&self) -> bool {
        self.shared.state().pending
    }

    /// Whether the driver has closed its end.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Where events go.
    pub fn target(&self) -> Option<Interrupt> {
        self.shared.state().target
    }
}
