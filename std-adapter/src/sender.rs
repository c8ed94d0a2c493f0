//! The blocking sender: core's send step, and a futex to wait on.

mod in_place;

use std::time::Instant;

use rapace_shm_core::endpoint::Half;
use rapace_shm_core::layout::MsgDescHot;
use rapace_shm_core::link::{self, SendError};
use rapace_shm_core::slots::{DataSegment, SlotPool};
use rapace_shm_core::wake::Step;

use crate::endpoint::{Loan, ShmEndpoint};
use crate::error::{Error, Unsent};
use crate::event_source::EventSource;
use crate::os_endpoint::OsEndpoint;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;
use crate::wait::{Waits, until_ready};
#[cfg(feature = "allocator")]
pub use in_place::{ShmVec, shm_vec, shm_vec_with_capacity};

/// The sending half of a session, or of a hub's link. `Send`, but neither `Sync` nor `Clone`: the ring has one producer.
///
/// Dropping it closes this direction: the peer receives everything that was sent, then sees the end. That does not
/// block.
#[derive(Debug)]
pub struct Sender<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    link: link::Sender<E, P>,
    spin: Spin,
}

impl<E: OsEndpoint, P: SlotPool> Waits for link::Sender<E, P> {
    type Endpoint = E;

    fn endpoint(&self) -> &E {
        self.endpoint()
    }

    fn disarm(&mut self) {
        self.disarm();
    }
}

/// `None` where waiting can help.
fn unless_full<T>(sent: Result<T, SendError>) -> Option<Result<T, Error>> {
    match sent {
        Err(SendError::Full | SendError::NoSlot) => None,
        done => Some(done.map_err(Error::from)),
    }
}

impl<E: OsEndpoint, P: SlotPool> Sender<E, P> {
    pub(crate) fn new(link: link::Sender<E, P>, spin: Spin) -> Self {
        Self { link, spin }
    }

    pub(crate) fn link(&mut self) -> &mut link::Sender<E, P> {
        &mut self.link
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.link.endpoint()
    }

