//! Daemons that break the protocol: every one ends in a named error, none in a panic.

use super::*;
use crate::dma::Region;

/// A page whose other end the test writes as it likes.
#[derive(Clone)]
struct Wire {
    page: NonNull<u8>,
    /// What is written over the page whenever the client notifies.
    script: Arc<dyn Fn(&Wire) + Send + Sync>,
    time: Arc<AtomicU64>,
}

// SAFETY: the page is leaked, and one thread of one test uses it.
unsafe impl Send for Wire {}
// SAFETY: as above.
unsafe impl Sync for Wire {}

impl Wire {
    fn open(script: impl Fn(&Wire) + Send + Sync + 'static) -> Store {
        let page = NonNull::from(Region::new(4096, 4096).unwrap().leak()).cast();
        let wire = Wire { page, script: Arc::new(script), time: Arc::default() };
        // SAFETY: the page is leaked.
        let ring = unsafe { Ring::new(page) };
        Store::new(ring, Box::new(wire))
    }

    /// `req_cons`, `req_prod`, `rsp_cons`, `rsp_prod`, features, connection, error.
    fn word(&self, number: usize) -> &AtomicU32 {
        let at = self.page.as_ptr().wrapping_add(2048 + 4 * number).cast();
        // SAFETY: aligned, inside the leaked page.
        unsafe { AtomicU32::from_ptr(at) }
    }

    fn reply(&self, bytes: &[u8]) {
        let prod = self.word(3).load(Ordering::Relaxed);
        for (offset, &byte) in bytes.iter().enumerate() {
            let at = RING + prod.wrapping_add(offset as u32) % RING;
            // SAFETY: inside the leaked page.
            unsafe { self.page.as_ptr().wrapping_add(at as usize).write_volatile(byte) };
        }
        self.word(3).store(prod.wrapping_add(bytes.len() as u32), Ordering::Release);
    }

    fn message(&self, kind: u32, request: u32, payload: &[u8]) {
        self.reply(&[&wire::header(kind, request, 0, payload.len())[..], payload].concat());
    }
}

impl Link for Wire {
    fn notify(&self) {
        (self.script)(self);
    }
    fn attend(&self) {}
    fn wait(&self, until_ns: u64) {
        self.time.store(until_ns, Ordering::Relaxed);
    }
    fn now(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }
    fn target(&self) -> Interrupt {
        Interrupt { cpu: weir_sync::CpuId::BOOT, bit: 0 }
    }
    fn announce(&self) {}
    fn arm(&self) {}
}

/// What a read ends in; it stays so if it is a break.
fn outcome(script: impl Fn(&Wire) + Send + Sync + 'static) -> Result<Vec<u8>, StoreError> {
    let store = Wire::open(script);
    cpu().control(|cx| {
        let outcome = store.read(cx, "domid");
        if let Err(StoreError::Broken(reason)) = outcome {
            assert_eq!(store.broken(), Some(reason));
            assert_eq!(store.write(cx, "x", "y"), Err(StoreError::Broken(reason)));
            assert_eq!(store.watch(cx, "x"), Err(StoreError::Broken(reason)));
            let waited = store.wait_for(cx, "x", SECOND, |_| None::<()>);
            assert_eq!((waited, store.watches()), (Err(StoreError::Broken(reason)), 0));
            assert_eq!(store.next_event(cx), None);
        }
        outcome
    })
}

fn broken(reason: &'static str) -> Result<Vec<u8>, StoreError> {
    Err(StoreError::Broken(reason))
}

#[test]
fn an_honest_reply_is_read() {
    assert_eq!(outcome(|wire| wire.message(kind::READ, 1, b"7")), Ok(b"7".to_vec()));
    assert_eq!(outcome(|wire| wire.message(kind::ERROR, 1, b"EWHATEVER\0")), Err(StoreError::Failed));
    assert_eq!(outcome(|wire| wire.message(kind::ERROR, 1, b"ENOENT")), Err(StoreError::NotFound));
    assert_eq!(outcome(|_| ()), Err(StoreError::Timeout));
}

#[test]
fn indices_that_run_away() {
    for by in [RING + 1, u32::MAX, 1 << 31] {
        let replies = outcome(move |wire| wire.word(3).store(by, Ordering::Release));
        assert_eq!(replies, broken("reply-index-runs-away"));
    }
    for by in [u32::MAX - RING, 1 << 31, 100] {
        // Ahead of what was sent, or behind by more than a ring.
        let requests = outcome(move |wire| wire.word(0).store(by, Ordering::Release));
        assert_eq!(requests, broken("request-index-runs-away"));
    }
}

#[test]
fn our_own_indices_are_not_read_back() {
    let store = Wire::open(|wire| {
        wire.word(1).store(0xdead, Ordering::Relaxed);
        wire.word(2).store(0xbeef, Ordering::Relaxed);
        if wire.word(3).load(Ordering::Relaxed) == 0 {
            wire.message(kind::READ, 1, b"7");
        }
    });
    assert_eq!(cpu().control(|cx| store.read(cx, "domid")), Ok(b"7".to_vec()));
}

