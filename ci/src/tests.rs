//! The boot test-suite: a table of independent tests, each with its own machine, two at a time, and beside them a few that wait.

mod capture;
mod clients;
mod clients_dhcp6;
mod clients_duplicates;
mod configuration;
mod disks;
mod errors;
pub(crate) mod explain;
mod forwarding;
mod fragments;
mod hardware;
mod linux_hosts;
mod lockout;
mod management;
pub(crate) mod multicore;
mod neighbours;
mod next_hops;
pub(crate) mod numbers;
mod offloads;
mod operation;
mod own;
mod policy;
mod preempt;
mod reach;
mod refusals;
mod sockets;
mod sources;
mod targets;
mod tracing;
mod vlan_linux;
mod vlans;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{installed, is_root};
use crate::router::Image;

/// What a test needs and which images it is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// Namespaces, TAP devices, and these programs.
    pub(crate) root: bool,
    pub(crate) programs: &'static [&'static str],
    /// About something only Weir has.
    pub(crate) weir: bool,
    /// Measures time or moves much data: runs while nothing else does.
    pub(crate) alone: bool,
}

type Body = Box<dyn Fn(&Context) -> Result<()> + Send + Sync>;

/// One test.
pub(crate) struct Test {
    pub(crate) name: String,
    needs: Needs,
    /// Needs next to no processor: it waits for timers most of its time.
    waits: bool,
    body: Body,
}

/// What a test is told.
pub(crate) struct Context {
    pub(crate) image: Image,
    /// Name of the test, for the reports of its failure.
    pub(crate) name: String,
}

impl Test {
    pub(crate) fn new(
        name: impl Into<String>,
        needs: Needs,
        body: impl Fn(&Context) -> Result<()> + Send + Sync + 'static,
    ) -> Test {
        Test { name: name.into(), needs, waits: false, body: Box::new(body) }
    }

    /// It mostly waits: it runs beside the others, and takes no place of theirs.
    pub(crate) fn waits(mut self) -> Test {
        self.waits = true;
        self
    }

    /// Why this test cannot run here, if it cannot.
    fn obstacle(&self, image: Image) -> Option<String> {
        if self.needs.weir && image != Image::Weir {
            return Some("only Weir has this".to_owned());
        }
        if self.needs.root && !is_root() {
            return Some("needs root for namespaces and TAP devices".to_owned());
        }
        let missing = self.needs.programs.iter().find(|program| !installed(program))?;
        Some(format!("{missing} is missing: apt-get install -y {}", crate::command::package_of(missing)))
    }
}

/// All tests, in the order they run.
fn table() -> Vec<Test> {
    let mut all = Vec::new();
    all.extend(own::tests());
    all.extend(fragments::tests());
    all.extend(forwarding::tests());
    all.extend(errors::tests());
    all.extend(refusals::tests());
    all.extend(neighbours::tests());
    all.extend(next_hops::tests());
    all.extend(policy::tests());
    all.extend(configuration::tests());
    all.extend(sources::tests());
    all.extend(vlans::tests());
    all.extend(hardware::tests());
    all.extend(disks::tests());
    all.extend(targets::tests());
    all.extend(explain::tests());
    all.extend(reach::tests());
    all.extend(operation::tests());
    all.extend(tracing::tests());
    all.extend(preempt::tests());
    all.extend(linux_hosts::tests());
    all.extend(offloads::tests());
    all.extend(vlan_linux::tests());
    all.extend(multicore::tests());
    all.extend(management::tests());
    all.extend(numbers::tests());
    all.extend(lockout::tests());
    all.extend(capture::tests());
    all.extend(sockets::tests());
    all.extend(clients::tests());
    all.extend(clients_dhcp6::tests());
    all.extend(clients_duplicates::tests());
    all
}

/// Names of all tests.
pub(crate) fn list() -> Vec<String> {
    table().into_iter().map(|test| test.name).collect()
}

/// Tests that wait, at a time.
const WAITING: usize = 3;

enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    Skipped(String),
}

/// Runs every test whose name has `filter`, prints a line each and the count. Whether none failed.
pub(crate) fn run(image: Image, filter: &str, jobs: usize) -> Result<bool> {
    let (alone, together): (Vec<Test>, Vec<Test>) =
        table().into_iter().filter(|test| test.name.contains(filter)).partition(|test| test.needs.alone);
    let started = Instant::now();
    let counts = Mutex::new([0usize; 3]);
    let work = |queue: Vec<Test>, workers: usize| {
        let queue = Mutex::new(VecDeque::from(queue));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(test) = next else { break };
                        report(&test.name, run_one(&test, image), &counts);
                    }
                });
            }
        });
    };
    let (waiting, together) = together.into_iter().partition(|test| test.waits);
    std::thread::scope(|scope| {
        scope.spawn(|| work(waiting, WAITING));
        work(together, jobs);
    });
    work(alone, 1);
    let [passed, failed, skipped] = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    if passed + failed + skipped == 0 {
        anyhow::bail!("no test has \"{filter}\" in its name; lab boot-tests --list names them all");
    }
    println!("in {:.0} s", started.elapsed().as_secs_f32());
    match skipped {
        0 => println!("{passed} passed, {failed} failed"),
        _ => println!("{passed} passed, {failed} failed, {skipped} skipped"),
    }
    Ok(failed == 0)
}

fn run_one(test: &Test, image: Image) -> Outcome {
    if let Some(reason) = test.obstacle(image) {
        return Outcome::Skipped(reason);
    }
    let began = Instant::now();
    let outcome = (test.body)(&Context { image, name: test.name.clone() });
    crate::cleanup::wait_if_stopping();
    match outcome {
        Ok(()) => Outcome::Passed(began.elapsed()),
        Err(error) => Outcome::Failed(began.elapsed(), chain(&error)),
    }
}

/// An error and its causes, one below the other.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join("\n")
}

fn report(name: &str, outcome: Outcome, counts: &Mutex<[usize; 3]>) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let indented = |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    match outcome {
        Outcome::Passed(took) => {
            counts[0] += 1;
            println!("ok    {name:<52} {:>6.2} s", took.as_secs_f32());
        }
        Outcome::Failed(took, why) => {
            counts[1] += 1;
            print!("FAIL  {name:<52} {:>6.2} s\n{}", took.as_secs_f32(), indented(&why));
        }
        Outcome::Skipped(why) => {
            counts[2] += 1;
            println!("skip  {name:<52} {why}");
        }
    }
}
