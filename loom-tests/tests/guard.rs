//! Guards of one endpoint in several threads: each goes back once, also while the endpoint allocates or makes room for
//! a new peer.

use loom::thread;
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
use rapace_shm_core::link::{LinkError, PeerRole};
use rapace_shm_loom_tests::{Mutation, Peers, assert_all_free, check, free_head, killed, loan, returned_by};

const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 20, slot_count: 1 };
const TWO_SLOTS: ShmSessionConfig = ShmSessionConfig { slot_count: 2, ..ONE_SLOT };
const LONG: [u8; 20] = [7; 20];

/// A's ledger is used by several threads; something is wrong with A.
fn sharing(mutation: Mutation) -> Peers {
    Peers { shares_ledger_of_a: true, ..Peers::a(mutation) }
}

/// One thread drops a guard of A, the other allocates at A, again and again.
fn drop_against_allocate(peers: Peers, config: ShmSessionConfig) {
    let (mut a, b) = peers.connect(config);
    let held = a.split().0.try_loan(20).unwrap();
    let dropping = thread::spawn(move || drop(held));
    for _ in 0..2 {
        if let Ok(mut taken) = a.split().0.try_loan(20) {
            taken.append(&LONG);
        }
    }
    dropping.join().unwrap();
    assert_all_free(&a);
    drop(b);
}

/// One thread drops a guard of A, the other waits for its slot.
fn drop_against_wait(peers: Peers) {
    let (mut a, b) = peers.connect(ONE_SLOT);
    let held = a.split().0.try_loan(20).unwrap();
    let dropping = thread::spawn(move || drop(held));
    let mut taken = loan(a.split().0, 20).unwrap();
    taken.append(&LONG);
    drop(taken);
    dropping.join().unwrap();
    assert_all_free(&a);
    drop(b);
}

/// B has vanished with a slot in hand; A makes room for another while a thread drops a payload of A's.
fn drop_against_reset(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    b.split().0.try_send(&MsgDescHot::data(1), &LONG).unwrap();
    let payload = a.split().1.try_recv().unwrap().unwrap().into_payload();
    let in_dead_hands = b.split().0.try_loan(20).unwrap();
    let dropping = thread::spawn(move || drop(payload));
    let lost = loop {
        match a.reset() {
            Ok(lost) => break lost,
            Err(LinkError::Busy) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(lost, 1, "B had one slot");
    dropping.join().unwrap();
    assert_all_free(&a);
    let both = [a.split().0.try_loan(20), a.split().0.try_loan(20)].map(Result::unwrap);
    assert_ne!(both[0].slot().reference, both[1].slot().reference, "a slot is given out twice");
    drop(both);
    std::mem::forget((b, in_dead_hands));
}

#[test]
fn a_guard_dropped_while_its_endpoint_allocates_goes_back_once() {
    check(|| drop_against_allocate(sharing(Mutation::None), ONE_SLOT));
}

#[test]
fn a_guard_dropped_while_its_endpoint_allocates_another_goes_back_once() {
    check(|| drop_against_allocate(sharing(Mutation::None), TWO_SLOTS));
}

#[test]
fn a_guard_dropped_while_its_endpoint_waits_wakes_it() {
    check(|| drop_against_wait(sharing(Mutation::None)));
}

#[test]
fn a_payload_dropped_during_a_reset_goes_back_once() {
    check(|| drop_against_reset(sharing(Mutation::None)));
}

#[test]
fn without_one_step_for_the_head_a_dropped_guard_is_lost() {
    killed("", || {
        drop_against_allocate(sharing(Mutation::TornExchange(returned_by(PeerRole::A, &TWO_SLOTS))), TWO_SLOTS)
    });
}

#[test]
fn without_order_in_the_slab_a_dropped_guard_is_still_written() {
    killed("", || drop_against_allocate(sharing(Mutation::NoRelease(returned_by(PeerRole::A, &ONE_SLOT))), ONE_SLOT));
}

#[test]
fn without_fences_nobody_hears_of_a_dropped_guard() {
    killed("deadlock", || drop_against_wait(sharing(Mutation::NoFence)));
}

#[test]
fn without_one_step_for_the_head_a_reset_loses_a_slot() {
    killed("", || drop_against_reset(sharing(Mutation::TornExchange(free_head(&TWO_SLOTS)))));
}

#[test]
fn without_the_heads_release_a_reset_takes_what_is_not_free_yet() {
    killed("", || drop_against_reset(sharing(Mutation::NoRelease(returned_by(PeerRole::A, &TWO_SLOTS)))));
}
