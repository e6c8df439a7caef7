//! The router as the console knows it. Task level, management's.

use super::engine::Applier;
use super::{ENDING, Management};
use crate::config::{self, Config, Reject, Target};
use crate::guest::Guest;
use crate::modules;
use crate::observe;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use weir_machine::xen::control::Request;
use weir_machine::{clock, frames, println, trace};
use weir_manage::console::{End, Router, Tracing};
use weir_manage::fingerprint::fingerprint;
use weir_manage::model::{
    Committed, ConfigVersion, Cpus, Interface, NextHop, Plan, Problem, Route, RouteAction, RouteOrigin,
    Routes, Status,
};
use weir_manage::problem::Refused;
use weir_netstack::Instant;
use weir_sync::Control;

/// What errors call a text that was typed.
const CANDIDATE: &str = "candidate";
const CONSOLE: &str = "console";

/// Management, in the hands of whoever is at the console.
pub(super) struct Operator<'a> {
    pub(super) management: &'a mut Management,
    pub(super) cx: &'a Control,
    pub(super) now: Instant,
}

impl Operator<'_> {
    fn now_ms(&self) -> u64 {
        self.now.as_nanos() / 1_000_000
    }

    /// Puts a text in force at once.
    fn put_in_force(&mut self, text: &[u8], name: &str, place: String) -> Result<(), String> {
        let Ok(text) = core::str::from_utf8(text) else {
            return Err(Config::read(text, name, frames::free_bytes()).err().unwrap_or_default());
        };
        let now_ms = self.now_ms();
        let Management { interfaces, configurations, .. } = &mut *self.management;
        let mut engine = Applier::new(interfaces, self.cx, name);
        match configurations.replace(text, &place, now_ms, &mut engine) {
            Ok(_) => {
                self.management.place = Some(place);
                Ok(())
            }
            Err(refused) if engine.said.is_empty() => Err(refused.0.detail + "\n"),
            Err(_) => Err(engine.said),
        }
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
        let place = management.place.as_deref();
        observe::status(management.shared, &management.platform, hostname, place, cpus, holdings)
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.management.interfaces.status().iter().map(observe::InterfaceStatus::model).collect()
    }

    fn cpus(&self) -> Cpus {
        let interfaces = &self.management.interfaces;
        Cpus {
            cpus: observe::cpus(self.management.shared, interfaces.cpus(), interfaces.counters()),
            tasks: observe::tasks(),
            locks: observe::locks(),
        }
    }

    fn routes(&self, wanted: Option<&str>, most: usize) -> Routes {
        let config = self.management.interfaces.config();
        let wanted = wanted.map(Wanted::read);
        let fits = |to: &IpNet| wanted.as_ref().is_none_or(|wanted| wanted.fits(to));
        let mut found = Routes::default();
        let mut take = |to: &IpNet, route: &dyn Fn() -> Route| {
            if fits(to) {
                found.total += 1;
                if found.routes.len() < most {
                    found.routes.push(Route { to: to.to_string(), ..route() });
                }
            }
        };
        for interface in &config.interfaces {
            for address in &interface.addresses {
                let hop = NextHop { via: None, interface: Some(interface.name.clone()), weight: 1 };
                let next_hops = Vec::from([hop]);
                take(&address.trunc(), &|| Route {
                    origin: RouteOrigin::Connected,
                    next_hops: next_hops.clone(),
                    ..Route::default()
                });
            }
        }
        for own in &config.routes {
            for to in &own.to {
                take(to, &|| static_route(config, own));
            }
        }
        found
    }

    fn pages(&self) -> Vec<String> {
        Vec::new()
    }

    fn configuration(&self) -> String {
        self.management.configurations.view().running.text.to_string()
    }

    fn history(&self) -> Vec<ConfigVersion> {
        self.management.configurations.view().history()
    }

    fn version(&self, version: u64) -> Option<String> {
        self.management.configurations.view().text_of(version).map(|text| text.text.to_string())
    }

    fn unconfirmed_ms(&self) -> Option<u64> {
        self.management.configurations.deadline_ms().map(|at| at.saturating_sub(self.now_ms()))
    }

    fn check(&mut self, text: &str) -> Result<Plan, Problem> {
        let Management { interfaces, configurations, .. } = &mut *self.management;
        let mut engine = Applier::new(interfaces, self.cx, CANDIDATE);
        configurations.put(text, None, &mut engine).map_err(problem)
    }

    fn commit(&mut self, text: &str, base: &str, confirm_ms: Option<u64>) -> Result<Committed, Problem> {
        let now_ms = self.now_ms();
        let Management { interfaces, configurations, .. } = &mut *self.management;
        let mut engine = Applier::new(interfaces, self.cx, CANDIDATE);
        let base = fingerprint(base.as_bytes());
        let committed = configurations
            .put(text, Some(&base), &mut engine)
            .and_then(|_| configurations.commit(CONSOLE, confirm_ms, None, now_ms, &mut engine))
            .map_err(problem)?;
        self.management.place = Some(CONSOLE.into());
        Ok(committed)
    }

    fn confirm(&mut self) -> Result<u64, Problem> {
        self.management.configurations.confirm().map_err(problem)
    }

    fn revert(&mut self) -> Result<u64, Problem> {
        let now_ms = self.now_ms();
        let Management { interfaces, configurations, .. } = &mut *self.management;
        let mut engine = Applier::new(interfaces, self.cx, CANDIDATE);
        let version = configurations.revert(now_ms, &mut engine).map_err(problem)?;
        self.management.place = Some(super::reverted(version));
        Ok(version)
    }

    fn replace(&mut self, text: &[u8]) -> Result<(), String> {
        self.put_in_force(text, CONSOLE, CONSOLE.into())
    }

    fn replace_by_module(&mut self, number: u64) -> Result<(), String> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let place = modules::place(number);
        match self.management.modules.text(number) {
            Some(text) => self.put_in_force(text, &place, place.clone()),
            // Says why there is none.
            None => self.management.modules.config(number, frames::free_bytes()).map(drop),
        }
    }

    fn modules(&self) -> String {
        let place = self.management.place.as_deref().unwrap_or("nowhere: none is in force");
        alloc::format!("the configuration is from: {place}\n{}", self.management.modules)
    }

    fn longest(&self) -> usize {
        config::longest(frames::free_bytes())
    }

    fn trace(&mut self, tracing: Tracing) -> Result<(), String> {
        let switch = match tracing {
            Tracing::On => trace::Switch::On,
            Tracing::Off => trace::Switch::Off,
        };
        trace::switch(switch).map_err(|wrong| wrong.to_string())
    }

    fn print_events(&mut self) {
        let records = trace::records();
        println!(
            "trace of {} events, {} lost; {} ticks a second",
            records.len(),
            trace::lost(),
            clock::tsc_hz()
        );
        self.management.events = records.into_iter();
        if self.management.events.len() == 0 {
            println!("end of trace");
        }
    }

    fn end(&mut self, end: End) {
        let wish = match end {
            End::Reboot => Request::Reboot,
            End::PowerOff => Request::PowerOff,
        };
        super::stop(&mut self.management.interfaces, self.cx);
        self.management.end = Some((wish, self.now + ENDING));
    }
}

