//! Puts configuration texts in force, for whoever keeps account of them. Task level, management's.

use crate::config::{self, Attachment, Config, Interface, Route};
use crate::interfaces::{self, Interfaces};
use alloc::string::String;
use alloc::vec::Vec;
use ipnet::IpNet;
use weir_machine::frames;
use weir_manage::configurations::{Effect, Engine};
use weir_manage::model::{self, ChangeKind, ConfigError};
use weir_sync::Control;

/// The interfaces, about to be given another configuration.
pub(super) struct Applier<'a> {
    pub(super) interfaces: &'a mut Interfaces,
    pub(super) cx: &'a Control,
    /// What errors call the text.
    pub(super) name: &'a str,
    /// What was wrong last, as text for the console: with the lines in question, unlike errors one by one.
    pub(super) said: String,
}

impl<'a> Applier<'a> {
    pub(super) fn new(interfaces: &'a mut Interfaces, cx: &'a Control, name: &'a str) -> Self {
        Self { interfaces, cx, name, said: String::new() }
    }

    fn read(&mut self, text: &str) -> Result<Config, Vec<ConfigError>> {
        if text.is_empty() {
            let none =
                Config { interfaces: Vec::new(), routes: Vec::new(), ..self.interfaces.config().clone() };
            return Ok(none);
        }
        let free = frames::free_bytes();
        let config = match Config::read(text.as_bytes(), self.name, free) {
            Ok(config) => config,
            Err(wrong) => {
                // Again, one by one; but not where there is no memory to read it.
                let again =
                    (config::appetite(text.as_bytes()) <= free).then(|| Config::parse(text.as_bytes()));
                return match again {
                    Some(Err(errors)) => {
                        self.said = wrong;
                        Err(errors.iter().map(model_error).collect())
                    }
                    _ => Err(self.refused(wrong)),
                };
            }
        };
        match self.interfaces.fits(&config) {
            Ok(()) => Ok(config),
            Err(wrong) => Err(self.refused(wrong)),
        }
    }

    fn refused(&mut self, wrong: String) -> Vec<ConfigError> {
        let error = |line: &str| ConfigError { message: line.into(), ..ConfigError::default() };
        let errors = wrong.lines().map(error).collect();
        self.said = wrong;
        errors
    }
}

impl Engine for Applier<'_> {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let config = self.read(text)?;
        Ok(effect(self.interfaces.config(), &config))
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let config = self.read(text)?;
        let effect = effect(self.interfaces.config(), &config);
        let change = self.interfaces.replace(self.cx, config).map_err(|wrong| self.refused(wrong))?;
        interfaces::log(&change);
        Ok(effect)
    }
}

fn model_error(error: &config::Error) -> ConfigError {
    ConfigError {
        line: error.line as u64,
        column: error.column as u64,
        key: error.key.clone(),
        message: error.message.clone(),
        help: error.help.clone(),
    }
}

/// What is different about interfaces and routes.
fn effect(before: &Config, after: &Config) -> Effect {
    let named = |config: &'_ Config, name: &str| config.interfaces.iter().position(|own| own.name == name);
    let change = |change, interface: &Interface| model::Change { change, interface: interface.name.clone() };
    let mut interfaces = Vec::new();
    for interface in &after.interfaces {
        match named(before, &interface.name).and_then(|at| before.interfaces.get(at)) {
            None => interfaces.push(change(ChangeKind::Attach, interface)),
            Some(old) if !alike((before, old), (after, interface)) => {
                interfaces.push(change(ChangeKind::Modify, interface));
            }
            Some(_) => {}
        }
    }
    let gone = before.interfaces.iter().filter(|old| named(after, &old.name).is_none());
    interfaces.extend(gone.map(|old| change(ChangeKind::Detach, old)));
    if before.routes == after.routes {
        return Effect { interfaces, ..Effect::default() };
    }
    let (old, new) = (destinations(&before.routes), destinations(&after.routes));
    let without = |all: &[(IpNet, u32)], others: &[(IpNet, u32)]| -> u64 {
        all.iter().filter(|one| others.binary_search(one).is_err()).count() as u64
    };
    Effect { interfaces, routes_added: without(&new, &old), routes_removed: without(&old, &new) }
}

/// Whether two interfaces are the same, in whatever order their configurations have them.
fn alike((before, old): (&Config, &Interface), (after, new): (&Config, &Interface)) -> bool {
    let parent = |config: &Config, interface: &Interface| match interface.attachment {
        Attachment::Vlan { parent, .. } => config.interfaces.get(parent).map(|parent| parent.name.clone()),
        Attachment::Device(_) => None,
    };
    let without_parent = |interface: &Interface| match interface.attachment {
        Attachment::Vlan { id, .. } => {
            Interface { attachment: Attachment::Vlan { parent: 0, id }, ..interface.clone() }
        }
        Attachment::Device(_) => interface.clone(),
    };
    parent(before, old) == parent(after, new) && without_parent(old) == without_parent(new)
}

/// Destinations and metrics of all routes, in order.
fn destinations(routes: &[Route]) -> Vec<(IpNet, u32)> {
    let mut all: Vec<(IpNet, u32)> =
        routes.iter().flat_map(|route| route.to.iter().map(|to| (*to, route.metric))).collect();
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_changes_is_told_by_name() {
        let before = config(
            "[interface.wan]\nmatch = { port = 0 }\naddresses = [\"192.0.2.1/24\"]\n[interface.v]\nparent = \"wan\"\nvlan = 5\n\
             [[route]]\nto = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\nvia = \"192.0.2.2\"\n",
        );
        assert_eq!(effect(&before, &before), Effect::default());
        let after = config(
            "[interface.lan]\nmatch = { port = 1 }\n[interface.wan]\nmatch = { port = 0 }\nmtu = 1400\naddresses = [\"192.0.2.1/24\"]\n\
             [interface.v]\nparent = \"wan\"\nvlan = 5\n[[route]]\nto = \"10.0.0.0/8\"\nvia = \"192.0.2.3\"\n",
        );
        let change = |change, name: &str| model::Change { change, interface: name.into() };
        let expected = Effect {
            interfaces: [change(ChangeKind::Attach, "lan"), change(ChangeKind::Modify, "wan")].into(),
            routes_added: 0,
            routes_removed: 1,
        };
        assert_eq!(effect(&before, &after), expected);
        assert_eq!(effect(&after, &before).interfaces.last(), Some(&change(ChangeKind::Detach, "lan")));
    }
}
