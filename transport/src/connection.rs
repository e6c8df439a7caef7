//! One TCP connection: a `smoltcp` instance with one socket, and what lies between its numbers and those on the wire.

use crate::error::Error;
use crate::half_open::HalfOpen;
use crate::transport::Sink;
use crate::wire::{self, Flow, Segment, TCP, header_len, write_ip};
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::task::Waker;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpEndpoint, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use weir_netif::IfIndex;

/// Largest receive buffer. Above, `smoltcp` scales the window of a SYN that must not be scaled (RFC 7323 §2.2), and
/// takes more than it has room for.
pub const MAX_RECEIVE: usize = 65_535;
/// Smallest buffer: two segments.
pub const MIN_BUFFER: usize = 4096;
/// A super-packet is taken in pieces of this many bytes.
const PIECE: usize = 16 << 10;
/// Room for the headers of a packet.
const HEADERS: usize = 128;
/// What [`Connection::segment`] needs to put a packet together.
pub(crate) const SCRATCH_IN: usize = PIECE + HEADERS;
/// The longest packet that is sent.
pub(crate) const SCRATCH_OUT: usize = 9216;
/// A silent peer is asked after this long, and given up after three questions.
const KEEP_ALIVE_NS: u64 = 25_000_000_000;
const SILENT: Duration = Duration::from_secs(80);
/// Between two answers to SYNs and resets that may be forged (RFC 5961 §7: ten in five seconds).
const CHALLENGE_NS: u64 = 500_000_000;
/// Packets one connection may send before others get their turn.
const BURST: usize = 64;
/// Longer than `smoltcp` holds an acknowledgement back, and shorter than it stays in TIME-WAIT.
const HELD_BACK_NS: u64 = 1_000_000_000;
/// What a path's MTU is believed to be at the least (RFC 879; RFC 8200 §5).
const LEAST_MTU4: u16 = 576;
const LEAST_MTU6: u16 = 1280;

/// A TCP connection, from the last segment of its handshake or its SYN on.
pub(crate) struct Connection {
    pub(crate) flow: Flow,
    /// Its port is this connection's alone.
    pub(crate) ephemeral: bool,
    link: IfIndex,
    mtu: u16,
    seed: u64,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    numbers: Numbers,
    /// When the peer was last heard, or asked whether it is there.
    awake_ns: u64,
    /// When a SYN or a reset is answered again.
    challenge_ns: u64,
    /// How it ended, if not by both sides' wish.
    pub(crate) error: Option<Error>,
    /// What ICMP said last: the reason if it ends by silence (RFC 1122 §4.2.3.9).
    soft: Option<Error>,
    /// When a task stops waiting.
    pub(crate) read_by_ns: Option<u64>,
    pub(crate) write_by_ns: Option<u64>,
    /// Who reads and who writes; for deadlines, as `smoltcp` wakes for all else.
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

/// Sequence numbers as the wire has them (RFC 9293 §3.3.1).
#[derive(Clone, Copy, Default, Debug)]
struct Numbers {
    /// What those this side sends are ahead of `smoltcp`'s.
    shift: u32,
    /// The oldest one that is not acknowledged.
    una: u32,
    /// The next one to send.
    nxt: u32,
    /// The one that was last acknowledged to the peer.
    rcv: u32,
    /// The one that it sends next: all before it have come.
    next: u32,
    /// The window that it was last offered.
    offered: u16,
    /// Whether the peer takes anything.
    window: bool,
}

impl Numbers {
    /// What is left of the window that the peer was offered.
    fn window_left(&self) -> u16 {
        let taken = self.next.wrapping_sub(self.rcv);
        u32::from(self.offered).saturating_sub(taken) as u16
    }

