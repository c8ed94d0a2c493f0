//! What the machine itself takes: a ping-pong of cache lines, five compare-exchanges, a futex ping-pong.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rapace_shm::futex;

use crate::measure::{Plan, median_batch};
use crate::ping_pong;

/// Nanoseconds per round trip of 64 bytes and a flag each way, both sides spinning, two threads.
pub fn round_trip(plan: &Plan) -> f64 {
    ping_pong::round_trip(plan.batches())
}

/// A short floor, to see whether the cores were moved.
pub fn probe(plan: &Plan) -> f64 {
    round_trip(&Plan { count: plan.count / 4 + 1, ..*plan })
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
