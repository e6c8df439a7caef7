//! A capture of three packets, then of none.

use std::time::Instant;
use weir_manage::capture::Source;
use weir_manage::pcapng::{Counts, Direction, Packet};

pub(crate) struct Script {
    began: Instant,
    names: Vec<String>,
    directions: u8,
    next: u8,
    stopped: bool,
}

impl Script {
    pub(crate) fn new(interface: &str, directions: u8) -> Self {
        let names = vec![interface.to_owned()];
        Self { began: Instant::now(), names, directions, next: 0, stopped: false }
    }
}

impl Source for Script {
    fn interfaces(&self) -> &[String] {
        &self.names
    }

    fn read(&mut self, each: &mut dyn FnMut(&Packet<'_>) -> bool) {
        const ALL: [Direction; 3] = [Direction::Inbound, Direction::Outbound, Direction::Lost("no-route")];
        let mut goes_on = true;
        while goes_on && self.next < 3 {
            let direction = ALL[usize::from(self.next)];
            let bytes = [&[2; 12][..], &[8, 0], &[self.next; 40]].concat();
            if self.directions >> self.next & 1 != 0 {
                let received = Packet::received(u64::from(self.next) * 1_000_000_000, &bytes);
                goes_on = each(&Packet { cpu: 1, direction, len: 60, ..received });
            }
            self.next += 1;
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn counts(&self, _: usize) -> Counts {
        Counts { received: 9, matched: 3, dropped: 0 }
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn is_over(&self) -> bool {
        false
    }
}
