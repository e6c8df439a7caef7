//! An attached vif at task level: its link, its backend's doings, its end.

use crate::attach::Xen;
use crate::control::{Control as ControlRing, Failure};
use crate::error::Error;
use crate::features;
use crate::violation::{Health, Violation};
use crate::xenbus::{Place, State};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_machine::warn;
use weir_machine::xen::store::Watch;
use weir_netif::{Device, DeviceInfo, Fault, Link, Offloads, QueuePair};
use weir_sync::Control;

/// An attached vif. `[C]` The boot CPU's task.
pub(crate) struct Net {
    pub(crate) info: DeviceInfo,
    pub(crate) pairs: Vec<QueuePair>,
    /// If there is one; lent to the backend until the end.
    pub(crate) control: Option<ControlRing>,
    /// `[A]` Shared with the queues.
    pub(crate) health: Arc<Health>,
    pub(crate) place: Place,
    /// On the backend's directory, so that its changes raise the store's interrupt.
    pub(crate) watch: Option<Watch>,
    pub(crate) xen: Xen,
    pub(crate) patience_ns: u64,
    /// Whether a packet may take more than one request.
    pub(crate) chains: bool,
    /// What it was up to at the last look.
    pub(crate) standing: Standing,
    /// What was wrong with the MTU, and said.
    pub(crate) wrong: Option<Error>,
}

/// What a backend that breaks no rule is up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It carries frames.
    Serves,
    /// Its driver was taken away and another prepares to take our rings over as they are, as Linux's does that is bound
    /// to the vif again.
    Returns,
}

impl Net {
    /// What the backend is up to, or what is wrong with it.
    fn standing(&self, cx: &Control) -> Result<Standing, Violation> {
        match self.place.their_state(cx) {
            Ok(State::Connected) => Ok(Standing::Serves),
            Ok(State::Initialising | State::InitWait) => Ok(Standing::Returns),
            Ok(State::Closing | State::Closed | State::Unknown) => Err(Violation::BackendClosed),
            Ok(_) => Err(Violation::BackendState),
            Err(_) => Err(Violation::StoreSilent),
        }
    }

    /// Has the backend spread flows by our hash: one that is connected, for the first time or again, knows nothing of it.
    pub(crate) fn spread(&mut self) -> Result<(), Violation> {
        let Some(control) = &mut self.control else { return Ok(()) };
        match control.spread(self.info.queues, self.patience_ns) {
            Ok(()) => self.info.offloads.insert(Offloads::RX_RSS),
            Err(Failure::Violation(violation)) => return Err(violation),
            Err(why) => {
                warn!("{}: {why}; it spreads flows over queues as it likes", self.info.name);
                self.info.offloads.remove(Offloads::RX_RSS);
            }
        }
        Ok(())
    }

    /// Takes another MTU of the toolstack's over.
    fn follow_mtu(&mut self, cx: &Control) {
        let mtu = features::read_mtu(cx, &self.place, self.chains);
        match mtu {
            Ok(mtu) => {
                self.wrong = None;
                self.info.mtu = mtu;
            }
            Err(wrong) if self.wrong.as_ref() != Some(&wrong) => {
                warn!("{}: {wrong}; its MTU stays {}", self.info.name, self.info.mtu);
                self.wrong = Some(wrong);
            }
            Err(_) => {}
        }
    }

    /// Waits as a new front end does for a backend that closed although the toolstack wants it to stay.
    fn await_return(&self, cx: &Control) {
        if self.place.feature(cx, "online") == Ok(true) {
            let _ = self.place.set_state(cx, State::Initialising);
        }
    }

    /// Ends the connection. Packets may be used again from then on; pages that the backend does not let go of stay with
    /// it, in the grant table's limbo.
    fn close(&mut self, cx: &Control) {
        if self.health.is_quenched() {
            return;
        }
        if let Some(watch) = self.watch.take() {
            let _ = self.xen.store.unwatch(cx, watch);
        }
        match self.place.close(cx, self.patience_ns) {
            Ok(()) => self.health.quench(),
            Err(why) => {
                warn!(
                    "{}: does not close: {why}; the buffers it could still write to are lost",
                    self.info.name
                );
                // A backend may read, of packets, all that is lent to it at any time: one that goes on after the end
                // learns nothing new.
                self.health.quench_open();
            }
        }
        self.pairs.clear();
        self.control = None;
        self.xen.grants.retry();
    }
}

impl Device for Net {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn queues(&mut self, _cx: &Control) -> Vec<QueuePair> {
        core::mem::take(&mut self.pairs)
    }

    fn config_source(&self) -> u8 {
        self.xen.store.interrupt().bit
    }

    /// The watch does.
    fn announces_changes(&self) -> bool {
        true
    }

    /// Up as long as the backend is connected and does not say otherwise (`carrier`).
    fn link(&mut self, cx: &Control) -> Link {
        let works = self.health.check().is_ok() && self.standing(cx) == Ok(Standing::Serves);
        match self.place.their_number(cx, "carrier") {
            Ok(carrier) if works && carrier != Some(0) => Link::Up,
            _ => Link::Down,
        }
    }

    /// Two reads of the store. A vif that is down already, or that is found to be, is closed here.
    fn service(&mut self, cx: &Control) -> Result<(), Fault> {
        let standing = match self.health.check() {
            Ok(()) => self.standing(cx),
            Err(down) => {
                self.close(cx);
                return Err(down.fault);
            }
        };
        let outcome = standing.and_then(|standing| {
            let before = core::mem::replace(&mut self.standing, standing);
            if (before, standing) == (Standing::Returns, Standing::Serves) { self.spread() } else { Ok(()) }
        });
        let Err(violation) = outcome else {
            self.follow_mtu(cx);
            return Ok(());
        };
        let fault = self.health.fail(violation);
        self.close(cx);
        if violation == Violation::BackendClosed {
            self.await_return(cx);
        }
        Err(fault)
    }

    fn stop(&mut self, cx: &Control) {
        self.health.fail(Violation::Stopped);
        self.close(cx);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.health.fail(Violation::Stopped);
    }
}
