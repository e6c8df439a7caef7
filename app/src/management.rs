//! The management task of the boot CPU: devices' health, carrier changes, the console. Packet work preempts it.

use crate::attach::{self, Attached};
use crate::config::Config;
use crate::shared::{Notice, Shared};
use crate::show::{InterfaceStatus, Means, Ready, State, Table};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use weir_machine::{clock, console, dispatch, error, frames, print, task};
use weir_netstack::Instant;
use weir_sync::{Control, CpuId};

/// How often devices and console are looked at that announce nothing. A look reads registers: an exit from the VM each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the table is printed while packets flow.
const TABLE_EVERY: Duration = Duration::from_secs(10);

/// What runs below the packet work. `[C]` boot CPU
pub struct Management {
    shared: &'static Shared,
    config: Config,
    attached: Vec<Attached>,
    look_at: Instant,
    table_at: Instant,
    /// Packets received at the last automatic table.
    seen: u64,
}

impl Management {
    /// Takes over the devices of a router that forwards.
    pub fn new(shared: &'static Shared, config: Config, attached: Vec<Attached>, now: Instant) -> Self {
        Self { shared, config, attached, look_at: now + LOOK_EVERY, table_at: now + TABLE_EVERY, seen: 0 }
    }

    /// The task: does all that is due whenever there is news, or nothing happened for long enough.
    pub async fn run(mut self) {
        loop {
            self.turn(Instant::from_nanos(clock::now()));
            self.shared.news.wait_until(self.table_at.min(self.look_at).as_nanos()).await;
        }
    }

    fn turn(&mut self, now: Instant) {
        let look = now >= self.look_at;
        if look {
            self.look_at = now + LOOK_EVERY;
        }
        task::control(|cx| {
            let mut changed = self.stop_broken(cx);
            if self.shared.take_device_changed() || look {
                changed |= self.look(cx);
            }
            if changed {
                self.publish(cx);
            }
        });
        let mut key = false;
        // Beside the interrupt, every look reads it: not every console has one.
        if self.shared.take_console_typed() || look {
            while console::read_byte().is_some() {
                key = true;
            }
        }
        if now >= self.table_at {
            self.table_at = now + TABLE_EVERY;
            let packets = self.packets();
            key |= core::mem::replace(&mut self.seen, packets) != packets;
        }
        if key {
            self.print_table(now);
        }
    }

    /// The line that says the router forwards on `cpus` CPUs.
    pub fn ready_line(&self, cpus: usize, memory: u64) -> String {
        Ready {
            hostname: &self.config.hostname,
            since_entry_ns: clock::now(),
            since_entry_ticks: clock::since_entry(),
            cpus,
            memory,
            interfaces: &self.status(),
        }
        .to_string()
    }

    fn status(&self) -> Vec<InterfaceStatus> {
        attach::status(&self.config, &self.attached)
    }

    fn packets(&self) -> u64 {
        self.attached.iter().map(|attached| attached.counters.totals().rx_packets).sum()
    }

    /// Follows every device's health and carrier. Whether one changed.
    fn look(&mut self, cx: &Control) -> bool {
        let mut changed = false;
        for attached in &mut self.attached {
            let interface = attached.interface;
            changed |=
                attached.follow_link(cx, |fault| self.shared.notify(Notice::Broken { interface, fault }));
        }
        changed | self.stop_broken(cx)
    }

    /// Stops devices that broke their protocol. Whether there was one.
    fn stop_broken(&mut self, cx: &Control) -> bool {
        let mut any = false;
        while let Some(Notice::Broken { interface, fault }) = self.shared.next_notice() {
            let Some(attached) = self.attached.iter_mut().find(|attached| attached.interface == interface)
            else {
                continue;
            };
            attached.device.stop(cx);
            attached.state = State::Broken(fault.reason);
            error!(
                "{}: {} broke its protocol: {fault}; it is stopped",
                attached.name,
                attached.device.info().name
            );
            any = true;
        }
        any
    }

    /// Publishes the configuration with the devices as they are now.
    fn publish(&mut self, cx: &Control) {
        match attach::snapshot(&self.config, &self.attached) {
            Ok(snapshot) => drop(self.shared.snapshot.publish(cx, Box::new(snapshot))),
            Err(conflict) => error!("the running configuration stays as it was: {conflict}"),
        }
    }

    fn print_table(&self, now: Instant) {
        let means = Means {
            memory: frames::total_bytes(),
            memory_free: frames::free_bytes(),
            buffers: self.shared.arena.slots(),
            buffers_free: self.shared.buffers_free(),
            uptime_ns: now.as_nanos(),
            busy_ticks: dispatch::busy_ticks(CpuId::BOOT),
        };
        let tasks: Vec<_> = task::tasks().collect();
        print!("{}", Table { interfaces: &self.status(), tasks: &tasks, means });
    }
}
