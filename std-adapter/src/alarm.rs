//! A clock among the descriptors that somebody sleeps on: a time-out that a foreign event loop hears as well.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::error::Error;
use crate::poll::timespec;

/// A `timerfd(2)` on the monotonic clock: readable from the moment for which it is set until it is set anew.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// One that is not set.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags).map(Self).map_err(Error::io("cannot create a timer"))
    }

    /// Sets it, or with `None` silences it.
    pub(crate) fn set(&self, at: Option<Instant>) -> Result<(), Error> {
        // Of zero a timer never rings.
        let left = |at: Instant| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = timespec(at.map_or(Duration::ZERO, left));
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).map(drop).map_err(Error::io("cannot set a timer"))
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags};

    use super::*;
    use crate::poll::poll_until;

    #[test]
    fn it_rings_until_it_is_set_anew_and_not_before() {
        let alarm = Alarm::new().unwrap();
        let rings_within = |wait: Duration| {
            poll_until(&mut [PollFd::new(&alarm, PollFlags::IN)], Some(Instant::now() + wait)).unwrap()
        };
        assert!(!rings_within(Duration::ZERO));
        alarm.set(Some(Instant::now() + Duration::from_millis(20))).unwrap();
        assert!(!rings_within(Duration::ZERO), "too early");
        assert!(rings_within(Duration::from_secs(10)) && rings_within(Duration::ZERO));
        alarm.set(None).unwrap();
        assert!(!rings_within(Duration::ZERO), "it was silenced");
        alarm.set(Some(Instant::now())).unwrap();
        assert!(rings_within(Duration::from_secs(10)), "what is past rings at once");
    }
}
