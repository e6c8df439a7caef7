//! How configurations get in force here, and what one changes beside its text.

use crate::config::{Config, Errors, appetite};
use crate::interfaces::{self, Interfaces};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use weir_machine::frames;
use weir_manage::configurations::{Effect, Engine};
use weir_manage::model::{Change, ChangeKind, ConfigError};
use weir_sync::Control;

/// Routes of either configuration beyond which they are counted, not compared.
const COMPARED: usize = 100_000;

/// The router in service. Lives for one turn of management.
pub struct Live<'a> {
    /// Management's.
    pub cx: &'a Control,
    /// Management's.
    pub interfaces: &'a mut Interfaces,
    /// What the text says, if that was read already.
    pub read: Option<Config>,
}

impl Live<'_> {
    fn config(&mut self, text: &str) -> Result<Config, Vec<ConfigError>> {
        if let Some(config) = self.read.take_if(|config| *config.text.0 == *text) {
            return Ok(config);
        }
        if text.is_empty() {
            return Ok(Config { hostname: self.interfaces.config().hostname.clone(), ..Config::default() });
        }
        let (needed, free) = (appetite(text.as_bytes()), frames::free_bytes());
        if needed > free {
            let message = format!(
                "{} bytes take up to {} MiB to read and {} MiB are free",
                text.len(),
                needed.div_ceil(1 << 20),
                free >> 20
            );
            return Err(one(message, Some("give the machine more memory".into())));
        }
        Config::parse(text.as_bytes()).map_err(|errors| listed(&errors))
    }
}

fn one(message: String, help: Option<String>) -> Vec<ConfigError> {
    vec![ConfigError { message, help, ..ConfigError::default() }]
}

fn listed(errors: &Errors) -> Vec<ConfigError> {
    let row = |error: &crate::config::Error| ConfigError {
        line: error.line as u64,
        column: error.column as u64,
        key: error.key.clone(),
        message: error.message.clone(),
        help: error.help.clone(),
    };
    errors.iter().map(row).collect()
}

impl Engine for Live<'_> {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let config = self.config(text)?;
        self.interfaces.check(&config).map_err(|wrong| one(wrong.trim_end().to_string(), None))?;
        Ok(effect(self.interfaces.config(), &config))
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let config = self.config(text)?;
        let effect = effect(self.interfaces.config(), &config);
        let change = self
            .interfaces
            .replace(self.cx, config)
            .map_err(|wrong| one(wrong.trim_end().to_string(), None))?;
        interfaces::log(&change);
        Ok(effect)
    }
}

/// From one configuration to another.
fn effect(old: &Config, new: &Config) -> Effect {
    let mut changes = Vec::new();
    for interface in &new.interfaces {
        let change = match old.interfaces.iter().find(|known| known.name == interface.name) {
            None => ChangeKind::Attach,
            Some(known) if known.attachment != interface.attachment => ChangeKind::Attach,
            Some(known) if known != interface => ChangeKind::Modify,
            Some(_) => continue,
        };
        changes.push(Change { change, interface: interface.name.clone() });
    }
    let gone = old.interfaces.iter().filter(|known| new.interfaces.iter().all(|own| own.name != known.name));
    changes.extend(gone.map(|known| Change { change: ChangeKind::Detach, interface: known.name.clone() }));
    let count = |config: &Config| config.routes.iter().map(|route| route.to.len()).sum::<usize>();
    let (before, after) = (count(old), count(new));
    let (added, removed) = match before.max(after) > COMPARED {
        true => (after.saturating_sub(before), before.saturating_sub(after)),
        false => {
            let all = |config: &Config| -> BTreeSet<String> {
                let hop = |config: &Config, at: Option<usize>| {
                    at.and_then(|at| config.interfaces.get(at)).map(|interface| interface.name.clone())
                };
                let route = |route: &crate::config::Route| {
                    let target = match &route.target {
                        crate::config::Target::Forward(hops) => {
                            let hops =
                                hops.iter().map(|own| (own.via, hop(config, own.interface), own.weight));
                            format!("{:?}", hops.collect::<Vec<_>>())
                        }
                        crate::config::Target::Reject(reject) => format!("{reject:?}"),
                    };
                    let metric = route.metric;
                    route.to.iter().map(move |to| format!("{to} {metric} {target}")).collect::<Vec<_>>()
                };
                let mut all = BTreeSet::new();
                all.extend(config.routes.iter().flat_map(route));
                all
            };
            let (old, new) = (all(old), all(new));
            (new.difference(&old).count(), old.difference(&new).count())
        }
    };
    Effect { interfaces: changes, routes_added: added as u64, routes_removed: removed as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn says_what_happens_to_interfaces_and_routes() {
        let old = config(
            "[interface.wan]\nmatch.port = 0\naddresses = [\"192.0.2.1/24\"]\n[interface.lan]\nmatch.port = 1\n\
             [[route]]\nto = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\nvia = \"192.0.2.2\"\n",
        );
        let new = config(
            "[interface.wan]\nmatch.port = 0\naddresses = [\"192.0.2.1/24\"]\nmtu = 1400\n[interface.dmz]\nmatch.port = 1\n\
             [[route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.2\"\n[[route]]\nto = \"10.1.0.0/16\"\nvia = \"192.0.2.3\"\n",
        );
        let effect = effect(&old, &new);
        let changes: Vec<_> =
            effect.interfaces.iter().map(|own| (own.change.word(), own.interface.as_str())).collect();
        assert_eq!(changes, [("modify", "wan"), ("attach", "dmz"), ("detach", "lan")]);
        assert_eq!((effect.routes_added, effect.routes_removed), (1, 1));
    }
}
