//! How often an endpoint asked the kernel for something: the one number that shows whether traffic is at memory speed.

use std::sync::atomic::{AtomicU64, Ordering};

/// System calls that one side of a session has made since it was created or attached, both directions together. Exact;
/// a busy session makes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemCalls {
    /// `futex(2)`, to sleep.
    pub waits: u64,
    /// `futex(2)`, to wake the peer.
    pub wakes: u64,
    /// `membarrier(2)`, before a sleep.
    pub barriers: u64,
    /// `epoll_wait(2)`, and with a deadline `poll(2)` before it, to sleep on a doorbell.
    pub polls: u64,
    /// `write(2)`, to ring the peer's doorbell.
    pub rings: u64,
}

impl SystemCalls {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.waits + self.wakes + self.barriers + self.polls + self.rings
    }
}

/// The counters behind it. Each addition stands beside a system call, next to which it is nothing.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) waits: Counter,
    pub(crate) wakes: Counter,
    pub(crate) barriers: Counter,
    pub(crate) polls: Counter,
    pub(crate) rings: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn read(&self) -> SystemCalls {
        SystemCalls {
            waits: self.waits.get(),
            wakes: self.wakes.get(),
            barriers: self.barriers.get(),
            polls: self.polls.get(),
            rings: self.rings.get(),
        }
    }
}