    /// Takes note of a segment from the peer. Whether it begins where the window does or behind, so that `smoltcp` counts it
    /// as a sign of life; of keep-alives it does not.
    fn heard(&mut self, segment: &Segment<'_>) -> bool {
        // An old one says nothing; a probe of its window may be acknowledged, too.
        if !segment.is_ack() || ahead(self.una, segment.ack) || ahead(segment.ack, self.nxt.wrapping_add(1)) {
            return false;
        }
        self.una = segment.ack;
        if ahead(self.una, self.nxt) {
            self.nxt = self.una;
        }
        self.window = segment.window != 0;
        segment.seq.wrapping_sub(self.rcv) <= self.offered.into()
    }
}

/// Buffers to put packets together in.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { input: vec![0; SCRATCH_IN], output: vec![0; SCRATCH_OUT] }
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX))
}

fn buffer(len: usize, most: usize) -> Option<SocketBuffer<'static>> {
    let len = len.clamp(MIN_BUFFER, most);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    Some(SocketBuffer::new(bytes))
}

impl Connection {
    fn new(
        flow: Flow,
        (link, mtu): (IfIndex, u16),
        [receive, send]: [usize; 2],
        seed: u64,
        now_ns: u64,
    ) -> Option<Self> {
        let mut socket = Socket::new(buffer(receive, MAX_RECEIVE)?, buffer(send, 1 << 20)?);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_nagle_enabled(false);
        // Without its keep-alive, whose byte stands for data that may be under way.
        socket.set_timeout(Some(SILENT));
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        let mtu = mtu.clamp(least_mtu(flow.local.ip()), SCRATCH_OUT as u16);
        let interface = interface(mtu, seed, now_ns);
        Some(Self {
            flow,
            ephemeral: false,
            link,
            mtu,
            seed,
            interface,
            sockets,
            handle,
            numbers: Numbers::default(),
            awake_ns: now_ns,
            challenge_ns: 0,
            error: None,
            soft: None,
            read_by_ns: None,
            write_by_ns: None,
            reader: None,
            writer: None,
        })
    }

    /// Takes over where the handshake was left: `smoltcp` is shown the SYN again, and its answer, which the peer already
    /// has by another number, is what all numbers are counted from. `None` without memory.
    pub(crate) fn accepted(
        entry: &HalfOpen,
        sizes: [usize; 2],
        seed: u64,
        scratch: &mut Scratch,
        now_ns: u64,
    ) -> Option<Self> {
        let mut new = Self::new(entry.flow, (entry.link, entry.mtu), sizes, seed, now_ns)?;
        let local = endpoint(entry.flow.local.ip(), entry.flow.local.port());
        new.socket().listen(local).ok()?;
        let syn = TcpRepr {
            src_port: entry.flow.remote.port(),
            dst_port: entry.flow.local.port(),
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(entry.irs as i32),
            ack_number: None,
            window_len: u16::MAX,
            window_scale: entry.offer.scale,
            max_seg_size: Some(entry.offer.mss),
            sack_permitted: entry.offer.sack,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (source, destination): (IpAddress, IpAddress) = (entry.flow.remote.ip().into(), local.addr);
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..syn.buffer_len())?;
        syn.emit(&mut TcpPacket::new_unchecked(&mut *bytes), &source, &destination, &sums());
        let mut answer = Answer(None);
        new.feed(bytes, scratch, now_ns, &mut answer);
        new.send(scratch, now_ns, &mut answer);
        let shift = entry.iss.wrapping_sub(answer.0?);
        let (nxt, next) = (entry.iss.wrapping_add(1), entry.irs.wrapping_add(1));
        new.numbers = Numbers { shift, una: entry.iss, nxt, next, ..new.numbers };
        Some(new)
    }

    /// Begins a handshake: [`poll`](Self::poll) sends the SYN.
    pub(crate) fn connecting(
        flow: Flow,
        link: (IfIndex, u16),
        sizes: [usize; 2],
        seed: u64,
        now_ns: u64,
    ) -> Option<Self> {
        let mut new = Self::new(flow, link, sizes, seed, now_ns)?;
        let local = endpoint(flow.local.ip(), flow.local.port());
        let remote = endpoint(flow.remote.ip(), flow.remote.port());
        let Self { interface, sockets, handle, .. } = &mut new;
        sockets.get_mut::<Socket<'_>>(*handle).connect(interface.context(), remote, local).ok()?;
        new.ephemeral = true;
        Some(new)
    }

    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Bytes of its buffers.
    pub(crate) fn buffers(&self) -> usize {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        socket.recv_capacity() + socket.send_capacity()
    }

