use super::ring::RING;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use weir_sync::Cpu;
use weir_sync::cpu::claim_any;

mod hostile;

fn cpu() -> Cpu {
    loop {
        if let Some(cpu) = claim_any() {
            return cpu;
        }
        std::thread::yield_now();
    }
}

fn changed(watch: &Watch, path: &str) -> Option<Event> {
    Some(Event::Changed { token: watch.token(), path: path.into() })
}

#[test]
fn writes_reads_lists_and_removes() {
    let (store, peer) = Store::simulated();
    cpu().control(|cx| {
        assert_eq!(store.read_number(cx, "domid"), Ok(Some(1)));
        assert_eq!(store.read(cx, "data/x"), Err(StoreError::NotFound));
        assert_eq!(store.read_number(cx, "data/x"), Ok(None));
        store.write(cx, "data/x", "42").unwrap();
        store.write(cx, "data/y", [0xff, 0, 1]).unwrap();
        assert_eq!(peer.read_text("/local/domain/1/data/x").as_deref(), Some("42"));
        assert_eq!(store.read_text(cx, "/local/domain/1/data/x").as_deref(), Ok("42"));
        assert_eq!(store.read_number(cx, "data/x"), Ok(Some(42)));
        assert_eq!(store.read(cx, "data/y"), Ok(vec![0xff, 0, 1]));
        assert_eq!(store.read_text(cx, "data/y"), Err(StoreError::Malformed));
        assert_eq!(store.read_number(cx, "data/y"), Err(StoreError::Malformed));
        assert_eq!(store.list(cx, "data"), Ok(vec!["x".into(), "y".into()]));
        assert_eq!(store.list(cx, "data/x"), Ok(vec![]));
        assert_eq!(store.list(cx, "nothing"), Err(StoreError::NotFound));
        store.remove(cx, "data").unwrap();
        store.remove(cx, "data").unwrap();
        store.remove(cx, "data/x").unwrap();
        assert_eq!(peer.list("/local/domain/1"), ["domid"]);
    });
}

#[test]
fn an_empty_value_is_a_value_and_no_number() {
    let (store, _peer) = Store::simulated();
    cpu().control(|cx| {
        store.write(cx, "data", "").unwrap();
        assert_eq!(store.read(cx, "data"), Ok(vec![]));
        assert_eq!(store.read_number(cx, "data"), Err(StoreError::Malformed));
        store.write(cx, "data", "+7").unwrap();
        assert_eq!(store.read_number(cx, "data"), Err(StoreError::Malformed));
    });
}

#[test]
fn what_the_store_refuses_has_a_name() {
    let (store, peer) = Store::simulated();
    peer.write("/local/domain/1/secret/key", "x");
    peer.deny("/local/domain/1/secret");
    cpu().control(|cx| {
        assert_eq!(store.write(cx, "/local/domain/0/x", "1"), Err(StoreError::Denied));
        assert_eq!(store.read(cx, "secret/key"), Err(StoreError::Denied));
        assert_eq!(store.write(cx, "data", vec![0; 4096]), Err(StoreError::TooBig));
        for path in
            ["", "a//b", "a/", "a b", "a\0b", "/ü", &"x".repeat(2048), &format!("/{}", "x".repeat(3071))]
        {
            assert_eq!(store.read(cx, path), Err(StoreError::Invalid), "{path:?}");
            assert_eq!(store.watch(cx, path), Err(StoreError::Invalid), "{path:?}");
        }
        assert_eq!(store.request(cx, 99, 0, &[b"x\0"]), Err(StoreError::Unsupported));
        assert_eq!((store.broken(), store.watches()), (None, 0));
    });
}

#[test]
fn messages_longer_than_the_ring_pass() {
    let (store, _peer) = Store::simulated();
    cpu().control(|cx| {
        for round in 0..20_u8 {
            let value: Vec<u8> = (0..4000_u32).map(|byte| (byte as u8).wrapping_add(round)).collect();
            store.write(cx, "data/long", &value).unwrap();
            assert_eq!(store.read(cx, "data/long"), Ok(value));
        }
    });
}

#[test]
fn long_lists_come_in_parts() {
    let (store, peer) = Store::simulated();
    let names: Vec<String> = (0..700).map(|number| format!("a-longer-name-{number:05}")).collect();
    names.iter().for_each(|name| peer.write(&format!("/local/domain/1/data/{name}"), ""));
    assert_eq!(cpu().control(|cx| store.list(cx, "data")), Ok(names));
}

