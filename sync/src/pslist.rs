//! A list that softints walk while a task changes it: what NetBSD's pslist(9) is for.
//!
//! Readers: any CPU, in a softint turn or a masked section; one acquire load a step, no store. Writers: task level, one
//! at a time, because there is one [`Writer`]; several tasks put it behind a ranked lock. Removing is unpublish, grace
//! period, hand back, in one function. What a task keeps beyond a masked section is an `Arc` that it cloned.

use crate::atomic::{AtomicPtr, Ordering, spin_loop};
use crate::cpu::{Control, GRACE, Softint};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ptr::null_mut;

/// Where `next` of a removed entry points in debug builds: into the non-canonical hole, so that a walk over a freed
/// entry faults.
const POISON: usize = 0xdead_0000_dead_0000;

/// The readers' view of a list. `[P]`
///
/// Clones are views of the same list. The entries are dropped with the last view or writer.
#[derive(Debug)]
pub struct PsList<T> {
    links: Arc<Links<T>>,
}

/// The right to change a list.
#[derive(Debug)]
pub struct Writer<T> {
    links: Arc<Links<T>>,
}

#[derive(Debug)]
struct Links<T> {
    /// `[A]` The first entry, or null. As [`Entry::next`].
    head: AtomicPtr<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// `[A]` The entry behind this one, or null; from `Box::into_raw`. Stored by the writer (Release), loaded by readers
    /// (Acquire). A removed entry keeps it until its grace period is over: who stands on it walks on.
    next: AtomicPtr<Entry<T>>,
    /// `[I]`
    value: T,
}

// SAFETY: it hands out `&T` on any CPU and moves `T` out on any CPU.
unsafe impl<T: Send + Sync> Sync for Links<T> {}
// SAFETY: as for `Sync`; it owns its entries.
unsafe impl<T: Send + Sync> Send for Links<T> {}

/// An empty list, and the right to change it.
pub fn new<T>() -> (PsList<T>, Writer<T>) {
    let links = Arc::new(Links { head: AtomicPtr::new(null_mut()) });
    (PsList { links: links.clone() }, Writer { links })
}

impl<T> Clone for PsList<T> {
    fn clone(&self) -> Self {
        Self { links: self.links.clone() }
    }
}

impl<T> PsList<T> {
    /// Walks the list. An entry that is removed meanwhile may or may not come; each that stays comes once.
    ///
    /// ```compile_fail,E0308
    /// # use weir_sync::{cpu, pslist};
    /// let (list, _writer) = pslist::new::<u32>();
    /// let mut cpu = cpu::claim_any().unwrap();
    /// cpu.control(|cx| list.iter(cx).count());
    /// ```
    /// ```compile_fail
    /// # use weir_sync::{cpu, pslist};
    /// let (list, _writer) = pslist::new::<u32>();
    /// let mut cpu = cpu::claim_any().unwrap();
    /// let kept = cpu.softint(|cx| list.iter(cx).next());
    /// ```
    #[inline]
    pub fn iter<'a>(&'a self, _: &'a Softint) -> Iter<'a, T> {
        Iter { link: &self.links.head }
    }
}

/// The entries from some point on.
#[derive(Debug)]
pub struct Iter<'a, T> {
    /// Points to the entry that comes next.
    link: &'a AtomicPtr<Entry<T>>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        let at = self.link.load(Ordering::Acquire);
        debug_assert_ne!(at.addr(), POISON, "a walk outlived its turn");
        // SAFETY: null or from `Box::into_raw`. A reader's turn or section lasts for 'a, and `Writer` frees entries after
        // the grace period that it belongs to; the writer's own walk borrows the writer.
        let entry = unsafe { at.as_ref() }?;
        self.link = &entry.next;
        Some(&entry.value)
    }
}

