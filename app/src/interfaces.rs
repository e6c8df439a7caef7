//! Which devices serve as which interfaces, and how that changes while every CPU forwards.
//!
//! Task level, one owner: management. A change is one store of a [`Running`]; see [`Interfaces::replace`].

use crate::attach::{self, Absent, Attached, Bay, Equipment};
use crate::clients::Learnt;
use crate::config::{Config, MAX_DEVICES, Steering as Wish};
use crate::observe::{InterfaceStatus, State};
use crate::port::Port;
use crate::shared::{INBOX, Notice, Place, Running, Shared, Steering};
use crate::vlans::{Indices, Vlan};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use weir_machine::interrupt::MESSAGE;
use weir_machine::{dispatch, error, info, trace, warn};
use weir_netif::{IfCounters, IfIndex, Link, Queue};
use weir_netstack::Conflict;
use weir_netstack::snapshot::Interface;
use weir_sync::sort::sort_by_key;
use weir_sync::{Control, CpuId, Event};

/// The interfaces in service, those on their way out, and the devices there are. `[C]` management
pub struct Interfaces {
    shared: &'static Shared,
    /// CPUs that forward.
    cpus: usize,
    /// By port, which is the index of the interface with the device; `None` where nothing is plugged in.
    bays: Vec<Option<Bay>>,
    absent: Absent,
    /// Something is to be attached as soon as what was there before is gone.
    again: bool,
    /// What each queue pair goes through on its way to its CPU.
    dress: fn(Box<dyn Queue>) -> Box<dyn Queue>,
    config: Arc<Config>,
    /// All that was learnt.
    heard: Learnt,
    /// Of it, what is in force beside the configuration.
    learnt: Arc<Learnt>,
    /// What is not, and why, as the log has it.
    refused: Vec<String>,
    /// In the configuration's order.
    attached: Vec<Attached>,
    /// Interfaces in service on VLANs of these.
    vlans: Vec<Vlan>,
    indices: Indices,
    leaving: Vec<Leaving>,
    generation: u64,
    attachments: u32,
    /// By CPU: queue pairs sent to it.
    sent: Box<[u64]>,
    /// Counts packets of interfaces that are gone.
    unconfigured: Arc<IfCounters>,
}

/// An interface that is not in the configuration any more.
struct Leaving {
    attached: Attached,
    /// Its ports that CPUs have given back.
    ports: Vec<Port>,
}

/// Which devices are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// None.
    None,
    /// Those that do not announce each change: now and then.
    Silent,
    /// All: some device announced a change.
    All,
}

/// Devices there can be.
const MAX_PORTS: usize = MAX_DEVICES;
// Ports that are to go and those that come have room in an inbox.
const _: () = assert!(2 * MAX_PORTS <= INBOX);

/// What turns one configuration into another. Pure: [`Change::between`] looks at nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Interfaces that come: devices to attach, and VLANs.
    pub attach: Vec<IfIndex>,
    /// Interfaces that go: devices to detach, and VLANs.
    pub detach: Vec<IfIndex>,
    /// Interfaces that go on under the new configuration: no packet of theirs is touched.
    pub keep: Vec<IfIndex>,
}

impl Change {
    /// From the interfaces in service to those that shall be.
    pub fn between(before: &[IfIndex], after: &[IfIndex]) -> Self {
        let without = |all: &[IfIndex], others: &[IfIndex]| -> Vec<IfIndex> {
            all.iter().copied().filter(|index| !others.contains(index)).collect()
        };
        let keep = after.iter().copied().filter(|index| before.contains(index)).collect();
        Self { attach: without(after, before), detach: without(before, after), keep }
    }
}

impl Interfaces {
    /// None in service yet.
    pub fn new(shared: &'static Shared, cpus: usize, bays: Vec<Bay>) -> Self {
        if bays.len() > MAX_PORTS {
            error!(
                "{} devices: there can be {MAX_PORTS}; those from port {MAX_PORTS} on are left alone",
                bays.len()
            );
        }
        let config = Config { hostname: "weir".into(), ..Config::default() };
        Self {
            shared,
            cpus,
            bays: bays.into_iter().take(MAX_PORTS).map(Some).collect(),
            absent: Absent::Refused,
            again: false,
            dress: |queue| queue,
            config: Arc::new(config),
            heard: Learnt::default(),
            learnt: Arc::default(),
            refused: Vec::new(),
            attached: Vec::new(),
            vlans: Vec::new(),
            indices: Indices::default(),
            leaving: Vec::new(),
            generation: 0,
            attachments: 0,
            sent: core::iter::repeat_n(0, cpus).collect(),
            unconfigured: Arc::default(),
        }
    }

