//! What the slab promises: who owns a slot, what becomes of it, and what a peer that lies about it is told.

mod common;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use common::{HeapEndpoint, HeapRegion, SMALL, endpoint, leaked, pair, pair_and_region, region};
use rapace_shm_core::PeerFault;
use rapace_shm_core::layout::{
    At, DataSegmentHeader, DescRingHeader, LayoutError, MsgDescHot, SegmentOffsets, ShmSessionConfig, SlotMeta,
    SlotState, Span, calculate_segment_size,
};
use rapace_shm_core::ledger::HasLedger;
use rapace_shm_core::link::{Link, LinkError, SendError};
use rapace_shm_core::region::{Region, SlotRights};
use rapace_shm_core::slots::{DataSegment, Slot, SlotPool, SlotStatus};

/// These tests move slots that no guard has.
fn rights() -> SlotRights {
    // SAFETY: used only for slots that were taken from the pool below, through the same endpoint.
    unsafe { SlotRights::without_guards() }
}

/// Both sides' handles below the links, which stay alive.
struct Slab {
    region: HeapRegion,
    pool: DataSegment,
    pool_of_b: DataSegment,
    a: HeapEndpoint,
    b: HeapEndpoint,
}

fn slab() -> Slab {
    let (mut a, mut b, region) = pair_and_region(SMALL);
    let (at_a, at_b) = (a.split().0.endpoint().clone(), b.split().0.endpoint().clone());
    let slab = Slab { region, pool: *a.split().0.pool(), pool_of_b: *b.split().0.pool(), a: at_a, b: at_b };
    // The links would say goodbye; the slab does not mind, and neither do these tests.
    drop((a, b));
    slab
}

impl Slab {
    fn allocate(&self) -> Slot {
        self.pool.allocate(&self.a, 64).unwrap().expect("a slot is free").0
    }

    fn descriptor(slot: Slot) -> MsgDescHot {
        MsgDescHot {
            payload_slot: slot.reference,
            payload_generation: slot.generation,
            payload_len: 20,
            ..MsgDescHot::data(1)
        }
    }

    fn meta(&self, slot: u32) -> At<u64> {
        At::new(offsets().slot_meta + slot as usize * size_of::<SlotMeta>())
    }

    fn link(&self, slot: u32) -> At<u32> {
        At::new(offsets().slot_data + (slot * SMALL.slot_size) as usize)
    }

    fn status(&self) -> SlotStatus {
        self.pool.slot_status(&self.region)
    }
}

fn offsets() -> SegmentOffsets {
    SegmentOffsets::calculate(&SMALL).unwrap()
}

#[test]
fn a_slot_goes_through_its_states_and_comes_back() {
    let slab = slab();
    assert_eq!(slab.status(), SlotStatus { total: 3, free: 3, free_list_len: 3, ..SlotStatus::default() });
    let slot = slab.allocate();
    assert_eq!(slot, Slot { reference: 0, generation: 1 });
    assert_eq!(slab.a.ledger().held(), 1);
    assert_eq!(slab.status().to_string(), "3 slots: 2 free, 1 allocated, 0 in flight");
    slab.pool.send(&slab.a, slot, rights()).unwrap();
    assert_eq!((slab.status().in_flight, slab.a.ledger().held()), (1, 0));
    slab.pool.accept(&slab.b, &Slab::descriptor(slot)).unwrap();
    assert_eq!((slab.pool.span(&Slab::descriptor(slot)).len, slab.b.ledger().held()), (20, 1));
    slab.pool.free(&slab.b, slot, SlotState::InFlight, rights()).unwrap();
    assert_eq!(slab.status(), SlotStatus { total: 3, free: 3, free_list_len: 3, ..SlotStatus::default() });
    assert_eq!((slab.a.ledger().held(), slab.b.ledger().held()), (0, 0));
    // Last in, first out; a new generation each time.
    assert_eq!(slab.allocate(), Slot { reference: 0, generation: 2 });
}

#[test]
fn every_slot_is_handed_out_once_and_then_none() {
    let slab = slab();
    let slots: HashSet<u32> = (0..3).map(|_| slab.allocate().reference).collect();
    assert_eq!(slots, HashSet::from([0, 1, 2]));
    assert_eq!(slab.pool.allocate(&slab.a, 64), Ok(None));
    assert_eq!(slab.pool.allocate(&slab.b, 64), Ok(None));
    assert_eq!(slab.status(), SlotStatus { total: 3, allocated: 3, ..SlotStatus::default() });
}

