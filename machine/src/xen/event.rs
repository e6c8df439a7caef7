//! Event channels (Xen `public/event_channel.h`): a port each, which sets a softint bit of one CPU.
//!
//! Opened and closed at boot and in tasks; [`Channel::notify`] and [`Channel::unmask`] in any context. An event masks its
//! own port until its owner unmasks it: however often the other side fires, it costs one softint an unmasking.

#[cfg(any(feature = "image", test))]
mod fifo;
#[cfg(feature = "image")]
mod image;
#[cfg(not(feature = "image"))]
mod simulated;
#[cfg(any(feature = "image", test))]
mod two_level;

use super::DomId;
use crate::interrupt::Interrupt;
use core::fmt;

#[cfg(feature = "image")]
use image as body;
#[cfg(feature = "image")]
pub(crate) use image::{init, init_cpu, send, serve, sleep};
#[cfg(not(feature = "image"))]
use simulated as body;
#[cfg(not(feature = "image"))]
pub use simulated::Remote;

/// Who unmasks a port.
#[cfg(any(feature = "image", test))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unmasking {
    /// Done.
    Done,
    /// Xen must, by `EVTCHNOP_unmask`: an event waits.
    ByXen,
}

/// Why there is no channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No Xen.
    Absent,
    /// Xen refused, with this number of its `public/errno.h`.
    Refused(i32),
    /// No memory for the port's word.
    Memory,
    /// The port has an owner already, or is none that Xen gives.
    Port,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Absent => f.write_str("there is no Xen"),
            Error::Refused(errno) => write!(f, "Xen refused an event channel: error {errno}"),
            Error::Memory => f.write_str("no memory for event channels"),
            Error::Port => f.write_str("the event channel's port is taken or impossible"),
        }
    }
}

impl core::error::Error for Error {}

/// An event channel of ours, closed on drop. Masked until [`unmask`](Self::unmask) is called for the first time.
#[derive(Debug)]
pub struct Channel {
    port: u32,
    line: body::Line,
}

impl Channel {
    /// A port that `backend` may connect to, whose events set `target`.
    pub fn allocate(backend: DomId, target: Interrupt) -> Result<Channel, Error> {
        let (port, line) = body::allocate(backend, target)?;
        Ok(Channel { port, line })
    }

    /// Takes `port`, which the builder of the domain connected, and has its events set `target`.
    pub fn bind(port: u32, target: Interrupt) -> Result<Channel, Error> {
        let line = body::bind(port, target)?;
        Ok(Channel { port, line })
    }

    /// Our end's number, for the other side to connect to.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Tells the other side. Whatever was written before is there for it to see.
    #[inline]
    pub fn notify(&self) {
        body::notify(self.port, &self.line);
    }

    /// Lets the next event through: `target` is set once, for events that came meanwhile too, and the port is masked again.
    #[inline]
    pub fn unmask(&self) {
        body::unmask(self.port, &self.line);
    }

    /// Keeps events back until [`unmask`](Self::unmask), as it is to begin with.
    pub fn mask(&self) {
        body::mask(self.port, &self.line);
    }

    /// Forgets the events that came while the port was masked. Before the look that [`wait`](Self::wait) follows.
    pub fn clear(&self) {
        body::clear(self.port, &self.line);
    }

    /// Sleeps until an event has come since [`clear`](Self::clear), or until [`clock::now`](crate::clock::now) reaches
    /// `deadline_ns`; also ends early for no reason. Boot and tasks, on a masked port; softints run meanwhile.
    pub fn wait(&self, deadline_ns: u64) {
        body::wait(self.port, &self.line, deadline_ns);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        body::close(self.port, &self.line);
    }
}

#[cfg(test)]
mod tests;