    /// Sends each queue pair through `dress`, for programs that measure.
    pub fn dressed(self, dress: fn(Box<dyn Queue>) -> Box<dyn Queue>) -> Self {
        Self { dress, ..self }
    }

    /// On a machine whose devices come and go: an interface waits for its device, and one that fails is left out.
    pub fn hot_plug(self) -> Self {
        Self { absent: Absent::Awaited, ..self }
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same, to keep.
    pub fn shared_config(&self) -> Arc<Config> {
        self.config.clone()
    }

    /// What was learnt and is in force beside it.
    pub fn learnt(&self) -> &Learnt {
        &self.learnt
    }

    /// The same, to keep.
    pub fn shared_learnt(&self) -> Arc<Learnt> {
        self.learnt.clone()
    }

    /// Puts what was learnt in force beside the configuration, as far as they do not contradict: one publication, and none
    /// if packets are treated as before.
    pub fn learn(&mut self, cx: &mut Control, heard: Learnt) {
        let (mut learnt, mut refused) = heard.beside(&self.config);
        self.heard = heard;
        if learnt.is_as_good_as(&self.learnt) {
            if learnt.verdicts != self.learnt.verdicts {
                // Addresses that are surely ours now: the tables stay, however large they are.
                let running = cx.masked(|cx| self.shared.running.read(cx).clone());
                let claims = |interface: &Interface| {
                    learnt.claims(&interface.name, interface.link, interface.mac, interface.addresses())
                };
                let snapshot = running.snapshot.clone().with_claims(claims);
                self.publish(cx, Running { snapshot, ..running });
            }
        } else {
            let Self { config, attached, vlans, cpus, unconfigured, .. } = &*self;
            match learnt.fit(|learnt| running(config, learnt, attached, vlans, *cpus, unconfigured)) {
                Ok((running, fit, more)) => {
                    self.publish(cx, running);
                    learnt = fit;
                    refused.extend(more);
                }
                Err(conflict) => return error!("what was learnt is not used: {conflict}"),
            }
        }
        self.learnt = Arc::new(learnt);
        self.refuse(refused);
    }

    /// Says what of that is new.
    fn refuse(&mut self, refused: Vec<String>) {
        refused.iter().filter(|why| !self.refused.contains(why)).for_each(|why| warn!("{why}"));
        self.refused = refused;
    }

    /// Another one whenever what [`status`](Self::status) says has changed, its counters excepted.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether `config` could be put in force with the devices there are. Changes nothing.
    ///
    /// # Errors
    /// A text for people.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        let infos: Vec<_> = self.bays.iter().map(|bay| bay.as_ref().map(Bay::info)).collect();
        attach::choose(config, &infos, self.absent).map(drop)
    }

    /// What there is to put another configuration in force with.
    pub fn equipment(&self) -> Equipment {
        let device = |(port, bay): (usize, &Option<Bay>)| {
            let own = self.attached.iter().find(|attached| attached.interface.index() == port);
            let up = State::Link(Link::Up);
            match own {
                Some(Attached { device, state: State::Disabled, .. }) => Some((device.info().clone(), up)),
                Some(Attached { device, state, .. }) => Some((device.info().clone(), *state)),
                None => Some((bay.as_ref()?.info().clone(), up)),
            }
        };
        let devices = self.bays.iter().enumerate().map(device).collect();
        Equipment { devices, vlans: self.vlans.clone() }
    }

    /// Devices in service.
    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// Statistics of the interfaces in service, those on VLANs included.
    pub fn counters(&self) -> impl Iterator<Item = &Arc<IfCounters>> + Clone {
        let devices = self.attached.iter().map(|attached| &attached.counters);
        devices.chain(self.vlans.iter().map(|vlan| &vlan.counters))
    }

    /// Counts packets whose interface is not in service.
    pub fn unconfigured(&self) -> &Arc<IfCounters> {
        &self.unconfigured
    }

    /// The devices there are, by interface index.
    pub fn bays(&self) -> impl Iterator<Item = (IfIndex, &Bay)> {
        self.bays.iter().enumerate().filter_map(|(port, bay)| Some((IfIndex(port as u16), bay.as_ref()?)))
    }

    /// Ports whose device serves an interface and was stopped for what it did.
    pub fn broken(&self) -> impl Iterator<Item = IfIndex> {
        let broken = |attached: &&Attached| matches!(attached.state, State::Broken(_));
        self.attached.iter().filter(broken).map(|attached| attached.interface)
    }

