//! Receiving from whichever plugin has something: one sleep for all.

use std::time::{Duration, Instant};

use rapace_shm_core::endpoint::{Half, PeerId};
use rapace_shm_core::wake::Step;

use super::HostMessage;
use super::host::{HubHost, Inner};
use super::host_endpoint::{ALARM, HostEndpoint, RECEPTION};
use crate::error::Error;
use crate::event_source::EventSource;
use crate::os_endpoint::OsEndpoint;
use crate::spin::NOW_AND_THEN;
use crate::wait::{Waits, until_ready};

/// What a host hears of a plugin.
#[derive(Debug)]
#[non_exhaustive]
pub enum Heard {
    /// It has attached.
    Joined,
    /// A message.
    Message(HostMessage),
    /// Nothing more will come from it, and everything that came has been received: it closed ([`Error::Closed`]), it is
    /// gone ([`Error::PeerDied`]), or it broke the protocol ([`Error::PeerFault`]).
    Ended(Error),
}

/// What a host hears, and of which plugin.
pub type HeardFrom = (PeerId, Heard);

impl Waits for Inner {
    type Endpoint = HostEndpoint;

    fn endpoint(&self) -> &HostEndpoint {
        &self.endpoint
    }

    fn disarm(&mut self) {
        self.core.disarm();
    }
}

impl HubHost {
    /// Hears from whichever plugin has something to say; waits for one. Whoever was heard is asked last in the next round,
    /// so no plugin keeps the others from being heard.
    ///
    /// # Errors
    /// [`Error::NoPlugins`]. [`Error::Handshake`] if one that wanted to join could not be agreed with; the hub goes on, call
    /// again.
    pub fn recv_any(&mut self) -> Result<HeardFrom, Error> {
        self.recv_any_until(None)
    }

    /// Hears from whichever plugin has something to say, if one has.
    ///
    /// # Errors
    /// [`Error::Empty`], or [`Error::Handshake`] as [`recv_any`](Self::recv_any).
    pub fn try_recv_any(&mut self) -> Result<HeardFrom, Error> {
        if let Some(next) = self.inner.ready()
            && let Some(heard) = self.inner.hear(next?)
        {
            return Ok(heard);
        }
        self.inner.heard += 1;
        Err(Error::Empty)
    }

    /// Hears from whichever plugin has something to say, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`recv_any`](Self::recv_any).
    pub fn recv_any_deadline(&mut self, deadline: Instant) -> Result<HeardFrom, Error> {
        self.recv_any_until(Some(deadline))
    }

    /// As [`recv_any_deadline`](Self::recv_any_deadline), for so long from now on.
    ///
    /// # Errors
    /// As there.
    pub fn recv_any_timeout(&mut self, timeout: Duration) -> Result<HeardFrom, Error> {
        self.recv_any_until(Instant::now().checked_add(timeout))
    }

    fn recv_any_until(&mut self, deadline: Option<Instant>) -> Result<HeardFrom, Error> {
        loop {
            let next = match self.inner.ready() {
                Some(next) => next?,
                None => until_ready(&mut self.inner, &mut self.spin, deadline, Inner::ready, Inner::step)?,
            };
            if let Some(heard) = self.inner.hear(next) {
                return Ok(heard);
            }
        }
    }

    /// One step of [`recv_any`](Self::recv_any), for adapters: what there is to hear, or what to
    /// [sleep](OsEndpoint::sleep) on with the [host's endpoint](Self::endpoint). The host is then marked as asleep;
    /// [`disarm_any`](Self::disarm_any) takes that back.
    ///
    /// # Errors
    /// As [`recv_any`](Self::recv_any).
    pub fn poll_recv_any(&mut self) -> Result<Step<HeardFrom>, Error> {
        loop {
            match self.inner.step()? {
                Step::Sleep(ticket) => return Ok(Step::Sleep(ticket)),
                Step::Ready(next) => {
                    if let Some(heard) = self.inner.hear(next) {
                        return Ok(Step::Ready(heard));
                    }
                }
            }
        }
    }

