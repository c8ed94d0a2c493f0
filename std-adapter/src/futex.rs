//! Wait and wake on a 32-bit word in memory that processes share.
//!
//! ```
//! use rapace_shm::futex::{self, Woken};
//! use std::sync::atomic::{AtomicU32, Ordering};
//!
//! let word = AtomicU32::new(0);
//! std::thread::scope(|scope| {
//!     scope.spawn(|| futex::signal(&word));
//!     while word.load(Ordering::Acquire) == 0 {
//!         futex::wait(&word, 0, None)?;
//!     }
//!     Ok::<_, std::io::Error>(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use crate::poll::timespec;

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Somebody woke the word, or the kernel did for no reason: look again.
    Perhaps,
    /// The word did not have the expected value.
    Changed,
    /// The deadline (of the monotonic clock) passed.
    TimedOut,
}

/// Sleeps while the word has the value `expected`, until it is woken or the deadline passes. A signal handler does not
/// end the wait.
///
/// # Errors
/// Whatever else the kernel says, as it says it.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> io::Result<Woken> {
    wait_counting(word, expected, deadline, || {})
}

/// As [`wait`]; calls `count` once for each system call.
pub(crate) fn wait_counting(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Instant>,
    count: impl Fn(),
) -> io::Result<Woken> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(Woken::TimedOut);
        }
        let timeout = left.map(timespec);
        count();
        match futex::wait(word, Flags::empty(), expected, timeout.as_ref()) {
            Ok(()) => return Ok(Woken::Perhaps),
            Err(Errno::AGAIN) => return Ok(Woken::Changed),
            Err(Errno::TIMEDOUT) => return Ok(Woken::TimedOut),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Wakes up to `count` sleepers of the word; says how many there were.
///
/// # Errors
/// Whatever the kernel says, as it says it.
pub fn wake(word: &AtomicU32, count: u32) -> io::Result<usize> {
    // The kernel reads the count as a signed number.
    let count = count.min(i32::MAX.unsigned_abs());
    Ok(futex::wake(word, Flags::empty(), count)?)
}

/// Adds one to the word and wakes everybody who sleeps on it; says how many there were.
///
/// # Errors
/// Whatever the kernel says, as it says it.
pub fn signal(word: &AtomicU32) -> io::Result<usize> {
    word.fetch_add(1, Ordering::Release);
    wake(word, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_does_not_wait() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, None).unwrap(), Woken::Changed);
    }

    #[test]
    fn a_deadline_ends_the_wait_and_not_before() {
        let word = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_millis(20);
        assert_eq!(wait(&word, 0, Some(deadline)).unwrap(), Woken::TimedOut);
        assert!(Instant::now() >= deadline);
        assert_eq!(wait(&word, 0, Some(deadline)).unwrap(), Woken::TimedOut, "a deadline in the past does not wait");
    }

    #[test]
    fn a_signal_wakes_every_sleeper() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while word.load(Ordering::Acquire) == 0 {
                        wait(&word, 0, None).unwrap();
                    }
                });
            }
            signal(&word).unwrap();
        });
    }
}
