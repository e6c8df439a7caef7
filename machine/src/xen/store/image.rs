//! The store's ring and port, as the builder of the domain left them.

use super::super::event::Channel;
use super::super::hypercall;
use super::{Link, Ring, Store, wire::kind};
use crate::interrupt::{Interrupt, STORE};
use crate::{clock, dispatch};
use alloc::boxed::Box;
use spin::Once;
use weir_sync::{Control, CpuId};

/// `HVM_PARAM_STORE_PFN` and `HVM_PARAM_STORE_EVTCHN` (Xen `public/hvm/params.h`).
const STORE_PFN: u32 = 1;
const STORE_EVTCHN: u32 = 2;
/// What announces events: one fixed source of the boot CPU.
const TARGET: Interrupt = Interrupt { cpu: CpuId::BOOT, bit: STORE };

/// The connection to the store, opened by the first caller; `None` without Xen, or if its tools left us none.
pub fn open(cx: &Control) -> Option<&'static Store> {
    static OPENED: Once<Option<&'static Store>> = Once::new();
    *OPENED.call_once(|| {
        let store: &'static Store = Box::leak(Box::new(connect()?));
        // Whoever ran in this domain before us (a boot loader, another kernel) may have left watches. A store too old to
        // know the request has none of ours either.
        let _ = store.request(cx, kind::RESET_WATCHES, 0, &[b"\0"]);
        Some(store)
    })
}

fn connect() -> Option<Store> {
    let page = hypercall::ring(hypercall::parameter(STORE_PFN)?)?;
    let port = u32::try_from(hypercall::parameter(STORE_EVTCHN)?).ok()?;
    let channel = Channel::bind(port, TARGET).ok()?;
    // SAFETY: `hypercall::ring` mapped the whole page, which the domain's builder set aside for the store alone.
    let ring = unsafe { Ring::new(page) };
    Some(Store::new(ring, Box::new(Wire { channel })))
}

/// The port.
struct Wire {
    channel: Channel,
}

impl Link for Wire {
    fn notify(&self) {
        self.channel.notify();
    }

    fn attend(&self) {
        self.channel.mask();
        self.channel.clear();
    }

    fn wait(&self, until_ns: u64) {
        self.channel.wait(until_ns);
    }

    fn now(&self) -> u64 {
        clock::now()
    }

    fn target(&self) -> Interrupt {
        TARGET
    }

    fn announce(&self) {
        dispatch::raise(TARGET.cpu, TARGET.bit);
    }

    fn arm(&self) {
        self.channel.unmask();
    }
}
