//! Devices meet configuration: which device is which interface, and the snapshot that follows.

use crate::clients::{Learnt, METRIC, OnInterface};
use crate::config::{Attachment, Config, Match, NextHop, ReversePathFilter, Route, Target};
use crate::config::{Interface as Wish, Reject};
use crate::observe::{DeviceStatus, InterfaceStatus, State, mac};
use crate::vlans::{Indices, Vlan};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ipnet::IpNet;
use weir_machine::{hermit, info, warn};
use weir_manage::model;
use weir_netif::{Device, DeviceInfo, Drop, IfCounters, IfIndex, Link};
use weir_netstack::address::link_local;
use weir_netstack::snapshot::{
    Advertise, Advertisement, Claim, InterfacePlan, LinkId, NextHop as Hop, ReversePath, RoutePlan,
    RouteTarget, State as Taking, VlanPlan, Weighted,
};
use weir_netstack::snapshot::{MIN_MTU4, MIN_MTU6};
use weir_netstack::{Conflict, Plan, Snapshot};
use weir_sync::Control;
use weir_virtio::net;

/// Finds out again what is at a device's place.
pub type Probe = Box<dyn Fn(&Control) -> Result<Box<dyn Device>, String>>;

/// A place with a network device: port *n* of the configuration, interface index *n* for good.
pub struct Bay {
    info: DeviceInfo,
    probe: Probe,
    /// The interface's statistics; they outlive attachments.
    counters: Arc<IfCounters>,
}

impl Bay {
    /// Probes the device a first time, to know what it is; it is not attached by that.
    ///
    /// # Errors
    /// Those of `probe`.
    pub fn new(cx: &Control, probe: Probe) -> Result<Self, String> {
        let info = probe(cx)?.info().clone();
        Ok(Self::known(info, probe))
    }

    /// Where it is known what is there: nothing is probed.
    pub fn known(info: DeviceInfo, probe: Probe) -> Self {
        Self { info, probe, counters: Arc::default() }
    }

    /// The device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(crate) fn probe(&self, cx: &Control) -> Result<Box<dyn Device>, String> {
        (self.probe)(cx)
    }

    pub(crate) fn counters(&self) -> Arc<IfCounters> {
        self.counters.clone()
    }
}

/// A device that serves a configured interface. `[C]` boot CPU, task level
pub struct Attached {
    /// The interface's place in the snapshot's table: its device's port number.
    pub interface: IfIndex,
    /// Which attachment this is; see [`Place`](crate::shared::Place).
    pub attachment: u32,
    /// Queue pairs it was split into.
    pub queues: u16,
    /// The interface's name.
    pub name: String,
    /// The device.
    pub device: Box<dyn Device>,
    /// Carrier, or what took it down.
    pub state: State,
    /// The interface's statistics.
    pub counters: Arc<IfCounters>,
    /// It was said that its frames come cut short.
    pub cuts_told: bool,
}

impl Attached {
    /// Says once, on uhyve, that frames came cut short, and what helps.
    pub fn tell_cuts(&mut self) {
        if self.cuts_told || !hermit::present() {
            return;
        }
        let totals = self.counters.totals();
        let cut = totals.dropped(Drop::Ipv4Truncated) + totals.dropped(Drop::Ipv6Truncated);
        if cut > 0 {
            self.cuts_told = true;
            warn!(
                "{}: {cut} packets came without their end and were dropped: uhyve 0.10 cuts frames at 1500 bytes; \
                 set the MTU of its TAP, and of all on that link, to {} or less",
                self.name,
                net::UHYVE_MTU
            );
        }
    }

    /// Looks after configuration changes of the device; whether its carrier or MTU changed.
    pub fn follow_link(&mut self, cx: &Control, broken: impl FnOnce(weir_netif::Fault)) -> bool {
        let State::Link(before) = self.state else { return false };
        let mtu = self.device.info().mtu;
        if let Err(fault) = self.device.service(cx) {
            broken(fault);
            return false;
        }
        let (now, new) = (self.device.link(cx), self.device.info().mtu);
        if now != before {
            self.state = State::Link(now);
            info!("{}: link {}", self.name, self.state);
        }
        if new != mtu {
            info!("{}: its device's MTU is {new} instead of {mtu}", self.name);
        }
        (now, new) != (before, mtu)
    }
}