    pub(crate) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// The next numbers of this side and of the peer.
    pub(crate) fn numbers(&self) -> (u32, u32) {
        (self.numbers.nxt, self.numbers.rcv)
    }

    pub(crate) fn link(&self) -> IfIndex {
        self.link
    }

    /// Room that it wants for a packet.
    pub(crate) fn mtu(&self) -> usize {
        self.mtu.into()
    }

    /// Takes a segment of the flow, its checksum known to be right.
    pub(crate) fn segment(
        &mut self,
        bytes: &[u8],
        segment: &Segment<'_>,
        scratch: &mut Scratch,
        now_ns: u64,
        sink: &mut dyn Sink,
    ) {
        let (before, queued) = (self.state(), self.socket().recv_queue());
        if self.numbers.heard(segment) {
            self.awake_ns = now_ns;
        }
        if segment.payload.len() <= PIECE {
            self.feed(bytes, scratch, now_ns, sink);
        } else {
            self.in_pieces(bytes, segment, scratch, now_ns, sink);
        }
        if before == State::SynSent && matches!(self.state(), State::Established | State::SynReceived) {
            self.numbers.next = segment.seq.wrapping_add(1);
            self.numbers.rcv = self.numbers.next;
        }
        let came =
            self.socket().recv_queue().saturating_sub(queued) + usize::from(ends(before, self.state()));
        self.numbers.next = self.numbers.next.wrapping_add(came as u32);
        // A peer that has taken everything and forgotten the connection refuses a FIN that comes again: no error
        // (RFC 9293 §3.10.7.4).
        let is_done = |socket: &Socket<'_>| {
            matches!(before, State::LastAck | State::Closing) && socket.send_queue() == 0
        };
        let is_closed = self.state() == State::Closed && before != State::Closed;
        if is_closed && segment.is_rst() && !is_done(self.socket()) {
            self.fail(if before == State::SynSent { Error::Refused } else { Error::Reset });
        }
    }

    fn in_pieces(
        &mut self,
        bytes: &[u8],
        segment: &Segment<'_>,
        scratch: &mut Scratch,
        now_ns: u64,
        sink: &mut dyn Sink,
    ) {
        let header = bytes.len() - segment.payload.len();
        let mut piece = Vec::new();
        if piece.try_reserve_exact(header + PIECE).is_err() {
            return;
        }
        let last = segment.payload.len().saturating_sub(1) / PIECE;
        for (number, payload) in segment.payload.chunks(PIECE).enumerate() {
            piece.clear();
            piece.extend_from_slice(bytes.get(..header).unwrap_or(&[]));
            let seq = segment.seq.wrapping_add((number * PIECE) as u32);
            if let Some(field) = piece.get_mut(4..8) {
                field.copy_from_slice(&seq.to_be_bytes());
            }
            if let Some(flags) = piece.get_mut(13).filter(|_| number < last) {
                *flags = wire::continued(*flags);
            }
            piece.extend_from_slice(payload);
            self.feed(&piece, scratch, now_ns, sink);
        }
    }

    /// Shows `smoltcp` a segment, with an IP header of its own.
    fn feed(&mut self, bytes: &[u8], scratch: &mut Scratch, now_ns: u64, sink: &mut dyn Sink) {
        let Scratch { input, output } = scratch;
        let Flow { local, remote } = self.flow;
        let Some(header) = write_ip(input, remote.ip(), local.ip(), TCP, bytes.len()) else { return };
        let Some(packet) = input.get_mut(..header + bytes.len()) else { return };
        let Some(tcp) = packet.get_mut(header..) else { return };
        tcp.copy_from_slice(bytes);
        if let Some(ack) = tcp.get_mut(8..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *ack = u32::from_be_bytes(*ack).wrapping_sub(self.numbers.shift).to_be_bytes();
        }
        let Self { interface, sockets, link, numbers, mtu, .. } = self;
        let mut wire = Wire { input: Some(packet), output, sink, link: *link, numbers, mtu: *mtu, sent: 0 };
        interface.poll_ingress_single(instant(now_ns), &mut wire, sockets);
    }

    /// Sends what is due. Whether there may be more.
    pub(crate) fn poll(&mut self, scratch: &mut Scratch, now_ns: u64, sink: &mut dyn Sink) -> bool {
        let (before, told) = (self.state(), self.numbers.rcv);
        let more = self.send(scratch, now_ns, sink);
        debug_assert!([told, self.numbers.next].contains(&self.numbers.rcv), "what came is acknowledged");
        if self.state() == State::Closed && !matches!(before, State::Closed | State::TimeWait) {
            // Only silence ends a connection from here.
            self.fail(self.soft.unwrap_or(Error::TimedOut));
        }
        let passed = |by: Option<u64>| by.is_some_and(|by| by <= now_ns);
        if passed(self.read_by_ns) || passed(self.write_by_ns) {
            self.wake();
        }
        more
    }

    fn send(&mut self, scratch: &mut Scratch, now_ns: u64, sink: &mut dyn Sink) -> bool {
        let Self { interface, sockets, link, numbers, mtu, .. } = self;
        let output = &mut scratch.output;
        let mut wire = Wire { input: None, output, sink, link: *link, numbers, mtu: *mtu, sent: 0 };
        while wire.sent < BURST {
            // Asked only while there is room: `smoltcp` takes a fast retransmission for sent that nobody took, and has then no
            // timer for it.
            if wire.is_full() {
                return self.due_ns(now_ns) <= now_ns;
            }
            if interface.poll_egress(instant(now_ns), &mut wire, sockets) == PollResult::None {
                return false;
            }
        }
        true
    }

    /// A question whether a peer that has been silent for long is still there (RFC 1122 §4.2.3.6): it says what it waits for.
    pub(crate) fn question(&mut self, now_ns: u64) -> Option<TcpRepr<'static>> {
        if now_ns < self.question_ns() {
            return None;
        }
        self.awake_ns = now_ns;
        Some(TcpRepr {
            seq_number: TcpSeqNumber(self.numbers.una.wrapping_sub(1) as i32),
            ..self.acknowledgement()
        })
    }

    /// Whether whoever knows the flow alone may have sent this: a SYN, or a reset without the number that is waited for
    /// (RFC 5961 §3.2, §4.2), or one in TIME-WAIT (RFC 1337).
    pub(crate) fn doubts(&self, segment: &Segment<'_>) -> bool {
        if !segment.is_rst() {
            return segment.is_syn() && self.is_synchronized();
        }
        match self.state() {
            State::Closed | State::Listen | State::SynSent => false,
            State::TimeWait => true,
            _ => segment.seq != self.numbers.next,
        }
    }

    /// The answer to such a segment, if one is due: what this side waits for. A peer that has forgotten the connection, as it
    /// was started again, resets it then. A reset outside the window is nobody's.
    pub(crate) fn challenge(&mut self, segment: &Segment<'_>, now_ns: u64) -> Option<TcpRepr<'static>> {
        let (next, window) = (self.numbers.next, self.numbers.window_left());
        let is_nobodys = segment.is_rst() && segment.seq.wrapping_sub(next) >= window.into();
        if is_nobodys || now_ns < self.challenge_ns {
            return None;
        }
        self.challenge_ns = now_ns.saturating_add(CHALLENGE_NS);
        Some(TcpRepr { seq_number: TcpSeqNumber(self.numbers.nxt as i32), ..self.acknowledgement() })
    }

    /// A segment that says what this side waits for.
    fn acknowledgement(&self) -> TcpRepr<'static> {
        TcpRepr {
            ack_number: Some(TcpSeqNumber(self.numbers.next as i32)),
            window_len: self.numbers.window_left(),
            ..wire::bare(&self.flow)
        }
    }

    /// Whether both sides know each other's numbers, and this one still cares.
    pub(crate) fn is_synchronized(&self) -> bool {
        use State::{Closed, Listen, SynReceived, SynSent, TimeWait};
        !matches!(self.state(), Closed | Listen | SynSent | SynReceived | TimeWait)
    }

    fn question_ns(&self) -> u64 {
        if self.is_synchronized() { self.awake_ns.saturating_add(KEEP_ALIVE_NS) } else { u64::MAX }
    }

    /// When [`poll`](Self::poll) or [`question`](Self::question) is wanted again.
    pub(crate) fn due_ns(&mut self, now_ns: u64) -> u64 {
        let at = self.interface.poll_at(instant(now_ns), &self.sockets);
        // Up, so that it is not polled a moment too early, for nothing.
        let at = at.map_or(u64::MAX, |at| {
            (at.total_micros().max(0) as u64).saturating_mul(1000).saturating_add(999)
        });
        let by_ns = self.read_by_ns.into_iter().chain(self.write_by_ns).min().unwrap_or(u64::MAX);
        at.min(by_ns).min(self.question_ns())
    }

    /// Whether nothing more can come of it, and nothing is left to be sent.
    pub(crate) fn is_over(&mut self, now_ns: u64) -> bool {
        match self.state() {
            State::Closed => self.socket().remote_endpoint().is_none(),
            // All but the last acknowledgement, which may be held back for a moment.
            State::TimeWait => self.due_ns(now_ns) > now_ns.saturating_add(HELD_BACK_NS),
            _ => false,
        }
    }

    /// Ends it at once; the next [`poll`](Self::poll) sends the reset.
    pub(crate) fn abort(&mut self) {
        if !matches!(self.state(), State::Closed | State::TimeWait) {
            self.fail(Error::Aborted);
        }
        self.socket().abort();
    }

    /// What ICMP says about a segment of this flow. `Some`: believed at once, it ends here.
    pub(crate) fn icmp(&mut self, error: Error) {
        match self.state() {
            // Nothing is lost by believing it (RFC 5461 §4.1), and who waits for a handshake waits less.
            State::SynSent => {
                self.fail(error);
                self.socket().abort();
            }
            _ => self.soft = Some(error),
        }
    }

    /// Whether a quoted sequence number is one that is under way (RFC 5927 §4.1).
    pub(crate) fn is_under_way(&self, seq: u32) -> bool {
        !ahead(self.numbers.una, seq) && !ahead(seq, self.numbers.nxt)
    }

    /// Learns that packets longer than `mtu` do not reach the peer (RFC 1191, RFC 8201).
    pub(crate) fn clamp(&mut self, mtu: u16, now_ns: u64) {
        let mtu = mtu.max(least_mtu(self.flow.local.ip()));
        if mtu < self.mtu {
            self.mtu = mtu;
            self.interface = interface(mtu, self.seed, now_ns);
        }
    }

    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Has tasks look again.
    fn wake(&mut self) {
        (self.read_by_ns, self.write_by_ns) = (None, None);
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

fn interface(mtu: u16, seed: u64, now_ns: u64) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, &mut Shape(mtu), instant(now_ns));
    // Whether a packet is for the router has been decided, and it has more addresses than fit here.
    interface.set_any_ip(true);
    interface
}

