//! The way through a filter's tests, without those that earlier ones decide.

use super::table::{Id, Key, Table};
use super::value::{Compare, Inverted, Test, With};
use alloc::vec;
use alloc::vec::Vec;

/// What is or is not so of a packet.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Constant(bool),
    Test(Id),
    Not(Id),
    Both(Id, Id),
    Either(Id, Id),
}

/// Conditions, each made of earlier ones, and their tests.
pub(super) struct Conditions {
    all: Vec<Condition>,
    tests: Table<Test>,
}

impl Conditions {
    pub(super) fn new() -> Self {
        Self { all: Vec::new(), tests: Table::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    #[inline(never)]
    fn push(&mut self, condition: Condition) -> Id {
        self.all.push(condition);
        self.all.len() as Id - 1
    }

    pub(super) fn constant(&mut self, holds: bool) -> Id {
        self.push(Condition::Constant(holds))
    }

    pub(super) fn test(&mut self, (test, inverted): (Test, Inverted)) -> Id {
        let test = self.tests.add(test);
        let condition = self.push(Condition::Test(test));
        if inverted == Inverted::Yes { self.not(condition) } else { condition }
    }

    pub(super) fn not(&mut self, condition: Id) -> Id {
        self.push(Condition::Not(condition))
    }

    /// First `a`, then `b`.
    pub(super) fn both(&mut self, a: Id, b: Id) -> Id {
        self.push(Condition::Both(a, b))
    }

    /// First `a`, then `b`.
    pub(super) fn either(&mut self, a: Id, b: Id) -> Id {
        self.push(Condition::Either(a, b))
    }
}

/// Where packets that do not match end.
pub(super) const REJECT: Id = 0;
/// Where those that match do.
pub(super) const ACCEPT: Id = 1;
/// The first place with a test.
const FIRST: Id = 2;

/// A test and where it leads: to places with lower numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    test: Id,
    yes: Id,
    no: Id,
}

impl Key for Place {
    fn key(&self) -> [u32; 4] {
        [self.test, self.yes, self.no, 0]
    }
}

/// A decision graph.
pub(super) struct Graph {
    tests: Vec<Test>,
    places: Table<Place>,
    pub(super) root: Id,
}

/// Steps that shortening a graph takes at most: it stays right, if longer, where they do not suffice.
const BUDGET: usize = 8_000_000;
/// Tests that an edge is led past in one round at most.
const STRIDE: usize = 32;
/// As many times shortening is tried again where it got somewhere.
pub(super) const ROUNDS: usize = 24;

impl Graph {
    pub(super) fn build(conditions: &Conditions, root: Id, rounds: usize) -> Self {
        let tests = (0..conditions.tests.len() as Id).map(|id| conditions.tests.get(id)).collect();
        let mut graph = Self { tests, places: Table::new(), root: REJECT };
        graph.root = graph.link(conditions, root, ACCEPT, REJECT);
        let mut budget = BUDGET;
        let mut grouped = false;
        for _ in 0..rounds {
            let (before, root) = (graph.places.len(), graph.root);
            let shortened = graph.shorten(&mut budget);
            if budget == 0 {
                break;
            }
            if !shortened && (before, root) == (graph.places.len(), graph.root) {
                if core::mem::replace(&mut grouped, true) {
                    break;
                }
                graph.group();
            }
        }
        graph
    }

    /// How many numbers places have.
    pub(super) fn len(&self) -> usize {
        self.places.len() + FIRST as usize
    }

    /// The test at a place and where it leads; nothing where a packet ends.
    pub(super) fn at(&self, place: Id) -> Option<(Test, Id, Id)> {
        let place = self.places.get(place.checked_sub(FIRST)?);
        Some((self.tests[place.test as usize], place.yes, place.no))
    }

    fn place(&self, place: Id) -> Option<Place> {
        Some(self.places.get(place.checked_sub(FIRST)?))
    }

    /// The place from which packets go to `yes` or `no`. Chains lean to the left: only what is in parentheses recurses.
    fn link(&mut self, conditions: &Conditions, mut condition: Id, mut yes: Id, mut no: Id) -> Id {
        loop {
            match conditions.all[condition as usize] {
                Condition::Constant(holds) => return if holds { yes } else { no },
                Condition::Test(test) => return self.add(Place { test, yes, no }),
                Condition::Not(other) => {
                    (yes, no) = (no, yes);
                    condition = other;
                }
                Condition::Both(a, b) => {
                    yes = self.link(conditions, b, yes, no);
                    condition = a;
                }
                Condition::Either(a, b) => {
                    no = self.link(conditions, b, yes, no);
                    condition = a;
                }
            }
        }
    }