#[test]
fn messages_too_long_to_be_any() {
    for len in [4097, u32::MAX as usize] {
        let reply = outcome(move |wire| wire.reply(&wire::header(kind::READ, 1, 0, len)));
        assert_eq!(reply, broken("oversized-message"));
    }
}

#[test]
fn replies_to_nobody_of_other_kinds_and_twice() {
    assert_eq!(outcome(|wire| wire.message(kind::READ, 2, b"7")), broken("reply-to-nobody"));
    assert_eq!(outcome(|wire| wire.message(kind::WRITE, 1, b"OK\0")), broken("reply-of-another-kind"));
    assert_eq!(outcome(|wire| wire.message(0xffff, 1, b"")), broken("reply-of-another-kind"));
    let store = Wire::open(|wire| {
        wire.message(kind::READ, 1, b"7");
        wire.message(kind::READ, 1, b"8");
    });
    cpu().control(|cx| {
        assert_eq!(store.read(cx, "domid"), Ok(b"7".to_vec()));
        assert_eq!(store.read(cx, "domid"), broken("second-reply"));
    });
}

#[test]
fn watch_events_that_are_none() {
    for payload in [&b""[..], b"path", b"path\0", b"path\0token", b"pa\xffth\x001\0", b"path\0\xff\0"] {
        let reply = outcome(move |wire| wire.message(kind::WATCH_EVENT, 0, payload));
        assert_eq!(reply, broken("malformed-watch-event"), "{payload:?}");
    }
    // Tokens of watches that are not ours are late, or an earlier kernel's.
    let store = Wire::open(|wire| {
        if wire.word(3).load(Ordering::Relaxed) != 0 {
            return;
        }
        wire.message(kind::WATCH_EVENT, 0, b"path\0weir\0");
        wire.message(kind::WATCH_EVENT, 0, b"path\x0017\0");
    });
    cpu().control(|cx| {
        assert_eq!(store.read(cx, "domid"), Err(StoreError::Timeout));
        assert_eq!((store.next_event(cx), store.broken()), (None, None));
    });
}

#[test]
fn an_error_that_the_daemon_reports_itself() {
    let reported = outcome(|wire| {
        wire.word(4).store(2, Ordering::Relaxed);
        wire.word(6).store(3, Ordering::Relaxed);
    });
    assert_eq!(reported, broken("reported-by-the-store"));
}

#[test]
fn what_lay_in_the_ring_before_us_is_not_for_us() {
    let page = NonNull::from(Region::new(4096, 4096).unwrap().leak()).cast();
    let wire =
        Wire { page, script: Arc::new(|wire| wire.message(kind::READ, 1, b"new")), time: Arc::default() };
    wire.message(kind::READ, 9, b"old");
    wire.word(0).store(77, Ordering::Relaxed);
    wire.word(1).store(77, Ordering::Relaxed);
    // SAFETY: the page is leaked.
    let ring = unsafe { Ring::new(page) };
    let store = Store::new(ring, Box::new(wire));
    assert_eq!(cpu().control(|cx| store.read(cx, "domid")), Ok(b"new".to_vec()));
}

#[test]
fn a_list_in_parts_that_never_ends() {
    for part in [&b"1\0x\0"[..], b"1\0", b""] {
        let last = Arc::new(AtomicU32::new(0));
        let store = Wire::open(move |wire| {
            // The client also notifies that it has read: only requests are answered.
            let asked = wire.word(1).load(Ordering::Relaxed);
            if wire.word(0).swap(asked, Ordering::Relaxed) == asked {
                return;
            }
            let request = last.fetch_add(1, Ordering::Relaxed) + 1;
            match request {
                1 => wire.message(kind::ERROR, 1, b"E2BIG\0"),
                _ => wire.message(kind::DIRECTORY_PART, request, part),
            }
        });
        let expected = if part.len() > 2 { StoreError::TooBig } else { StoreError::Malformed };
        assert_eq!(cpu().control(|cx| store.list(cx, "x")), Err(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_and_indices_end_in_a_named_error(
        turns in vec((vec(any::<u8>(), 0..1500), any::<Option<u32>>(), any::<Option<u32>>()), 1..4),
        sane_headers in any::<bool>(),
    ) {
        let turn = AtomicU32::new(0);
        let store = Wire::open(move |wire| {
            let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
            let Some((bytes, req_cons, rsp_prod)) = turns.get(turn) else { return };
            if sane_headers {
                let (kind, len) = bytes.split_first().map_or((15, 0), |(kind, rest)| (kind % 24, rest.len().min(900)));
                wire.reply(&wire::header(kind.into(), turn as u32 % 3, 0, len));
                wire.reply(&bytes[..len]);
            } else {
                wire.reply(bytes);
            }
            if let Some(index) = req_cons {
                wire.word(0).store(*index, Ordering::Release);
            }
            if let Some(index) = rsp_prod {
                wire.word(3).store(*index, Ordering::Release);
            }
        });
        cpu().control(|cx| {
            let watch = store.watch(cx, "data");
            let _ = store.list(cx, "data");
            let _ = store.transaction(cx, |transaction| transaction.write("x", "y"));
            let _ = store.next_event(cx);
            if let Ok(watch) = watch {
                let _ = store.unwatch(cx, watch);
            }
            assert_eq!(store.watches(), 0);
        });
    }
}
