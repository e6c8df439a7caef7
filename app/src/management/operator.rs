//! The router as the console knows it. Task level, management's.

use super::{CONSOLE, ENDING, Management, milliseconds, stop};
use crate::clients::Learnt;
use crate::config::{self, Config};
use crate::guest::Guest;
use crate::interfaces::Interfaces;
use crate::manage::{self, Live};
use crate::modules;
use crate::observe::{self, InterfaceStatus};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use weir_machine::xen::control::Request;
use weir_machine::{frames, random, trace};
use weir_manage::capture::Wish as Capture;
use weir_manage::configurations::Engine;
use weir_manage::console::{End, Router, Tracing};
use weir_manage::diff::unified;
use weir_manage::explain::Question;
use weir_manage::fingerprint::fingerprint;
use weir_manage::model::{
    Committed, ConfigVersion, Cpus, Interface, InterfaceLoss, LogLine, Loss, Plan, Problem, Recorded, Routes,
    Status,
};
use weir_manage::probe::Probe;
use weir_manage::problem::{self, Refused};
use weir_manage::router::{Command as Wish, Done, Router as _};
use weir_netstack::Instant;
use weir_sync::Control;

/// Management, in the hands of whoever is at the console.
pub(super) struct Operator<'a> {
    pub(super) management: &'a mut Management,
    pub(super) cx: &'a mut Control,
    pub(super) now: Instant,
}

impl Operator<'_> {
    fn obey(&mut self, wish: Wish) -> Result<Done, Problem> {
        self.management.obey(self.cx, wish, self.now).map_err(problem)
    }

    fn version_of(&mut self, wish: Wish) -> Result<u64, Problem> {
        match self.obey(wish)? {
            Done::Version(version) => Ok(version),
            _ => Err(Problem::default()),
        }
    }

    fn interfaces_in_service(&self) -> &Interfaces {
        &self.management.interfaces
    }
}

fn problem(refused: Refused) -> Problem {
    *refused.0
}

