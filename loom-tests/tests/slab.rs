//! The slab: no slot has two owners, and none is lost. Neither in the common list, nor in those of returned slots.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use loom::thread;
use rapace_shm_core::layout::{PeerState, SegmentHeader, ShmSessionConfig, SlotState};
use rapace_shm_core::link::{Link, PeerRole};
use rapace_shm_core::region::{InRegion, Region, SlotRights, Word};
use rapace_shm_core::slots::{DataSegment, Slot, SlotPool};
use rapace_shm_loom_tests::{LoomEndpoint, Mutation, Peers, check, free_head, killed, loan, returned_by};

const TWO_SLOTS: ShmSessionConfig = ShmSessionConfig { ring_capacity: 1, slot_size: 8, slot_count: 2 };
const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { slot_count: 1, ..TWO_SLOTS };
const THREE_SLOTS: ShmSessionConfig = ShmSessionConfig { slot_count: 3, ..TWO_SLOTS };

/// A session in which each takes the other for a version 1.0 peer: slots go back to the common list.
fn with_the_common_list(peers: Peers, config: ShmSessionConfig) -> (Link<LoomEndpoint>, Link<LoomEndpoint>) {
    let (a, b) = peers.connect(config);
    for state in [SegmentHeader::PEER_A_STATE, SegmentHeader::PEER_B_STATE] {
        a.endpoint().region().u32(state).store(PeerState::Unknown as u32, Ordering::Relaxed);
    }
    (a, b)
}

/// A session in which all slots are in the list of what A has returned.
fn with_all_returned_by_a(peers: Peers, config: ShmSessionConfig) -> (Link<LoomEndpoint>, Link<LoomEndpoint>) {
    let (mut a, b) = peers.connect(config);
    let all: Vec<_> = (0..config.slot_count).map(|_| a.split().0.try_loan(8).unwrap()).collect();
    drop(all);
    (a, b)
}

/// How a model's session begins.
type Begin = fn(Peers, ShmSessionConfig) -> (Link<LoomEndpoint>, Link<LoomEndpoint>);

/// Which slots somebody has, by the schedule alone: what loom's order of steps says, whatever the memory says.
type Taken = Rc<[Cell<bool>; 3]>;

/// One peer's way to the slab.
struct Allocator {
    pool: DataSegment,
    endpoint: LoomEndpoint,
    taken: Taken,
    rights: SlotRights,
}

impl Allocator {
    fn new(link: &mut Link<LoomEndpoint>, taken: &Taken) -> Self {
        let endpoint = link.endpoint().clone();
        // SAFETY: used only for slots that `allocate` below has taken, through the same endpoint.
        let rights = unsafe { SlotRights::without_guards() };
        Self { pool: *link.split().0.pool(), endpoint, taken: taken.clone(), rights }
    }

    /// Takes a slot if there is one, and writes all over it.
    fn allocate(&self) -> Option<Slot> {
        let (slot, span) = self.pool.allocate(&self.endpoint, 8).unwrap()?;
        assert!(!self.taken[slot.reference as usize].replace(true), "slot {} is given out twice", slot.reference);
        // The first word reads as a link to slot 1, so that a popper that is late is led somewhere.
        self.endpoint.region().copy_in(span, &1_u64.to_ne_bytes());
        Some(slot)
    }

    fn free(&self, slot: Slot) {
        self.taken[slot.reference as usize].set(false);
        self.pool.free(&self.endpoint, slot, SlotState::Allocated, self.rights).unwrap();
    }
}

fn assert_nothing_lost(link: &Link<LoomEndpoint>, held: u32) {
    let slots = link.status().slots;
    assert_eq!((slots.free, slots.allocated), (slots.total - held, held), "slots are lost");
    assert_eq!(slots.free_list_len, slots.free, "the free list has lost slots");
}

