//! What Xen shares with the domain at all times: one page for all, and a [`VcpuInfo`] for each CPU.
//!
//! Set up at boot, each CPU's part by itself; read in any context.

use super::hypercall::{self, Errno};
use crate::frames::{self, FRAME};
use core::mem::offset_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI8, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};
use weir_sync::{CpuId, MAX_CPUS};
use xen_sys::{shared_info, vcpu_info, vcpu_time_info};

/// `XENMAPSPACE_shared_info`.
const SPACE: u32 = 0;
/// `VCPUOP_register_vcpu_info`.
const REGISTER_VCPU_INFO: u32 = 10;
/// Leaf 4 says "EBX is this CPU's number" by this bit of EAX (Xen `public/arch-x86/cpuid.h`).
const HAS_VCPU: u32 = 1 << 3;
/// Number of nobody.
const NONE: u32 = u32::MAX;

/// How the TSC relates to Xen's clock (`vcpu_time_info`). Written by Xen, version odd meanwhile.
#[derive(Debug)]
#[repr(C)]
pub(super) struct TimeInfo {
    pub(super) version: AtomicU32,
    pad: u32,
    pub(super) tsc_timestamp: AtomicU64,
    pub(super) system_time: AtomicU64,
    pub(super) tsc_to_system_mul: AtomicU32,
    pub(super) tsc_shift: AtomicI8,
    flags: [u8; 3],
}

/// One CPU's share (`vcpu_info`).
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct VcpuInfo {
    /// `[A]` Something is pending. Xen sets it and interrupts if it was clear; the CPU clears it and looks.
    pub(super) upcall_pending: AtomicU8,
    upcall_mask: AtomicU8,
    /// `[A]` Words of the two-level ABI to look at.
    pub(super) selector: AtomicU64,
    fault_address: u64,
    pad: u64,
    pub(super) time: TimeInfo,
}

/// The page for all (`shared_info`), as far as we look.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shared {
    vcpus: [VcpuInfo; LEGACY_VCPUS],
    pub(super) pending: [AtomicU64; 64],
    pub(super) mask: [AtomicU64; 64],
}

const LEGACY_VCPUS: usize = xen_sys::XEN_LEGACY_MAX_VCPUS as usize;
const _: () = {
    assert!(size_of::<TimeInfo>() == size_of::<vcpu_time_info>());
    assert!(offset_of!(TimeInfo, tsc_to_system_mul) == offset_of!(vcpu_time_info, tsc_to_system_mul));
    assert!(offset_of!(TimeInfo, tsc_shift) == offset_of!(vcpu_time_info, tsc_shift));
    assert!(size_of::<VcpuInfo>() == size_of::<vcpu_info>());
    assert!(offset_of!(VcpuInfo, selector) == offset_of!(vcpu_info, evtchn_pending_sel));
    assert!(offset_of!(VcpuInfo, time) == offset_of!(vcpu_info, time));
    assert!(offset_of!(Shared, pending) == offset_of!(shared_info, evtchn_pending));
    assert!(offset_of!(Shared, mask) == offset_of!(shared_info, evtchn_mask));
};

impl VcpuInfo {
    const fn new() -> Self {
        Self {
            upcall_pending: AtomicU8::new(0),
            upcall_mask: AtomicU8::new(0),
            selector: AtomicU64::new(0),
            fault_address: 0,
            pad: 0,
            time: TimeInfo {
                version: AtomicU32::new(0),
                pad: 0,
                tsc_timestamp: AtomicU64::new(0),
                system_time: AtomicU64::new(0),
                tsc_to_system_mul: AtomicU32::new(0),
                tsc_shift: AtomicI8::new(0),
                flags: [0; 3],
            },
        }
    }
}

/// Registered with Xen, each by its CPU. Aligned to their size, so none crosses a page.
static INFOS: [VcpuInfo; MAX_CPUS] = [const { VcpuInfo::new() }; MAX_CPUS];
/// `[I]` by CPU: where its share is; null: it has none.
static MINE: [AtomicPtr<VcpuInfo>; MAX_CPUS] = [const { AtomicPtr::new(null_mut()) }; MAX_CPUS];
/// `[I]` by CPU: the number Xen knows it by, or [`NONE`].
static VCPUS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NONE) }; MAX_CPUS];
/// `[I]` The page for all.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// Has Xen put its page over a frame of ours. Boot CPU, once the frame allocator and the page tables are there.
pub(super) fn init() -> Result<(), Errno> {
    const NO_MEMORY: Errno = Errno(12);
    // For good: Xen keeps the page there, and takes the RAM behind it back.
    let frame = frames::allocate(1, 1).ok_or(NO_MEMORY)?;
    // SAFETY: the frame was just taken and is never given back unless Xen refuses.
    match unsafe { hypercall::place(SPACE, 0, frame) } {
        Ok(()) => {
            SHARED.store(frame as *mut Shared, Ordering::Release);
            Ok(())
        }
        Err(errno) => {
            frames::free(frame, 1);
            Err(errno)
        }
    }
}

/// Gives this CPU a share of its own: without one, Xen writes to its slot in the page for all, which has 32.
pub(super) fn init_cpu(cpu: CpuId, apic: u32) {
    #[repr(C)]
    struct Register {
        frame: u64,
        offset: u32,
        reserved: u32,
    }
    // Xen before 4.6 did not say the number; its APIC ids are twice that.
    let number =
        hypercall::leaf(4, 0).filter(|leaf| leaf.eax & HAS_VCPU != 0).map_or(apic / 2, |leaf| leaf.ebx);
    let info = &INFOS[cpu.index()];
    let at = core::ptr::from_ref(info) as u64;
    let mut register = Register { frame: at / FRAME, offset: (at % FRAME) as u32, reserved: 0 };
    // SAFETY: the structure is `vcpu_register_vcpu_info`; Xen writes to the static, whose fields are atomics, for ever.
    let registered = unsafe { hypercall::vcpu_op(REGISTER_VCPU_INFO, number, &mut register) };
    let mine = match registered {
        Ok(_) => Some(info),
        Err(errno) => {
            crate::warn!("xen: {cpu} has no vcpu_info of its own: {errno}");
            shared().and_then(|shared| shared.vcpus.get(number as usize))
        }
    };
    if let Some(mine) = mine {
        MINE[cpu.index()].store(core::ptr::from_ref(mine).cast_mut(), Ordering::Release);
        VCPUS[cpu.index()].store(number, Ordering::Release);
    }
}

/// The page for all; `None` without Xen.
pub(super) fn shared() -> Option<&'static Shared> {
    // SAFETY: null, or what `init` stored: a whole page that stays Xen's, of atomics as far as Xen writes it.
    unsafe { SHARED.load(Ordering::Acquire).as_ref() }
}

/// The share of `cpu`; `None` without Xen, or before it came up.
#[inline]
pub(super) fn info(cpu: CpuId) -> Option<&'static VcpuInfo> {
    // SAFETY: null, or what `init_cpu` stored: a static, or a slot of the page for all; Xen writes atomics only.
    unsafe { MINE[cpu.index()].load(Ordering::Acquire).as_ref() }
}

/// The number Xen knows `cpu` by; `None` without Xen, or before it came up.
pub(crate) fn vcpu(cpu: CpuId) -> Option<u32> {
    Some(VCPUS[cpu.index()].load(Ordering::Acquire)).filter(|&number| number != NONE)
}