/// Whether a segment that led from one state to another brought the peer's last number, its FIN.
fn ends(before: State, after: State) -> bool {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, SynReceived, TimeWait};
    matches!(before, SynReceived | Established | FinWait1 | FinWait2)
        && matches!(after, CloseWait | Closing | TimeWait)
}

fn least_mtu(address: IpAddr) -> u16 {
    if address.is_ipv4() { LEAST_MTU4 } else { LEAST_MTU6 }
}

fn endpoint(address: IpAddr, port: u16) -> IpEndpoint {
    IpEndpoint::new(address.into(), port)
}

/// Whether `a` comes after `b`.
fn ahead(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Sums of received packets are looked at before, those of sent ones written after the numbers are.
pub(crate) fn sums() -> ChecksumCapabilities {
    let mut sums = ChecksumCapabilities::ignored();
    sums.ipv4 = Checksum::Tx;
    sums
}

fn capabilities(mtu: u16) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu.into();
    capabilities.checksum = sums();
    capabilities
}

/// What `smoltcp` takes for a device: one packet in, some out.
struct Wire<'a> {
    input: Option<&'a [u8]>,
    output: &'a mut [u8],
    sink: &'a mut dyn Sink,
    link: IfIndex,
    numbers: &'a mut Numbers,
    mtu: u16,
    sent: usize,
}

