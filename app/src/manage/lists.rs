//! Routes, losses and neighbours, as lists of the model.

use super::View;
use crate::clients::{Learnt, METRIC};
use crate::config::{Config, NextHop, Reject, Target};
use crate::observe::losses;
use crate::shared::Shared;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use ipnet::IpNet;
use weir_machine::interrupt::MESSAGE;
use weir_machine::{dispatch, mask, task};
use weir_manage::model::{self, InterfaceLoss, NeighborState, RouteAction, RouteOrigin};
use weir_netif::IfIndex;
use weir_netstack::neighbor::State;
use weir_sync::CpuId;

/// A neighbour as one CPU knows it.
pub type Known = (IfIndex, IpAddr, State, [u8; 6]);
/// Neighbours that one CPU tells.
const TOLD: usize = 4096;
/// How often, and how many times, a CPU's answer is looked for.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: usize = 200;

/// Connected and static routes, in the configuration's order; `limit` from `offset` on.
pub(crate) fn routes(config: &Config, learnt: &Learnt, offset: usize, limit: usize) -> model::Routes {
    let connected: usize = config.interfaces.iter().map(|interface| 2 * interface.addresses.len()).sum();
    let heard = heard(config, learnt);
    let connected = connected + heard.len();
    let total = connected + config.routes.iter().map(|route| route.to.len()).sum::<usize>();
    let local = |net: &IpNet| IpNet::from(net.addr());
    let own = config.interfaces.iter().flat_map(move |interface| {
        let hop = || model::NextHop { via: None, interface: Some(interface.name.clone()), weight: 1 };
        let route = move |to: IpNet, action| model::Route {
            to: to.to_string(),
            action,
            origin: RouteOrigin::Connected,
            metric: 0,
            next_hops: [hop()].into(),
        };
        interface.addresses.iter().flat_map(move |net| {
            [route(local(net), RouteAction::Local), route(net.trunc(), RouteAction::Forward)]
        })
    });
    let mut list: Vec<model::Route> = own.chain(heard).skip(offset).take(limit).collect();
    let mut skip = offset.saturating_sub(connected);
    for route in &config.routes {
        let here = route.to.iter().skip(skip).take(limit - list.len());
        skip = skip.saturating_sub(route.to.len());
        let (action, next_hops) = target(config, &route.target);
        list.extend(here.map(|to| model::Route {
            to: to.to_string(),
            action,
            origin: RouteOrigin::Static,
            metric: route.metric,
            next_hops: next_hops.clone(),
        }));
        if list.len() >= limit {
            break;
        }
    }
    model::Routes { total: total as u64, offset: offset as u64, routes: list }
}

/// The routes that came with what was learnt.
fn heard(config: &Config, learnt: &Learnt) -> Vec<model::Route> {
    let mut all = Vec::new();
    for (place, interface) in (0..).zip(&config.interfaces) {
        let Some(on) = learnt.on(&interface.name) else { continue };
        let mut add = |to: IpNet, action, origin, metric, via: Option<IpAddr>| {
            let via = via.map(|via| via.to_string());
            let hop = model::NextHop { via, interface: Some(interface.name.clone()), weight: 1 };
            all.push(model::Route { to: to.to_string(), action, origin, metric, next_hops: [hop].into() });
        };
        for address in &on.addresses {
            add(IpNet::from(address.net.addr()), RouteAction::Local, RouteOrigin::Connected, 0, None);
            add(address.net.trunc(), RouteAction::Forward, RouteOrigin::Connected, 0, None);
        }
        for route in &on.routes {
            let metric = METRIC + route.metric + place;
            add(route.to, RouteAction::Forward, RouteOrigin::Learnt, metric, route.via);
        }
    }
    all
}

fn target(config: &Config, target: &Target) -> (RouteAction, Vec<model::NextHop>) {
    let hop = |hop: &NextHop| model::NextHop {
        via: hop.via.map(|via| via.to_string()),
        interface: hop.interface.and_then(|at| config.interfaces.get(at)).map(|own| own.name.clone()),
        weight: hop.weight.into(),
    };
    match target {
        Target::Forward(hops) => (RouteAction::Forward, hops.iter().map(hop).collect()),
        Target::Reject(Reject::Blackhole) => (RouteAction::Blackhole, Vec::new()),
        Target::Reject(Reject::Unreachable) => (RouteAction::Unreachable, Vec::new()),
        Target::Reject(Reject::Prohibit) => (RouteAction::Prohibit, Vec::new()),
    }
}

