//! The domain's console: a ring that a daemon in another domain serves (`xl console`), and Xen's own log for what comes
//! before it and for last words.

mod ring;

#[cfg(feature = "image")]
pub(crate) use image::{enable_interrupt, flush, init, start};

#[cfg(feature = "image")]
mod image {
    use super::ring::Ring;
    use crate::console::{Sink, add};
    use crate::interrupt::Interrupt;
    use crate::xen::event::{self, Channel};
    use crate::xen::{clock, hypercall};
    use core::sync::atomic::{AtomicBool, Ordering};
    use spin::Once;

    /// Xen `public/hvm/params.h`.
    const PARAMETER_FRAME: u32 = 17;
    const PARAMETER_PORT: u32 = 18;
    /// How long a full ring is waited for: the daemon that empties it may pause for 200 ms after much output.
    const PATIENCE_NS: u64 = 300_000_000;
    const STEP_NS: u64 = 2_000_000;

    struct Console {
        ring: Ring,
        port: u32,
        /// `[A]` The last wait for room was in vain: do not wait again until there is some.
        stuck: AtomicBool,
        /// `[I]` Input raises an interrupt.
        channel: Once<Channel>,
    }

    /// `[I]` Set at boot.
    static CONSOLE: Once<Console> = Once::new();

    static RING: Sink = Sink::new("Xen console", ring_write, ring_write, ring_read);
    static LOG: Sink = Sink::new("Xen log", log_write, hypercall::log, || None);

    /// Xen's log, at once: needs nothing but hypercalls.
    pub(crate) fn start() {
        add(&LOG);
    }

    /// The ring, if the domain has one. Boot CPU, once the page tables are there.
    pub(crate) fn init() {
        let (Some(frame), Some(port)) =
            (hypercall::parameter(PARAMETER_FRAME), hypercall::parameter(PARAMETER_PORT))
        else {
            return;
        };
        let (Some(page), Ok(port)) = (hypercall::ring(frame), u32::try_from(port)) else { return };
        // SAFETY: `hypercall::ring` mapped the page for good; the domain's builder left it for the console alone.
        let ring = unsafe { Ring::new(page) };
        CONSOLE.call_once(|| Console { ring, port, stuck: AtomicBool::new(false), channel: Once::new() });
        add(&RING);
    }

    /// Has input raise `interrupt`; `None` if there is no such console. `false`: only polling is left.
    pub(crate) fn enable_interrupt(interrupt: Interrupt) -> Option<bool> {
        let console = CONSOLE.get()?;
        match Channel::bind(console.port, interrupt) {
            Ok(channel) => {
                console.channel.call_once(|| channel).unmask();
                Some(true)
            }
            Err(error) => {
                crate::warn!("console: input is polled: {error}");
                Some(false)
            }
        }
    }

    /// What comes before there is a ring; Xen's log is no place for more.
    fn log_write(text: &[u8]) {
        if CONSOLE.get().is_none() {
            hypercall::log(text);
        }
    }

    /// Writes `\n` as `\r\n`. What finds no room in bounded time is lost, and counted.
    fn ring_write(text: &[u8]) {
        let Some(console) = CONSOLE.get() else { return };
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) => {
                    console.send(line);
                    console.send(b"\r\n");
                }
                _ => console.send(piece),
            }
        }
        event::send(console.port);
    }

    /// Waits for the other side to take what was written, but not for long: the domain ends.
    pub(crate) fn flush() {
        let Some(console) = CONSOLE.get() else { return };
        for _ in 0..PATIENCE_NS / STEP_NS {
            if console.stuck.load(Ordering::Relaxed) || console.ring.is_flushed() {
                return;
            }
            event::send(console.port);
            event::sleep(STEP_NS);
        }
    }

    impl Console {
        fn send(&self, mut bytes: &[u8]) {
            if bytes.is_empty() {
                // No reason to wait for a reader again.
                return;
            }
            let mut began = None;
            loop {
                let sent = self.ring.write(bytes);
                bytes = bytes.get(sent..).unwrap_or(&[]);
                if bytes.is_empty() {
                    return self.stuck.store(false, Ordering::Relaxed);
                }
                if sent > 0 {
                    began = None;
                } else if self.stuck.load(Ordering::Relaxed) {
                    break;
                }
                let Some(now) = clock::system_time() else { break };
                if now.saturating_sub(*began.get_or_insert(now)) >= PATIENCE_NS {
                    self.stuck.store(true, Ordering::Relaxed);
                    break;
                }
                event::send(self.port);
                event::sleep(STEP_NS);
            }
            RING.lost.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    }

    fn ring_read() -> Option<u8> {
        let console = CONSOLE.get()?;
        let byte = console.ring.read().or_else(|| {
            // Nothing more: the next event is to be heard. What came before that is still to be seen.
            console.channel.get()?.unmask();
            console.ring.read()
        });
        if byte.is_some() && console.ring.is_drained() {
            event::send(console.port);
        }
        byte
    }
}
