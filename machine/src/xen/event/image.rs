//! Event channels of the domain. The FIFO ABI where Xen has it, else the two-level one.
//!
//! [`serve`] runs in softints: no lock, every table is atomics. Opening and closing take one short lock.

use super::{Error, Unmasking, fifo, two_level};
use crate::dma::Region;
use crate::frames::FRAME;
use crate::interrupt::{EVENTS, Interrupt};
use crate::lock::Lock;
use crate::xen::hypercall::{self, Errno};
use crate::xen::{DomId, clock as xen_clock, shared_info};
use crate::{clock, dispatch};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use weir_sync::rank::EventChannels;
use weir_sync::{CpuId, MAX_CPUS, More};

const NONE: u8 = 0;
const TWO_LEVEL: u8 = 1;
const FIFO: u8 = 2;

/// Ports whose words, or targets, are in one page.
const PER_PAGE: usize = FRAME as usize / size_of::<u32>();
const PAGES: usize = xen_sys::EVTCHN_FIFO_NR_CHANNELS as usize / PER_PAGE;
/// `HVMOP_set_evtchn_upcall_vector`.
const SET_UPCALL_VECTOR: u32 = 23;

type Words = [AtomicU32; PER_PAGE];

/// `[I]` after [`init`]: the ABI.
static ABI: AtomicU8 = AtomicU8::new(NONE);
static CONTROLS: [fifo::Control; MAX_CPUS] = [const { fifo::Control::new() }; MAX_CPUS];
static QUEUES: [fifo::Queues; MAX_CPUS] = [const { fifo::Queues::new() }; MAX_CPUS];
/// `[A]` Event words of the FIFO ABI; pages are added in order and stay.
static EVENT_WORDS: [AtomicPtr<Words>; PAGES] = [const { AtomicPtr::new(null_mut()) }; PAGES];
/// `[A]` By port: 0, or the target as [`encode`] has it. Pages stay.
static TARGETS: [AtomicPtr<Words>; PAGES] = [const { AtomicPtr::new(null_mut()) }; PAGES];
/// Held while pages are added.
static GROWTH: Lock<EventChannels, ()> = Lock::new(());

/// A channel of the domain needs no more than its port.
#[derive(Debug)]
pub(super) struct Line;

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        if errno == Errno::NOSYS { Error::Absent } else { Error::Refused(errno.0) }
    }
}

fn operate<T>(command: u32, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: this module passes each command the structure of its name; none lets Xen write elsewhere than `argument`,
    // and the pages that `init_cpu` and `grow` name.
    unsafe { hypercall::event_channel_op(command, argument) }.map(|_| ())
}

/// Chooses the ABI; what it is, for the log. Boot CPU, once it has its share of the shared information.
pub(crate) fn init() -> &'static str {
    match init_control(CpuId::BOOT) {
        Ok(()) => {
            ABI.store(FIFO, Ordering::Release);
            "FIFO"
        }
        Err(errno) => {
            crate::debug!("xen: no FIFO event channels: {errno}");
            let Some(words) = words() else { return "none" };
            words.mask.iter().for_each(|word| word.store(u64::MAX, Ordering::Release));
            ABI.store(TWO_LEVEL, Ordering::Release);
            "two-level"
        }
    }
}

fn init_control(cpu: CpuId) -> Result<(), Errno> {
    let vcpu = shared_info::vcpu(cpu).ok_or(Errno::NOSYS)?;
    let at = &raw const CONTROLS[cpu.index()] as u64;
    let mut argument = xen_sys::evtchn_init_control {
        control_gfn: at / FRAME,
        offset: (at % FRAME) as u32,
        vcpu,
        link_bits: 0,
        _pad: [0; 7],
    };
    operate(xen_sys::EVTCHNOP_init_control, &mut argument)
}

