//! What the other side does to a running guest: backends that go away and return, links that stand still, another MTU,
//! requests the guest does not serve. The vifs beside it must not notice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::account::{self, Account};
use super::bench::spent;
use super::dom0::Dom0;
use super::guest::{Guest, TOOLSTACK};
use super::traffic;
use crate::router::Image;

const NOTICE: Duration = Duration::from_secs(20);

/// Plugs the third vif in for as long as `body` runs.
fn with_third<T>(
    dom0: &mut Dom0,
    guest: &Guest,
    body: impl FnOnce(&mut Dom0, &Guest) -> Result<T>,
) -> Result<T> {
    if guest.node(dom0, "device/vif/2/state")?.is_none() {
        guest.attach(dom0, 2)?;
    }
    guest.connected(dom0, 2, NOTICE)?;
    traffic::ping(dom0, &guest.hosts, 0, guest.hosts.identity(2)?.v4.into())?;
    let outcome = body(dom0, guest)?;
    guest.detach(dom0, 2)?;
    Ok(outcome)
}

/// Pings from the first host to the third, twenty a second, while `body` runs: none may be lost, but for the
/// last, which may be on its way at the end. How many they were.
fn beside<T>(
    dom0: &mut Dom0,
    guest: &Guest,
    body: impl FnOnce(&mut Dom0, &Guest) -> Result<T>,
) -> Result<(T, u64)> {
    let (name, to) = (guest.hosts.name(0), guest.hosts.identity(2)?.v4);
    dom0.check(
        &format!(
            "ip netns exec {name} ping -n -q -i 0.05 {to} >/tmp/beside.log 2>&1 & echo $! >/tmp/beside.pid"
        ),
        NOTICE,
    )?;
    let outcome = body(dom0, guest);
    // The last ones have time to return.
    let text =
        dom0.check("sleep 0.3; kill -INT $(cat /tmp/beside.pid); sleep 0.7; cat /tmp/beside.log", NOTICE)?;
    let outcome = outcome?;
    let count = |word: &str| -> Option<u64> {
        let (before, _) = text.split_once(word)?;
        before.split_whitespace().last()?.parse().ok()
    };
    let (sent, received) = count(" packets transmitted")
        .zip(count(" received"))
        .with_context(|| format!("ping beside it says {text:?}"))?;
    // The last may be on its way.
    ensure!(sent > 0 && received + 1 >= sent, "beside it {} of {sent} pings were lost", sent - received);
    Ok((outcome, sent))
}

