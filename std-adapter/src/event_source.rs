//! One descriptor for a foreign event loop: the half's doorbell and the life socket, in one epoll set.
//!
//! Readable does not mean that there is a message, and silent does not mean that there is none: a descriptor without the
//! rule for arming it loses wake-ups. The rule:
//!
//! ```text
//!   loop {
//!       receive with try_recv until it says Empty
//!       arm: says "go on" if something came meanwhile            else
//!       wait until the event source is readable
//!       drain
//!   }
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rapace_shm_core::endpoint::Half;
use rustix::event::epoll;

use crate::error::Error;
use crate::wiring::{Wiring, epoll_set};

/// What an event loop watches for one half of a session: readable (level-triggered) when the half's doorbell was rung, or
/// the peer is gone. Made by [`Receiver::event_source`](crate::Receiver::event_source) and
/// [`Sender::event_source`](crate::Sender::event_source); of a session that gets another peer, it is to be made anew.
#[derive(Debug)]
pub struct EventSource(OwnedFd);

impl EventSource {
    pub(crate) fn new(wiring: &Wiring, half: Half) -> Result<Self, Error> {
        let level = epoll::EventFlags::IN;
        Ok(Self(epoll_set([wiring.own.of(half)], level, wiring.life.as_ref())?))
    }

    /// The very set that somebody sleeps on: silenced by taking its events.
    pub(crate) fn of_set(set: &OwnedFd) -> Result<Self, Error> {
        Ok(Self(set.try_clone().map_err(Error::io("cannot duplicate the epoll set"))?))
    }
}

impl AsFd for EventSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<EventSource> for OwnedFd {
    fn from(source: EventSource) -> Self {
        source.0
    }
}
