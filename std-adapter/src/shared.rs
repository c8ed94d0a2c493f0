//! A sender for many threads: in order per thread, and nobody starves.
//!
//! The ring has one producer, so the threads take turns, and the turns are fair (a thread that has waited for half a
//! millisecond is next). There are two of them, because there are two things to wait for:
//!
//! ```text
//!   thread:   [turn for slots: wait for one]   write   [turn for the ring: wait for a place, send]
//!                                              ^ nobody waits for this
//! ```
//!
//! Whoever waits for a slot does not keep anybody from sending one, or the thread that holds the last slot could not pass
//! it on. At each turn one thread waits, so each of the sender's two words has one sleeper. The sender itself is locked
//! only for a step that never waits.
//!
//! The two may sleep at once. On futexes each sleeps on its own word. But there is one doorbell for both, and a ring wakes
//! one of its sleepers, maybe the wrong one: so one of them sleeps on it, and wakes the other when it wakes up.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rapace_shm_core::endpoint::SleepKind;
use rapace_shm_core::slots::{DataSegment, SlotPool};
use rapace_shm_core::wake::{Step, Ticket};

use crate::endpoint::{Loan, ShmEndpoint};
use crate::error::{Error, Unsent};
use crate::os_endpoint::OsEndpoint;
use crate::sender::Sender;
use crate::wait::has_passed;
use crate::{INLINE_PAYLOAD_SIZE, MsgDescHot};

/// A [`Sender`] that many threads use, through clones or by reference.
///
/// Each thread's messages arrive in the order in which it sent them. When the last clone is dropped, the direction is
/// closed as by a sender's drop.
///
/// ```
/// use rapace_shm::{MsgDescHot, SharedSender, ShmSession, ShmSessionConfig};
///
/// let (a, mut b) = ShmSession::pair(ShmSessionConfig::default())?;
/// let shared = SharedSender::new(a.into_split().0);
/// std::thread::scope(|scope| {
///     for thread in 0..4 {
///         let shared = shared.clone();
///         scope.spawn(move || shared.send(&MsgDescHot::data(thread), b"from one of many"));
///     }
///     for _ in 0..4 {
///         assert_eq!(b.split().1.recv()?.payload(), b"from one of many");
///     }
///     Ok::<(), rapace_shm::Error>(())
/// })?;
/// # Ok::<(), rapace_shm::Error>(())
/// ```
pub struct SharedSender<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment>(Arc<Shared<E, P>>);

struct Shared<E: OsEndpoint, P: SlotPool> {
    sender: Mutex<Sender<E, P>>,
    slots: Mutex<()>,
    ring: Mutex<()>,
    endpoint: E,
    bell: Mutex<BellSleepers>,
    bell_has_rung: Condvar,
}

/// Who sleeps on the sender's doorbell.
#[derive(Default)]
struct BellSleepers {
    /// Whether one does; the others wait for it to wake up.
    one_sleeps: bool,
    /// How often it has woken up.
    rings: u64,
}

impl<E: OsEndpoint, P: SlotPool> SharedSender<E, P> {
    /// Shares a sender.
    #[must_use]
    pub fn new(sender: Sender<E, P>) -> Self {
        let endpoint = sender.endpoint().clone();
        Self(Arc::new(Shared {
            sender: Mutex::new(sender),
            slots: Mutex::default(),
            ring: Mutex::default(),
            endpoint,
            bell: Mutex::default(),
            bell_has_rung: Condvar::new(),
        }))
    }

    /// The sender again, if this is the last clone.
    ///
    /// # Errors
    /// This clone, if there are others.
    pub fn into_inner(self) -> Result<Sender<E, P>, Self> {
        Arc::try_unwrap(self.0).map(|shared| shared.sender.into_inner()).map_err(Self)
    }

