//! Both halves' places in the store, and the dance of their states (Xen `public/io/xenbus.h`). Task level.

use crate::error::Error;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use weir_machine::xen::DomId;
use weir_machine::xen::store::{Store, StoreError};
use weir_sync::Control;

/// `XenbusState`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// None that there is, or no node: the other half is gone.
    Unknown,
    /// It prepares.
    Initialising,
    /// The back end waits for the front end's rings.
    InitWait,
    /// The front end's rings are there.
    Initialised,
    /// Packets flow.
    Connected,
    /// It is about to close.
    Closing,
    /// It has let go of everything.
    Closed,
    /// Not used by network devices.
    Reconfiguring,
    /// Not used by network devices.
    Reconfigured,
}

impl State {
    const ALL: [State; 9] = [
        State::Unknown,
        State::Initialising,
        State::InitWait,
        State::Initialised,
        State::Connected,
        State::Closing,
        State::Closed,
        State::Reconfiguring,
        State::Reconfigured,
    ];

    /// Out of the store's text; what is not there or none of them is [`Unknown`](Self::Unknown).
    pub(crate) fn parse(text: Option<&[u8]>) -> State {
        let number = text.and_then(|text| core::str::from_utf8(text).ok()?.trim().parse::<usize>().ok());
        number.and_then(|number| State::ALL.get(number).copied()).unwrap_or(State::Unknown)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", *self as u8)
    }
}

/// A vif in the store: our directory and its backend's.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) store: &'static Store,
    /// Relative to our domain's.
    pub(crate) front: String,
    /// Absolute.
    pub(crate) back: String,
    pub(crate) backend: DomId,
}

impl Place {
    /// That of vif `handle`.
    pub(crate) fn find(cx: &Control, store: &'static Store, handle: u32) -> Result<Self, Error> {
        let front = format!("device/vif/{handle}");
        let path = format!("{front}/backend");
        let back = store.read_text(cx, &path).map_err(|why| failed(&path, why))?;
        let mut place = Self { store, front, back, backend: DomId::DOM0 };
        let path = place.ours("backend-id");
        let backend = store.read_number(cx, &path).map_err(|why| failed(&path, why))?;
        let backend = backend.ok_or_else(|| Error::Missing(path.clone()))?;
        place.backend =
            u16::try_from(backend).map(DomId).map_err(|_| Error::Value(path, backend.to_string()))?;
        Ok(place)
    }

    /// The path of one of our nodes.
    pub(crate) fn ours(&self, key: &str) -> String {
        format!("{}/{key}", self.front)
    }

    /// The path of one of the backend's.
    pub(crate) fn theirs(&self, key: &str) -> String {
        format!("{}/{key}", self.back)
    }

    /// A number of ours, if there is one.
    pub(crate) fn our_number(&self, cx: &Control, key: &str) -> Result<Option<u64>, Error> {
        self.number(cx, self.ours(key))
    }

    /// A number of the backend's, if there is one.
    pub(crate) fn their_number(&self, cx: &Control, key: &str) -> Result<Option<u64>, Error> {
        self.number(cx, self.theirs(key))
    }

    /// Whether the backend sets `key` to anything but 0.
    pub(crate) fn feature(&self, cx: &Control, key: &str) -> Result<bool, Error> {
        Ok(self.their_number(cx, key)?.unwrap_or(0) != 0)
    }

    fn number(&self, cx: &Control, path: String) -> Result<Option<u64>, Error> {
        self.store.read_number(cx, &path).map_err(|why| failed(&path, why))
    }

    pub(crate) fn set_state(&self, cx: &Control, state: State) -> Result<(), Error> {
        let path = self.ours("state");
        self.store.write(cx, &path, (state as u8).to_string()).map_err(|why| failed(&path, why))
    }

    pub(crate) fn our_state(&self, cx: &Control) -> Result<State, Error> {
        self.state_at(cx, self.ours("state"))
    }

    pub(crate) fn their_state(&self, cx: &Control) -> Result<State, Error> {
        self.state_at(cx, self.theirs("state"))
    }

    fn state_at(&self, cx: &Control, path: String) -> Result<State, Error> {
        match self.store.read(cx, &path) {
            Ok(text) => Ok(State::parse(Some(&text))),
            Err(StoreError::NotFound) => Ok(State::Unknown),
            Err(why) => Err(failed(&path, why)),
        }
    }

    /// Waits until the backend's state is one of `wanted`.
    ///
    /// # Errors
    /// [`Error::Backend`] with the first of them, and what its state was instead when `limit_ns` had passed.
    pub(crate) fn wait(&self, cx: &Control, wanted: &[State], limit_ns: u64) -> Result<State, Error> {
        let path = self.theirs("state");
        let mut last = State::Unknown;
        let look = |text: Option<&[u8]>| {
            last = State::parse(text);
            wanted.contains(&last).then_some(last)
        };
        self.store.wait_for(cx, &path, limit_ns, look).map_err(|why| match why {
            StoreError::Timeout => Error::Backend(wanted.first().copied().unwrap_or(State::Unknown), last),
            why => failed(&path, why),
        })
    }

    /// Has the backend let go of a connection: by our own, or one of a former life of this machine. Whether it did
    /// within `limit_ns` for each step.
    pub(crate) fn close(&self, cx: &Control, limit_ns: u64) -> Result<(), Error> {
        if self.our_state(cx)? != State::Closed {
            self.set_state(cx, State::Closing)?;
            let gone = [State::Closing, State::Closed, State::Unknown];
            // One that only waits for rings, or does not even do that, has nothing to close.
            let idle = [State::Initialising, State::InitWait];
            if !idle.contains(&self.their_state(cx)?) {
                self.wait(cx, &gone, limit_ns)?;
            }
            self.set_state(cx, State::Closed)?;
        }
        self.wait(cx, &[State::Closed, State::Unknown, State::Initialising, State::InitWait], limit_ns)
            .map(drop)
    }

    /// Brings the backend to where it waits for rings.
    pub(crate) fn begin(&self, cx: &Control, limit_ns: u64) -> Result<(), Error> {
        let theirs = self.their_state(cx)?;
        if !matches!(theirs, State::Initialising | State::InitWait | State::Unknown) {
            self.close(cx, limit_ns)?;
        }
        if self.our_state(cx)? != State::Initialising {
            self.set_state(cx, State::Initialising)?;
        }
        self.wait(cx, &[State::InitWait], limit_ns).map(drop)
    }
}

/// What a failed request at `path` comes to.
pub(crate) fn failed(path: &str, why: StoreError) -> Error {
    match why {
        StoreError::NotFound => Error::Missing(path.into()),
        why => Error::Store(path.into(), why),
    }
}
