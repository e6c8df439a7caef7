//! Messages of the store's protocol (Xen `public/io/xs_wire.h`, `docs/misc/xenstore.txt`).

use super::StoreError;
use alloc::vec::Vec;

/// Bytes of a message's header: type, request, transaction, length of what follows; 32 bits each, little endian.
pub(crate) const HEADER: usize = 16;
/// `XENSTORE_PAYLOAD_MAX`.
pub(crate) const PAYLOAD_MAX: usize = 4096;
/// `XENSTORE_ABS_PATH_MAX`.
const ABSOLUTE_MAX: usize = 3072;
/// `XENSTORE_REL_PATH_MAX`.
const RELATIVE_MAX: usize = 2048;

/// `enum xsd_sockmsg_type`, as far as a domain uses it.
pub(crate) mod kind {
    pub(crate) const DIRECTORY: u32 = 1;
    pub(crate) const READ: u32 = 2;
    pub(crate) const WATCH: u32 = 4;
    pub(crate) const UNWATCH: u32 = 5;
    pub(crate) const TRANSACTION_START: u32 = 6;
    pub(crate) const TRANSACTION_END: u32 = 7;
    pub(crate) const WRITE: u32 = 11;
    pub(crate) const RM: u32 = 13;
    pub(crate) const WATCH_EVENT: u32 = 15;
    pub(crate) const ERROR: u32 = 16;
    pub(crate) const RESET_WATCHES: u32 = 21;
    pub(crate) const DIRECTORY_PART: u32 = 22;
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) kind: u32,
    pub(crate) request: u32,
    pub(crate) transaction: u32,
    pub(crate) payload: Vec<u8>,
}

/// The header of a message of `len` bytes.
pub(crate) fn header(kind: u32, request: u32, transaction: u32, len: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (field, value) in bytes.chunks_exact_mut(4).zip([kind, request, transaction, len as u32]) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    /// Takes what came off the ring, some or all of it, and gives the message that it completes, if it does; call
    /// again until `bytes` is empty. The error names what is wrong with the stream, which is beyond repair then.
    pub(crate) fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, &'static str> {
        loop {
            let wanted = self.wanted()?;
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.bytes.len()));
            self.bytes.extend_from_slice(taken);
            *bytes = rest;
            if self.bytes.len() < wanted {
                return Ok(None);
            }
            // The header alone: it says now how much follows.
            if self.wanted()? == wanted {
                let payload = self.bytes.split_off(HEADER);
                let [kind, request, transaction, _] = self.fields();
                self.bytes.clear();
                return Ok(Some(Message { kind, request, transaction, payload }));
            }
        }
    }

    /// Bytes of the message under way, as far as they are known.
    fn wanted(&self) -> Result<usize, &'static str> {
        if self.bytes.len() < HEADER {
            return Ok(HEADER);
        }
        let [.., len] = self.fields();
        let fits = len as usize <= PAYLOAD_MAX;
        if fits { Ok(HEADER + len as usize) } else { Err("oversized-message") }
    }

    fn fields(&self) -> [u32; 4] {
        let mut fields = [0; 4];
        for (field, bytes) in fields.iter_mut().zip(self.bytes.chunks_exact(4)) {
            *field = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        }
        fields
    }
}

/// The text before the first NUL and what follows it; `None` without a NUL.
pub(crate) fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// What an error reply says, by the name of the `errno` in it.
pub(crate) fn error(payload: &[u8]) -> StoreError {
    let name = split_text(payload).map_or(payload, |(name, _)| name);
    match name {
        b"ENOENT" => StoreError::NotFound,
        b"EACCES" | b"EPERM" | b"EROFS" => StoreError::Denied,
        b"EINVAL" | b"EISDIR" | b"ENOTEMPTY" => StoreError::Invalid,
        b"EAGAIN" => StoreError::Again,
        b"EEXIST" => StoreError::Exists,
        b"E2BIG" => StoreError::TooBig,
        b"ENOSPC" | b"ENOMEM" | b"EBUSY" => StoreError::Quota,
        b"ENOSYS" => StoreError::Unsupported,
        _ => StoreError::Failed,
    }
}

/// Whether the store would take `path`: absolute, relative to our domain's, or a special one to watch (`@…`).
pub(crate) fn is_path(path: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    let max = if path.starts_with('/') { ABSOLUTE_MAX } else { RELATIVE_MAX };
    let shape = path == "/" || !path.ends_with('/') && !path.contains("//");
    !path.is_empty() && path.len() < max && shape && path.bytes().all(letter)
}
