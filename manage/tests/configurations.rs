//! Candidate, commit, confirm and revert, against a router that refuses now and then and is cut off at any moment.

use proptest::prelude::*;
use weir_manage::configurations::{Configurations, Effect, Engine, HISTORY, KEPT_BYTES, Reverted};
use weir_manage::model::{ConfigError, VersionState};

/// A router whose packets see `published`: written at the last step of a change, if it comes that far.
#[derive(Default)]
struct Sim {
    published: String,
    /// Steps that a change gets through before it fails.
    steps: Option<u32>,
}

const STEPS: u32 = 3;

fn wrong(message: &str) -> Vec<ConfigError> {
    vec![ConfigError { message: message.into(), ..ConfigError::default() }]
}

impl Engine for Sim {
    fn check(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        if text.contains("bad") { Err(wrong("bad")) } else { Ok(Effect::default()) }
    }

    fn apply(&mut self, text: &str) -> Result<Effect, Vec<ConfigError>> {
        let effect = self.check(text)?;
        if self.steps.is_some_and(|steps| steps < STEPS) {
            return Err(wrong("no memory"));
        }
        self.published = text.into();
        Ok(effect)
    }
}

fn start() -> (Configurations, Sim) {
    (Configurations::new("boot\n", "boot module", 5), Sim { published: "boot\n".into(), steps: None })
}

#[test]
fn a_candidate_changes_nothing_until_it_is_committed() {
    let (mut configurations, mut sim) = start();
    let plan = configurations.put("new\n", None, &mut sim).unwrap();
    assert_eq!(plan.diff, "--- running\n+++ candidate\n@@ -1 +1 @@\n-boot\n+new\n");
    assert_eq!((sim.published.as_str(), &*configurations.view().running.text), ("boot\n", "boot\n"));
    let committed = configurations.commit("ann", None, None, 10, &mut sim).unwrap();
    assert_eq!((committed.version, committed.confirm_within_ms), (2, None));
    assert_eq!(sim.published, "new\n");
    let history = configurations.view().history();
    let states: Vec<_> =
        history.iter().map(|entry| (entry.version, entry.state, entry.by.as_str())).collect();
    assert_eq!(states, [(2, VersionState::Running, "ann"), (1, VersionState::Replaced, "boot module")]);
    let refused = configurations.commit("ann", None, None, 11, &mut sim).unwrap_err();
    assert_eq!((refused.0.status, refused.0.title.as_str()), (409, "There is no candidate"));
}

#[test]
fn errors_leave_the_old_candidate_and_the_old_configuration() {
    let (mut configurations, mut sim) = start();
    configurations.put("good\n", None, &mut sim).unwrap();
    let refused = configurations.put("bad\n", None, &mut sim).unwrap_err();
    assert_eq!((refused.0.status, refused.0.errors.len()), (422, 1));
    assert_eq!(&*configurations.view().candidate.unwrap().text.text, "good\n");
    sim.steps = Some(1);
    assert_eq!(configurations.commit("ann", None, None, 1, &mut sim).unwrap_err().0.status, 422);
    assert_eq!((sim.published.as_str(), configurations.view().version), ("boot\n", 1));
    sim.steps = None;
    configurations.commit("ann", None, None, 2, &mut sim).unwrap();
    assert_eq!(sim.published, "good\n");
}

#[test]
fn what_is_not_confirmed_in_time_is_taken_back() {
    let (mut configurations, mut sim) = start();
    configurations.put("new\n", None, &mut sim).unwrap();
    configurations.commit("ann", Some(60_000), None, 1_000, &mut sim).unwrap();
    assert_eq!((sim.published.as_str(), configurations.deadline_ms()), ("new\n", Some(61_000)));
    assert_eq!(configurations.tick(60_999, &mut sim), None);
    sim.steps = Some(0);
    assert!(matches!(configurations.tick(61_000, &mut sim), Some(Reverted::Again(_))));
    assert_eq!((sim.published.as_str(), configurations.deadline_ms()), ("new\n", Some(62_000)));
    sim.steps = None;
    assert_eq!(configurations.tick(62_000, &mut sim), Some(Reverted::Done(3)));
    assert_eq!((sim.published.as_str(), configurations.deadline_ms()), ("boot\n", None));
    let history = configurations.view().history();
    assert_eq!(history[1].state, VersionState::Reverted);
    assert_eq!((history[0].by.as_str(), history[0].etag == history[2].etag), ("revert to version 1", true));
    assert_eq!(configurations.confirm().unwrap_err().0.title, "Nothing waits to be confirmed");
}

