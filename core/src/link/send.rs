//! The one way out: every message of every adapter goes through [`Sender::feed`] or [`Sender::feed_loan`].

use core::fmt;

use thiserror::Error;

use super::guard::Loan;
use super::side::Side;
use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{INLINE_PAYLOAD_SIZE, INLINE_PAYLOAD_SLOT, MsgDescHot};
use crate::region::Held;
use crate::ring::{Place, Producer};
use crate::slots::{DataSegment, SlotPool};
use crate::wake::{self, Step, WaitPoint, Waiter};

/// Why a message was not sent. Nothing of it was: the caller still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is full. Try again after the peer has received.
    #[error("ring is full; try again after the peer has received")]
    Full,
    /// No slot is free. Try again after a payload was dropped, here or at the peer.
    #[error("no slot is free; try again after a payload was dropped")]
    NoSlot,
    /// The payload is longer than a slot.
    #[error(
        "payload of {len} bytes is larger than the largest message, {max} bytes; split it or create the session with larger slots"
    )]
    TooLarge {
        /// Length of the payload in bytes.
        len: usize,
        /// The largest message in bytes.
        max: usize,
    },
    /// The loan belongs to another session.
    #[error("the loan was made by another session; send it there")]
    ForeignLoan,
    /// The peer receives no more, or this sender was closed.
    #[error("session is closed; the peer takes no more messages")]
    Closed,
    /// The peer broke the protocol; this endpoint is closed.
    #[error("peer broke the protocol: {0}")]
    PeerFault(#[from] PeerFault),
}

/// A loan that was not sent, and why. The loan is as it was.
pub struct Unsent<L> {
    /// Why.
    pub error: SendError,
    /// What was to be sent.
    pub loan: L,
}

impl<L> fmt::Debug for Unsent<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<L> fmt::Display for Unsent<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<L> core::error::Error for Unsent<L> {}

impl<L> From<Unsent<L>> for SendError {
    fn from(unsent: Unsent<L>) -> Self {
        unsent.error
    }
}

/// The sending half of a link: one per direction, so it is `Send` and cannot be cloned.
///
/// Dropped (or [closed](Self::close)), the peer receives everything that was sent and then sees the end. Neither
/// blocks.
pub struct Sender<E: Endpoint, P: SlotPool = DataSegment> {
    side: Side<E>,
    pool: P,
    producer: Producer<E::Region>,
    /// Where the peer waits for what is sent here.
    data: WaitPoint,
    space: Waiter,
    slots: Waiter,
}

impl<E: Endpoint, P: SlotPool> Sender<E, P> {
    pub(crate) fn new(side: Side<E>, pool: P, place: Place, data: WaitPoint, space: WaitPoint) -> Self {
        let endpoint = &side.endpoint;
        Self {
            producer: Producer::resume(endpoint.region().clone(), place),
            space: Waiter::start(endpoint, space),
            slots: Waiter::start(endpoint, pool.wait_point()),
            data,
            pool,
            side,
        }
    }

