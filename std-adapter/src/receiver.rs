//! The blocking receiver: core's receive step, and a futex to wait on.

use std::time::Instant;

use rapace_shm_core::link;

use crate::endpoint::{Message, ShmEndpoint};
use crate::error::Error;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;
use crate::wait::{Waits, until_ready};

/// The receiving half of a session. `Send`, but neither `Sync` nor `Clone`: the ring has one consumer.
///
/// Dropping it closes this direction: the peer's sends fail, and what it had sent but nobody took is freed. That does
/// not block.
#[derive(Debug)]
pub struct Receiver {
    link: link::Receiver<ShmEndpoint>,
    spin: Spin,
}

impl Waits for link::Receiver<ShmEndpoint> {
    fn endpoint(&self) -> &ShmEndpoint {
        self.endpoint()
    }

    fn disarm(&mut self) {
        self.disarm();
    }
}

impl Receiver {
    pub(crate) fn new(link: link::Receiver<ShmEndpoint>, spin: Spin) -> Self {
        Self { link, spin }
    }

    /// How long later calls look before they sleep.
    pub fn set_spin(&mut self, spin: Spin) {
        self.spin = spin;
    }

    /// The system calls that this side of the session has made so far, the sender's included.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.link.endpoint().system_calls()
    }

    /// Receives a message; waits for one.
    ///
    /// # Errors
    /// [`Error::Closed`] after the peer's last message, or [`Error::PeerFault`].
    #[inline(always)]
    pub fn recv(&mut self) -> Result<Message, Error> {
        self.recv_until(None)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// [`Error::Empty`], or as [`recv`](Self::recv).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Message, Error> {
        if let Some(message) = self.link.recv_inline() {
            return Ok(message);
        }
        if let Some(message) = self.link.recv_ready() {
            return Ok(message);
        }
        Err(self.why_nothing())
    }

    #[inline(never)]
    fn why_nothing(&mut self) -> Error {
        self.link.is_ready().map_or_else(Error::from, |_| Error::Empty)
    }

    /// Receives a message, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`recv`](Self::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message, Error> {
        self.recv_until(Some(deadline))
    }

    #[inline(always)]
    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.link.recv_inline() {
                return Ok(message);
            }
            if let Some(message) = self.link.recv_ready() {
                return Ok(message);
            }
            self.wait_until_ready(deadline)?;
        }
    }

    #[inline(never)]
    fn wait_until_ready(&mut self, deadline: Option<Instant>) -> Result<(), Error> {
        until_ready(
            &mut self.link,
            &mut self.spin,
            deadline,
            |link| match link.is_ready() {
                Ok(false) => None,
                ready => Some(ready.map(drop).map_err(Error::from)),
            },
            |link| Ok(link.poll_ready()?),
        )
    }

    /// Messages until the peer closes; waits for each.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { receiver: self, ended: false }
    }

    /// Takes no more messages: the peer's sends fail. Does not block; dropping the receiver does the same.
    pub fn close(&mut self) {
        self.link.close();
    }
}

impl<'a> IntoIterator for &'a mut Receiver {
    type Item = Result<Message, Error>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Messages until the peer closes. An error is the last item.
#[derive(Debug)]
pub struct Iter<'a> {
    receiver: &'a mut Receiver,
    ended: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.receiver.recv() {
            Err(Error::Closed) => {
                self.ended = true;
                None
            }
            received => {
                self.ended = received.is_err();
                Some(received)
            }
        }
    }
}

impl std::iter::FusedIterator for Iter<'_> {}
