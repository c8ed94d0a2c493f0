//! The wait protocol: whoever sleeps is woken, without any time-out.

use loom::thread;
use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, MsgDescHot, SegmentHeader, SegmentOffsets, ShmSessionConfig,
};
use rapace_shm_core::wake::ASLEEP;
use rapace_shm_loom_tests::{Barrier, Mutation, Peers, check, killed, loan, receive, send};

const RING_OF_ONE: ShmSessionConfig = ShmSessionConfig { ring_capacity: 1, slot_size: 20, slot_count: 1 };
const RING_OF_TWO: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, ..RING_OF_ONE };

const fn offsets() -> SegmentOffsets {
    match SegmentOffsets::calculate(&RING_OF_ONE) {
        Ok(offsets) => offsets,
        Err(_) => panic!(),
    }
}

const DATA: usize = SegmentHeader::A_TO_B_DATA.offset();
const DATA_SLEEPER: usize = DescRingHeader::DATA_SLEEPER.within(offsets().a_to_b_ring).offset();
const SPACE: usize = SegmentHeader::A_TO_B_SPACE.offset();
const SPACE_SLEEPER: usize = DescRingHeader::SPACE_SLEEPER.within(offsets().a_to_b_ring).offset();
const SLOTS: usize = DataSegmentHeader::SLOT_AVAILABLE.within(offsets().data_header).offset();
const SLOTS_SLEEPER_A: usize = DataSegmentHeader::SLOTS_SLEEPER_A.within(offsets().data_header).offset();

fn message(number: u64) -> MsgDescHot {
    MsgDescHot::data(number)
}

/// A sends two messages that both have room, B waits for each.
fn for_data(peers: Peers) {
    let (a, b) = peers.connect(RING_OF_TWO);
    let (mut to_b, from_b) = a.into_split();
    let (to_a, mut from_a) = b.into_split();
    let receiving = thread::spawn(move || {
        for number in 1..=2 {
            assert_eq!(receive(&mut from_a).unwrap().descriptor().msg_id, number);
        }
        from_a
    });
    to_b.try_send(&message(1), b"one").unwrap();
    to_b.try_send(&message(2), b"two").unwrap();
    let from_a = receiving.join().unwrap();
    drop((to_b, from_b, to_a, from_a));
}

/// The ring is full; A sends two more and waits for each place, B takes all three as they come.
fn for_space(peers: Peers) {
    let (a, b) = peers.connect(RING_OF_ONE);
    let (mut to_b, from_b) = a.into_split();
    let (to_a, mut from_a) = b.into_split();
    to_b.try_send(&message(1), b"one").unwrap();
    let sending = thread::spawn(move || {
        send(&mut to_b, &message(2), b"two").unwrap();
        to_b
    });
    assert_eq!(from_a.try_recv().unwrap().unwrap().descriptor().msg_id, 1);
    let to_b = sending.join().unwrap();
    assert_eq!(from_a.try_recv().unwrap().unwrap().descriptor().msg_id, 2);
    drop((to_b, from_b, to_a, from_a));
}

/// B holds the only slot and lets go of it; A waits for it.
fn for_a_slot(peers: Peers) {
    let (a, b) = peers.connect(RING_OF_ONE);
    let (mut to_b, from_b) = a.into_split();
    let (mut to_a, from_a) = b.into_split();
    let held = to_a.try_loan(20).unwrap();
    let sending = thread::spawn(move || {
        let loan = loan(&mut to_b, 20).unwrap();
        assert_eq!(loan.slot().generation, 2);
        drop(loan);
        to_b
    });
    drop(held);
    let to_b = sending.join().unwrap();
    drop((to_b, from_b, to_a, from_a));
}

/// Both peers wait for the only slot, which B holds at first.
fn for_a_slot_twice(peers: Peers) {
    let (a, b) = peers.connect(RING_OF_ONE);
    let (to_b, from_b) = a.into_split();
    let (mut to_a, from_a) = b.into_split();
    let held = to_a.try_loan(20).unwrap();
    let [at_a, at_b] = [to_b, to_a].map(|mut sender| {
        thread::spawn(move || {
            drop(loan(&mut sender, 20).unwrap());
            sender
        })
    });
    drop(held);
    let ends = (at_a.join().unwrap(), at_b.join().unwrap());
    drop((ends, from_b, from_a));
}