    /// A device was plugged in at `port`; what was there before is gone. An interface that waits for it goes into service.
    pub fn plug(&mut self, cx: &Control, port: IfIndex, bay: Bay) {
        if port.index() >= MAX_PORTS {
            error!("port {}: there can be {MAX_PORTS} devices; this one is left alone", port.index());
            return;
        }
        self.unplug(cx, port);
        if self.bays.len() <= port.index() {
            self.bays.resize_with(port.index() + 1, || None);
        }
        info!("{}", attach::describe(port.index(), bay.info()));
        if let Some(place) = self.bays.get_mut(port.index()) {
            *place = Some(bay);
        }
        self.reapply(cx);
    }

    /// The device at `port` is gone, or about to go: its interface waits for another one.
    pub fn unplug(&mut self, cx: &Control, port: IfIndex) {
        if self.bays.get_mut(port.index()).and_then(Option::take).is_some() {
            info!("port {}: unplugged", port.index());
            self.reapply(cx);
        }
    }

    /// Puts the configuration in force again, with the devices there are now.
    fn reapply(&mut self, cx: &Control) {
        self.again = false;
        match self.replace(cx, (*self.config).clone()) {
            Ok(change) if change.attach.is_empty() && change.detach.is_empty() => {}
            Ok(change) => log(&change),
            Err(wrong) => error!("the configuration stays as it was: {}", wrong.trim_end()),
        }
    }

    #[cfg(test)]
    pub(crate) fn unconfigured_holders(&self) -> usize {
        Arc::strong_count(&self.unconfigured)
    }

    /// Whether an interface is still being detached.
    pub fn is_settled(&self) -> bool {
        self.leaving.is_empty()
    }

    /// CPUs that forward.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// What the interfaces look like to an operator.
    pub fn status(&self) -> Vec<InterfaceStatus> {
        attach::status(&self.config, &self.learnt, &self.attached, &self.vlans)
    }

    /// Packets received by the interfaces in service.
    pub fn packets(&self) -> u64 {
        self.counters().map(|counters| counters.totals().rx_packets).sum()
    }