/// Waits until the guest has said `needle` more often than `before`.
fn said_again(dom0: &mut Dom0, guest: &Guest, needle: &str, before: usize) -> Result<()> {
    let deadline = Instant::now() + NOTICE;
    while guest.console(dom0)?.matches(needle).count() <= before {
        ensure!(Instant::now() < deadline, "the guest does not say \"{needle}\"");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Does something to the second vif time and again, and compares what the guest
/// holds before and after.
fn cycles(
    dom0: &mut Dom0,
    guest: &Guest,
    count: usize,
    upset: impl Fn(&mut Dom0, &Guest) -> Result<()>,
) -> Result<String> {
    let to = guest.hosts.identity(1)?.v4;
    with_third(dom0, guest, |dom0, guest| {
        let round = |dom0: &mut Dom0, number: usize| -> Result<()> {
            upset(dom0, guest).with_context(|| format!("round {number}"))?;
            guest.connected(dom0, 1, NOTICE).with_context(|| format!("round {number}"))?;
            traffic::ping(dom0, &guest.hosts, 0, to.into()).with_context(|| format!("round {number}"))?;
            Ok(())
        };
        round(dom0, 0)?;
        let before = Account::take(dom0, guest)?;
        let ((), pings) =
            beside(dom0, guest, |dom0, _| (1..=count).try_for_each(|number| round(dom0, number)))?;
        let held = before.compare(&Account::take(dom0, guest)?)?;
        Ok(format!("{count} times; {pings} pings beside it, none lost; {held}"))
    })
}

/// Its driver in dom0 is taken away and bound again; the hotplug script, which nobody else runs, follows.
pub(crate) fn rebind(dom0: &mut Dom0, guest: &Guest, count: usize) -> Result<String> {
    cycles(dom0, guest, count, |dom0, guest| {
        let (id, driver) = (guest.id, "/sys/bus/xen-backend/drivers/vif");
        let script = format!(
            "echo vif-{id}-1 > {driver}/unbind && sleep 0.3 && echo vif-{id}-1 > {driver}/bind && \
             vif=vif{id}.1 XENBUS_PATH=/local/domain/0/backend/vif/{id}/1 /etc/xen/scripts/vif-lab online"
        );
        dom0.check(&script, NOTICE).map(drop)
    })
}

/// It closes of its own accord, and is to stay.
pub(crate) fn close(dom0: &mut Dom0, guest: &Guest, count: usize) -> Result<String> {
    cycles(dom0, guest, count, |dom0, guest| {
        let needle = "is stopped: backend-closed";
        let before = guest.console(dom0)?.matches(needle).count();
        dom0.check(&format!("xenstore-write /local/domain/0/backend/vif/{}/1/state 5", guest.id), NOTICE)?;
        if guest.plan.image == Image::Weir { said_again(dom0, guest, needle, before) } else { Ok(()) }
    })
}

/// The toolstack changes the MTU of a vif, and its carrier.
pub(crate) fn retune(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    let (front, back) = (
        format!("/local/domain/{}/device/vif/1", guest.id),
        format!("/local/domain/0/backend/vif/{}/1", guest.id),
    );
    let (near, to) = (guest.hosts.name(0), guest.hosts.identity(1)?.v4);
    with_third(dom0, guest, |dom0, guest| {
        let change = |dom0: &mut Dom0, node: &str, value: &str, needle: &str| -> Result<()> {
            let before = guest.console(dom0)?.matches(needle).count();
            dom0.check(&format!("xenstore-write {node} '{value}'"), NOTICE)?;
            said_again(dom0, guest, needle, before)
        };
        let (text, pings) = beside(dom0, guest, |dom0, guest| {
            change(dom0, &format!("{front}/mtu"), "1300", "lan: its device's MTU is 1300 instead of 1500")?;
            let ping = format!("ip netns exec {near} ping -n -M do -s 1400 -c 2 -W 2 {to}");
            let output = dom0.run(&ping, NOTICE)?;
            ensure!(output.stdout.contains("mtu = 1300"), "no word of the new MTU: {}", output.said());
            change(dom0, &format!("{front}/mtu"), "20", "its MTU stays 1300")?;
            change(dom0, &format!("{front}/mtu"), "1500", "lan: its device's MTU is 1500 instead of 1300")?;
            let output = dom0.run(&format!("ip -n {near} route flush cache; {ping}"), NOTICE)?;
            ensure!(output.stdout.contains(" 2 received"), "with the first MTU again: {}", output.said());
            change(dom0, &format!("{back}/carrier"), "0", "lan: link down")?;
            ensure!(traffic::ping(dom0, &guest.hosts, 0, to.into()).is_err(), "a link that is down forwards");
            change(dom0, &format!("{back}/carrier"), "1", "lan: link up")?;
            let trip = traffic::ping(dom0, &guest.hosts, 0, to.into())?;
            dom0.check(&format!("xenstore-rm {back}/carrier"), NOTICE)?;
            Ok(format!("MTU 1500, 1300, 1500; link down, up; ping a to b {:.1} ms", trip.mean))
        })?;
        Ok(format!("{text}; {pings} pings beside it, none lost"))
    })
}

/// Hosts that take nothing any more: first one, beside which all goes on, then both that anything could be sent to, until
/// no buffer is left. Once they take packets again, everything is as before.
pub(crate) fn starve(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    let (near, id) = (guest.hosts.name(0), guest.id);
    let (b, c) = (guest.hosts.identity(1)?.v4, guest.hosts.identity(2)?.v4);
    with_third(dom0, guest, |dom0, guest| {
        traffic::ping(dom0, &guest.hosts, 0, b.into())?;
        let before = account::weir(dom0, guest)?;
        let stand_still = |dom0: &mut Dom0, port: usize| {
            dom0.check(&format!("ip -n {} link set vif{id}.{port} down", guest.hosts.name(port)), NOTICE)
        };
        let flood = |dom0: &mut Dom0, to| {
            // Nobody gives credit: a window at once, and another each half a second.
            dom0.check(
                &format!("ip netns exec {near} lab xen-source {to}:9 /tmp/none --window 2000 --seconds 1.5"),
                NOTICE,
            )
        };
        stand_still(dom0, 1)?;
        flood(dom0, b)?;
        let full = account::weir(dom0, guest)?;
        let trip =
            traffic::ping(dom0, &guest.hosts, 0, c.into()).context("beside a host that stands still")?;
        stand_still(dom0, 2)?;
        flood(dom0, c)?;
        flood(dom0, b)?;
        let dry = account::weir(dom0, guest)?;
        for port in [1, 2] {
            let name = guest.hosts.name(port);
            dom0.check(
                &format!(
                    "sed s/VIF/vif{id}.{port}/ /etc/lab/{name} | ip -n {name} -force -batch - 2>/dev/null; :"
                ),
                NOTICE,
            )?;
        }
        for to in [b, c] {
            traffic::ping(dom0, &guest.hosts, 0, to.into()).context("after the drought")?;
        }
        let after = account::weir(dom0, guest)?;
        let used = |table: &crate::table::Table| table.memory.map_or(0, |memory| memory.buffers);
        let text = format!(
            "buffers used {} -> {} (one stands still) -> {} (both) -> {}; tx-ring-full {}, no-buffer {}; \
             ping a to c beside the one {:.1} ms",
            used(&before),
            used(&full),
            used(&dry),
            used(&after),
            dry.drops("tx-ring-full") - before.drops("tx-ring-full"),
            dry.drops("no-buffer") - before.drops("no-buffer"),
            trip.mean
        );
        ensure!(full.drops("tx-ring-full") > before.drops("tx-ring-full"), "nothing was dropped: {text}");
        ensure!(dry.drops("no-buffer") > before.drops("no-buffer"), "buffers did not run out: {text}");
        ensure!(used(&after) <= used(&before) + 64, "buffers are missing: {text}");
        Ok(text)
    })
}

/// Sends events by a port of dom0's as fast as it can, for as many seconds: `EVTCHNOP_send` by Linux's way for hypercalls
/// of programs. Prints how many Xen took.
const STORM: &str = r#"my ($port, $seconds) = @ARGV;
my $send = pack("L", $port);
my $call = pack("Q6", 32, 4, unpack("Q", pack("P", $send)), 0, 0, 0);
open(my $xen, "+<", "/dev/xen/privcmd") or die "privcmd: $!";
my ($count, $end) = (0, time + $seconds);
while (time < $end) { for (1 .. 1000) { defined(ioctl($xen, 0x305000, $call)) or die "send: $!"; $count++ } }
print "$count\n";
"#;

/// The backend of the third vif raises its event as fast as it can and means nothing by it. What that costs the guest is
/// the CPU time it takes; beside it the first two vifs forward as they do beside a program that only takes dom0's time.
pub(crate) fn storm(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    const SECONDS: f64 = 10.0;
    let to = guest.hosts.identity(1)?.v4;
    dom0.write("/root/storm.pl", STORM)?;
    with_third(dom0, guest, |dom0, guest| {
        let node = guest.node(dom0, "device/vif/2/event-channel-rx")?.context("no event channel")?;
        let port = account::far_port(dom0, guest, node.parse().context("event channel")?)?;
        let turns = |dom0: &mut Dom0| -> Result<u64> {
            Ok(account::weir(dom0, guest)?.cpus.iter().map(|row| row.turns).sum())
        };
        let share = |dom0: &mut Dom0, program: &str| -> Result<(f64, String)> {
            let before = spent(dom0, guest)?.0;
            let said = dom0.check(program, NOTICE)?;
            Ok(((spent(dom0, guest)?.0 - before) / SECONDS, said))
        };
        let (idle, _) =
            share(dom0, &format!("perl -e 'my $end = time + {SECONDS}; while (time < $end) {{}}'"))?;
        let before = turns(dom0)?;
        let (stormed, count) = share(dom0, &format!("perl /root/storm.pl {port} {SECONDS}"))?;
        let turns = turns(dom0)? - before;
        let cost = stormed - idle;
        let events: u64 = count.trim().parse().context("events")?;
        let mut rates = Vec::new();
        for storm in ["perl -e 'my $i = 0; while (1) { $i++ }'", &format!("perl /root/storm.pl {port} 60")] {
            dom0.check(&format!("{storm} >/dev/null & echo $! >/tmp/storm.pid"), NOTICE)?;
            let flooded = traffic::flood(dom0, &guest.hosts, to.into(), SECONDS);
            dom0.check("kill $(cat /tmp/storm.pid)", NOTICE)?;
            let flooded = flooded?;
            rates.push(flooded.received as f64 / flooded.seconds);
        }
        let text = format!(
            "{events} events in {SECONDS} s, {turns} turns; the guest has {:.1} % of the CPU, {:.1} % without; \
             {:.0} packets a second beside a busy dom0, {:.0} beside the storm",
            stormed * 100.0,
            idle * 100.0,
            rates[0],
            rates[1]
        );
        ensure!(events > 10_000, "that is no storm: {text}");
        ensure!(cost <= 0.1, "more than 10 %: {text}");
        Ok(text)
    })
}

/// `xl save` must give up and leave the guest running.
pub(crate) fn save(dom0: &mut Dom0, guest: &Guest) -> Result<String> {
    let began = Instant::now();
    let output = dom0
        .run(&format!("xl save {} /root/saved; c=$?; rm -f /root/saved; exit $c", guest.id), TOOLSTACK * 4)?;
    ensure!(output.code != 0, "it was saved: {}", output.said());
    guest.wait(dom0, "asks to suspend", NOTICE)?;
    let to = guest.hosts.identity(1)?.v4;
    let trip = traffic::ping(dom0, &guest.hosts, 0, to.into()).context("after the refusal")?;
    let said = output.stderr;
    let error = said.lines().find(|line| line.contains("error")).unwrap_or_default();
    Ok(format!(
        "given up after {:.1} s: \"{error}\"; ping a to b {:.1} ms",
        began.elapsed().as_secs_f64(),
        trip.mean
    ))
}
