//! Vectors that are born in a slot and sent from there.
//!
//! Seen to fail on these mutants of core: an offset of 0 in the descriptor (the header arrives instead of the elements);
//! `loan_of_vec` that drops the vector as well (the slot is freed while it is in flight: a fault); `feed_vec` without
//! `check_own` (a foreign slot is sent); `shm_vec` without a look at the size (`NoSlot` for what never fits).
#![cfg(all(feature = "allocator", feature = "std"))]

mod common;

use common::{HeapEndpoint, HeapLink, leaked, pair};
use rapace_shm_core::allocator::allocator_api2::vec::Vec;
use rapace_shm_core::allocator::{ALLOCATION_HEADER_SIZE, ShmAllocator, ShmVec, shm_vec, shm_vec_with_capacity};
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
use rapace_shm_core::link::{Message, SendError};
use rapace_shm_core::wake::Step;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 256, slot_count: 4 };
const DATA: MsgDescHot = MsgDescHot::data(1);

fn receive(link: &mut HeapLink) -> Message<HeapEndpoint> {
    link.split().1.try_recv().unwrap().expect("a message is there")
}

#[test]
fn a_vector_arrives_where_it_was_born() {
    let (mut a, mut b) = pair(CONFIG);
    let vec = shm_vec(&a.allocator(), &[7; 100]).unwrap();
    let born = vec.as_ptr();
    a.split().0.try_send_vec(&DATA, vec).unwrap();
    let received = receive(&mut b);
    assert_eq!(received.payload(), [7; 100]);
    assert_eq!(received.payload().as_ptr(), born);
    assert_eq!(received.descriptor().payload_offset as usize, ALLOCATION_HEADER_SIZE);
    drop(received);
    assert_eq!(leaked(&a), 0);
}

/// An element on a boundary of its own.
#[derive(Clone, Copy, Debug, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C, align(32))]
struct Wide([u8; 32]);