/// What was lost, by interface and reason.
pub(super) fn drops(view: &View) -> Vec<InterfaceLoss> {
    let named = view.interfaces.iter().filter_map(|interface| {
        Some((Some(interface.name.clone()), interface.device.as_ref()?.counters.totals()))
    });
    let row = |interface: Option<String>, totals| {
        let with = move |loss: model::Loss| InterfaceLoss {
            interface: interface.clone(),
            reason: loss.reason,
            packets: loss.packets,
        };
        losses(&totals).into_iter().map(with)
    };
    named.chain([(None, view.unconfigured.totals())]).flat_map(|(name, totals)| row(name, totals)).collect()
}

/// The neighbours that any CPU knows: each is asked, by message, and fills a list that it is given.
pub(super) async fn known(shared: &Shared, cpus: usize) -> Vec<Known> {
    let mut all: BTreeMap<(IfIndex, IpAddr), (State, [u8; 6])> = BTreeMap::new();
    for cpu in (0..cpus).filter_map(CpuId::new) {
        let census = shared.census.of(cpu);
        // One that was asked for by somebody who left.
        census.answer.pop();
        // If somebody else asks just now, that answer is as good.
        let _ = census.question.push(Vec::with_capacity(TOLD));
        dispatch::raise(cpu, MESSAGE);
        for _ in 0..LOOKS {
            let Some(told) = census.answer.pop() else {
                task::sleep(LOOK).await;
                continue;
            };
            for (interface, address, state, mac) in told {
                let known = all.entry((interface, address)).or_insert((state, mac));
                if certainty(state) > certainty(known.0) {
                    *known = (state, mac);
                }
            }
            break;
        }
    }
    all.into_iter().map(|((interface, address), (state, mac))| (interface, address, state, mac)).collect()
}

/// The same for people.
pub(super) async fn neighbors(shared: &Shared, cpus: usize) -> Vec<model::Neighbor> {
    let all = known(shared, cpus).await;
    let mut names: BTreeMap<IfIndex, String> = BTreeMap::new();
    mask::masked(|cx| {
        let interfaces = shared.running.read(cx).snapshot.interfaces();
        names.extend(interfaces.map(|interface| (interface.index, interface.name.clone())));
    });
    let row = |(interface, address, state, mac): Known| {
        Some(model::Neighbor {
            interface: names.get(&interface)?.clone(),
            address: address.to_string(),
            mac: (state != State::Incomplete).then(|| crate::observe::mac(mac)),
            state: match state {
                State::Incomplete => NeighborState::Incomplete,
                State::Reachable => NeighborState::Reachable,
                State::Stale => NeighborState::Stale,
                State::Delay => NeighborState::Delay,
                State::Probe => NeighborState::Probe,
            },
        })
    };
    all.into_iter().filter_map(row).collect()
}

/// The higher the surer: CPUs may know one neighbour differently.
fn certainty(state: State) -> u8 {
    match state {
        State::Incomplete => 0,
        State::Stale => 1,
        State::Probe => 2,
        State::Delay => 3,
        State::Reachable => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_come_some_at_a_time_and_none_is_missing() {
        let text = "[interface.wan]\nmatch.port = 0\naddresses = [\"192.0.2.1/24\"]\n\
                    [[route]]\nto = [\"10.0.0.0/8\", \"10.1.0.0/16\", \"10.2.0.0/16\"]\nvia = \"192.0.2.2\"\n\
                    [[route]]\nto = \"0.0.0.0/0\"\nreject = \"prohibit\"\n";
        let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
        let whole = routes(&config, &Learnt::default(), 0, 100);
        let all: Vec<_> = whole.routes.iter().map(|route| route.to.as_str()).collect();
        assert_eq!(
            all,
            ["192.0.2.1/32", "192.0.2.0/24", "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"]
        );
        assert_eq!((whole.total, whole.routes[5].action), (6, RouteAction::Prohibit));
        assert_eq!(whole.routes[4].next_hops[0].via.as_deref(), Some("192.0.2.2"));
        for size in 1..8 {
            let mut pieces = Vec::new();
            for offset in (0..6).step_by(size) {
                pieces.extend(routes(&config, &Learnt::default(), offset, size).routes);
            }
            assert_eq!(pieces, whole.routes, "{size} at a time");
        }
        assert!(
            routes(&config, &Learnt::default(), 6, 5).routes.is_empty()
                && routes(&config, &Learnt::default(), 0, 0).routes.is_empty()
        );
    }
}
