//! The async receiver.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use rapace_shm::core::slots::{DataSegment, SlotPool};
use rapace_shm::{Error, Message, OsEndpoint, Receiver, ShmEndpoint, Spin, SystemCalls};

use crate::bell::Reactor;
use crate::half::Shared;
use crate::jobs::TakeMessage;
use crate::queue::Place;
use crate::wakers::Cause;

/// The receiving half of a transport, of a session unless said otherwise: a [`Stream`] of messages, which ends when the peer has closed and everything that it
/// sent was received. An error is the stream's last item.
///
/// Dropping it closes this direction: the peer's sends fail.
///
/// A call may be dropped at any moment, and no message is lost by it.
#[derive(Debug)]
pub struct ShmReceiver<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    shared: Shared<Receiver<E, P>>,
    /// The stream's place, while it waits.
    place: Option<Place>,
    ended: bool,
}

impl<E: OsEndpoint, P: SlotPool> ShmReceiver<E, P> {
    pub(crate) fn new(half: Receiver<E, P>, reactor: Reactor, spin: Spin) -> Result<Self, Error> {
        Ok(Self { shared: Shared::new(half, reactor, spin)?, place: None, ended: false })
    }

    /// Receives a message; waits for one.
    ///
    /// # Errors
    /// [`Error::Closed`] after the peer's last message, [`Error::PeerDied`] after a dead peer's last one, or
    /// [`Error::PeerFault`].
    pub async fn recv(&mut self) -> Result<Message<E, P>, Error> {
        self.shared.leave(Cause::Ring, &mut self.place);
        self.recv_in_turn().await
    }

    /// As [`recv`](Self::recv), for tasks that share the receiver: each message goes to one of them.
    pub(crate) async fn recv_in_turn(&self) -> Result<Message<E, P>, Error> {
        self.shared.run(&mut TakeMessage).await
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// [`Error::Empty`], or as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Message<E, P>, Error> {
        self.shared.with(Receiver::try_recv)
    }

    /// The system calls that this side has made so far, the sender's included; the reactor's own are not
    /// among them.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.shared.endpoint().system_calls()
    }

    /// Takes no more messages: the peer's sends fail. Does not wait; dropping the receiver does the same.
    pub fn close(&mut self) {
        self.close_shared();
    }

    /// As [`close`](Self::close); whoever waits here is told.
    pub(crate) fn close_shared(&self) {
        self.shared.interrupt(Receiver::close);
    }

    pub(crate) fn into_half(self) -> Receiver<E, P> {
        self.shared.into_half()
    }
}

/// Nothing in it is ever pinned.
impl<E: OsEndpoint, P: SlotPool> Unpin for ShmReceiver<E, P> {}

impl<E: OsEndpoint, P: SlotPool> Stream for ShmReceiver<E, P> {
    type Item = Result<Message<E, P>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let received = ready!(this.shared.poll(cx, &mut this.place, &mut TakeMessage));
        this.ended = received.is_err();
        Poll::Ready(match received {
            Err(Error::Closed) => None,
            received => Some(received),
        })
    }
}

impl<E: OsEndpoint, P: SlotPool> FusedStream for ShmReceiver<E, P> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}
