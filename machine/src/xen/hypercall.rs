//! The way into Xen: its CPUID leaves, the page of entry points that it fills for us, one function a hypercall.
//!
//! Callable in any context once [`init`] has run; before, and without Xen, every call fails with [`Errno::NOSYS`].

use super::DomId;
use crate::port;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use raw_cpuid::{CpuId, CpuIdResult, cpuid};
use x86_64::registers::model_specific::Msr;

/// Why Xen refused: a number of its `public/errno.h`, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// No such hypercall, or no Xen.
    pub(crate) const NOSYS: Errno = Errno(38);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            3 => "ESRCH",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            14 => "EFAULT",
            16 => "EBUSY",
            17 => "EEXIST",
            19 => "ENODEV",
            22 => "EINVAL",
            28 => "ENOSPC",
            38 => "ENOSYS",
            other => return write!(f, "error {other}"),
        };
        f.write_str(name)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of an entry of the page.
const STRIDE: usize = 32;

/// `[I]` First of Xen's CPUID leaves; 0: no Xen, or [`init`] has not run.
static BASE: AtomicU32 = AtomicU32::new(0);

core::arch::global_asm!(
    ".section .text.weir_hypercall, \"ax\", @progbits",
    ".balign 4096",
    ".globl weir_hypercall_page",
    "weir_hypercall_page:",
    ".fill 4096, 1, 0xcc",
    ".text",
);

unsafe extern "C" {
    /// Entry points of 32 bytes, one a hypercall number, written by Xen.
    static weir_hypercall_page: UnsafeCell<[u8; 4096]>;
}

/// Looks for Xen and has it fill the hypercall page. Boot CPU, first of all; needs nothing.
pub(crate) fn init() {
    let Some(base) = find() else { return };
    let pages = cpuid!(base + 2);
    if pages.eax == 0 {
        return;
    }
    let mut msr = Msr::new(pages.ebx);
    // SAFETY: Xen announces the MSR in its leaf 2. It writes one page at the address, which is the image's own,
    // reserved for this and never read but by `call`.
    unsafe { msr.write(&raw const weir_hypercall_page as u64) };
    BASE.store(base, Ordering::Release);
}

/// Xen's leaves begin at 0x40000000, or at a later multiple of 0x100 behind Hyper-V's.
fn find() -> Option<u32> {
    const SIGNATURE: (u32, u32, u32) = (0x566E_6558, 0x6558_4D4D, 0x4D4D_566E);
    CpuId::new().get_feature_info().filter(|features| features.has_hypervisor())?;
    (0x4000_0000..0x4001_0000).step_by(0x100).find(|&base| {
        let leaf = cpuid!(base);
        (leaf.ebx, leaf.ecx, leaf.edx) == SIGNATURE && leaf.eax >= base + 2
    })
}

/// Xen's first CPUID leaf; `None` without Xen.
pub(crate) fn base() -> Option<u32> {
    Some(BASE.load(Ordering::Acquire)).filter(|&base| base != 0)
}

/// Xen's leaf `number`, if it has that many.
pub(crate) fn leaf(number: u32, sub: u32) -> Option<CpuIdResult> {
    let base = base()?;
    (cpuid!(base).eax >= base + number).then(|| cpuid!(base + number, sub))
}

/// # Safety
/// `number` is a hypercall and the arguments are what it takes; memory they name is what it may read and write.
unsafe fn call(number: u32, arguments: [u64; 3]) -> Result<u64, Errno> {
    if base().is_none() {
        return Err(Errno::NOSYS);
    }
    let entry = (&raw const weir_hypercall_page as usize) + number as usize * STRIDE;
    let [a, b, c] = arguments;
    let result: i64;
    // Xen takes arguments in rdi, rsi, rdx, r10, r8 and may destroy those it was given; the result is in rax. The call
    // pushes, so no `nostack`: the compiler keeps its red zone clear.
    // SAFETY: the page was filled by Xen, the caller vouches for the arguments.
    unsafe {
        core::arch::asm!(
            "call {entry}",
            entry = in(reg) entry,
            inlateout("rdi") a => _,
            inlateout("rsi") b => _,
            inlateout("rdx") c => _,
            lateout("rax") result,
            lateout("r10") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    u64::try_from(result).map_err(|_| Errno(i32::try_from(-result).unwrap_or(i32::MAX)))
}

fn address<T>(argument: &mut T) -> u64 {
    NonNull::from(argument).cast::<c_void>().as_ptr() as u64
}

/// Changes what memory the domain has (Xen `public/memory.h`).
///
/// # Safety
/// `argument` is the structure of `command`; what it makes Xen do to memory is the caller's to do.
pub(crate) unsafe fn memory_op<T>(command: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_memory_op, [command.into(), address(argument), 0]) }
}

