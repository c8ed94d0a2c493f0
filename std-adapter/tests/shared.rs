//! T4: many threads send through one sender; nothing is lost, doubled or out of order per thread, and nobody starves.
//!
//! `RAPACE_SHM_MESSAGES` says how many each thread sends; the campaign of goals is 1 000 000.
//!
//! Seen to fail on these mutants: one turn for both causes of waiting, and a sleep with the sender locked
//! (`the_holder_of_the_last_slot_…` never ends); each thread asleep on the doorbell by itself (`two_that_wait_…` never ends).

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::{assert_nothing_leaked, times};
use rapace_shm::{Error, MsgDescHot, SessionOptions, SharedSender, ShmSession, ShmSessionConfig};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 64, slot_count: 3 };

fn message(thread: u64, number: u64) -> MsgDescHot {
    MsgDescHot { deadline_ns: thread, ..MsgDescHot::data(number) }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    for doorbells in [false, true] {
        many_to_one(doorbells);
    }
}

fn many_to_one(doorbells: bool) {
    const THREADS: u64 = 4;
    let each = u64::from(times("RAPACE_SHM_MESSAGES", 10_000));
    let (a, mut b) = SessionOptions::new().doorbells(doorbells).pair(CONFIG).unwrap();
    let (tx, from_b) = a.into_split();
    let shared = SharedSender::new(tx);
    let receiving = std::thread::spawn(move || {
        let mut next: HashMap<u64, u64> = HashMap::new();
        for received in b.split().1.iter() {
            let received = received.unwrap();
            let descriptor = *received.descriptor();
            let expected = next.entry(descriptor.deadline_ns).or_default();
            assert_eq!(descriptor.msg_id, *expected, "thread {}", descriptor.deadline_ns);
            assert!(received.payload().iter().all(|byte| u64::from(*byte) == descriptor.deadline_ns));
            *expected += 1;
        }
        (b, next)
    });
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let shared = shared.clone();
            scope.spawn(move || {
                let byte = u8::try_from(thread).unwrap();
                for number in 0..each {
                    match number % 3 {
                        0 => shared.send(&message(thread, number), &[byte; 16]).unwrap(),
                        1 => shared.send(&message(thread, number), &[byte; 40]).unwrap(),
                        _ => {
                            let mut loan = shared.loan(64).unwrap();
                            loan.fill(byte);
                            shared.send_loan(&message(thread, number), loan).unwrap();
                        }
                    }
                }
            });
        }
    });
    drop(shared.into_inner().unwrap());
    let (b, seen) = receiving.join().unwrap();
    assert_eq!(seen, (0..THREADS).map(|thread| (thread, each)).collect());
    drop(from_b);
    assert_nothing_leaked(&b);
}

#[test]
fn the_holder_of_the_last_slot_can_send_it_while_others_wait_for_one() {
    let (a, mut b) = ShmSession::pair(ShmSessionConfig { slot_count: 1, ..CONFIG }).unwrap();
    let shared = SharedSender::new(a.into_split().0);
    let loan = shared.loan(40).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| shared.send(&message(2, 0), &[2; 40]));
        std::thread::sleep(Duration::from_millis(20));
        shared.send_loan(&message(1, 0), loan).unwrap();
        assert_eq!(b.split().1.recv().unwrap().descriptor().deadline_ns, 1);
        assert_eq!(b.split().1.recv().unwrap().descriptor().deadline_ns, 2);
        waiting.join().unwrap().unwrap();
    });
}

/// One thread waits for a slot, the other one for a place in the ring, on one doorbell: whatever comes first wakes the one
/// that it is for.
#[test]
fn two_that_wait_for_different_things_on_one_doorbell_are_both_woken() {
    for slot_first in [true, false] {
        let config = ShmSessionConfig { ring_capacity: 1, slot_count: 1, ..CONFIG };
        let (a, b) = SessionOptions::new().doorbells(true).pair(config).unwrap();
        let shared = SharedSender::new(a.into_split().0);
        let (_to_a, mut from_a) = b.into_split();
        shared.send(&message(0, 0), b"the only place").unwrap();
        let held = shared.loan(40).unwrap();
        std::thread::scope(|scope| {
            let for_a_slot = scope.spawn(|| drop(shared.loan(40).unwrap()));
            std::thread::sleep(Duration::from_millis(20));
            let for_a_place = scope.spawn(|| shared.send(&message(0, 1), b"the next").unwrap());
            std::thread::sleep(Duration::from_millis(20));
            if slot_first {
                drop(held);
                for_a_slot.join().unwrap();
                from_a.recv().unwrap();
                for_a_place.join().unwrap();
            } else {
                from_a.recv().unwrap();
                for_a_place.join().unwrap();
                drop(held);
                for_a_slot.join().unwrap();
            }
        });
    }
}

/// However unequal the turns are, each thread gets one again and again.
#[test]
fn nobody_starves() {
    const THREADS: usize = 4;
    const LONG: Duration = Duration::from_millis(400);
    let (a, mut b) = ShmSession::pair(CONFIG).unwrap();
    let shared = SharedSender::new(a.into_split().0);
    let end = Instant::now() + Duration::from_secs(1);
    let longest: Vec<(u64, Duration)> = std::thread::scope(|scope| {
        let receiving = scope.spawn(move || while b.split().1.recv().is_ok() {});
        let senders: Vec<_> = (0..THREADS)
            .map(|_| {
                let shared = shared.clone();
                scope.spawn(move || {
                    let (mut count, mut longest) = (0, Duration::ZERO);
                    while Instant::now() < end {
                        let start = Instant::now();
                        shared.send(&message(0, count), &[0; 40]).unwrap();
                        longest = longest.max(start.elapsed());
                        count += 1;
                    }
                    (count, longest)
                })
            })
            .collect();
        let longest = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        shared.close();
        receiving.join().unwrap();
        longest
    });
    assert!(longest.iter().all(|(count, longest)| *count > 20 && *longest < LONG), "{longest:?}");
}

#[test]
fn a_deadline_ends_the_wait_for_a_turn_too() {
    let (a, _b) = ShmSession::pair(ShmSessionConfig { ring_capacity: 1, slot_count: 1, ..CONFIG }).unwrap();
    let shared = SharedSender::new(a.into_split().0);
    shared.send(&message(0, 0), b"full").unwrap();
    let soon = || Instant::now() + Duration::from_millis(30);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| shared.send_deadline(&message(0, 1), b"waits", soon()));
        let second = scope.spawn(|| shared.send_deadline(&message(0, 2), b"waits for the other", soon()));
        assert!(matches!(first.join().unwrap(), Err(Error::Timeout)));
        assert!(matches!(second.join().unwrap(), Err(Error::Timeout)));
    });
    let loan = shared.loan(20).unwrap();
    let unsent = shared.send_loan_deadline(&message(0, 3), loan, Instant::now()).unwrap_err();
    assert!(unsent.loan.is_some(), "the loan comes back");
}