impl<T> Writer<T> {
    /// Walks the list at task level: nobody removes meanwhile.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { link: &self.links.head }
    }

    /// Adds an entry in front.
    pub fn insert_front(&mut self, _: &Control, value: T) {
        link(&self.links.head, value);
    }

    /// Adds an entry at the end.
    pub fn insert_back(&mut self, cx: &Control, value: T) {
        self.insert_before(cx, |_| false, value);
    }

    /// Adds an entry in front of the first that `matches`; at the end if none does.
    pub fn insert_before(&mut self, _: &Control, matches: impl FnMut(&T) -> bool, value: T) {
        link(self.find(matches).0, value);
    }

    /// Adds an entry behind the first that `matches`. The value comes back if none does.
    pub fn insert_after(&mut self, _: &Control, matches: impl FnMut(&T) -> bool, value: T) -> Result<(), T> {
        match self.find(matches).1 {
            Some(entry) => {
                link(&entry.next, value);
                Ok(())
            }
            None => Err(value),
        }
    }

    /// Removes the first entry that `matches`: unpublishes it, waits until no CPU is in a turn that may have seen it
    /// (bounded by the slowest CPU's turn, spinning), frees the entry and hands back its value.
    pub fn remove(&mut self, _: &Control, matches: impl FnMut(&T) -> bool) -> Option<T> {
        let (link, entry) = self.find(matches);
        let next = entry?.next.load(Ordering::Relaxed);
        let removed = link.load(Ordering::Relaxed);
        // Release: a reader may learn of the entry behind by this store alone.
        link.store(next, Ordering::Release);
        let stamp = GRACE.retire();
        while !GRACE.elapsed(stamp) {
            spin_loop();
        }
        // SAFETY: from `Box::into_raw`, unpublished above, and the grace period is over: nobody else can reach it.
        let mut entry = unsafe { Box::from_raw(removed) };
        if cfg!(debug_assertions) {
            entry.next.store(core::ptr::without_provenance_mut(POISON), Ordering::Relaxed);
            // The heap may hand the memory out at once; the poison must be in it until then.
            core::hint::black_box(&mut entry);
        }
        Some(entry.value)
    }

    /// The link that points to the first entry that `matches`, and that entry; or the last link and none.
    fn find(&self, mut matches: impl FnMut(&T) -> bool) -> (&AtomicPtr<Entry<T>>, Option<&Entry<T>>) {
        let mut link = &self.links.head;
        // SAFETY: null or from `Box::into_raw`; only the writer frees, and it is borrowed here.
        while let Some(entry) = unsafe { link.load(Ordering::Relaxed).as_ref() } {
            if matches(&entry.value) {
                return (link, Some(entry));
            }
            link = &entry.next;
        }
        (link, None)
    }
}

/// Publishes a new entry at `at`, in front of what is there. The writer's.
fn link<T>(at: &AtomicPtr<Entry<T>>, value: T) {
    let entry = Box::new(Entry { next: AtomicPtr::new(at.load(Ordering::Relaxed)), value });
    at.store(Box::into_raw(entry), Ordering::Release);
}