/// Event channels (Xen `public/event_channel.h`).
///
/// # Safety
/// As for [`memory_op`].
pub(crate) unsafe fn event_channel_op<T>(command: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_event_channel_op, [command.into(), address(argument), 0]) }
}

/// The grant table (Xen `public/grant_table.h`); each element of `arguments` has a status of its own.
///
/// # Safety
/// As for [`memory_op`].
pub(crate) unsafe fn grant_table_op<T>(command: u32, arguments: &mut [T]) -> Result<u64, Errno> {
    let count = arguments.len() as u64;
    let at = arguments.as_mut_ptr() as u64;
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_grant_table_op, [command.into(), at, count]) }
}

/// Yields, waits, ends the domain (Xen `public/sched.h`).
///
/// # Safety
/// As for [`memory_op`].
pub(crate) unsafe fn sched_op<T>(command: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_sched_op, [command.into(), address(argument), 0]) }
}

/// One virtual CPU, by Xen's number ([`shared_info::vcpu`](super::shared_info::vcpu)) (Xen `public/vcpu.h`).
///
/// # Safety
/// As for [`memory_op`].
pub(crate) unsafe fn vcpu_op<T>(command: u32, vcpu: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_vcpu_op, [command.into(), vcpu.into(), address(argument)]) }
}

/// What fully virtualised guests have beside (Xen `public/hvm/hvm_op.h`).
///
/// # Safety
/// As for [`memory_op`].
pub(crate) unsafe fn hvm_op<T>(command: u32, argument: &mut T) -> Result<u64, Errno> {
    // SAFETY: the caller's.
    unsafe { call(xen_sys::__HYPERVISOR_hvm_op, [command.into(), address(argument), 0]) }
}

/// Writes to Xen's own log, if the domain may.
pub(crate) fn console_io(text: &[u8]) -> Result<(), Errno> {
    let write = u64::from(xen_sys::CONSOLEIO_write);
    let arguments = [write, text.len() as u64, text.as_ptr() as u64];
    // SAFETY: Xen reads `text` and writes nothing.
    unsafe { call(xen_sys::__HYPERVISOR_console_io, arguments) }.map(|_| ())
}

/// Writes to Xen's own log, which shows it as far as `guest_loglvl` lets it: by [`console_io`], or, where that is left to
/// debug builds of Xen, byte by byte through a port. For last words.
pub(crate) fn log(text: &[u8]) {
    if base().is_some() && console_io(text).is_err() {
        text.iter().for_each(|&byte| port::write(xen_sys::XEN_HVM_DEBUGCONS_IOPORT as u16, byte));
    }
}

/// `HVMOP_get_param`: what the builder of the domain left at `index` (Xen `public/hvm/params.h`); `None` if nothing, 0 or
/// all ones.
pub(crate) fn parameter(index: u32) -> Option<u64> {
    const GET: u32 = 1;
    #[repr(C)]
    struct Parameter {
        domain: u16,
        pad: u16,
        index: u32,
        value: u64,
    }
    let mut parameter = Parameter { domain: DomId::SELF.0, pad: 0, index, value: 0 };
    // SAFETY: the structure is `xen_hvm_param`; Xen writes its value only.
    unsafe { hvm_op(GET, &mut parameter) }.ok()?;
    Some(parameter.value).filter(|&value| value != 0 && value != u64::MAX)
}

/// `XENMEM_add_to_physmap`: puts a page that Xen shares at the frame at `addr`. What RAM the frame had goes back to Xen.
///
/// # Safety
/// `addr` is a whole page that nobody else uses, and never will.
pub(crate) unsafe fn place(space: u32, index: u64, addr: u64) -> Result<(), Errno> {
    const ADD_TO_PHYSMAP: u32 = 7;
    #[repr(C)]
    struct AddToPhysmap {
        domain: u16,
        size: u16,
        space: u32,
        index: u64,
        frame: u64,
    }
    let frame = addr / crate::frames::FRAME;
    let mut argument = AddToPhysmap { domain: DomId::SELF.0, size: 0, space, index, frame };
    // SAFETY: the structure is `xen_add_to_physmap`; the caller owns the frame.
    unsafe { memory_op(ADD_TO_PHYSMAP, &mut argument) }.map(|_| ())
}

/// Maps the page at frame `gfn`, which the builder of the domain left for a ring, and which is no RAM of the map.
pub(crate) fn ring(gfn: u64) -> Option<NonNull<u8>> {
    let start = gfn.checked_mul(crate::frames::FRAME)?;
    let end = start.checked_add(crate::frames::FRAME)?;
    crate::paging::shared(start..end).then(|| NonNull::new(start as *mut u8)).flatten()
}
