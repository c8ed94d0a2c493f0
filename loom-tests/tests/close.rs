//! The end: it comes after everything that was sent, and it reaches whoever sleeps.

use loom::thread;
use rapace_shm_core::layout::{DescRingHeader, MsgDescHot, PeerState, SegmentHeader, SegmentOffsets, ShmSessionConfig};
use rapace_shm_core::link::{RecvError, SendError};
use rapace_shm_core::region::{InRegion, Region, Word};
use rapace_shm_loom_tests::{Barrier, Mutation, Peers, check, killed, receive, send};

const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 1, slot_size: 20, slot_count: 1 };
const LONG: [u8; 20] = [7; 20];

const fn ring() -> usize {
    match SegmentOffsets::calculate(&ONE_SLOT) {
        Ok(offsets) => offsets.a_to_b_ring,
        Err(_) => panic!(),
    }
}

const PRODUCER_STATE: usize = DescRingHeader::PRODUCER_STATE.within(ring()).offset();

/// A sends one message and closes; B receives until the end.
fn sender_closes(peers: Peers) {
    let (a, b) = peers.connect(ONE_SLOT);
    let (mut to_b, from_b) = a.into_split();
    let (to_a, mut from_a) = b.into_split();
    let receiving = thread::spawn(move || {
        assert_eq!(receive(&mut from_a).expect("the message comes before the end").descriptor().msg_id, 1);
        assert_eq!(receive(&mut from_a).unwrap_err(), RecvError::Closed);
        from_a
    });
    to_b.try_send(&MsgDescHot::data(1), b"last words").unwrap();
    to_b.close();
    let from_a = receiving.join().unwrap();
    drop((to_b, from_b, to_a, from_a));
}

/// A sends one message and closes; B looks once and does not sleep.
fn sender_closes_unwatched(peers: Peers) {
    let (a, b) = peers.connect(ONE_SLOT);
    let (mut to_b, from_b) = a.into_split();
    let (to_a, mut from_a) = b.into_split();
    let receiving = thread::spawn(move || {
        assert!(from_a.try_recv().is_ok(), "the end came before the message");
        from_a
    });
    to_b.try_send(&MsgDescHot::data(1), b"last words").unwrap();
    to_b.close();
    let from_a = receiving.join().unwrap();
    drop((to_b, from_b, to_a, from_a));
}

/// The ring is full and A waits for space; B closes.
fn receiver_closes_without_space(peers: Peers) {
    let (a, b) = peers.connect(ONE_SLOT);
    let (mut to_b, from_b) = a.into_split();
    let (to_a, mut from_a) = b.into_split();
    to_b.try_send(&MsgDescHot::data(1), b"").unwrap();
    let sending = thread::spawn(move || {
        // B's last look at the ring may make room for one more, which nobody reads.
        while send(&mut to_b, &MsgDescHot::data(2), b"") == Ok(()) {}
        assert_eq!(to_b.try_send(&MsgDescHot::data(2), b""), Err(SendError::Closed));
        to_b
    });
    from_a.close();
    let to_b = sending.join().unwrap();
    drop((to_b, from_b, to_a, from_a));
}

/// B holds the only slot, A waits for it; B closes, and keeps the slot.
fn receiver_closes_without_slots(peers: Peers) {
    let (a, b) = peers.connect(ONE_SLOT);
    let (mut to_b, from_b) = a.into_split();
    let (mut to_a, mut from_a) = b.into_split();
    let held = to_a.try_loan(20).unwrap();
    let sending = thread::spawn(move || {
        assert_eq!(send(&mut to_b, &MsgDescHot::data(1), &LONG), Err(SendError::Closed));
        to_b
    });
    from_a.close();
    let to_b = sending.join().unwrap();
    drop((held, to_b, from_b, to_a, from_a));
}

/// Two threads close the two halves of A at once; the peer has left when both have.
fn both_halves_close(peers: Peers) {
    let (a, b) = peers.connect(ONE_SLOT);
    let (mut to_b, mut from_b) = a.into_split();
    let closing = thread::spawn(move || {
        to_b.close();
        to_b
    });
    from_b.close();
    let to_b = closing.join().unwrap();
    let state = b.endpoint().region().u32(SegmentHeader::PEER_A_STATE).load(std::sync::atomic::Ordering::Acquire);
    assert_eq!(state, PeerState::Left as u32, "nobody said that A left");
    drop((to_b, from_b, b));
}

#[test]
fn a_receiver_gets_everything_and_then_the_end() {
    check(|| sender_closes(Peers::default()));
}

#[test]
fn a_sender_that_waits_for_space_learns_of_the_end() {
    check(|| receiver_closes_without_space(Peers::default()));
}

#[test]
fn a_sender_that_waits_for_a_slot_learns_of_the_end() {
    check(|| receiver_closes_without_slots(Peers::default()));
}

#[test]
fn of_two_halves_that_close_at_once_one_says_that_the_peer_left() {
    check(|| both_halves_close(Peers::default()));
}

#[test]
fn a_receiver_that_only_looks_gets_everything_before_the_end() {
    check(|| sender_closes_unwatched(Peers::default()));
}

#[test]
fn without_its_release_the_end_overtakes_the_last_message() {
    // A fence between the message and the end would do for the release; towards a heavy barrier there is none.
    let mutations = [Mutation::NoRelease(PRODUCER_STATE), Mutation::None];
    let peers = Peers { barriers: [Barrier::Registered, Barrier::Heavy], mutations, ..Peers::default() };
    killed("the end came before the message", move || sender_closes_unwatched(peers));
}

#[test]
fn without_its_acquire_the_end_overtakes_the_last_message() {
    killed("the message comes before the end", || sender_closes(Peers::b(Mutation::NoAcquire(PRODUCER_STATE))));
}

#[test]
fn without_fences_the_end_reaches_no_sleeper() {
    killed("deadlock", || sender_closes(Peers::a(Mutation::NoFence)));
    killed("deadlock", || receiver_closes_without_space(Peers::b(Mutation::NoFence)));
    killed("deadlock", || receiver_closes_without_slots(Peers::b(Mutation::NoFence)));
}

#[test]
fn without_the_wake_the_end_reaches_no_sleeper() {
    killed("deadlock", || sender_closes(Peers::a(Mutation::NoWake)));
    killed("deadlock", || receiver_closes_without_space(Peers::b(Mutation::NoWake)));
    killed("deadlock", || receiver_closes_without_slots(Peers::b(Mutation::NoWake)));
}

#[test]
fn without_the_fence_of_the_two_halves_nobody_says_that_the_peer_left() {
    killed("nobody said that A left", || both_halves_close(Peers::a(Mutation::NoFence)));
}
