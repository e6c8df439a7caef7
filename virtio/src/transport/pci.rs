//! virtio over PCI, the modern interface (virtio 1.2 §4.1): structures of registers in BARs, found by capabilities.

mod capability;

use super::{Acknowledge, Event, Interrupts, Notify, QueueMemory, Transport, lines};
use crate::error::Error;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use capability::{Place, Structures};
use weir_machine::interrupt::Interrupt;
use weir_machine::ioapic;
use weir_machine::mmio::Window;
use weir_machine::msix::Msix;
use weir_machine::pci::{Function, Wired};

/// Vendor id of virtio, device ids from before 1.0 and since (§4.1.2).
const VENDOR: u16 = 0x1af4;
const TRANSITIONAL: core::ops::RangeInclusive<u16> = 0x1000..=0x103f;
const MODERN: core::ops::RangeInclusive<u16> = 0x1040..=0x107f;

/// Common configuration, bytes from its start (§4.1.4.3).
const DEVICE_FEATURE_SELECT: usize = 0;
const DEVICE_FEATURE: usize = 4;
const DRIVER_FEATURE_SELECT: usize = 8;
const DRIVER_FEATURE: usize = 12;
const CONFIG_MSIX_VECTOR: usize = 16;
const NUM_QUEUES: usize = 18;
const DEVICE_STATUS: usize = 20;
const CONFIG_GENERATION: usize = 21;
const QUEUE_SELECT: usize = 22;
const QUEUE_SIZE: usize = 24;
const QUEUE_MSIX_VECTOR: usize = 26;
const QUEUE_ENABLE: usize = 28;
const QUEUE_NOTIFY_OFF: usize = 30;
const QUEUE_DESC: usize = 32;
const QUEUE_DRIVER: usize = 40;
const QUEUE_DEVICE: usize = 48;
const COMMON_LEN: u64 = 56;

/// Bytes of device configuration looked at: more than a network device has.
const CONFIG_LEN: u64 = 0x40;
/// What a vector register reads as when the device has no room for the vector (§4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;

/// A virtio PCI function's device type, whether it is driven here or not; `None` if it is no virtio device.
pub fn device_type(function: &Function) -> Option<u32> {
    if function.vendor != VENDOR {
        return None;
    }
    if MODERN.contains(&function.device) {
        Some(u32::from(function.device - MODERN.start()))
    } else if TRANSITIONAL.contains(&function.device) {
        // §4.1.2.3: a transitional device has its type as subsystem id.
        Some(function.subsystem().into())
    } else {
        None
    }
}

/// A virtio PCI function with the modern interface.
#[derive(Debug)]
pub struct Pci {
    function: Function,
    common: Window,
    config: Option<Window>,
    isr: Place,
    notify: Place,
    notify_multiplier: u32,
    msix: Option<Msix>,
    /// The wired line, once it is routed.
    line: Option<u8>,
}

impl Pci {
    /// Finds and maps the structures of registers. Returns the device type with it.
    pub fn new(function: &Function) -> Result<(Self, u32), Error> {
        let kind = device_type(function).ok_or(Error::NotVirtio)?;
        let found = Structures::find(function)?;
        function.enable();
        let common = found.common.map("virtio common configuration", COMMON_LEN)?;
        let config = match found.config {
            Some(place) => Some(place.map("virtio device configuration", place.len.min(CONFIG_LEN))?),
            None => None,
        };
        let transport = Self {
            function: *function,
            common,
            config,
            isr: found.isr,
            notify: found.notify,
            notify_multiplier: found.notify_multiplier,
            msix: function.msix(),
            line: None,
        };
        Ok((transport, kind))
    }

    fn select(&self, queue: u16) {
        self.common.write_u16(QUEUE_SELECT, queue);
    }

    fn write_address(&self, register: usize, address: u64) {
        // §4.1.3.1: a 64-bit field is written as two halves.
        self.common.write_u32(register, address as u32);
        self.common.write_u32(register + 4, (address >> 32) as u32);
    }

    /// The configuration window, if a field lies inside.
    fn config(&self, offset: usize, len: usize) -> Option<&Window> {
        self.config.as_ref().filter(|window| {
            offset.is_multiple_of(len) && offset.checked_add(len).is_some_and(|end| end <= window.len())
        })
    }
}

impl Transport for Pci {
    fn place(&self) -> String {
        format!("pci {}", self.function.address)
    }

    fn read_status(&mut self) -> u8 {
        self.common.read_u8(DEVICE_STATUS)
    }

    fn write_status(&mut self, status: u8) {
        self.common.write_u8(DEVICE_STATUS, status);
    }