/// What becomes of an interface whose device is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Absent {
    /// It is an error: the device cannot come later.
    #[default]
    Refused,
    /// It is left out until its device is plugged in.
    Awaited,
}

/// Finds each configured interface's device: its port, in configuration order; `None` if it is [`Absent::Awaited`], or the
/// interface is on a VLAN. `devices` are those there are, by port.
///
/// # Errors
/// A text for people that names every interface without a device, or with one that cannot do what it should,
/// and the devices there are.
pub fn choose(
    config: &Config,
    devices: &[Option<&DeviceInfo>],
    absent: Absent,
) -> Result<Vec<Option<usize>>, String> {
    let mut wrong = String::new();
    let mut chosen = Vec::new();
    for wish in &config.interfaces {
        let Attachment::Device(matching) = wish.attachment else {
            chosen.push(None);
            continue;
        };
        let found = match matching {
            Match::Port(port) => {
                devices.get(usize::from(port)).is_some_and(Option::is_some).then_some(port.into())
            }
            Match::Mac(mac) => {
                devices.iter().position(|device| device.is_some_and(|device| device.mac == mac))
            }
        };
        if found.is_none() && absent == Absent::Refused {
            let _ = writeln!(wrong, "interface.{}: no device has {}", wish.name, matching);
        }
        if found.is_some() && chosen.contains(&found) {
            let _ = writeln!(
                wrong,
                "interface.{}: {} is the device of another interface already",
                wish.name, matching
            );
        }
        chosen.push(found);
    }
    for (place, wish) in config.interfaces.iter().enumerate() {
        let port = match wish.attachment {
            Attachment::Device(_) => place,
            Attachment::Vlan { parent, .. } => parent,
        };
        let device = chosen.get(port).copied().flatten().and_then(|port| *devices.get(port)?);
        if let (Some(mtu), Some(device)) = (wish.mtu, device)
            && mtu > device.mtu
        {
            let _ = writeln!(
                wrong,
                "interface.{}.mtu: {mtu} is more than its device carries: at most {} ({})",
                wish.name, device.mtu, device.name
            );
        }
    }
    if wrong.is_empty() {
        return Ok(chosen);
    }
    let _ = match devices.iter().any(Option::is_some) {
        false => writeln!(wrong, "there is no network device"),
        true => writeln!(wrong, "there are:"),
    };
    for (port, device) in devices.iter().enumerate() {
        if let Some(device) = device {
            let _ = writeln!(wrong, "  {}", describe(port, device));
        }
    }
    Err(wrong)
}

/// A device in one line: port, MAC, name, MTU.
pub fn describe(port: usize, device: &DeviceInfo) -> String {
    let mac = mac(device.mac);
    format!("port {port}: {mac}, {}, mtu {}", device.name, device.mtu)
}

/// A device, for the interface of this name.
#[derive(Clone, Copy)]
struct Bearer<'a> {
    port: IfIndex,
    name: &'a str,
    info: &'a DeviceInfo,
    queues: u16,
    state: State,
    counters: &'a Arc<IfCounters>,
}

impl<'a> Bearer<'a> {
    fn all(attached: &'a [Attached]) -> Vec<Self> {
        let one = |attached: &'a Attached| Self {
            port: attached.interface,
            name: &attached.name,
            info: attached.device.info(),
            queues: attached.queues,
            state: attached.state,
            counters: &attached.counters,
        };
        attached.iter().map(one).collect()
    }
}

/// What serves an interface: a device, and on it a VLAN if that is where the interface is.
#[derive(Clone, Copy)]
struct Serving<'a> {
    by: Bearer<'a>,
    vlan: Option<&'a Vlan>,
}

