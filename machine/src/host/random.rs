//! Random numbers from the standard library, which asks the system.

use std::hash::{BuildHasher, RandomState};

pub(crate) fn hardware() -> Option<u64> {
    Some(RandomState::new().hash_one(0))
}