#[test]
fn elements_arrive_as_bytes_from_their_own_boundary_on() {
    let (mut a, mut b) = pair(CONFIG);
    let mut numbers = shm_vec_with_capacity::<u64, _>(&a.allocator(), 20).unwrap();
    numbers.extend(0..20);
    a.split().0.try_send_vec(&DATA, numbers).unwrap();
    let received = receive(&mut b);
    let expected = (0..20).flat_map(u64::to_ne_bytes);
    assert!(received.payload().iter().copied().eq(expected));
    drop(received);
    // One element fewer than fits next to a header that is as long as an element.
    let mut wide = shm_vec_with_capacity::<Wide, _>(&a.allocator(), 6).unwrap();
    wide.extend([Wide([3; 32]); 6]);
    a.split().0.try_send_vec(&DATA, wide).unwrap();
    let received = receive(&mut b);
    assert_eq!(received.payload(), [3; 192]);
    assert!(received.payload().as_ptr().addr().is_multiple_of(32));
    drop(received);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn short_vectors_go_inside_the_descriptor_and_free_their_slot_at_once() {
    let (mut a, mut b) = pair(CONFIG);
    for len in 0..=16 {
        let vec = shm_vec(&a.allocator(), &[5; 16][..len]).unwrap();
        a.split().0.try_send_vec(&DATA, vec).unwrap();
        assert_eq!(leaked(&a), 0);
        let received = receive(&mut b);
        assert!(received.descriptor().is_inline() && received.payload() == &[5; 16][..len]);
    }
    // No elements, though room for them; and elements of no bytes.
    let roomy = shm_vec_with_capacity::<u64, _>(&a.allocator(), 10).unwrap();
    a.split().0.try_send_vec(&DATA, roomy).unwrap();
    let mut units = Vec::new_in(a.allocator());
    units.extend([(); 9]);
    a.split().0.try_send_vec(&DATA, units).unwrap();
    assert_eq!(leaked(&a), 0);
    assert!((0..2).all(|_| receive(&mut b).is_empty()));
}

#[test]
fn a_vector_that_was_not_sent_comes_back_as_it_was() {
    let (mut a, mut b) = pair(CONFIG);
    let (c, _d) = pair(CONFIG);
    let foreign = [shm_vec(&c.allocator(), &[1; 40]).unwrap(), shm_vec(&b.allocator(), b"short").unwrap()];
    for vec in foreign {
        let bytes = vec.to_vec();
        let unsent = a.split().0.try_send_vec(&DATA, vec).unwrap_err();
        assert_eq!((unsent.error, &unsent.loan[..]), (SendError::ForeignLoan, &bytes[..]));
    }
    (0..4).for_each(|_| a.split().0.try_send(&DATA, b"").unwrap());
    let mut vec = shm_vec(&a.allocator(), &[2; 40]).unwrap();
    for len in [40, 10] {
        vec.truncate(len);
        let unsent = a.split().0.try_send_vec(&DATA, vec).unwrap_err();
        assert_eq!((unsent.error, unsent.loan.len()), (SendError::Full, len));
        vec = unsent.loan;
    }
    vec.extend([2; 30]);
    let mut waiting = Some(vec);
    assert!(matches!(a.split().0.poll_send_vec(&DATA, &mut waiting), Ok(Step::Sleep(_))));
    drop(receive(&mut b));
    assert!(matches!(a.split().0.poll_send_vec(&DATA, &mut waiting), Ok(Step::Ready(()))));
    assert!(waiting.is_none());
    (0..3).for_each(|_| drop(receive(&mut b)));
    assert_eq!(receive(&mut b).payload(), [2; 40]);
    drop(b);
    let late = shm_vec(&a.allocator(), &[3; 40]).unwrap();
    let unsent = a.split().0.try_send_vec(&DATA, late).unwrap_err();
    assert_eq!((unsent.error, &unsent.loan[..]), (SendError::Closed, &[3; 40][..]));
    drop(unsent);
    assert_eq!((leaked(&a), leaked(&c)), (0, 0));
}

#[test]
fn what_does_not_fit_is_told_from_what_finds_no_slot() {
    let (a, _b) = pair(CONFIG);
    let allocator = a.allocator();
    let max = allocator.max_allocation_size();
    let refused = |result: Result<ShmVec<u8, HeapEndpoint>, SendError>| result.unwrap_err();
    assert_eq!(refused(shm_vec(&allocator, &[0; 241])), SendError::TooLarge { len: 241, max });
    let endless = shm_vec_with_capacity::<u64, _>(&allocator, usize::MAX).unwrap_err();
    assert_eq!(endless, SendError::TooLarge { len: usize::MAX, max });
    let held: std::vec::Vec<_> = (0..4).map(|_| shm_vec(&allocator, &[1; 240]).unwrap()).collect();
    assert_eq!(refused(shm_vec(&allocator, b"one more")), SendError::NoSlot);
    assert!(shm_vec(&allocator, b"").is_ok(), "nothing needs no slot");
    drop(held);
    assert_eq!(leaked(&a), 0);
}

#[test]
fn what_is_said_to_fit_fits_every_slot() {
    for slot_size in [64, 68, 100, 256] {
        let (a, _b) = pair(ShmSessionConfig { slot_size, ..CONFIG });
        let largest =
            |_| (0..9).rev().find_map(|capacity| shm_vec_with_capacity::<Wide, _>(&a.allocator(), capacity).ok());
        let held: std::vec::Vec<_> = (0..4).map(largest).collect();
        let capacities = held.iter().map(|vec| vec.as_ref().map_or(0, Vec::capacity));
        let (least, most) = (capacities.clone().min().unwrap(), capacities.max().unwrap());
        assert_eq!(least, most, "slots of {slot_size} bytes");
        let refused = shm_vec_with_capacity::<Wide, _>(&a.allocator(), most + 1).unwrap_err();
        assert!(matches!(refused, SendError::TooLarge { .. }));
    }
}

#[test]
fn a_vector_is_frozen_where_it_is() {
    let (mut a, mut b) = pair(CONFIG);
    let vec = shm_vec(&a.allocator(), &[9; 100]).unwrap();
    let born = vec.as_ptr();
    let kept = ShmAllocator::loan_of_vec(vec).unwrap().freeze();
    a.split().0.try_send_frozen(&DATA, kept.slice(10..60).unwrap()).unwrap();
    let received = receive(&mut b);
    assert_eq!((received.payload(), &kept[..]), (&[9; 50][..], &[9; 100][..]));
    assert_eq!((kept.as_ptr(), received.payload().as_ptr()), (born, born.wrapping_add(10)));
    assert!(ShmAllocator::loan_of_vec(shm_vec(&a.allocator(), b"").unwrap()).is_err());
    drop((kept, received));
    assert_eq!(leaked(&a), 0);
}
