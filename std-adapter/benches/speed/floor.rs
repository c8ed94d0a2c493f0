//! What the machine itself takes: a ping-pong of cache lines, five compare-exchanges, a futex ping-pong.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rapace_shm::futex;

use crate::measure::{Plan, median_batch};

/// One way of the floor: 64 bytes and a flag, each on a line of its own.
#[repr(C, align(64))]
#[derive(Default)]
struct Way {
    bytes: [AtomicU64; 8],
    flag: Flag,
}

#[repr(C, align(64))]
#[derive(Default)]
struct Flag(AtomicU64);

impl Way {
    fn send(&self, number: u64) {
        for word in &self.bytes {
            word.store(number, Ordering::Relaxed);
        }
        self.flag.0.store(number, Ordering::Release);
    }

    fn receive(&self, number: u64) {
        while self.flag.0.load(Ordering::Acquire) != number {
            spin_loop();
        }
        for word in &self.bytes {
            assert_eq!(black_box(word.load(Ordering::Relaxed)), number);
        }
    }
}

/// Nanoseconds per round trip of 64 bytes and a flag each way, both sides spinning, two threads.
pub fn round_trip(plan: &Plan) -> f64 {
    let (there, back) = (Way::default(), Way::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=plan.total() {
                there.receive(number);
                back.send(number);
            }
        });
        let mut number = 0;
        median_batch(plan, || {
            number += 1;
            there.send(number);
            back.receive(number);
        })
    })
}

/// A short floor, to see whether the cores were moved.
pub fn probe(plan: &Plan) -> f64 {
    round_trip(&Plan { batches: plan.batches / 4 + 1, ..*plan })
}

/// Nanoseconds per five uncontended compare-exchanges.
pub fn five_compare_exchanges(plan: &Plan) -> f64 {
    let words: [AtomicU64; 5] = Default::default();
    median_batch(plan, || {
        for word in &words {
            let seen = word.load(Ordering::Relaxed);
            let changed = word.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire);
            assert!(black_box(changed).is_ok());
        }
    })
}

/// Nanoseconds per round trip of two threads that sleep on futexes in between.
pub fn futex_round_trip(plan: &Plan) -> f64 {
    let (there, back) = (AtomicU32::new(0), AtomicU32::new(0));
    let wait = |word: &AtomicU32, seen: u32| {
        while word.load(Ordering::Acquire) == seen {
            futex::wait(word, seen, None).expect("futex");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..u32::try_from(plan.total()).expect("few") {
                wait(&there, number);
                futex::signal(&back).expect("futex");
            }
        });
        let mut number = 0;
        median_batch(plan, || {
            futex::signal(&there).expect("futex");
            wait(&back, number);
            number += 1;
        })
    })
}