impl<'a> Serving<'a> {
    /// `None` if the device is not there.
    fn find(config: &Config, wish: &Wish, bearers: &[Bearer<'a>], vlans: &'a [Vlan]) -> Option<Self> {
        let by_name = |name: &str| bearers.iter().find(|by| by.name == name).copied();
        match wish.attachment {
            Attachment::Device(_) => Some(Self { by: by_name(&wish.name)?, vlan: None }),
            Attachment::Vlan { parent, id } => {
                let by = by_name(&config.interfaces.get(parent)?.name)?;
                let vlan = vlans.iter().find(|vlan| (vlan.port, vlan.id) == (by.port, id))?;
                Some(Self { by, vlan: Some(vlan) })
            }
        }
    }

    fn index(&self) -> IfIndex {
        self.vlan.map_or(self.by.port, |vlan| vlan.index)
    }

    fn link(&self) -> LinkId {
        LinkId { port: self.by.port, vlan: self.vlan.map_or(0, |vlan| vlan.id) }
    }

    /// How sure its addresses are, as far as they are not surely its own.
    fn claims(&self, learnt: &Learnt, wish: &Wish) -> Vec<(IpAddr, Claim)> {
        let mac = self.by.info.mac;
        let heard = learnt.on(&wish.name).map_or(&[][..], |on| &on.addresses).iter();
        let own = wish.addresses.iter().map(IpNet::addr);
        let local = |address: &IpAddr| matches!(address, IpAddr::V6(own) if own.is_unicast_link_local());
        let formed = (!own.clone().any(|address| local(&address))).then(|| link_local(mac).into());
        let all = own.chain(formed).chain(heard.map(|heard| heard.net.addr()));
        learnt.claims(&wish.name, self.link(), mac, all)
    }

    /// As [`claims`](Self::claims), for people.
    fn dad(&self, learnt: &Learnt, wish: &Wish) -> Vec<model::Detection> {
        let all = self.claims(learnt, wish).into_iter();
        // Every interface with IPv6 forms one: it is told of if it is no use.
        let formed = |address: &IpAddr| matches!(address, IpAddr::V6(own) if own.is_unicast_link_local());
        let told = all.filter(|(address, claim)| *claim != Claim::Optimistic || !formed(address));
        let row = |(address, claim): (IpAddr, Claim)| model::Detection {
            address: address.to_string(),
            state: match claim {
                Claim::Ours | Claim::Optimistic => model::DadState::Optimistic,
                Claim::Tentative => model::DadState::Tentative,
                Claim::Duplicate => model::DadState::Duplicate,
            },
            holder: learnt.holder(self.link(), address).map(mac),
        };
        told.map(row).collect()
    }

    fn counters(&self) -> &'a Arc<IfCounters> {
        self.vlan.map_or(self.by.counters, |vlan| &vlan.counters)
    }

    /// Octets of an IP packet: what the configuration says, as far as the device carries that.
    fn mtu(&self, config: &Config, wish: &Wish) -> u16 {
        let most = self.by.info.mtu;
        let parent = match wish.attachment {
            Attachment::Vlan { parent, .. } => config.interfaces.get(parent),
            Attachment::Device(_) => None,
        };
        wish.mtu.or(parent.and_then(|parent| parent.mtu)).map_or(most, |mtu| mtu.min(most))
    }

    fn status(&self, config: &Config, wish: &Wish) -> DeviceStatus {
        DeviceStatus {
            name: self.by.info.name.clone(),
            mac: self.by.info.mac,
            mtu: self.mtu(config, wish),
            queues: self.by.queues,
            counters: self.counters().clone(),
        }
    }

    /// A VLAN has no carrier but its device's.
    fn state(&self, wish: &Wish) -> State {
        match (self.vlan, self.by.state) {
            (None, state) => state,
            (Some(_), _) if !wish.enabled => State::Disabled,
            (Some(_), State::Link(link)) => State::Link(link),
            (Some(_), _) => State::Link(Link::Down),
        }
    }
}

/// The snapshot of `config` with the devices as they are now. Interfaces without one are not in it, nor are routes by them.
///
/// # Errors
/// What contradicts; the configuration's own rules leave little.
pub fn snapshot(
    config: &Config,
    learnt: &Learnt,
    attached: &[Attached],
    vlans: &[Vlan],
    unconfigured: &Arc<IfCounters>,
) -> Result<Snapshot, Conflict> {
    build(config, learnt, &Bearer::all(attached), vlans, unconfigured)
}

/// What there is to put a configuration in force with. `[I]`
#[derive(Debug, Default)]
pub struct Equipment {
    /// Devices by port, and whether each carries frames; one that nobody has looked at may.
    pub devices: Vec<Option<(DeviceInfo, State)>>,
    /// Interfaces in service on VLANs.
    pub vlans: Vec<Vlan>,
}

