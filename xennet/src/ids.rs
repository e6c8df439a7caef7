//! Request ids that tell whose they are: a slot, how often it was used, and which queue gave them out.

/// Slots of a ring, and ids a queue has outstanding at most.
pub(crate) const SLOTS: usize = 256;

/// What a queue puts on all of its ids: four bits that tell queues, and lives of a vif, apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark(u16);

impl Mark {
    const SHIFT: u32 = 12;

    /// That of queue `queue` in a life of a vif that begins with `salt`.
    pub(crate) fn new(salt: u16, queue: u16) -> Self {
        Self(salt.wrapping_add(queue) & 0xf)
    }

    /// The id of `slot`, the `uses`-th time it is used.
    #[inline]
    pub(crate) fn id(self, slot: u8, uses: u8) -> u16 {
        self.0 << Self::SHIFT | u16::from(uses & 0xf) << 8 | u16::from(slot)
    }

    /// The slot of an id; `None` if it has another mark.
    #[inline]
    pub(crate) fn slot(self, id: u16) -> Option<u8> {
        let [slot, _] = id.to_le_bytes();
        (id >> Self::SHIFT == self.0).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_known_by_its_own_queue_only(salt: u16, queue in 0u16..16, other in 0u16..16, slot: u8, uses: u8) {
            let id = Mark::new(salt, queue).id(slot, uses);
            prop_assert_eq!(Mark::new(salt, queue).slot(id), Some(slot));
            prop_assert_eq!(Mark::new(salt, other).slot(id).is_some(), other == queue);
            prop_assert_ne!(Mark::new(salt, queue).id(slot, uses.wrapping_add(1)), id);
        }
    }
}
