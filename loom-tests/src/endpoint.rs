//! How a side of a model sleeps and wakes: a bell that never rings by itself.
//!
//! There is no time-out and no spurious wake-up, so a wake-up that is lost is a thread that sleeps for ever, and loom
//! reports the deadlock.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use loom::sync::{Condvar, Mutex};
use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::hub::{HasLinkMarks, HostLedgerIn, LinkMarks};
use rapace_shm_core::layout::{At, DataSegmentHeader, SegmentHeader, SegmentOffsets};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerRef};
use rapace_shm_core::region::{InRegion, Region, Word};
use rapace_shm_core::wake::Ticket;

use crate::mutant::{Mutant, Mutation};
use crate::region::unwinding;

/// The kernel's futex queue of one sequence word. Sleepers of other words are no help to a wake-up that went astray,
/// so each word has its own.
#[derive(Debug)]
struct Queue {
    word: At<u32>,
    lock: Mutex<()>,
    sleepers: Condvar,
}

/// The futex queues of a session.
#[derive(Debug)]
pub struct Bell {
    queues: Vec<Queue>,
}

impl Bell {
    /// A queue for each of the session's sequence words.
    #[must_use]
    pub fn new(offsets: &SegmentOffsets) -> Self {
        let words = [
            SegmentHeader::A_TO_B_DATA,
            SegmentHeader::A_TO_B_SPACE,
            SegmentHeader::B_TO_A_DATA,
            SegmentHeader::B_TO_A_SPACE,
            DataSegmentHeader::SLOT_AVAILABLE.within(offsets.data_header),
        ];
        Self::of(words)
    }

    /// A queue for each of these words.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = At<u32>>) -> Self {
        let queue = |word| Queue { word, lock: Mutex::new(()), sleepers: Condvar::new() };
        Self { queues: words.into_iter().map(queue).collect() }
    }

    fn queue(&self, word: At<u32>) -> &Queue {
        let found = self.queues.iter().find(|queue| queue.word == word);
        found.unwrap_or_else(|| panic!("{word:?} is no sequence word"))
    }

    /// As the kernel does it: compare under the queue's lock, and let go of the lock only when queued.
    fn sleep<R: Region>(&self, region: &R, word: At<u32>, value: u32) {
        let queue = self.queue(word);
        let mut held = queue.lock.lock().unwrap();
        while region.u32(word).load(Ordering::Relaxed) == value {
            held = queue.sleepers.wait(held).unwrap();
        }
    }

    fn wake(&self, word: At<u32>) {
        let queue = self.queue(word);
        let _held = queue.lock.lock().unwrap();
        queue.sleepers.notify_all();
    }
}

/// Which barrier a side says that it has. Loom knows no `membarrier`, so wherever one would be needed both sides
/// really fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Barrier {
    /// It fences when it publishes and before it sleeps, and says so.
    #[default]
    Fence,
    /// It is registered for heavy barriers and has none itself: it publishes without a fence unless the sleeper says
    /// that it relies on one.
    Registered,
    /// It says that it has a heavy barrier, which is a fence here; it publishes with a fence.
    Heavy,
    /// It says that it has a heavy barrier, and then it is refused one: an adapter that breaks its word.
    Refused,
}

/// One side of a model.
#[derive(Clone)]
pub struct LoomEndpoint {
    region: Mutant,
    ledger: Rc<HostLedgerIn<Box<[LedgerEntry]>>>,
    bell: Rc<Bell>,
    barrier: Barrier,
}

impl LoomEndpoint {
    /// A side with a fresh ledger of this many entries.
    #[must_use]
    pub fn new(region: Mutant, slots: u32, bell: Rc<Bell>, barrier: Barrier) -> Self {
        let entries = (0..slots).map(|_| LedgerEntry::new()).collect();
        Self { region, ledger: Rc::new(HostLedgerIn::over(entries)), bell, barrier }
    }

    /// Sleeps until the ticket's word no longer has the ticket's value.
    pub fn sleep(&self, ticket: &Ticket) {
        let word = ticket.word();
        let value = match self.region.mutation() {
            Mutation::LateValue => self.region.u32(word).load(Ordering::Acquire),
            _ => ticket.value(),
        };
        self.bell.sleep(&self.region, word, value);
    }
}

impl InRegion for LoomEndpoint {
    type Region = Mutant;

    fn region(&self) -> &Mutant {
        &self.region
    }
}

impl HasLedger for LoomEndpoint {
    fn ledger(&self) -> LedgerRef<'_> {
        self.ledger.ledger()
    }
}

impl HasLinkMarks for LoomEndpoint {
    fn link_marks(&self) -> &LinkMarks {
        self.ledger.link_marks()
    }
}

impl Endpoint for LoomEndpoint {
    fn wake(&self, word: At<u32>) {
        if self.region.mutation() != Mutation::NoWake && !unwinding() {
            self.bell.wake(word);
        }
    }

    fn is_registered(&self) -> bool {
        self.barrier == Barrier::Registered
    }

    fn has_heavy_barrier(&self) -> bool {
        self.barrier == Barrier::Heavy || self.barrier == Barrier::Refused
    }

    fn heavy_barrier(&self) -> bool {
        if self.barrier == Barrier::Heavy {
            self.region.fence();
        }
        self.barrier == Barrier::Heavy
    }
}

impl fmt::Debug for LoomEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomEndpoint")
            .field("region", &self.region)
            .field("barrier", &self.barrier)
            .finish_non_exhaustive()
    }
}
