//! Captures that begin and end while every CPU forwards.

use super::*;
use weir_bpf::{Filter, Packet as Seen};
use weir_netstack::capture::{Capture, Direction, Record, Wish};

/// Lets every packet pass, and is counted while it lives.
#[derive(Debug)]
struct Counted(#[expect(dead_code, reason = "held")] Arc<()>);

impl Filter for Counted {
    fn run(&self, _: &Seen<'_>) -> u32 {
        u32::MAX
    }
}

/// Ten times as many as the storms change.
#[test]
fn ten_thousand_captures_begin_and_end_and_leave_nothing() {
    const CPUS: usize = 2;
    let storm = Storm::new();
    let a = source_wire(0, 1, storm.maker(|_| None, |frame| frame), |_, _| ());
    let take = storm.taker();
    let b = sink(1, CPUS, move |_, frame| {
        take(frame);
    });
    let mut rig = Rig::new(CPUS, std::vec![a, b]);
    rig.replace(&config("flows", &[(0, A), (1, B)], &[]));
    let knock = || {
        for cpu in (0..CPUS).filter_map(CpuId::new) {
            raise(cpu, MESSAGE);
        }
        raise(CpuId::BOOT, crate::memory_port::source(0));
    };
    rig.wait_for(|| {
        knock();
        storm.source.arrived.load(Ordering::Relaxed) > storm.source.flows
    });
    let alive = Arc::new(());
    let (taps, interfaces) = (rig.shared.taps.clone(), [IfIndex(0), IfIndex(1)]);
    let (mut taken, mut lost) = ([0_u64; 3], 0);
    for round in 0..10 * changes() {
        let (capture, mut rings) = Capture::new(Wish {
            interfaces: &interfaces,
            directions: 7,
            snaplen: 96,
            filter: Some(Box::new(Counted(alive.clone()))),
            ring: 4096,
        })
        .unwrap();
        let attached = rig.control.control(|cx| taps.attach(cx, &capture)).unwrap();
        knock();
        let mut read = 0;
        let mut drain = || {
            for ring in &mut rings {
                while ring.front(|bytes| {
                    let record = Record::parse(bytes).unwrap();
                    assert!(record.bytes.len() <= 96 && record.bytes.len() <= record.len as usize);
                    taken[record.direction as usize] += 1;
                }) == Some(())
                {
                    ring.advance();
                    read += 1;
                }
            }
        };
        // Some are read while they go on, some see a packet for sure.
        if round % 16 == 0 {
            rig.wait_for(|| {
                knock();
                drain();
                (0..2).any(|number| capture.counts(number).captured > 0)
            });
        }
        rig.control.control(|cx| taps.detach(cx, attached));
        drain();
        let counts = [0, 1].map(|number| capture.counts(number));
        for counts in counts {
            assert_eq!(counts.received, counts.matched);
            assert_eq!(counts.matched, counts.captured + counts.dropped);
            lost += counts.dropped;
        }
        assert_eq!(
            counts.iter().map(|counts| counts.captured).sum::<u64>(),
            read,
            "none is left, none is late"
        );
        assert_eq!((Arc::strong_count(&capture), taps.attached()), (1, 0), "no CPU has it any more");
        drop(capture);
        assert_eq!(Arc::strong_count(&alive), 1, "what it had is freed");
    }
    assert!(
        taken[Direction::In as usize] > 0 && taken[Direction::Out as usize] > 0,
        "{taken:?}, {lost} lost"
    );
    storm.running.store(false, Ordering::Relaxed);
    rig.wait_for(|| {
        knock();
        storm.source.arrived.load(Ordering::Relaxed) == storm.source.made.load(Ordering::Relaxed)
    });
    assert_lost_by_changes(&rig.finish(&[0, 1]), &[]);
}