    /// Sends a message; waits for this thread's turn, and for room.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        self.send_until(descriptor, payload, None)
    }

    /// As [`send`](Self::send), until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`Sender::send`].
    pub fn send_deadline(&self, descriptor: &MsgDescHot, payload: &[u8], deadline: Instant) -> Result<(), Error> {
        self.send_until(descriptor, payload, Some(deadline))
    }

    fn send_until(&self, descriptor: &MsgDescHot, payload: &[u8], deadline: Option<Instant>) -> Result<(), Error> {
        if payload.len() <= INLINE_PAYLOAD_SIZE {
            let _turn = turn(&self.0.ring, deadline)?;
            return self.until_ready(deadline, |sender| sender.poll_send(descriptor, payload));
        }
        let mut loan = self.loan_until(payload.len(), deadline)?;
        loan.append(payload);
        Ok(self.send_loan_until(descriptor, loan, deadline)?)
    }

    /// Takes a slot for a message of `len` bytes; waits for this thread's turn, and for a slot.
    ///
    /// # Errors
    /// As [`Sender::loan`].
    pub fn loan(&self, len: usize) -> Result<Loan<E, P>, Error> {
        self.loan_until(len, None)
    }

    /// As [`loan`](Self::loan), until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`Sender::loan`].
    pub fn loan_deadline(&self, len: usize, deadline: Instant) -> Result<Loan<E, P>, Error> {
        self.loan_until(len, Some(deadline))
    }

    fn loan_until(&self, len: usize, deadline: Option<Instant>) -> Result<Loan<E, P>, Error> {
        let _turn = turn(&self.0.slots, deadline)?;
        self.until_ready(deadline, |sender| sender.poll_loan(len))
    }

    /// Sends a loan where it lies; waits for this thread's turn, and for room in the ring.
    ///
    /// # Errors
    /// As [`Sender::send_loan`]; the loan comes back.
    pub fn send_loan(&self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        self.send_loan_until(descriptor, loan, None)
    }

    /// As [`send_loan`](Self::send_loan), until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`Sender::send_loan`]; the loan comes back.
    pub fn send_loan_deadline(
        &self,
        descriptor: &MsgDescHot,
        loan: Loan<E, P>,
        deadline: Instant,
    ) -> Result<(), Unsent<Loan<E, P>>> {
        self.send_loan_until(descriptor, loan, Some(deadline))
    }

    fn send_loan_until(
        &self,
        descriptor: &MsgDescHot,
        loan: Loan<E, P>,
        deadline: Option<Instant>,
    ) -> Result<(), Unsent<Loan<E, P>>> {
        let mut loan = Some(loan);
        let sent = turn(&self.0.ring, deadline)
            .and_then(|_turn| self.until_ready(deadline, |sender| sender.poll_send_loan(descriptor, &mut loan)));
        sent.map_err(|error| Unsent { error, loan })
    }

    /// Says that nothing more will come, from any thread.
    pub fn close(&self) {
        self.0.sender.lock().close();
    }

    /// Repeats a step, sleeping in between with the sender unlocked.
    fn until_ready<T>(
        &self,
        deadline: Option<Instant>,
        mut step: impl FnMut(&mut Sender<E, P>) -> Result<Step<T>, Error>,
    ) -> Result<T, Error> {
        loop {
            // Counted before the look: a ring since then is one that may be meant for this thread.
            let rings = self.0.bell.lock().rings;
            // Bound to a name, or the lock would be held during the sleep.
            let done = step(&mut self.0.sender.lock())?;
            match done {
                Step::Ready(value) => return Ok(value),
                Step::Sleep(ticket) if self.0.sleep(&ticket, rings, deadline)? && !has_passed(deadline) => {}
                // The mark stays: whoever finds it signals once in vain, and the next step clears it.
                Step::Sleep(_) => return Err(Error::Timeout),
            }
        }
    }
}

impl<E: OsEndpoint, P: SlotPool> Shared<E, P> {
    /// Sleeps where the ticket says, unless the bell has rung more often than `rings` times; false if the deadline passed.
    fn sleep(&self, ticket: &Ticket, rings: u64, deadline: Option<Instant>) -> Result<bool, Error> {
        if ticket.kind() == SleepKind::Word {
            return self.endpoint.sleep(ticket, deadline);
        }
        let mut bell = self.bell.lock();
        while bell.rings == rings && bell.one_sleeps {
            match deadline {
                None => self.bell_has_rung.wait(&mut bell),
                Some(deadline) if self.bell_has_rung.wait_until(&mut bell, deadline).timed_out() => return Ok(false),
                Some(_) => {}
            }
        }
        if bell.rings != rings {
            return Ok(true);
        }
        bell.one_sleeps = true;
        drop(bell);
        let roused = self.endpoint.sleep(ticket, deadline);
        let mut bell = self.bell.lock();
        bell.one_sleeps = false;
        bell.rings += 1;
        self.bell_has_rung.notify_all();
        roused
    }
}

/// A turn, unless the deadline passes first.
fn turn(of: &Mutex<()>, deadline: Option<Instant>) -> Result<MutexGuard<'_, ()>, Error> {
    match deadline {
        None => Ok(of.lock()),
        Some(deadline) => of.try_lock_until(deadline).ok_or(Error::Timeout),
    }
}

impl<E: OsEndpoint, P: SlotPool> Clone for SharedSender<E, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: OsEndpoint + fmt::Debug, P: SlotPool> fmt::Debug for SharedSender<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSender").field("endpoint", &self.0.endpoint).finish_non_exhaustive()
    }
}