impl Router for Operator<'_> {
    fn status(&self) -> Status {
        let management = &*self.management;
        let (hostname, cpus) = (&management.interfaces.config().hostname, management.interfaces.cpus());
        let holdings = management.guest.as_ref().map(Guest::holdings);
        let (platform, place) = (management.plane.platform(), management.place.as_deref());
        observe::status(management.shared, platform, hostname, place, cpus, holdings)
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.interfaces_in_service().status().iter().map(InterfaceStatus::model).collect()
    }

    fn cpus(&self) -> Cpus {
        let interfaces = self.interfaces_in_service();
        Cpus {
            cpus: observe::cpus(self.management.shared, interfaces.cpus(), interfaces.counters()),
            queues: observe::queues(&interfaces.status()),
            sockets: observe::sockets(self.management.shared, interfaces.cpus()),
            tasks: observe::tasks(),
            locks: observe::locks(),
        }
    }

    fn routes(&self, wanted: Option<&str>, most: usize) -> Routes {
        let config = self.interfaces_in_service().config();
        match wanted {
            None => manage::routes(config, self.interfaces_in_service().learnt(), 0, most),
            Some(wanted) => wanted_routes(config, self.interfaces_in_service().learnt(), wanted, most),
        }
    }

    fn ask_neighbors(&mut self) {
        self.management.asks_neighbors = true;
    }

    fn ask_explanation(&mut self, question: Question) {
        self.management.asks_explanation = Some(question);
    }

    fn probe(&mut self, probe: Probe) {
        self.management.plane.probing().begin(probe);
    }

    fn stop_probe(&mut self) {
        self.management.plane.probing().stop();
    }

    fn capture(&mut self, wish: Capture) {
        self.management.asks_capture = Some(wish);
    }

    fn drops(&self) -> Vec<InterfaceLoss> {
        let lost = |interface: Option<String>, drops: Vec<Loss>| {
            drops.into_iter().map(move |loss| InterfaceLoss {
                interface: interface.clone(),
                reason: loss.reason,
                packets: loss.packets,
            })
        };
        let named =
            Router::interfaces(self).into_iter().map(|interface| (Some(interface.name), interface.drops));
        let others = observe::losses(&self.interfaces_in_service().unconfigured().totals());
        named.chain([(None, others)]).flat_map(|(name, drops)| lost(name, drops)).collect()
    }

    fn recorded(&mut self, most: usize) -> Vec<Recorded> {
        crate::capture::recorded(self.cx, self.management.shared, most)
    }

    fn log(&self, most: usize) -> Vec<LogLine> {
        let mut lines = self.management.plane.log(0);
        let before = lines.len().saturating_sub(most);
        lines.drain(..before);
        lines
    }

    fn pages(&self) -> Vec<String> {
        let service = self.interfaces_in_service();
        let (config, learnt) = (service.config(), service.learnt());
        let open = config.interfaces.iter().filter(|interface| interface.management && interface.enabled);
        let addresses = open.flat_map(|interface| {
            let heard = learnt.on(&interface.name).map_or(&[][..], |on| &on.addresses);
            let heard = heard.iter().map(|address| address.net.addr());
            interface.addresses.iter().map(IpNet::addr).chain(heard)
        });
        let page = |address| match address {
            IpAddr::V4(address) => Some(format!("http://{address}/")),
            IpAddr::V6(address) if address.is_unicast_link_local() => None,
            IpAddr::V6(address) => Some(format!("http://[{address}]/")),
        };
        addresses.filter_map(page).collect()
    }

    fn configuration(&self) -> String {
        self.interfaces_in_service().config().text.0.to_string()
    }

    fn history(&self) -> Vec<ConfigVersion> {
        self.management.configurations.view().history()
    }

    fn version(&self, version: u64) -> Option<String> {
        self.management.configurations.view().text_of(version).map(|text| text.text.to_string())
    }

    fn unconfirmed_ms(&self) -> Option<u64> {
        let now = milliseconds(self.now);
        self.management.configurations.deadline_ms().map(|at| at.saturating_sub(now))
    }

    fn check(&mut self, text: &str) -> Result<Plan, Problem> {
        // Without a word to the configurations' owner: a candidate of the API's stays what it is.
        let running = self.configuration();
        let mut live = Live { cx: self.cx, interfaces: &mut self.management.interfaces, read: None };
        let effect = live.check(text).map_err(|errors| problem(problem::invalid(errors)))?;
        Ok(Plan {
            etag: fingerprint(text.as_bytes()),
            replaces: fingerprint(running.as_bytes()),
            interfaces: effect.interfaces,
            routes_added: effect.routes_added,
            routes_removed: effect.routes_removed,
            diff: unified(&running, text, "running", "candidate"),
        })
    }

    fn commit(&mut self, text: &str, base: &str, confirm_ms: Option<u64>) -> Result<Committed, Problem> {
        self.management.commit(self.cx, (text, base), confirm_ms, self.now).map_err(problem)
    }

    fn confirm(&mut self) -> Result<u64, Problem> {
        self.version_of(Wish::Confirm)
    }

    fn revert(&mut self) -> Result<u64, Problem> {
        self.version_of(Wish::Revert)
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), String> {
        let config = Config::read(text, CONSOLE, frames::free_bytes());
        self.management.install(self.cx, config, CONSOLE.into(), self.now)
    }

    fn replace_by_module(&mut self, number: u64) -> Result<(), String> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let config = self.management.modules.config(number, frames::free_bytes());
        self.management.install(self.cx, config, modules::place(number), self.now)
    }

    fn modules(&self) -> String {
        let place = self.management.place.as_deref().unwrap_or("nowhere: none is in force");
        format!("the configuration is from: {place}\n{}", self.management.modules)
    }

    fn longest(&self) -> usize {
        config::longest(frames::free_bytes())
    }

    fn token(&mut self) -> String {
        let random: Vec<u8> = (0..4).flat_map(|_| random::seed().to_ne_bytes()).collect();
        let now_ms = milliseconds(self.now);
        self.management.plane.access_with(self.cx, |access| access.grant(&random, now_ms))
    }

    fn withdraw_token(&mut self) -> bool {
        self.management.plane.access_with(self.cx, weir_manage::access::Access::withdraw)
    }

    fn trace(&mut self, tracing: Tracing) -> Result<(), String> {
        let switch = match tracing {
            Tracing::On => trace::Switch::On,
            Tracing::Off => trace::Switch::Off,
        };
        trace::switch(switch).map_err(|wrong| wrong.to_string())
    }

    fn print_events(&mut self) {
        self.management.collect_events();
    }

    fn end(&mut self, end: End) {
        let wish = match end {
            End::Reboot => Request::Reboot,
            End::PowerOff => Request::PowerOff,
        };
        stop(&mut self.management.interfaces, self.cx);
        self.management.end = Some((wish, self.now + ENDING));
    }
}

/// Routes to a prefix, or those that packets to an address take: of the longest prefix with it.
fn wanted_routes(config: &Config, learnt: &Learnt, wanted: &str, most: usize) -> Routes {
    let connected = config
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses)
        .map(|address| IpNet::from(address.addr()));
    let networks = config.interfaces.iter().flat_map(|interface| &interface.addresses).map(IpNet::trunc);
    let statics = config.routes.iter().flat_map(|route| &route.to).copied();
    let heard = learnt.interfaces.iter().flat_map(|on| {
        let own = on.addresses.iter().flat_map(|own| [IpNet::from(own.net.addr()), own.net.trunc()]);
        own.chain(on.routes.iter().map(|route| route.to))
    });
    let all = connected.chain(networks).chain(heard).chain(statics);
    let prefix = match (wanted.parse::<IpNet>(), wanted.parse::<IpAddr>()) {
        (Ok(prefix), _) => Some(prefix.trunc()),
        (_, Ok(address)) => all.filter(|to| to.contains(&address)).max_by_key(IpNet::prefix_len),
        _ => None,
    };
    let Some(prefix) = prefix else { return Routes::default() };
    // What does not match is not made into text.
    let matching = config.routes.iter().filter(|route| route.to.contains(&prefix));
    let one = |route: &config::Route| config::Route {
        to: [prefix].into(),
        target: route.target.clone(),
        metric: route.metric,
    };
    let only = Config {
        interfaces: config.interfaces.clone(),
        routes: matching.map(one).collect(),
        ..Config::default()
    };
    let mut routes = manage::routes(&only, learnt, 0, usize::MAX);
    let name = prefix.to_string();
    routes.routes.retain(|route| route.to == name);
    routes.total = routes.routes.len() as u64;
    routes.routes.truncate(most);
    routes
}
