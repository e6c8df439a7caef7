//! Weir as a Xen guest: vifs that come and go, configuration and answers by the store, wishes of the toolstack.
//!
//! Task level of the boot CPU. Ports are vif numbers: `match = { port = 2 }` is `device/vif/2`.

use crate::attach::Bay;
use crate::config::{self, Config};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use weir_machine::xen::control::{Request, Shutdown};
use weir_machine::xen::grant::{self, Lent, Table};
use weir_machine::xen::store::{self, Event, Store, StoreError, Watch};
use weir_machine::{error, frames, info, warn};
use weir_netif::{Arena, IfIndex};
use weir_sync::Control;
use weir_xennet::{Options, Vif, Xen};

/// Where a configuration is looked for; longer ones go on in `config/1`, `config/2` …
pub const CONFIG: &str = "vm-data/weir/config";
/// Where the outcome is told: the toolstack makes `data` for its guests to write to.
const STATUS: &str = "data/weir/status";
/// Bytes of an outcome: the store takes 4096 at once.
const LONGEST_STATUS: usize = 3000;
/// Nodes that a text goes on in. One takes up to 4 KiB, so the longest text has half as many.
const MAX_PIECES: usize = 2048;

/// What people call the place of a configuration in the store.
pub fn place() -> String {
    format!("{CONFIG} in xenstore")
}

/// What happened around us.
pub enum News {
    /// A device was plugged in at this port.
    Plugged(IfIndex, Bay),
    /// The device at this port is gone.
    Unplugged(IfIndex),
    /// There is another configuration in the store.
    Configured,
    /// The toolstack asks for an end.
    End(Request),
}

/// Our relations to Xen and its toolstack.
pub struct Guest {
    xen: Xen,
    arena: &'static Arena,
    options: Options,
    /// On the list of vifs.
    vifs: Watch,
    /// On the configuration.
    settings: Watch,
    shutdown: Shutdown,
    /// Vifs we know of.
    known: Vec<Vif>,
    /// The configuration's text, as read last.
    text: Option<Vec<u8>>,
}

impl Guest {
    /// `None` if this is no Xen guest, or one without a store, which is said. Each vif gets a queue pair a CPU.
    pub fn open(cx: &Control, arena: &'static Arena, cpus: usize) -> Option<Guest> {
        let (store, grants) = (store::open(cx)?, grant::table()?);
        match Self::watching(cx, store, grants, arena, cpus) {
            Ok(guest) => Some(guest),
            Err(wrong) => {
                error!("xenstore: {wrong}; no vif can be found, nothing is read from it");
                None
            }
        }
    }

    fn watching(
        cx: &Control,
        store: &'static Store,
        grants: &'static Table,
        arena: &'static Arena,
        cpus: usize,
    ) -> Result<Guest, StoreError> {
        Ok(Guest {
            xen: Xen { store, grants, arena, lent: None },
            arena,
            options: Options { queue_pairs: cpus as u16, ..Options::default() },
            vifs: store.watch(cx, "device/vif")?,
            settings: store.watch(cx, "vm-data/weir")?,
            shutdown: Shutdown::start(cx, store)?,
            known: Vec::new(),
            text: None,
        })
    }

    /// On a simulated store, for tests.
    #[cfg(test)]
    pub(crate) fn simulated(cx: &Control, store: &'static Store, arena: &'static Arena) -> Guest {
        Self::watching(cx, store, Table::simulated(8), arena, 1).unwrap()
    }

    /// The vifs there are. At boot, before [`news`](Self::news).
    pub fn vifs(&mut self, cx: &Control) -> Vec<(IfIndex, Bay)> {
        let mut news = Vec::new();
        self.compare(cx, &mut news);
        let plugged = |news| if let News::Plugged(port, bay) = news { Some((port, bay)) } else { None };
        news.into_iter().filter_map(plugged).collect()
    }

    /// What happened since the last call.
    pub fn news(&mut self, cx: &Control) -> Vec<News> {
        let mut news = Vec::new();
        let (mut vifs, mut settings) = (false, false);
        while let Some(event) = self.xen.store.next_event(cx) {
            match self.shutdown.request(cx, self.xen.store, &event) {
                Ok(None) => {}
                Ok(Some(Request::Suspend)) => {
                    warn!("the toolstack asks to suspend, for a save or a migration: not supported, refused");
                }
                Ok(Some(Request::Unknown(wish))) => {
                    warn!("the toolstack asks for \"{wish}\": not known, ignored")
                }
                Ok(Some(end)) => news.push(News::End(end)),
                Err(wrong) => error!("control/shutdown: {wrong}"),
            }
            let is = |watch: &Watch| match &event {
                Event::Changed { token, .. } => *token == watch.token(),
                Event::Overflow => true,
            };
            vifs |= is(&self.vifs);
            settings |= is(&self.settings);
        }
        if vifs {
            self.compare(cx, &mut news);
        }
        if settings && self.look(cx) {
            news.push(News::Configured);
        }
        news
    }