    fn read_features(&mut self) -> u64 {
        let half = |select: u32| {
            self.common.write_u32(DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read_u32(DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn write_features(&mut self, features: u64) {
        // The low half last: uhyve keeps both in one place, and forgets what came before the high one.
        for (select, half) in [(1, (features >> 32) as u32), (0, features as u32)] {
            self.common.write_u32(DRIVER_FEATURE_SELECT, select);
            self.common.write_u32(DRIVER_FEATURE, half);
        }
    }

    fn read_config_generation(&mut self) -> u32 {
        self.common.read_u8(CONFIG_GENERATION).into()
    }

    fn read_config_u8(&mut self, offset: usize) -> Option<u8> {
        self.config(offset, 1).map(|window| window.read_u8(offset))
    }

    fn read_config_u16(&mut self, offset: usize) -> Option<u16> {
        self.config(offset, 2).map(|window| window.read_u16(offset))
    }

    fn read_config_u32(&mut self, offset: usize) -> Option<u32> {
        self.config(offset, 4).map(|window| window.read_u32(offset))
    }

    fn read_queue_count(&mut self) -> Option<u16> {
        Some(self.common.read_u16(NUM_QUEUES))
    }

    fn read_queue_size(&mut self, queue: u16) -> u16 {
        self.select(queue);
        self.common.read_u16(QUEUE_SIZE)
    }

    fn enable_queue(&mut self, queue: u16, memory: &QueueMemory) -> Result<Box<dyn Notify>, Error> {
        const WHAT: &str = "virtio notification register";
        self.select(queue);
        let offset = u64::from(self.common.read_u16(QUEUE_NOTIFY_OFF)) * u64::from(self.notify_multiplier);
        // §4.1.4.4: queue_notify_off × notify_off_multiplier, at least 2 bytes of them within the structure.
        let place = self.notify.part(offset, 2).ok_or(Error::Malformed(WHAT))?;
        let register = place.map(WHAT, 2)?;
        if self.common.read_u16(QUEUE_SIZE) != memory.size {
            self.common.write_u16(QUEUE_SIZE, memory.size);
        }
        self.write_address(QUEUE_DESC, memory.descriptors);
        self.write_address(QUEUE_DRIVER, memory.available);
        self.write_address(QUEUE_DEVICE, memory.used);
        self.common.write_u16(QUEUE_ENABLE, 1);
        Ok(Box::new(Doorbell { register, queue }))
    }

    fn interrupts(&self) -> Interrupts {
        self.msix.as_ref().map_or(Interrupts::Wired, |msix| Interrupts::Messages(msix.vectors()))
    }

    fn route(&mut self, vector: u16, interrupt: Interrupt) -> Result<(), Error> {
        if let Some(msix) = &mut self.msix {
            msix.route(vector, interrupt).map_err(|why| Error::Unroutable(why.to_string()))?;
            msix.enable();
            return Ok(());
        }
        let Wired { line, .. } = self.function.wired_interrupt().ok_or(Error::NoInterruptLine)?;
        if self.line == Some(line) {
            return Ok(());
        }
        if !lines::take(line.into()) {
            return Err(Error::SharedLine(line.into()));
        }
        self.line = Some(line);
        ioapic::route_isa(line, interrupt).map_err(|why| Error::Unroutable(why.to_string()))
    }

    fn assign(&mut self, event: Event, vector: u16) -> Result<(), Error> {
        let register = match event {
            Event::Configuration => CONFIG_MSIX_VECTOR,
            Event::Queue(queue) => {
                self.select(queue);
                QUEUE_MSIX_VECTOR
            }
        };
        self.common.write_u16(register, vector);
        let taken = self.common.read_u16(register);
        if taken == vector && taken != NO_VECTOR { Ok(()) } else { Err(Error::VectorRefused) }
    }

    fn acknowledge(&mut self) -> Option<Box<dyn Acknowledge>> {
        if self.msix.is_some() {
            return None;
        }
        let register = self.isr.map("virtio interrupt status", 1).ok()?;
        Some(Box::new(Line { register }))
    }

    fn isolate(&mut self) {
        if let Some(msix) = &mut self.msix {
            for vector in 0..msix.vectors() {
                // Below the table's size, so it exists.
                let _ = msix.mask(vector);
            }
        }
        if let Some(line) = self.line.take() {
            // ISA lines that were routed exist; `route_isa` may have led it to another pin, which stays silent
            // because the device is reset.
            let _ = ioapic::mask(line.into());
            lines::give_back(line.into());
        }
        self.function.stop_dma();
    }
}

struct Doorbell {
    register: Window,
    queue: u16,
}

impl Notify for Doorbell {
    fn notify(&self) {
        self.register.write_u16(0, self.queue);
    }
}

/// The interrupt status register.
struct Line {
    register: Window,
}

impl Acknowledge for Line {
    fn acknowledge(&self) {
        // §4.1.4.5: reading it clears it and takes the line down.
        self.register.read_u8(0);
    }
}