    /// The largest message in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.pool.max_payload()
    }

    /// Messages that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.producer.capacity()
    }

    /// The slot pool's geometry.
    #[must_use]
    pub fn pool(&self) -> &P {
        &self.pool
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        &self.side.endpoint
    }

    /// Takes a slot for a message of `len` bytes.
    ///
    /// # Errors
    /// [`SendError::NoSlot`], or whatever makes sending impossible.
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<Loan<E, P>, SendError> {
        self.check_open()?;
        self.check_len(len)?;
        self.allocate(len)
    }

    /// Takes a slot for a message of `len` bytes, or says what to sleep on.
    ///
    /// # Errors
    /// Whatever makes sending impossible.
    pub fn poll_loan(&mut self, len: usize) -> Result<Step<Loan<E, P>>, SendError> {
        self.poll(|sender| sender.try_loan(len))
    }

    /// Sends a message, copying its payload (none, inline or into a slot).
    ///
    /// # Errors
    /// [`SendError::Full`], [`SendError::NoSlot`], or whatever makes sending impossible.
    #[inline(always)]
    pub fn try_send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), SendError> {
        self.feed(descriptor, payload)?;
        self.flush();
        Ok(())
    }

    /// Sends a message, or says what to sleep on; then nothing was sent.
    ///
    /// # Errors
    /// Whatever makes sending impossible.
    pub fn poll_send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<Step<()>, SendError> {
        self.poll(|sender| sender.try_send(descriptor, payload))
    }

    /// Sends a loan where it lies.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); the loan comes back.
    pub fn try_send_loan(&mut self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        let mut loan = Some(loan);
        let sent = self.feed_loan(descriptor, &mut loan);
        self.flush();
        match (sent, loan) {
            (Err(error), Some(loan)) => Err(Unsent { error, loan }),
            // A loan that is gone was sent, or its slot is the fault that every later call reports.
            _ => Ok(()),
        }
    }

    /// Sends a loan where it lies and leaves `None`, or says what to sleep on and leaves the loan.
    ///
    /// # Errors
    /// Whatever makes sending impossible; the loan stays unless its slot is what is at fault.
    pub fn poll_send_loan(
        &mut self,
        descriptor: &MsgDescHot,
        loan: &mut Option<Loan<E, P>>,
    ) -> Result<Step<()>, SendError> {
        self.poll(|sender| {
            sender.feed_loan(descriptor, loan)?;
            sender.flush();
            Ok(())
        })
    }

    /// Puts a message into the ring that the peer does not see before [`flush`](Self::flush): many messages, one look
    /// at whether the peer sleeps.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send). If the ring is full of messages that were never flushed, flush.
    #[inline(always)]
    pub fn feed(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), SendError> {
        self.check_open()?;
        let mut descriptor = *descriptor;
        if payload.len() <= INLINE_PAYLOAD_SIZE {
            put_inline(&mut descriptor, payload);
        } else {
            self.check_len(payload.len())?;
            self.check_room()?;
            let mut loan = self.allocate(payload.len())?;
            loan.append(payload);
            loan.into_message(&mut descriptor).map_err(|fault| self.fail(fault))?;
        }
        self.put(&descriptor)
    }

    /// Puts a loan into the ring where it lies, leaving `None`; the peer does not see it before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`feed`](Self::feed); the loan stays unless its slot is what is at fault.
    #[inline(always)]
    pub fn feed_loan(&mut self, descriptor: &MsgDescHot, loan: &mut Option<Loan<E, P>>) -> Result<(), SendError> {
        self.check_open()?;
        self.check_room()?;
        let own = self.side.endpoint.ledger().entries;
        if loan.as_ref().is_some_and(|loan| !core::ptr::eq(loan.endpoint().ledger().entries, own)) {
            return Err(SendError::ForeignLoan);
        }
        let Some(loan) = loan.take() else { return Ok(()) };
        let mut descriptor = *descriptor;
        loan.into_message(&mut descriptor).map_err(|fault| self.fail(fault))?;
        self.put(&descriptor)
    }

    /// Makes everything fed visible to the peer and wakes it if it sleeps.
    #[inline(always)]
    pub fn flush(&mut self) {
        if self.producer.publish() {
            wake::signal(&self.side.endpoint, &self.data);
        }
    }

    /// Says that this side will not sleep after all: to be called when a ticket is given up without another step.
    #[inline(always)]
    pub fn disarm(&mut self) {
        self.space.disarm(&self.side.endpoint);
        self.slots.disarm(&self.side.endpoint);
    }

    /// Says that nothing more will come: the peer receives what was sent and then sees the end. Later calls fail with
    /// [`SendError::Closed`]. Does not block.
    pub fn close(&mut self) {
        if !self.side.begin_close() {
            return;
        }
        self.flush();
        self.space.stop(&self.side.endpoint);
        self.slots.stop(&self.side.endpoint);
        self.side.finish_close(&self.data);
    }

    /// Stops without telling the peer, which is gone.
    pub(super) fn abandon(&mut self) {
        self.side.begin_close();
    }

    #[inline(always)]
    fn check_open(&mut self) -> Result<(), SendError> {
        if self.side.is_open() {
            return Ok(());
        }
        Err(self.why_closed())
    }

    #[cold]
    fn why_closed(&mut self) -> SendError {
        match self.side.fault() {
            Some(fault) => SendError::PeerFault(fault),
            None => SendError::Closed,
        }
    }

    #[inline(always)]
    fn check_len(&self, len: usize) -> Result<(), SendError> {
        let max = self.pool.max_payload();
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        Ok(())
    }

    /// There is a place in the ring, and as this is its only producer there still is when the message is written.
    #[inline(always)]
    fn check_room(&mut self) -> Result<(), SendError> {
        match self.producer.free_places(1) {
            Ok(0) => Err(SendError::Full),
            Ok(_) => Ok(()),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[inline]
    fn allocate(&mut self, len: usize) -> Result<Loan<E, P>, SendError> {
        match self.pool.allocate(&self.side.endpoint, len) {
            Ok(Some((slot, span))) => Ok(Loan::new(Held::new(self.side.endpoint.clone(), span), self.pool, slot)),
            Ok(None) => Err(SendError::NoSlot),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[inline(always)]
    fn put(&mut self, descriptor: &MsgDescHot) -> Result<(), SendError> {
        match self.producer.write(descriptor) {
            Ok(()) => {
                self.disarm();
                Ok(())
            }
            Err(crate::ring::RingError::Full) => Err(SendError::Full),
            Err(crate::ring::RingError::PeerFault(fault)) => Err(self.fail(fault)),
        }
    }

    #[cold]
    fn fail(&mut self, fault: PeerFault) -> SendError {
        self.side.fail(fault);
        self.close();
        SendError::PeerFault(fault)
    }

    /// Tries; if it can't, says that this side sleeps, tries again, and only then returns the ticket.
    ///
    /// Two rounds at most: what can be missing is a place and then a slot, and a place once seen stays.
    #[inline]
    fn poll<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<T, SendError>) -> Result<Step<T>, SendError> {
        let mut armed: Option<(SendError, wake::Ticket)> = None;
        loop {
            let missing = match attempt(self) {
                Err(missing @ (SendError::Full | SendError::NoSlot)) => missing,
                done => return done.map(Step::Ready),
            };
            match armed {
                Some((for_what, ticket)) if for_what == missing => return Ok(Step::Sleep(ticket)),
                _ => {}
            }
            // What was fed must be seen, or the peer would never make room.
            self.flush();
            let waiter = if missing == SendError::Full { &mut self.space } else { &mut self.slots };
            armed = Some((missing, waiter.arm(&self.side.endpoint)));
        }
    }
}

#[inline(always)]
fn put_inline(descriptor: &mut MsgDescHot, payload: &[u8]) {
    descriptor.payload_slot = INLINE_PAYLOAD_SLOT;
    descriptor.payload_generation = 0;
    descriptor.payload_offset = 0;
    #[allow(clippy::cast_possible_truncation)] // at most 16
    {
        descriptor.payload_len = payload.len() as u32;
    }
    copy_short(&mut descriptor.inline_payload, payload);
}

/// Copies up to 16 bytes in two overlapping moves: a loop over bytes, or a call of `memcpy`, costs more than the rest of
/// an inline send.
#[inline(always)]
fn copy_short(to: &mut [u8; INLINE_PAYLOAD_SIZE], from: &[u8]) {
    let Some(to) = to.get_mut(..from.len()) else { return };
    let _ = ends::<8>(to, from) || ends::<4>(to, from) || ends::<2>(to, from) || ends::<1>(to, from);
}

/// Copies the first and the last `N` bytes, if there are that many.
#[inline(always)]
fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else { return false };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

impl<E: Endpoint, P: SlotPool> Drop for Sender<E, P> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Sender<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("side", &self.side).finish_non_exhaustive()
    }
}
