//! Whom to wake when a half's bell rings: at most one task for each cause.
//!
//! A reactor keeps one waker per descriptor, but two tasks may have gone to sleep on one half, the first for want of a
//! place in the ring, the other for want of a slot. So the reactor is given this as the waker.

use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// What a task may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A message in the ring, or a place in it.
    Ring,
    /// A free slot.
    Slot,
}

impl Cause {
    pub(crate) const ALL: [Self; 2] = [Self::Ring, Self::Slot];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Ring => Self::Slot,
            Self::Slot => Self::Ring,
        }
    }
}

/// The wakers of those who are next, by cause.
#[derive(Debug, Default)]
pub(crate) struct Wakers([Mutex<Option<Waker>>; 2]);

impl Wakers {
    /// The next ring wakes this task.
    pub(crate) fn set(&self, cause: Cause, waker: &Waker) {
        let mut place = self.0[cause as usize].lock();
        match &mut *place {
            Some(known) => known.clone_from(waker),
            None => *place = Some(waker.clone()),
        }
    }

    /// Wakes whoever waits for a cause. Their wakers are foreign code: no lock is held.
    pub(crate) fn wake_for(&self, cause: Cause) {
        let waker = self.0[cause as usize].lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for cause in Cause::ALL {
            self.wake_for(cause);
        }
    }
}
