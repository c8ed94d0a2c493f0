//! The one way out: every message of every adapter goes through [`Sender::feed`], [`Sender::feed_loan`] or
//! [`Sender::feed_frozen`].

use core::fmt;

use thiserror::Error;

use super::frozen::FrozenSlice;
use super::guard::Loan;
use super::side::Side;
use crate::endpoint::{Endpoint, Event};
use crate::fault::PeerFault;
use crate::layout::{INLINE_PAYLOAD_SIZE, Line, MsgDescHot};
use crate::region::Held;
use crate::ring::{Place, Producer};
use crate::slots::{DataSegment, SlotPool};
use crate::wake::{Signaller, Step, Ticket, WaitPoint, Waiter};

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
    /// The loan (or the vector, or the frozen bytes) belongs to another session.
    #[error("the loan was made by another session; send it there")]
    ForeignLoan,
    /// The peer receives no more, or this sender was closed.
    #[error("session is closed; the peer takes no more messages")]
    Closed,
    /// The peer's process is gone.
    #[error("peer's process is gone; reset the session for another peer, or drop it")]
    PeerDied,
    /// The peer broke the protocol; this endpoint is closed.
    #[error("peer broke the protocol: {0}")]
    PeerFault(#[from] PeerFault),
}

/// A loan (or a vector) that was not sent, and why. It is as it was.
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
    data: Signaller<E::Region>,
    space: Waiter,
    slots: Waiter,
}

impl<E: Endpoint, P: SlotPool> Sender<E, P> {
    pub(crate) fn new(
        side: Side<E>,
        pool: P,
        place: Place,
        data: WaitPoint,
        space: WaitPoint,
        slots: WaitPoint,
    ) -> Self {
        let endpoint = &side.endpoint;
        Self {
            producer: Producer::resume(endpoint.region(), place),
            space: Waiter::start(endpoint, space),
            slots: Waiter::start(endpoint, slots),
            data: Signaller::new(endpoint, data),
            pool,
            side,
        }
    }

    /// The largest message in bytes: a slot's size. (Up to 16 bytes can be sent whatever that is, inside the
    /// descriptor.)
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
        self.write(descriptor, payload, Producer::put_and_publish)?;
        self.data.signal(&self.side.endpoint);
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