    /// Replaces the configuration, all of it or nothing. Interfaces that both have go on undisturbed, with their
    /// neighbours; packets see the old configuration or the new one.
    ///
    /// # Errors
    /// A text for people. Then nothing has changed.
    pub fn replace(&mut self, cx: &Control, config: Config) -> Result<Change, String> {
        self.settle(cx);
        let infos: Vec<_> = self.bays.iter().map(|bay| bay.as_ref().map(Bay::info)).collect();
        let mut chosen = attach::choose(&config, &infos, self.absent)?;
        let before: Vec<IfIndex> = self.attached.iter().map(|attached| attached.interface).collect();
        // What can fail comes first; devices attached until then detach by being dropped.
        let (mut fresh, mut ports) = (Vec::new(), Vec::new());
        for choice in &mut chosen {
            let Some(interface) = choice.map(|port| IfIndex(port as u16)) else { continue };
            if before.contains(&interface) {
                continue;
            }
            let busy = self.leaving.iter().find(|leaving| leaving.attached.interface == interface);
            let outcome = match (busy, self.absent) {
                (None, _) => self.attach(cx, interface),
                (Some(busy), Absent::Refused) => {
                    Err(alloc::format!("{}: still being detached, try again\n", busy.attached.name))
                }
                (Some(_), Absent::Awaited) => {
                    self.again = true;
                    *choice = None;
                    continue;
                }
            };
            match (outcome, self.absent) {
                (Ok((attached, own)), _) => {
                    fresh.push(attached);
                    ports.extend(own);
                }
                (Err(wrong), Absent::Refused) => return Err(wrong),
                (Err(wrong), Absent::Awaited) => {
                    error!("port {}: {}", interface.index(), wrong.trim_end());
                    if let Some(bay) = self.bays.get_mut(interface.index()) {
                        *bay = None;
                    }
                    *choice = None;
                }
            }
        }
        let after: Vec<IfIndex> = chosen.iter().flatten().map(|&port| IfIndex(port as u16)).collect();
        let vlans = self.indices.follow(&config, &chosen, &self.vlans);
        let with = |devices: &[IfIndex], vlans: &[Vlan]| -> Vec<IfIndex> {
            devices.iter().copied().chain(vlans.iter().map(|vlan| vlan.index)).collect()
        };
        let change = Change::between(&with(&before, &self.vlans), &with(&after, &vlans));
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.attached.drain(..).partition(|attached| after.contains(&attached.interface));
        let mut next = fresh;
        next.extend(kept);
        sort_by_key(&mut next, |attached| after.iter().position(|&index| index == attached.interface));
        let names: Vec<String> = next.iter().map(|attached| attached.name.clone()).collect();
        let states: Vec<State> = next.iter().map(|attached| attached.state).collect();
        let served = config.interfaces.iter().zip(&chosen).filter_map(|(wish, port)| port.map(|_| wish));
        for (attached, wish) in next.iter_mut().zip(served) {
            attached.name.clone_from(&wish.name);
            attached.state = match attached.state {
                State::Broken(reason) => State::Broken(reason),
                _ if !wish.enabled => State::Disabled,
                _ => State::Link(attached.device.link(cx)),
            };
        }
        let room = |cpu: CpuId, ports: &[(CpuId, Port)]| {
            let inbox = self.shared.inbox.of(cpu);
            inbox.len() + ports.iter().filter(|(to, _)| *to == cpu).count() <= INBOX
        };
        let (learnt, mut refused) = self.heard.beside(&config);
        let outcome = match (0..self.cpus).filter_map(CpuId::new).all(|cpu| room(cpu, &ports)) {
            true => learnt
                .fit(|learnt| running(&config, learnt, &next, &vlans, self.cpus, &self.unconfigured))
                .map_err(|conflict| conflict.to_string()),
            false => Err("a CPU is busy with the last change, try again".into()),
        };
        let (running, learnt, more) = match outcome {
            Ok(done) => done,
            Err(wrong) => {
                // As it was: names and states too.
                let is_fresh = |attached: &&mut Attached| change.attach.contains(&attached.interface);
                next.iter_mut().filter(is_fresh).for_each(|attached| attached.device.stop(cx));
                let was = next.into_iter().zip(names).zip(states);
                let was = was.map(|((attached, name), state)| Attached { name, state, ..attached });
                let old = was.filter(|attached| !change.attach.contains(&attached.interface)).chain(gone);
                self.attached = old.collect();
                sort_by_key(&mut self.attached, |attached| {
                    before.iter().position(|&index| index == attached.interface)
                });
                return Err(alloc::format!("{wrong}\n"));
            }
        };
        let sources: Vec<(CpuId, u8)> = ports.iter().map(|(cpu, port)| (*cpu, port.source)).collect();
        for (cpu, port) in ports {
            // There is room, and nobody else fills it.
            let _ = self.shared.inbox.of(cpu).push(port);
            if let Some(sent) = self.sent.get_mut(cpu.index()) {
                *sent += 1;
            }
        }
        refused.extend(more);
        self.refuse(refused);
        self.config = Arc::new(config);
        self.learnt = Arc::new(learnt);
        self.attached = next;
        self.vlans = vlans;
        self.leaving.extend(gone.into_iter().map(|attached| Leaving { attached, ports: Vec::new() }));
        self.publish(cx, running);
        // The first turn of each new queue lends it buffers and asks for interrupts.
        sources.into_iter().for_each(|(cpu, source)| dispatch::raise(cpu, source));
        self.settle(cx);
        Ok(change)
    }

    /// Attaches a device: probe it, number it, split it into ports. They go to their CPUs before the configuration that
    /// names them is published, so a CPU that sees that one has them.
    fn attach(&mut self, cx: &Control, interface: IfIndex) -> Result<(Attached, Vec<(CpuId, Port)>), String> {
        let Some(bay) = self.bays.get(interface.index()).and_then(Option::as_ref) else {
            return Err("no such device\n".into());
        };
        let mut device = bay.probe(cx).map_err(|wrong| alloc::format!("{wrong}\n"))?;
        self.attachments = self.attachments.wrapping_add(1);
        let attachment = self.attachments;
        let pairs = device.queues(cx);
        let attached = Attached {
            interface,
            attachment,
            queues: pairs.len() as u16,
            name: String::new(),
            device,
            state: State::Link(Link::Down),
            counters: bay.counters(),
            cuts_told: false,
        };
        let port = |pair: weir_netif::QueuePair| {
            let queue = (self.dress)(pair.queue);
            (pair.cpu, Port::new(interface, attachment, pair.source, queue, self.shared.arena.slots()))
        };
        Ok((attached, pairs.into_iter().map(port).collect()))
    }

