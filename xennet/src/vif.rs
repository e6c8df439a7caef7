//! What can be known of a vif without touching it.

use crate::attach::Vif;
use crate::error::Error;
use crate::xenbus::{Place, State};
use weir_machine::xen::DomId;
use weir_machine::xen::store::Store;
use weir_sync::Control;

impl Vif {
    /// Whether its backend waits for a front end: after it was restarted, say.
    pub fn is_awaited(&self, cx: &Control, store: &'static Store) -> Result<bool, Error> {
        Ok(Place::find(cx, store, self.handle)?.their_state(cx)? == State::InitWait)
    }

    /// Its backend's domain, unless the toolstack says that it is not to be trusted (`trusted = 0`).
    pub fn trusted_backend(&self, cx: &Control, store: &'static Store) -> Result<Option<DomId>, Error> {
        let place = Place::find(cx, store, self.handle)?;
        Ok((place.our_number(cx, "trusted")? != Some(0)).then_some(place.backend))
    }
}
