//! Bytes that their sender reads on: no copy, no change, and the slot is free when both sides have let go, in whichever
//! order, and whoever dies.
//!
//! Seen to fail on these mutants of core: `lend` without a look at the peer's state word (an old peer sees state 3); `lend`
//! that takes a lent slot for a fault (the second flight ends the session); `accept` that refuses a lent slot;
//! `free_beside` that frees a lent slot at once (it is written while it is read), or that never frees it (it leaks); a
//! reaper without `give_up_for_dead` (slots leak); a descriptor without the slice's offset.

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{HeapEndpoint, HeapLink, HeapRegion, endpoint, leaked, pair, pair_and_region};
use rapace_shm_core::PeerFault;
use rapace_shm_core::layout::{
    At, MsgDescHot, PeerState, SegmentHeader, SegmentOffsets, ShmSessionConfig, SlotMeta, SlotState,
};
use rapace_shm_core::link::{Frozen, Link, Message, SendError};
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::Step;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 };
const DATA: MsgDescHot = MsgDescHot::data(1);

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| i.to_le_bytes()[0]).collect()
}

fn frozen(link: &mut HeapLink, len: usize) -> Frozen<HeapEndpoint> {
    let mut loan = link.split().0.try_loan(len).unwrap();
    loan.copy_from_slice(&bytes(len));
    loan.freeze()
}

fn receive(link: &mut HeapLink) -> Message<HeapEndpoint> {
    link.split().1.try_recv().unwrap().expect("a message is there")
}

/// Allocated, in flight, lent.
fn census(link: &HeapLink) -> (u32, u32, u32) {
    let slots = link.status().slots;
    (slots.allocated, slots.in_flight, slots.lent)
}

#[test]
fn both_sides_read_the_same_bytes_at_the_same_time() {
    let (mut a, mut b) = pair(CONFIG);
    let kept = frozen(&mut a, 40);
    assert_eq!((kept.len(), kept.is_empty(), census(&a)), (40, false, (1, 0, 0)));
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    assert_eq!(census(&a), (0, 0, 1));
    assert_eq!(a.status().slots.to_string(), "3 slots: 2 free, 0 allocated, 0 in flight, 1 lent");
    let received = receive(&mut b);
    assert_eq!((received.payload(), &kept[..]), (&bytes(40)[..], &bytes(40)[..]));
    assert_eq!(received.payload().as_ptr(), kept.as_ptr(), "it was not copied");
    assert_eq!(received.into_payload().slot(), Some(kept.slot()));
}

#[test]
fn the_slot_is_free_when_both_have_let_go_in_whichever_order() {
    let (mut a, mut b) = pair(CONFIG);
    // The sender first, before the receiver has even looked.
    let kept = frozen(&mut a, 40);
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    drop(kept);
    assert_eq!(census(&a), (0, 1, 0));
    let received = receive(&mut b);
    assert_eq!(received.payload(), bytes(40));
    drop(received);
    assert_eq!(leaked(&a), 0);
    // The sender first, while the receiver reads.
    let kept = frozen(&mut a, 40);
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    let payload = receive(&mut b).into_payload();
    drop(kept);
    assert_eq!((census(&a), &payload[..]), ((0, 1, 0), &bytes(40)[..]));
    drop(payload);
    assert_eq!(leaked(&a), 0);
    // The receiver first.
    let kept = frozen(&mut a, 40);
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    drop(receive(&mut b));
    assert_eq!((census(&a), &kept[..]), ((1, 0, 0), &bytes(40)[..]));
    drop(kept);
    assert_eq!(leaked(&a), 0);
    // Never sent.
    drop(frozen(&mut a, 40));
    assert_eq!(leaked(&a), 0);
}

#[test]
fn nobody_gets_the_slot_while_one_side_reads_it() {
    let (mut a, mut b) = pair(CONFIG);
    let kept = frozen(&mut a, 64);
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    let payload = receive(&mut b).into_payload();
    for link in [&mut a, &mut b] {
        let mut others = [link.split().0.try_loan(64).unwrap(), link.split().0.try_loan(64).unwrap()];
        others.iter_mut().for_each(|loan| loan.fill(0xFF));
        assert_eq!(link.split().0.try_loan(64).unwrap_err(), SendError::NoSlot);
    }
    assert_eq!((&kept[..], &payload[..]), (&bytes(64)[..], &bytes(64)[..]));
}

