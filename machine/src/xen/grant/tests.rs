use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const BACKEND: DomId = DomId(3);

fn page() -> Region {
    Region::new(4096, 4096).unwrap()
}

#[test]
fn a_grant_is_for_one_domain_until_it_is_dropped() {
    let (table, page) = (Table::simulated(1), page());
    assert_eq!((table.entries(), table.in_use()), (504, 0));
    let grant = table.grant(BACKEND, page.addr(), Access::ReadWrite).unwrap();
    let reference = grant.reference();
    assert!(reference >= RESERVED as u32);
    assert_eq!(table.resolve(reference, BACKEND), Some((page.addr(), true)));
    assert_eq!(table.resolve(reference, DomId(0)), None);
    assert_eq!(table.resolve(reference + 1, BACKEND), None);
    assert_eq!(table.resolve(u32::MAX, BACKEND), None);
    assert_eq!(table.in_use(), 1);
    drop(grant);
    assert_eq!((table.resolve(reference, BACKEND), table.in_use(), table.limbo()), (None, 0, 0));
}

#[test]
fn a_read_only_grant_cannot_be_written() {
    let (table, page) = (Table::simulated(1), page());
    let grant = table.grant(BACKEND, page.addr(), Access::ReadOnly).unwrap();
    assert_eq!(table.resolve(grant.reference(), BACKEND), Some((page.addr(), false)));
    page.copy_in(100, b"weir");
    let mut seen = [0; 4];
    assert!(table.peer_read(grant.reference(), BACKEND, 100, &mut seen));
    assert_eq!(&seen, b"weir");
    assert!(!table.peer_write(grant.reference(), BACKEND, 100, b"evil"));
    assert!(!table.peer_read(grant.reference(), DomId(9), 100, &mut seen));
    assert_eq!(page.read_u8(100), b'w');
}

#[test]
fn a_page_is_zeroed_and_shared() {
    let table = Table::simulated(1);
    let page = Page::new(table, BACKEND, Access::ReadWrite).unwrap();
    let mut seen = [1; 4096];
    assert!(table.peer_read(page.reference(), BACKEND, 0, &mut seen));
    assert_eq!(seen, [0; 4096]);
    assert!(table.peer_write(page.reference(), BACKEND, 4092, b"back"));
    assert_eq!(page.region().read_u32(4092).to_le_bytes(), *b"back");
}

#[test]
fn what_the_peer_still_maps_waits_until_it_lets_go() {
    let table = Table::simulated(1);
    let page = Page::new(table, BACKEND, Access::ReadWrite).unwrap();
    let (reference, addr) = (page.reference(), page.region().addr());
    assert_eq!(table.map(reference, BACKEND), Some((addr, true)));
    assert_eq!(table.map(reference, BACKEND), Some((addr, true)));
    drop(page);
    assert_eq!((table.in_use(), table.limbo()), (1, 1));
    assert_eq!(table.retry(), 1);
    table.unmap(reference);
    assert_eq!(table.retry(), 1);
    // Still a valid page of ours for the peer, and nobody else's.
    assert_eq!(table.resolve(reference, BACKEND), Some((addr, true)));
    table.unmap(reference);
    assert_eq!(table.retry(), 0);
    assert_eq!((table.in_use(), table.limbo(), table.resolve(reference, BACKEND)), (0, 0, None));
}

#[test]
fn a_full_table_says_so_and_looks_into_limbo_first() {
    let (table, page) = (Table::simulated(1), page());
    let mut grants: Vec<Grant> =
        std::iter::from_fn(|| table.grant(BACKEND, page.addr(), Access::ReadOnly).ok()).collect();
    assert_eq!((grants.len(), table.in_use()), (504, 504));
    assert_eq!(Page::new(table, BACKEND, Access::ReadOnly).map(|page| page.reference()), Err(Exhausted));
    let mapped = grants.pop().unwrap();
    let reference = mapped.reference();
    table.map(reference, BACKEND);
    drop(mapped);
    assert!(table.grant(BACKEND, page.addr(), Access::ReadOnly).is_err());
    table.unmap(reference);
    assert_eq!(table.grant(BACKEND, page.addr(), Access::ReadOnly).unwrap().reference(), reference);
}

#[test]
#[should_panic = "is not a page's"]
fn only_whole_pages_are_lent() {
    let _ = Table::simulated(1).grant(BACKEND, 4097, Access::ReadOnly);
}

#[test]
fn an_arena_is_lent_whole_if_the_table_affords_it() {
    let (table, arena) = (Table::simulated(1), Region::new(40 * 4096 + 100, 4096).unwrap());
    let lent = Lent::new(table, BACKEND, arena.addr(), arena.len() as u64);
    assert_eq!((lent.to(), lent.pages(), table.in_use()), (BACKEND, 40, 40));
    for page in 0..40 {
        let addr = arena.addr() + page * 4096;
        let reference = lent.reference_of(addr + 77).unwrap();
        assert_eq!(table.resolve(reference, BACKEND), Some((addr, true)));
        assert_eq!(lent.reference_of(addr + 4095), Some(reference));
    }
    let outside = [0, arena.addr() - 1, arena.addr() + 40 * 4096, u64::MAX];
    assert_eq!(outside.map(|addr| lent.reference_of(addr)), [None; 4]);
    let first = lent.reference_of(arena.addr()).unwrap();
    drop(lent);
    assert_eq!((table.in_use(), table.resolve(first, BACKEND)), (0, None));
}

