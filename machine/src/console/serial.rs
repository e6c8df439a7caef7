//! A 16550 port that can never hang its caller: absent, it is left alone; stuck, it loses bytes.

use uart_16550::backend::Backend;
use uart_16550::spec::registers::{IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

/// Status readings to wait for room: 16 bytes at 115200 baud leave within 1.4 ms, a reading takes 0.5 µs or more.
const PATIENCE: u32 = 20_000;

/// A port that answered.
#[derive(Debug)]
pub(super) struct Serial<B: Backend> {
    uart: Uart16550<B>,
    /// The last wait for room was in vain: do not wait again until there is some.
    stuck: bool,
    /// Bytes to hand over at a time: only a probed port is known to have a FIFO.
    chunk: usize,
}

impl<B: Backend> Serial<B> {
    /// Sets the port up at 115200 baud, 8 data bits, no parity. `None` if nothing answers or it never drains.
    pub(super) fn probe(mut uart: Uart16550<B>) -> Option<Self> {
        if !uart.check_present() {
            return None;
        }
        // `init` waits without a bound for the transmitter to drain: see first that it does.
        (0..PATIENCE).find(|_| uart.lsr().contains(LSR::TRANSMITTER_EMPTY))?;
        let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
        uart.init(config).ok()?;
        Some(Self { uart, stuck: false, chunk: usize::MAX })
    }

    /// A port that was set up before, beside whoever owns it: for input, and for a panic.
    pub(super) fn assume(uart: Uart16550<B>) -> Self {
        Self { uart, stuck: false, chunk: 1 }
    }

    /// Writes text, `\n` as `\r\n`. What finds no room in bounded time is lost.
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

    fn send(&mut self, mut bytes: &[u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;

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

    fn probe(port: &mut Port) -> Option<Serial<&mut Port>> {
        // SAFETY: the backend is a struct.
        Serial::probe(unsafe { Uart16550::new_with_backend(port) })
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
    fn takes_up_again_when_there_is_room() {
        let mut port = Port { room: 3, ..Port::default() };
        let mut serial = probe(&mut port).unwrap();
        serial.write(b"lost text");
        serial.write(b"lost text");
        serial.uart.backend_mut().room = 1000;
        serial.uart.backend_mut().output.clear();
        serial.write(b"here again");
        assert_eq!(port.output, b"here again");
    }

    #[test]
    fn an_assumed_port_sends_byte_by_byte() {
        let mut port = Port { room: 100, ..Port::default() };
        // SAFETY: the backend is a struct.
        Serial::assume(unsafe { Uart16550::new_with_backend(&mut port) }).write(b"panic\n");
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
