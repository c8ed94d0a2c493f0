//! For a peer that is not trusted to keep its hands off a payload while it is read: every message is copied into private
//! memory before anybody looks at it.
//!
//! A payload that is read where it lies can change under the reader's eyes if the peer breaks the protocol: what was
//! checked is then not what is used. A copy cannot change. The bytes are whatever stood there at the moment of copying,
//! and the slot goes back at once.

use std::time::Instant;

use rapace_shm_core::slots::{DataSegment, SlotPool};

use crate::MsgDescHot;
use crate::endpoint::{Message, ShmEndpoint};
use crate::error::Error;
use crate::os_endpoint::OsEndpoint;
use crate::receiver::Receiver;

/// A received message in private memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedMessage {
    /// The descriptor as it was sent.
    pub descriptor: MsgDescHot,
    /// The payload.
    pub payload: Vec<u8>,
}

impl<E: OsEndpoint, P: SlotPool> From<Message<E, P>> for OwnedMessage {
    fn from(message: Message<E, P>) -> Self {
        let mut payload = vec![0; message.len()];
        let copied = message.copy_to(&mut payload);
        payload.truncate(copied);
        Self { descriptor: *message.descriptor(), payload }
    }
}

/// A receiver that copies, and offers no other way to receive. Made by [`Receiver::copying`].
///
/// ```
/// use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};
///
/// let (mut a, b) = ShmSession::pair(ShmSessionConfig::default())?;
/// let mut rx = b.into_split().1.copying();
/// a.split().0.send(&MsgDescHot::data(1), &[7; 100])?;
/// assert_eq!(rx.recv()?.payload, [7; 100]);
/// # Ok::<(), rapace_shm::Error>(())
/// ```
#[derive(Debug)]
pub struct CopyingReceiver<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment>(Receiver<E, P>);

impl<E: OsEndpoint, P: SlotPool> CopyingReceiver<E, P> {
    pub(crate) fn new(receiver: Receiver<E, P>) -> Self {
        Self(receiver)
    }

    /// Receives a message; waits for one.
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<OwnedMessage, Error> {
        self.0.recv().map(OwnedMessage::from)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<OwnedMessage, Error> {
        self.0.try_recv().map(OwnedMessage::from)
    }

    /// Receives a message, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// As [`Receiver::recv_deadline`].
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<OwnedMessage, Error> {
        self.0.recv_deadline(deadline).map(OwnedMessage::from)
    }

    /// Messages until the peer closes; waits for each. An error is the last item.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<OwnedMessage, Error>> + '_ {
        self.0.iter().map(|message| message.map(OwnedMessage::from))
    }

    /// Takes no more messages, as [`Receiver::close`].
    pub fn close(&mut self) {
        self.0.close();
    }

    /// The receiver that does not copy.
    #[must_use]
    pub fn into_inner(self) -> Receiver<E, P> {
        self.0
    }
}
