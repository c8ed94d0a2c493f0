//! The one way in: every message of every adapter comes out of [`Receiver::try_recv`].

use core::fmt;

use thiserror::Error;

use super::guard::Message;
use super::side::Side;
use crate::endpoint::{Endpoint, Event};
use crate::fault::PeerFault;
use crate::layout::{Line, MsgDescHot};
use crate::ring::{Consumer, Place};
use crate::slots::{DataSegment, SlotPool};
use crate::wake::{Signaller, Step, WaitPoint, Waiter};

/// Why nothing will be received any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The peer has closed its sender and everything it sent was received, or this receiver was closed.
    #[error("session is closed; everything that was sent has been received")]
    Closed,
    /// The peer's process is gone, and everything that it published has been received.
    #[error("peer's process is gone; everything that it published has been received")]
    PeerDied,
    /// The peer broke the protocol; this endpoint is closed.
    #[error("peer broke the protocol: {0}")]
    PeerFault(#[from] PeerFault),
}

/// The receiving half of a link: one per direction, so it is `Send` and cannot be cloned.
///
/// Dropped (or [closed](Self::close)), the peer's sends fail and what was still in the ring is freed. Neither blocks.
pub struct Receiver<E: Endpoint, P: SlotPool = DataSegment> {
    side: Side<E>,
    pool: P,
    consumer: Consumer<E::Region>,
    data: Waiter,
    /// Where the peer waits for space.
    space: Signaller<E::Region>,
}

impl<E: Endpoint, P: SlotPool> Receiver<E, P> {
    pub(crate) fn new(side: Side<E>, pool: P, place: Place, data: WaitPoint, space: WaitPoint) -> Self {
        let endpoint = &side.endpoint;
        Self {
            consumer: Consumer::resume(endpoint.region(), place),
            data: Waiter::start(endpoint, data),
            space: Signaller::new(endpoint, space),
            pool,
            side,
        }
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

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// [`RecvError::Closed`] after the last message, or a fault of the peer.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Message<E, P>>, RecvError> {
        if let Some(message) = self.recv_inline() {
            return Ok(Some(message));
        }
        self.try_recv_any()
    }

    /// What [`try_recv`](Self::try_recv) tries first: receives the next message if it is there, its payload is inside
    /// its descriptor, and nothing is wrong. `None` says only that there is more to look at.
    ///
    /// On its own it is for adapters, whose `recv` has another type of error: a message that moves from one `Result` into
    /// another is copied each time.
    #[inline(always)]
    pub fn recv_inline(&mut self) -> Option<Message<E, P>> {
        if !self.side.is_good() || !matches!(self.consumer.is_ready(), Ok(true)) {
            return None;
        }
        self.consumer.fetch_ahead();
        let line = self.consumer.read();
        if !MsgDescHot::is_sound_inline(&line) {
            return None;
        }
        self.advance();
        Some(Message::inline(MsgDescHot::from_line(line), self.pool))
    }

    /// What [`try_recv`](Self::try_recv) tries next: receives the next message if it is there, of whatever kind. `None`
    /// says only that there is more to look at.
    #[inline(always)]
    pub fn recv_ready(&mut self) -> Option<Message<E, P>> {
        if self.side.is_good() { self.next() } else { None }
    }

    /// The receive step: check, take over, and only then give the place in the ring back.
    #[inline(always)]
    fn next(&mut self) -> Option<Message<E, P>> {
        if !matches!(self.consumer.is_ready(), Ok(true)) {
            return None;
        }
        self.consumer.fetch_ahead();
        let line = self.consumer.read();
        let message = if MsgDescHot::is_sound_inline(&line) {
            Message::inline(MsgDescHot::from_line(line), self.pool)
        } else {
            if let Some(slot) = self.consumer.slot_ahead() {
                self.pool.will_accept(self.side.endpoint.region(), slot);
            }
            self.accept(line)?
        };
        self.advance();
        Some(message)
    }

    /// Takes over the slot of a message that is not a sound inline one. A fault is noted; every later call reports it.
    #[inline(always)]
    fn accept(&mut self, line: Line) -> Option<Message<E, P>> {
        match self.accept_slot(line) {
            Ok(()) => Some(Message::in_slot(MsgDescHot::from_line(line), self.side.endpoint.clone(), self.pool)),
            Err(fault) => {
                self.fail(fault);
                None
            }
        }
    }

    #[inline(never)]
    fn accept_slot(&self, line: Line) -> Result<(), PeerFault> {
        let descriptor = MsgDescHot::from_line(line);
        if descriptor.is_inline() {
            return Err(PeerFault::InlineLength { len: descriptor.payload_len });
        }
        self.pool.accept(&self.side.endpoint, &descriptor)
    }

