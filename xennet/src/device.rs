//! An attached vif at task level: its link, its backend's doings, its end.

use crate::attach::Xen;
use crate::control::Control as ControlRing;
use crate::violation::{Health, Violation};
use crate::xenbus::{Place, State};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_machine::warn;
use weir_machine::xen::store::Watch;
use weir_netif::{Device, DeviceInfo, Fault, Link, QueuePair};
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
}

impl Net {
    /// What is wrong with the backend, if anything is.
    fn ailment(&self, cx: &Control) -> Option<Violation> {
        match self.place.their_state(cx) {
            Ok(State::Connected) => None,
            Ok(State::Closing | State::Closed | State::Unknown) => Some(Violation::BackendClosed),
            Ok(_) => Some(Violation::BackendState),
            Err(_) => Some(Violation::StoreSilent),
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
        let works = self.health.check().is_ok() && self.ailment(cx).is_none();
        match self.place.their_number(cx, "carrier") {
            Ok(carrier) if works && carrier != Some(0) => Link::Up,
            _ => Link::Down,
        }
    }

    /// One read of the store. A vif that is down already, or that is found to be, is closed here.
    fn service(&mut self, cx: &Control) -> Result<(), Fault> {
        let fault = match self.health.check() {
            Ok(()) => match self.ailment(cx) {
                None => return Ok(()),
                Some(violation) => self.health.fail(violation),
            },
            Err(down) => down.fault,
        };
        self.close(cx);
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
