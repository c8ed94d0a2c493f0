//! What tasks do with a half, each a try and core's step.

use rapace_shm::core::slots::SlotPool;
use rapace_shm::core::wake::Step;
use rapace_shm::{Error, Loan, Message, MsgDescHot, OsEndpoint, Receiver, Sender};

use crate::half::Job;
use crate::wakers::Cause;

/// `None` where waiting can help.
pub(crate) fn unless_full<T>(tried: Result<T, Error>) -> Option<Result<T, Error>> {
    match tried {
        Err(Error::Full | Error::Empty) => None,
        done => Some(done),
    }
}

/// Receives a message.
pub(crate) struct TakeMessage;

impl<E: OsEndpoint, P: SlotPool> Job<Receiver<E, P>> for TakeMessage {
    type Output = Message<E, P>;
    const CAUSE: Cause = Cause::Ring;

    fn attempt(&mut self, half: &mut Receiver<E, P>) -> Option<Result<Message<E, P>, Error>> {
        unless_full(half.try_recv())
    }

    fn step(&mut self, half: &mut Receiver<E, P>) -> Result<Step<Message<E, P>>, Error> {
        half.poll_recv()
    }
}

/// Takes a slot for a message of so many bytes.
pub(crate) struct TakeSlot(pub(crate) usize);

impl<E: OsEndpoint, P: SlotPool> Job<Sender<E, P>> for TakeSlot {
    type Output = Loan<E, P>;
    const CAUSE: Cause = Cause::Slot;

    fn attempt(&mut self, half: &mut Sender<E, P>) -> Option<Result<Loan<E, P>, Error>> {
        unless_full(half.try_loan(self.0))
    }

    fn step(&mut self, half: &mut Sender<E, P>) -> Result<Step<Loan<E, P>>, Error> {
        half.poll_loan(self.0)
    }
}

/// Whether a message is published at once, or with those behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    AtFlush,
}

/// Sends a message that needs no slot.
pub(crate) struct SendInline<'a>(pub(crate) &'a MsgDescHot, pub(crate) &'a [u8], pub(crate) When);

impl<E: OsEndpoint, P: SlotPool> Job<Sender<E, P>> for SendInline<'_> {
    type Output = ();
    const CAUSE: Cause = Cause::Ring;

    fn attempt(&mut self, half: &mut Sender<E, P>) -> Option<Result<(), Error>> {
        unless_full(match self.2 {
            When::Now => half.try_send(self.0, self.1),
            When::AtFlush => half.feed(self.0, self.1),
        })
    }

    fn step(&mut self, half: &mut Sender<E, P>) -> Result<Step<()>, Error> {
        half.poll_send(self.0, self.1)
    }
}

/// Sends a loan where it lies.
pub(crate) struct SendLoan<'a, E: OsEndpoint, P: SlotPool>(
    pub(crate) &'a MsgDescHot,
    pub(crate) &'a mut Option<Loan<E, P>>,
    pub(crate) When,
);

impl<E: OsEndpoint, P: SlotPool> Job<Sender<E, P>> for SendLoan<'_, E, P> {
    type Output = ();
    const CAUSE: Cause = Cause::Ring;

    fn attempt(&mut self, half: &mut Sender<E, P>) -> Option<Result<(), Error>> {
        let fed = half.feed_loan(self.0, self.1);
        if self.2 == When::Now {
            half.flush();
        }
        unless_full(fed)
    }

    fn step(&mut self, half: &mut Sender<E, P>) -> Result<Step<()>, Error> {
        half.poll_send_loan(self.0, self.1)
    }
}