#[test]
fn the_free_lists_count_their_changes_and_the_generation_wraps() {
    let slab = slab();
    let head = DataSegmentHeader::FREE_HEAD.within(offsets().data_header);
    let tag = || slab.region.u64(head).load(Ordering::Relaxed) >> 32;
    slab.region.u64(head).store(u64::from(u32::MAX) << 32, Ordering::Relaxed);
    slab.region.u64(slab.meta(0)).store(SlotMeta::new(u32::MAX, SlotState::Free).to_word(), Ordering::Relaxed);
    let slot = slab.allocate();
    assert_eq!((slot.generation, tag()), (0, 0));
    let returned = DescRingHeader::RETURNED.within(offsets().b_to_a_ring);
    slab.region.u64(returned).store(u64::from(u32::MAX) << 32, Ordering::Relaxed);
    slab.pool.free(&slab.a, slot, SlotState::Allocated, rights()).unwrap();
    assert_eq!(slab.region.u64(returned).load(Ordering::Relaxed), 1, "slot 0, tag 0");
}

#[test]
fn a_version_1_peer_finds_every_freed_slot_in_the_list_that_it_knows() {
    let region = region(calculate_segment_size(&SMALL).unwrap());
    let mut alone = Link::create(endpoint(&region, 3), SMALL).unwrap();
    let loans: Vec<_> = (0..3).map(|_| alone.split().0.try_loan(64).unwrap()).collect();
    drop(loans);
    let head = DataSegmentHeader::FREE_HEAD.within(offsets().data_header);
    let first = region.u64(head).load(Ordering::Relaxed);
    assert_eq!((first, alone.status().slots.free_list_len), (6 << 32 | 2, 3), "three pops, three pushes");
}

#[test]
fn what_one_peer_has_returned_the_other_takes_over_whole() {
    let slab = slab();
    let slots: Vec<Slot> = (0..3).map(|_| slab.allocate()).collect();
    for slot in slots {
        slab.pool.free(&slab.a, slot, SlotState::Allocated, rights()).unwrap();
    }
    let (taken, _) = slab.pool_of_b.allocate(&slab.b, 64).unwrap().unwrap();
    assert_eq!(taken, Slot { reference: 2, generation: 2 });
    let list =
        |ring: usize| slab.region.u64(DescRingHeader::RETURNED.within(ring)).load(Ordering::Relaxed) & 0xFFFF_FFFF;
    assert_eq!(
        (list(offsets().b_to_a_ring), list(offsets().a_to_b_ring)),
        (0, 2),
        "A's is empty, B's starts with slot 1"
    );
    assert_eq!(slab.status().free_list_len, 2);
}

#[test]
fn what_no_slot_in_flight_fits_is_a_fault_and_claims_nothing() {
    let slab = slab();
    let slot = slab.allocate();
    let good = Slab::descriptor(slot);
    let refused = |descriptor: MsgDescHot| slab.pool.accept(&slab.b, &descriptor).unwrap_err();
    let allocated = SlotState::Allocated as u32;
    let in_flight = SlotState::InFlight as u32;
    assert_eq!(refused(good), PeerFault::State { slot: 0, expected: in_flight, seen: allocated });
    slab.pool.send(&slab.a, slot, rights()).unwrap();
    for seen in [3, u32::MAX - 1, u32::MAX] {
        assert_eq!(refused(MsgDescHot { payload_slot: seen, ..good }), PeerFault::SlotIndex { slot: seen, count: 3 });
    }
    let stale = MsgDescHot { payload_generation: 7, ..good };
    assert_eq!(refused(stale), PeerFault::Generation { slot: 0, expected: 7, seen: 1 });
    for (offset, len) in [(0, 65), (1, 64), (65, 0), (u32::MAX, 1), (1, u32::MAX)] {
        let outside = MsgDescHot { payload_offset: offset, payload_len: len, ..good };
        assert_eq!(refused(outside), PeerFault::PayloadRange { slot: 0, offset, len, slot_size: 64 });
    }
    assert_eq!(slab.b.ledger().held(), 0);
    let to_the_end = MsgDescHot { payload_offset: 4, payload_len: 60, ..good };
    slab.pool.accept(&slab.b, &to_the_end).unwrap();
    assert_eq!(slab.pool.span(&to_the_end), Span { offset: offsets().slot_data + 4, len: 60 });
    assert_eq!(refused(good), PeerFault::AlreadyHeld { slot: 0 });
}

#[test]
fn a_slot_whose_metadata_changed_underneath_is_a_fault_and_stays_out_of_the_list() {
    let slab = slab();
    let slot = slab.allocate();
    slab.region.u64(slab.meta(0)).store(SlotMeta::new(9, SlotState::Allocated).to_word(), Ordering::Relaxed);
    let fault = PeerFault::Generation { slot: 0, expected: 1, seen: 9 };
    assert_eq!(slab.pool.free(&slab.a, slot, SlotState::Allocated, rights()), Err(fault));
    assert_eq!((slab.status().free_list_len, slab.a.ledger().held()), (2, 0));
    let other = slab.allocate();
    slab.region.u64(slab.meta(1)).store(u64::MAX, Ordering::Relaxed);
    assert!(slab.pool.send(&slab.a, other, rights()).is_err());
    assert_eq!((slab.status().unknown, slab.a.ledger().held()), (1, 0));
}

