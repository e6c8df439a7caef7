//! The control ring (Xen `public/io/netif.h`): by it the backend is told to spread flows over queues by our hash.
//!
//! Task level, while a vif is attached: one request at a time, each with a bounded wait in which softints run. A backend
//! that refuses, says nonsense or nothing goes on as it likes; only one that breaks the ring's protocol loses its vif.

use crate::error::Error;
use crate::ring::FrontRing;
use crate::violation::Violation;
use crate::wire::{Ctrl, CtrlRequest, CtrlResponse, ctrl_status, hash};
use core::fmt;
use weir_machine::clock;
use weir_machine::interrupt::Interrupt;
use weir_machine::xen::DomId;
use weir_machine::xen::event::Channel;
use weir_machine::xen::grant::{Access, Page, Table};
use weir_netif::toeplitz::{KEY, SYMMETRIC_KEY};

/// Entries of the table from hash to queue: as many as Linux's netback takes.
const ENTRIES: u32 = 128;

/// The control ring of a vif. `[C]` the task that attaches it
pub(crate) struct Control {
    ring: FrontRing<4>,
    /// Always masked: it is waited for, and raises nothing.
    channel: Channel,
    /// Key, then table, for the backend to read. Lent for as long as the ring is: a backend may be late.
    page: Page,
    id: u16,
    /// What it left unanswered: whatever comes now could be the answer to that, and it is not waited for again.
    unanswered: Option<Ctrl>,
}

/// Why the backend does not spread flows by our hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It broke the ring's protocol.
    Violation(Violation),
    /// It refused a request, for this reason.
    Refused(Ctrl, &'static str),
    /// It answered with a status that there is not.
    Status(Ctrl, u32),
    /// It answered what it was not asked.
    Stranger(Ctrl),
    /// It did not answer in time.
    Silent(Ctrl),
    /// It hashes nothing that we know.
    NoTypes,
}

impl Control {
    /// A ring for `backend`, not known to it yet. `target` is never raised.
    pub(crate) fn new(
        grants: &'static Table,
        backend: DomId,
        target: Interrupt,
        salt: u16,
    ) -> Result<Self, Error> {
        let page = |access| Page::new(grants, backend, access).map_err(|_| Error::NoMemory);
        Ok(Self {
            ring: FrontRing::new(page(Access::ReadWrite)?),
            channel: Channel::allocate(backend, target).map_err(Error::no_channel)?,
            page: page(Access::ReadOnly)?,
            id: salt,
            unanswered: None,
        })
    }

    /// What the backend maps the ring by.
    pub(crate) fn reference(&self) -> u32 {
        self.ring.reference()
    }

    /// By what it is notified.
    pub(crate) fn port(&self) -> u32 {
        self.channel.port()
    }

    /// Has the connected backend spread flows over `queues` by [`SYMMETRIC_KEY`], or as it likes if that fails. It has
    /// `patience_ns` for all of it.
    pub(crate) fn spread(&mut self, queues: u16, patience_ns: u64) -> Result<(), Failure> {
        if let Some(kind) = self.unanswered {
            return Err(Failure::Silent(kind));
        }
        let deadline = clock::now().saturating_add(patience_ns);
        let outcome = self.configure(queues.into(), deadline);
        if let Err(Failure::Silent(kind)) = outcome {
            self.unanswered = Some(kind);
        }
        if let Err(Failure::Refused(..) | Failure::Status(..) | Failure::NoTypes) = outcome {
            // It hears us: half of a configuration is worse than none.
            let _ = self.ask(Ctrl::SetHashAlgorithm, [hash::NONE, 0, 0], deadline);
        }
        outcome
    }

    fn configure(&mut self, queues: u32, deadline: u64) -> Result<(), Failure> {
        self.ask(Ctrl::SetHashAlgorithm, [hash::TOEPLITZ, 0, 0], deadline)?;
        let kinds = self.ask(Ctrl::GetHashFlags, [0; 3], deadline)? & hash::ALL;
        if kinds == 0 {
            return Err(Failure::NoTypes);
        }
        self.page.region().copy_in(0, &SYMMETRIC_KEY);
        let reference = self.page.reference();
        self.ask(Ctrl::SetHashKey, [reference, KEY as u32, 0], deadline)?;
        let entries = self.ask(Ctrl::GetHashMappingSize, [0; 3], deadline)?.min(ENTRIES);
        // Without a table the queue is the hash modulo their number.
        let entries = if entries < queues { 0 } else { entries };
        self.ask(Ctrl::SetHashMappingSize, [entries, 0, 0], deadline)?;
        if entries != 0 {
            for entry in 0..entries {
                self.page.region().write_u32(entry as usize * size_of::<u32>(), entry % queues);
            }
            self.ask(Ctrl::SetHashMapping, [reference, entries, 0], deadline)?;
        }
        // Last: until then nothing is hashed.
        self.ask(Ctrl::SetHashFlags, [kinds, 0, 0], deadline).map(drop)
    }

    /// Sends a request and waits for its answer: the data of a success.
    fn ask(&mut self, kind: Ctrl, data: [u32; 3], deadline: u64) -> Result<u32, Failure> {
        self.id = self.id.wrapping_add(1);
        // Each request waits for its answer, so the ring has room.
        let _ = self.ring.request(&CtrlRequest { id: self.id, kind, data }.to_words());
        if self.ring.push() {
            self.channel.notify();
        }
        loop {
            self.channel.clear();
            let _ = self.ring.arm();
            if self.ring.poll().map_err(Failure::Violation)? != 0 {
                break;
            }
            if clock::now() >= deadline {
                return Err(Failure::Silent(kind));
            }
            self.channel.wait(deadline);
        }
        let Some((_, words)) = self.ring.response() else { return Err(Failure::Silent(kind)) };
        let answer = CtrlResponse::from_words(words);
        if (answer.id, answer.kind) != (self.id, kind as u16) {
            return Err(Failure::Stranger(kind));
        }
        match answer.status {
            ctrl_status::SUCCESS => Ok(answer.data),
            ctrl_status::NOT_SUPPORTED => Err(Failure::Refused(kind, "not supported")),
            ctrl_status::INVALID_PARAMETER => Err(Failure::Refused(kind, "invalid parameter")),
            ctrl_status::BUFFER_OVERFLOW => Err(Failure::Refused(kind, "buffer overflow")),
            status => Err(Failure::Status(kind, status)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => violation.fmt(f),
            Self::Refused(kind, why) => write!(f, "its backend refuses {kind:?}: {why}"),
            Self::Status(kind, status) => write!(f, "its backend answers {kind:?} with status {status}"),
            Self::Stranger(kind) => write!(f, "its backend answers {kind:?} with another request's response"),
            Self::Silent(kind) => write!(f, "its backend does not answer {kind:?}"),
            Self::NoTypes => f.write_str("its backend hashes neither IPv4 nor IPv6"),
        }
    }
}
