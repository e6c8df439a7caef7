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

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sync::cpu::claim_any;

    /// What comes of a request text, by way of the store's events, and what is left in its node.
    fn asked(text: &str) -> (Option<Request>, Option<String>) {
        let (store, peer) = Store::simulated();
        let node = format!("{}/{REQUEST}", peer.home());
        let mut cpu = std::iter::repeat_with(claim_any).flatten().next().unwrap();
        cpu.control(|cx| {
            let shutdown = Shutdown::start(cx, store).unwrap();
            let other = store.watch(cx, "control").unwrap();
            while let Some(event) = store.next_event(cx) {
                assert_eq!(shutdown.request(cx, store, &event), Ok(None));
            }
            peer.write(&node, text);
            let events: Vec<Event> = std::iter::from_fn(|| store.next_event(cx)).collect();
            let (ours, others): (Vec<_>, Vec<_>) = events.into_iter().partition(
                |event| matches!(event, Event::Changed { token, .. } if *token == shutdown.watch.token()),
            );
            assert_eq!((ours.len(), others.len()), (1, 1));
            assert_eq!(shutdown.request(cx, store, &others[0]), Ok(None));
            let request = shutdown.request(cx, store, &ours[0]);
            // Acknowledged: what that writes is no request.
            while let Some(event) = store.next_event(cx) {
                assert_eq!(shutdown.request(cx, store, &event), Ok(None));
            }
            store.unwatch(cx, other).unwrap();
            (request.unwrap(), peer.read_text(&node))
        })
    }

    #[test]
    fn requests_are_named_and_acknowledged() {
        for (text, request) in [
            ("poweroff", Request::PowerOff),
            ("reboot", Request::Reboot),
            ("halt", Request::Halt),
            ("suspend", Request::Suspend),
            ("crash", Request::Unknown("crash".into())),
            ("power\u{fffd}off", Request::Unknown("power\u{fffd}off".into())),
        ] {
            assert_eq!(asked(text), (Some(request), Some(String::new())), "{text}");
        }
    }

    #[test]
    fn an_empty_request_is_none_and_a_missed_event_loses_nothing() {
        assert_eq!(asked(""), (None, Some(String::new())));
        let (store, peer) = Store::simulated();
        peer.write(&format!("{}/{REQUEST}", peer.home()), "reboot");
        let mut cpu = std::iter::repeat_with(claim_any).flatten().next().unwrap();
        cpu.control(|cx| {
            let shutdown = Shutdown::start(cx, store).unwrap();
            assert_eq!(shutdown.request(cx, store, &Event::Overflow), Ok(Some(Request::Reboot)));
            assert_eq!(shutdown.request(cx, store, &Event::Overflow), Ok(None));
        });
    }

    #[test]
    fn says_what_it_serves_and_does_not_offer_to_suspend() {
        let (store, peer) = Store::simulated();
        let mut cpu = std::iter::repeat_with(claim_any).flatten().next().unwrap();
        cpu.control(|cx| Shutdown::start(cx, store)).unwrap();
        let control = format!("{}/control", peer.home());
        assert_eq!(peer.list(&control), ["feature-poweroff", "feature-reboot"]);
        assert_eq!(peer.read_text(&format!("{control}/feature-poweroff")).as_deref(), Some("1"));
        peer.remove(&control);
        peer.deny(&format!("{control}/feature-reboot"));
        assert!(cpu.control(|cx| Shutdown::start(cx, store)).is_ok());
    }
}
