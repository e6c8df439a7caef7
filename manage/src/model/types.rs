//! What the router tells of itself. Counters count since boot; a name never changes its meaning.

use super::macros::{choices, model};
use super::{Field, FieldType, Model, Schema, Type, Value};
use alloc::string::String;
use alloc::vec::Vec;

choices! {
    /// Whether packets can pass an interface.
    pub enum InterfaceState {
        /// Its device is not plugged in.
        Absent = "absent",
        /// The configuration says `enabled = false`.
        Disabled = "disabled",
        /// Its carrier is there.
        Up = "up",
        /// Its carrier is not there.
        Down = "down",
        /// Its device broke its protocol and was taken down.
        Broken = "broken",
    }

    /// What becomes of packets that a route matches.
    pub enum RouteAction {
        /// They go to a next hop.
        Forward = "forward",
        /// They are for the router itself.
        Local = "local",
        /// They are dropped silently.
        Blackhole = "blackhole",
        /// They are dropped, and the sender is told: unreachable.
        Unreachable = "unreachable",
        /// They are dropped, and the sender is told: prohibited.
        Prohibit = "prohibit",
    }

    /// Where a route is from.
    pub enum RouteOrigin {
        /// An interface's address: the route is its network, or the address itself.
        Connected = "connected",
        /// The configuration's `[[route]]`.
        Static = "static",
        /// Others: a DHCP server, or a router's advertisement.
        Learnt = "learnt",
    }

    /// Who gave an interface an address that it learnt.
    pub enum AddressOrigin {
        /// A DHCP server.
        Dhcp = "dhcp",
        /// Routers on the link: the interface formed it of their prefix.
        Auto = "auto",
        /// A DHCPv6 server.
        Dhcpv6 = "dhcpv6",
    }

    /// What is known of an address that may be somebody else's too.
    pub enum DadState {
        /// It is used, and others are still asked (RFC 4429).
        Optimistic = "optimistic",
        /// It is not used yet: others are still asked.
        Tentative = "tentative",
        /// Somebody else has it: it is not used.
        Duplicate = "duplicate",
    }

    /// How sure the router is of a neighbour (RFC 4861 §7.3.2).
    pub enum NeighborState {
        /// It was asked for and has not answered.
        Incomplete = "incomplete",
        /// It answered not long ago.
        Reachable = "reachable",
        /// Nothing was heard of it for a while.
        Stale = "stale",
        /// Packets go there again; it is asked soon unless it is heard of.
        Delay = "delay",
        /// It is being asked.
        Probe = "probe",
    }

    /// How the way of a packet ends.
    pub enum PacketEnd {
        /// It is dropped.
        Dropped = "dropped",
        /// It is sent on.
        Forwarded = "forwarded",
        /// The router itself answers it, or takes note of it.
        Answered = "answered",
        /// A socket of the router gets it.
        Delivered = "delivered",
        /// It, or what answers it, waits for the next hop to tell its Ethernet address.
        Waits = "waits",
        /// It waits for the other fragments of its datagram.
        Gathers = "gathers",
    }

    /// How much a line of the log matters.
    pub enum LogLevel {
        /// Something does not work.
        Error = "error",
        /// Something works less well than it should.
        Warn = "warn",
        /// What an operator wants to see.
        Info = "info",
        /// What a developer wants to see.
        Debug = "debug",
    }

    /// What became of a configuration.
    pub enum VersionState {
        /// It is in force.
        Running = "running",
        /// It is in force, and given up by itself unless it is confirmed.
        Unconfirmed = "unconfirmed",
        /// It was replaced by a later one.
        Replaced = "replaced",
        /// Nobody confirmed it in time, or it was taken back: the one before it is in force again.
        Reverted = "reverted",
    }

    /// What happens to an interface when a configuration is committed.
    pub enum ChangeKind {
        /// It goes into service.
        Attach = "attach",
        /// It goes out of service.
        Detach = "detach",
        /// It goes on under changed settings; no packet of it is touched.
        Modify = "modify",
    }
}