#[test]
fn a_quarter_of_the_table_stays_free() {
    let (table, arena) = (Table::simulated(1), Region::stale(600 * 4096, 4096).unwrap());
    let page = Page::new(table, BACKEND, Access::ReadOnly).unwrap();
    let lent = Lent::new(table, BACKEND, arena.addr(), arena.len() as u64);
    assert_eq!(lent.pages(), 504 - 126 - 1);
    let last = arena.addr() + (lent.pages() as u64 - 1) * 4096;
    assert!(lent.reference_of(last).is_some() && lent.reference_of(last + 4096).is_none());
    let nothing = Lent::new(table, DomId(4), arena.addr(), arena.len() as u64);
    assert_eq!((nothing.pages(), nothing.reference_of(arena.addr())), (0, None));
    drop((page, nothing, lent));
    assert_eq!(table.in_use(), 0);
}

#[test]
fn two_cpus_and_a_peer_at_work_lose_no_entry() {
    let table = Table::simulated(1);
    std::thread::scope(|scope| {
        for domain in [1, 2].map(DomId) {
            scope.spawn(move || {
                for _ in 0..500 {
                    let page = Page::new(table, domain, Access::ReadWrite).unwrap();
                    let reference = page.reference();
                    table.map(reference, domain).unwrap();
                    assert_eq!(table.resolve(reference, DomId(3 - domain.0)), None);
                    drop(page);
                    table.unmap(reference);
                    table.retry();
                }
            });
        }
    });
    assert_eq!((table.retry(), table.in_use()), (0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    New(u8, bool),
    Map(usize),
    Unmap(usize),
    Drop(usize),
    Retry,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8, any::<bool>()).prop_map(|(domain, writable)| Step::New(domain, writable)),
        3 => any::<usize>().prop_map(Step::Map),
        2 => any::<usize>().prop_map(Step::Unmap),
        3 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Retry),
    ]
}

/// A page the test knows of: whose it is, whether we still hold it, how often it is mapped.
struct Known {
    domain: DomId,
    addr: u64,
    page: Option<Page>,
    maps: u32,
}

fn pick(known: &BTreeMap<u32, Known>, number: usize) -> Option<u32> {
    known.keys().nth(number.checked_rem(known.len())?).copied()
}

proptest! {
    #[test]
    fn no_reference_is_valid_for_a_page_that_was_freed(steps in vec(step(), 1..120)) {
        let table = Table::simulated(1);
        let mut known = BTreeMap::<u32, Known>::new();
        for step in steps {
            match step {
                Step::New(domain, writable) => {
                    let (domain, access) = (DomId(domain.into()), [Access::ReadOnly, Access::ReadWrite][usize::from(writable)]);
                    let page = Page::new(table, domain, access).unwrap();
                    prop_assert!((0..4096).all(|offset| page.region().read_u8(offset) == 0));
                    page.region().write_u8(17, 0xaa);
                    let addr = page.region().addr();
                    // No other page that a peer may still reach lies there.
                    prop_assert!(known.values().all(|other| other.addr != addr));
                    let taken = known.insert(page.reference(), Known { domain, addr, page: Some(page), maps: 0 });
                    prop_assert!(taken.is_none(), "a reference in use was handed out");
                }
                Step::Map(number) => {
                    let Some(reference) = pick(&known, number) else { continue };
                    let entry = known.get_mut(&reference).unwrap();
                    prop_assert_eq!(table.map(reference, entry.domain).map(|(addr, _)| addr), Some(entry.addr));
                    entry.maps += 1;
                }
                Step::Unmap(number) => {
                    let Some(reference) = pick(&known, number) else { continue };
                    let entry = known.get_mut(&reference).unwrap();
                    if entry.maps > 0 {
                        table.unmap(reference);
                        entry.maps -= 1;
                    }
                }
                Step::Drop(number) => {
                    let Some(reference) = pick(&known, number) else { continue };
                    let entry = known.get_mut(&reference).unwrap();
                    entry.page = None;
                    if entry.maps == 0 && table.resolve(reference, entry.domain).is_none() {
                        known.remove(&reference);
                    }
                }
                Step::Retry => {
                    let left = table.retry();
                    known.retain(|_, entry| entry.page.is_some() || entry.maps > 0);
                    prop_assert_eq!(left, known.values().filter(|entry| entry.page.is_none()).count());
                }
            }
            let valid: HashMap<u32, u64> = (0..512)
                .flat_map(|reference| (0..3).map(move |domain| (reference, DomId(domain))))
                .filter_map(|(reference, domain)| Some((reference, table.resolve(reference, domain)?.0)))
                .collect();
            let expected: HashMap<u32, u64> = known.iter().map(|(&reference, entry)| (reference, entry.addr)).collect();
            prop_assert_eq!(valid, expected);
            prop_assert_eq!(table.in_use(), known.len());
        }
    }
}
