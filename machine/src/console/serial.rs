//! A 16550 port that can never hang its caller: absent, it is left alone; stuck, it loses bytes, and says how many once it
//! takes some again.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};
use uart_16550::backend::Backend;
use uart_16550::spec::registers::{IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// Status readings to wait for room: 16 bytes at 115200 baud leave within 1.4 ms, a reading takes 0.5 µs or more.
const PATIENCE: u32 = 20_000;

/// A port that answered.
#[derive(Debug)]
pub(super) struct Serial<'l, B: Backend> {
    uart: Uart16550<B>,
    /// The last wait for room was in vain: do not wait again until there is some.
    stuck: bool,
    /// Bytes to hand over at a time: only a probed port is known to have a FIFO.
    chunk: usize,
    /// What was handed over last ended within a row.
    open: bool,
    /// Bytes that found no room, ever.
    lost: &'l AtomicU64,
    /// Of these, those whose loss was said on the port.
    said: u64,
    notice: Notice,
}

impl<'l, B: Backend> Serial<'l, B> {
    /// Sets the port up at 115200 baud, 8 data bits, no parity; what finds no room is counted as `lost`. `None` if nothing
    /// answers or it never drains.
    pub(super) fn probe(mut uart: Uart16550<B>, lost: &'l AtomicU64) -> Option<Self> {
        if !uart.check_present() {
            return None;
        }
        // `init` waits without a bound for the transmitter to drain: see first that it does.
        (0..PATIENCE).find(|_| uart.lsr().contains(LSR::TRANSMITTER_EMPTY))?;
        let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
        uart.init(config).ok()?;
        Some(Self { uart, stuck: false, chunk: usize::MAX, open: false, lost, said: 0, notice: Notice::NONE })
    }

    /// A port that was set up before, beside whoever owns it: for input, and for a panic. What it loses is counted, and said
    /// by its owner.
    pub(super) fn assume(uart: Uart16550<B>, lost: &'l AtomicU64) -> Self {
        Self { uart, stuck: false, chunk: 1, open: false, lost, said: u64::MAX, notice: Notice::NONE }
    }

    /// Writes text, `\n` as `\r\n`. What finds no room in bounded time is lost, and counted.
    pub(super) fn write(&mut self, text: &[u8]) {
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) => {
                    self.send(line);
                    self.send(b"\r\n");
                }
                _ => self.send(piece),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let sent = if self.say_what_was_lost() { self.hand_over(bytes) } else { 0 };
        self.lost.fetch_add((bytes.len() - sent) as u64, Ordering::Relaxed);
    }

    /// In a line of its own, which may need several turns. `false`: the port did not take all of it yet.
    fn say_what_was_lost(&mut self) -> bool {
        loop {
            if self.notice.sent == 0 {
                let lost = self.lost.load(Ordering::Relaxed).saturating_sub(self.said);
                if lost == 0 {
                    return true;
                }
                self.notice = Notice::new(lost, self.open);
            }
            let Notice { bytes, len, sent, lost } = self.notice;
            let rest = bytes.get(sent..len).unwrap_or_default();
            self.notice.sent += self.hand_over(rest);
            if self.notice.sent < len {
                return false;
            }
            self.notice.sent = 0;
            self.said += lost;
        }
    }

    /// How many of these bytes the port took.
    fn hand_over(&mut self, all: &[u8]) -> usize {
        let mut bytes = all;
        let mut patience = if self.stuck { 1 } else { PATIENCE };
        while !bytes.is_empty() && patience > 0 {
            let sent = self.uart.send_bytes(bytes.get(..self.chunk).unwrap_or(bytes));
            if sent == 0 {
                patience -= 1;
                core::hint::spin_loop();
            } else {
                patience = PATIENCE;
                bytes = bytes.get(sent..).unwrap_or(&[]);
            }
        }
        self.stuck = patience == 0;
        let sent = all.len() - bytes.len();
        if let Some(last) = all.get(..sent).and_then(<[u8]>::last) {
            self.open = *last != b'\n';
        }
        sent
    }

    /// The next byte received.
    pub(super) fn read(&mut self) -> Option<u8> {
        self.uart.try_receive_byte().ok()
    }

    /// Raises the port's interrupt line whenever input waits.
    pub(super) fn interrupt_on_input(&mut self) {
        self.uart.enable_interrupts(IER::DATA_READY);
    }
}