    fn add(&mut self, place: Place) -> Id {
        if place.yes == place.no { place.yes } else { self.places.add(place) + FIRST }
    }

    /// Leads every edge past the tests that are decided on all ways to it; whether any was.
    fn shorten(&mut self, budget: &mut usize) -> bool {
        let Some(tree) = self.dominators(budget) else { return false };
        let mut places: Vec<Option<Place>> = (0..self.len() as Id).map(|id| self.place(id)).collect();
        let mut facts = Facts::new(&self.tests);
        let mut changed = false;
        // A place and what was known before it; a place whose subtree is done is taken off with its facts.
        let mut stack: Vec<(Id, Option<usize>)> = vec![(self.root, None)];
        while let Some((id, entered)) = stack.pop() {
            if let Some(mark) = entered {
                facts.forget(mark);
                continue;
            }
            let mark = facts.mark();
            stack.push((id, Some(mark)));
            let Some(mut place) = places[id as usize] else { continue };
            if let Some((test, outcome)) = tree.on_entry[id as usize] {
                facts.learn(test, outcome);
            }
            for outcome in [true, false] {
                let mark = facts.mark();
                facts.learn(place.test, outcome);
                let edge = if outcome { &mut place.yes } else { &mut place.no };
                // The next round goes on from where the edges of the place reached lead then: far, in few rounds.
                for _ in 0..STRIDE {
                    let Some(next) = self.place(*edge) else { break };
                    let Some(decided) = facts.decide(next.test) else { break };
                    *edge = if decided { next.yes } else { next.no };
                    *budget = budget.saturating_sub(1);
                    changed = true;
                }
                facts.forget(mark);
            }
            places[id as usize] = Some(place);
            let mut child = tree.first[id as usize];
            while let Some(one) = child {
                stack.push((one, None));
                child = tree.next[one as usize];
            }
        }
        self.rebuild(&places, &tree.reached);
        changed
    }

    /// Of tests of which one must hold, or all, puts those of one value together: it is loaded once for all.
    fn group(&mut self) {
        let count = self.len();
        let mut places: Vec<Option<Place>> = (0..count as Id).map(|id| self.place(id)).collect();
        let mut ways = vec![0u32; count];
        for place in places.iter().flatten() {
            ways[place.yes as usize] += 1;
            ways[place.no as usize] += 1;
        }
        let values = self.tests.iter().map(|test| test.value as usize + 1).max().unwrap_or(0);
        let mut group_of: Vec<Option<usize>> = vec![None; values];
        for outcome in [true, false] {
            let ends = |place: Place| if outcome { (place.yes, place.no) } else { (place.no, place.yes) };
            let mut done = vec![false; count];
            for id in (FIRST..count as Id).rev() {
                let mut chain = Vec::new();
                let (mut next, mut end) = (id, None);
                while let Some(place) = places[next as usize]
                    && !done[next as usize]
                    && end.is_none_or(|end| end == ends(place).0 && ways[next as usize] == 1)
                {
                    done[next as usize] = true;
                    chain.push((next, place.test));
                    (end, next) = (Some(ends(place).0), ends(place).1);
                }
                let mut groups: Vec<Vec<Id>> = Vec::new();
                for &(_, test) in &chain {
                    let value = self.tests[test as usize].value as usize;
                    let group = *group_of[value].get_or_insert(groups.len());
                    if group == groups.len() {
                        groups.push(Vec::new());
                    }
                    groups[group].push(test);
                }
                for test in groups.iter().flatten() {
                    group_of[self.tests[*test as usize].value as usize] = None;
                }
                let tests = groups.into_iter().flatten();
                for ((id, _), test) in chain.into_iter().zip(tests) {
                    if let Some(place) = &mut places[id as usize] {
                        place.test = test;
                    }
                }
            }
        }
        let reached = vec![true; count];
        self.rebuild(&places, &reached);
    }

