//! What a sender and a receiver have in common: an endpoint, an end of a ring that can be closed, and a fault.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{At, PeerState};
use crate::region::{Region, Word};
use crate::wake::Signaller;

/// The value of an end's state word in the ring header once it is closed.
const CLOSED: u32 = 1;

/// The words in which one end says that it is closed, and reads it of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndWords {
    /// This end's state.
    pub(crate) own: At<u32>,
    /// The state of the peer's end of the same ring.
    pub(crate) peer: At<u32>,
    /// The state of this endpoint's end of the other ring: when both are closed, this peer has left.
    pub(crate) sibling: At<u32>,
    /// Where this peer's [`PeerState`] stands.
    pub(crate) peer_state: At<u32>,
}

/// One end of a ring, seen from the endpoint that has it.
pub(crate) struct Side<E: Endpoint> {
    pub(crate) endpoint: E,
    words: EndWords,
    /// The state of the peer's end, read before every message.
    peer: <E::Region as Region>::Fixed32,
    closed: bool,
    fault: Option<PeerFault>,
    /// Handles are `Send` and not `Sync`: one thread at a time is the one producer or consumer.
    not_sync: PhantomData<Cell<()>>,
}

impl<E: Endpoint> Side<E> {
    pub(crate) fn new(endpoint: E, words: EndWords) -> Self {
        let peer = endpoint.region().fix_u32(words.peer);
        Self { endpoint, words, peer, closed: false, fault: None, not_sync: PhantomData }
    }

    /// Whether the peer has closed its end.
    #[inline(always)]
    pub(crate) fn peer_is_closed(&self) -> bool {
        // Acquire pairs with the Release in `finish_close`: whoever sees the end sees all that came before it.
        self.peer.load(Ordering::Acquire) == CLOSED
    }

    /// Whether this end may receive: not closed, no fault here or in another part of the endpoint.
    #[inline(always)]
    pub(crate) fn is_good(&self) -> bool {
        !self.closed && self.endpoint.ledger().fault.is_no_fault()
    }

    /// Whether the peer's process is gone, without having closed its end.
    pub(crate) fn peer_has_died(&self) -> bool {
        self.endpoint.ledger().peer_has_died() && !self.peer_is_closed()
    }

    /// Whether neither the peer's end, nor its death, nor a fault keeps this end from sending.
    #[inline(always)]
    pub(crate) fn others_are_open(&self) -> bool {
        self.endpoint.ledger().fault.is_clear() && !self.peer_is_closed()
    }

    /// Whether both ends may go on.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        !self.closed && self.others_are_open()
    }

    /// The fault that closed this end, if one did.
    pub(crate) fn fault(&self) -> Option<PeerFault> {
        self.fault.or_else(|| self.endpoint.ledger().fault.tampered())
    }

    /// Notes a fault; the caller closes its end.
    pub(crate) fn fail(&mut self, fault: PeerFault) {
        self.fault.get_or_insert(fault);
        self.endpoint.ledger().fault.set();
    }

    /// True for the first caller.
    pub(crate) fn begin_close(&mut self) -> bool {
        !core::mem::replace(&mut self.closed, true)
    }

    /// Says that this end is closed, and tells the peer's end of the same ring, which may be waiting.
    pub(crate) fn finish_close(&mut self, waiting: &Signaller<E::Region>) {
        let region = self.endpoint.region();
        region.u32(self.words.own).store(CLOSED, Ordering::Release);
        // Two halves closed at once by two threads: each writes its own word, fences, and reads the other's, so at
        // least one of them sees both.
        region.fence();
        if region.u32(self.words.sibling).load(Ordering::Relaxed) == CLOSED {
            region.u32(self.words.peer_state).store(PeerState::Left as u32, Ordering::Release);
        }
        waiting.signal(&self.endpoint);
    }
}

impl<E: Endpoint> fmt::Debug for Side<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("closed", &self.closed).field("fault", &self.fault).finish_non_exhaustive()
    }
}
