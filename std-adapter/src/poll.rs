//! `poll(2)` with a deadline, and without being ended by a signal handler.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

use crate::error::Error;

/// Waits until one of the descriptors has something; false if the deadline (of the monotonic clock) passed first.
pub(crate) fn poll_until(descriptors: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<bool, Error> {
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(descriptors, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::io("cannot wait for a descriptor")(error)),
        }
    }
}

/// A duration as the kernel takes it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}
