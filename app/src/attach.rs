//! Devices meet configuration: which device is which interface, and the snapshot that follows.

use crate::config::{Config, Match, ReversePathFilter, Route, Target};
use crate::config::{Interface as Wish, Reject};
use crate::show::{InterfaceStatus, State};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use weir_machine::info;
use weir_netif::{Device, DeviceInfo, IfCounters, IfIndex, Link};
use weir_netstack::snapshot::{
    Advertise, Advertisement, InterfacePlan, ReversePath, RoutePlan, RouteTarget, State as Taking,
};
use weir_netstack::{Conflict, Plan, Snapshot};
use weir_sync::Control;

/// Finds out again what is at a device's place.
type Probe = Box<dyn Fn(&Control) -> Result<Box<dyn Device>, String>>;

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
        let device = probe(cx)?;
        Ok(Self { info: device.info().clone(), probe, counters: Arc::default() })
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
}

impl Attached {
    /// Looks after configuration changes of the device; whether the carrier changed.
    pub fn follow_link(&mut self, cx: &Control, broken: impl FnOnce(weir_netif::Fault)) -> bool {
        let State::Link(before) = self.state else { return false };
        if let Err(fault) = self.device.service(cx) {
            broken(fault);
            return false;
        }
        let now = self.device.link(cx);
        if now == before {
            return false;
        }
        self.state = State::Link(now);
        info!("{}: link {}", self.name, self.state);
        true
    }
}

/// Finds each configured interface's device: the device's number for each interface, in configuration order.
///
/// # Errors
/// A text for people that names every interface without a device, or with one that cannot do what it should,
/// and the devices there are.
pub fn choose(config: &Config, devices: &[&DeviceInfo]) -> Result<Vec<usize>, String> {
    let mut wrong = String::new();
    let mut chosen = Vec::new();
    for wish in &config.interfaces {
        let found = match wish.matching {
            Match::Port(port) => (usize::from(port) < devices.len()).then_some(usize::from(port)),
            Match::Mac(mac) => devices.iter().position(|device| device.mac == mac),
        };
        match found {
            None => {
                let _ = writeln!(wrong, "interface.{}: no device has {}", wish.name, wish.matching);
            }
            Some(number) if chosen.contains(&number) => {
                let _ = writeln!(
                    wrong,
                    "interface.{}: {} is the device of another interface already",
                    wish.name, wish.matching
                );
            }
            Some(number) => {
                if let (Some(mtu), Some(device)) = (wish.mtu, devices.get(number))
                    && mtu > device.mtu
                {
                    let _ = writeln!(
                        wrong,
                        "interface.{}.mtu: {mtu} is more than its device carries: at most {} ({})",
                        wish.name, device.mtu, device.name
                    );
                }
                chosen.push(number);
            }
        }
    }
    if wrong.is_empty() {
        return Ok(chosen);
    }
    let _ = match devices {
        [] => writeln!(wrong, "there is no network device"),
        _ => writeln!(wrong, "there are:"),
    };
    for (port, device) in devices.iter().enumerate() {
        let _ = writeln!(wrong, "  {}", describe(port, device));
    }
    Err(wrong)
}

/// A device in one line: port, MAC, name, MTU.
pub fn describe(port: usize, device: &DeviceInfo) -> String {
    let mac = device.mac.map(|byte| format!("{byte:02x}")).join(":");
    format!("port {port}: {mac}, {}, mtu {}", device.name, device.mtu)
}

/// The snapshot of `config` with the devices as they are now, one for each of its interfaces.
///
/// # Errors
/// What contradicts; the configuration's own rules leave little.
pub fn snapshot(
    config: &Config,
    attached: &[Attached],
    unconfigured: &Arc<IfCounters>,
) -> Result<Snapshot, Conflict> {
    let interfaces = config.interfaces.iter().zip(attached).map(|(wish, attached)| interface(wish, attached));
    Snapshot::build(&Plan {
        interfaces: interfaces.collect(),
        routes: config.routes.iter().map(|wish| route(wish, attached)).collect(),
        unconfigured: unconfigured.clone(),
    })
}

fn interface(wish: &Wish, attached: &Attached) -> InterfacePlan {
    let info = attached.device.info();
    InterfacePlan {
        index: Some(attached.interface),
        mtu: wish.mtu.unwrap_or(info.mtu),
        offloads: info.offloads,
        addresses: wish.addresses.iter().map(|net| (net.addr(), net.prefix_len())).collect(),
        reverse_path: match wish.reverse_path_filter {
            ReversePathFilter::Off => ReversePath::Off,
            ReversePathFilter::Strict => ReversePath::Strict,
            ReversePathFilter::Loose => ReversePath::Loose,
        },
        advertise: match wish.router_advertisement {
            true => Advertise::On(Advertisement::default()),
            false => Advertise::Off,
        },
        state: if attached.state == State::Link(Link::Up) { Taking::Up } else { Taking::Down },
        counters: attached.counters.clone(),
        ..InterfacePlan::new(wish.name.to_string(), info.mac)
    }
}

fn route(route: &Route, attached: &[Attached]) -> RoutePlan {
    // The configuration's rules have seen to it that there is such an interface.
    let index = |number: usize| attached.get(number).map_or(IfIndex(u16::MAX), |attached| attached.interface);
    RoutePlan {
        to: (route.to.addr(), route.to.prefix_len()),
        target: match route.target {
            Target::Gateway { via, interface } => {
                RouteTarget::Via { gateway: via, interface: index(interface) }
            }
            Target::Reject(Reject::Blackhole) => RouteTarget::Blackhole,
            Target::Reject(Reject::Unreachable) => RouteTarget::Unreachable,
            Target::Reject(Reject::Prohibit) => RouteTarget::Prohibit,
        },
        metric: route.metric,
    }
}

/// The interfaces as an operator sees them.
pub fn status(config: &Config, attached: &[Attached]) -> Vec<InterfaceStatus> {
    let row = |(wish, attached): (&Wish, &Attached)| InterfaceStatus {
        name: wish.name.clone(),
        state: attached.state,
        addresses: wish.addresses.clone(),
        totals: attached.counters.totals(),
    };
    config.interfaces.iter().zip(attached).map(row).collect()
}