#[test]
fn a_watch_fires_at_once_at_changes_and_not_after_its_end() {
    let (store, peer) = Store::simulated();
    cpu().control(|cx| {
        let near = store.watch(cx, "device").unwrap();
        let far = store.watch(cx, "/local/domain/0/backend").unwrap();
        assert_eq!(store.next_event(cx), changed(&near, "device"));
        assert_eq!(store.next_event(cx), changed(&far, "/local/domain/0/backend"));
        assert_eq!(store.next_event(cx), None);
        peer.write("/local/domain/0/backend/vif/1/0/state", "2");
        peer.write("/local/domain/0/other", "2");
        store.write(cx, "device/vif/0/state", "1").unwrap();
        assert_eq!(store.next_event(cx), changed(&far, "/local/domain/0/backend/vif/1/0/state"));
        assert_eq!(store.next_event(cx), changed(&near, "device/vif/0/state"));
        assert_eq!(store.next_event(cx), None);
        peer.remove("/local/domain/0");
        assert_eq!(store.next_event(cx), changed(&far, "/local/domain/0/backend"));
        assert_eq!((store.watches(), peer.watches()), (2, 2));
        peer.write("/local/domain/0/backend/x", "");
        store.unwatch(cx, far).unwrap();
        store.unwatch(cx, near).unwrap();
        peer.write("/local/domain/0/backend/x", "1");
        assert_eq!(store.next_event(cx), None);
        assert_eq!((store.watches(), peer.watches()), (0, 0));
    });
}

#[test]
fn too_many_events_become_one() {
    let (store, peer) = Store::simulated();
    cpu().control(|cx| {
        let watch = store.watch(cx, "data").unwrap();
        assert_eq!(store.next_event(cx), changed(&watch, "data"));
        (0..10).for_each(|_| peer.write("/local/domain/1/data/same", "x"));
        for number in 1..super::client::EVENTS {
            peer.write(&format!("/local/domain/1/data/{number}"), "x");
        }
        store.read(cx, "domid").unwrap();
        assert_eq!(store.next_event(cx), changed(&watch, "data/same"));
        let rest = std::iter::from_fn(|| store.next_event(cx)).count();
        assert_eq!(rest, super::client::EVENTS - 1);
        for number in 0..2 * super::client::EVENTS {
            peer.write(&format!("/local/domain/1/data/{number}"), "x");
        }
        store.read(cx, "domid").unwrap();
        assert_eq!(store.next_event(cx), Some(Event::Overflow));
        assert_eq!(store.next_event(cx), None);
        peer.write("/local/domain/1/data/after", "x");
        assert_eq!(store.next_event(cx), changed(&watch, "data/after"));
        store.unwatch(cx, watch).unwrap();
    });
}

#[test]
fn a_transaction_happens_as_a_whole_or_not_at_all() {
    let (store, peer) = Store::simulated();
    cpu().control(|cx| {
        let watch = store.watch(cx, "data").unwrap();
        store.next_event(cx);
        let read = store.transaction(cx, |transaction| {
            transaction.write("data/a", "1")?;
            transaction.write("data/b", "2")?;
            assert_eq!(peer.read("/local/domain/1/data/a"), None);
            assert_eq!(store.read(cx, "data/a"), Err(StoreError::NotFound));
            assert_eq!(transaction.list("data"), Ok(vec!["a".into(), "b".into()]));
            transaction.read_number("data/b")
        });
        assert_eq!(read, Ok(Some(2)));
        assert_eq!(store.next_event(cx), changed(&watch, "data/a"));
        assert_eq!(store.next_event(cx), changed(&watch, "data/b"));
        let failed = store.transaction(cx, |transaction| {
            transaction.remove("data")?;
            transaction.read_text("nothing")
        });
        assert_eq!(failed, Err(StoreError::NotFound));
        assert_eq!(store.read_number(cx, "data/a"), Ok(Some(1)));
        assert_eq!((store.next_event(cx), peer.transactions()), (None, 0));
        store.unwatch(cx, watch).unwrap();
    });
}

#[test]
fn a_transaction_runs_again_after_a_conflict_but_not_for_ever() {
    let (store, peer) = Store::simulated();
    cpu().control(|cx| {
        let mut conflicts = 3;
        let done = store.transaction(cx, |transaction| {
            let seen = transaction.read_number("data/count")?.unwrap_or(0);
            if conflicts > 0 {
                conflicts -= 1;
                peer.write("/local/domain/1/data/count", (seen + 10).to_string());
            }
            transaction.write("data/count", (seen + 1).to_string())
        });
        assert_eq!((done, store.read_number(cx, "data/count")), (Ok(()), Ok(Some(31))));
        let mut tries = 0;
        let never = store.transaction(cx, |transaction| {
            tries += 1;
            peer.write("/local/domain/1/data/count", "0");
            transaction.write("data/count", "1")
        });
        assert_eq!((never, tries), (Err(StoreError::Again), 16));
        assert_eq!((store.read_number(cx, "data/count"), peer.transactions()), (Ok(Some(0)), 0));
    });
}

