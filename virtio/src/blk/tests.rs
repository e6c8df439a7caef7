use super::*;
use crate::simulated::{Chain, Simulated, State};
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;
use virtio_spec::net;
use weir_sync::cpu;

/// Read-only, with a cache, behind an IOMMU.
const OFFERED: F = F::VERSION_1.union(F::ACCESS_PLATFORM).union(F::RO).union(F::FLUSH);
const SECTORS: u64 = 20;

/// The byte at `at` of the disk.
fn content(at: u64) -> u8 {
    (at / SECTOR * 7 + at) as u8
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// A device with 20 sectors that answers requests by `answer`.
fn device(mut answer: impl FnMut(&mut State, usize, Chain) + Send + 'static) -> Simulated {
    let device = Simulated::new(net::F::from_bits_retain(OFFERED.bits()), 0, 128);
    let mut state = device.state();
    state.config = vec![0; 60];
    state.config[..8].copy_from_slice(&SECTORS.to_le_bytes());
    state.reaction = Some(Box::new(move |state, queue| {
        while let Some(chain) = state.take(queue) {
            answer(state, queue, chain);
        }
    }));
    drop(state);
    device
}

/// What an honest device does: data, answer, used entry.
fn obey(state: &mut State, queue: usize, chain: Chain) {
    respond(state, queue, &chain, OK, None);
}

fn respond(state: &mut State, queue: usize, chain: &Chain, answer: u8, used: Option<u32>) {
    let [(header, 16, false), (data, len, true), (status, 1, true)] = chain.segments[..] else {
        panic!("{chain:?}")
    };
    let mut bytes = [0; 16];
    state.bus.read_to(header, &mut bytes);
    assert_eq!(number(&bytes[..8]), 0, "type and reserved word");
    let from = number(&bytes[8..]) * SECTOR;
    assert!(from + u64::from(len) <= SECTORS * SECTOR, "reads behind the end");
    let block: Vec<u8> = (from..from + u64::from(len)).map(content).collect();
    state.bus.write(data, &block);
    state.bus.write(status, &[answer]);
    state.put(queue, chain.head.into(), used.unwrap_or(len + 1));
    state.publish(queue);
}

fn open(device: &Simulated) -> Result<Disk, Error> {
    cpu::claim_any().unwrap().control(|cx| Disk::open(cx, device.transport(), BLOCK_DEVICE))
}

fn read(disk: &mut Disk, block: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = [0xaa; BLOCK];
    disk.read(block, &mut bytes).map(|()| bytes.to_vec())
}

#[test]
fn reads_blocks_and_what_is_left_of_the_last() {
    let device = device(obey);
    let mut disk = open(&device).unwrap();
    assert_eq!((disk.len(), disk.block_size()), (SECTORS * SECTOR, 512));
    for block in [1, 0, 1, 2] {
        let from = block * BLOCK as u64;
        let expected: Vec<u8> = (from..from + BLOCK as u64)
            .map(|at| if at < SECTORS * SECTOR { content(at) } else { 0 })
            .collect();
        assert!(read(&mut disk, block).unwrap() == expected, "block {block}");
    }
    assert_eq!(read(&mut disk, 3), Err(ReadError::BeyondEnd(3, SECTORS)));
    assert_eq!(read(&mut disk, u64::MAX), Err(ReadError::BeyondEnd(u64::MAX, SECTORS)));
    assert_eq!(device.state().statuses, [0, 1, 3, 11, 15]);
    let needed = F::VERSION_1 | F::ACCESS_PLATFORM;
    assert_eq!(device.state().accepted, needed.bits().to_ne() as u64, "no feature that it does not need");
    drop(disk);
    assert!(device.is_quenched());
}

#[test]
fn an_error_of_the_device_is_not_the_end() {
    let answers = Arc::new(Mutex::new(vec![UNSUPP, IOERR]));
    let list = answers.clone();
    let device = device(move |state, queue, chain| {
        let answer = list.lock().unwrap().pop().unwrap_or(OK);
        respond(state, queue, &chain, answer, None);
    });
    let mut disk = open(&device).unwrap();
    assert_eq!(read(&mut disk, 1), Err(ReadError::Failed(1)));
    assert_eq!(read(&mut disk, 1), Err(ReadError::Unsupported));
    assert!(read(&mut disk, 1).is_ok());
}

#[test]
fn a_lie_takes_the_disk_down_for_good() {
    type Lie = fn(&mut State, usize, Chain);
    let lies: [(Violation, Lie); 7] = [
        (Violation::BlockAnswerUnknown, |state, queue, chain| respond(state, queue, &chain, 3, None)),
        (Violation::BlockAnswerUnknown, |state, queue, chain| respond(state, queue, &chain, NONE, None)),
        (Violation::UsedLengthBeyondBuffer, |state, queue, chain| {
            respond(state, queue, &chain, OK, Some(BLOCK as u32 + 2));
        }),
        (Violation::UsedIdOutOfRange, |state, queue, _| {
            state.put(queue, 4, 0);
            state.publish(queue);
        }),
        (Violation::UsedIdNotLent, |state, queue, chain| {
            state.put(queue, u32::from(chain.head) + 1, 0);
            state.publish(queue);
        }),
        (Violation::UsedIndexRunaway, |state, queue, _| state.publish_index(queue, 2)),
        (Violation::UsedIndexBackwards, |state, queue, _| state.publish_index(queue, u16::MAX)),
    ];
    for (violation, lie) in lies {
        let device = device(lie);
        let mut disk = open(&device).unwrap();
        for _ in 0..2 {
            assert_eq!(read(&mut disk, 0), Err(ReadError::Violation(violation)));
        }
        assert_eq!(device.state().queues[0].notifications, 1, "it is not asked again");
    }
}

#[test]
fn a_disk_that_does_not_answer_is_given_up() {
    let device = device(|_, _, _| ());
    let mut disk = open(&device).unwrap();
    let start = clock::now();
    assert_eq!(read(&mut disk, 0), Err(ReadError::Violation(Violation::BlockTimeout)));
    assert!(clock::now() - start >= TIMEOUT_NS);
    device.state().never_resets = true;
    drop(disk);
    assert!(device.state().isolated, "what it was lent stays lost");
}

#[test]
fn says_why_a_disk_cannot_be_opened() {
    let refusal = |spoil: fn(&mut State)| {
        let device = device(obey);
        spoil(&mut device.state());
        let error = open(&device).err().unwrap();
        assert!(device.state().never_resets || device.is_quenched(), "{error}");
        error
    };
    assert_eq!(refusal(|state| state.offered = 0), Error::NotVersion1);
    let stuck: fn(&mut State) = |state| (state.status, state.never_resets) = (15, true);
    assert_eq!(refusal(stuck), Error::ResetTimeout);
    assert!(matches!(refusal(|state| state.refuses_features = true), Error::FeaturesRefused(_)));
    assert_eq!(refusal(|state| state.config.truncate(7)), Error::Malformed("the capacity of the disk"));
    assert_eq!(refusal(|state| state.announced = Some(0)), Error::QueueMissing(0));
    assert_eq!(refusal(|state| state.queues[0].offered = 0), Error::QueueMissing(0));
    assert_eq!(refusal(|state| state.queues[0].offered = 2), Error::QueueSize(0, 2));
    assert_eq!(refusal(|state| state.generation_runs = true), Error::Violation(Violation::ConfigNeverStable));
    let sized: fn(&mut State) = |state| state.offered |= F::BLK_SIZE.bits().to_ne() as u64;
    assert_eq!(refusal(sized), Error::BlockSize(0));
    let network = cpu::claim_any().unwrap().control(|cx| Disk::open(cx, device(obey).transport(), 1));
    assert_eq!(network.err().unwrap(), Error::NotBlock(1));
}

#[test]
fn takes_disks_with_large_blocks() {
    for (size, fits) in [(512, true), (4096, true), (8192, false), (513, false)] {
        let device = device(obey);
        device.state().offered |= F::BLK_SIZE.bits().to_ne() as u64;
        device.state().config[BLK_SIZE..][..4].copy_from_slice(&u32::to_le_bytes(size));
        match open(&device) {
            Ok(disk) => assert!(fits && disk.block_size() == size),
            Err(error) => assert!(!fits && error == Error::BlockSize(size), "{error}"),
        }
    }
}
