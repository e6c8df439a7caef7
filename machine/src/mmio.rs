//! Device registers: a window of uncached memory, read and written one volatile access at a time.
//!
//! Windows stay mapped for the life of the image. On the host there are no devices and `map` gives `None`.

/// Registers of one device. Offsets are bytes from the window's start.
///
/// An access out of range or out of alignment panics: register layouts are the driver's own knowledge.
#[derive(Debug)]
pub struct Window {
    start: *mut u8,
    len: usize,
}

// SAFETY: device registers may be accessed from any CPU; the window owns no other state.
unsafe impl Send for Window {}

macro_rules! access {
    ($type:ty, $read:ident, $write:ident) => {
        #[doc = concat!("Reads the `", stringify!($type), "` register at `offset`.")]
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            let at = self.at::<$type>(offset);
            // SAFETY: `at` checked that the register lies inside the window and is aligned; it is mapped.
            unsafe { at.read_volatile() }
        }

        #[doc = concat!("Writes the `", stringify!($type), "` register at `offset`.")]
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            let at = self.at::<$type>(offset);
            // SAFETY: `at` checked that the register lies inside the window and is aligned; it is mapped.
            unsafe { at.write_volatile(value) }
        }
    };
}

impl Window {
    /// Maps `len` bytes of registers at physical address `phys`. `None` if that is RAM or otherwise in use, out
    /// of the reach of the page tables, empty, or if memory for page tables ran out. Boot and tasks.
    #[cfg(feature = "image")]
    pub fn map(phys: u64, len: usize) -> Option<Window> {
        let end = phys.checked_add(len as u64)?;
        let mapped = len != 0 && crate::paging::device(phys..end);
        mapped.then_some(Window { start: phys as *mut u8, len })
    }

    /// There are no devices on the host.
    #[cfg(not(feature = "image"))]
    pub fn map(_phys: u64, _len: usize) -> Option<Window> {
        None
    }

    /// Bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a window is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Physical address of the first register.
    #[inline]
    pub fn addr(&self) -> u64 {
        self.start as u64
    }

    access!(u8, read_u8, write_u8);
    access!(u16, read_u16, write_u16);
    access!(u32, read_u32, write_u32);
    access!(u64, read_u64, write_u64);

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        assert!(
            offset <= self.len && size <= self.len - offset,
            "register of {size} bytes at {offset:#x} in a window of {:#x}",
            self.len
        );
        let at = self.start.wrapping_add(offset).cast::<T>();
        assert!(at.is_aligned(), "register at {offset:#x} is not aligned");
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window over ordinary memory, for the bounds.
    fn window(memory: &mut [u64; 2]) -> Window {
        Window { start: memory.as_mut_ptr().cast(), len: 16 }
    }

    #[test]
    fn accesses_each_width_in_place() {
        let mut memory = [0; 2];
        let window = window(&mut memory);
        window.write_u32(4, 0x1122_3344);
        window.write_u8(15, 9);
        assert_eq!((window.read_u16(6), window.read_u64(8)), (0x1122, 9 << 56));
    }

    #[test]
    #[should_panic = "register of 4 bytes at 0x10 in a window of 0x10"]
    fn an_access_over_the_end_panics() {
        window(&mut [0; 2]).read_u32(16);
    }

    #[test]
    #[should_panic = "not aligned"]
    fn an_access_out_of_alignment_panics() {
        window(&mut [0; 2]).read_u32(2);
    }

    #[test]
    fn the_host_has_no_devices() {
        assert!(Window::map(0xfee0_0000, 4096).is_none());
    }
}
