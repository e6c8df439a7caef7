//! Captures beside forwarding: what they cost the packets.

use std::sync::{Arc, LazyLock};
use std::time::Instant as Clock;
use weir_bpf::expression::{self, Options};
use weir_bpf::{Filter, Program};
use weir_machine::code::Code;
use weir_netif::IfIndex;
use weir_netstack::capture::{Attached, Capture, Direction, Taps, Wish};
use weir_sync::Cpu;
use weir_sync::records::Consumer;

/// Bytes kept of a frame.
const SNAPLEN: u32 = 96;
/// All of it.
const WHOLE: u32 = 1518;
/// Bytes of a ring, as many as a capture has unless it asks for others. A sample's packets fit.
const RING: usize = 1 << 20;

/// Nanoseconds, for the taps.
pub(crate) fn ticks() -> u64 {
    static BEGUN: LazyLock<Clock> = LazyLock::new(Clock::now);
    BEGUN.elapsed().as_nanos() as u64
}

/// What to capture of packets that are UDP: all; or by filters of which none wants one. The first is decided by the Ethernet
/// type, the second by the protocol, the third by addresses alone. And how many bytes of each.
const MODES: [(&str, &str, u32); 5] = [
    ("all", "", SNAPLEN),
    ("whole", "", WHOLE),
    ("nothing", "arp", SNAPLEN),
    ("web", "tcp port 80 and host 10.0.0.1", SNAPLEN),
    ("host", "host 198.51.100.7", SNAPLEN),
];

/// Whether all packets are captured in a mode.
pub(crate) fn takes_all(mode: &str) -> bool {
    MODES.iter().any(|(name, filter, _)| *name == mode && filter.is_empty())
}

/// The program of an expression, compiled as in the router; `None`: of an empty one.
fn filter(text: &str) -> Option<Box<dyn Filter>> {
    let options = Options { snap_length: SNAPLEN, ..Options::default() };
    let instructions = expression::compile(text, options).expect("an expression");
    let program = Program::new(&instructions).expect("a program");
    (!text.is_empty())
        .then(|| Box::new(Code::load(weir_bpf::compile(program)).expect("pages for code")) as Box<dyn Filter>)
}

/// A capture of all that leaves by the second interface.
pub(crate) struct Tap {
    taps: Arc<Taps>,
    capture: Arc<Capture>,
    rings: Vec<Consumer>,
    attached: Attached,
}

impl Tap {
    /// `None` for a mode that there is not.
    pub(crate) fn attach(cpu: &mut Cpu, taps: &Arc<Taps>, mode: &str) -> Option<Tap> {
        let (_, text, snaplen) = MODES.into_iter().find(|(name, ..)| *name == mode)?;
        let (capture, rings) = Capture::new(Wish {
            interfaces: &[IfIndex(1)],
            directions: Direction::Out.bit(),
            snaplen,
            filter: filter(text),
            ring: if snaplen == SNAPLEN { RING } else { RING * (WHOLE / SNAPLEN + 1) as usize },
        })?;
        let attached = cpu.control(|cx| taps.attach(cx, &capture))?;
        Some(Tap { taps: taps.clone(), capture, rings, attached })
    }

    /// Takes all packets out. How many.
    pub(crate) fn drain(&mut self) -> usize {
        let mut count = 0;
        for ring in &mut self.rings {
            while ring.front(|_| ()).is_some() {
                ring.advance();
                count += 1;
            }
        }
        count
    }

    /// Ends it. None found no room.
    pub(crate) fn detach(self, cpu: &mut Cpu) {
        let Tap { taps, capture, attached, .. } = self;
        cpu.control(|cx| taps.detach(cx, attached));
        assert_eq!(capture.counts(0).dropped, 0, "the ring holds a sample");
    }
}
