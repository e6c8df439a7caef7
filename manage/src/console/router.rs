//! What the console asks of the router.

use crate::capture::Wish;
use crate::explain::Question;
use crate::model::{
    Committed, ConfigVersion, Cpus, Interface, InterfaceLoss, LogLine, Plan, Problem, Recorded, Routes,
    Status,
};
use crate::probe::Probe;
use alloc::string::String;
use alloc::vec::Vec;

/// How the machine is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It begins anew.
    Reboot,
    /// It stays off.
    PowerOff,
}

/// Whether events are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Tracing {
    On,
    Off,
}

/// A router, as an operator at its console knows it. What is refused is said in text of whole lines, or as a [`Problem`].
pub trait Router {
    /// The router as a whole.
    fn status(&self) -> Status;
    /// In the configuration's order.
    fn interfaces(&self) -> Vec<Interface>;
    /// CPUs, queue pairs, sockets, tasks, locks.
    fn cpus(&self) -> Cpus;
    /// The first `most` routes; with `wanted` those to this prefix, or those that packets to this address take.
    fn routes(&self, wanted: Option<&str>, most: usize) -> Routes;
    /// Asks all CPUs for the neighbours they know; the answer goes to
    /// [`heard_neighbors`](super::Console::heard_neighbors).
    fn ask_neighbors(&mut self);
    /// Asks what becomes of a packet; the answer goes to
    /// [`heard_explanation`](super::Console::heard_explanation).
    fn ask_explanation(&mut self, question: Question);
    /// Begins to send echo requests; what is found comes by [`told`](super::Console::told), up to
    /// [`probe_ended`](super::Console::probe_ended).
    fn probe(&mut self, probe: Probe);
    /// Has that end.
    fn stop_probe(&mut self);
    /// Begins a capture; a [`Listing`](super::Listing) shows its packets, or
    /// [`capture_refused`](super::Console::capture_refused) why there is none.
    fn capture(&mut self, wish: Wish);
    /// Packets lost, by interface and reason.
    fn drops(&self) -> Vec<InterfaceLoss>;

    /// The flight recorder's newest entries, the newest first, at most so many.
    fn recorded(&mut self, most: usize) -> Vec<Recorded>;
    /// The last `most` lines of the log, the oldest first.
    fn log(&self, most: usize) -> Vec<LogLine>;
    /// Where the router's page is, as URLs.
    fn pages(&self) -> Vec<String>;

    /// The text in force; empty if none is.
    fn configuration(&self) -> String;
    /// Versions, the newest first.
    fn history(&self) -> Vec<ConfigVersion>;
    /// The text of a version, if that is kept.
    fn version(&self, version: u64) -> Option<String>;
    /// Milliseconds until the configuration in force is taken back, if it waits to be confirmed.
    fn unconfirmed_ms(&self) -> Option<u64>;
    /// What a text would change.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&mut self, text: &str) -> Result<Plan, Problem>;
    /// Puts a text in force that was made from `base`; it is taken back after `confirm_ms` unless it is confirmed.
    ///
    /// # Errors
    /// What is wrong with it, or that `base` is not in force. Then nothing has changed.
    fn commit(&mut self, text: &str, base: &str, confirm_ms: Option<u64>) -> Result<Committed, Problem>;
    /// Confirms what was committed; its version.
    ///
    /// # Errors
    /// Nothing waits for it.
    fn confirm(&mut self) -> Result<u64, Problem>;
    /// Takes back what was not confirmed; the version now in force.
    ///
    /// # Errors
    /// Nothing waits to be confirmed.
    fn revert(&mut self) -> Result<u64, Problem>;
    /// Replaces the configuration at once by a text that was pasted.
    ///
    /// # Errors
    /// What is wrong with it, in lines. Then nothing has changed.
    fn replace(&mut self, text: &[u8]) -> Result<(), String>;
    /// Replaces the configuration at once by a boot module, counted from 1.
    ///
    /// # Errors
    /// What is wrong with it, in lines. Then nothing has changed.
    fn replace_by_module(&mut self, number: u64) -> Result<(), String>;
    /// Where the configuration is from, and the boot modules, in lines.
    fn modules(&self) -> String;
    /// The longest configuration that can be read, in bytes.
    fn longest(&self) -> usize;

    /// A token for the page and the API, in the place of the one before. It holds for
    /// [`GRANT_MS`](crate::access::GRANT_MS).
    fn token(&mut self) -> String;
    /// Takes that token back. Whether there was one.
    fn withdraw_token(&mut self) -> bool;

    /// Starts or stops noting events.
    ///
    /// # Errors
    /// Why it cannot.
    fn trace(&mut self, tracing: Tracing) -> Result<(), String>;
    /// Has the events printed that were noted.
    fn print_events(&mut self);
    /// Ends the machine.
    fn end(&mut self, end: End);
}
