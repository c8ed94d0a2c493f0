//! The slab: no slot has two owners, and none is lost.

use std::cell::Cell;
use std::rc::Rc;

use loom::thread;
use rapace_shm_core::layout::{DataSegmentHeader, SegmentOffsets, ShmSessionConfig, SlotState};
use rapace_shm_core::link::Link;
use rapace_shm_core::region::{InRegion, Region};
use rapace_shm_core::slots::{DataSegment, Slot, SlotPool};
use rapace_shm_loom_tests::{LoomEndpoint, Mutation, Peers, check, killed};

const TWO_SLOTS: ShmSessionConfig = ShmSessionConfig { ring_capacity: 1, slot_size: 8, slot_count: 2 };
const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { slot_count: 1, ..TWO_SLOTS };

/// The free list head of a session of this shape.
fn free_head(config: &ShmSessionConfig) -> usize {
    DataSegmentHeader::FREE_HEAD.within(SegmentOffsets::calculate(config).unwrap().data_header).offset()
}

/// Which slots somebody has, by the schedule alone: what loom's order of steps says, whatever the memory says.
type Taken = Rc<[Cell<bool>; 2]>;

/// One peer's way to the slab.
struct Allocator {
    pool: DataSegment,
    endpoint: LoomEndpoint,
    taken: Taken,
}

impl Allocator {
    fn new(link: &mut Link<LoomEndpoint>, taken: &Taken) -> Self {
        let endpoint = link.endpoint().clone();
        Self { pool: *link.split().0.pool(), endpoint, taken: taken.clone() }
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
        self.pool.free(&self.endpoint, slot, SlotState::Allocated).unwrap();
    }
}

fn assert_nothing_lost(link: &Link<LoomEndpoint>, held: u32) {
    let slots = link.status().slots;
    assert_eq!((slots.free, slots.allocated), (slots.total - held, held), "slots are lost");
    assert_eq!(slots.free_list_len, slots.free, "the free list has lost slots");
}

/// A takes two slots; meanwhile B takes two and gives the first one back.
fn two_allocators(peers: Peers) {
    let (mut a, mut b) = peers.connect(TWO_SLOTS);
    let taken = Taken::default();
    let (at_a, at_b) = (Allocator::new(&mut a, &taken), Allocator::new(&mut b, &taken));
    let other = thread::spawn(move || {
        let (first, second) = (at_b.allocate(), at_b.allocate());
        let held = u32::from(second.is_some());
        if let Some(first) = first {
            at_b.free(first);
        }
        held
    });
    let held = at_a.allocate().iter().chain(&at_a.allocate()).count();
    let held = u32::try_from(held).unwrap() + other.join().unwrap();
    assert_nothing_lost(&a, held);
}

/// Both take a slot and give it back.
fn take_and_give_back(peers: Peers, config: ShmSessionConfig) {
    let (mut a, mut b) = peers.connect(config);
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
fn free_against_allocate(peers: Peers) {
    let (mut a, mut b) = peers.connect(ONE_SLOT);
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
    check(|| two_allocators(Peers::default()));
}

#[test]
fn slots_taken_and_given_back_by_two_peers_are_never_lost() {
    check(|| take_and_give_back(Peers::default(), TWO_SLOTS));
}

#[test]
fn the_only_slot_goes_back_and_forth() {
    check(|| take_and_give_back(Peers::default(), ONE_SLOT));
}

#[test]
fn a_freed_slot_is_free_of_its_last_owner() {
    check(|| free_against_allocate(Peers::default()));
}

#[test]
fn without_one_step_for_the_head_a_slot_is_given_out_twice() {
    killed("", || two_allocators(Peers::a(Mutation::TornExchange(free_head(&TWO_SLOTS)))));
}

#[test]
fn without_its_tag_the_head_gives_a_slot_out_twice() {
    killed("", || two_allocators(Peers::both(Mutation::FrozenTag(free_head(&TWO_SLOTS)))));
}

#[test]
fn without_one_step_for_the_head_a_slot_is_lost() {
    killed("", || take_and_give_back(Peers::a(Mutation::TornExchange(free_head(&TWO_SLOTS))), TWO_SLOTS));
}

#[test]
fn without_the_heads_release_a_slot_is_not_free_of_its_last_owner() {
    killed("", || free_against_allocate(Peers::a(Mutation::NoRelease(free_head(&ONE_SLOT)))));
}

#[test]
fn without_the_heads_acquire_a_slot_is_not_free_of_its_last_owner() {
    killed("", || free_against_allocate(Peers::b(Mutation::NoAcquire(free_head(&ONE_SLOT)))));
}

#[test]
fn without_the_acquire_of_the_first_look_a_stale_link_is_followed() {
    killed("", || two_allocators(Peers::both(Mutation::NoAcquire(free_head(&TWO_SLOTS)))));
    killed("", || take_and_give_back(Peers::both(Mutation::NoAcquire(free_head(&TWO_SLOTS))), TWO_SLOTS));
}