/// Which routes somebody asks for.
enum Wanted {
    /// Those to this prefix.
    Prefix(IpNet),
    /// Those that packets to this address may take.
    Address(IpAddr),
    Nothing,
}

impl Wanted {
    fn read(text: &str) -> Self {
        match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
            (Ok(prefix), _) => Wanted::Prefix(prefix.trunc()),
            (_, Ok(address)) => Wanted::Address(address),
            _ => Wanted::Nothing,
        }
    }

    fn fits(&self, to: &IpNet) -> bool {
        match self {
            Wanted::Prefix(prefix) => to == prefix,
            Wanted::Address(address) => to.contains(address),
            Wanted::Nothing => false,
        }
    }
}

fn static_route(config: &Config, own: &config::Route) -> Route {
    let hop = |hop: &config::NextHop| NextHop {
        via: hop.via.map(|via| via.to_string()),
        interface: hop.interface.and_then(|at| Some(config.interfaces.get(at)?.name.clone())),
        weight: hop.weight.into(),
    };
    let (action, next_hops) = match &own.target {
        Target::Forward(hops) => (RouteAction::Forward, hops.iter().map(hop).collect()),
        Target::Reject(Reject::Blackhole) => (RouteAction::Blackhole, Vec::new()),
        Target::Reject(Reject::Unreachable) => (RouteAction::Unreachable, Vec::new()),
        Target::Reject(Reject::Prohibit) => (RouteAction::Prohibit, Vec::new()),
    };
    Route { action, origin: RouteOrigin::Static, metric: own.metric, next_hops, ..Route::default() }
}