/// Lets events of `cpu` set its bit [`EVENTS`]. On that CPU, its local APIC on, interrupts off; the boot CPU after [`init`].
pub(crate) fn init_cpu(cpu: CpuId) -> Result<(), Errno> {
    #[repr(C)]
    struct UpcallVector {
        vcpu: u32,
        vector: u8,
    }
    if cpu != CpuId::BOOT && ABI.load(Ordering::Acquire) == FIFO {
        init_control(cpu)?;
    }
    let vcpu = shared_info::vcpu(cpu).ok_or(Errno::NOSYS)?;
    let mut argument = UpcallVector { vcpu, vector: Interrupt { cpu, bit: EVENTS }.vector() };
    // SAFETY: the structure is `xen_hvm_evtchn_upcall_vector`; the vector's stub sets a bit.
    unsafe { hypercall::hvm_op(SET_UPCALL_VECTOR, &mut argument) }?;
    // Registering the share left a mark, and Xen interrupts only for the first. The look it asks for comes at the start of
    // dispatching.
    if let Some(info) = shared_info::info(cpu) {
        info.upcall_pending.store(0, Ordering::Release);
    }
    dispatch::raise(cpu, EVENTS);
    Ok(())
}

/// Serves [`EVENTS`]: looks which ports are pending, masks each and raises its target.
pub(crate) fn serve(cpu: CpuId) -> More {
    let Some(info) = shared_info::info(cpu) else { return More::No };
    // Before the look: whatever comes after it interrupts again.
    info.upcall_pending.swap(0, Ordering::SeqCst);
    match ABI.load(Ordering::Relaxed) {
        FIFO => fifo::scan(&CONTROLS[cpu.index()], &QUEUES[cpu.index()], word, deliver),
        TWO_LEVEL => {
            if let Some(words) = words() {
                words.scan(&info.selector, deliver);
            }
            More::No
        }
        _ => More::No,
    }
}

fn deliver(port: u32) {
    let encoded = slot(&TARGETS, port).map_or(0, |target| target.load(Ordering::Acquire));
    if let Some(target) = decode(encoded) {
        dispatch::raise(target.cpu, target.bit);
    }
}

fn encode(target: Interrupt) -> u32 {
    1 + (((target.cpu.index() as u32) << 8) | u32::from(target.bit))
}

fn decode(encoded: u32) -> Option<Interrupt> {
    let parts = encoded.checked_sub(1)?;
    Some(Interrupt { cpu: CpuId::new((parts >> 8) as usize)?, bit: parts as u8 })
}

fn slot(pages: &'static [AtomicPtr<Words>], port: u32) -> Option<&'static AtomicU32> {
    let page = pages.get(port as usize / PER_PAGE)?.load(Ordering::Acquire);
    // SAFETY: null, or a whole page of words that `grow` leaked.
    let words = unsafe { page.as_ref() }?;
    words.get(port as usize % PER_PAGE)
}

/// The FIFO ABI's word of a port; port 0 is nobody's.
fn word(port: u32) -> Option<&'static AtomicU32> {
    if port == 0 { None } else { slot(&EVENT_WORDS, port) }
}

fn words() -> Option<two_level::Words<'static>> {
    shared_info::shared().map(|shared| two_level::Words { pending: &shared.pending, mask: &shared.mask })
}

/// Makes room for `port` in the tables, every port up to it masked.
fn grow(port: u32) -> Result<(), Error> {
    let fifo = match ABI.load(Ordering::Acquire) {
        FIFO => true,
        TWO_LEVEL if port < two_level::PORTS => false,
        TWO_LEVEL => return Err(Error::Port),
        _ => return Err(Error::Absent),
    };
    let page = port as usize / PER_PAGE;
    let _alone = GROWTH.lock();
    for index in 0..=page {
        let (Some(targets), Some(events)) = (TARGETS.get(index), EVENT_WORDS.get(index)) else {
            return Err(Error::Port);
        };
        if targets.load(Ordering::Relaxed).is_null() {
            targets.store(new_page(0)?, Ordering::Release);
        }
        if fifo && events.load(Ordering::Relaxed).is_null() {
            let words = new_page(fifo::MASKED)?;
            // Masked before Xen has it: what is pending there already waits for its owner.
            let mut argument = xen_sys::evtchn_expand_array { array_gfn: words as u64 / FRAME };
            operate(xen_sys::EVTCHNOP_expand_array, &mut argument)?;
            events.store(words, Ordering::Release);
        }
    }
    Ok(())
}

fn new_page(value: u32) -> Result<*mut Words, Error> {
    let region = Region::new(FRAME as usize, FRAME as usize).ok_or(Error::Memory)?;
    (0..PER_PAGE).for_each(|index| region.write_u32(index * size_of::<u32>(), value));
    Ok(region.leak().as_mut_ptr().cast())
}