/// One takes two slots; meanwhile the other takes two and gives the first one back.
fn two_allocators(link: &Link<LoomEndpoint>, one: &Allocator, other: Allocator) {
    let other = thread::spawn(move || {
        let (first, second) = (other.allocate(), other.allocate());
        let held = u32::from(second.is_some());
        if let Some(first) = first {
            other.free(first);
        }
        held
    });
    let held = one.allocate().iter().chain(&one.allocate()).count();
    let held = u32::try_from(held).unwrap() + other.join().unwrap();
    assert_nothing_lost(link, held);
}

fn two_peers(peers: Peers) {
    let (mut a, mut b) = with_the_common_list(peers, TWO_SLOTS);
    let taken = Taken::default();
    let (at_a, at_b) = (Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    two_allocators(&a, &at_a, at_b);
}

fn two_threads_of_a(peers: Peers) {
    let (mut a, b) = with_all_returned_by_a(Peers { shares_ledger_of_a: true, ..peers }, TWO_SLOTS);
    let taken = Taken::default();
    let (one, other) = (Allocator::new(&mut a, &taken), Allocator::new(&mut a, &taken));
    two_allocators(&a, &one, other);
    drop(b);
}

/// A takes what it has returned, and B takes it over.
fn take_against_take_over(peers: Peers) {
    let (mut a, mut b) = with_all_returned_by_a(peers, TWO_SLOTS);
    let taken = Taken::default();
    let (at_a, at_b) = (Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    two_allocators(&a, &at_a, at_b);
}

/// One thread of A gives a slot back, while another takes over what B has returned.
fn give_back_against_take_over(peers: Peers) {
    let (mut a, mut b) = Peers { shares_ledger_of_a: true, ..peers }.connect(THREE_SLOTS);
    let taken = Taken::default();
    let (one, other, at_b) =
        (Allocator::new(&mut a, &taken), Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    let of_a = one.allocate().unwrap();
    let of_b = [at_b.allocate().unwrap(), at_b.allocate().unwrap()];
    for slot in of_b {
        at_b.free(slot);
    }
    let giving = thread::spawn(move || other.free(of_a));
    let got = one.allocate();
    giving.join().unwrap();
    assert!(got.is_some(), "nobody else was there to take one");
    assert_nothing_lost(&a, 1);
}

/// A takes over two slots and needs one of them; B waits for the other.
fn take_over_against_wait(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    let both = [b.split().0.try_loan(8).unwrap(), b.split().0.try_loan(8).unwrap()];
    drop(both);
    let waiting = thread::spawn(move || {
        let waited_for = loan(b.split().0, 8).unwrap();
        (b, waited_for)
    });
    let taken = loan(a.split().0, 8).unwrap();
    let (b, waited_for) = waiting.join().unwrap();
    assert_ne!(taken.slot().reference, waited_for.slot().reference);
    drop((taken, waited_for));
    drop((a, b));
}

/// Both take a slot and give it back.
fn take_and_give_back(begin: Begin, peers: Peers, config: ShmSessionConfig) {
    let (mut a, mut b) = begin(peers, config);
    let taken = Taken::default();
    let (at_a, at_b) = (Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    let round = |at: &Allocator| at.allocate().into_iter().for_each(|slot| at.free(slot));
    let other = thread::spawn(move || {
        round(&at_b);
        round(&at_b);
    });
    round(&at_a);
    round(&at_a);
    other.join().unwrap();
    assert_nothing_lost(&a, 0);
}

/// A gives back the only slot, and B tries to get it.
fn free_against_allocate(begin: Begin, peers: Peers) {
    let (mut a, mut b) = begin(peers, ONE_SLOT);
    let taken = Taken::default();
    let (at_a, at_b) = (Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    let slot = at_a.allocate().unwrap();
    let other = thread::spawn(move || at_b.allocate().or_else(|| at_b.allocate()));
    at_a.free(slot);
    let got = other.join().unwrap();
    assert_nothing_lost(&a, u32::from(got.is_some()));
}

#[test]
fn two_allocators_never_get_the_same_slot_and_lose_none() {
    check(|| two_peers(Peers::default()));
    check(|| two_threads_of_a(Peers::default()));
    check(|| take_against_take_over(Peers::default()));
}

#[test]
fn slots_taken_and_given_back_by_two_peers_are_never_lost() {
    check(|| take_and_give_back(with_the_common_list, Peers::default(), TWO_SLOTS));
    check(|| take_and_give_back(Peers::connect, Peers::default(), TWO_SLOTS));
}

#[test]
fn the_only_slot_goes_back_and_forth() {
    check(|| take_and_give_back(with_the_common_list, Peers::default(), ONE_SLOT));
    check(|| take_and_give_back(Peers::connect, Peers::default(), ONE_SLOT));
}

#[test]
fn a_freed_slot_is_free_of_its_last_owner() {
    check(|| free_against_allocate(with_the_common_list, Peers::default()));
    check(|| free_against_allocate(Peers::connect, Peers::default()));
}

#[test]
fn a_slot_given_back_during_a_take_over_is_not_lost() {
    check(|| give_back_against_take_over(Peers::default()));
}

#[test]
fn whoever_waits_is_told_of_what_was_taken_over() {
    check(|| take_over_against_wait(Peers::default()));
}

#[test]
fn without_one_step_for_the_head_a_slot_is_given_out_twice() {
    killed("", || two_peers(Peers::a(Mutation::TornExchange(free_head(&TWO_SLOTS)))));
    killed("", || two_threads_of_a(Peers::a(Mutation::TornExchange(returned_by(PeerRole::A, &TWO_SLOTS)))));
    killed("", || take_against_take_over(Peers::b(Mutation::TornExchange(returned_by(PeerRole::A, &TWO_SLOTS)))));
}

#[test]
fn without_its_tag_the_head_gives_a_slot_out_twice() {
    killed("", || two_peers(Peers::both(Mutation::FrozenTag(free_head(&TWO_SLOTS)))));
    killed("", || two_threads_of_a(Peers::a(Mutation::FrozenTag(returned_by(PeerRole::A, &TWO_SLOTS)))));
}

#[test]
fn without_one_step_for_the_head_a_slot_is_lost() {
    let torn = || Peers::a(Mutation::TornExchange(free_head(&TWO_SLOTS)));
    killed("", move || take_and_give_back(with_the_common_list, torn(), TWO_SLOTS));
    killed("", || {
        give_back_against_take_over(Peers::a(Mutation::TornExchange(returned_by(PeerRole::A, &THREE_SLOTS))));
    });
}

#[test]
fn without_the_heads_release_a_slot_is_not_free_of_its_last_owner() {
    let common = || Peers::a(Mutation::NoRelease(free_head(&ONE_SLOT)));
    killed("", move || free_against_allocate(with_the_common_list, common()));
    let returned = || Peers::a(Mutation::NoRelease(returned_by(PeerRole::A, &ONE_SLOT)));
    killed("", move || free_against_allocate(Peers::connect, returned()));
}

#[test]
fn without_the_heads_acquire_a_slot_is_not_free_of_its_last_owner() {
    let common = || Peers::b(Mutation::NoAcquire(free_head(&ONE_SLOT)));
    killed("", move || free_against_allocate(with_the_common_list, common()));
    let returned = || Peers::b(Mutation::NoAcquire(returned_by(PeerRole::A, &ONE_SLOT)));
    killed("", move || free_against_allocate(Peers::connect, returned()));
}

#[test]
fn without_the_acquire_of_the_first_look_a_stale_link_is_followed() {
    let stale = || Peers::both(Mutation::NoAcquire(free_head(&TWO_SLOTS)));
    killed("", move || two_peers(stale()));
    killed("", move || take_and_give_back(with_the_common_list, stale(), TWO_SLOTS));
}

#[test]
fn without_a_wake_for_what_was_taken_over_a_waiter_sleeps_for_ever() {
    killed("deadlock", || take_over_against_wait(Peers::a(Mutation::NoWake)));
}
