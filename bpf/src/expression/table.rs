//! Values of which equal ones are kept once.

use alloc::vec;
use alloc::vec::Vec;

/// The number of a value: that of its place.
pub(super) type Id = u32;

/// A list without repetitions.
pub(super) struct Table<T> {
    items: Vec<T>,
    /// Open addressing: a place in `items`, from 1; 0 is free. As many as a power of two.
    slots: Vec<Id>,
}

/// What mixes into a number.
pub(super) trait Key: Copy + PartialEq {
    fn key(&self) -> [u32; 4];
}

impl<T: Key> Table<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), slots: vec![0; 64] }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn get(&self, id: Id) -> T {
        self.items[id as usize]
    }

    /// The value's number, a new one if it is not there.
    pub(super) fn add(&mut self, item: T) -> Id {
        let slot = self.slot(item);
        if let Some(known) = self.slots[slot].checked_sub(1) {
            return known;
        }
        self.items.push(item);
        let id = self.items.len() as Id;
        self.slots[slot] = id;
        if self.items.len() * 2 > self.slots.len() {
            self.slots = vec![0; self.slots.len() * 2];
            for place in 0..self.items.len() {
                let slot = self.slot(self.items[place]);
                self.slots[slot] = place as Id + 1;
            }
        }
        id - 1
    }

    /// Where the value is, or belongs.
    fn slot(&self, item: T) -> usize {
        let mixed = item.key().iter().fold(0u64, |mixed, &word| {
            (mixed.rotate_left(23) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let last = self.slots.len() - 1;
        let mut slot = (mixed >> 32) as usize & last;
        while self.slots[slot] != 0 && self.items[self.slots[slot] as usize - 1] != item {
            slot = (slot + 1) & last;
        }
        slot
    }
}
