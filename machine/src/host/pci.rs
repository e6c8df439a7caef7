//! A program reaches no configuration space.

use crate::acpi::Info;
use crate::pci::Space;

/// None.
pub(crate) fn find(_acpi: &Info) -> Option<Box<dyn Space>> {
    None
}