#[test]
fn while_one_waits_no_other_is_committed_and_the_refusal_says_what_helps() {
    let (mut configurations, mut sim) = start();
    configurations.put("new\n", None, &mut sim).unwrap();
    configurations.commit("ann", Some(60_000), None, 0, &mut sim).unwrap();
    configurations.put("other\n", None, &mut sim).unwrap();
    let refused = configurations.commit("bob", None, None, 20_000, &mut sim).unwrap_err();
    assert_eq!(refused.0.status, 409);
    assert_eq!(refused.0.detail, "version 2 by ann waits to be confirmed, for 40 s more");
    assert!(refused.0.cure.contains("POST /api/v1/config/confirm"));
    let replaced = configurations.replace("console\n", "console", None, None, 20_000, &mut sim);
    assert_eq!(replaced.unwrap_err().0.status, 409);
    assert_eq!(configurations.confirm(), Ok(2));
    configurations.commit("bob", None, None, 21_000, &mut sim).unwrap();
    assert_eq!(configurations.tick(99_000, &mut sim), None);
    assert_eq!(sim.published, "other\n");
}

#[test]
fn a_text_of_its_own_leaves_the_candidate_to_whom_it_is() {
    let (mut configurations, mut sim) = start();
    configurations.put("first\n", None, &mut sim).unwrap();
    configurations.commit("bob", Some(60_000), None, 0, &mut sim).unwrap();
    let plan = configurations.put("ann's\n", None, &mut sim).unwrap();
    let waits = configurations.replace("console's\n", "console", Some(1), None, 1, &mut sim);
    assert_eq!(waits.unwrap_err().0.status, 409);
    configurations.confirm().unwrap();
    assert_eq!(configurations.view().candidate.unwrap().text.etag.to_string(), plan.etag);

    let done = configurations.replace("console's\n", "console", Some(60_000), None, 2, &mut sim).unwrap();
    assert_eq!((done.confirm_within_ms, &*sim.published), (Some(60_000), "console's\n"));
    assert!(configurations.view().candidate.is_some_and(|own| *own.text.text == *"ann's\n"));
    assert_eq!(configurations.tick(60_002, &mut sim), Some(Reverted::Done(4)));
    configurations.commit("ann", None, None, 60_003, &mut sim).unwrap();
    assert_eq!(sim.published, "ann's\n");
}

#[test]
fn two_who_edit_at_once_are_told() {
    let (mut configurations, mut sim) = start();
    let etag = ["0".to_owned(), configurations.view().running.etag.to_string()];
    configurations.put("ann's\n", Some(&etag), &mut sim).unwrap();
    configurations.replace("console's\n", "console", None, None, 1, &mut sim).unwrap();
    assert_eq!(configurations.put("bob's\n", Some(&etag), &mut sim).unwrap_err().0.status, 412);
    let late = configurations.replace("console's too\n", "console", None, Some(&etag), 1, &mut sim);
    assert_eq!((late.unwrap_err().0.status, &*sim.published), (412, "console's\n"));
    let refused = configurations.commit("ann", None, None, 2, &mut sim).unwrap_err();
    assert_eq!(
        (refused.0.status, refused.0.title.as_str()),
        (409, "The configuration changed since the candidate was made")
    );
    let plan = configurations.put("ann's\n", None, &mut sim).unwrap();
    assert_eq!(configurations.commit("ann", None, Some(&etag), 3, &mut sim).unwrap_err().0.status, 412);
    configurations.commit("ann", None, Some(&[plan.etag]), 3, &mut sim).unwrap();
    assert_eq!(sim.published, "ann's\n");
}

