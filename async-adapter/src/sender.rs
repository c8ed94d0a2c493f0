//! The async sender: a handle that tasks share.

use std::fmt;
use std::sync::Arc;

use rapace_shm::core::slots::{DataSegment, SlotPool};
use rapace_shm::{
    Error, INLINE_PAYLOAD_SIZE, Loan, MsgDescHot, OsEndpoint, Sender, ShmBytes, ShmEndpoint, Spin, SystemCalls, Unsent,
};

use crate::bell::{Bell, Reactor};
use crate::half::Shared;
use crate::jobs::{SendInline, SendLoan, TakeSlot, When, unless_full};
use crate::sink::ShmSink;

/// The sending half of a transport, of a session unless said otherwise. Clones share it: many tasks may send, each one's messages arrive in the order in which
/// it sent them, and those who have to wait take turns in the order in which they came.
///
/// When the last clone is dropped this direction is closed: the peer receives everything that was sent, then sees the end.
///
/// Every call may be dropped at any moment: then its message was not sent, and its slot is free again.
pub struct ShmSender<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    pub(crate) shared: Arc<Shared<Sender<E, P>>>,
    max_payload: usize,
}

impl<E: OsEndpoint, P: SlotPool> ShmSender<E, P> {
    pub(crate) fn new(half: Sender<E, P>, reactor: Reactor, spin: Spin) -> Result<Self, Error> {
        let bell = Bell::new(reactor, half.event_source())?;
        Ok(Self::with_bell(half, bell, spin))
    }

    /// With a bell that was made from the half's event source.
    pub(crate) fn with_bell(half: Sender<E, P>, bell: Bell<E>, spin: Spin) -> Self {
        let max_payload = half.max_payload();
        Self { shared: Arc::new(Shared::with_bell(half, bell, spin)), max_payload }
    }

    /// The largest message in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.shared.endpoint()
    }

    /// The system calls that this side has made so far, the receiver's included; the reactor's own are not
    /// among them.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.shared.endpoint().system_calls()
    }

    /// Sends a message, copying its payload into the descriptor (up to 16 bytes) or a slot; waits for room.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::TooLarge`], [`Error::PeerDied`] or [`Error::PeerFault`]; nothing was sent.
    pub async fn send(&self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        if let Some(sent) = self.shared.at_once(|half| unless_full(half.try_send(descriptor, payload))) {
            return sent;
        }
        if payload.len() <= INLINE_PAYLOAD_SIZE {
            return self.shared.run(&mut SendInline(descriptor, payload, When::Now)).await;
        }
        let mut loan = self.loan(payload.len()).await?;
        loan.append(payload);
        Ok(self.send_loan(descriptor, loan).await?)
    }

    /// Sends a message if there is room and nobody waits for some.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`send`](Self::send); nothing was sent.
    pub fn try_send(&self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        self.shared.try_now(|half| half.try_send(descriptor, payload))
    }

    /// Takes a slot for a message of `len` bytes; waits for one.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn loan(&self, len: usize) -> Result<Loan<E, P>, Error> {
        self.shared.run(&mut TakeSlot(len)).await
    }

    /// Takes a slot for a message of `len` bytes if one is free and nobody waits for one.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`send`](Self::send).
    pub fn try_loan(&self, len: usize) -> Result<Loan<E, P>, Error> {
        self.shared.try_now(|half| half.try_loan(len))
    }

    /// Sends a loan where it lies; waits for room in the ring.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ForeignLoan`], [`Error::PeerDied`] or [`Error::PeerFault`]; the loan comes back.
    pub async fn send_loan(&self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        let mut loan = Some(loan);
        let sent = self.shared.run(&mut SendLoan(descriptor, &mut loan, When::Now)).await;
        sent.map_err(|error| Unsent { error, loan })
    }

    /// A [`Sink`](futures_sink::Sink) of outgoing messages: many are fed, and the peer is woken once, at the flush.
    #[must_use]
    pub fn into_sink(self) -> ShmSink<E, P> {
        ShmSink::new(self)
    }

    /// Says that nothing more will come, from any clone: the peer receives what was sent, then sees the end. Whoever waits
    /// here is told. Does not wait.
    pub fn close(&self) {
        self.shared.interrupt(Sender::close);
    }

    /// The half, if this is the only handle.
    pub(crate) fn into_half(self) -> Option<Sender<E, P>> {
        Arc::into_inner(self.shared).map(Shared::into_half)
    }
}

impl ShmSender {
    /// Sends bytes that stay readable here, without a copy where that can be done at once: when they are copied is said at
    /// [`ShmBytes`], and while others wait for room they are, too. Waits for room.
    ///
    /// # Errors
    /// [`Error::ForeignLoan`] for bytes in another session's slot, or as [`send`](Self::send).
    pub async fn send_bytes(&self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<(), Error> {
        match self.shared.at_once(|half| unless_full(half.try_send_bytes(descriptor, bytes))) {
            Some(sent) => sent,
            None => self.send(descriptor, bytes).await,
        }
    }
}

impl<E: OsEndpoint, P: SlotPool> Clone for ShmSender<E, P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), max_payload: self.max_payload }
    }
}

impl<E: OsEndpoint + fmt::Debug, P: SlotPool> fmt::Debug for ShmSender<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmSender").field("endpoint", self.endpoint()).finish_non_exhaustive()
    }
}