/// The snapshot that `config` would be, for one who asks. What is in service keeps its indices; nothing is attached.
///
/// # Errors
/// What contradicts, in lines.
pub fn preview(config: &Config, learnt: &Learnt, with: &Equipment) -> Result<Snapshot, String> {
    let Equipment { devices, vlans } = with;
    let infos: Vec<_> = devices.iter().map(|device| device.as_ref().map(|(info, _)| info)).collect();
    let chosen = choose(config, &infos, Absent::Awaited)?;
    let counters = Arc::default();
    let mut bearers = Vec::new();
    for (wish, port) in config.interfaces.iter().zip(&chosen) {
        let Some(port) = *port else { continue };
        let Some((info, state)) = devices.get(port).and_then(Option::as_ref) else { continue };
        let state = if wish.enabled { *state } else { State::Disabled };
        let port = IfIndex(port as u16);
        bearers.push(Bearer { port, name: &wish.name, info, queues: 0, state, counters: &counters });
    }
    let vlans = Indices::default().follow(config, &chosen, vlans);
    build(config, learnt, &bearers, &vlans, &counters).map_err(|conflict| conflict.to_string())
}

fn build(
    config: &Config,
    learnt: &Learnt,
    bearers: &[Bearer<'_>],
    vlans: &[Vlan],
    unconfigured: &Arc<IfCounters>,
) -> Result<Snapshot, Conflict> {
    let find = |wish| Serving::find(config, wish, bearers, vlans);
    let serving: Vec<_> = config.interfaces.iter().map(|wish| (wish, find(wish))).collect();
    let interfaces = serving.iter().filter_map(|&(wish, by)| Some(interface(config, learnt, wish, by?)));
    let indices: Vec<_> = serving.iter().map(|(_, by)| by.as_ref().map(Serving::index)).collect();
    let lost = serving.iter().filter(|(_, by)| by.is_none()).map(|(wish, _)| *wish);
    let heard = (0..).zip(&config.interfaces).zip(&indices).flat_map(|((place, wish), index)| {
        index.zip(learnt.on(&wish.name)).into_iter().flat_map(move |(index, on)| heard(on, index, place))
    });
    let statics = config.routes.iter().flat_map(|r| routes(r, &indices));
    Snapshot::build(&Plan {
        interfaces: interfaces.collect(),
        routes: lost.flat_map(absent).chain(statics).chain(heard).chain(awaited(config)).collect(),
        unconfigured: unconfigured.clone(),
        ..Plan::default()
    })
}

fn interface(config: &Config, learnt: &Learnt, wish: &Wish, by: Serving<'_>) -> InterfacePlan {
    let on = learnt.on(&wish.name);
    let heard = on.map_or(&[][..], |on| &on.addresses).iter().map(|address| address.net);
    let nets: Vec<IpNet> = wish.addresses.iter().copied().chain(heard).collect();
    // A device's may become less while it is attached: too little takes its interface down, not the configuration.
    let mtu = by.mtu(config, wish);
    let least =
        if wish.learn.auto || nets.iter().any(|net| net.addr().is_ipv6()) { MIN_MTU6 } else { MIN_MTU4 };
    // What the link's others take, unless the configuration knows better. No server takes an interface down by it.
    let told = on.and_then(|on| on.mtu).filter(|_| wish.mtu.is_none());
    let mtu = told.map_or(mtu, |told| told.max(least).min(mtu));
    let is_up = mtu >= least && by.state(wish) == State::Link(Link::Up);
    InterfacePlan {
        index: Some(by.index()),
        vlan: by.vlan.map(|vlan| VlanPlan { parent: vlan.port, id: vlan.id }),
        mtu: mtu.max(least),
        offloads: by.by.info.offloads,
        addresses: nets.iter().map(|net| (net.addr(), net.prefix_len())).collect(),
        claims: by.claims(learnt, wish),
        deprecated: on.map_or_else(Vec::new, OnInterface::deprecated),
        reverse_path: match wish.reverse_path_filter {
            ReversePathFilter::Off => ReversePath::Off,
            ReversePathFilter::Strict => ReversePath::Strict,
            ReversePathFilter::Loose => ReversePath::Loose,
        },
        advertise: match wish.router_advertisement {
            true => Advertise::On(Advertisement::default()),
            false => Advertise::Off,
        },
        heeds_routers: wish.learn.auto,
        management: wish.management,
        state: if is_up { Taking::Up } else { Taking::Down },
        counters: by.counters().clone(),
        ..InterfacePlan::new(wish.name.to_string(), by.by.info.mac)
    }
}

/// The networks of an interface without a device: next routers may be waited for there.
fn absent(wish: &Wish) -> impl Iterator<Item = RoutePlan> {
    let net = |net: &IpNet| (net.network(), net.prefix_len());
    let plan = |to| RoutePlan { to, target: RouteTarget::Absent, metric: 0 };
    wish.addresses.iter().map(net).map(plan)
}

/// The default routes that may be learnt: next routers may be waited for behind them.
fn awaited(config: &Config) -> impl Iterator<Item = RoutePlan> {
    let any = |learns: fn(&Wish) -> bool| config.interfaces.iter().any(learns);
    let all = [
        any(|wish| wish.learn.dhcp).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        any(|wish| wish.learn.auto).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ];
    let plan = |to| RoutePlan { to: (to, 0), target: RouteTarget::Absent, metric: u32::MAX };
    all.into_iter().flatten().map(plan)
}

/// Routes that were learnt on the interface at `index`, the `place`th of the configuration.
fn heard(on: &OnInterface, index: IfIndex, place: u32) -> Vec<RoutePlan> {
    let mut plans = Vec::new();
    for route in &on.routes {
        let mut add = |to: IpNet, target| {
            let to = (to.network(), to.prefix_len());
            plans.push(RoutePlan { to, target, metric: METRIC + route.metric + place });
        };
        let target = match route.via {
            None => RouteTarget::OnLink { interface: index },
            Some(gateway) => {
                let near = matches!(gateway, IpAddr::V6(via) if via.is_unicast_link_local())
                    || on.addresses.iter().any(|address| address.net.contains(&gateway));
                if near {
                    RouteTarget::Via { gateway, interface: index }
                } else {
                    // A router beyond our network, as for addresses with /32: it is on the link all the same.
                    add(gateway.into(), RouteTarget::OnLink { interface: index });
                    RouteTarget::Through { gateway }
                }
            }
        };
        add(route.to, target);
    }
    plans
}

/// `indices` are those of the interfaces, in configuration order; `None`: there is no device.
fn routes(route: &Route, indices: &[Option<IfIndex>]) -> impl Iterator<Item = RoutePlan> {
    let target = match &route.target {
        Target::Forward(hops) => forward(hops, indices),
        Target::Reject(Reject::Blackhole) => RouteTarget::Blackhole,
        Target::Reject(Reject::Unreachable) => RouteTarget::Unreachable,
        Target::Reject(Reject::Prohibit) => RouteTarget::Prohibit,
    };
    let plan = move |to: &IpNet| RoutePlan {
        to: (to.addr(), to.prefix_len()),
        target: target.clone(),
        metric: route.metric,
    };
    route.to.iter().map(plan)
}

/// Next hops whose interfaces are there.
fn forward(hops: &[NextHop], indices: &[Option<IfIndex>]) -> RouteTarget {
    let there = |hop: &NextHop| {
        let interface = hop.interface.map(|interface| indices.get(interface).copied().flatten());
        let found = match (hop.via, interface) {
            (Some(gateway), Some(interface)) => Hop::Via { gateway, interface: interface? },
            (Some(gateway), None) => Hop::Through { gateway },
            (None, interface) => Hop::OnLink { interface: interface?? },
        };
        Some(Weighted { hop: found, weight: hop.weight })
    };
    let list: Arc<[Weighted]> = hops.iter().filter_map(there).collect();
    match *list {
        [] => RouteTarget::Absent,
        [Weighted { hop: Hop::Via { gateway, interface }, .. }] => RouteTarget::Via { gateway, interface },
        [Weighted { hop: Hop::Through { gateway }, .. }] => RouteTarget::Through { gateway },
        [Weighted { hop: Hop::OnLink { interface }, .. }] => RouteTarget::OnLink { interface },
        _ => RouteTarget::Multipath(list),
    }
}

/// The interfaces as an operator sees them.
pub fn status(
    config: &Config,
    learnt: &Learnt,
    attached: &[Attached],
    vlans: &[Vlan],
) -> Vec<InterfaceStatus> {
    let bearers = Bearer::all(attached);
    let row = |wish: &Wish| {
        let by = Serving::find(config, wish, &bearers, vlans);
        let parent = |parent: usize| config.interfaces.get(parent).map(|parent| parent.name.clone());
        InterfaceStatus {
            name: wish.name.clone(),
            state: by.map_or(State::Absent, |by| by.state(wish)),
            addresses: {
                let heard = learnt.on(&wish.name).map_or(&[][..], |on| &on.addresses).iter();
                wish.addresses.iter().copied().chain(heard.map(|address| address.net)).collect()
            },
            learnt: learnt.on(&wish.name).map(OnInterface::model).unwrap_or_default(),
            dad: by
                .filter(|by| by.state(wish) == State::Link(Link::Up))
                .map_or_else(Vec::new, |by| by.dad(learnt, wish)),
            vlan: match wish.attachment {
                Attachment::Device(_) => None,
                Attachment::Vlan { parent: of, id } => parent(of).map(|parent| (parent, id)),
            },
            device: by.map(|by| by.status(config, wish)),
        }
    };
    config.interfaces.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use weir_netif::{Fault, Offloads, QueuePair};
    use weir_sync::cpu::claim_any;

    /// Changes its MTU each time it is looked after.
    struct Restless(DeviceInfo);

    impl Device for Restless {
        fn info(&self) -> &DeviceInfo {
            &self.0
        }

        fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
            Vec::new()
        }

        fn config_source(&self) -> u8 {
            0
        }

        fn link(&mut self, _: &Control) -> Link {
            Link::Up
        }

        fn service(&mut self, _: &Control) -> Result<(), Fault> {
            self.0.mtu = 3000 - self.0.mtu;
            Ok(())
        }

        fn stop(&mut self, _: &Control) {}
    }

    #[test]
    fn the_snapshot_follows_a_devices_mtu_as_far_as_the_configuration_lets_it() {
        let info = DeviceInfo {
            name: "restless".into(),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1400,
            queues: 1,
            offloads: Offloads::empty(),
        };
        let mut attached = vec![Attached {
            interface: IfIndex(0),
            attachment: 1,
            queues: 1,
            name: "wan".into(),
            device: Box::new(Restless(info)),
            state: State::Link(Link::Up),
            counters: Arc::default(),
            cuts_told: false,
        }];
        let config = |mtu: &str| {
            let text =
                format!("[interface.wan]\nmatch = {{ port = 0 }}\naddresses = [\"10.0.0.1/24\"]\n{mtu}\n");
            Config::parse(text.as_bytes()).unwrap()
        };
        let mtu = |config: &Config, attached: &[Attached]| {
            snapshot(config, &Learnt::default(), attached, &[], &Arc::default())
                .unwrap()
                .interfaces()
                .next()
                .unwrap()
                .mtu
        };
        let (plain, limited) = (config(""), config("mtu = 1450"));
        assert_eq!((mtu(&plain, &attached), mtu(&limited, &attached)), (1400, 1400));
        let follow = |attached: &mut Attached| {
            claim_any().unwrap().control(|cx| attached.follow_link(cx, |fault| panic!("{fault}")))
        };
        assert!(follow(&mut attached[0]), "a change of the MTU is a change");
        assert_eq!((mtu(&plain, &attached), mtu(&limited, &attached)), (1600, 1450));
        // Less than IPv6 takes is no reason to keep a configuration, and what it says of others, from being used.
        let text = "[interface.wan]\nmatch = { port = 0 }\naddresses = [\"2001:db8::1/64\"]\n";
        let six = Config::parse(text.as_bytes()).unwrap();
        let small = DeviceInfo { mtu: 1000, ..attached[0].device.info().clone() };
        attached[0].device = Box::new(Restless(small));
        let built = snapshot(&six, &Learnt::default(), &attached, &[], &Arc::default()).unwrap();
        assert_eq!(built.interfaces().next().unwrap().state, Taking::Down);
        assert_eq!(mtu(&plain, &attached), 1000);
    }
}