/// The line that says how many bytes were lost.
#[derive(Clone, Copy, Debug)]
struct Notice {
    bytes: [u8; 80],
    len: usize,
    /// So much of it the port has taken.
    sent: usize,
    lost: u64,
}

impl Notice {
    const NONE: Self = Self { bytes: [0; 80], len: 0, sent: 0, lost: 0 };

    fn new(lost: u64, within_row: bool) -> Self {
        let mut notice = Self { lost, ..Self::NONE };
        let begin = if within_row { "\r\n" } else { "" };
        // It fits, however many they are.
        let _ = write!(notice, "{begin}... {lost} bytes lost: the reader was too slow\r\n");
        notice
    }
}

impl Write for Notice {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::collections::VecDeque;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const DATA: u8 = 0;
    const IER: u8 = 1;
    const LCR: u8 = 3;
    const LSR: u8 = 5;
    const SCRATCH: u8 = 7;

    /// A port, or the lack of one.
    #[derive(Debug, Default)]
    struct Port {
        absent: bool,
        /// Bytes it takes until it is full for ever.
        room: usize,
        scratch: u8,
        lcr: u8,
        ier: u8,
        input: VecDeque<u8>,
        output: Vec<u8>,
        status_reads: usize,
    }

    impl Backend for &mut Port {
        unsafe fn read(&mut self, register: u8) -> u8 {
            match register {
                _ if self.absent => 0xFF,
                DATA => self.input.pop_front().unwrap_or(0),
                IER => self.ier,
                LCR => self.lcr,
                LSR => {
                    self.status_reads += 1;
                    let empty = if self.room > self.output.len() { 0x60 } else { 0 };
                    empty | u8::from(!self.input.is_empty())
                }
                SCRATCH => self.scratch,
                _ => 0,
            }
        }

        unsafe fn write(&mut self, register: u8, value: u8) {
            match register {
                DATA if self.lcr & 0x80 == 0 => self.output.push(value),
                IER if self.lcr & 0x80 == 0 => self.ier = value,
                LCR => self.lcr = value,
                SCRATCH => self.scratch = value,
                _ => {}
            }
        }
    }

