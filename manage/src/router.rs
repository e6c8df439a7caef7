//! What the plane needs of the router that it manages.

use crate::access::Access;
use crate::capture;
use crate::configurations::View;
use crate::explain::Question;
use crate::model::{
    Committed, Cpus, Event, Explanation, Interface, InterfaceLoss, LogLine, Neighbor, Plan, Recorded, Routes,
    Status,
};
use crate::problem::Refused;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

/// What can be wanted of the configurations' owner. All of it happens, or nothing: also if whoever asked has gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// See [`Configurations::put`](crate::configurations::Configurations::put).
    Put {
        /// The whole text.
        text: String,
        /// The fingerprint of the text that it is to replace: one of these.
        if_match: Option<Vec<String>>,
    },
    /// See [`Configurations::discard`](crate::configurations::Configurations::discard).
    Discard,
    /// See [`Configurations::commit`](crate::configurations::Configurations::commit).
    Commit {
        /// Who.
        by: String,
        /// How long it waits to be confirmed.
        confirm_ms: Option<u64>,
        /// The candidate's fingerprint: one of these.
        if_match: Option<Vec<String>>,
    },
    /// See [`Configurations::confirm`](crate::configurations::Configurations::confirm).
    Confirm,
    /// See [`Configurations::revert`](crate::configurations::Configurations::revert).
    Revert,
    /// See [`Configurations::rollback`](crate::configurations::Configurations::rollback).
    Rollback {
        /// Which version.
        version: u64,
    },
}

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// There is a candidate, which would change this.
    Planned(Plan),
    /// There is none any more.
    Discarded,
    /// It is in force.
    Committed(Committed),
    /// This version is in force.
    Version(u64),
}

/// A router. What it tells are copies of a moment: nobody waits for anybody.
pub trait Router {
    /// Milliseconds since entry.
    fn now_ms(&self) -> u64;

    /// Waits. 0: lets other tasks have their turn.
    fn sleep_ms(&self, ms: u64) -> impl Future<Output = ()>;

    /// The router as a whole.
    fn status(&self) -> Status;

    /// The interfaces of the configuration, in its order.
    fn interfaces(&self) -> Vec<Interface>;

    /// `limit` routes from `offset` on.
    fn routes(&self, offset: usize, limit: usize) -> Routes;

    /// The neighbours that any CPU knows.
    fn neighbors(&self) -> impl Future<Output = Vec<Neighbor>>;

    /// What becomes of a packet.
    ///
    /// # Errors
    /// There is no such interface, no buffer for it, or the configuration asked of has errors.
    fn explain(&self, question: Question) -> impl Future<Output = Result<Explanation, Refused>>;

    /// Packets lost, by interface and reason.
    fn drops(&self) -> Vec<InterfaceLoss>;

    /// The flight recorder's newest entries, the newest first, at most so many.
    fn recorded(&self, most: usize) -> Vec<Recorded>;

    /// A capture.
    type Capture: capture::Source;

    /// Begins a capture.
    ///
    /// # Errors
    /// The filter is wrong, there is no such interface, too many captures go on, or there is no memory for it.
    fn capture(&self, wish: &capture::Wish) -> Result<Self::Capture, Refused>;

    /// CPUs, queue pairs, sockets, tasks and locks.
    fn cpus(&self) -> Cpus;

    /// The last lines of the log from number `from` on.
    fn log(&self, from: u64) -> Vec<LogLine>;

    /// The last events from number `from` on.
    fn events(&self, from: u64) -> Vec<Event>;

    /// The configurations.
    fn configurations(&self) -> View;

    /// Has the configurations' owner do something.
    ///
    /// # Errors
    /// It is refused, and nothing has changed.
    fn command(&self, command: Command) -> impl Future<Output = Result<Done, Refused>>;

    /// Bytes of the longest text that there is memory to read for.
    fn longest_text(&self) -> usize;

    /// Who may enter. `work` is short.
    fn access<T>(&self, work: impl FnOnce(&mut Access) -> T) -> T;
}