    /// Nothing was there, or something is wrong.
    #[inline(never)]
    fn try_recv_any(&mut self) -> Result<Option<Message<E, P>>, RecvError> {
        if !self.is_ready()? {
            return Ok(None);
        }
        // What came in the meantime, or the fault that it turns out to be.
        match self.recv_ready() {
            Some(message) => Ok(Some(message)),
            None => Err(self.why_closed()),
        }
    }

    /// Receives a message, or says what to sleep on.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    #[inline]
    pub fn poll_recv(&mut self) -> Result<Step<Message<E, P>>, RecvError> {
        match self.poll_ready()? {
            Step::Ready(()) => self.try_recv()?.map(Step::Ready).ok_or(RecvError::Closed),
            Step::Sleep(ticket) => Ok(Step::Sleep(ticket)),
        }
    }

    /// Whether a message is there, so that the next [`try_recv`](Self::try_recv) gives one (or a fault).
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    #[inline(always)]
    pub fn is_ready(&mut self) -> Result<bool, RecvError> {
        if self.side.is_good() && self.has_message()? {
            return Ok(true);
        }
        self.is_ready_at_the_end()
    }

    /// Nothing was there, or this end is closed: whether the peer has closed, with something that it published before.
    #[inline(never)]
    fn is_ready_at_the_end(&mut self) -> Result<bool, RecvError> {
        if !self.side.is_good() {
            return Err(self.why_closed());
        }
        let end = if self.side.peer_is_closed() {
            RecvError::Closed
        } else if self.side.peer_has_died() {
            RecvError::PeerDied
        } else {
            return Ok(false);
        };
        // What was published before the end is visible now.
        if self.has_message()? { Ok(true) } else { Err(end) }
    }

    /// Says what to sleep on unless a message is there.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn poll_ready(&mut self) -> Result<Step<()>, RecvError> {
        if self.is_ready()? {
            return Ok(Step::Ready(()));
        }
        let ticket = self.data.arm(&self.side.endpoint);
        match self.is_ready() {
            Ok(false) => Ok(Step::Sleep(ticket)),
            ready => {
                self.disarm();
                ready.map(|_| Step::Ready(()))
            }
        }
    }

    /// Says that this side will not sleep after all: to be called when a ticket is given up without another step.
    #[inline]
    pub fn disarm(&mut self) {
        self.data.disarm(&self.side.endpoint);
    }

    /// Takes no more messages: the peer's sends fail, and the slots of what is still in the ring are freed. Later
    /// calls fail with [`RecvError::Closed`]. Does not block.
    pub fn close(&mut self) {
        if !self.side.begin_close() {
            return;
        }
        self.data.stop(&self.side.endpoint);
        self.drain();
        self.side.finish_close(&self.space);
        // Sends that began before they could see the end.
        self.drain();
        // The peer may be waiting for a slot that it no longer needs.
        self.pool.wake_waiters(&self.side.endpoint);
        self.side.endpoint.half_closed();
    }

    /// Where this half waits for data.
    pub(crate) fn own_point(&self) -> WaitPoint {
        self.data.point()
    }

    /// Wakes the peer if it waits for space: somebody is there now.
    pub(crate) fn greet(&self) {
        self.space.signal(&self.side.endpoint);
    }

    /// Stops without telling the peer, which is gone.
    pub(super) fn abandon(&mut self) {
        self.side.begin_close();
    }

    /// Frees what is in the ring, at most one ring full of it.
    fn drain(&mut self) {
        for _ in 0..self.consumer.capacity() {
            if self.next().is_none() {
                break;
            }
        }
    }

    #[inline(always)]
    fn has_message(&mut self) -> Result<bool, RecvError> {
        self.consumer.is_ready().map_err(|fault| self.fail(fault))
    }

    /// Gives the place of a message back and wakes the peer if it sleeps for want of one.
    #[inline(always)]
    fn advance(&mut self) {
        self.disarm();
        self.consumer.finish();
        self.side.endpoint.note(Event::Received);
        self.space.signal(&self.side.endpoint);
    }

    #[cold]
    fn why_closed(&self) -> RecvError {
        match self.side.fault() {
            Some(fault) => RecvError::PeerFault(fault),
            None => RecvError::Closed,
        }
    }

    #[cold]
    pub(super) fn fail(&mut self, fault: PeerFault) -> RecvError {
        self.side.fail(fault);
        if self.side.begin_close() {
            self.data.stop(&self.side.endpoint);
            self.side.finish_close(&self.space);
            self.side.endpoint.half_closed();
        }
        RecvError::PeerFault(fault)
    }
}

impl<E: Endpoint, P: SlotPool> Drop for Receiver<E, P> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Receiver<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("side", &self.side).finish_non_exhaustive()
    }
}
