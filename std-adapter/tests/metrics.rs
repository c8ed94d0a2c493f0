//! Every counter counts what its documentation says, and nothing else.
//!
//! Seen to fail on these mutants: a copy into a slot that is counted as in place; a slot whose return is not counted; a
//! full ring that is counted as a missing slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rapace_shm::{Error, MsgDescHot, ShmMetrics, ShmSession, ShmSessionConfig};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 2 };

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[test]
fn every_counter_counts_what_it_says() {
    let (mut a, mut b) = ShmSession::pair(CONFIG).unwrap();
    let (at_a, at_b) = (Arc::new(ShmMetrics::new()), Arc::new(ShmMetrics::new()));
    assert!(a.count_into(&at_a) && b.count_into(&at_b));
    assert!(!a.count_into(&at_b), "the first one stays");
    let (tx, _) = a.split();
    tx.send(&MsgDescHot::data(1), b"inline").unwrap();
    tx.send(&MsgDescHot::data(2), &[2; 40]).unwrap();
    let mut loan = tx.loan(64).unwrap();
    loan.fill(3);
    tx.send_loan(&MsgDescHot::data(3), loan).unwrap();
    assert!(matches!(tx.try_loan(1), Err(Error::Full)), "no slot");
    assert!(matches!(tx.try_send(&MsgDescHot::data(4), &[4; 20]), Err(Error::Full)), "no slot");
    tx.send(&MsgDescHot::data(5), b"the last place").unwrap();
    assert!(matches!(tx.try_send(&MsgDescHot::data(6), b"full"), Err(Error::Full)), "no place");
    for _ in 0..4 {
        drop(b.split().1.recv().unwrap());
    }
    drop(b.split().0.loan(10).unwrap());
    let counts = [
        (&at_a.zero_copy_encodes, 1),
        (&at_a.zero_copy_bytes, 64),
        (&at_a.copy_encodes, 3),
        (&at_a.copied_bytes, 6 + 40 + 14),
        (&at_a.slot_copy_bytes, 40),
        (&at_a.alloc_success, 2),
        (&at_a.alloc_failures, 2),
        (&at_a.slot_frees, 0),
        (&at_a.ring_enqueues, 4),
        (&at_a.ring_full_errors, 1),
        (&at_a.ring_dequeues, 0),
        (&at_a.inline_sends, 2),
        (&at_a.slot_sends, 2),
        (&at_b.ring_dequeues, 4),
        (&at_b.slot_frees, 3),
        (&at_b.alloc_success, 1),
        (&at_b.ring_enqueues, 0),
    ];
    for (number, (counter, expected)) in counts.into_iter().enumerate() {
        assert_eq!(read(counter), expected, "counter {number} of: {at_a:?} {at_b:?}");
    }
    assert_eq!((at_a.zero_copy_ratio(), at_b.zero_copy_ratio()), (0.25, 0.0));
    assert_eq!((at_a.ring_full_count(), at_a.alloc_failure_count(), at_a.alloc_success_count()), (1, 2, 2));
}

#[test]
fn the_summary_is_for_people() {
    let metrics = ShmMetrics::new();
    metrics.record_zero_copy_encode(100);
    metrics.record_copy_encode(20);
    metrics.record_slot_copy(20);
    metrics.record_ring_enqueue();
    metrics.record_ring_enqueue();
    metrics.record_slot_send();
    metrics.record_inline_send();
    metrics.record_alloc_success();
    metrics.record_alloc_failure();
    metrics.record_slot_free();
    metrics.record_ring_full();
    metrics.record_ring_dequeue();
    let expected = "\
sent      2 messages: 1 inline, 1 in slots
received  1 messages
payloads  1 in place (100 bytes), 1 copied (20 bytes, 20 of them into slots): 50.0 % in place
slots     1 taken, 1 given back, 1 times none was free
ring      1 times full";
    assert_eq!(metrics.summary(), expected);
}
