//! Bytes that their sender goes on reading after it has sent them: [`Frozen`].
//!
//! ```text
//!   sender                     slot's state                    receiver
//!   loan.freeze()              1 allocated
//!   try_send_frozen            3 lent              ------->    payload
//!   reads                                                      reads
//!   drop          3 -> 2, or 1 -> 0: free     3 -> 1, or 2 -> 0: free          drop
//! ```
//!
//! Whoever lets go last frees the slot; which of the two that is, is decided by the compare-exchanges on its state.

use core::fmt;
use core::ops::{Deref, Range};

use super::guard::{Guard, Loan};
use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{Line, MsgDescHot, Span};
use crate::region::{ByteRegion, Region, SlotRights};
use crate::slots::{DataSegment, Slot, SlotPool};

/// A slot whose bytes are not written any more: to be sent without a copy, and read by its sender all the while.
///
/// Made by [`Loan::freeze`], sent by [`Sender::try_send_frozen`](super::Sender::try_send_frozen), whole or in parts, as
/// often as needed. It may move to another thread, and it keeps the region mapped. Dropped, the slot goes back, or, if
/// the peer still has it, is left to the peer.
///
/// A peer that breaks its word can write to bytes that were sent to it, so what can be said of a
/// [`Payload`](super::Payload)'s bytes holds for these, too, once they have been sent.
#[must_use = "bytes that are dropped unsent go back unused"]
pub struct Frozen<E: Endpoint, P: SlotPool = DataSegment> {
    guard: Guard<E, P>,
}

impl<E: Endpoint, P: SlotPool> Loan<E, P> {
    /// Ends the writing: from here on the bytes are only read, here and, once [sent](super::Sender::try_send_frozen), by
    /// the peer.
    pub fn freeze(self) -> Frozen<E, P> {
        Frozen::new(self.into_guard())
    }
}

impl<E: Endpoint, P: SlotPool> Frozen<E, P> {
    pub(super) fn new(guard: Guard<E, P>) -> Self {
        Self { guard }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guard.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose slot it is.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        &self.guard.held.endpoint
    }

    /// The slot that holds the bytes.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.guard.slot
    }

    /// All of it, to be sent.
    #[must_use]
    pub fn all(&self) -> FrozenSlice<'_, E, P> {
        FrozenSlice { whole: self, from: 0, len: self.len() }
    }

    /// Part of it, to be sent; `None` if the range (in bytes) does not lie within.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<FrozenSlice<'_, E, P>> {
        let len = range.end.checked_sub(range.start)?;
        (range.end <= self.len()).then_some(FrozenSlice { whole: self, from: range.start, len })
    }
}

impl<E: Endpoint, P: SlotPool> Deref for Frozen<E, P>
where
    E::Region: ByteRegion,
{
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.guard.held
    }
}

impl<E: Endpoint, P: SlotPool> AsRef<[u8]> for Frozen<E, P>
where
    E::Region: ByteRegion,
{
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Frozen<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("slot", &self.slot()).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// [`Frozen`] bytes or part of them, borrowed to be sent.
pub struct FrozenSlice<'a, E: Endpoint, P: SlotPool = DataSegment> {
    whole: &'a Frozen<E, P>,
    /// Where in the whole it starts, in bytes.
    from: usize,
    len: usize,
}

impl<E: Endpoint, P: SlotPool> FrozenSlice<'_, E, P> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes out, as many as fit; returns how many. For regions whose bytes no slice can point to.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        self.endpoint().region().copy_out(self.span(), into)
    }

    pub(super) fn endpoint(&self) -> &E {
        &self.whole.guard.held.endpoint
    }

    fn span(&self) -> Span {
        Span { offset: self.whole.guard.held.span().offset + self.from, len: self.len }
    }

    /// Hands the slot over and keeps it; says what to write into the ring. `None` if it has to be a copy.
    pub(super) fn lend(&self, descriptor: &MsgDescHot) -> Result<Option<Line>, PeerFault> {
        let guard = &self.whole.guard;
        let is_lent = guard.pool.lend(self.endpoint(), guard.slot, SlotRights::OF_A_GUARD)?;
        Ok(is_lent.then(|| guard.line(descriptor, self.from, self.len)))
    }

    /// Copies all of it into a loan of the same region, a few cache lines at a time.
    pub(super) fn copy_into(&self, loan: &mut Loan<E, P>) {
        let mut rest = self.span();
        let mut chunk = [0; 256];
        while rest.len > 0 {
            let copied = self.endpoint().region().copy_out(rest, &mut chunk);
            let Some(bytes @ [_, ..]) = chunk.get(..copied) else { break };
            loan.append(bytes);
            rest = Span { offset: rest.offset + copied, len: rest.len - copied };
        }
    }
}

impl<E: Endpoint, P: SlotPool> Clone for FrozenSlice<'_, E, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Endpoint, P: SlotPool> Copy for FrozenSlice<'_, E, P> {}

impl<'a, E: Endpoint, P: SlotPool> From<&'a Frozen<E, P>> for FrozenSlice<'a, E, P> {
    fn from(whole: &'a Frozen<E, P>) -> Self {
        whole.all()
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for FrozenSlice<'_, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenSlice")
            .field("whole", self.whole)
            .field("from", &self.from)
            .field("len", &self.len)
            .finish()
    }
}
