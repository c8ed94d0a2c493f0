//! What the threads of one hub peer share, in private memory: their announcements, how many slots they have, and which
//! extents they know to be there.
//!
//! A peer announces each slot that it is about to take or give back, so that it is found if the peer is killed in
//! between. It has room for few announcements in shared memory ([`ANNOUNCEMENTS`]), and which of them a thread uses is
//! decided here, where no other peer can write: a lane is a thread's for the some tens of nanoseconds between two steps,
//! and who finds all lanes in use spins until one is free.

use core::sync::atomic::Ordering;

use crate::atomic::{AtomicBool, AtomicU32};
use crate::layout::{ANNOUNCEMENTS, NUM_SIZE_CLASSES};

/// The lanes of one endpoint, and its count of slots per size class. A session uses neither.
#[derive(Debug)]
pub(crate) struct Lanes {
    busy: [AtomicBool; ANNOUNCEMENTS],
    /// At least as many as the endpoint has: what was sent is taken off only when it is counted again.
    taken: [AtomicU32; NUM_SIZE_CLASSES],
    /// Extents beyond the first of which the endpoint has made sure that their bytes are there.
    met: [AtomicU32; NUM_SIZE_CLASSES],
}

impl Lanes {
    pub(crate) const fn new() -> Self {
        Self {
            busy: [const { AtomicBool::new(false) }; ANNOUNCEMENTS],
            taken: [const { AtomicU32::new(0) }; NUM_SIZE_CLASSES],
            met: [const { AtomicU32::new(0) }; NUM_SIZE_CLASSES],
        }
    }

    /// Takes a lane, waiting for one if all are in use.
    #[inline]
    pub(crate) fn enter(&self) -> Lane<'_> {
        loop {
            for (number, busy) in self.busy.iter().enumerate() {
                // Acquire pairs with the Release in `drop`: the last announcement of this lane was cleared before.
                if !busy.swap(true, Ordering::Acquire) {
                    return Lane { number, busy };
                }
            }
            core::hint::spin_loop();
        }
    }

    /// The count of a size class that exists.
    #[inline]
    pub(crate) fn taken(&self, class: u32) -> Option<&AtomicU32> {
        self.taken.get(class as usize)
    }

    /// The further extents that were met of a size class that exists.
    #[inline]
    pub(crate) fn met(&self, class: u32) -> Option<&AtomicU32> {
        self.met.get(class as usize)
    }

    /// Whatever was met was in another region.
    pub(crate) fn forget_extents(&self) {
        self.met.iter().for_each(|met| met.store(0, Ordering::Relaxed));
    }
}

/// Permission to use one announcement.
#[derive(Debug)]
pub(crate) struct Lane<'a> {
    number: usize,
    busy: &'a AtomicBool,
}

impl Lane<'_> {
    /// Which announcement.
    #[inline]
    pub(crate) const fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Lane<'_> {
    #[inline]
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_lanes_as_announcements_and_each_to_one() {
        let lanes = Lanes::new();
        let mut numbers: std::vec::Vec<_> = (0..ANNOUNCEMENTS).map(|_| lanes.enter()).collect();
        assert!(numbers.iter().enumerate().all(|(expected, lane)| lane.number() == expected));
        drop(numbers.remove(1));
        assert_eq!(lanes.enter().number(), 1);
    }
}