/// Each peer sends two messages through a ring of one, and receives two.
fn in_both_directions(peers: Peers) {
    let (mut a, mut b) = peers.connect(RING_OF_ONE);
    let at_b = thread::spawn(move || {
        let (to_a, from_a) = b.split();
        for number in 1..=2 {
            send(to_a, &message(number), b"").unwrap();
            assert_eq!(receive(from_a).unwrap().descriptor().msg_id, number);
        }
        b
    });
    let (to_b, from_b) = a.split();
    for number in 1..=2 {
        send(to_b, &message(number), b"").unwrap();
        assert_eq!(receive(from_b).unwrap().descriptor().msg_id, number);
    }
    let b = at_b.join().unwrap();
    drop((a, b));
}

#[test]
fn whoever_waits_for_data_is_woken() {
    check(|| for_data(Peers::default()));
}

#[test]
fn whoever_waits_for_space_is_woken() {
    check(|| for_space(Peers::default()));
}

#[test]
fn whoever_waits_for_a_slot_is_woken() {
    check(|| for_a_slot(Peers::default()));
}

#[test]
fn both_who_wait_for_a_slot_are_woken() {
    check(|| for_a_slot_twice(Peers::default()));
}

#[test]
fn two_peers_that_send_and_receive_never_both_sleep() {
    check(|| in_both_directions(Peers::default()));
}

#[test]
fn a_sleeper_that_claims_a_heavy_barrier_is_woken() {
    check(|| for_data(Peers { barriers: [Barrier::Fence, Barrier::Heavy], ..Peers::default() }));
}

#[test]
fn a_registered_signaller_wakes_a_sleeper_that_fences() {
    check(|| for_data(Peers { barriers: [Barrier::Registered, Barrier::Fence], ..Peers::default() }));
}

#[test]
fn a_registered_signaller_wakes_a_sleeper_for_a_slot() {
    check(|| for_a_slot(Peers { barriers: [Barrier::Fence, Barrier::Registered], ..Peers::default() }));
}
#[test]
fn a_registered_signaller_wakes_a_sleeper_for_space() {
    check(|| for_space(Peers { barriers: [Barrier::Fence, Barrier::Registered], ..Peers::default() }));
}

#[test]
fn without_the_signallers_fence_a_sleeper_sleeps_for_ever() {
    killed("deadlock", || for_data(Peers::a(Mutation::NoFence)));
    killed("deadlock", || for_space(Peers::b(Mutation::NoFence)));
    killed("deadlock", || for_a_slot(Peers::b(Mutation::NoFence)));
}

#[test]
fn without_the_sleepers_fence_it_sleeps_for_ever() {
    killed("deadlock", || for_data(Peers::b(Mutation::NoFence)));
    killed("deadlock", || for_space(Peers::a(Mutation::NoFence)));
    killed("deadlock", || for_a_slot(Peers::a(Mutation::NoFence)));
}

#[test]
fn without_its_mark_a_sleeper_sleeps_for_ever() {
    killed("deadlock", || for_data(Peers::b(Mutation::LostStore(DATA_SLEEPER, ASLEEP))));
    killed("deadlock", || for_space(Peers::a(Mutation::LostStore(SPACE_SLEEPER, ASLEEP))));
    killed("deadlock", || for_a_slot(Peers::a(Mutation::LostStore(SLOTS_SLEEPER_A, ASLEEP))));
}

#[test]
fn without_the_wake_a_sleeper_sleeps_for_ever() {
    killed("deadlock", || for_data(Peers::a(Mutation::NoWake)));
    killed("deadlock", || for_space(Peers::b(Mutation::NoWake)));
    killed("deadlock", || for_a_slot(Peers::b(Mutation::NoWake)));
}

#[test]
fn without_the_bump_a_wake_that_comes_too_early_is_lost() {
    killed("deadlock", || for_data(Peers::a(Mutation::LostBump(DATA))));
    killed("deadlock", || for_space(Peers::b(Mutation::LostBump(SPACE))));
    killed("deadlock", || for_a_slot(Peers::b(Mutation::LostBump(SLOTS))));
}

#[test]
fn a_sleeper_that_takes_the_value_after_its_last_look_sleeps_for_ever() {
    killed("deadlock", || for_data(Peers::b(Mutation::LateValue)));
    killed("deadlock", || for_space(Peers::a(Mutation::LateValue)));
    killed("deadlock", || for_a_slot(Peers::a(Mutation::LateValue)));
}

#[test]
fn without_the_bumps_release_a_sleeper_sees_the_bump_and_nothing_else() {
    killed("deadlock", || for_data(Peers::a(Mutation::NoRelease(DATA))));
}
#[test]
fn without_the_acquire_of_the_bump_a_sleeper_sees_nothing_else() {
    killed("deadlock", || for_data(Peers::b(Mutation::NoAcquire(DATA))));
}