    /// Which place all ways to a place lead through.
    fn dominators(&self, budget: &mut usize) -> Option<Tree> {
        let count = self.len();
        let mut above: Vec<Option<Id>> = vec![None; count];
        let mut ways = vec![0u32; count];
        let mut tree = Tree {
            on_entry: vec![None; count],
            first: vec![None; count],
            next: vec![None; count],
            reached: vec![false; count],
        };
        tree.reached[self.root as usize] = true;
        for id in (FIRST..count as Id).rev() {
            if !tree.reached[id as usize] {
                continue;
            }
            let Some(place) = self.place(id) else { continue };
            if let Some(parent) = above[id as usize] {
                tree.next[id as usize] = tree.first[parent as usize].replace(id);
            }
            if ways[id as usize] != 1 {
                tree.on_entry[id as usize] = None;
            }
            for (outcome, child) in [(true, place.yes), (false, place.no)] {
                tree.reached[child as usize] = true;
                // Of ends nothing need be known.
                if child < FIRST {
                    continue;
                }
                let slot = child as usize;
                ways[slot] += 1;
                tree.on_entry[slot] = Some((place.test, outcome));
                let Some(mut a) = above[slot] else {
                    above[slot] = Some(id);
                    continue;
                };
                let mut b = id;
                while a != b {
                    *budget = budget.checked_sub(1)?;
                    let lower = if a < b { &mut a } else { &mut b };
                    *lower = above[*lower as usize]?;
                }
                above[slot] = Some(a);
            }
        }
        Some(tree)
    }

    /// Numbers the places that are left anew, equal ones once.
    fn rebuild(&mut self, places: &[Option<Place>], reached: &[bool]) {
        let mut new: Vec<Id> = vec![REJECT, ACCEPT];
        self.places = Table::new();
        for (place, reached) in places.iter().zip(reached).skip(FIRST as usize) {
            let id = match place {
                Some(place) if *reached => {
                    let (yes, no) = (new[place.yes as usize], new[place.no as usize]);
                    self.add(Place { yes, no, ..*place })
                }
                _ => REJECT,
            };
            new.push(id);
        }
        self.root = new[self.root as usize];
    }
}

/// The tree of dominators, by place.
struct Tree {
    /// The test that the one way to this place comes from, and its outcome.
    on_entry: Vec<Option<(Id, bool)>>,
    first: Vec<Option<Id>>,
    next: Vec<Option<Id>>,
    reached: Vec<bool>,
}

/// What is known on a way.
struct Facts<'a> {
    tests: &'a [Test],
    outcomes: Vec<Option<bool>>,
    /// The least and the most that a value can be.
    ranges: Vec<(u32, u32)>,
    /// What was known before, in the order it changed.
    log: Vec<(Id, Option<bool>, (u32, u32))>,
}

impl<'a> Facts<'a> {
    fn new(tests: &'a [Test]) -> Self {
        let values = tests.iter().map(|test| test.value as usize + 1).max().unwrap_or(0);
        let ranges = vec![(0, u32::MAX); values];
        Self { tests, outcomes: vec![None; tests.len()], ranges, log: Vec::new() }
    }

    fn mark(&self) -> usize {
        self.log.len()
    }

    fn forget(&mut self, mark: usize) {
        while self.log.len() > mark
            && let Some((test, outcome, range)) = self.log.pop()
        {
            self.outcomes[test as usize] = outcome;
            self.ranges[self.tests[test as usize].value as usize] = range;
        }
    }

    fn learn(&mut self, id: Id, outcome: bool) {
        let test = self.tests[id as usize];
        let range = &mut self.ranges[test.value as usize];
        self.log.push((id, self.outcomes[id as usize].replace(outcome), *range));
        let With::Constant(k) = test.with else { return };
        let (low, high) = range;
        match (test.compare, outcome) {
            (Compare::Equal, true) => (*low, *high) = (k, k),
            (Compare::Equal, false) if *low == k => *low = low.saturating_add(1),
            (Compare::Equal, false) if *high == k => *high = high.saturating_sub(1),
            (Compare::Greater, true) => *low = (*low).max(k.saturating_add(1)),
            (Compare::Greater, false) => *high = (*high).min(k),
            (Compare::GreaterOrEqual, true) => *low = (*low).max(k),
            (Compare::GreaterOrEqual, false) => *high = (*high).min(k.saturating_sub(1)),
            _ => {}
        }
    }

    /// The outcome of a test, if it is known.
    fn decide(&self, id: Id) -> Option<bool> {
        if let Some(outcome) = self.outcomes[id as usize] {
            return Some(outcome);
        }
        let test = self.tests[id as usize];
        let With::Constant(k) = test.with else { return None };
        let (low, high) = self.ranges[test.value as usize];
        let (at_low, at_high) = (test.compare.holds(low, k), test.compare.holds(high, k));
        let decided = match test.compare {
            Compare::Equal => low == high || k < low || k > high,
            Compare::Greater | Compare::GreaterOrEqual => at_low == at_high,
            Compare::Set => low == high,
        };
        // Of a value that was never loaded nothing is known but its width.
        (decided && (low, high) != (0, u32::MAX)).then_some(at_low)
    }
}
