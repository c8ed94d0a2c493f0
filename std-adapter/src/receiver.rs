//! The blocking receiver: core's receive step, and a futex to wait on.

use std::time::Instant;

use rapace_shm_core::endpoint::Half;
use rapace_shm_core::link;
use rapace_shm_core::slots::{DataSegment, SlotPool};
use rapace_shm_core::wake::Step;

use crate::copying::CopyingReceiver;
use crate::endpoint::{Message, ShmEndpoint};
use crate::error::Error;
use crate::event_source::EventSource;
use crate::os_endpoint::OsEndpoint;
use crate::spin::{NOW_AND_THEN, Spin};
use crate::system_calls::SystemCalls;
use crate::wait::{Waits, until_ready};

/// The receiving half of a session, or of a hub's link. `Send`, but neither `Sync` nor `Clone`: the ring has one consumer.
///
/// Dropping it closes this direction: the peer's sends fail, and what it had sent but nobody took is freed. That does
/// not block.
#[derive(Debug)]
pub struct Receiver<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    link: link::Receiver<E, P>,
    spin: Spin,
    /// How often [`try_recv`](Self::try_recv) found nothing.
    empty_looks: u32,
}

impl<E: OsEndpoint, P: SlotPool> Waits for link::Receiver<E, P> {
    type Endpoint = E;

    fn endpoint(&self) -> &E {
        self.endpoint()
    }

    fn disarm(&mut self) {
        self.disarm();
    }
}

impl<E: OsEndpoint, P: SlotPool> Receiver<E, P> {
    pub(crate) fn new(link: link::Receiver<E, P>, spin: Spin) -> Self {
        Self { link, spin, empty_looks: 0 }
    }

    pub(crate) fn link(&mut self) -> &mut link::Receiver<E, P> {
        &mut self.link
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.link.endpoint()
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
    pub fn recv(&mut self) -> Result<Message<E, P>, Error> {
        self.recv_until(None)
    }

    /// Receives a message if there is one.
    ///
    /// # Errors
    /// [`Error::Empty`], or as [`recv`](Self::recv).
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Message<E, P>, Error> {
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
        self.empty_looks = self.empty_looks.wrapping_add(1);
        if self.empty_looks.is_multiple_of(NOW_AND_THEN) {
            // Whoever only ever tries never sleeps, and would not hear of the peer's death.
            self.endpoint().look_for_death();
        }
        self.link.is_ready().map_or_else(Error::from, |_| Error::Empty)
    }

    /// Receives a message, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`recv`](Self::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Message<E, P>, Error> {
        self.recv_until(Some(deadline))
    }

    #[inline(always)]
    fn recv_until(&mut self, deadline: Option<Instant>) -> Result<Message<E, P>, Error> {
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

    /// The receive step of [core](crate::core), for adapters: a message, or what to sleep on. The endpoint is then marked as
    /// asleep; [`disarm`](Self::disarm) takes that back.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self) -> Result<Step<Message<E, P>>, Error> {
        Ok(self.link.poll_recv()?)
    }

    /// Says that this half sleeps, unless a message is there: false means "receive, do not wait".
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn arm(&mut self) -> Result<bool, Error> {
        Ok(matches!(self.link.poll_ready()?, Step::Sleep(_)))
    }

    /// Says that this half will not sleep after all.
    pub fn disarm(&mut self) {
        self.link.disarm();
    }

    /// What a foreign event loop watches; [`arm`](Self::arm) it before each wait, [`drain`](Self::drain) it after.
    ///
    /// ```
    /// use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSessionConfig};
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// let (mut a, b) = SessionOptions::new().doorbells(true).pair(ShmSessionConfig::default())?;
    /// let (_to_a, mut rx) = b.into_split();
    /// let source = rx.event_source()?;
    /// a.split().0.send(&MsgDescHot::data(1), b"ping")?;
    /// let message = loop {
    ///     match rx.try_recv() {
    ///         Err(Error::Empty) => {}
    ///         received => break received?,
    ///     }
    ///     if rx.arm()? {
    ///         poll(&mut [PollFd::new(&source, PollFlags::IN)], None)?;
    ///         rx.drain();
    ///     }
    /// };
    /// assert_eq!(message.payload(), b"ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoDoorbell`] if this side sleeps on a futex, [`Error::Io`] if there are too many open files.
    pub fn event_source(&self) -> Result<EventSource, Error> {
        self.endpoint().event_source(Half::Receiver)
    }

    /// Silences the [event source](Self::event_source), and notes the peer's death if that is what it told of.
    pub fn drain(&mut self) {
        self.endpoint().drain(Half::Receiver);
    }

    /// For a peer that is not trusted to leave a payload alone while it is read: a receiver that copies every message into
    /// private memory before it hands it out.
    #[must_use]
    pub fn copying(self) -> CopyingReceiver<E, P> {
        CopyingReceiver::new(self)
    }

    /// Messages until the peer closes; waits for each.
    pub fn iter(&mut self) -> Iter<'_, E, P> {
        Iter { receiver: self, ended: false }
    }

    /// Takes no more messages: the peer's sends fail. Does not block; dropping the receiver does the same.
    pub fn close(&mut self) {
        self.link.close();
    }
}

impl<'a, E: OsEndpoint, P: SlotPool> IntoIterator for &'a mut Receiver<E, P> {
    type Item = Result<Message<E, P>, Error>;
    type IntoIter = Iter<'a, E, P>;

    fn into_iter(self) -> Iter<'a, E, P> {
        self.iter()
    }
}

/// Messages until the peer closes. An error is the last item.
#[derive(Debug)]
pub struct Iter<'a, E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    receiver: &'a mut Receiver<E, P>,
    ended: bool,
}

impl<E: OsEndpoint, P: SlotPool> Iterator for Iter<'_, E, P> {
    type Item = Result<Message<E, P>, Error>;

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

impl<E: OsEndpoint, P: SlotPool> std::iter::FusedIterator for Iter<'_, E, P> {}
