//! Candidate, commit, confirm, revert, history: what becomes of configurations. Without I/O or clock of its own; one owner.
//!
//! The router puts a text in force whole or not at all ([`Engine::apply`]); here is only noted what it did, after it did.
//! So at any moment one whole text is in force, and it is the one noted or the one being put in force.

use crate::diff::unified;
use crate::fingerprint::fingerprint;
use crate::model::{Change, Committed, ConfigError, ConfigVersion, Plan, VersionState};
use crate::problem::{self, Refused};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Versions that are remembered.
pub const HISTORY: usize = 50;
/// Bytes of former texts that are kept to go back to, all together.
pub const KEPT_BYTES: usize = 1 << 20;
/// Bytes of their diffs.
const DIFF_BYTES: usize = 256 << 10;
/// Longest time that a commit may wait to be confirmed, in seconds.
pub const LONGEST_CONFIRM: u64 = 3600;
/// When a revert that failed is tried again.
const AGAIN_MS: u64 = 1000;

/// What puts configurations in force.
pub trait Engine {
    /// Checks a text whole, and says what it would change. Changes nothing.
    ///
    /// # Errors
    /// All that is wrong with it.
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>>;

    /// Puts a text in force: all of it, or nothing. The empty text stands for no configuration.
    ///
    /// # Errors
    /// As [`check`](Self::check); then nothing has changed.
    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>>;
}

/// What a configuration changes beside its text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// Interfaces that do not stay as they are.
    pub interfaces: Vec<Change>,
    /// Destinations of routes that come.
    pub routes_added: u64,
    /// Destinations of routes that go.
    pub routes_removed: u64,
}

/// A whole text and its fingerprint. `[I]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The text.
    pub text: Arc<str>,
    /// Its fingerprint.
    pub etag: Arc<str>,
}

impl Text {
    /// A text with its fingerprint.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let etag = fingerprint(text.as_bytes()).into();
        Self { text, etag }
    }
}

/// A text that waits to be committed. `[I]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// It.
    pub text: Text,
    /// The fingerprint of the text in force when it was made.
    pub replaces: Arc<str>,
}

/// A version in force that waits to be confirmed. `[I]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The text that comes back otherwise.
    before: Text,
    /// Its version.
    before_version: u64,
    /// Who committed it.
    pub by: Arc<str>,
    /// Milliseconds since entry, when it is reverted.
    pub deadline_ms: u64,
}

/// A version that is or was in force. `[I]`
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    text: Option<Text>,
    etag: Arc<str>,
    state: VersionState,
    by: Arc<str>,
    at_ms: u64,
    diff: Arc<str>,
}

/// What is known of configurations, to be looked at. Copying it copies no text. `[I]`
#[derive(Clone, Debug)]
pub struct View {
    /// In force.
    pub running: Text,
    /// Its version.
    pub version: u64,
    /// Waits to be committed.
    pub candidate: Option<Candidate>,
    /// Waits to be confirmed.
    pub pending: Option<Pending>,
    history: Arc<[Entry]>,
}

impl View {
    /// The versions, the newest first.
    pub fn history(&self) -> Vec<ConfigVersion> {
        let pending = self.pending.as_ref().map(|pending| pending.deadline_ms);
        let row = |entry: &Entry| ConfigVersion {
            version: entry.version,
            etag: String::from(&*entry.etag),
            state: entry.state,
            by: String::from(&*entry.by),
            at_ms: entry.at_ms,
            reverts_at_ms: pending.filter(|_| entry.version == self.version),
            kept: entry.text.is_some(),
            diff: String::from(&*entry.diff),
        };
        self.history.iter().map(row).collect()
    }

    /// The text of a version, if that is kept.
    pub fn text_of(&self, version: u64) -> Option<&Text> {
        self.history.iter().find(|entry| entry.version == version)?.text.as_ref()
    }
}

/// What became of a version that nobody confirmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reverted {
    /// The one before it is in force again, as this version.
    Done(u64),
    /// It could not be put in force, and will be tried again.
    Again(Vec<ConfigError>),
}

/// The configurations of one router.
#[derive(Debug)]
pub struct Configurations {
    running: Text,
    version: u64,
    candidate: Option<Candidate>,
    pending: Option<Pending>,
    /// The newest first.
    history: VecDeque<Entry>,
}

