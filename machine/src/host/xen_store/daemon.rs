//! The simulated xenstored: takes requests off the ring, answers them, fires watches.

use super::tree::{Tree, is_within};
use crate::xen::DomId;
use crate::xen::store::ring::RING;
use crate::xen::store::wire::{self, Message, PAYLOAD_MAX, Parser, kind, split_text};
use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The daemon's end of the ring, and all it knows.
pub(super) struct Daemon {
    page: NonNull<u8>,
    domain: DomId,
    input: Parser,
    output: VecDeque<u8>,
    pub(super) tree: Tree,
    /// Counts changes of the tree.
    generation: u64,
    transactions: BTreeMap<u32, Open>,
    last_transaction: u32,
    watches: Vec<Watch>,
    pub(super) denied: Vec<String>,
    changes: Vec<String>,
}

/// A transaction under way.
struct Open {
    tree: Tree,
    generation: u64,
    changes: Vec<Change>,
}

#[derive(Clone)]
struct Change {
    path: String,
    /// Watches below it fire as well.
    removed: Vec<String>,
}

struct Watch {
    /// As the domain gave it.
    path: String,
    token: String,
}

// SAFETY: the page is shared memory; the daemon's owner decides who touches its end.
unsafe impl Send for Daemon {}

/// A reply's payload, or the name of an error.
type Answer = Result<Vec<u8>, &'static str>;

impl Daemon {
    /// `page` is one whose other end is a [`Ring`](crate::xen::store::Ring).
    pub(super) fn new(page: NonNull<u8>, domain: DomId) -> Daemon {
        let mut daemon = Daemon {
            page,
            domain,
            input: Parser::default(),
            output: VecDeque::new(),
            tree: Tree::default(),
            generation: 0,
            transactions: BTreeMap::new(),
            last_transaction: 0,
            watches: Vec::new(),
            denied: Vec::new(),
            changes: Vec::new(),
        };
        daemon.tree.write(&format!("{}/domid", daemon.home()), domain.0.to_string().as_bytes());
        daemon
    }

    pub(super) fn home(&self) -> String {
        format!("/local/domain/{}", self.domain.0)
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// What has changed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn write(&mut self, path: &str, value: &[u8]) {
        self.tree.write(path, value);
        self.changed(&Change { path: path.into(), removed: Vec::new() });
    }

    pub(super) fn remove(&mut self, path: &str) {
        let removed = self.tree.remove(path);
        if !removed.is_empty() {
            self.changed(&Change { path: path.into(), removed });
        }
    }

    /// Works until the ring stands still; whether the other end has anything new to read.
    pub(super) fn serve(&mut self) -> bool {
        let mut sent = false;
        loop {
            let received = self.receive();
            let mut bytes = &received[..];
            while let Some(message) = self.input.feed(&mut bytes).expect("the client keeps to the protocol") {
                self.serve_one(message);
            }
            let flushed = self.flush();
            sent |= flushed;
            if received.is_empty() && !flushed {
                return sent;
            }
        }
    }

    /// Whether the other end has left something unread.
    pub(super) fn has_sent(&self) -> bool {
        self.index(2).load(Ordering::Acquire) != self.index(3).load(Ordering::Relaxed)
    }

    fn serve_one(&mut self, message: Message) {
        let Message { kind, request, transaction, payload } = message;
        let mut events = Vec::new();
        let (kind, payload) = match self.answer(kind, transaction, &payload, &mut events) {
            Ok(payload) => (kind, payload),
            Err(error) => (kind::ERROR, format!("{error}\0").into_bytes()),
        };
        self.output.extend(wire::header(kind, request, transaction, payload.len()));
        self.output.extend(payload);
        events.into_iter().for_each(|(path, token)| self.fire(&path, &token));
    }

