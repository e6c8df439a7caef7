//! Captures beside forwarding: what they cost the packets.

use std::sync::{Arc, LazyLock};
use std::time::Instant as Clock;
use weir_bpf::{Instruction, Program};
use weir_netif::IfIndex;
use weir_netstack::capture::{Attached, Capture, Direction, Filter, Taps, Wish};
use weir_sync::Cpu;
use weir_sync::records::Consumer;

/// Bytes kept of a frame.
const SNAPLEN: u32 = 96;
/// Bytes of a ring: a sample's packets fit.
const RING: usize = 2 << 20;

/// Nanoseconds, for the taps.
pub(crate) fn ticks() -> u64 {
    static BEGUN: LazyLock<Clock> = LazyLock::new(Clock::now);
    BEGUN.elapsed().as_nanos() as u64
}

/// The program of the expression `arp`, interpreted.
#[derive(Debug)]
struct Arp(Program);

impl Filter for Arp {
    #[inline]
    fn run(&self, frame: &[u8], len: u32) -> u32 {
        let packet = weir_bpf::Packet { wire_len: len, ..weir_bpf::Packet::new(frame) };
        weir_bpf::Filter::run(&self.0, &packet)
    }
}

/// A capture of all that leaves by the second interface.
pub(crate) struct Tap {
    taps: Arc<Taps>,
    capture: Arc<Capture>,
    rings: Vec<Consumer>,
    attached: Attached,
}

impl Tap {
    /// `mode` is `all`, or `nothing`: a filter that lets nothing pass. `None` for another.
    pub(crate) fn attach(cpu: &mut Cpu, taps: &Arc<Taps>, mode: &str) -> Option<Tap> {
        let arp = || {
            let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
            let program = [
                instruction(0x28, 0, 0, 12),
                instruction(0x15, 0, 1, 0x806),
                instruction(0x06, 0, 0, SNAPLEN),
                instruction(0x06, 0, 0, 0),
            ];
            Box::new(Arp(Program::new(&program).expect("a program"))) as Box<dyn Filter>
        };
        let filter = match mode {
            "all" => None,
            "nothing" => Some(arp()),
            _ => return None,
        };
        let (capture, rings) = Capture::new(Wish {
            interfaces: &[IfIndex(1)],
            directions: Direction::Out.bit(),
            snaplen: SNAPLEN,
            filter,
            ring: RING,
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
