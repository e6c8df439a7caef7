//! virtio over memory-mapped registers, version 2 (virtio 1.2 §4.2.2): QEMU's microvm, Firecracker.

use super::{Acknowledge, Event, Interrupts, Notify, QueueMemory, Transport, lines};
use crate::error::Error;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use weir_machine::interrupt::Interrupt;
use weir_machine::ioapic;
use weir_machine::mmio::Window;
use weir_machine::mmio_devices::MmioDevice;

/// "virt", little-endian.
const MAGIC: u32 = virtio_spec::mmio::MAGIC_VALUE.to_ne();
const LEGACY: u32 = 1;
const MODERN: u32 = 2;

/// Registers, bytes from the base.
const MAGIC_VALUE: usize = 0x000;
const VERSION: usize = 0x004;
const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DEVICE_FEATURES_SEL: usize = 0x014;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SEL: usize = 0x024;
const QUEUE_SEL: usize = 0x030;
const QUEUE_SIZE_MAX: usize = 0x034;
const QUEUE_SIZE: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const INTERRUPT_STATUS: usize = 0x060;
const INTERRUPT_ACK: usize = 0x064;
const STATUS: usize = 0x070;
const QUEUE_DESC: usize = 0x080;
const QUEUE_DRIVER: usize = 0x090;
const QUEUE_DEVICE: usize = 0x0a0;
const CONFIG_GENERATION: usize = 0x0fc;
const CONFIG: usize = 0x100;

/// Bytes of device configuration looked at: more than a network device has.
const CONFIG_LEN: u64 = 0x40;

/// A virtio-mmio device with the current register layout.
#[derive(Debug)]
pub struct Mmio {
    device: MmioDevice,
    registers: Window,
    routed: bool,
}

impl Mmio {
    /// Maps the registers and checks what they are. Returns the device type with it.
    pub fn new(device: &MmioDevice) -> Result<(Self, u32), Error> {
        const WHAT: &str = "virtio-mmio registers";
        if !device.base.is_multiple_of(4) || device.len < CONFIG as u64 {
            return Err(Error::Malformed(WHAT));
        }
        let len = device.len.min(CONFIG as u64 + CONFIG_LEN);
        let window = Window::map(device.base, len as usize);
        let registers = window.ok_or(Error::Unmappable(WHAT, device.base, len))?;
        let kind = identify(|register| registers.read_u32(register))?;
        Ok((Self { device: *device, registers, routed: false }, kind))
    }

    fn write_address(&self, register: usize, address: u64) {
        self.registers.write_u32(register, address as u32);
        self.registers.write_u32(register + 4, (address >> 32) as u32);
    }

    /// The window's offset of a configuration field, if it lies inside.
    fn config(&self, offset: usize, len: usize) -> Option<usize> {
        let at = CONFIG.checked_add(offset)?;
        (at.checked_add(len)? <= self.registers.len() && at % len == 0).then_some(at)
    }
}

/// Reads magic, version and device type (§4.2.2.2: in that order, and no other register if one is wrong).
fn identify(read: impl Fn(usize) -> u32) -> Result<u32, Error> {
    if read(MAGIC_VALUE) != MAGIC {
        return Err(Error::NotVirtio);
    }
    match read(VERSION) {
        MODERN => {}
        // A slot without a device says so in both layouts.
        LEGACY if read(DEVICE_ID) == 0 => return Err(Error::EmptySlot),
        LEGACY => return Err(Error::LegacyMmio),
        version => return Err(Error::UnknownMmioVersion(version)),
    }
    match read(DEVICE_ID) {
        0 => Err(Error::EmptySlot),
        kind => Ok(kind),
    }
}

impl Transport for Mmio {
    fn place(&self) -> String {
        format!("mmio {:#x}", self.device.base)
    }

    fn read_status(&mut self) -> u8 {
        self.registers.read_u32(STATUS) as u8
    }

    fn write_status(&mut self, status: u8) {
        self.registers.write_u32(STATUS, status.into());
    }