    /// Goes on with what is being detached, after its interface was unpublished and the grace period is over
    /// ([`publish`](Self::publish)): no CPU begins to use its ports. Each CPU drains its own and gives it back; when
    /// all are here, the device is stopped and everything freed.
    fn settle(&mut self, cx: &Control) {
        while let Some(port) = self.shared.returned.pop() {
            let belongs = |leaving: &&mut Leaving| leaving.attached.attachment == port.attachment;
            if let Some(leaving) = self.leaving.iter_mut().find(belongs) {
                leaving.ports.push(port);
            }
        }
        self.leaving.retain_mut(|leaving| {
            let done = leaving.ports.len() == usize::from(leaving.attached.queues);
            if done {
                // First, so that its queues may free what they had lent.
                leaving.attached.device.stop(cx);
            }
            !done
        });
    }

    /// Publishes the configuration with the devices as they are now.
    fn refresh(&mut self, cx: &Control) {
        match running(&self.config, &self.learnt, &self.attached, &self.vlans, self.cpus, &self.unconfigured)
        {
            Ok(running) => self.publish(cx, running),
            Err(conflict) => error!("the running configuration stays as it was: {conflict}"),
        }
    }

    /// Puts a configuration in force, waits until no CPU uses the old one, and has every CPU look at it.
    fn publish(&mut self, cx: &Control, running: Running) {
        self.generation += 1;
        let snapshot = running.snapshot.with_taps(self.shared.taps.clone());
        let running = Running { generation: self.generation, sent: self.sent.clone(), snapshot, ..running };
        let retired = self.shared.running.publish(cx, Box::new(running));
        trace::note(Event::Publish, || [self.generation, 0, 0]);
        // The grace period: one turn of the slowest CPU.
        drop(retired);
        trace::note(Event::Grace, || [self.generation, 0, 0]);
        (0..self.cpus).filter_map(CpuId::new).for_each(|cpu| dispatch::raise(cpu, MESSAGE));
    }

    /// Looks after everything that changes without being told to: ports that come back, devices that broke; and at health
    /// and carrier of the devices that `look` says.
    pub fn run(&mut self, cx: &Control, look: Look) {
        self.settle(cx);
        if self.again && self.is_settled() {
            self.reapply(cx);
        }
        let mut changed = self.stop_broken(cx);
        if look != Look::None {
            let silent = |attached: &&mut Attached| look == Look::All || !attached.device.announces_changes();
            for attached in self.attached.iter_mut().filter(silent) {
                let interface = attached.interface;
                attached.tell_cuts();
                changed |=
                    attached.follow_link(cx, |fault| self.shared.notify(Notice::Broken { interface, fault }));
            }
            changed |= self.stop_broken(cx);
        }
        if changed {
            self.refresh(cx);
        }
    }

    /// Stops devices that broke their protocol. Whether there was one.
    fn stop_broken(&mut self, cx: &Control) -> bool {
        let mut any = false;
        while let Some(Notice::Broken { interface, fault }) = self.shared.next_notice() {
            let found = self.attached.iter_mut().find(|attached| attached.interface == interface);
            // Each of its queues may tell.
            let Some(attached) = found.filter(|attached| !matches!(attached.state, State::Broken(_))) else {
                continue;
            };
            attached.device.stop(cx);
            attached.state = State::Broken(fault.reason);
            error!("{}: {} is stopped: {fault}", attached.name, attached.device.info().name);
            any = true;
        }
        any
    }
}

/// What CPUs are to read for `config` with the devices as they are now. Its generation and what was sent are not set.
fn running(
    config: &Config,
    learnt: &Learnt,
    attached: &[Attached],
    vlans: &[Vlan],
    cpus: usize,
    unconfigured: &Arc<IfCounters>,
) -> Result<Running, Conflict> {
    let snapshot = attach::snapshot(config, learnt, attached, vlans, unconfigured)?;
    let mut places: Vec<Option<Place>> = Vec::new();
    for attached in attached {
        let port = attached.interface;
        let own = vlans.iter().filter(|vlan| vlan.port == port).map(|vlan| vlan.index);
        for index in [port].into_iter().chain(own) {
            places.resize(places.len().max(index.index() + 1), None);
            if let Some(place) = places.get_mut(index.index()) {
                *place = Some(Place { port, attachment: attached.attachment, queues: attached.queues });
            }
        }
    }
    let steering = match config.steering {
        Wish::Off => Steering::Off,
        Wish::Flows => Steering::Flows,
    };
    Ok(Running { generation: 0, snapshot, places: places.into(), sent: Box::default(), cpus, steering })
}

/// Says what a change did, for the log.
pub fn log(change: &Change) {
    info!(
        "configuration replaced: {} interfaces attached, {} detached, {} kept",
        change.attach.len(),
        change.detach.len(),
        change.keep.len()
    );
}