    /// Whether a vif that was stopped can be attached again: its backend is back.
    pub fn returned(&mut self, cx: &Control, port: IfIndex) -> Option<Bay> {
        let vif = Vif { handle: port.index() as u32 };
        (vif.is_awaited(cx, self.xen.store) == Ok(true)).then(|| self.bay(cx, vif))?
    }

    /// Which vifs came and went.
    fn compare(&mut self, cx: &Control, news: &mut Vec<News>) {
        let now = match Vif::list(cx, self.xen.store) {
            Ok(now) => now,
            Err(wrong) => return error!("{wrong}"),
        };
        let port = |vif: &Vif| IfIndex(vif.handle.min(u16::MAX.into()) as u16);
        let gone: Vec<Vif> = self.known.iter().filter(|vif| !now.contains(vif)).copied().collect();
        news.extend(gone.iter().map(|vif| News::Unplugged(port(vif))));
        self.known.retain(|vif| !gone.contains(vif));
        for vif in now {
            if !self.known.contains(&vif)
                && let Some(bay) = self.bay(cx, vif)
            {
                self.known.push(vif);
                news.push(News::Plugged(port(&vif), bay));
            }
        }
    }

    fn bay(&mut self, cx: &Control, vif: Vif) -> Option<Bay> {
        self.lend(cx, vif);
        let (xen, options) = (self.xen, self.options);
        match weir_xennet::describe(cx, &xen, vif.handle, &options) {
            Ok(info) => {
                let probe = move |cx: &Control| {
                    let place = |wrong| format!("xennet vif {}: {wrong}", vif.handle);
                    weir_xennet::probe(cx, &xen, vif.handle, &options).map_err(place)
                };
                Some(Bay::known(info, Box::new(probe)))
            }
            Err(wrong) => {
                error!("xennet vif {}: {wrong}", vif.handle);
                None
            }
        }
    }

    /// The packet arena belongs to the backend domain of the first vif that is trusted with it.
    fn lend(&mut self, cx: &Control, vif: Vif) {
        if self.xen.lent.is_some() {
            return;
        }
        if let Ok(Some(backend)) = vif.trusted_backend(cx, self.xen.store) {
            let memory = self.arena.memory();
            let lent = Lent::new(self.xen.grants, backend, memory.start as u64, memory.len() as u64);
            info!("{} KiB of packet buffers are lent to {backend}", lent.pages() * 4);
            self.xen.lent = Some(Box::leak(Box::new(lent)));
        }
    }

    /// Reads the configuration's text; whether it is there, and another one.
    fn look(&mut self, cx: &Control) -> bool {
        let text = match self.read(cx, frames::free_bytes()) {
            Ok(text) => text,
            Err(wrong) => {
                self.tell(cx, &format!("{CONFIG}: {wrong}"));
                return false;
            }
        };
        let is_other = text.is_some() && text != self.text;
        self.text = text;
        is_other
    }

    /// The text in the store, up to the first piece that makes it longer than one may be, or than `free` bytes of memory can
    /// take.
    fn read(&self, cx: &Control, free: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let optional = |read: Result<Vec<u8>, StoreError>| match read {
            Ok(text) => Ok(Some(text)),
            Err(StoreError::NotFound | StoreError::Denied) => Ok(None),
            Err(wrong) => Err(wrong),
        };
        let mut text = optional(self.xen.store.read(cx, CONFIG))?;
        if let Some(text) = &mut text {
            let most = config::longest(free);
            for number in 1..=MAX_PIECES {
                let piece = optional(self.xen.store.read(cx, &format!("{CONFIG}/{number}")))?;
                let Some(piece) = piece.filter(|piece| !piece.is_empty()) else { break };
                text.extend(piece);
                if text.len() > most {
                    break;
                }
            }
        }
        // A node that only holds others has no text.
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The configuration in the store, if there is one; `free` bytes of memory are to be had.
    ///
    /// # Errors
    /// What is wrong with it, as text for people.
    pub fn configuration(&mut self, cx: &Control, free: u64) -> Option<Result<Config, String>> {
        self.text = match self.read(cx, free) {
            Ok(text) => text,
            Err(wrong) => return Some(Err(format!("{CONFIG}: {wrong}\n"))),
        };
        let text = self.text.as_ref()?;
        Some(Config::read(text, CONFIG, free))
    }

    /// Tells what became of a configuration.
    pub fn tell_outcome(&self, cx: &Control, outcome: Result<(), &String>) {
        match outcome {
            Ok(()) => self.tell(cx, "ok"),
            Err(wrong) => self.tell(cx, &format!("error: {wrong}")),
        }
    }

    /// Tells the toolstack's side how it is with the configuration: `ok` or what is wrong.
    pub fn tell(&self, cx: &Control, text: &str) {
        let mut end = text.len().min(LONGEST_STATUS);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if let Err(wrong) = self.xen.store.write(cx, STATUS, text.get(..end).unwrap_or_default().trim_end()) {
            warn!("{STATUS} in xenstore: {wrong}");
        }
    }

    /// Grants in use, pages that backends do not let go of, grants in all, and watches.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            grants: self.xen.grants.in_use(),
            limbo: self.xen.grants.limbo(),
            entries: self.xen.grants.entries(),
            watches: self.xen.store.watches(),
        }
    }
}

