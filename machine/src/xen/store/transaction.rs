//! Reading and writing, within a transaction or outside of any.

use super::wire::kind;
use super::{Store, StoreError, checked, wire};
use alloc::string::String;
use alloc::vec::Vec;
use weir_sync::Control;

/// How often a transaction is tried.
const TRIES: usize = 16;
/// How long a list may get, in bytes of names.
const LIST_MAX: usize = 1 << 16;

/// A view of the store: what it reads stays the same until its end, and what it writes nobody sees before.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a Store,
    cx: &'a Control,
    /// 0: none.
    number: u32,
}

pub(super) fn run<R>(
    store: &Store,
    cx: &Control,
    mut body: impl FnMut(&Transaction<'_>) -> Result<R, StoreError>,
) -> Result<R, StoreError> {
    for _ in 0..TRIES {
        let reply = store.request(cx, kind::TRANSACTION_START, 0, &[b"\0"])?;
        let number =
            number(&reply).and_then(|number| u32::try_from(number).ok()).filter(|&number| number != 0);
        let transaction = Transaction { store, cx, number: number.ok_or(StoreError::Malformed)? };
        let done = body(&transaction);
        let verdict: &[u8] = if done.is_ok() { b"T\0" } else { b"F\0" };
        match (done, transaction.request(kind::TRANSACTION_END, &[verdict])) {
            (Err(StoreError::Again), _) | (Ok(_), Err(StoreError::Again)) => {}
            (done, ended) => return done.and_then(|done| ended.map(|_| done)),
        }
    }
    Err(StoreError::Again)
}

impl<'a> Transaction<'a> {
    pub(super) fn outside(store: &'a Store, cx: &'a Control) -> Self {
        Self { store, cx, number: 0 }
    }

    /// See [`Store::read`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        self.request(kind::READ, &[checked(path)?.as_bytes(), b"\0"])
    }

    /// See [`Store::read_text`].
    pub fn read_text(&self, path: &str) -> Result<String, StoreError> {
        String::from_utf8(self.read(path)?).map_err(|_| StoreError::Malformed)
    }

    /// See [`Store::read_number`].
    pub fn read_number(&self, path: &str) -> Result<Option<u64>, StoreError> {
        match self.read(path) {
            Ok(value) => number(&value).map(Some).ok_or(StoreError::Malformed),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// See [`Store::write`].
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.request(kind::WRITE, &[checked(path)?.as_bytes(), b"\0", value.as_ref()]).map(drop)
    }

    /// See [`Store::remove`].
    pub fn remove(&self, path: &str) -> Result<(), StoreError> {
        match self.request(kind::RM, &[checked(path)?.as_bytes(), b"\0"]) {
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// See [`Store::list`].
    pub fn list(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let names = match self.request(kind::DIRECTORY, &[checked(path)?.as_bytes(), b"\0"]) {
            Err(StoreError::TooBig) => self.long_list(path)?,
            names => names?,
        };
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        names.map(|name| String::from_utf8(name.into()).map_err(|_| StoreError::Malformed)).collect()
    }

    /// A list of more than a message holds, part by part: the generation of the list, then names from an offset on; an
    /// empty name ends it (`docs/misc/xenstore.txt`, `DIRECTORY_PART`). Starts over when the generation changes.
    fn long_list(&self, path: &str) -> Result<Vec<u8>, StoreError> {
        for _ in 0..TRIES {
            let (mut names, mut started) = (Vec::new(), None);
            loop {
                let offset = alloc::format!("{}", names.len());
                let parts: [&[u8]; 4] = [path.as_bytes(), b"\0", offset.as_bytes(), b"\0"];
                let reply = self.request(kind::DIRECTORY_PART, &parts)?;
                let (generation, part) = wire::split_text(&reply).ok_or(StoreError::Malformed)?;
                if started.get_or_insert_with(|| generation.to_vec()) != generation {
                    break;
                }
                names.extend_from_slice(part);
                if part.is_empty() || names.len() > LIST_MAX {
                    return Err(if part.is_empty() { StoreError::Malformed } else { StoreError::TooBig });
                }
                if part == b"\0" || part.ends_with(b"\0\0") {
                    return Ok(names);
                }
            }
        }
        Err(StoreError::Again)
    }

    fn request(&self, kind: u32, parts: &[&[u8]]) -> Result<Vec<u8>, StoreError> {
        self.store.request(self.cx, kind, self.number, parts)
    }
}

/// A decimal number, perhaps ended by NUL, as replies are and values are not.
fn number(bytes: &[u8]) -> Option<u64> {
    let digits = wire::split_text(bytes).map_or(bytes, |(digits, _)| digits);
    let plain = digits.iter().all(u8::is_ascii_digit);
    if plain { core::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}
