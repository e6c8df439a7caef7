//! The simulated router's configurations: enough of their form to tell what changes, and one rule to break.

use std::collections::BTreeMap;

use weir_manage::configurations::{Effect, Engine};
use weir_manage::model::{Change, ChangeKind, ConfigError};

/// The text in force.
#[derive(Default)]
pub(crate) struct Sim {
    pub(crate) text: String,
}

/// Settings of a section, without comments: key and value.
pub(crate) type Settings<'t> = Vec<(&'t str, &'t str)>;

/// Sections by their heads, in order; what comes before the first is not in any.
pub(crate) fn sections(text: &str) -> Vec<(&str, Settings<'_>)> {
    let mut sections: Vec<(&str, Settings<'_>)> = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match (line.starts_with('['), line.split_once('=')) {
            (true, _) => sections.push((line.trim_matches(['[', ']']), Vec::new())),
            (false, Some((key, value))) => {
                if let Some((_, settings)) = sections.last_mut() {
                    settings.push((key.trim(), value.trim()));
                }
            }
            (false, None) => {}
        }
    }
    sections
}

fn interfaces(text: &str) -> BTreeMap<&str, Settings<'_>> {
    let named = sections(text).into_iter();
    named.filter_map(|(head, settings)| Some((head.strip_prefix("interface.")?, settings))).collect()
}

fn routes(text: &str) -> Vec<Settings<'_>> {
    let all = sections(text).into_iter();
    all.filter(|(head, _)| *head == "route").map(|(_, settings)| settings).collect()
}

/// How many of `left` are not in `right`.
fn without<T: PartialEq>(left: &[T], right: &[T]) -> u64 {
    left.iter().filter(|one| !right.contains(one)).count() as u64
}

impl Engine for Sim {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let errors = errors(text);
        if !errors.is_empty() {
            return Err(errors);
        }
        let (old, new) = (interfaces(&self.text), interfaces(text));
        let change = |change, name: &&str| Change { change, interface: (*name).into() };
        let gone =
            old.keys().filter(|name| !new.contains_key(*name)).map(|name| change(ChangeKind::Detach, name));
        let come = new.iter().filter_map(|(name, settings)| match old.get(name) {
            None => Some(change(ChangeKind::Attach, name)),
            Some(before) if before != settings => Some(change(ChangeKind::Modify, name)),
            Some(_) => None,
        });
        let (before, after) = (routes(&self.text), routes(text));
        Ok(Effect {
            interfaces: gone.chain(come).collect(),
            routes_added: without(&after, &before),
            routes_removed: without(&before, &after),
        })
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let effect = self.check(text)?;
        self.text = text.into();
        Ok(effect)
    }
}

/// An MTU must be one. The words are the real router's.
fn errors(text: &str) -> Vec<ConfigError> {
    let mut head = "";
    let mut errors = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.starts_with('[') {
            head = line.trim_matches(['[', ']']);
        }
        let Some(value) = line.strip_prefix("mtu = ") else { continue };
        let found = value.split('#').next().unwrap_or_default().trim();
        if !found.parse().is_ok_and(|octets: u64| (68..=9216).contains(&octets)) {
            errors.push(ConfigError {
                line: number,
                column: 7,
                key: format!("{head}.mtu"),
                message: format!("found the number {found}, expected a number of octets from 68 to 9216"),
                help: None,
            });
        }
    }
    errors
}