#[test]
fn what_has_come_back_is_sent_again_without_a_copy_and_what_is_in_flight_with_one() {
    let (mut a, mut b) = pair(CONFIG);
    let kept = frozen(&mut a, 40);
    for _ in 0..3 {
        a.split().0.try_send_frozen(&DATA, &kept).unwrap();
        assert_eq!(receive(&mut b).payload().as_ptr(), kept.as_ptr());
    }
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    assert_eq!(census(&a), (0, 1, 1));
    let both = [receive(&mut b), receive(&mut b)];
    assert_eq!(both[0].payload().as_ptr(), kept.as_ptr());
    assert_ne!(both[1].payload().as_ptr(), kept.as_ptr());
    assert!(both.iter().all(|message| message.payload() == bytes(40)));
    drop((both, kept));
    assert_eq!(leaked(&a), 0);
}

#[test]
fn a_copy_that_finds_no_slot_waits_for_one_and_the_bytes_stay() {
    let (mut a, mut b) = pair(CONFIG);
    let kept = frozen(&mut a, 64);
    let (tx, _) = a.split();
    for _ in 0..3 {
        tx.try_send_frozen(&DATA, &kept).unwrap();
    }
    assert_eq!(tx.try_send_frozen(&DATA, &kept), Err(SendError::NoSlot));
    assert!(matches!(tx.poll_send_frozen(&DATA, kept.all()), Ok(Step::Sleep(_))));
    drop(receive(&mut b));
    assert!(matches!(tx.poll_send_frozen(&DATA, kept.all()), Ok(Step::Ready(()))));
    tx.try_send(&DATA, b"").unwrap();
    assert_eq!(tx.try_send_frozen(&DATA, &kept), Err(SendError::Full));
    (0..3).for_each(|_| assert_eq!(receive(&mut b).payload(), bytes(64)));
    drop(kept);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn part_of_it_is_sent_from_where_it_lies() {
    let (mut a, mut b) = pair(CONFIG);
    let kept = frozen(&mut a, 60);
    for range in [(0, 20), (7, 24), (43, 60), (30, 60)] {
        let slice = kept.slice(range.0..range.1).unwrap();
        assert_eq!((slice.len(), slice.is_empty()), (range.1 - range.0, false));
        a.split().0.try_send_frozen(&DATA, slice).unwrap();
        let received = receive(&mut b);
        assert_eq!(received.descriptor().payload_offset as usize, range.0);
        assert_eq!(received.payload(), &bytes(60)[range.0..range.1]);
        assert_eq!(received.payload().as_ptr(), kept[range.0..].as_ptr());
    }
    #[allow(clippy::reversed_empty_ranges)] // they must be refused
    for outside in [0..61, 61..61, 5..4, usize::MAX..0, 1..usize::MAX] {
        assert!(kept.slice(outside).is_none());
    }
    // Short ones go inside the descriptor, and the slot stays here.
    for len in 0..=16 {
        a.split().0.try_send_frozen(&DATA, kept.slice(3..3 + len).unwrap()).unwrap();
        let received = receive(&mut b);
        assert!(received.descriptor().is_inline() && received.payload() == &bytes(60)[3..3 + len]);
        assert_eq!(census(&a), (1, 0, 0));
    }
}

#[test]
fn an_old_peer_gets_a_copy_and_never_sees_a_state_it_does_not_know() {
    let (mut a, mut b, region) = pair_and_region(CONFIG);
    let kept = frozen(&mut a, 40);
    for state in [PeerState::Unknown, PeerState::Vacant] {
        region.u32(SegmentHeader::PEER_B_STATE).store(state as u32, Ordering::Relaxed);
        a.split().0.try_send_frozen(&DATA, &kept).unwrap();
        assert_eq!(census(&a), (1, 1, 0));
        let received = receive(&mut b);
        assert_eq!((received.payload(), received.descriptor().payload_offset), (&bytes(40)[..], 0));
        assert_ne!(received.payload().as_ptr(), kept.as_ptr());
    }
    drop(kept);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn frozen_bytes_of_another_session_are_refused() {
    let (mut a, _b) = pair(CONFIG);
    let (mut c, mut d) = pair(CONFIG);
    for len in [8, 40] {
        let kept = frozen(&mut c, len);
        assert_eq!(a.split().0.try_send_frozen(&DATA, &kept), Err(SendError::ForeignLoan));
        // The peer's are foreign, too: it is the peer who holds them.
        assert_eq!(d.split().0.try_send_frozen(&DATA, &kept), Err(SendError::ForeignLoan));
    }
    assert_eq!(leaked(&c), 0);
}

#[test]
fn a_receiver_that_goes_leaves_what_it_did_not_take_to_the_sender() {
    let (mut a, b) = pair(CONFIG);
    let kept = frozen(&mut a, 40);
    a.split().0.try_send_frozen(&DATA, &kept).unwrap();
    drop(b);
    assert_eq!((census(&a), &kept[..]), ((1, 0, 0), &bytes(40)[..]));
    assert_eq!(a.split().0.try_send_frozen(&DATA, &kept), Err(SendError::Closed));
    drop(kept);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn a_dead_receivers_share_is_the_senders_again_and_sent_to_its_successor_without_a_copy() {
    let (mut a, mut b, region) = pair_and_region(CONFIG);
    let [held, on_the_way] = [frozen(&mut a, 40), frozen(&mut a, 40)];
    a.split().0.try_send_frozen(&DATA, &held).unwrap();
    let received = receive(&mut b);
    a.split().0.try_send_frozen(&DATA, &on_the_way).unwrap();
    std::mem::forget((b, received));
    assert_eq!(a.reset(), Ok(2));
    assert_eq!((census(&a), &held[..]), ((2, 0, 0), &bytes(40)[..]));
    let mut b = Link::attach(endpoint(&region, 3)).unwrap();
    a.split().0.try_send_frozen(&DATA, &held).unwrap();
    assert_eq!(receive(&mut b).payload().as_ptr(), held.as_ptr());
    drop((held, on_the_way));
    assert_eq!(leaked(&a), 0);
}

#[test]
fn what_a_dead_sender_lent_is_free_when_its_receiver_lets_go() {
    let (mut a, mut b, region) = pair_and_region(CONFIG);
    let kept = [frozen(&mut a, 40), frozen(&mut a, 40)];
    kept.iter().for_each(|kept| a.split().0.try_send_frozen(&DATA, kept).unwrap());
    let received = receive(&mut b);
    std::mem::forget((a, kept));
    assert_eq!(b.reset(), Ok(2), "one lent to B, one on the way");
    assert_eq!((census(&b), received.payload()), ((0, 1, 0), &bytes(40)[..]));
    let a = Link::attach(endpoint(&region, 3)).unwrap();
    drop(received);
    assert_eq!(leaked(&a), 0);
}

/// Where a slot's generation and state are.
fn meta(region: &HeapRegion, slot: u32) -> (&HeapRegion, At<u64>) {
    let offsets = SegmentOffsets::calculate(&CONFIG).unwrap();
    (region, At::new(offsets.slot_meta + slot as usize * size_of::<SlotMeta>()))
}

#[test]
fn a_lent_slot_that_somebody_rewrote_is_a_fault() {
    for (generation, state) in [(1, SlotState::Free), (1, SlotState::InFlight), (9, SlotState::Lent)] {
        let (mut a, _b, region) = pair_and_region(CONFIG);
        let kept = frozen(&mut a, 40);
        a.split().0.try_send_frozen(&DATA, &kept).unwrap();
        let (region, at) = meta(&region, kept.slot().reference);
        region.u64(at).store(SlotMeta::new(generation, state).to_word(), Ordering::Relaxed);
        assert!(matches!(a.split().0.try_send_frozen(&DATA, &kept), Err(SendError::PeerFault(_))));
        assert!(matches!(a.split().0.try_send(&DATA, b""), Err(SendError::PeerFault(_))), "it stays closed");
    }
    let (mut a, _b, region) = pair_and_region(CONFIG);
    let kept = frozen(&mut a, 40);
    let (region, at) = meta(&region, kept.slot().reference);
    region.u64(at).store(SlotMeta::new(9, SlotState::Lent).to_word(), Ordering::Relaxed);
    drop(kept);
    let fault = PeerFault::Tampered { slot: 0 };
    assert_eq!(a.split().0.try_send(&DATA, b""), Err(SendError::PeerFault(fault)));
}

/// Two threads on both sides, each letting go when it pleases.
#[test]
fn letting_go_at_once_on_both_sides_frees_the_slot_once() {
    const ROUNDS: u64 = 5_000;
    let (mut a, mut b) = pair(CONFIG);
    // Each owns its side, so that the other one sees the end if it fails.
    let sender = std::thread::spawn(move || {
        for number in 0..ROUNDS {
            let mut loan = retry(|| a.split().0.try_loan(40));
            loan.fill(number.to_le_bytes()[0]);
            let kept = loan.freeze();
            retry(|| a.split().0.try_send_frozen(&MsgDescHot::data(number), &kept));
            assert!(kept.iter().all(|byte| *byte == number.to_le_bytes()[0]));
        }
        a
    });
    let start = Instant::now();
    for number in 0..ROUNDS {
        let message = loop {
            match b.split().1.try_recv().unwrap() {
                Some(message) => break message,
                None => std::thread::yield_now(),
            }
            assert!(start.elapsed() < Duration::from_secs(60), "message {number} does not come: slots are lost");
        };
        assert!(message.payload().iter().all(|byte| *byte == number.to_le_bytes()[0]));
    }
    assert_eq!(leaked(&sender.join().unwrap()), 0);
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T, SendError>) -> T {
    loop {
        match attempt() {
            Err(SendError::Full | SendError::NoSlot) => std::thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}
