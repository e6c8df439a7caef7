//! Pieces cut from a packet: copied through a cursor, and held until all are there, so that a pool that runs dry
//! costs the whole packet and not some of its pieces.

use weir_netif::{BATCH, Batch, Packet, Pool};

/// Pieces one packet may be cut into: 64 KiB by 64 bytes.
pub(crate) const MAX_PIECES: usize = BATCHES * BATCH;
const BATCHES: usize = 16;

/// A place in a packet's bytes.
pub(crate) struct Cursor<'a, I> {
    current: &'a [u8],
    segments: I,
}

/// A cursor at `offset`.
pub(crate) fn cursor(packet: &Packet, offset: usize) -> Cursor<'_, impl Iterator<Item = &[u8]>> {
    let mut cursor = Cursor { current: &[], segments: packet.segments() };
    let mut skip = offset;
    for segment in cursor.segments.by_ref() {
        if let Some(rest) = segment.get(skip..) {
            cursor.current = rest;
            break;
        }
        skip -= segment.len();
    }
    cursor
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cursor<'a, I> {
    /// Appends the next `len` bytes to `into`, chaining buffers from `pool` as they are needed. `None` if the pool
    /// ran dry or the packet ended; `into` has some of the bytes then.
    pub(crate) fn copy(&mut self, len: usize, into: &mut Packet, pool: &mut Pool) -> Option<()> {
        let mut left = len;
        while left > 0 {
            if self.current.is_empty() {
                self.current = self.segments.next()?;
                continue;
            }
            let mut room = into.tail_room();
            if room == 0 {
                into.append(pool.alloc()?);
                room = into.tail_room();
            }
            let (now, later) = self.current.split_at_checked(left.min(room).min(self.current.len()))?;
            if !into.extend(now) {
                return None;
            }
            self.current = later;
            left -= now.len();
        }
        Some(())
    }
}

/// Makes `count` pieces and hands them out in order. `None`, and everything freed, if one of them could not be made or
/// there are more than [`MAX_PIECES`].
#[inline]
pub(crate) fn all_or_nothing(
    count: usize,
    pool: &mut Pool,
    make: impl FnMut(usize, &mut Pool) -> Option<Packet>,
    out: impl FnMut(&mut Pool, Packet),
) -> Option<()> {
    if count <= BATCH {
        hold(&mut [Batch::new()], count, pool, make, out)
    } else {
        many(count, pool, make, out)
    }
}

/// Apart, because it needs 8 KiB of stack.
#[inline(never)]
fn many(
    count: usize,
    pool: &mut Pool,
    make: impl FnMut(usize, &mut Pool) -> Option<Packet>,
    out: impl FnMut(&mut Pool, Packet),
) -> Option<()> {
    hold(&mut [const { Batch::new_const() }; BATCHES], count, pool, make, out)
}

#[inline(always)]
fn hold(
    held: &mut [Batch],
    count: usize,
    pool: &mut Pool,
    mut make: impl FnMut(usize, &mut Pool) -> Option<Packet>,
    mut out: impl FnMut(&mut Pool, Packet),
) -> Option<()> {
    let mut whole = count <= held.len() * BATCH;
    'pieces: for (nth, batch) in held.iter_mut().enumerate() {
        for index in nth * BATCH..count.min((nth + 1) * BATCH) {
            whole = whole && make(index, pool).is_some_and(|piece| batch.try_push(piece).is_ok());
            if !whole {
                break 'pieces;
            }
        }
    }
    for batch in held {
        if whole {
            batch.drain(..).for_each(|piece| out(pool, piece));
        } else {
            pool.free_all(batch);
        }
    }
    whole.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{assert_nothing_leaked, bytes, chain, pool};
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn pieces_come_out_in_order_once_all_are_there() {
        for count in [0, 1, BATCH, BATCH + 1, MAX_PIECES] {
            let mut pool = pool(MAX_PIECES);
            let mut seen = Vec::new();
            let make = |index: usize, pool: &mut Pool| pool.alloc_from(&(index as u32).to_be_bytes());
            let out = |pool: &mut Pool, piece: Packet| {
                seen.push(u32::from_be_bytes(piece.data().try_into().unwrap()) as usize);
                pool.free(piece);
            };
            assert_eq!(all_or_nothing(count, &mut pool, make, out), Some(()));
            assert!(seen.into_iter().eq(0..count));
            assert_nothing_leaked(&mut pool);
        }
    }

    #[test]
    fn one_that_cannot_be_made_or_held_stops_all() {
        for (count, slots) in [(3, 2), (BATCH + 5, BATCH + 4), (MAX_PIECES + 1, MAX_PIECES + 1)] {
            let mut pool = pool(slots);
            let make = |_, pool: &mut Pool| pool.alloc();
            assert_eq!(all_or_nothing(count, &mut pool, make, |_, _| panic!()), None);
            assert_nothing_leaked(&mut pool);
        }
    }

    proptest! {
        #[test]
        fn a_cursor_copies_the_bytes_it_stands_at(
            data in prop::collection::vec(any::<u8>(), 1..5000),
            cuts in prop::collection::vec(0usize..400, 0..10),
            offset in 0usize..5200,
            lengths in prop::collection::vec(0usize..3000, 1..4),
        ) {
            let mut pool = pool(64);
            let packet = chain(&mut pool, &data, &cuts);
            let mut cursor = cursor(&packet, offset);
            let mut rest = data.get(offset..).unwrap_or(&[]);
            for len in lengths {
                let mut copy = pool.alloc().unwrap();
                let copied = cursor.copy(len, &mut copy, &mut pool);
                if let Some((expected, later)) = rest.split_at_checked(len) {
                    prop_assert_eq!(copied, Some(()));
                    prop_assert_eq!(bytes(&copy), expected);
                    rest = later;
                } else {
                    prop_assert_eq!(copied, None);
                    rest = &[];
                }
                pool.free(copy);
            }
            drop(cursor);
            pool.free(packet);
            assert_nothing_leaked(&mut pool);
        }
    }
}
