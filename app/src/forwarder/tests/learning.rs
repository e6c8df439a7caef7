//! What is learnt never stands in the way of what is learnt elsewhere, nor of a configuration.

use super::*;
use crate::clients::{Address, Learnt, LearntRoute, OnInterface};
use core::net::Ipv4Addr;
use weir_manage::model::AddressOrigin;
use weir_netstack::snapshot::Route;

fn lease(port: usize, net: &str, to: &str, via: &str) -> OnInterface {
    let origin = AddressOrigin::Dhcp;
    let address =
        Address { net: net.parse().unwrap(), origin, until_ms: Some(9), tentative: false, deprecated: false };
    let route = LearntRoute { to: to.parse().unwrap(), via: via.parse().ok(), metric: 0, origin };
    let name = format!("port{port}");
    OnInterface { addresses: [address].into(), routes: [route].into(), ..OnInterface::new(&name) }
}

impl Rig {
    fn learn(&mut self, interfaces: &[OnInterface]) {
        let Rig { interfaces: service, control, .. } = self;
        let heard = Learnt { interfaces: interfaces.into(), ..Learnt::default() };
        control.task(|cx| service.learn(cx, heard));
    }

    fn route(&mut self, to: [u8; 4]) -> Option<Route<Ipv4Addr>> {
        let Rig { shared, control, .. } = self;
        control.softint(|cx| shared.running.read(cx).snapshot.fib4().lookup(to.into()).copied())
    }
}

fn dhcp(ports: &[usize], routes: &[(&str, &str)]) -> Config {
    let all: Vec<_> = ports.iter().map(|&port| (port, "\"dhcp\"")).chain([(0, A)]).collect();
    config("off", &all, routes)
}

#[test]
fn a_router_with_an_address_of_ours_costs_its_route_alone() {
    let wires = (0..3).map(|port| sink(port, 1, |_, _| ())).collect();
    let mut rig = Rig::new(1, wires);
    rig.replace(&dhcp(&[1, 2], &[]));
    let good = lease(2, "198.51.100.7/24", "0.0.0.0/0", "198.51.100.1");
    for router in ["10.0.0.1", "10.0.0.255", "224.0.0.5"] {
        rig.learn(&[]);
        rig.learn(&[lease(1, "192.0.2.7/24", "0.0.0.0/0", router), good.clone()]);
        assert_eq!(rig.route([192, 0, 2, 7]), Some(Route::Local { interface: IfIndex(1) }), "{router}");
        let via = Ipv4Addr::new(198, 51, 100, 1);
        let default = Some(Route::Gateway { interface: IfIndex(2), via });
        assert_eq!(rig.route([203, 0, 113, 9]), default, "{router}");
        assert_eq!(rig.interfaces.learnt().on("port1").map(|on| on.routes.len()), Some(0), "{router}");
    }
    rig.finish(&[0, 1, 2]);
}

#[test]
fn no_lease_keeps_a_configuration_from_coming_back() {
    let wires = (0..2).map(|port| sink(port, 1, |_, _| ())).collect();
    let mut rig = Rig::new(1, wires);
    let before = dhcp(&[1], &[]);
    let trial = config("off", &[(1, "\"dhcp\"")], &[]);
    for (net, router) in [("192.0.2.7/24", "10.0.0.1"), ("10.0.0.7/8", "10.9.9.9")] {
        rig.replace(&before);
        rig.replace(&trial);
        rig.learn(&[lease(1, net, "0.0.0.0/0", router)]);
        assert!(matches!(rig.route([203, 0, 113, 9]), Some(Route::Gateway { .. })), "good beside the trial");
        rig.replace(&before);
        assert_eq!(rig.route([10, 0, 0, 1]), Some(Route::Local { interface: IfIndex(0) }));
        assert_eq!(rig.route([203, 0, 113, 9]), None);
        rig.learn(&[]);
    }
    // A route that leads to the lease's network in as many steps as there may be, and one more with what was learnt.
    let hop = |n: usize| format!("172.16.{n}.1");
    let to = |n: usize| format!("172.16.{n}.0/24");
    let depth = weir_netstack::snapshot::MAX_DEPTH;
    let mut chain: Vec<(String, String)> = (1..depth).map(|n| (to(n), hop(n + 1))).collect();
    chain.insert(0, ("203.0.113.0/24".into(), hop(1)));
    let chain: Vec<_> = chain.iter().map(|(to, via)| (&**to, &**via)).collect();
    rig.replace(&trial);
    rig.learn(&[lease(1, "192.0.2.7/32", "0.0.0.0/0", "192.0.2.1")]);
    rig.replace(&dhcp(&[1], &chain));
    assert_eq!(rig.route([192, 0, 2, 7]), Some(Route::Local { interface: IfIndex(1) }));
    assert_eq!(rig.interfaces.learnt().on("port1").map(|on| on.routes.len()), Some(0));
    rig.finish(&[0, 1]);
}

#[test]
fn connections_begin_from_a_preferred_address() {
    let mut rig = Rig::new(1, std::vec![sink(0, 1, |_, _| ())]);
    rig.replace(&config("off", &[(0, "\"auto\"")], &[]));
    let own = ["2001:db8:1::1/64", "2001:db8:2::1/64"];
    let origin = AddressOrigin::Auto;
    for (deprecated, wanted) in
        [([false, false], 0), ([true, false], 1), ([false, true], 0), ([true, true], 0)]
    {
        let address = |(net, deprecated): (&str, bool)| {
            let net = net.parse().unwrap();
            Address { net, origin, until_ms: None, tentative: false, deprecated }
        };
        let addresses = own.into_iter().zip(deprecated).map(address).collect();
        rig.learn(&[OnInterface { addresses, ..OnInterface::new("port0") }]);
        let Rig { shared, control, .. } = &mut rig;
        let source = control.softint(|cx| {
            let snapshot = &shared.running.read(cx).snapshot;
            snapshot.interface(IfIndex(0)).and_then(|port| port.source6("fe80::9".parse().unwrap()))
        });
        let wanted: ipnet::Ipv6Net = own[wanted].parse().unwrap();
        assert_eq!(source, Some(wanted.addr()), "{deprecated:?}");
    }
    rig.finish(&[0]);
}