impl Configurations {
    /// With `text` in force, from `by`; the empty text if none is.
    pub fn new(text: impl Into<Arc<str>>, by: &str, now_ms: u64) -> Self {
        let running = Text::new(text);
        let mut new = Self { running, version: 0, candidate: None, pending: None, history: VecDeque::new() };
        new.note(new.running.clone(), VersionState::Running, by, now_ms, "");
        new
    }

    /// A copy to look at.
    pub fn view(&self) -> View {
        View {
            running: self.running.clone(),
            version: self.version,
            candidate: self.candidate.clone(),
            pending: self.pending.clone(),
            history: self.history.iter().cloned().collect(),
        }
    }

    /// Takes a candidate if all of it is good. `if_match`: only if one of these is the fingerprint of the text in force.
    ///
    /// # Errors
    /// What is wrong with it; or somebody changed the configuration meanwhile.
    pub fn put(
        &mut self,
        text: &str,
        if_match: Option<&[String]>,
        engine: &mut dyn Engine,
    ) -> Result<Plan, Refused> {
        self.refuse_others(if_match)?;
        let effect = engine.check(text).map_err(problem::invalid)?;
        let text = Text::new(text);
        let plan = self.plan(&text, effect);
        self.candidate = Some(Candidate { text, replaces: self.running.etag.clone() });
        Ok(plan)
    }

    /// Makes the text of a former version the candidate.
    ///
    /// # Errors
    /// There is no such version, its text is not kept, or it does not fit the router any more.
    pub fn rollback(&mut self, version: u64, engine: &mut dyn Engine) -> Result<Plan, Refused> {
        let entry = self.history.iter().find(|entry| entry.version == version);
        let text = match entry.map(|entry| &entry.text) {
            None => return Err(problem::no_version(version, self.version)),
            Some(None) => return Err(problem::not_kept(version)),
            Some(Some(text)) => text.text.clone(),
        };
        self.put(&text, None, engine)
    }

    /// Forgets the candidate. Whether there was one.
    pub fn discard(&mut self) -> bool {
        self.candidate.take().is_some()
    }

    /// Puts the candidate in force. With `confirm_ms` it is taken back after so long unless it is confirmed.
    ///
    /// # Errors
    /// Another version waits to be confirmed; there is no candidate; it is none of `if_match`; it was made for another text
    /// than the one in force; or the router refuses it. Then nothing has changed.
    pub fn commit(
        &mut self,
        by: &str,
        confirm_ms: Option<u64>,
        if_match: Option<&[String]>,
        now_ms: u64,
        engine: &mut dyn Engine,
    ) -> Result<Committed, Refused> {
        self.refuse_while_pending(now_ms)?;
        let Some(candidate) = &self.candidate else { return Err(problem::no_candidate()) };
        if let Some(expected) = if_match.filter(|tags| tags.iter().all(|tag| **tag != *candidate.text.etag)) {
            return Err(problem::other_candidate(expected, &candidate.text.etag));
        }
        if candidate.replaces != self.running.etag {
            return Err(problem::outdated(&candidate.replaces, &self.running.etag));
        }
        let text = candidate.text.clone();
        let committed = self.enforce(text, by, confirm_ms, now_ms, engine)?;
        self.candidate = None;
        Ok(committed)
    }

    /// Puts a text in force without a word to the candidate, for the console and the toolstack: that stays, and is outdated by
    /// it. The rest is as in [`put`](Self::put) and [`commit`](Self::commit).
    ///
    /// # Errors
    /// Another version waits to be confirmed; the text in force is none of `if_match`; or the router refuses it. Then nothing
    /// has changed.
    pub fn replace(
        &mut self,
        text: impl Into<Arc<str>>,
        by: &str,
        confirm_ms: Option<u64>,
        if_match: Option<&[String]>,
        now_ms: u64,
        engine: &mut dyn Engine,
    ) -> Result<Committed, Refused> {
        self.refuse_while_pending(now_ms)?;
        self.refuse_others(if_match)?;
        self.enforce(Text::new(text), by, confirm_ms, now_ms, engine)
    }

    /// Confirms the version that waits for it; it stays.
    ///
    /// # Errors
    /// None does.
    pub fn confirm(&mut self) -> Result<u64, Refused> {
        self.pending.take().ok_or_else(problem::nothing_pending)?;
        self.mark(self.version, VersionState::Running);
        self.forget();
        Ok(self.version)
    }