    fn read_features(&mut self) -> u64 {
        let half = |select: u32| {
            self.registers.write_u32(DEVICE_FEATURES_SEL, select);
            u64::from(self.registers.read_u32(DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    fn write_features(&mut self, features: u64) {
        for (select, half) in [(1, (features >> 32) as u32), (0, features as u32)] {
            self.registers.write_u32(DRIVER_FEATURES_SEL, select);
            self.registers.write_u32(DRIVER_FEATURES, half);
        }
    }

    fn read_config_generation(&mut self) -> u32 {
        self.registers.read_u32(CONFIG_GENERATION)
    }

    fn read_config_u8(&mut self, offset: usize) -> Option<u8> {
        self.config(offset, 1).map(|at| self.registers.read_u8(at))
    }

    fn read_config_u16(&mut self, offset: usize) -> Option<u16> {
        self.config(offset, 2).map(|at| self.registers.read_u16(at))
    }

    fn read_config_u32(&mut self, offset: usize) -> Option<u32> {
        self.config(offset, 4).map(|at| self.registers.read_u32(at))
    }

    fn read_queue_count(&mut self) -> Option<u16> {
        None
    }

    fn read_queue_size(&mut self, queue: u16) -> u16 {
        self.registers.write_u32(QUEUE_SEL, queue.into());
        // Larger than any queue may be: as good as not there.
        u16::try_from(self.registers.read_u32(QUEUE_SIZE_MAX)).unwrap_or(0)
    }

    fn enable_queue(&mut self, queue: u16, memory: &QueueMemory) -> Result<Box<dyn Notify>, Error> {
        const WHAT: &str = "virtio-mmio notification register";
        let at = self.device.base + QUEUE_NOTIFY as u64;
        let register = Window::map(at, 4).ok_or(Error::Unmappable(WHAT, at, 4))?;
        self.registers.write_u32(QUEUE_SEL, queue.into());
        if self.registers.read_u32(QUEUE_READY) != 0 {
            return Err(Error::Malformed("virtio-mmio queue that is ready after a reset"));
        }
        self.registers.write_u32(QUEUE_SIZE, memory.size.into());
        self.write_address(QUEUE_DESC, memory.descriptors);
        self.write_address(QUEUE_DRIVER, memory.available);
        self.write_address(QUEUE_DEVICE, memory.used);
        self.registers.write_u32(QUEUE_READY, 1);
        Ok(Box::new(Doorbell { register, queue }))
    }

    fn interrupts(&self) -> Interrupts {
        Interrupts::Wired
    }

    fn route(&mut self, _vector: u16, interrupt: Interrupt) -> Result<(), Error> {
        let gsi = self.device.gsi;
        if self.routed {
            return Ok(());
        }
        if !lines::take(gsi) {
            return Err(Error::SharedLine(gsi));
        }
        self.routed = true;
        ioapic::route(gsi, interrupt, self.device.trigger, self.device.polarity)
            .map_err(|why| Error::Unroutable(why.to_string()))
    }

    fn assign(&mut self, _event: Event, _vector: u16) -> Result<(), Error> {
        Err(Error::VectorRefused)
    }

    fn acknowledge(&mut self) -> Option<Box<dyn Acknowledge>> {
        let at = self.device.base + INTERRUPT_STATUS as u64;
        let registers = Window::map(at, INTERRUPT_ACK + 4 - INTERRUPT_STATUS)?;
        Some(Box::new(Line { registers }))
    }

    fn isolate(&mut self) {
        if self.routed {
            // The line was routed, so it exists.
            let _ = ioapic::mask(self.device.gsi);
            lines::give_back(self.device.gsi);
            self.routed = false;
        }
    }
}

struct Doorbell {
    register: Window,
    queue: u16,
}

impl Notify for Doorbell {
    fn notify(&self) {
        self.register.write_u32(0, self.queue.into());
    }
}

/// Interrupt status and acknowledgement.
struct Line {
    registers: Window,
}

impl Acknowledge for Line {
    fn acknowledge(&self) {
        // §4.2.2.1: status bits that are acknowledged go down, and the line with the last one.
        let status = self.registers.read_u32(0);
        if status != 0 {
            self.registers.write_u32(INTERRUPT_ACK - INTERRUPT_STATUS, status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(magic: u32, version: u32, kind: u32) -> Result<u32, Error> {
        identify(|register| match register {
            MAGIC_VALUE => magic,
            VERSION => version,
            DEVICE_ID => kind,
            _ => panic!("register {register:#x} is not for identification"),
        })
    }

    #[test]
    fn takes_the_current_layout_only() {
        assert_eq!(registers(0x7472_6976, 2, 1), Ok(1));
        assert_eq!(registers(0x7472_6976, 2, 0), Err(Error::EmptySlot));
        assert_eq!(registers(0x7472_6976, 1, 0), Err(Error::EmptySlot));
        assert_eq!(registers(0x7472_6976, 1, 1), Err(Error::LegacyMmio));
        assert_eq!(registers(0x7472_6976, 3, 1), Err(Error::UnknownMmioVersion(3)));
        assert_eq!(registers(0xffff_ffff, 2, 1), Err(Error::NotVirtio));
    }

    #[test]
    fn the_refusal_of_the_legacy_layout_names_the_cure() {
        assert!(Error::LegacyMmio.to_string().contains("virtio-mmio.force-legacy=false"));
    }
}