    /// The largest message in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.link.max_payload()
    }

    /// The slot pool below the loans, and this side's environment: for measurements and snapshots.
    #[must_use]
    pub fn slots(&self) -> (&E, P) {
        (self.link.endpoint(), *self.link.pool())
    }

    /// The system calls that this side of the session has made so far, the receiver's included.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.link.endpoint().system_calls()
    }

    /// How long later calls look before they sleep.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// Sends a message, copying its payload into the descriptor (up to 16 bytes) or a slot; waits for room.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::TooLarge`] or [`Error::PeerFault`]; nothing was sent.
    #[inline(always)]
    pub fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        self.send_until(descriptor, payload, None)
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`send`](Self::send); nothing was sent.
    #[inline(always)]
    pub fn try_send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        Ok(self.link.try_send(descriptor, payload)?)
    }

    /// Sends a message, waiting for room until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`send`](Self::send); nothing was sent.
    pub fn send_deadline(&mut self, descriptor: &MsgDescHot, payload: &[u8], deadline: Instant) -> Result<(), Error> {
        self.send_until(descriptor, payload, Some(deadline))
    }

    #[inline(always)]
    fn send_until(&mut self, descriptor: &MsgDescHot, payload: &[u8], deadline: Option<Instant>) -> Result<(), Error> {
        match self.link.try_send(descriptor, payload) {
            Ok(()) => Ok(()),
            Err(SendError::Full | SendError::NoSlot) => self.send_waiting(&descriptor.by_words(), payload, deadline),
            Err(error) => Err(error.into()),
        }
    }

    #[inline(never)]
    fn send_waiting(
        &mut self,
        descriptor: &MsgDescHot,
        payload: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        until_ready(
            &mut self.link,
            &mut self.spin,
            deadline,
            |link| unless_full(link.try_send(descriptor, payload)),
            |link| Ok(link.poll_send(descriptor, payload)?),
        )
    }

    /// Sends many messages and looks only now and then whether the peer sleeps; waits for room. Returns how many were
    /// sent, which is all of them unless there was an error.
    ///
    /// # Errors
    /// How many were sent before it, and the error.
    pub fn send_batch<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (&'a MsgDescHot, &'a [u8])>,
    ) -> Result<usize, (usize, Error)> {
        let mut sent = 0;
        for (descriptor, payload) in messages {
            let fed = match unless_full(self.link.feed(descriptor, payload)) {
                Some(fed) => fed,
                // It publishes what was fed so far, too.
                None => self.send(descriptor, payload),
            };
            if let Err(error) = fed {
                self.link.flush();
                return Err((sent, error));
            }
            sent += 1;
        }
        self.link.flush();
        Ok(sent)
    }

    /// Takes a slot for a message of `len` bytes; waits for one.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::TooLarge`] or [`Error::PeerFault`].
    #[inline]
    pub fn loan(&mut self, len: usize) -> Result<Loan<E, P>, Error> {
        self.loan_until(len, None)
    }

    /// Takes a slot for a message of `len` bytes if one is free.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`loan`](Self::loan).
    #[inline]
    pub fn try_loan(&mut self, len: usize) -> Result<Loan<E, P>, Error> {
        Ok(self.link.try_loan(len)?)
    }

    /// Takes a slot for a message of `len` bytes, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`loan`](Self::loan).
    pub fn loan_deadline(&mut self, len: usize, deadline: Instant) -> Result<Loan<E, P>, Error> {
        self.loan_until(len, Some(deadline))
    }

    #[inline]
    fn loan_until(&mut self, len: usize, deadline: Option<Instant>) -> Result<Loan<E, P>, Error> {
        // Not by way of `unless_full`, here and below: each `Result` on the way copies the loan.
        match self.link.try_loan(len) {
            Ok(loan) => Ok(loan),
            Err(SendError::Full | SendError::NoSlot) => self.loan_waiting(len, deadline),
            Err(error) => Err(error.into()),
        }
    }

    #[inline(never)]
    fn loan_waiting(&mut self, len: usize, deadline: Option<Instant>) -> Result<Loan<E, P>, Error> {
        until_ready(
            &mut self.link,
            &mut self.spin,
            deadline,
            |link| unless_full(link.try_loan(len)),
            |link| Ok(link.poll_loan(len)?),
        )
    }

    /// Sends a loan where it lies; waits for room in the ring.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ForeignLoan`] or [`Error::PeerFault`]; the loan comes back.
    #[inline]
    pub fn send_loan(&mut self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        self.send_loan_until(descriptor, loan, None)
    }

    /// Sends a loan where it lies if the ring has room.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`send_loan`](Self::send_loan); the loan comes back.
    #[inline]
    pub fn try_send_loan(&mut self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        let mut loan = Some(loan);
        let sent = self.link.feed_loan(descriptor, &mut loan);
        self.link.flush();
        sent.map_err(|error| Unsent { error: error.into(), loan })
    }

    /// Sends a loan where it lies, waiting for room until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`send_loan`](Self::send_loan); the loan comes back.
    pub fn send_loan_deadline(
        &mut self,
        descriptor: &MsgDescHot,
        loan: Loan<E, P>,
        deadline: Instant,
    ) -> Result<(), Unsent<Loan<E, P>>> {
        self.send_loan_until(descriptor, loan, Some(deadline))
    }

    #[inline]
    fn send_loan_until(
        &mut self,
        descriptor: &MsgDescHot,
        loan: Loan<E, P>,
        deadline: Option<Instant>,
    ) -> Result<(), Unsent<Loan<E, P>>> {
        let mut loan = Some(loan);
        let fed = self.link.feed_loan(descriptor, &mut loan);
        self.link.flush();
        match fed {
            Ok(()) => Ok(()),
            Err(SendError::Full) => self.send_loan_waiting(&descriptor.by_words(), loan, deadline),
            Err(error) => Err(Unsent { error: error.into(), loan }),
        }
    }

    #[inline(never)]
    fn send_loan_waiting(
        &mut self,
        descriptor: &MsgDescHot,
        loan: Option<Loan<E, P>>,
        deadline: Option<Instant>,
    ) -> Result<(), Unsent<Loan<E, P>>> {
        let slot = std::cell::RefCell::new(loan);
        let sent = until_ready(
            &mut self.link,
            &mut self.spin,
            deadline,
            |link| {
                let fed = link.feed_loan(descriptor, &mut slot.borrow_mut());
                link.flush();
                unless_full(fed)
            },
            |link| Ok(link.poll_send_loan(descriptor, &mut slot.borrow_mut())?),
        );
        sent.map_err(|error| Unsent { error, loan: slot.into_inner() })
    }

    /// The send step of [core](crate::core), for adapters: `Ready` if the message was sent, or what to sleep on. The endpoint
    /// is then marked as asleep; [`disarm`](Self::disarm) takes that back.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<Step<()>, Error> {
        Ok(self.link.poll_send(descriptor, payload)?)
    }

    /// As [`poll_send`](Self::poll_send), for a slot.
    ///
    /// # Errors
    /// As [`loan`](Self::loan).
    pub fn poll_loan(&mut self, len: usize) -> Result<Step<Loan<E, P>>, Error> {
        Ok(self.link.poll_loan(len)?)
    }

    /// As [`poll_send`](Self::poll_send), for a loan, which is `None` once it is sent.
    ///
    /// # Errors
    /// As [`send_loan`](Self::send_loan); the loan stays.
    pub fn poll_send_loan(
        &mut self,
        descriptor: &MsgDescHot,
        loan: &mut Option<Loan<E, P>>,
    ) -> Result<Step<()>, Error> {
        Ok(self.link.poll_send_loan(descriptor, loan)?)
    }

    /// Puts a message into the ring that the peer does not see before [`flush`](Self::flush), if there is room.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send); if it is [`Error::Full`] of messages that were never flushed, flush.
    pub fn feed(&mut self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        Ok(self.link.feed(descriptor, payload)?)
    }

    /// As [`feed`](Self::feed), for a loan, which is `None` once it is in the ring.
    ///
    /// # Errors
    /// As [`try_send_loan`](Self::try_send_loan); the loan stays.
    pub fn feed_loan(&mut self, descriptor: &MsgDescHot, loan: &mut Option<Loan<E, P>>) -> Result<(), Error> {
        Ok(self.link.feed_loan(descriptor, loan)?)
    }

    /// Makes everything that was fed visible to the peer, and wakes it if it sleeps.
    pub fn flush(&mut self) {
        self.link.flush();
    }

    /// Says that this half will not sleep after all.
    pub fn disarm(&mut self) {
        self.link.disarm();
    }

    /// What a foreign event loop watches while one of the `poll_` steps said to sleep; [`drain`](Self::drain) it after
    /// each wait.
    ///
    /// # Errors
    /// [`Error::NoDoorbell`] if this side sleeps on a futex, [`Error::Io`] if there are too many open files.
    pub fn event_source(&self) -> Result<EventSource, Error> {
        self.endpoint().event_source(Half::Sender)
    }

    /// Silences the [event source](Self::event_source), and notes the peer's death if that is what it told of.
    pub fn drain(&mut self) {
        self.endpoint().drain(Half::Sender);
    }

    /// Says that nothing more will come: the peer receives what was sent, then sees the end. Does not block; dropping
    /// the sender does the same.
    pub fn close(&mut self) {
        self.link.close();
    }
}
