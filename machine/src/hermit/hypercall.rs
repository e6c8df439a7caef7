//! uhyve's hypercalls, version 2 of its interface: a write to a port with the parameters' physical address in
//! RDI. All of RAM is mapped at its physical address, so pointers are such addresses. The parent module calls
//! none of this without uhyve.

use super::FileError;
use alloc::ffi::CString;
use alloc::vec::Vec;
use uhyve_interface::GuestPhysAddr;
use uhyve_interface::v2::HypercallAddress;
use uhyve_interface::v2::parameters::{
    CloseParams, ENOENT, O_RDONLY, OpenParams, ReadParams, SerialWriteBufferParams,
};

/// Asked for at a time.
const PIECE: usize = 16 << 10;

/// Shows text.
pub(super) fn write(text: &[u8]) {
    let parameters = SerialWriteBufferParams { len: text.len() as u64, buf: address(text.as_ptr()) };
    // SAFETY: the call takes such parameters, and reads `text`; both outlive it.
    unsafe { call(HypercallAddress::SerialWriteBuffer, address(&raw const parameters).as_u64()) };
}

/// Ends the machine.
pub(super) fn exit(status: i32) {
    // SAFETY: the call takes a number.
    unsafe { call(HypercallAddress::Exit, status as u32 as u64) };
}

/// [`read_file`](super::read_file) where there is uhyve.
pub(super) fn read_file(path: &str, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let path = CString::new(path).map_err(|_| FileError::Name)?;
    let mut open = OpenParams { name: address(path.as_ptr()), flags: O_RDONLY, mode: 0, ret: 0 };
    // SAFETY: the call takes such parameters, reads `path` to its zero and writes `open.ret`; both outlive
    // it.
    unsafe { call(HypercallAddress::FileOpen, address(&raw mut open).as_u64()) };
    let fd = open.ret;
    if fd == -ENOENT {
        return Ok(None);
    }
    if fd < 0 {
        return Err(FileError::Errno(fd.saturating_neg()));
    }
    let content = read_all(fd, limit);
    let mut close = CloseParams { fd, ret: 0 };
    // SAFETY: the call takes such parameters and writes `close.ret`; `close` outlives it.
    unsafe { call(HypercallAddress::FileClose, address(&raw mut close).as_u64()) };
    content.map(Some)
}

fn read_all(fd: i32, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        content.resize(start + PIECE, 0);
        let mut read =
            ReadParams { len: PIECE as u64, ret: 0, buf: address(content[start..].as_mut_ptr()), fd };
        // SAFETY: the call takes such parameters, writes `read.ret` and the `PIECE` bytes of `content` from
        // `start` on; both outlive it.
        unsafe { call(HypercallAddress::FileRead, address(&raw mut read).as_u64()) };
        if read.ret < 0 {
            let errno = i32::try_from(read.ret.unsigned_abs()).unwrap_or(i32::MAX);
            return Err(FileError::Errno(errno));
        }
        content.truncate(start + (read.ret as usize).min(PIECE));
        if content.len() > limit {
            return Err(FileError::Longer(limit));
        }
        if content.len() == start {
            return Ok(content);
        }
    }
}

fn address<T>(pointer: *const T) -> GuestPhysAddr {
    GuestPhysAddr::new(pointer as u64)
}

/// Stops the CPU until uhyve has done what is asked.
///
/// # Safety
/// uhyve runs this machine. `parameter` is what `which` takes: a number, or the address of parameters of its type, which
/// the call may write, and in which every address is that of memory which the call may read or write as its type says.
unsafe fn call(which: HypercallAddress, parameter: u64) {
    // SAFETY: uhyve reads and writes what the caller vouches for, and changes nothing else.
    unsafe {
        core::arch::asm!(
            "out dx, eax",
            in("dx") which as u64 as u16,
            in("eax") parameter as u32,
            in("rdi") parameter,
            options(nostack, preserves_flags),
        );
    }
}