#[test]
fn a_store_that_never_answers_times_out_and_its_late_answer_is_nobodys() {
    let (store, peer) = Store::simulated();
    peer.skip_waits();
    cpu().control(|cx| {
        peer.mute(true);
        assert_eq!(store.read(cx, "domid"), Err(StoreError::Timeout));
        assert_eq!(store.write(cx, "data", "late"), Err(StoreError::Timeout));
        assert_eq!(store.watch(cx, "data"), Err(StoreError::Timeout));
        assert_eq!(store.watches(), 0);
        peer.mute(false);
        assert_eq!(store.read_text(cx, "data").as_deref(), Ok("late"));
        assert_eq!((store.next_event(cx), store.broken()), (None, None));
        peer.mute(true);
        for _ in 0..300 {
            assert_eq!(store.read(cx, "domid"), Err(StoreError::Timeout));
        }
        peer.mute(false);
        // What was queued then is answered now, to nobody.
        let answered = (0..2).map(|_| store.read_number(cx, "domid")).last();
        assert!(matches!(answered, Some(Ok(Some(1)) | Err(StoreError::Timeout))));
        store.next_event(cx);
        assert_eq!(store.read_number(cx, "domid"), Ok(Some(1)));
    });
}

#[test]
fn waits_for_a_value_until_its_limit_and_leaves_other_events() {
    let (store, peer) = Store::simulated();
    peer.skip_waits();
    cpu().control(|cx| {
        let other = store.watch(cx, "device").unwrap();
        peer.on_change("/local/domain/1/device/vif/0/state", |peer, path| {
            if peer.read_text(path).as_deref() == Some("3") {
                peer.write("/local/domain/0/backend/vif/1/0/state", "4");
            }
        });
        let state = "/local/domain/0/backend/vif/1/0/state";
        let connected = |value: Option<&[u8]>| (value == Some(b"4")).then_some(());
        assert_eq!(store.wait_for(cx, state, SECOND, connected), Err(StoreError::Timeout));
        store.write(cx, "device/vif/0/state", "3").unwrap();
        assert_eq!(store.wait_for(cx, state, SECOND, connected), Ok(()));
        peer.deny("/local/domain/0/backend");
        assert_eq!(store.wait_for(cx, state, SECOND, connected), Err(StoreError::Denied));
        assert_eq!((store.watches(), peer.watches()), (1, 1));
        assert_eq!(store.next_event(cx), changed(&other, "device"));
        assert_eq!(store.next_event(cx), changed(&other, "device/vif/0/state"));
        assert_eq!(store.next_event(cx), None);
        store.unwatch(cx, other).unwrap();
    });
}

#[test]
fn a_backend_in_a_thread_is_waited_for() {
    let (store, peer) = Store::simulated();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(core::time::Duration::from_millis(5));
            peer.write("/local/domain/0/state", "4");
        });
        let found = cpu().control(|cx| {
            store.wait_for(cx, "/local/domain/0/state", 10 * SECOND, |value| value.map(<[u8]>::to_vec))
        });
        assert_eq!(found, Ok(b"4".to_vec()));
    });
}

#[test]
fn many_tasks_share_the_connection() {
    let (store, peer) = Store::simulated();
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                cpu().control(|cx| {
                    for turn in 0..50_u64 {
                        let path = format!("data/{number}");
                        store.write(cx, &path, turn.to_string()).unwrap();
                        assert_eq!(store.read_number(cx, &path), Ok(Some(turn)));
                        let add = |transaction: &Transaction<'_>| {
                            let count = transaction.read_number("count")?.unwrap_or(0);
                            transaction.write("count", (count + 1).to_string())
                        };
                        while store.transaction(cx, add) != Ok(()) {}
                    }
                })
            });
        }
    });
    assert_eq!(peer.read_text("/local/domain/1/count").as_deref(), Some("200"));
    assert_eq!((store.broken(), peer.transactions()), (None, 0));
}

#[test]
fn arrivals_raise_the_softint_that_was_named() {
    let (store, peer) = Store::simulated();
    let cpu = cpu();
    assert_eq!(store.interrupt(), Interrupt { cpu: weir_sync::CpuId::BOOT, bit: crate::interrupt::STORE });
    let target = Interrupt { cpu: cpu.id(), bit: 50 };
    peer.announce(target);
    assert_eq!(store.interrupt(), target);
}
