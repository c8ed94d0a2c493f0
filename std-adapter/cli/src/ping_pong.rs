//! The floor of a round trip: what the machine itself takes to move two cache lines there and back.

use std::convert::Infallible;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::estimate::Batches;

/// One way: 64 bytes and a flag, each on a line of its own.
#[repr(C, align(64))]
#[derive(Default)]
struct Way {
    bytes: [AtomicU64; 8],
    flag: Flag,
}

#[repr(C, align(64))]
#[derive(Default)]
struct Flag(AtomicU64);

/// Says that the other side may go.
const STOP: u64 = u64::MAX;

impl Way {
    fn send(&self, number: u64) {
        for word in &self.bytes {
            word.store(number, Ordering::Relaxed);
        }
        self.flag.0.store(number, Ordering::Release);
    }

    /// Waits for the number and reads the bytes; false if there will be no more.
    fn receive(&self, number: u64) -> bool {
        loop {
            match self.flag.0.load(Ordering::Acquire) {
                seen if seen == number => break,
                STOP => return false,
                _ => spin_loop(),
            }
        }
        for word in &self.bytes {
            assert_eq!(black_box(word.load(Ordering::Relaxed)), number);
        }
        true
    }
}

/// Nanoseconds per round trip of 64 bytes and a flag each way, both sides spinning, two threads.
pub fn round_trip(batches: Batches) -> f64 {
    let (there, back) = (Way::default(), Way::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 1;
            while there.receive(number) {
                back.send(number);
                number += 1;
            }
        });
        let mut number = 0;
        let timed = batches.time(|| {
            number += 1;
            there.send(number);
            back.receive(number);
            Ok::<(), Infallible>(())
        });
        there.send(STOP);
        timed.unwrap_or_else(|never| match never {})
    })
}