/// What of Xen's means we hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holdings {
    /// Pages lent to other domains.
    pub grants: usize,
    /// Of these, pages taken back that the other domain still maps.
    pub limbo: usize,
    /// Pages that can be lent.
    pub entries: usize,
    /// Watches on the store.
    pub watches: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use weir_machine::xen::store::Peer;
    use weir_sync::cpu::claim_any;

    const FREE: u64 = 1 << 20;

    /// Runs a test as a guest with the other side at hand.
    fn with_guest(prepare: impl FnOnce(&Peer), test: impl FnOnce(&Control, &mut Guest, &Peer)) {
        let (store, peer) = Store::simulated();
        prepare(&peer);
        let arena = Arena::new(vec![0; 1 << 20].leak());
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| {
            let mut guest = Guest::simulated(cx, store, arena);
            test(cx, &mut guest, &peer);
        });
    }

    fn at(peer: &Peer, path: &str) -> String {
        format!("{}/{path}", peer.home())
    }

    #[test]
    fn a_configuration_comes_in_pieces() {
        let prepare = |peer: &Peer| {
            peer.write(&at(peer, "vm-data/weir/config/1"), "match = { port = 3 }\n");
            peer.write(&at(peer, "vm-data/weir/config"), "[interface.a]\n");
        };
        with_guest(prepare, |cx, guest, peer| {
            let config = guest.configuration(cx, FREE).unwrap().unwrap();
            assert_eq!(config.interfaces[0].name, "a");
            assert!(guest.news(cx).is_empty(), "the watch's first event is no news");
            peer.write(&at(peer, "vm-data/weir/config"), "[interface.b]\n");
            assert!(matches!(guest.news(cx).as_slice(), [News::Configured]));
            assert_eq!(guest.configuration(cx, FREE).unwrap().unwrap().interfaces[0].name, "b");
        });
    }

    #[test]
    fn without_a_configuration_there_is_none_and_a_wrong_one_is_said() {
        with_guest(
            |_| (),
            |cx, guest, peer| {
                assert!(guest.configuration(cx, FREE).is_none());
                peer.write(&at(peer, "vm-data/weir/config"), "hostname = 7\n");
                let wrong = guest.configuration(cx, FREE).unwrap().unwrap_err();
                assert!(wrong.starts_with("vm-data/weir/config:1:"), "{wrong}");
                guest.tell_outcome(cx, Err(&wrong));
                let told = peer.read_text(&at(peer, STATUS)).unwrap();
                assert!(told.starts_with("error: vm-data/weir/config:1:"), "{told}");
                guest.tell_outcome(cx, Ok(()));
                assert_eq!(peer.read_text(&at(peer, STATUS)).unwrap(), "ok");
            },
        );
    }

    #[test]
    fn a_long_text_is_told_as_far_as_the_store_takes_it() {
        with_guest(
            |_| (),
            |cx, guest, peer| {
                guest.tell(cx, &"\u{e4}".repeat(4000));
                let told = peer.read_text(&at(peer, STATUS)).unwrap();
                assert_eq!(told.len(), LONGEST_STATUS);
            },
        );
    }

    #[test]
    fn a_wish_to_end_is_news_once_and_a_wish_to_suspend_is_none() {
        with_guest(
            |_| (),
            |cx, guest, peer| {
                let _ = guest.news(cx);
                peer.write(&at(peer, "control/shutdown"), "suspend");
                assert!(guest.news(cx).is_empty());
                assert_eq!(peer.read_text(&at(peer, "control/shutdown")).unwrap(), "", "acknowledged");
                peer.write(&at(peer, "control/shutdown"), "poweroff");
                assert!(matches!(guest.news(cx).as_slice(), [News::End(Request::PowerOff)]));
                assert!(guest.news(cx).is_empty());
            },
        );
    }

    #[test]
    fn a_vif_without_a_backend_is_said_and_tried_when_it_comes_again() {
        with_guest(
            |_| (),
            |cx, guest, peer| {
                guest.options.patience_ns = 1;
                let _ = guest.news(cx);
                peer.write(&at(peer, "device/vif/2/handle"), "2");
                assert!(guest.news(cx).is_empty(), "nothing can be attached");
                assert!(guest.known.is_empty());
                assert_eq!(guest.holdings().watches, 3);
            },
        );
    }
}
