//! What is measured: one message there and one back, or many one way; the same loops for every contestant.
//!
//! ```text
//!   first process                    second process
//!   (holds the clock)
//!                  <------- HELLO -- ready
//!   round trip:
//!   send 1 --------------->
//!                  <--------------- send 1
//!   ...
//!   one way:
//!                  <--------------- send 0, 1, 2, ...
//!   STOP ----------------->          ends
//! ```
//!
//! Every message carries its number, and every receiver checks it: what is lost, doubled, out of order or torn stops the
//! program instead of entering the table.

use std::hint::{black_box, spin_loop};
use std::time::Duration;

use crate::measure::{Plan, median_batch};

/// Longer than any sample takes, so that a side whose peer has gone says so instead of waiting for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of message. A type, so that every contestant's loop is compiled for it alone.
pub trait Work {
    /// Bytes of payload. 0: nothing but the descriptor, which is 64 bytes.
    const LEN: usize;
    /// Whether the sender writes every byte; otherwise the first eight and the last.
    const FILL: bool;
    /// Bytes of the message for those that have no descriptor to put the number in.
    const WIRE: usize = if Self::LEN == 0 { 64 } else { Self::LEN };

    /// Writes a message's payload.
    #[inline]
    fn write(payload: &mut [u8], number: u64) {
        let bytes = number.to_le_bytes();
        if Self::FILL {
            payload.fill(bytes[0]);
        }
        if let Some(last) = payload.last_mut() {
            *last = bytes[0];
        }
        payload[..8].copy_from_slice(&bytes);
    }

    /// Reads the number of a payload and checks that its other end belongs to it.
    #[inline]
    fn read(payload: &[u8]) -> u64 {
        assert_eq!(payload.len(), Self::WIRE, "bytes of the message");
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&payload[..8]);
        if Self::WIRE > 8 {
            assert_eq!(payload[Self::WIRE - 1], bytes[0], "the message's last byte");
        }
        u64::from_le_bytes(bytes)
    }
}

/// `LEN` bytes, marked at both ends.
#[derive(Debug)]
pub struct Marked<const LEN: usize>;

impl<const LEN: usize> Work for Marked<LEN> {
    const LEN: usize = LEN;
    const FILL: bool = false;
}

/// `LEN` bytes, each of them written.
#[derive(Debug)]
pub struct Filled<const LEN: usize>;

impl<const LEN: usize> Work for Filled<LEN> {
    const LEN: usize = LEN;
    const FILL: bool = true;
}

/// One side of a connection. Both calls wait for as long as it takes.
pub trait Link {
    /// Sends message `number`.
    fn send<W: Work>(&mut self, number: u64);
    /// Receives a message, checks it, gives its number.
    fn recv<W: Work>(&mut self) -> u64;
}

/// The second side is ready.
const HELLO: u64 = 0;
/// The first side has what it needs.
const STOP: u64 = u64::MAX;

/// The first side: nanoseconds per message, or per round trip.
pub fn first_side<W: Work>(link: &mut impl Link, plan: &Plan, one_way: bool) -> f64 {
    assert_eq!(link.recv::<W>(), HELLO, "the second side's first message");
    let mut number = 0;
    let time = if one_way {
        let time = median_batch(plan, || expect_next::<W>(link, &mut number));
        // A limit may have ended the measurement, but not the messages.
        while number < plan.total() {
            expect_next::<W>(link, &mut number);
        }
        time
    } else {
        median_batch(plan, || {
            number += 1;
            link.send::<W>(number);
            assert_eq!(link.recv::<W>(), number, "number of the answer");
        })
    };
    link.send::<W>(STOP);
    time
}

#[inline]
fn expect_next<W: Work>(link: &mut impl Link, number: &mut u64) {
    assert_eq!(black_box(link.recv::<W>()), *number, "number of the message");
    *number += 1;
}

/// The second side: sends as many as go one way, if they do; answers until it is stopped.
pub fn second_side<W: Work>(link: &mut impl Link, one_way: Option<u64>) {
    link.send::<W>(HELLO);
    for number in 0..one_way.unwrap_or(0) {
        link.send::<W>(number);
    }
    loop {
        match link.recv::<W>() {
            STOP => break,
            number => link.send::<W>(number),
        }
    }
}

/// Spins until the attempt gives something; for those that have no waiting of their own.
#[inline]
pub fn spin<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    // Several seconds at the least: no sample is so slow, so the other side is gone.
    for _ in 0..1_u64 << 33 {
        if let Some(value) = attempt() {
            return value;
        }
        spin_loop();
    }
    panic!("the other side has fallen silent; run with RUST_BACKTRACE=1 to see which contestant waited for it");
}