impl<T> Drop for Links<T> {
    fn drop(&mut self) {
        let mut at = self.head.load(Ordering::Relaxed);
        while !at.is_null() {
            // SAFETY: from `Box::into_raw`; `&mut self` means that the last view and the writer are gone.
            let entry = unsafe { Box::from_raw(at) };
            at = entry.next.load(Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cpu::claim_any;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicBool;
    use std::vec::Vec;

    fn seen(list: &PsList<u32>) -> Vec<u32> {
        claim_any().unwrap().softint(|cx| list.iter(cx).copied().collect())
    }

    #[test]
    fn keeps_the_order_that_insertions_ask_for() {
        let (list, mut writer) = new();
        claim_any().unwrap().control(|cx| {
            writer.insert_back(cx, 3);
            writer.insert_front(cx, 1);
            writer.insert_before(cx, |&n| n == 3, 2);
            assert_eq!(writer.insert_after(cx, |&n| n == 3, 4), Ok(()));
            assert_eq!(writer.insert_after(cx, |&n| n == 9, 5), Err(5));
            writer.insert_before(cx, |&n| n == 9, 6);
        });
        assert_eq!(seen(&list), [1, 2, 3, 4, 6]);
        assert!(writer.iter().copied().eq([1, 2, 3, 4, 6]));
    }

    #[test]
    fn a_walk_goes_on_from_an_entry_that_is_removed_under_it() {
        let (list, mut writer) = new();
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| (0..4).for_each(|n| writer.insert_back(cx, n)));
        let (started, started_there) = std::sync::mpsc::channel();
        let removed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                claim_any().unwrap().softint(|cx| {
                    let mut walk = list.iter(cx);
                    assert_eq!((walk.next(), walk.next()), (Some(&0), Some(&1)));
                    started.send(()).unwrap();
                    // The writer has unlinked 1 and 2 or not; it cannot have freed them.
                    std::thread::sleep(core::time::Duration::from_millis(20));
                    assert!(!removed.load(Ordering::SeqCst));
                    let rest: Vec<_> = walk.copied().collect();
                    assert!(rest == [2, 3] || rest == [3], "{rest:?}");
                });
            });
            started_there.recv().unwrap();
            cpu.control(|cx| {
                assert_eq!(writer.remove(cx, |&n| n == 1), Some(1));
                removed.store(true, Ordering::SeqCst);
                assert_eq!(writer.remove(cx, |&n| n == 2), Some(2));
                assert_eq!(writer.remove(cx, |&n| n == 2), None);
            });
        });
        assert_eq!(seen(&list), [0, 3]);
    }

    #[test]
    fn entries_are_dropped_once_with_the_last_view() {
        let value = Arc::new(());
        let (list, mut writer) = new();
        claim_any().unwrap().control(|cx| {
            (0..3).for_each(|_| writer.insert_back(cx, value.clone()));
            drop(writer.remove(cx, |_| true));
        });
        assert_eq!(Arc::strong_count(&value), 3);
        drop(writer);
        assert_eq!(Arc::strong_count(&value), 3);
        drop(list);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_task_keeps_an_entry_by_a_counted_reference() {
        let (list, mut writer) = new();
        let mut cpu = claim_any().unwrap();
        cpu.control(|cx| writer.insert_back(cx, Arc::new(7)));
        let kept = cpu.task(|cx| cx.masked(|cx| list.iter(cx).next().cloned())).unwrap();
        cpu.control(|cx| drop(writer.remove(cx, |_| true)));
        assert_eq!(*kept, 7);
    }

    #[test]
    fn walks_see_whole_entries_in_order_while_others_come_and_go() {
        let (list, mut writer) = new();
        let stop = AtomicBool::new(false);
        let mut cpu = claim_any().unwrap();
        // Even entries stay; odd ones come and go.
        cpu.control(|cx| (0..16).step_by(2).for_each(|n| writer.insert_back(cx, std::vec![n; 8])));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut cpu = claim_any().unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        cpu.softint(|cx| {
                            let walk: Vec<u32> = list
                                .iter(cx)
                                .inspect(|entry| assert!(entry.iter().all(|&n| n == entry[0])))
                                .map(|entry| entry[0])
                                .collect();
                            assert!(walk.is_sorted_by(|a, b| a < b), "{walk:?}");
                            assert_eq!(walk.iter().filter(|n| **n % 2 == 0).count(), 8, "{walk:?}");
                        });
                        std::thread::yield_now();
                    }
                });
            }
            for turn in 0..if cfg!(miri) { 20 } else { 1_000 } {
                let n = turn * 2 % 16 + 1;
                cpu.control(|cx| {
                    writer.insert_before(cx, |entry| entry[0] > n, std::vec![n; 8]);
                    assert!(writer.remove(cx, |entry| entry[0] == n).is_some());
                });
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[derive(Clone, Debug)]
    enum Op {
        Front(u32),
        Back(u32),
        Before(u32, u32),
        After(u32, u32),
        Remove(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        let n = 0..12_u32;
        prop_oneof![
            n.clone().prop_map(Op::Front),
            n.clone().prop_map(Op::Back),
            (n.clone(), n.clone()).prop_map(|(at, n)| Op::Before(at, n)),
            (n.clone(), n.clone()).prop_map(|(at, n)| Op::After(at, n)),
            n.prop_map(Op::Remove),
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_vector_does(ops in prop::collection::vec(op(), 0..60)) {
            let (list, mut writer) = new();
            let mut like = Vec::new();
            let mut cpu = claim_any().unwrap();
            for op in ops {
                cpu.control(|cx| match op {
                    Op::Front(n) => {
                        writer.insert_front(cx, n);
                        like.insert(0, n);
                    }
                    Op::Back(n) => {
                        writer.insert_back(cx, n);
                        like.push(n);
                    }
                    Op::Before(at, n) => {
                        writer.insert_before(cx, |&x| x == at, n);
                        like.insert(like.iter().position(|&x| x == at).unwrap_or(like.len()), n);
                    }
                    Op::After(at, n) => {
                        let found = like.iter().position(|&x| x == at);
                        let expected = found.map(|i| like.insert(i + 1, n)).ok_or(n);
                        assert_eq!(writer.insert_after(cx, |&x| x == at, n), expected);
                    }
                    Op::Remove(n) => {
                        let expected = like.iter().position(|&x| x == n).map(|i| like.remove(i));
                        assert_eq!(writer.remove(cx, |&x| x == n), expected);
                    }
                });
                let walk: Vec<u32> = cpu.softint(|cx| list.iter(cx).copied().collect());
                prop_assert_eq!(&walk, &like);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::cpu::Cpu;
    use crate::models::{Tracked, bounded};
    use loom::thread;
    use std::vec::Vec;

    /// A list of 1, …, `n`; while one reader walks it, `change` happens. Returns what the walk saw.
    fn walk_during(n: u32, change: impl FnOnce(&mut Writer<Tracked>, &Control)) -> Vec<u32> {
        let (list, mut writer) = new();
        let mut cpu = Cpu::of_model(1);
        cpu.control(|cx| (1..=n).for_each(|n| writer.insert_back(cx, Tracked::new(n))));
        let reader = thread::spawn(move || {
            Cpu::of_model(0).softint(|cx| list.iter(cx).map(Tracked::get).collect::<Vec<_>>())
        });
        cpu.control(|cx| change(&mut writer, cx));
        reader.join().unwrap()
    }

    fn remove(writer: &mut Writer<Tracked>, cx: &Control, n: u32) {
        // Drops the value: loom fails the model if a reader's access does not come before.
        assert!(writer.remove(cx, |entry| entry.get() == n).is_some());
    }

    #[test]
    fn removal_waits_for_the_walk() {
        bounded("pslist: remove the middle of three under a walk", Some(3), || {
            let seen = walk_during(3, |writer, cx| remove(writer, cx, 2));
            assert!(seen == [1, 2, 3] || seen == [1, 3], "{seen:?}");
        });
    }

    #[test]
    fn removal_of_neighbours_leaves_a_way_on() {
        bounded("pslist: remove two neighbours under a walk", Some(3), || {
            let seen = walk_during(3, |writer, cx| {
                remove(writer, cx, 1);
                remove(writer, cx, 2);
            });
            assert!([&[1, 2, 3][..], &[2, 3], &[3], &[1, 3]].contains(&&seen[..]), "{seen:?}");
        });
    }

    #[test]
    fn an_entry_learnt_of_by_a_removal_is_whole() {
        bounded("pslist: insert behind an entry, remove that one", Some(3), || {
            let seen = walk_during(1, |writer, cx| {
                writer.insert_back(cx, Tracked::new(2));
                remove(writer, cx, 1);
            });
            assert!([&[1, 2][..], &[1], &[2]].contains(&&seen[..]), "{seen:?}");
        });
    }

    #[test]
    fn an_entry_is_whole_when_it_is_seen() {
        bounded("pslist: insert in front and between under a walk", None, || {
            let seen = walk_during(1, |writer, cx| {
                writer.insert_front(cx, Tracked::new(0));
                writer.insert_before(cx, |entry| entry.get() == 1, Tracked::new(5));
            });
            assert!([&[1][..], &[0, 1], &[0, 5, 1]].contains(&&seen[..]), "{seen:?}");
        });
    }
}
