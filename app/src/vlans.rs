//! Interfaces on VLANs: which index each has, and its statistics. Task level.

use crate::config::{Attachment, Config};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_netif::{IfCounters, IfIndex};

/// First index of interfaces on VLANs; those below are ports.
pub const FIRST: usize = crate::config::MAX_DEVICES;
/// Twice as many as there can be: the next configuration has free ones for all of its own, so that none is used by two
/// interfaces at once.
const INDICES: usize = 2 * crate::config::MAX_INTERFACES;
/// Indices of interfaces there can be.
pub const MAX_INDICES: usize = FIRST + INDICES;

/// An interface on a VLAN. It keeps index and statistics for as long as it and its device are there.
#[derive(Clone, Debug)]
pub struct Vlan {
    /// The interface's place in the snapshot's table.
    pub index: IfIndex,
    /// The port that it is on.
    pub port: IfIndex,
    /// The VLAN's number.
    pub id: u16,
    /// Its statistics.
    pub counters: Arc<IfCounters>,
}

/// Gives interfaces on VLANs their indices.
#[derive(Debug, Default)]
pub struct Indices {
    /// How many were given.
    given: usize,
}

impl Indices {
    /// What `config` has on VLANs, after `before`. `ports` are those of its interfaces, in its order. An index that is free
    /// again is the last to be used: frames that are on their way to another CPU name it still.
    pub fn follow(&mut self, config: &Config, ports: &[Option<usize>], before: &[Vlan]) -> Vec<Vlan> {
        let mut after: Vec<Vlan> = Vec::new();
        for wish in &config.interfaces {
            let Attachment::Vlan { parent, id } = wish.attachment else { continue };
            let Some(port) = ports.get(parent).copied().flatten().map(|port| IfIndex(port as u16)) else {
                continue;
            };
            let kept = before.iter().find(|vlan| (vlan.port, vlan.id) == (port, id));
            let vlan = kept.cloned().or_else(|| {
                let taken = |index| before.iter().chain(&after).any(|vlan| vlan.index == index);
                let index = (0..INDICES)
                    .map(|step| IfIndex((FIRST + (self.given + step) % INDICES) as u16))
                    .find(|&index| !taken(index))?;
                self.given = index.index() - FIRST + 1;
                Some(Vlan { index, port, id, counters: Arc::default() })
            });
            after.extend(vlan);
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::format;

    fn config(vlans: impl Iterator<Item = u16>) -> Config {
        let mut text = std::string::String::from("[interface.wan]\nmatch.port = 0\n");
        vlans.for_each(|id| text += &format!("[interface.v{id}]\nparent = \"wan\"\nvlan = {id}\n"));
        Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn follow(indices: &mut Indices, config: &Config, before: &[Vlan]) -> Vec<Vlan> {
        let mut ports = std::vec![None; config.interfaces.len()];
        ports[0] = Some(3);
        indices.follow(config, &ports, before)
    }

    #[test]
    fn what_stays_keeps_its_index_and_what_comes_gets_one_that_nobody_has() {
        let mut indices = Indices::default();
        let mut before: Vec<Vlan> = Vec::new();
        let most = crate::config::MAX_INTERFACES as u16 - 1;
        for round in 0..20u16 {
            // Half of them stay at times, and none at others.
            let first = 1 + round * most / (1 + round % 2);
            let after = follow(&mut indices, &config((first..first + most).map(|id| id % 4094 + 1)), &before);
            assert_eq!(after.len(), usize::from(most));
            for vlan in &after {
                let had = before.iter().find(|old| old.id == vlan.id);
                assert!(
                    had.is_none_or(
                        |old| old.index == vlan.index && Arc::ptr_eq(&old.counters, &vlan.counters)
                    )
                );
                assert!(had.is_some() || before.iter().all(|old| old.index != vlan.index));
                assert!((FIRST..MAX_INDICES).contains(&vlan.index.index()) && vlan.port == IfIndex(3));
            }
            let all: BTreeSet<_> = after.iter().map(|vlan| vlan.index).collect();
            assert_eq!(all.len(), after.len());
            before = after;
        }
    }

    #[test]
    fn an_index_is_not_used_again_soon() {
        let mut indices = Indices::default();
        let mut seen = BTreeSet::new();
        for _ in 0..INDICES / 2 {
            for id in [10, 20] {
                let vlans = follow(&mut indices, &config([id].into_iter()), &[]);
                assert!(seen.insert(vlans[0].index));
            }
        }
        assert_eq!(seen.len(), INDICES);
        assert!(!seen.insert(follow(&mut indices, &config([10].into_iter()), &[])[0].index));
    }

    #[test]
    fn without_its_device_it_is_not_there() {
        let config = config([10].into_iter());
        assert!(Indices::default().follow(&config, &[None, None], &[]).is_empty());
    }
}