#[test]
fn a_free_list_that_cannot_be_is_a_fault() {
    // A head behind the last slot.
    let broken = slab();
    let head = DataSegmentHeader::FREE_HEAD.within(offsets().data_header);
    broken.region.u64(head).store(3, Ordering::Relaxed);
    assert!(matches!(broken.pool.allocate(&broken.a, 1), Err(PeerFault::FreeLink { next: 3, count: 3, .. })));
    // A slot that is listed but not free.
    let broken = slab();
    broken.region.u64(broken.meta(0)).store(SlotMeta::new(0, SlotState::InFlight).to_word(), Ordering::Relaxed);
    let (expected, seen) = (SlotState::Free as u32, SlotState::InFlight as u32);
    assert_eq!(broken.pool.allocate(&broken.a, 1), Err(PeerFault::State { slot: 0, expected, seen }));
    // A slot that is listed, says free, and is this endpoint's own.
    let broken = slab();
    let mine = broken.allocate();
    broken
        .region
        .u64(broken.meta(0))
        .store(SlotMeta::new(mine.generation, SlotState::Free).to_word(), Ordering::Relaxed);
    broken.region.u64(head).store(0, Ordering::Relaxed);
    assert_eq!(broken.pool.allocate(&broken.a, 1), Err(PeerFault::AlreadyHeld { slot: 0 }));
    // A circle: the census ends all the same, and says that something is wrong.
    let circle = slab();
    circle.region.u32(circle.link(2)).store(0, Ordering::Relaxed);
    circle.allocate();
    assert_eq!(circle.status().to_string(), "3 slots: 2 free, 1 allocated, 0 in flight; but the free lists have 3");
}

#[test]
fn shapes_that_the_layout_cannot_carry_are_refused() {
    let shape = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 };
    for (config, error) in [
        (ShmSessionConfig { slot_count: 0, ..shape }, LayoutError::SlotCount { seen: 0 }),
        (ShmSessionConfig { slot_count: u32::MAX, ..shape }, LayoutError::SlotCount { seen: u32::MAX }),
        (ShmSessionConfig { slot_size: 0, ..shape }, LayoutError::SlotSize { seen: 0 }),
        (ShmSessionConfig { slot_size: 2, ..shape }, LayoutError::SlotSize { seen: 2 }),
        (ShmSessionConfig { slot_size: 66, ..shape }, LayoutError::SlotSize { seen: 66 }),
        (ShmSessionConfig { ring_capacity: 0, ..shape }, LayoutError::RingCapacity { seen: 0 }),
        (ShmSessionConfig { ring_capacity: 12, ..shape }, LayoutError::RingCapacity { seen: 12 }),
    ] {
        assert_eq!(calculate_segment_size(&config), Err(error));
        let refused = Link::create(endpoint(&region(4096), 3), config).unwrap_err();
        assert_eq!(refused, LinkError::Layout(error));
    }
    let small = region(calculate_segment_size(&shape).unwrap() - 1);
    let refused = Link::create(endpoint(&small, 3), shape).unwrap_err();
    assert!(matches!(refused, LinkError::Layout(LayoutError::SegmentTooSmall { .. })));
    let refused = Link::create(endpoint(&region(4096), 2), shape).unwrap_err();
    assert_eq!(refused, LinkError::LedgerTooSmall { entries: 2, slots: 3 });
}

#[test]
fn a_guard_whose_slot_the_peer_rewrote_closes_the_endpoint_when_it_goes() {
    let (mut a, _b, region) = pair_and_region(SMALL);
    let loan = a.split().0.try_loan(30).unwrap();
    region.u64(At::new(offsets().slot_meta)).store(0, Ordering::Relaxed);
    drop(loan);
    assert_eq!(
        a.split().0.try_send(&MsgDescHot::data(1), b""),
        Err(SendError::PeerFault(PeerFault::Tampered { slot: 0 }))
    );
}

#[test]
fn two_threads_on_both_sides_never_get_the_same_slot_and_lose_none() {
    const ROUNDS: u32 = 20_000;
    let (mut a, mut b) = pair(SMALL);
    let run = |link: &mut common::HeapLink, own: u8| {
        let (tx, _) = link.split();
        for round in 0..ROUNDS {
            let mut loans: Vec<_> = (0..=round % 3).filter_map(|_| tx.try_loan(64).ok()).collect();
            for loan in &mut loans {
                loan.fill(own);
            }
            std::thread::yield_now();
            assert!(loans.iter().all(|loan| loan.iter().all(|byte| *byte == own)), "somebody else has this slot");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(&mut a, 1));
        scope.spawn(|| run(&mut b, 2));
    });
    assert_eq!(leaked(&a), 0);
}