#[test]
fn history_is_bounded_and_old_texts_are_given_up_first() {
    let (mut configurations, mut sim) = start();
    for number in 0..HISTORY + 10 {
        let text = format!("{number}\n{}", "x".repeat(KEPT_BYTES / 4));
        configurations.replace(text, "console", None, None, number as u64, &mut sim).unwrap();
    }
    let history = configurations.view().history();
    assert_eq!((history.len(), history[0].version), (HISTORY, HISTORY as u64 + 11));
    // The one in force, and as many as fit.
    assert_eq!(history.iter().filter(|entry| entry.kept).count(), 1 + 3);
    assert!(history[..4].iter().all(|entry| entry.kept));
    let [kept, gone] = [history[3].version, history[4].version];
    assert_eq!(configurations.rollback(gone, &mut sim).unwrap_err().0.status, 409);
    assert_eq!(configurations.rollback(9999, &mut sim).unwrap_err().0.status, 404);
    let etag = configurations.rollback(kept, &mut sim).unwrap().etag;
    configurations.commit("ann", None, None, 0, &mut sim).unwrap();
    assert_eq!(
        (&*configurations.view().running.etag, sim.published.len()),
        (etag.as_str(), KEPT_BYTES / 4 + 3)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Commit(Option<u64>),
    Replace(u8),
    Confirm,
    Revert,
    Rollback(u64),
    Discard,
    Wait(u64),
    Fail(Option<u32>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::Put),
        proptest::option::of(1..100u64).prop_map(Step::Commit),
        any::<u8>().prop_map(Step::Replace),
        Just(Step::Confirm),
        Just(Step::Revert),
        (0..20u64).prop_map(Step::Rollback),
        Just(Step::Discard),
        (0..150u64).prop_map(Step::Wait),
        proptest::option::of(0..STEPS).prop_map(Step::Fail),
    ]
}

fn text(number: u8) -> String {
    if number % 8 == 7 { "bad\n".into() } else { format!("text {}\n", number % 8) }
}

proptest! {
    /// Whatever happens in whichever order, and whatever fails at which step: packets see the text that is noted as in
    /// force; only a step that says so changes it; and it changes to the candidate, to what was given, or to the one before.
    #[test]
    fn what_is_in_force_is_what_is_noted(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut configurations, mut sim) = start();
        let mut now = 0;
        for step in steps {
            let before = configurations.view();
            let confirmed_text = before.pending.as_ref().and_then(|_| before.text_of(before.version - 1)).cloned();
            let allowed = match &step {
                Step::Put(number) => {
                    let _ = configurations.put(&text(*number), None, &mut sim);
                    None
                }
                Step::Commit(limit) => {
                    let candidate = before.candidate.as_ref().map(|candidate| candidate.text.text.clone());
                    let done = configurations.commit("x", *limit, None, now, &mut sim);
                    prop_assert!(done.is_err() || before.pending.is_none());
                    done.ok().and(candidate)
                }
                Step::Replace(number) => {
                    let done = configurations.replace(text(*number), "x", None, None, now, &mut sim);
                    prop_assert!(done.is_err() || before.pending.is_none());
                    done.ok().map(|_| text(*number).into())
                }
                Step::Confirm => {
                    prop_assert_eq!(configurations.confirm().is_ok(), before.pending.is_some());
                    None
                }
                Step::Revert => {
                    configurations.revert(now, &mut sim).ok().and(confirmed_text.map(|text| text.text))
                }
                Step::Rollback(version) => {
                    let _ = configurations.rollback(*version, &mut sim);
                    None
                }
                Step::Discard => {
                    configurations.discard();
                    None
                }
                Step::Wait(ms) => {
                    now += ms;
                    let due = configurations.deadline_ms().is_some_and(|deadline| now >= deadline);
                    let outcome = configurations.tick(now, &mut sim);
                    prop_assert_eq!(outcome.is_some(), due);
                    match outcome {
                        Some(Reverted::Done(_)) => confirmed_text.map(|text| text.text),
                        _ => None,
                    }
                }
                Step::Fail(steps) => {
                    sim.steps = *steps;
                    None
                }
            };
            let after = configurations.view();
            prop_assert_eq!(&*after.running.text, sim.published.as_str());
            prop_assert_eq!(&*after.running.text, &*allowed.unwrap_or(before.running.text));
            let history = after.history();
            prop_assert_eq!(history[0].version, after.version);
            prop_assert_eq!(history[0].state == VersionState::Unconfirmed, after.pending.is_some());
            let is_over = |state| matches!(state, VersionState::Replaced | VersionState::Reverted);
            prop_assert!(history[1..].iter().all(|entry| is_over(entry.state)));
        }
        // However it ends: once time has passed and nothing fails, nothing waits any more.
        sim.steps = None;
        configurations.tick(now + 1_000_000, &mut sim);
        prop_assert!(configurations.deadline_ms().is_none());
        prop_assert_eq!(&*configurations.view().running.text, sim.published.as_str());
    }
}