model! {
    /// The router as a whole.
    pub struct Status {
        /// Its configured name.
        hostname: String,
        /// The release that runs.
        version: String,
        /// What it runs on.
        platform: String,
        /// Milliseconds since it was entered.
        uptime_ms: u64,
        /// The time of day (RFC 3339, UTC), once a server said it.
        time: Option<String>,
        /// CPUs that forward.
        cpus: u64,
        /// Bytes of memory.
        memory_bytes: u64,
        /// Bytes of memory that are free.
        memory_free_bytes: u64,
        /// Packet buffers.
        buffers: u64,
        /// Packet buffers that are free.
        buffers_free: u64,
        /// Packet buffers never used again: a device that was not ended may still write to them.
        buffers_lost: u64,
        /// Where the configuration in force is from; none if none is.
        configuration: Option<String>,
        /// On Xen: what it holds of the hypervisor's means.
        xen: Option<Xen>,
        /// Where its console is.
        consoles: Vec<ConsolePort>,
    }

    /// A port that the console is at.
    pub struct ConsolePort {
        /// Its name.
        name: String,
        /// Bytes lost because nobody took them in time.
        lost_bytes: u64,
    }

    /// What a Xen guest holds of the hypervisor's means.
    pub struct Xen {
        /// Grants in use.
        grants: u64,
        /// Grants there are.
        grants_most: u64,
        /// Grants that a backend has not let go of.
        grants_in_limbo: u64,
        /// Watches in Xen's store.
        watches: u64,
    }

    /// An interface of the configuration. Bytes are those of frames without FCS; a super-packet counts once.
    pub struct Interface {
        /// Its configured name.
        name: String,
        /// Whether packets can pass.
        state: InterfaceState,
        /// What its device did, if that is broken.
        fault: Option<String>,
        /// Its addresses with their prefix lengths.
        addresses: Vec<String>,
        /// Of these, those that it learnt; the others are the configuration's.
        learnt: Vec<LearntAddress>,
        /// Addresses that it is not sure of; a link-local one if it is a duplicate (duplicate address detection).
        dad: Vec<Detection>,
        /// Its Ethernet address.
        mac: Option<String>,
        /// Octets of an IP packet.
        mtu: Option<u16>,
        /// What its device is called.
        device: Option<String>,
        /// The interface whose device it shares, if it is on a VLAN.
        parent: Option<String>,
        /// The number of its VLAN.
        vlan: Option<u16>,
        /// Queue pairs of its device; pair n belongs to CPU n.
        queues: u64,
        /// Frames received.
        rx_packets: u64,
        /// Bytes received.
        rx_bytes: u64,
        /// Frames sent.
        tx_packets: u64,
        /// Bytes sent.
        tx_bytes: u64,
        /// Packets lost, for all reasons.
        dropped: u64,
        /// Packets that were for the router itself and have done their duty.
        consumed: u64,
        /// Times that an interrupt of its device ended a wait for packets.
        interrupts: u64,
        /// Times that its device was notified of buffers.
        notifications: u64,
        /// Packets lost, by reason; those that occurred.
        drops: Vec<Loss>,
    }

    /// An address that an interface learnt.
    pub struct LearntAddress {
        /// With its prefix length.
        address: String,
        /// Who gave it.
        origin: AddressOrigin,
        /// Milliseconds since entry, when it ends unless it is renewed; none if it stays.
        until_ms: Option<u64>,
        /// Whether its preferred lifetime is over: no connection begins from it while there is another one (RFC 4862).
        deprecated: bool,
    }

    /// An address that may be somebody else's too.
    pub struct Detection {
        /// The address.
        address: String,
        /// What is known of it.
        state: DadState,
        /// The Ethernet address of who else has it.
        holder: Option<String>,
    }

    /// Packets lost for one reason.
    pub struct Loss {
        /// The reason's name.
        reason: String,
        /// Packets.
        packets: u64,
    }

    /// Packets that an interface lost for one reason.
    pub struct InterfaceLoss {
        /// The interface; none for packets of interfaces that are not configured.
        interface: Option<String>,
        /// The reason's name.
        reason: String,
        /// Packets.
        packets: u64,
    }

    /// A route.
    pub struct Route {
        /// Its destination.
        to: String,
        /// What becomes of packets to it.
        action: RouteAction,
        /// Where it is from.
        origin: RouteOrigin,
        /// Of routes to the same destination the lowest counts.
        metric: u32,
        /// Where packets go; several share the flows.
        next_hops: Vec<NextHop>,
    }

    /// Where a route's packets go.
    pub struct NextHop {
        /// The next router; none if the destination is on the link.
        via: Option<String>,
        /// The interface; none if other routes say by which.
        interface: Option<String>,
        /// Its share of the flows, in proportion to the others' weights.
        weight: u16,
    }

    /// Some of the routes.
    pub struct Routes {
        /// How many there are.
        total: u64,
        /// How many come before these.
        offset: u64,
        /// These.
        routes: Vec<Route>,
    }

    /// A neighbour on a link.
    pub struct Neighbor {
        /// The interface of the link.
        interface: String,
        /// Its address.
        address: String,
        /// Its Ethernet address, if it answered.
        mac: Option<String>,
        /// How sure that is.
        state: NeighborState,
    }

    /// What becomes of a packet, and why.
    pub struct Explanation {
        /// How it ends.
        verdict: PacketEnd,
        /// Why it is dropped, as counters have it; none if it is not.
        reason: Option<String>,
        /// The end in words: by which interface it goes on and to which station, who has it, what is sent instead.
        end: String,
        /// What was found on the way, in its order.
        steps: Vec<ExplainedStep>,
    }

    /// Something that was found on the way of a packet.
    pub struct ExplainedStep {
        /// What was looked at.
        step: String,
        /// What was found.
        found: String,
        /// The line of the configuration that it comes from, if one does.
        line: Option<u64>,
        /// How that line begins; `…` at its end: there is more of it.
        text: Option<String>,
    }

    /// A CPU.
    pub struct Cpu {
        /// Its name.
        name: String,
        /// Packets its stack received.
        received: u64,
        /// Packets it sent.
        sent: u64,
        /// Packets it handed to other CPUs.
        handed_over: u64,
        /// Softints it served.
        turns: u64,
        /// Thousandths of the time since entry that it was awake.
        busy_permille: u64,
        /// TSC ticks that it was awake.
        busy_ticks: u64,
        /// Microseconds that it was awake.
        busy_us: u64,
        /// Free packet buffers in its pool.
        buffers_idle: u64,
        /// Bytes of its stack that were never written to.
        stack_free_bytes: u64,
    }

    /// The tasks of one name on a CPU. Time that packet work took from them is not in it.
    pub struct Task {
        /// Their name.
        name: String,
        /// The CPU they run on.
        cpu: String,
        /// How many they are.
        tasks: u64,
        /// Times they were polled.
        polls: u64,
        /// Nanoseconds of all polls.
        total_ns: u64,
        /// Nanoseconds of the longest poll.
        longest_ns: u64,
        /// Polls over a millisecond.
        long_polls: u64,
    }

    /// The locks of one rank. No packet waits for any.
    pub struct Lock {
        /// The rank's name.
        name: String,
        /// Times one was taken.
        acquired: u64,
        /// Times somebody else held it then.
        contended: u64,
        /// Turns of the waiting loop that this cost.
        spins: u64,
    }

    /// A queue pair of an interface's device, with the frames of VLANs on it.
    pub struct Queue {
        /// Whose it is.
        interface: String,
        /// The CPU that it belongs to.
        cpu: String,
        /// Frames received.
        rx_packets: u64,
        /// Bytes received.
        rx_bytes: u64,
        /// Frames sent.
        tx_packets: u64,
        /// Bytes sent.
        tx_bytes: u64,
        /// How often its interrupt ended a wait for packets.
        interrupts: u64,
        /// How often the device was notified.
        notifications: u64,
    }

    /// The router's own sockets on a CPU.
    pub struct Sockets {
        /// The CPU.
        cpu: String,
        /// TCP connections there are.
        connections: u64,
        /// TCP handshakes that have begun.
        half_open: u64,
        /// TCP connections that were accepted.
        accepted: u64,
        /// Of these, those whose handshake was no more than a cookie.
        by_cookie: u64,
        /// Handshakes pushed out by later ones: they live in their cookies. Many are a SYN flood.
        syn_flood: u64,
        /// Handshakes not finished: no connection or no memory was free, or too many waited to be accepted. Peers try again.
        no_room: u64,
        /// Of these, those whose peer had its share of the connections.
        over_share: u64,
        /// Connections that made room for others: they waited without a request, for their peer's end, or to be accepted.
        evicted: u64,
        /// SYNs and resets of connections that were not believed: whoever knows the ports can send them.
        doubted: u64,
        /// Resets sent to segments of no connection.
        resets: u64,
        /// Packets whose checksum was wrong.
        checksum_errors: u64,
        /// Packets that were malformed, or for no socket.
        unmatched: u64,
        /// Datagrams that found their socket's queue full.
        datagrams_lost: u64,
    }

    /// What the CPUs do.
    pub struct Cpus {
        /// Each CPU.
        cpus: Vec<Cpu>,
        /// Each queue pair.
        queues: Vec<Queue>,
        /// The router's own sockets on each CPU.
        sockets: Vec<Sockets>,
        /// The tasks of all CPUs, those that took longest first.
        tasks: Vec<Task>,
        /// The locks that tasks take.
        locks: Vec<Lock>,
    }

    /// A line of the log.
    pub struct LogLine {
        /// Lines are numbered from 0 on.
        number: u64,
        /// Microseconds since entry.
        at_us: u64,
        /// The CPU that logged it.
        cpu: String,
        /// How much it matters.
        level: LogLevel,
        /// The time of day (RFC 3339, UTC), if that is known by now.
        time: Option<String>,
        /// What it says.
        text: String,
    }

    /// A configuration that is or was in force.
    pub struct ConfigVersion {
        /// Versions are numbered from 1 on, since boot.
        version: u64,
        /// The text's fingerprint: the ETag of `GET /api/v1/config`.
        etag: String,
        /// What became of it.
        state: VersionState,
        /// Where it came from: a source at boot, the console, a token's name.
        by: String,
        /// Milliseconds since entry, when it was put in force.
        at_ms: u64,
        /// Milliseconds since entry, when it is taken back unless it is confirmed; none if it stays.
        reverts_at_ms: Option<u64>,
        /// Whether its text is still kept.
        kept: bool,
        /// What it changed in the text before it, as a unified diff.
        diff: String,
    }

    /// What would happen to an interface, or happened.
    pub struct Change {
        /// What.
        change: ChangeKind,
        /// The interface's name.
        interface: String,
    }

    /// What a configuration would change, or has changed.
    pub struct Plan {
        /// The fingerprint of the configuration's text.
        etag: String,
        /// The fingerprint of the text that it replaces.
        replaces: String,
        /// What happens to interfaces; those that are not listed stay as they are.
        interfaces: Vec<Change>,
        /// Destinations of routes that come.
        routes_added: u64,
        /// Destinations of routes that go.
        routes_removed: u64,
        /// The change of the text, as a unified diff.
        diff: String,
    }

    /// A configuration was put in force.
    pub struct Committed {
        /// Its version.
        version: u64,
        /// Milliseconds until it is taken back unless it is confirmed; none if it stays.
        confirm_within_ms: Option<u64>,
        /// What it changed.
        plan: Plan,
    }

    /// An entry of the flight recorder: a packet that was lost, or a change.
    pub struct Recorded {
        /// Microseconds since entry.
        at_us: u64,
        /// The CPU that noted it.
        cpu: String,
        /// The interface that the packet came in by, or that changed; none of a configuration.
        interface: Option<String>,
        /// Why it was lost; or `configuration` (the CPU went over to another), `interface-up`, `interface-is-down`.
        what: String,
        /// Bytes of the frame; 0 of a change.
        bytes: u64,
        /// The packet in words.
        packet: String,
        /// The frame's first bytes, in hexadecimal.
        head: String,
    }

    /// Something that happened.
    pub struct Event {
        /// Events are numbered from 1 on, since boot.
        number: u64,
        /// Milliseconds since entry.
        at_ms: u64,
        /// What it is about: `interface`, `configuration` or `clock`.
        kind: String,
        /// The interface's name, where the configuration came from, or who said the time.
        subject: String,
        /// What happened.
        text: String,
    }

    /// Something that was refused (RFC 9457).
    pub struct Problem {
        /// What is wrong, in one line; the same for all such problems.
        title: String,
        /// The HTTP status.
        status: u16,
        /// What was found, and why that cannot be.
        detail: String,
        /// What helps.
        cure: String,
        /// The column of the query's text that is wrong, in characters from 1; none if it is wrong as a whole.
        column: Option<u64>,
        /// Errors of a configuration, one by one.
        errors: Vec<ConfigError>,
    }

    /// An error of a configuration.
    pub struct ConfigError {
        /// Its line, from 1; 0 if it is no line's.
        line: u64,
        /// Its column in characters, from 1; 0 if it is no column's.
        column: u64,
        /// The key; empty if it is none's.
        key: String,
        /// What was found, and what was expected.
        message: String,
        /// What helps.
        help: Option<String>,
    }
}