    /// Sends bytes that this side goes on reading, without a copy where that can be: that is, if the peer is one of ours
    /// and has let go of the slot, should it have been sent before. Otherwise they are copied, into another slot (or, up
    /// to 16 bytes, into the descriptor).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); [`SendError::ForeignLoan`] for bytes of another session.
    pub fn try_send_frozen<'a>(
        &mut self,
        descriptor: &MsgDescHot,
        bytes: impl Into<FrozenSlice<'a, E, P>>,
    ) -> Result<(), SendError>
    where
        E: 'a,
        P: 'a,
    {
        let sent = self.feed_frozen(descriptor, bytes);
        self.flush();
        sent
    }

    /// Sends bytes that this side goes on reading, or says what to sleep on; then nothing was sent.
    ///
    /// # Errors
    /// Whatever makes sending impossible.
    pub fn poll_send_frozen(
        &mut self,
        descriptor: &MsgDescHot,
        bytes: FrozenSlice<'_, E, P>,
    ) -> Result<Step<()>, SendError> {
        self.poll(|sender| sender.try_send_frozen(descriptor, bytes))
    }

    /// Puts a message into the ring that the peer does not see before [`flush`](Self::flush): many messages, one look
    /// at whether the peer sleeps.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send). If the ring is full of messages that were never flushed, flush.
    #[inline(always)]
    pub fn feed(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), SendError> {
        self.write(descriptor, payload, Producer::put)
    }

    /// Puts a loan into the ring where it lies, leaving `None`; the peer does not see it before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`feed`](Self::feed); the loan stays unless its slot is what is at fault.
    #[inline(always)]
    pub fn feed_loan(&mut self, descriptor: &MsgDescHot, loan: &mut Option<Loan<E, P>>) -> Result<(), SendError> {
        self.make_way()?;
        let Some(held) = loan else { return Ok(()) };
        self.check_own(held.endpoint())?;
        let len = held.len();
        let line = held.send(descriptor);
        let put = self.put(line);
        *loan = None;
        put?;
        self.note_sent(len, true);
        Ok(())
    }

    /// Puts bytes that this side goes on reading into the ring; the peer does not see them before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`try_send_frozen`](Self::try_send_frozen).
    pub fn feed_frozen<'a>(
        &mut self,
        descriptor: &MsgDescHot,
        bytes: impl Into<FrozenSlice<'a, E, P>>,
    ) -> Result<(), SendError>
    where
        E: 'a,
        P: 'a,
    {
        let bytes = bytes.into();
        self.check_own(bytes.endpoint())?;
        if bytes.len() <= INLINE_PAYLOAD_SIZE {
            let mut short = [0; INLINE_PAYLOAD_SIZE];
            let len = bytes.copy_to(&mut short);
            return self.feed(descriptor, short.get(..len).unwrap_or(&short));
        }
        self.make_way()?;
        match bytes.lend(descriptor).transpose() {
            Some(lent) => {
                self.put(lent)?;
                self.note_sent(bytes.len(), true);
                Ok(())
            }
            None => {
                let line = self.copy_into_slot(descriptor, bytes.len(), |loan| bytes.copy_into(loan))?;
                self.put(Ok(line))
            }
        }
    }

    /// Makes everything fed visible to the peer and wakes it if it sleeps.
    #[inline(always)]
    pub fn flush(&mut self) {
        if self.producer.publish() {
            self.data.signal(&self.side.endpoint);
        }
    }

    /// Says that this side will not sleep after all: to be called when a ticket is given up without another step.
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
        self.producer.shut();
        self.flush();
        self.space.stop(&self.side.endpoint);
        self.slots.stop(&self.side.endpoint);
        self.side.finish_close(&self.data);
        self.side.endpoint.half_closed();
    }

    /// Where this half waits: for a place in the ring, and for a slot.
    pub(crate) fn own_points(&self) -> [WaitPoint; 2] {
        [self.space.point(), self.slots.point()]
    }

    /// Wakes the peer if it waits for data: somebody is there now.
    pub(crate) fn greet(&self) {
        self.data.signal(&self.side.endpoint);
    }

    /// Stops without telling the peer, which is gone.
    pub(super) fn abandon(&mut self) {
        self.producer.shut();
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
            None if self.side.peer_has_died() => SendError::PeerDied,
            None => SendError::Closed,
        }
    }

    /// Whether a slot is this endpoint's.
    #[inline(always)]
    pub(crate) fn check_own(&self, owner: &E) -> Result<(), SendError> {
        if core::ptr::eq(owner.ledger().entries, self.side.endpoint.ledger().entries) {
            return Ok(());
        }
        Err(SendError::ForeignLoan)
    }

    /// Writes a message whose slot was handed over to the place that there is for it.
    #[inline(always)]
    pub(crate) fn put(&mut self, line: Result<Line, PeerFault>) -> Result<(), SendError> {
        match line {
            Ok(line) => self.producer.put(line),
            Err(fault) => return Err(self.fail(fault)),
        }
        Ok(())
    }

    #[inline(always)]
    fn check_len(&self, len: usize) -> Result<(), SendError> {
        let max = self.pool.max_payload();
        if len > max {
            return Err(SendError::TooLarge { len, max });
        }
        Ok(())
    }

    /// Whether a message can go: this end and the peer's are open, and there is a place in the ring. As this is the
    /// ring's only producer there still is one when the message is written.
    #[inline(always)]
    pub(crate) fn make_way(&mut self) -> Result<(), SendError> {
        // A closed sender has no room.
        if self.side.others_are_open() && self.producer.has_room() {
            return Ok(());
        }
        self.look_for_room()
    }

    #[inline(never)]
    fn look_for_room(&mut self) -> Result<(), SendError> {
        self.check_open()?;
        match self.producer.free_places(1) {
            Ok(0) => {
                self.side.endpoint.note(Event::RingFull);
                Err(SendError::Full)
            }
            Ok(_) => {
                self.space.disarm(&self.side.endpoint);
                Ok(())
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Writes a message to the place that there is for it.
    #[inline(always)]
    fn write(
        &mut self,
        descriptor: &MsgDescHot,
        payload: &[u8],
        put: impl Fn(&mut Producer<E::Region>, Line),
    ) -> Result<(), SendError> {
        if payload.len() <= INLINE_PAYLOAD_SIZE {
            self.make_way()?;
            put(&mut self.producer, descriptor.line_with_inline(payload));
            self.note_sent(payload.len(), false);
        } else {
            let line = self.copy_into_slot(&descriptor.by_words(), payload.len(), |loan| {
                loan.append(payload);
            })?;
            put(&mut self.producer, line);
        }
        Ok(())
    }

    #[inline(never)]
    fn copy_into_slot(
        &mut self,
        descriptor: &MsgDescHot,
        len: usize,
        copy: impl FnOnce(&mut Loan<E, P>),
    ) -> Result<Line, SendError> {
        self.check_len(len)?;
        self.make_way()?;
        let mut loan = self.allocate(len)?;
        copy(&mut loan);
        let line = loan.send(descriptor).map_err(|fault| self.fail(fault))?;
        self.note_sent(len, false);
        Ok(line)
    }

    #[inline(always)]
    fn note_sent(&self, len: usize, in_place: bool) {
        self.side.endpoint.note(Event::Sent { len, in_place });
    }

    #[inline]
    fn allocate(&mut self, len: usize) -> Result<Loan<E, P>, SendError> {
        match self.pool.allocate(&self.side.endpoint, len) {
            Ok(Some((slot, span))) => {
                self.slots.disarm(&self.side.endpoint);
                self.side.endpoint.note(Event::SlotTaken);
                Ok(Loan::new(Held::new(self.side.endpoint.clone(), span), self.pool, slot))
            }
            Ok(None) => {
                self.side.endpoint.note(Event::NoSlot);
                Err(SendError::NoSlot)
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[cold]
    pub(super) fn fail(&mut self, fault: PeerFault) -> SendError {
        self.side.fail(fault);
        self.close();
        SendError::PeerFault(fault)
    }

    /// Tries; if it can't, says that this side sleeps, tries again, and only then returns the ticket.
    ///
    /// Two rounds at most: what can be missing is a place and then a slot, and a place once seen stays.
    #[inline]
    pub(crate) fn poll<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, SendError>,
    ) -> Result<Step<T>, SendError> {
        let mut armed: Option<(SendError, Ticket)> = None;
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