impl Wire<'_> {
    fn is_full(&mut self) -> bool {
        self.sink.room() < usize::from(self.mtu)
    }
}

struct Rx<'t>(&'t [u8]);
struct Tx<'t, 'a>(&'t mut Wire<'a>);

impl<'a> Device for Wire<'a> {
    type RxToken<'t>
        = Rx<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Tx<'t, 'a>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_, 'a>)> {
        let input = self.input.take()?;
        Some((Rx(input), Tx(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_, 'a>> {
        (!self.is_full()).then_some(Tx(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Tx(wire) = self;
        // Never longer than the MTU, which fits.
        let len = len.min(wire.output.len());
        let (packet, _) = wire.output.split_at_mut(len);
        let result = f(packet);
        wire.sent += 1;
        if finish(packet, wire.numbers).is_some() {
            wire.sink.send(packet, wire.link);
        }
        result
    }
}

/// Gives a packet of `smoltcp`'s the numbers of the wire, and its checksum.
fn finish(packet: &mut [u8], numbers: &mut Numbers) -> Option<()> {
    let ip = wire::Ip::parse(packet)?;
    let (source, destination): (IpAddress, IpAddress) = (ip.source.into(), ip.destination.into());
    let segment = Segment::parse(ip.upper)?;
    let mut seq = segment.seq.wrapping_add(numbers.shift);
    let end = seq.wrapping_add(segment.len());
    if segment.is_syn() {
        (numbers.una, numbers.nxt) = (seq, end);
    } else if segment.len() == 0 && !segment.is_rst() && ahead(numbers.nxt, seq) {
        // After a timeout `smoltcp` counts from the oldest number again, in acknowledgements too. Theirs is SND.NXT
        // (RFC 9293 §3.10.7.4): an older one makes the peer refuse them, for ever if it does the same.
        seq = numbers.nxt;
    } else if ahead(end, numbers.nxt) && (numbers.window || segment.payload.len() != 1) {
        // A probe of a closed window is not sent for good.
        numbers.nxt = end;
    }
    if segment.is_ack() {
        (numbers.rcv, numbers.offered) = (segment.ack, segment.window);
    }
    let header = header_len(ip.source);
    let tcp = packet.get_mut(header..)?;
    *tcp.get_mut(4..)?.first_chunk_mut()? = seq.to_be_bytes();
    TcpPacket::new_unchecked(tcp).fill_checksum(&source, &destination);
    Some(())
}

/// A device that says how long packets may be.
struct Shape(u16);
struct Never;

impl RxToken for Never {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&[])
    }
}

impl TxToken for Never {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, _: usize, f: F) -> R {
        f(&mut [])
    }
}

impl Device for Shape {
    type RxToken<'t> = Never;
    type TxToken<'t> = Never;

    fn receive(&mut self, _: Instant) -> Option<(Never, Never)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Never> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}

/// Keeps the number of the one packet that is sent to it.
struct Answer(Option<u32>);

impl Sink for Answer {
    fn room(&mut self) -> usize {
        if self.0.is_none() { usize::MAX } else { 0 }
    }

    fn send(&mut self, packet: &[u8], _: IfIndex) {
        self.0 = wire::Ip::parse(packet).and_then(|ip| Segment::parse(ip.upper)).map(|segment| segment.seq);
    }
}