    /// Takes the version back that waits to be confirmed.
    ///
    /// # Errors
    /// None does, or the router refuses the one before it.
    pub fn revert(&mut self, now_ms: u64, engine: &mut dyn Engine) -> Result<u64, Refused> {
        let Some(pending) = &self.pending else { return Err(problem::nothing_pending()) };
        let (text, version) = (pending.before.clone(), pending.before_version);
        engine.apply(&text.text).map_err(problem::invalid)?;
        self.pending = None;
        self.mark(self.version, VersionState::Reverted);
        let diff = unified(&self.running.text, &text.text, "reverted", "running");
        self.note(text, VersionState::Running, &format!("revert to version {version}"), now_ms, &diff);
        Ok(self.version)
    }

    /// When [`tick`](Self::tick) has something to do, in milliseconds since entry.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.deadline_ms)
    }

    /// Reverts what was not confirmed in time. A revert that fails is tried again until it is done: the text before was in
    /// force once.
    pub fn tick(&mut self, now_ms: u64, engine: &mut dyn Engine) -> Option<Reverted> {
        self.deadline_ms().filter(|&deadline| now_ms >= deadline)?;
        match self.revert(now_ms, engine) {
            Ok(version) => Some(Reverted::Done(version)),
            Err(refused) => {
                if let Some(pending) = &mut self.pending {
                    pending.deadline_ms = now_ms + AGAIN_MS;
                }
                Some(Reverted::Again(refused.0.errors))
            }
        }
    }

    fn refuse_while_pending(&self, now_ms: u64) -> Result<(), Refused> {
        match &self.pending {
            None => Ok(()),
            Some(pending) => {
                let left = pending.deadline_ms.saturating_sub(now_ms).div_ceil(1000);
                Err(problem::pending(self.version, &pending.by, left))
            }
        }
    }

    fn refuse_others(&self, if_match: Option<&[String]>) -> Result<(), Refused> {
        match if_match.filter(|tags| tags.iter().all(|tag| **tag != *self.running.etag)) {
            Some(expected) => Err(problem::changed_meanwhile(expected, &self.running.etag)),
            None => Ok(()),
        }
    }

    fn plan(&self, text: &Text, effect: Effect) -> Plan {
        Plan {
            etag: String::from(&*text.etag),
            replaces: String::from(&*self.running.etag),
            interfaces: effect.interfaces,
            routes_added: effect.routes_added,
            routes_removed: effect.routes_removed,
            diff: unified(&self.running.text, &text.text, "running", "candidate"),
        }
    }

    fn enforce(
        &mut self,
        text: Text,
        by: &str,
        confirm_ms: Option<u64>,
        now_ms: u64,
        engine: &mut dyn Engine,
    ) -> Result<Committed, Refused> {
        let effect = engine.apply(&text.text).map_err(problem::invalid)?;
        let plan = self.plan(&text, effect);
        let state = match confirm_ms {
            None => VersionState::Running,
            Some(_) => VersionState::Unconfirmed,
        };
        let before = (self.running.clone(), self.version);
        self.mark(self.version, VersionState::Replaced);
        self.note(text, state, by, now_ms, &plan.diff);
        self.pending = confirm_ms.map(|limit| Pending {
            before: before.0,
            before_version: before.1,
            by: by.into(),
            deadline_ms: now_ms.saturating_add(limit),
        });
        Ok(Committed { version: self.version, confirm_within_ms: confirm_ms, plan })
    }

    /// A text is in force from now on.
    fn note(&mut self, text: Text, state: VersionState, by: &str, at_ms: u64, diff: &str) {
        self.version += 1;
        self.running = text.clone();
        let etag = text.etag.clone();
        let entry = Entry {
            version: self.version,
            text: Some(text),
            etag,
            state,
            by: by.into(),
            at_ms,
            diff: diff.into(),
        };
        self.history.push_front(entry);
        self.forget();
    }

    fn mark(&mut self, version: u64, state: VersionState) {
        if let Some(entry) = self.history.iter_mut().find(|entry| entry.version == version) {
            entry.state = state;
        }
    }

    /// Drops the oldest versions, texts and diffs beyond what may be kept. The text in force does not count.
    fn forget(&mut self) {
        self.history.truncate(HISTORY);
        let (mut bytes, mut diffs) = (0, 0);
        let running = &self.running.text;
        for entry in &mut self.history {
            if let Some(text) = entry.text.as_ref().filter(|text| !Arc::ptr_eq(&text.text, running)) {
                bytes += text.text.len();
                if bytes > KEPT_BYTES {
                    entry.text = None;
                }
            }
            diffs += entry.diff.len();
            if diffs > DIFF_BYTES {
                entry.diff = "".into();
            }
        }
    }
}
