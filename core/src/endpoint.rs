//! What one side of a link brings along: its handle of the region, its ledger, and how it sleeps and wakes.

use core::fmt;

use crate::layout::{At, PeerRole, Span};
use crate::ledger::{HasLedger, LedgerRef};
use crate::region::{InRegion, Region};

/// A member of a session or hub. In a session A is 0 and B is 1; in a hub the host is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u16);

impl PeerRole {
    /// A is 0, B is 1.
    #[must_use]
    pub const fn id(self) -> PeerId {
        match self {
            Self::A => PeerId(0),
            Self::B => PeerId(1),
        }
    }
}

/// Which half of an endpoint waits. Each has a doorbell of its own, so that two threads can sleep without one emptying
/// the other's bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// The receiver, for data.
    Receiver,
    /// The sender, for a place in the ring or for a slot.
    Sender,
}

/// How an endpoint sleeps when it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepKind {
    /// On the sequence word itself: by futex, by `wfe`, by spinning.
    Word,
    /// On a doorbell that others ring.
    Doorbell,
}

/// What happened at an endpoint, for whoever counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was put into the ring.
    Sent {
        /// Length of its payload in bytes.
        len: usize,
        /// Whether the payload was sent where it lay, and not copied.
        in_place: bool,
    },
    /// There was no place in the ring for a message.
    RingFull,
    /// A slot was taken, for a loan or for a copy.
    SlotTaken,
    /// There was no slot to take.
    NoSlot,
    /// A message was taken out of the ring.
    Received,
    /// A slot, or this side's share of one, was given back.
    SlotFreed,
}

/// One side's environment. Handles are cheap to clone: every loan and payload keeps one, so that it may outlive the
/// call that made it.
///
/// The provided methods are those of a machine without an operating system: nobody can be woken, so everybody
/// polls, and the barrier is a fence on both sides.
pub trait Endpoint: InRegion + HasLedger + Clone {
    /// How this endpoint sleeps.
    fn sleep_kind(&self) -> SleepKind {
        SleepKind::Word
    }

    /// Wakes everybody who sleeps on a sequence word.
    fn wake(&self, word: At<u32>) {
        let _ = word;
    }

    /// Rings the doorbell of one half of a peer, which may be this one.
    fn ring(&self, peer: PeerId, half: Half) {
        let _ = (peer, half);
    }

    /// Rings for a peer (which may be this one) that waits for a slot. Says whether that reached everybody who does, as it
    /// does where all share one bell: then nobody else needs to be rung for.
    fn ring_for_slot(&self, peer: PeerId) -> bool {
        self.ring(peer, Half::Sender);
        false
    }

    /// Is told that one of its halves is closed for good and will touch the rings no more.
    fn half_closed(&self) {}

    /// Is told of everything that happens, on the way of every message: to count, and nothing else. By default nothing.
    #[inline(always)]
    fn note(&self, event: Event) {
        let _ = event;
    }

    /// Makes sure that bytes of the region which another member says are there can be touched, so that growth needs no
    /// step of whoever is not concerned: maps that part of a file, say, after a look at how long it is. Says whether they
    /// are there. Called once for every [extent](crate::hub) that this endpoint meets, and by a host for every one that
    /// its hub may have one day, of which those that are there already are cleared.
    ///
    /// By default they are if the region is long enough: memory that is all there from the beginning.
    fn back(&self, span: Span) -> bool {
        span.offset.checked_add(span.len).is_some_and(|end| end <= self.region().size())
    }

    /// As [`back`](Self::back), for bytes that need not be there yet: makes a file longer, say, but never shorter, whoever
    /// else does the same at the same moment. Says whether they are there now. What was not there before reads as zero.
    fn extend(&self, span: Span) -> bool {
        self.back(span)
    }

    /// Whether a [`heavy_barrier`](Self::heavy_barrier) of any peer reaches the threads of this process, so that it
    /// can publish and look without a fence of its own. On Linux: it has registered for membarrier.
    #[inline]
    fn is_registered(&self) -> bool {
        false
    }

    /// Whether this endpoint can make every registered process execute a barrier.
    fn has_heavy_barrier(&self) -> bool {
        false
    }

    /// Makes every registered process execute a barrier, and this thread too. Says whether that was done; if not the
    /// caller fences and says so in its sleeper word.
    fn heavy_barrier(&self) -> bool {
        false
    }
}

/// An endpoint that polls: a region, a ledger, and no operating system.
#[derive(Clone, Copy)]
pub struct Polled<R, L> {
    region: R,
    ledger: L,
}

impl<R, L> Polled<R, L> {
    /// An endpoint over a region, with a ledger in memory that no peer can reach.
    #[must_use]
    pub const fn new(region: R, ledger: L) -> Self {
        Self { region, ledger }
    }

    pub(crate) const fn ledger_handle(&self) -> &L {
        &self.ledger
    }
}

impl<R: Region, L> InRegion for Polled<R, L> {
    type Region = R;
    #[inline]
    fn region(&self) -> &R {
        &self.region
    }
}

impl<R, L: HasLedger> HasLedger for Polled<R, L> {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        self.ledger.ledger()
    }
}

impl<R: Region, L: HasLedger + Clone> Endpoint for Polled<R, L> {}

impl<R: fmt::Debug, L> fmt::Debug for Polled<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("region", &self.region).finish_non_exhaustive()
    }
}