    /// Says that the host will not sleep after all.
    pub fn disarm_any(&mut self) {
        self.inner.core.disarm();
    }

    /// What a foreign event loop watches. Before each wait [`poll_recv_any`](Self::poll_recv_any) must have said to sleep;
    /// after each wait [`drain_any`](Self::drain_any).
    ///
    /// # Errors
    /// [`Error::NoDoorbell`] if the hub sleeps on futexes, [`Error::Io`] if there are too many open files.
    pub fn event_source_any(&self) -> Result<EventSource, Error> {
        self.inner.endpoint.event_source(Half::Receiver)
    }

    /// Silences the [event source](Self::event_source_any), and notes what it told of.
    pub fn drain_any(&mut self) {
        self.inner.endpoint.drain(Half::Receiver);
    }
}

/// Where the next thing to be heard is. A message is fetched only once it is known where it goes: each step on the way
/// would copy it.
enum Next {
    /// Among the news.
    News,
    /// At the member in this place.
    From(usize),
}

impl Inner {
    /// Where there is something to hear, if there is.
    fn ready(&mut self) -> Option<Result<Next, Error>> {
        if self.heard >= NOW_AND_THEN {
            // Who is never out of work never sleeps, and would not hear of deaths and of newcomers.
            self.heard = 0;
            self.endpoint.look_for_death();
        }
        match self.endpoint.take_stirred() {
            0 => {}
            stirred => {
                if let Err(error) = self.attend(stirred) {
                    return Some(Err(error));
                }
            }
        }
        if !self.news.is_empty() {
            return Some(Ok(Next::News));
        }
        self.core.ready_any(&mut self.members).map(|place| Ok(Next::From(place)))
    }

    /// As [`ready`](Self::ready), or marks the host as asleep and says what to sleep on.
    fn step(&mut self) -> Result<Step<Next>, Error> {
        // What has stirred is seen to here, too: who does not spin does nothing but this.
        if let Some(next) = self.ready() {
            return next.map(Step::Ready);
        }
        let ticket = match self.core.poll_ready_any(&mut self.members) {
            Step::Ready(place) => return Ok(Step::Ready(Next::From(place))),
            Step::Sleep(ticket) => ticket,
        };
        // Behind the mark: whoever comes or goes from now on wakes the host.
        self.tidy();
        if !self.news.is_empty() {
            self.core.disarm();
            return Ok(Step::Ready(Next::News));
        }
        if self.members.is_empty() && self.reception.is_none() && self.expected.is_empty() {
            self.core.disarm();
            return Err(Error::NoPlugins);
        }
        Ok(Step::Sleep(ticket))
    }

    /// What there is to be heard; `None` if it is not there after all.
    #[inline]
    fn hear(&mut self, next: Next) -> Option<HeardFrom> {
        let Next::From(place) = next else { return self.news.pop_front() };
        if !self.expected.is_empty() {
            // A plugin's arrival comes before what it says.
            self.look_who_came();
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
        }
        let member = self.members.get_mut(place)?;
        let id = member.id;
        match member.receiver.try_recv() {
            Ok(message) => {
                self.heard += 1;
                Some((id, Heard::Message(message)))
            }
            Err(Error::Empty) => None,
            Err(end) => {
                member.ended = true;
                self.tidy();
                Some((id, Heard::Ended(end)))
            }
        }
    }

    /// Sees to what has stirred besides data.
    fn attend(&mut self, stirred: u64) -> Result<(), Error> {
        if stirred & ALARM != 0 {
            // It goes on ringing until it is set anew.
            self.alarm_at = None;
        }
        let received = if stirred & (RECEPTION | ALARM) != 0 { self.receive_clients() } else { Ok(()) };
        self.tidy();
        received
    }
}