/// Registers `target` for `port`, masked.
fn open(port: u32, target: Interrupt) -> Result<(), Error> {
    let vcpu = shared_info::vcpu(target.cpu).ok_or(Error::Absent)?;
    grow(port)?;
    let entry = slot(&TARGETS, port).ok_or(Error::Port)?;
    entry
        .compare_exchange(0, encode(target), Ordering::AcqRel, Ordering::Acquire)
        .map_err(|_| Error::Port)?;
    mask(port, &Line);
    let mut argument = xen_sys::evtchn_bind_vcpu { port, vcpu };
    operate(xen_sys::EVTCHNOP_bind_vcpu, &mut argument).map_err(|errno| {
        entry.store(0, Ordering::Release);
        errno.into()
    })
}

pub(super) fn allocate(backend: DomId, target: Interrupt) -> Result<(u32, Line), Error> {
    let mut argument = xen_sys::evtchn_alloc_unbound { dom: DomId::SELF.0, remote_dom: backend.0, port: 0 };
    operate(xen_sys::EVTCHNOP_alloc_unbound, &mut argument)?;
    let port = argument.port;
    open(port, target).inspect_err(|_| shut(port))?;
    Ok((port, Line))
}

pub(super) fn bind(port: u32, target: Interrupt) -> Result<Line, Error> {
    open(port, target)?;
    Ok(Line)
}

/// Tells the other side of `port`, whoever owns it.
pub(crate) fn send(port: u32) {
    // Fails if the other side is gone, which the store says more clearly.
    let _ = operate(xen_sys::EVTCHNOP_send, &mut xen_sys::evtchn_send { port });
}

#[inline]
pub(super) fn notify(port: u32, _line: &Line) {
    send(port);
}

#[inline]
pub(super) fn unmask(port: u32, _line: &Line) {
    let unmasking = match ABI.load(Ordering::Relaxed) {
        FIFO => word(port).map(fifo::unmask),
        _ => words().map(|words| words.unmask(port)),
    };
    if unmasking == Some(Unmasking::ByXen) {
        let _ = operate(xen_sys::EVTCHNOP_unmask, &mut xen_sys::evtchn_unmask { port });
    }
}

pub(super) fn mask(port: u32, _line: &Line) {
    match ABI.load(Ordering::Relaxed) {
        FIFO => word(port).into_iter().for_each(fifo::mask),
        _ => words().into_iter().for_each(|words| words.mask(port)),
    }
}

pub(super) fn clear(port: u32, _line: &Line) {
    match ABI.load(Ordering::Relaxed) {
        FIFO => word(port).into_iter().for_each(fifo::clear),
        _ => words().into_iter().for_each(|words| words.clear(port)),
    }
}

pub(super) fn wait(port: u32, _line: &Line, deadline_ns: u64) {
    poll(&mut [port], deadline_ns.saturating_sub(clock::now()));
}

/// Sleeps for `ns` nanoseconds, or until an interrupt comes. Boot, tasks and last words.
pub(crate) fn sleep(ns: u64) {
    poll(&mut [], ns);
}

/// Sleeps until one of `ports` is pending, `ns` nanoseconds have passed, or an interrupt comes.
fn poll(ports: &mut [u32], ns: u64) {
    const SHORT_NS: u64 = 1_000_000;
    // An end of 0 would be none.
    let Some(end) = xen_clock::system_time().and_then(|now| now.checked_add(ns)).filter(|&end| end != 0)
    else {
        return clock::spin_ns(ns.min(SHORT_NS));
    };
    let mut argument =
        xen_sys::sched_poll { ports: ports.as_mut_ptr(), nr_ports: ports.len() as u32, timeout: end };
    // SAFETY: Xen reads the structure and the ports it points to.
    let _ = unsafe { hypercall::sched_op(xen_sys::SCHEDOP_poll, &mut argument) };
}

/// Closes `port` for Xen. Not of use to anyone any more: what fails is closed already.
fn shut(port: u32) {
    let _ = operate(xen_sys::EVTCHNOP_close, &mut xen_sys::evtchn_close { port });
}

pub(super) fn close(port: u32, _line: &Line) {
    mask(port, &Line);
    // Before Xen may give the port out again.
    slot(&TARGETS, port).into_iter().for_each(|target| target.store(0, Ordering::Release));
    shut(port);
}
