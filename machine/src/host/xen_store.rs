//! A store without a hypervisor: a daemon in memory at the other end of a real ring, and tests as the other domains.

mod daemon;
mod tree;

use crate::clock;
use crate::dma::Region;
use crate::interrupt::{Interrupt, STORE};
use crate::xen::DomId;
use crate::xen::store::{Link, Ring, Store};
use daemon::Daemon;
use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use weir_sync::{Control, CpuId};

/// A program has no hypervisor.
pub fn open(_cx: &Control) -> Option<&'static Store> {
    None
}

impl Store {
    /// A store of its own for one test, in which we are domain 1, and the other domains' way into it.
    pub fn simulated() -> (&'static Store, Peer) {
        let page = Region::new(4096, 4096).expect("no memory").leak();
        let page = NonNull::from(page).cast::<u8>();
        // SAFETY: the page is leaked, so it stays, and from here on only rings touch it.
        let ring = unsafe { Ring::new(page) };
        let peer = Peer(Arc::new(Shared {
            state: Mutex::new(State {
                daemon: Daemon::new(page, DomId(1)),
                mute: false,
                skip: false,
                skipped_ns: 0,
                target: None,
                reactions: Vec::new(),
                due: VecDeque::new(),
                reacting: false,
            }),
            arrived: Condvar::new(),
        }));
        (Box::leak(Box::new(Store::new(ring, Box::new(peer.clone())))), peer)
    }
}

/// The rest of the world, as it sees the store: the toolstack, the backends, the daemon's temper. Paths are absolute.
///
/// A test scripts it with [`on_change`](Self::on_change), or plays it from a thread of its own.
#[derive(Clone)]
pub struct Peer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    daemon: Daemon,
    mute: bool,
    skip: bool,
    skipped_ns: u64,
    target: Option<Interrupt>,
    reactions: Vec<(String, Reaction)>,
    /// Changes that reactions have not seen yet, by the reaction's number.
    due: VecDeque<(usize, String)>,
    reacting: bool,
}

type Reaction = Arc<Mutex<dyn FnMut(&Peer, &str) + Send>>;

impl Peer {
    /// Where our domain lives: what relative paths are relative to.
    pub fn home(&self) -> String {
        self.state().daemon.home()
    }

    /// The value at `path`.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.state().daemon.tree.read(path).map(<[u8]>::to_vec)
    }

    /// The same as text, without what is not UTF-8.
    pub fn read_text(&self, path: &str) -> Option<String> {
        self.read(path).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The names of the nodes directly below `path`.
    pub fn list(&self, path: &str) -> Vec<String> {
        self.state().daemon.tree.list(path)
    }

    /// Sets a value; watches and reactions fire.
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) {
        self.state().daemon.write(path, value.as_ref());
        self.serve();
    }

    /// Removes a node and all below it; watches and reactions fire.
    pub fn remove(&self, path: &str) {
        self.state().daemon.remove(path);
        self.serve();
    }

    /// Calls `reaction` now, and from now on whenever something changes at `path` or below it, with the path that did;
    /// by whoever made the change, after it, one call at a time. It may change the store itself.
    pub fn on_change(&self, path: &str, reaction: impl FnMut(&Peer, &str) + Send + 'static) {
        let mut state = self.state();
        state.reactions.push((path.into(), Arc::new(Mutex::new(reaction))));
        let number = state.reactions.len() - 1;
        state.due.push_back((number, path.into()));
        drop(state);
        self.serve();
    }

    /// Our domain may neither read nor write at `path` and below from now on.
    pub fn deny(&self, path: &str) {
        self.state().daemon.denied.push(path.into());
    }

    /// While true, the daemon neither takes requests nor answers.
    pub fn mute(&self, mute: bool) {
        self.state().mute = mute;
        self.serve();
    }

    /// From now on waiting for the store takes no time: whoever would wait finds his time over at once. For tests in
    /// which nobody else could make anything arrive.
    pub fn skip_waits(&self) {
        self.state().skip = true;
    }

    /// From now on arrivals raise `target`. Nothing is raised before: tests share the CPUs of one program.
    pub fn announce(&self, target: Interrupt) {
        self.state().target = Some(target);
    }

    /// Watches that our domain has at the daemon.
    pub fn watches(&self) -> usize {
        self.state().daemon.watches()
    }

    /// Transactions that our domain has open.
    pub fn transactions(&self) -> usize {
        self.state().daemon.transactions()
    }

    /// Lets the daemon work off what is in the ring, then the reactions, until nothing is left of either.
    fn serve(&self) {
        loop {
            let mut state = self.state();
            if !state.mute && state.daemon.serve() {
                state.target.iter().for_each(|target| crate::dispatch::raise(target.cpu, target.bit));
                self.0.arrived.notify_all();
            }
            let State { daemon, reactions, due, .. } = &mut *state;
            for path in daemon.take_changes() {
                let concerned =
                    reactions.iter().enumerate().filter(|(_, (at, _))| tree::is_within(&path, at));
                due.extend(concerned.map(|(number, _)| (number, path.clone())));
            }
            if state.reacting {
                return;
            }
            let Some((number, path)) = state.due.pop_front() else { return };
            let reaction = state.reactions[number].1.clone();
            state.reacting = true;
            drop(state);
            reaction.lock().unwrap_or_else(PoisonError::into_inner)(self, &path);
            self.state().reacting = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer of {}", self.home())
    }
}

impl Link for Peer {
    fn notify(&self) {
        self.serve();
    }

    fn attend(&self) {}

    fn wait(&self, until_ns: u64) {
        self.serve();
        let left_ns = until_ns.saturating_sub(self.now());
        let mut state = self.state();
        if state.daemon.has_sent() {
            return;
        }
        if state.skip {
            state.skipped_ns += left_ns;
            return;
        }
        let _ = self.0.arrived.wait_timeout(state, Duration::from_nanos(left_ns));
    }

    fn now(&self) -> u64 {
        clock::now() + self.state().skipped_ns
    }

    fn target(&self) -> Interrupt {
        self.state().target.unwrap_or(Interrupt { cpu: CpuId::BOOT, bit: STORE })
    }

    fn announce(&self) {
        if let Some(target) = self.state().target {
            crate::dispatch::raise(target.cpu, target.bit);
        }
    }

    fn arm(&self) {}
}