    fn answer(
        &mut self,
        kind: u32,
        transaction: u32,
        payload: &[u8],
        events: &mut Vec<(String, String)>,
    ) -> Answer {
        let ok = || Ok(b"OK\0".to_vec());
        match kind {
            kind::TRANSACTION_START => {
                self.last_transaction += 1;
                let open = Open { tree: self.tree.clone(), generation: self.generation, changes: Vec::new() };
                self.transactions.insert(self.last_transaction, open);
                return Ok(format!("{}\0", self.last_transaction).into_bytes());
            }
            kind::TRANSACTION_END => return self.commit(transaction, payload).and_then(|()| ok()),
            kind::RESET_WATCHES => {
                self.watches.clear();
                self.transactions.clear();
                return ok();
            }
            _ => {}
        }
        let (path, rest) = split_text(payload).ok_or("EINVAL")?;
        let given = String::from_utf8(path.to_vec()).map_err(|_| "EINVAL")?;
        let path = self.absolute(&given);
        if self.denied.iter().any(|denied| is_within(&path, denied)) {
            return Err("EACCES");
        }
        match kind {
            kind::READ => self.view(transaction)?.read(&path).map(<[u8]>::to_vec).ok_or("ENOENT"),
            kind::DIRECTORY => {
                let names = self.names(transaction, &path)?;
                if names.len() > PAYLOAD_MAX { Err("E2BIG") } else { Ok(names) }
            }
            kind::DIRECTORY_PART => self.part(transaction, &path, rest),
            kind::WRITE | kind::RM if !is_within(&path, &self.home()) => Err("EACCES"),
            kind::WRITE => {
                self.change(transaction, &path, |tree| {
                    tree.write(&path, rest);
                    Vec::new()
                })?;
                ok()
            }
            kind::RM => {
                let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
                let tree = self.view(transaction)?;
                match (tree.read(&path), tree.read(parent)) {
                    (None, None) => return Err("ENOENT"),
                    (None, Some(_)) => return ok(),
                    (Some(_), _) => self.change(transaction, &path, |tree| tree.remove(&path))?,
                }
                ok()
            }
            kind::WATCH | kind::UNWATCH => {
                let (token, _) = split_text(rest).ok_or("EINVAL")?;
                let token = String::from_utf8(token.to_vec()).map_err(|_| "EINVAL")?;
                let at = self.watches.iter().position(|watch| watch.path == given && watch.token == token);
                match (kind, at) {
                    (kind::WATCH, None) => {
                        // Fires once at once.
                        events.push((given.clone(), token.clone()));
                        self.watches.push(Watch { path: given, token });
                    }
                    (kind::WATCH, Some(_)) => return Err("EEXIST"),
                    (_, None) => return Err("ENOENT"),
                    (_, Some(at)) => drop(self.watches.remove(at)),
                }
                ok()
            }
            _ => Err("ENOSYS"),
        }
    }