    fn probe(port: &mut Port) -> Option<Serial<'static, &mut Port>> {
        counted(port, Box::leak(Box::new(AtomicU64::new(0))))
    }

    fn counted<'l, 'p>(port: &'p mut Port, lost: &'l AtomicU64) -> Option<Serial<'l, &'p mut Port>> {
        // SAFETY: the backend is a struct.
        Serial::probe(unsafe { Uart16550::new_with_backend(port) }, lost)
    }

    #[test]
    fn leaves_an_absent_port_alone() {
        let mut port = Port { absent: true, ..Port::default() };
        assert!(probe(&mut port).is_none());
        assert!(port.output.is_empty());
    }

    #[test]
    fn gives_up_a_port_that_never_drains() {
        let mut port = Port::default();
        assert!(probe(&mut port).is_none());
        assert!(port.status_reads <= PATIENCE as usize + 16);
    }

    #[test]
    fn sends_carriage_returns() {
        let mut port = Port { room: 100, ..Port::default() };
        let mut serial = probe(&mut port).unwrap();
        serial.write(b"a\n\nbc");
        serial.write(b"\n");
        assert_eq!(port.output, b"a\r\n\r\nbc\r\n");
    }

    #[test]
    fn sends_long_text_whole_and_in_order() {
        let text: Vec<u8> = (0..1000_u32).map(|n| b'a' + (n % 26) as u8).collect();
        let mut port = Port { room: 2000, ..Port::default() };
        probe(&mut port).unwrap().write(&text);
        assert_eq!(port.output, text);
    }

    #[test]
    fn waits_once_for_a_stuck_port_then_no_more() {
        let mut port = Port { room: 3, ..Port::default() };
        let mut serial = probe(&mut port).unwrap();
        serial.write(b"abcdefghijklmnopqrstuvwxyz");
        serial.write(&[b'x'; 50_000]);
        assert!(port.status_reads < 2 * PATIENCE as usize, "{}", port.status_reads);
    }

    #[test]
    fn an_empty_line_is_no_reason_to_wait_again() {
        let mut port = Port { room: 3, ..Port::default() };
        let mut serial = probe(&mut port).unwrap();
        (0..100).for_each(|_| serial.write(b"abcdefghijklmnopqrstuvwxyz\n\n"));
        assert!(port.status_reads < 2 * PATIENCE as usize, "{}", port.status_reads);
    }

    #[test]
    fn takes_up_again_when_there_is_room_and_says_what_was_lost() {
        let (mut port, lost) = (Port { room: 3, ..Port::default() }, AtomicU64::new(0));
        let mut serial = counted(&mut port, &lost).unwrap();
        serial.write(b"as much as there is room for");
        serial.write(b"lost text\n");
        assert_eq!(lost.load(Ordering::Relaxed), 25 + 11, "a carriage return is a byte too");
        serial.uart.backend_mut().room = 1000;
        serial.write(b"here again");
        serial.write(b"!\n");
        let expected = b"as \r\n... 36 bytes lost: the reader was too slow\r\nhere again!\r\n";
        assert_eq!(port.output.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(lost.load(Ordering::Relaxed), 36);
    }

    #[test]
    fn what_is_lost_beside_the_owner_is_said_by_the_owner() {
        let (mut port, lost) = (Port { room: 100, ..Port::default() }, AtomicU64::new(0));
        let mut stuck = Port::default();
        // SAFETY: the backend is a struct.
        Serial::assume(unsafe { Uart16550::new_with_backend(&mut stuck) }, &lost).write(b"panic\n");
        assert!(stuck.output.is_empty());
        counted(&mut port, &lost).unwrap().write(b"ok");
        assert_eq!(port.output, b"... 7 bytes lost: the reader was too slow\r\nok");
    }

    proptest! {
        /// Whatever room there is, when, and for how much: each byte is shown or counted, and what is counted is said.
        #[test]
        fn each_byte_is_shown_or_counted(turns in prop::collection::vec((0..70_usize, 0..90_usize), 1..12)) {
            let (mut port, lost) = (Port { room: 1, ..Port::default() }, AtomicU64::new(0));
            let mut serial = counted(&mut port, &lost).unwrap();
            let mut written = 0;
            let mut write = |len: usize, room: usize| {
                let backend = serial.uart.backend_mut();
                backend.room = room.max(backend.room);
                let before = backend.status_reads;
                serial.write(&[b'X'; 70][..len]);
                written += len;
                let reads = serial.uart.backend_mut().status_reads - before;
                // Those in vain, and one for each byte of it and of two notices.
                prop_assert!(reads <= PATIENCE as usize + len + 2 * 80 + 4, "{reads}");
                Ok(serial.uart.backend_mut().output.len())
            };
            for (len, more) in turns {
                let filled = write(0, 0)?;
                // Sometimes the reader takes nothing.
                write(len, if more < 40 { 0 } else { filled + more - 40 })?;
            }
            write(1, usize::MAX)?;
            let text = String::from_utf8(port.output.clone()).unwrap();
            let shown = text.matches('X').count();
            prop_assert_eq!((written - shown) as u64, lost.load(Ordering::Relaxed));
            let notice = |line: &str| line.strip_prefix("... ")?.strip_suffix(" bytes lost: the reader was too slow")?.parse().ok();
            let said: Vec<Option<u64>> = text.split("\r\n").filter(|line| line.contains('.')).map(notice).collect();
            prop_assert_eq!(said.iter().copied().sum::<Option<u64>>(), Some(lost.load(Ordering::Relaxed)), "{}", text);
        }
    }

    #[test]
    fn an_assumed_port_sends_byte_by_byte() {
        let mut port = Port { room: 100, ..Port::default() };
        // SAFETY: the backend is a struct.
        Serial::assume(unsafe { Uart16550::new_with_backend(&mut port) }, &AtomicU64::new(0))
            .write(b"panic\n");
        assert_eq!((port.output.as_slice(), port.status_reads), (&b"panic\r\n"[..], 7));
    }

    #[test]
    fn reads_what_was_typed() {
        let mut port = Port { room: 100, ..Port::default() };
        let mut serial = probe(&mut port).unwrap();
        serial.uart.backend_mut().input.extend(b"ok");
        assert_eq!([serial.read(), serial.read(), serial.read()], [Some(b'o'), Some(b'k'), None]);
    }

    #[test]
    fn asks_for_input_interrupts_only() {
        let mut port = Port { room: 100, ..Port::default() };
        probe(&mut port).unwrap().interrupt_on_input();
        assert_eq!(port.ier, 1);
    }
}
