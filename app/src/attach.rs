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
use weir_machine::{hermit, info, warn};
use weir_netif::{Device, DeviceInfo, Drop, IfCounters, IfIndex, Link};
use weir_netstack::snapshot::{
    Advertise, Advertisement, InterfacePlan, ReversePath, RoutePlan, RouteTarget, State as Taking,
};
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

/// What becomes of an interface whose device is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Absent {
    /// It is an error: the device cannot come later.
    #[default]
    Refused,
    /// It is left out until its device is plugged in.
    Awaited,
}

/// Finds each configured interface's device: its port, in configuration order; `None` if it is [`Absent::Awaited`]. `devices`
/// are those there are, by port.
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
        let found = match wish.matching {
            Match::Port(port) => {
                devices.get(usize::from(port)).is_some_and(Option::is_some).then_some(port.into())
            }
            Match::Mac(mac) => {
                devices.iter().position(|device| device.is_some_and(|device| device.mac == mac))
            }
        };
        if found.is_none() && absent == Absent::Refused {
            let _ = writeln!(wrong, "interface.{}: no device has {}", wish.name, wish.matching);
        }
        let device = found.and_then(|port| *devices.get(port)?);
        if found.is_some() && chosen.contains(&found) {
            let _ = writeln!(
                wrong,
                "interface.{}: {} is the device of another interface already",
                wish.name, wish.matching
            );
        } else if let (Some(mtu), Some(device)) = (wish.mtu, device)
            && mtu > device.mtu
        {
            let _ = writeln!(
                wrong,
                "interface.{}.mtu: {mtu} is more than its device carries: at most {} ({})",
                wish.name, device.mtu, device.name
            );
        }
        chosen.push(found);
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
    let mac = device.mac.map(|byte| format!("{byte:02x}")).join(":");
    format!("port {port}: {mac}, {}, mtu {}", device.name, device.mtu)
}

/// The device that serves the interface of this name.
fn serving<'a>(attached: &'a [Attached], wish: &Wish) -> Option<&'a Attached> {
    attached.iter().find(|attached| attached.name == wish.name)
}

/// The snapshot of `config` with the devices as they are now. Interfaces without one are not in it, nor are their routes.
///
/// # Errors
/// What contradicts; the configuration's own rules leave little.
pub fn snapshot(
    config: &Config,
    attached: &[Attached],
    unconfigured: &Arc<IfCounters>,
) -> Result<Snapshot, Conflict> {
    let serving: Vec<_> = config.interfaces.iter().map(|wish| (wish, serving(attached, wish))).collect();
    let interfaces = serving.iter().filter_map(|&(wish, attached)| Some(interface(wish, attached?)));
    let indices: Vec<_> = serving.iter().map(|(_, attached)| Some(attached.as_ref()?.interface)).collect();
    Snapshot::build(&Plan {
        interfaces: interfaces.collect(),
        routes: config.routes.iter().filter_map(|wish| route(wish, &indices)).collect(),
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

/// `None` if its interface has no device. `indices` are those of the interfaces, in configuration order.
fn route(route: &Route, indices: &[Option<IfIndex>]) -> Option<RoutePlan> {
    Some(RoutePlan {
        to: (route.to.addr(), route.to.prefix_len()),
        target: match route.target {
            Target::Gateway { via, interface } => {
                RouteTarget::Via { gateway: via, interface: (*indices.get(interface)?)? }
            }
            Target::Reject(Reject::Blackhole) => RouteTarget::Blackhole,
            Target::Reject(Reject::Unreachable) => RouteTarget::Unreachable,
            Target::Reject(Reject::Prohibit) => RouteTarget::Prohibit,
        },
        metric: route.metric,
    })
}

/// The interfaces as an operator sees them.
pub fn status(config: &Config, attached: &[Attached]) -> Vec<InterfaceStatus> {
    let row = |wish: &Wish| {
        let attached = serving(attached, wish);
        InterfaceStatus {
            name: wish.name.clone(),
            state: attached.map_or(State::Absent, |attached| attached.state),
            addresses: wish.addresses.clone(),
            totals: attached.map(|attached| attached.counters.totals()).unwrap_or_default(),
        }
    };
    config.interfaces.iter().map(row).collect()
}