    fn view(&self, transaction: u32) -> Result<&Tree, &'static str> {
        if transaction == 0 {
            return Ok(&self.tree);
        }
        self.transactions.get(&transaction).map(|open| &open.tree).ok_or("ENOENT")
    }

    fn change(
        &mut self,
        transaction: u32,
        path: &str,
        change: impl FnOnce(&mut Tree) -> Vec<String>,
    ) -> Result<(), &'static str> {
        let path = String::from(path);
        if transaction == 0 {
            let removed = change(&mut self.tree);
            self.changed(&Change { path, removed });
        } else {
            let open = self.transactions.get_mut(&transaction).ok_or("ENOENT")?;
            let removed = change(&mut open.tree);
            open.changes.push(Change { path, removed });
        }
        Ok(())
    }

    fn commit(&mut self, transaction: u32, verdict: &[u8]) -> Result<(), &'static str> {
        let open = self.transactions.remove(&transaction).ok_or("ENOENT")?;
        match verdict {
            b"F\0" => Ok(()),
            b"T\0" if open.generation != self.generation => Err("EAGAIN"),
            b"T\0" => {
                self.tree = open.tree;
                open.changes.iter().for_each(|change| self.changed(change));
                Ok(())
            }
            _ => Err("EINVAL"),
        }
    }

    fn names(&self, transaction: u32, path: &str) -> Answer {
        let tree = self.view(transaction)?;
        tree.read(path).ok_or("ENOENT")?;
        Ok(tree.list(path).iter().flat_map(|name| name.bytes().chain([0])).collect())
    }

    fn part(&self, transaction: u32, path: &str, offset: &[u8]) -> Answer {
        let names = self.names(transaction, path)?;
        let offset =
            split_text(offset).and_then(|(offset, _)| std::str::from_utf8(offset).ok()?.parse().ok());
        let left = names.get(offset.ok_or("EINVAL")?..).unwrap_or_default();
        let mut reply = format!("{}\0", self.generation).into_bytes();
        let room = PAYLOAD_MAX - reply.len() - 1;
        if left.len() <= room {
            reply.extend(left);
            reply.push(0);
        } else {
            let whole = left[..room].iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1);
            reply.extend(&left[..whole]);
        }
        Ok(reply)
    }

    fn changed(&mut self, change: &Change) {
        self.generation += 1;
        self.changes.push(change.path.clone());
        let mut events = Vec::new();
        for watch in &self.watches {
            let at = self.absolute(&watch.path);
            let named = |path: &str| match watch.path.starts_with('/') {
                true => String::from(path),
                false => path.strip_prefix(&format!("{}/", self.home())).unwrap_or(path).into(),
            };
            if is_within(&change.path, &at) {
                events.push((named(&change.path), watch.token.clone()));
            } else if change.removed.contains(&at) {
                events.push((named(&at), watch.token.clone()));
            }
        }
        events.into_iter().for_each(|(path, token)| self.fire(&path, &token));
    }

    fn fire(&mut self, path: &str, token: &str) {
        let payload = format!("{path}\0{token}\0");
        self.output.extend(wire::header(kind::WATCH_EVENT, 0, 0, payload.len()));
        self.output.extend(payload.bytes());
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.into() } else { format!("{}/{path}", self.home()) }
    }

    fn receive(&mut self) -> Vec<u8> {
        let (cons, prod) = (self.index(0).load(Ordering::Relaxed), self.index(1).load(Ordering::Acquire));
        let bytes = (0..prod.wrapping_sub(cons)).map(|offset| {
            let at = self.page.as_ptr().wrapping_add((cons.wrapping_add(offset) % RING) as usize);
            // SAFETY: inside the page, which `Store::simulated` leaked.
            unsafe { at.read_volatile() }
        });
        let bytes = bytes.collect();
        self.index(0).store(prod, Ordering::Release);
        bytes
    }

    fn flush(&mut self) -> bool {
        let (cons, prod) = (self.index(2).load(Ordering::Acquire), self.index(3).load(Ordering::Relaxed));
        let room = (RING - prod.wrapping_sub(cons)) as usize;
        let count = room.min(self.output.len());
        for (offset, byte) in self.output.drain(..count).enumerate() {
            let offset = RING + prod.wrapping_add(offset as u32) % RING;
            let at = self.page.as_ptr().wrapping_add(offset as usize);
            // SAFETY: inside the page, which `Store::simulated` leaked.
            unsafe { at.write_volatile(byte) };
        }
        self.index(3).store(prod.wrapping_add(count as u32), Ordering::Release);
        count > 0
    }

    /// `req_cons`, `req_prod`, `rsp_cons`, `rsp_prod`.
    fn index(&self, number: usize) -> &AtomicU32 {
        let at = self.page.as_ptr().wrapping_add(2 * RING as usize + 4 * number).cast();
        // SAFETY: aligned and inside the page, which `Store::simulated` leaked.
        unsafe { AtomicU32::from_ptr(at) }
    }
}
