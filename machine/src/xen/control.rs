//! What the toolstack asks of the whole domain, by the store: an end (Xen `docs/misc/xenstore-paths.pandoc`, `control/`).
//!
//! The application creates it at boot and calls [`Shutdown::request`] from a task whenever the store has events.

use super::store::{Event, Store, StoreError, Watch};
use alloc::string::String;
use weir_sync::Control;

/// Where requests appear.
const REQUEST: &str = "control/shutdown";

/// What the toolstack wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// An orderly end, for good: `xl shutdown`.
    PowerOff,
    /// An orderly end and a new start: `xl reboot`.
    Reboot,
    /// An end without leaving the machine's power to us; for a domain the same as [`PowerOff`](Self::PowerOff).
    Halt,
    /// To be suspended, for `xl save` or a migration. Not supported, and refused already: the request is acknowledged
    /// and nothing else happens, so that the toolstack, which is not told of `feature-suspend`, gives up by its own
    /// time-out and leaves the domain running. For the log.
    Suspend,
    /// Anything else; acknowledged and to be ignored. For the log.
    Unknown(String),
}

/// The watch on requests.
#[derive(Debug)]
pub struct Shutdown {
    watch: Watch,
}

impl Shutdown {
    /// Watches for requests and says which ones we serve. A request that is there already shows up as the first event.
    pub fn start(cx: &Control, store: &Store) -> Result<Shutdown, StoreError> {
        for feature in ["control/feature-poweroff", "control/feature-reboot"] {
            match store.write(cx, feature, "1") {
                // Old toolstacks make no such node for us, and do not ask before they request.
                Ok(()) | Err(StoreError::Denied) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Shutdown { watch: store.watch(cx, REQUEST)? })
    }

    /// The request behind `event`, if it is of this watch and there is one; acknowledged by emptying its node, as the
    /// toolstack expects.
    pub fn request(&self, cx: &Control, store: &Store, event: &Event) -> Result<Option<Request>, StoreError> {
        match event {
            Event::Changed { token, .. } if *token != self.watch.token() => return Ok(None),
            Event::Changed { .. } | Event::Overflow => {}
        }
        store.transaction(cx, |transaction| {
            let text = match transaction.read(REQUEST) {
                Ok(text) if !text.is_empty() => text,
                Ok(_) | Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            transaction.write(REQUEST, "")?;
            Ok(Some(Request::named(&text)))
        })
    }
}

impl Request {
    fn named(text: &[u8]) -> Request {
        match text {
            b"poweroff" => Request::PowerOff,
            b"reboot" => Request::Reboot,
            b"halt" => Request::Halt,
            b"suspend" => Request::Suspend,
            _ => Request::Unknown(String::from_utf8_lossy(text).into_owned()),
        }
    }
}
