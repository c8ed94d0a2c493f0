//! What a link promises, over heap memory.

mod common;

use std::sync::atomic::Ordering;

use common::{SMALL, endpoint, leaked, pair, pair_and_region};
use rapace_shm_core::PeerFault;
use rapace_shm_core::layout::{
    At, DataSegmentHeader, LayoutError, MsgDescHot, PeerState, SegmentHeader, SegmentOffsets, ShmSessionConfig,
};
use rapace_shm_core::ledger::HasLedger;
use rapace_shm_core::link::{Link, LinkError, PeerRole, RecvError, SendError};
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::Step;

#[test]
fn every_size_arrives_as_it_was_sent() {
    let (mut a, mut b) = pair(SMALL);
    for len in 0..=64_usize {
        let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i + len).unwrap()).collect();
        a.split().0.try_send(&MsgDescHot::data(len as u64), &bytes).unwrap();
        let message = b.split().1.try_recv().unwrap().unwrap();
        assert_eq!(message.descriptor().msg_id, len as u64);
        assert_eq!(message.payload(), bytes);
        assert_eq!(message.into_payload().as_ref(), bytes);
    }
    assert_eq!(leaked(&a), 0);
}

#[test]
fn an_oversize_message_is_refused_with_both_sizes_and_nothing_leaks() {
    let (mut a, _b) = pair(SMALL);
    let refused = a.split().0.try_send(&MsgDescHot::data(1), &[0; 65]).unwrap_err();
    assert_eq!(refused, SendError::TooLarge { len: 65, max: 64 });
    assert_eq!(a.split().0.try_loan(65).unwrap_err(), refused);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn a_full_ring_gives_the_loan_back() {
    let (mut a, mut b) = pair(SMALL);
    let (tx, _) = a.split();
    for number in 0..4 {
        tx.try_send(&MsgDescHot::data(number), b"x").unwrap();
    }
    assert_eq!(tx.try_send(&MsgDescHot::data(4), b"x"), Err(SendError::Full));
    let mut loan = tx.try_loan(20).unwrap();
    loan.fill(9);
    let unsent = tx.try_send_loan(&MsgDescHot::data(4), loan).unwrap_err();
    assert_eq!(unsent.error, SendError::Full);
    assert_eq!(*unsent.loan, [9; 20]);
    drop(b.split().1.try_recv().unwrap());
    tx.try_send_loan(&MsgDescHot::data(4), unsent.loan).unwrap();
    for number in 1..=4 {
        assert_eq!(b.split().1.try_recv().unwrap().unwrap().descriptor().msg_id, number);
    }
    assert_eq!(leaked(&a), 0);
}

#[test]
fn an_empty_slab_makes_the_sender_wait_on_the_slots_word() {
    let (mut a, mut b) = pair(SMALL);
    let (tx, _) = a.split();
    for number in 0..3 {
        tx.try_send(&MsgDescHot::data(number), &[1; 17]).unwrap();
    }
    assert_eq!(tx.try_send(&MsgDescHot::data(3), &[1; 17]), Err(SendError::NoSlot));
    let Step::Sleep(first) = tx.poll_send(&MsgDescHot::data(3), &[1; 17]).unwrap() else { panic!("no slot is free") };
    drop(b.split().1.try_recv().unwrap());
    let Step::Ready(()) = tx.poll_send(&MsgDescHot::data(3), &[1; 17]).unwrap() else { panic!("a slot is free") };
    let Step::Sleep(second) = tx.poll_send(&MsgDescHot::data(4), &[1; 17]).unwrap() else { panic!("no slot is free") };
    assert_eq!(first.word(), second.word());
    assert_eq!(second.value(), first.value().wrapping_add(1), "freeing bumps the word of a marked sleeper");
}

#[test]
fn a_payload_outlives_everything_and_returns_its_slot() {
    let (mut a, mut b) = pair(SMALL);
    a.split().0.try_send(&MsgDescHot::data(1), &[5; 40]).unwrap();
    let payload = b.split().1.try_recv().unwrap().unwrap().into_payload();
    drop(b);
    std::thread::scope(|scope| {
        scope.spawn(move || assert_eq!(*payload, [5; 40]));
    });
    assert_eq!(leaked(&a), 0);
}

#[test]
fn closing_delivers_everything_and_then_the_end() {
    let (a, mut b) = pair(SMALL);
    let (mut tx, _rx) = a.into_split();
    tx.try_send(&MsgDescHot::data(1), &[1; 30]).unwrap();
    tx.close();
    assert_eq!(tx.try_send(&MsgDescHot::data(2), b""), Err(SendError::Closed));
    assert_eq!(b.split().1.try_recv().unwrap().unwrap().payload(), [1; 30]);
    assert_eq!(b.split().1.try_recv().unwrap_err(), RecvError::Closed);
    assert_eq!(b.split().1.poll_recv().unwrap_err(), RecvError::Closed);
    assert_eq!(leaked(&b), 0);
}

#[test]
fn a_receiver_that_goes_frees_what_it_did_not_take() {
    let (a, b) = pair(SMALL);
    let (mut tx, _rx) = a.into_split();
    let (b_tx, b_rx) = b.into_split();
    tx.try_send(&MsgDescHot::data(1), &[1; 30]).unwrap();
    tx.try_send(&MsgDescHot::data(2), &[1; 30]).unwrap();
    let loan = tx.try_loan(20).unwrap();
    drop(b_rx);
    assert_eq!(tx.try_send(&MsgDescHot::data(3), b""), Err(SendError::Closed));
    let unsent = tx.try_send_loan(&MsgDescHot::data(3), loan).unwrap_err();
    assert_eq!(unsent.error, SendError::Closed);
    drop(unsent);
    let status = tx.pool().slot_status(rapace_shm_core::region::InRegion::region(tx.endpoint()));
    assert_eq!((status.free, status.free_list_len), (3, 3));
    drop(b_tx);
}

#[test]
fn a_loan_of_another_session_is_refused_and_comes_back() {
    let (mut a, _b) = pair(SMALL);
    let (mut c, _d) = pair(SMALL);
    let loan = c.split().0.try_loan(20).unwrap();
    let unsent = a.split().0.try_send_loan(&MsgDescHot::data(1), loan).unwrap_err();
    assert_eq!(unsent.error, SendError::ForeignLoan);
    c.split().0.try_send_loan(&MsgDescHot::data(1), unsent.loan).unwrap();
}

#[test]
fn a_third_peer_is_refused() {
    let (_a, _b, region) = pair_and_region(SMALL);
    assert_eq!(Link::attach(endpoint(&region, 3)).unwrap_err(), LinkError::Occupied);
}

#[test]
fn a_gone_peer_is_replaced_and_nothing_of_mine_is_disturbed() {
    let (mut a, mut b, region) = pair_and_region(SMALL);
    // B holds one slot received and one on loan when it vanishes without a word; A holds one of B's messages.
    a.split().0.try_send(&MsgDescHot::data(1), &[1; 20]).unwrap();
    let received = b.split().1.try_recv().unwrap();
    b.split().0.try_send(&MsgDescHot::data(2), &[2; 20]).unwrap();
    let mine = a.split().1.try_recv().unwrap().unwrap();
    let loan = b.split().0.try_loan(20).unwrap();
    std::mem::forget((b, received, loan));
    assert_eq!(a.reset().unwrap(), 2);
    assert_eq!(mine.payload(), [2; 20]);
    let mut b = Link::attach(endpoint(&region, 3)).unwrap();
    assert_eq!(b.session().role(), PeerRole::B);
    b.split().0.try_send(&MsgDescHot::data(3), &[3; 20]).unwrap();
    assert_eq!(a.split().1.try_recv().unwrap().unwrap().payload(), [3; 20]);
    drop(mine);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn the_creator_can_be_replaced_too() {
    let (a, mut b, region) = pair_and_region(SMALL);
    std::mem::forget(a);
    b.reset().unwrap();
    let mut a = Link::attach(endpoint(&region, 3)).unwrap();
    assert_eq!(a.session().role(), PeerRole::A);
    a.split().0.try_send(&MsgDescHot::data(3), &[3; 20]).unwrap();
    assert_eq!(b.split().1.try_recv().unwrap().unwrap().payload(), [3; 20]);
}

#[test]
fn what_is_no_segment_is_refused_with_what_was_seen() {
    let empty = common::region(4096);
    let refused = Link::attach(endpoint(&empty, 3)).unwrap_err();
    assert_eq!(refused, LayoutError::InvalidMagic { seen: [0; 8] }.into());

    let (_a, _b, region) = pair_and_region(SMALL);
    let other = ShmSessionConfig { slot_count: 5, ..SMALL };
    let refused = Link::attach_expecting(endpoint(&region, 5), other).unwrap_err();
    assert_eq!(refused, LayoutError::ConfigMismatch { expected: other, found: SMALL }.into());

    let short = common::region(1000);
    let refused = Link::create(endpoint(&short, 3), SMALL).unwrap_err();
    assert_eq!(refused, LayoutError::SegmentTooSmall { required: 576 + 4 * 128 + 3 * 72, available: 1000 }.into());
    let refused = Link::create(endpoint(&common::region(4096), 2), SMALL).unwrap_err();
    assert_eq!(refused, LinkError::LedgerTooSmall { entries: 2, slots: 3 });
}

#[test]
fn a_message_that_names_a_slot_twice_is_a_fault_and_closes_the_endpoint() {
    use rapace_shm_core::layout::{At, DescRingHeader};
    use rapace_shm_core::region::Region;
    let (mut a, mut b, region) = pair_and_region(SMALL);
    a.split().0.try_send(&MsgDescHot::data(1), &[1; 20]).unwrap();
    let first = b.split().1.try_recv().unwrap().unwrap();
    // The same descriptor again, one place further on.
    let ring = 128;
    region.store_line(At::new(ring + 192 + 64), first.descriptor().to_line());
    region.u64(DescRingHeader::VISIBLE_HEAD.within(ring)).store(2, std::sync::atomic::Ordering::Release);
    let fault = PeerFault::AlreadyHeld { slot: first.descriptor().payload_slot };
    assert_eq!(b.split().1.try_recv().unwrap_err(), RecvError::PeerFault(fault));
    assert_eq!(b.split().1.try_recv().unwrap_err(), RecvError::PeerFault(fault), "it stays closed");
    assert_eq!(b.split().0.try_send(&MsgDescHot::data(1), b""), Err(SendError::Closed));
    assert_eq!(first.payload(), [1; 20], "what was received stays readable");
}

/// What a version 1.0 peer leaves of itself: it never says that it is there.
fn leave_no_state(region: &common::HeapRegion, state: At<u32>) {
    region.u32(state).store(PeerState::Unknown as u32, Ordering::Relaxed);
}

#[test]
fn nobody_takes_the_place_of_a_version_1_peer() {
    let attach = |region: &common::HeapRegion| Link::attach(endpoint(region, SMALL.slot_count)).map(drop);
    // It created the session, and the one that opened it is gone.
    let (a, b, region) = pair_and_region(SMALL);
    leave_no_state(&region, SegmentHeader::PEER_A_STATE);
    drop(b);
    assert_eq!(attach(&region), Err(LinkError::OldPeer { role: PeerRole::A }));
    drop(a);
    // It opened the session and received something.
    let (mut a, mut b, region) = pair_and_region(SMALL);
    a.split().0.try_send(&MsgDescHot::data(1), b"to an old one").unwrap();
    drop(b.split().1.try_recv().unwrap());
    drop(b);
    leave_no_state(&region, SegmentHeader::PEER_B_STATE);
    assert_eq!(attach(&region), Err(LinkError::OldPeer { role: PeerRole::B }));
    // The survivor knows better, and makes room.
    a.reset().unwrap();
    attach(&region).unwrap();
}

#[test]
fn a_dead_peers_last_messages_are_received_and_then_its_death() {
    let (mut a, mut b) = pair(SMALL);
    b.split().0.try_send(&MsgDescHot::data(1), b"last words").unwrap();
    b.split().0.try_send(&MsgDescHot::data(2), &[7; 40]).unwrap();
    std::mem::forget(b);
    a.endpoint().ledger().peer_died();
    let (tx, rx) = a.split();
    assert_eq!(tx.try_send(&MsgDescHot::data(9), b"too late"), Err(SendError::PeerDied));
    assert_eq!(tx.try_loan(20).unwrap_err(), SendError::PeerDied);
    assert_eq!(rx.try_recv().unwrap().unwrap().payload(), b"last words");
    assert_eq!(rx.try_recv().unwrap().unwrap().payload(), [7; 40]);
    assert_eq!(rx.try_recv().unwrap_err(), RecvError::PeerDied);
    assert_eq!(rx.poll_recv().unwrap_err(), RecvError::PeerDied);
    a.reset().unwrap();
    assert!(!a.endpoint().ledger().peer_has_died());
    a.split().0.try_send(&MsgDescHot::data(1), b"to the next one").unwrap();
}

#[test]
fn a_peer_that_closed_before_it_died_has_closed() {
    let (mut a, mut b) = pair(SMALL);
    b.split().0.close();
    b.split().1.close();
    drop(b);
    a.endpoint().ledger().peer_died();
    assert_eq!(a.split().0.try_send(&MsgDescHot::data(1), b""), Err(SendError::Closed));
    assert_eq!(a.split().1.try_recv().unwrap_err(), RecvError::Closed);
}

#[test]
fn halves_of_two_sessions_are_not_reset_together() {
    let ((mut a, _b), (mut other, _)) = (pair(SMALL), pair(SMALL));
    let session = *a.session();
    let refused = session.reset(a.split().0, other.split().1);
    assert_eq!(refused, Err(LinkError::ForeignHalf));
    let (mut larger, _) = pair(ShmSessionConfig { slot_count: 2, ..SMALL });
    let (tx, rx) = larger.split();
    assert_eq!(session.reset(tx, rx), Err(LinkError::ForeignHalf));
    a.split().0.try_send(&MsgDescHot::data(1), b"still well").unwrap();
}

/// Found by rubbish between any two accesses: such an endpoint went on receiving.
#[test]
fn a_reset_that_meets_a_fault_closes_the_endpoint_and_the_next_one_mends_it() {
    let (mut a, b, region) = pair_and_region(SMALL);
    drop(b);
    let data = SegmentOffsets::calculate(&SMALL).unwrap().data_header;
    region.u64(DataSegmentHeader::FREE_HEAD.within(data)).store(99, Ordering::Relaxed);
    let fault = PeerFault::FreeLink { slot: u32::MAX, next: 99, count: 3 };
    assert_eq!(a.reset(), Err(LinkError::PeerFault(fault)));
    assert_eq!(a.split().0.try_send(&MsgDescHot::data(1), b""), Err(SendError::PeerFault(fault)));
    assert_eq!(a.split().1.try_recv().unwrap_err(), RecvError::PeerFault(fault));
    a.reset().unwrap();
    assert_eq!(leaked(&a), 0);
    a.split().0.try_send(&MsgDescHot::data(1), &[7; 40]).unwrap();
}
