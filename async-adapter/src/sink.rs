//! Outgoing messages as a sink: many are fed, and at the flush the peer is woken once.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use rapace_shm::core::slots::{DataSegment, SlotPool};
use rapace_shm::{Error, INLINE_PAYLOAD_SIZE, Loan, MsgDescHot, OsEndpoint, Sender, ShmEndpoint};

use crate::half::Shared;
use crate::jobs::{SendInline, SendLoan, TakeSlot, When};
use crate::queue::Place;
use crate::sender::ShmSender;
use crate::wakers::Cause;

/// A message for a [`ShmSink`].
#[derive(Debug)]
pub struct Outgoing<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    descriptor: MsgDescHot,
    payload: Payload<E, P>,
}

#[derive(Debug)]
enum Payload<E: OsEndpoint, P: SlotPool> {
    Copied(Vec<u8>),
    /// `None` once it is sent.
    InPlace(Option<Loan<E, P>>),
}

/// A message whose payload will be copied into its descriptor (up to 16 bytes) or a slot.
impl<E: OsEndpoint, P: SlotPool> From<(MsgDescHot, Vec<u8>)> for Outgoing<E, P> {
    fn from((descriptor, payload): (MsgDescHot, Vec<u8>)) -> Self {
        Self { descriptor, payload: Payload::Copied(payload) }
    }
}

/// A message whose payload was written in its slot.
impl<E: OsEndpoint, P: SlotPool> From<(MsgDescHot, Loan<E, P>)> for Outgoing<E, P> {
    fn from((descriptor, loan): (MsgDescHot, Loan<E, P>)) -> Self {
        Self { descriptor, payload: Payload::InPlace(Some(loan)) }
    }
}

impl<E: OsEndpoint, P: SlotPool> Outgoing<E, P> {
    /// Puts the message into the ring, by way of a slot if it needs one.
    fn poll_fed(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared<Sender<E, P>>,
        places: &mut Places,
    ) -> Poll<Result<(), Error>> {
        if let Payload::Copied(bytes) = &self.payload {
            if bytes.len() <= INLINE_PAYLOAD_SIZE {
                return shared.poll(cx, &mut places.ring, &mut SendInline(&self.descriptor, bytes, When::AtFlush));
            }
            let mut loan = ready!(shared.poll(cx, &mut places.slot, &mut TakeSlot(bytes.len())))?;
            loan.append(bytes);
            self.payload = Payload::InPlace(Some(loan));
        }
        match &mut self.payload {
            Payload::InPlace(loan) => {
                shared.poll(cx, &mut places.ring, &mut SendLoan(&self.descriptor, loan, When::AtFlush))
            }
            Payload::Copied(_) => Poll::Ready(Ok(())),
        }
    }
}

/// Where the pending message waits.
#[derive(Debug, Default)]
struct Places {
    ring: Option<Place>,
    slot: Option<Place>,
}

/// A sink of outgoing messages, made by [`ShmSender::into_sink`]. What was fed is visible to the peer after the flush, or
/// when the ring is full. Dropping the sink flushes what is in the ring, and drops a message that waits for room.
#[derive(Debug)]
pub struct ShmSink<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    sender: ShmSender<E, P>,
    /// A message that has been accepted and is not in the ring.
    pending: Option<Outgoing<E, P>>,
    places: Places,
}

impl<E: OsEndpoint, P: SlotPool> ShmSink<E, P> {
    pub(crate) fn new(sender: ShmSender<E, P>) -> Self {
        Self { sender, pending: None, places: Places::default() }
    }

    /// The sender behind the sink.
    #[must_use]
    pub fn sender(&self) -> &ShmSender<E, P> {
        &self.sender
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(outgoing) = &mut self.pending else { return Poll::Ready(Ok(())) };
        let fed = ready!(outgoing.poll_fed(cx, &self.sender.shared, &mut self.places));
        self.pending = None;
        Poll::Ready(fed)
    }
}

/// Nothing in it is ever pinned.
impl<E: OsEndpoint, P: SlotPool> Unpin for ShmSink<E, P> {}

impl<E: OsEndpoint, P: SlotPool> Sink<Outgoing<E, P>> for ShmSink<E, P> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.get_mut().poll_pending(cx)
    }

    /// A second message without [`poll_ready`](Self::poll_ready) in between is [`Error::Full`].
    fn start_send(self: Pin<&mut Self>, outgoing: Outgoing<E, P>) -> Result<(), Error> {
        let this = self.get_mut();
        if this.pending.is_some() {
            return Err(Error::Full);
        }
        this.pending = Some(outgoing);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(this.poll_pending(cx))?;
        this.sender.shared.with(Sender::flush);
        Poll::Ready(Ok(()))
    }

    /// Flushes, then closes every clone of the sender.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

impl<E: OsEndpoint, P: SlotPool> Drop for ShmSink<E, P> {
    fn drop(&mut self) {
        self.sender.shared.leave(Cause::Ring, &mut self.places.ring);
        self.sender.shared.leave(Cause::Slot, &mut self.places.slot);
        self.sender.shared.with(Sender::flush);
    }
}
