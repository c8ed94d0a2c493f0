//! What a bare descriptor ring promises, without sessions, slots or waiting.

mod common;

use std::sync::atomic::Ordering;
use std::thread;

use common::{HeapRegion, region};
use rapace_shm_core::PeerFault;
use rapace_shm_core::layout::{DescRingHeader, LayoutError, MsgDescHot, RING_HEADER_SIZE};
use rapace_shm_core::region::Region;
use rapace_shm_core::ring::{Consumer, DescRing, Producer, RingError};

type Ends = (Producer<HeapRegion>, Consumer<HeapRegion>);

const fn size(capacity: u32) -> usize {
    RING_HEADER_SIZE + capacity as usize * size_of::<MsgDescHot>()
}

fn ring(capacity: u32) -> (Ends, HeapRegion) {
    let region = region(size(capacity));
    (DescRing::create(region.clone(), 0, capacity).unwrap().split(), region)
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<MsgDescHot> {
    numbers.map(MsgDescHot::data).collect()
}

#[test]
fn what_goes_in_comes_out_in_order_through_many_rounds() {
    for capacity in [1, 2, 8] {
        let ((mut producer, mut consumer), _) = ring(capacity);
        let mut next = 0;
        for number in 0..100 {
            let mut descriptor = MsgDescHot::data(number);
            descriptor.inline_payload = [number.to_le_bytes()[0]; 16];
            while producer.try_push(&descriptor) == Err(RingError::Full) {
                assert_eq!(consumer.try_pop().unwrap().unwrap().msg_id, next);
                next += 1;
            }
        }
        while let Some(descriptor) = consumer.try_pop().unwrap() {
            assert_eq!((descriptor.msg_id, descriptor.inline_payload[15]), (next, next.to_le_bytes()[0]));
            next += 1;
        }
        assert_eq!(next, 100);
    }
}

#[test]
fn a_ring_holds_exactly_its_capacity() {
    let ((mut producer, mut consumer), region) = ring(4);
    assert_eq!(producer.push_batch(&numbered(0..6)), Ok(4));
    assert_eq!(producer.try_push(&MsgDescHot::data(9)), Err(RingError::Full));
    assert_eq!(producer.free_places(1), Ok(0));
    let status = DescRing::attach(region, 0).unwrap().status();
    assert_eq!((status.len(), status.is_empty(), status.capacity), (4, false, 4));
    assert_eq!(status.to_string(), "4 of 4 (100 %), head 4, tail 0");
    let mut popped = vec![MsgDescHot::new(); 3];
    assert_eq!(consumer.pop_batch(&mut popped), Ok(3));
    assert_eq!(popped, numbered(0..3));
    assert_eq!(producer.push_batch(&numbered(4..9)), Ok(3));
    let mut popped = vec![MsgDescHot::new(); 9];
    assert_eq!(consumer.pop_batch(&mut popped), Ok(4));
    assert_eq!(popped[..4], numbered(3..7));
    assert_eq!(consumer.pop_batch(&mut popped), Ok(0));
}

#[test]
fn what_is_written_is_invisible_until_published_and_counts_as_taken() {
    let ((mut producer, mut consumer), _) = ring(2);
    producer.write(&MsgDescHot::data(1)).unwrap();
    producer.write(&MsgDescHot::data(2)).unwrap();
    assert_eq!(producer.write(&MsgDescHot::data(3)), Err(RingError::Full));
    assert_eq!(consumer.try_pop(), Ok(None));
    assert!(producer.publish());
    assert!(!producer.publish(), "nothing new");
    assert_eq!(consumer.ready(9), Ok(2));
    // Read without being given back, so the producer still sees a full ring.
    assert_eq!(consumer.peek().unwrap().unwrap().msg_id, 1);
    consumer.advance();
    assert_eq!(consumer.peek().unwrap().unwrap().msg_id, 2);
    assert_eq!(producer.write(&MsgDescHot::data(3)), Err(RingError::Full));
    consumer.release();
    producer.try_push(&MsgDescHot::data(3)).unwrap();
    consumer.advance();
    consumer.release();
    assert_eq!(consumer.try_pop().unwrap().unwrap().msg_id, 3);
    consumer.advance();
    assert_eq!(consumer.try_pop(), Ok(None), "advancing past the end does nothing");
}

#[test]
fn indices_wrap_around() {
    let region = region(size(4));
    let _ = DescRing::create(region.clone(), 0, 4).unwrap();
    for index in [DescRingHeader::VISIBLE_HEAD, DescRingHeader::TAIL] {
        region.u64(index).store(u64::MAX - 1, Ordering::Relaxed);
    }
    let (mut producer, mut consumer) = DescRing::attach(region, 0).unwrap().split();
    assert_eq!(producer.push_batch(&numbered(0..9)), Ok(4));
    let mut popped = [MsgDescHot::new(); 9];
    assert_eq!(consumer.pop_batch(&mut popped), Ok(4));
    assert_eq!(popped[..4], numbered(0..4));
    assert_eq!(producer.free_places(9), Ok(4));
}

#[test]
fn an_end_that_resumes_goes_on_where_the_header_says() {
    let region = region(size(4));
    let (mut producer, _) = DescRing::create(region.clone(), 0, 4).unwrap().split();
    producer.push_batch(&numbered(0..3)).unwrap();
    let (mut producer, mut consumer) = DescRing::attach(region, 0).unwrap().split();
    producer.try_push(&MsgDescHot::data(3)).unwrap();
    assert_eq!(producer.try_push(&MsgDescHot::data(4)), Err(RingError::Full));
    for number in 0..4 {
        assert_eq!(consumer.try_pop().unwrap().unwrap().msg_id, number);
    }
}

#[test]
fn a_head_that_cannot_be_is_a_fault() {
    for (seen, consumed) in [(7, 1), (0, 1), (u64::MAX, 1)] {
        let ((mut producer, mut consumer), region) = ring(4);
        producer.push_batch(&numbered(0..2)).unwrap();
        consumer.try_pop().unwrap().unwrap();
        region.u64(DescRingHeader::VISIBLE_HEAD).store(seen, Ordering::Relaxed);
        assert_eq!(consumer.ready(4), Err(PeerFault::Head { seen, consumed, capacity: 4 }));
    }
}

#[test]
fn a_tail_that_cannot_be_is_a_fault_and_nothing_is_written() {
    for seen in [5, 0, u64::MAX] {
        let ((mut producer, mut consumer), region) = ring(4);
        producer.push_batch(&numbered(0..4)).unwrap();
        consumer.try_pop().unwrap().unwrap();
        assert_eq!(producer.free_places(1), Ok(1));
        producer.try_push(&MsgDescHot::data(4)).unwrap();
        region.u64(DescRingHeader::TAIL).store(seen, Ordering::Relaxed);
        let fault = PeerFault::Tail { seen, before: 1, published: 5 };
        if seen == 5 {
            assert_eq!(producer.free_places(9), Ok(4), "everything was consumed");
        } else {
            assert_eq!(producer.push_batch(&numbered(5..6)), Err(fault));
            assert_eq!(region.u64(DescRingHeader::VISIBLE_HEAD).load(Ordering::Relaxed), 5);
        }
    }
}

#[test]
fn a_capacity_that_changes_later_changes_nothing() {
    let ((mut producer, mut consumer), region) = ring(2);
    region.u32(DescRingHeader::CAPACITY).store(1 << 31, Ordering::Relaxed);
    assert_eq!(producer.push_batch(&numbered(0..9)), Ok(2));
    let mut popped = [MsgDescHot::new(); 9];
    assert_eq!(consumer.pop_batch(&mut popped), Ok(2));
}

#[test]
fn places_where_no_ring_can_be_are_refused_with_what_was_seen() {
    let region = region(size(4));
    let create = |offset, capacity| DescRing::create(region.clone(), offset, capacity).map(drop);
    for seen in [0, 3, u32::MAX] {
        assert_eq!(create(0, seen), Err(LayoutError::RingCapacity { seen }));
    }
    let (required, available) = (size(8), size(4));
    assert_eq!(create(0, 8), Err(LayoutError::SegmentTooSmall { required, available }));
    assert_eq!(create(4, 2), Err(LayoutError::Misaligned { address: 4, align: 8 }));
    assert!(matches!(create(usize::MAX & !63, 2), Err(LayoutError::SegmentTooSmall { .. })));
    assert!(matches!(DescRing::attach(region.clone(), usize::MAX), Err(LayoutError::SegmentTooSmall { .. })));
    assert!(matches!(DescRing::attach(region.clone(), 0), Err(LayoutError::RingCapacity { seen: 0 })));
    assert!(matches!(DescRing::attach(region, 12), Err(LayoutError::Misaligned { address: 12, align: 8 })));
}

#[test]
fn two_threads_lose_double_and_reorder_nothing() {
    const MESSAGES: u64 = 200_000;
    let ((mut producer, mut consumer), _) = ring(8);
    let pushing = thread::spawn(move || {
        let mut next = 0;
        while next < MESSAGES {
            // By turns one by one and in batches.
            let pushed = match next % 3 {
                0 => u64::from(producer.try_push(&MsgDescHot::data(next)).is_ok()),
                _ => producer.push_batch(&numbered(next..MESSAGES.min(next + 5))).unwrap() as u64,
            };
            next += pushed;
            if pushed == 0 {
                thread::yield_now();
            }
        }
    });
    let mut next = 0;
    let mut popped = [MsgDescHot::new(); 7];
    while next < MESSAGES {
        let count = consumer.pop_batch(&mut popped).unwrap();
        for descriptor in &popped[..count] {
            assert_eq!(descriptor.msg_id, next);
            next += 1;
        }
        if count == 0 {
            thread::yield_now();
        }
    }
    pushing.join().unwrap();
}
