//! One half of a transport: the blocking adapter's, shared by the tasks that use it, and the async loop around core's
//! steps: try, look again a little while others run, then sleep where the ticket says.
//!
//! ```text
//!   poll ----> my turn? --no--> wait in the queue of my cause
//!                | yes
//!                v
//!          asleep, and no bell was rung? --yes--> Pending
//!                | no: silence it
//!                v
//!          try (a portion of the spin) --found--> Ready, the next one's turn
//!                | nothing yet: let other tasks run
//!                | in vain
//!                v
//!          core's step: arm, try, or a ticket --> asleep
//! ```
//!
//! The lock is held while a poll runs, never across one. Every future leaves the queue when it is dropped and, as the last
//! one, takes the mark "asleep" back.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rapace_shm::core::slots::SlotPool;
use rapace_shm::core::wake::{Step, Ticket};
use rapace_shm::{Error, EventSource, Looked, OsEndpoint, Receiver, Sender, Spin};

use crate::bell::{Bell, Reactor};
use crate::queue::{Place, Queue};
use crate::wakers::{Cause, Wakers};

/// Tries in a row before other tasks are let run: about a microsecond, less than letting them run costs.
const PORTION: u32 = 128;

/// Calls in a row that found everything ready before other tasks are let run.
const STREAK: u32 = 256;

/// After a sleep as short as this, looking a little longer would have been cheaper: the next wait spins in full again.
const SHORT_SLEEP: Duration = Duration::from_micros(50);

/// What the loop needs of a half, of whatever kind of link.
pub(crate) trait Half {
    /// What can sleep.
    type Endpoint: OsEndpoint;
    /// This side's environment.
    fn endpoint(&self) -> &Self::Endpoint;
    /// What a reactor watches.
    fn event_source(&self) -> Result<EventSource, Error>;
    /// Silences the bell.
    fn drain(&mut self);
    /// Says that this half will not sleep after all.
    fn disarm(&mut self);
}

macro_rules! half_of_link {
    ($($half:ident),*) => {$(
        impl<E: OsEndpoint, P: SlotPool> Half for $half<E, P> {
            type Endpoint = E;

            fn endpoint(&self) -> &E {
                self.endpoint()
            }

            fn event_source(&self) -> Result<EventSource, Error> {
                self.event_source()
            }

            fn drain(&mut self) {
                self.drain();
            }

            fn disarm(&mut self) {
                self.disarm();
            }
        }
    )*};
}
half_of_link!(Sender, Receiver);

/// One call: what it tries, and core's step for it.
pub(crate) trait Job<H> {
    type Output;
    /// What it waits for.
    const CAUSE: Cause;
    /// Tries without arming; `None` for "not yet".
    fn attempt(&mut self, half: &mut H) -> Option<Result<Self::Output, Error>>;
    /// Core's step, which arms.
    fn step(&mut self, half: &mut H) -> Result<Step<Self::Output>, Error>;
}

/// A half, and who waits for it.
pub(crate) struct Shared<H: Half> {
    inner: Mutex<Inner<H>>,
    endpoint: H::Endpoint,
}

struct Inner<H: Half> {
    half: H,
    bell: Bell<H::Endpoint>,
    spin: Spin,
    /// As it was configured.
    fresh_spin: Spin,
    /// When the half last went to sleep.
    slept_at: Option<Instant>,
    /// Tries in a row: fewer where the peer is one of the tasks that are let run in between.
    portion: u32,
    /// Calls in a row that did not wait.
    streak: u32,
    /// In the middle of a spin: others were let run between two portions.
    spinning: bool,
    /// For which causes the half is marked as asleep.
    asleep: [Option<Ticket>; 2],
    queues: [Queue; 2],
    /// The bell was silenced for one cause, and whoever waits for the other has not been told.
    rung_for_other: bool,
    /// Whom the bell wakes; also as the reactor knows it.
    wakers: Arc<Wakers>,
    waker: Waker,
}

impl<H: Half> Shared<H> {
    pub(crate) fn new(half: H, reactor: Reactor, spin: Spin) -> Result<Self, Error> {
        let bell = Bell::new(reactor, half.event_source())?;
        Ok(Self::with_bell(half, bell, spin))
    }

    /// With a bell that was made from the half's event source.
    pub(crate) fn with_bell(half: H, bell: Bell<H::Endpoint>, spin: Spin) -> Self {
        let endpoint = half.endpoint().clone();
        let wakers = Arc::<Wakers>::default();
        let inner = Inner {
            half,
            bell,
            spin,
            fresh_spin: spin,
            slept_at: None,
            portion: PORTION,
            streak: 0,
            spinning: false,
            asleep: [None; 2],
            queues: Default::default(),
            rung_for_other: false,
            waker: Waker::from(wakers.clone()),
            wakers,
        };
        Self { inner: Mutex::new(inner), endpoint }
    }

    pub(crate) fn endpoint(&self) -> &H::Endpoint {
        &self.endpoint
    }

    /// The half, for what does not wait.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut H) -> T) -> T {
        act(&mut self.inner.lock().half)
    }

    /// As [`try_now`](Self::try_now), on behalf of a call that can wait: `None` if it has to, or if others are to run first.
    pub(crate) fn at_once<T>(&self, attempt: impl FnOnce(&mut H) -> Option<T>) -> Option<T> {
        let mut inner = self.inner.lock();
        if inner.streak >= STREAK || !inner.queues.iter().all(Queue::is_empty) {
            return None;
        }
        inner.streak += 1;
        attempt(&mut inner.half)
    }

    /// Tries, unless somebody waits, who comes first.
    pub(crate) fn try_now<T>(&self, attempt: impl FnOnce(&mut H) -> Result<T, Error>) -> Result<T, Error> {
        let mut inner = self.inner.lock();
        if inner.queues.iter().all(Queue::is_empty) { attempt(&mut inner.half) } else { Err(Error::Full) }
    }

    /// Does a job when it can be done.
    pub(crate) async fn run<J: Job<H>>(&self, job: &mut J) -> Result<J::Output, Error> {
        let mut turn = Turn { shared: self, cause: J::CAUSE, place: None };
        poll_fn(|cx| self.poll(cx, &mut turn.place, job)).await
    }

    /// One poll of a job by the task with this place, which is `None` before and after. A task that loses interest
    /// [leaves](Self::leave).
    pub(crate) fn poll<J: Job<H>>(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<Place>,
        job: &mut J,
    ) -> Poll<Result<J::Output, Error>> {
        let mut inner = self.inner.lock();
        let queue = J::CAUSE as usize;
        let polled = if inner.queues[queue].is_turn_of(place.as_ref()) {
            inner.drive(cx, job, &self.endpoint)
        } else {
            Poll::Pending
        };
        let next = if polled.is_pending() {
            inner.queues[queue].wait(place, cx.waker());
            None
        } else {
            // The next one arms for itself.
            inner.asleep[queue] = None;
            place.take().and_then(|place| inner.queues[queue].leave(&place))
        };
        let rung = std::mem::take(&mut inner.rung_for_other).then(|| inner.wakers.clone());
        drop(inner);
        wake(next);
        if let Some(wakers) = rung {
            wakers.wake_for(J::CAUSE.other());
        }
        polled
    }

    /// Gives a place up.
    pub(crate) fn leave(&self, cause: Cause, place: &mut Option<Place>) {
        let Some(place) = place.take() else { return };
        let mut inner = self.inner.lock();
        let next = inner.queues[cause as usize].leave(&place);
        if inner.queues[cause as usize].is_empty() {
            // Whoever comes next arms for itself: the mark may be taken back by then.
            inner.asleep[cause as usize] = None;
        }
        if inner.queues.iter().all(Queue::is_empty) {
            inner.half.disarm();
        }
        drop(inner);
        wake(next);
    }

    /// Changes something of the half that those who wait must know.
    pub(crate) fn interrupt<T>(&self, act: impl FnOnce(&mut H) -> T) -> T {
        let mut inner = self.inner.lock();
        let done = act(&mut inner.half);
        inner.asleep = [None; 2];
        let first = inner.queues.each_ref().map(Queue::first);
        drop(inner);
        first.into_iter().for_each(wake);
        done
    }

    pub(crate) fn into_half(self) -> H {
        self.inner.into_inner().half
    }
}

/// Wakers are foreign code: no lock is held.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<H: Half> Inner<H> {
    fn drive<J: Job<H>>(
        &mut self,
        cx: &mut Context<'_>,
        job: &mut J,
        endpoint: &H::Endpoint,
    ) -> Poll<Result<J::Output, Error>> {
        if self.streak >= STREAK {
            return self.let_others_run(cx);
        }
        if let Some(ticket) = self.asleep[J::CAUSE as usize] {
            ready!(self.poll_rung(cx, J::CAUSE, ticket, endpoint))?;
        }
        if !self.spinning
            && let Some(done) = job.attempt(&mut self.half)
        {
            self.streak += 1;
            return Poll::Ready(done);
        }
        match self.look(job) {
            Looked::Found(done) => return Poll::Ready(done),
            Looked::NotYet => return self.let_others_run(cx),
            Looked::InVain => {}
        }
        loop {
            let ticket = match job.step(&mut self.half)? {
                Step::Ready(value) => return Poll::Ready(Ok(value)),
                Step::Sleep(ticket) => ticket,
            };
            self.asleep[J::CAUSE as usize] = Some(ticket);
            self.slept_at = Some(Instant::now());
            // A bell that was rung for somebody who is gone is silenced here, and then the step is due again.
            ready!(self.poll_rung(cx, J::CAUSE, ticket, endpoint))?;
        }
    }

    fn let_others_run<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.streak = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A portion of the spin. What is found at the first try after others were let run was sent by one of them: looking
    /// longer in a row would only have kept it from doing so.
    fn look<J: Job<H>>(&mut self, job: &mut J) -> Looked<Result<J::Output, Error>> {
        let mut tries = 0;
        let half = &mut self.half;
        let looked = self.spin.portion(self.portion, || {
            tries += 1;
            job.attempt(half)
        });
        if let Looked::Found(_) = looked {
            self.portion =
                if tries == 1 && self.spinning { (self.portion / 2).max(1) } else { (self.portion * 2).min(PORTION) };
        }
        self.spinning = matches!(looked, Looked::NotYet);
        looked
    }

    fn poll_rung(
        &mut self,
        cx: &Context<'_>,
        cause: Cause,
        ticket: Ticket,
        endpoint: &H::Endpoint,
    ) -> Poll<Result<(), Error>> {
        self.streak = 0;
        self.wakers.set(cause, cx.waker());
        ready!(self.bell.poll_rung(endpoint, cause, ticket, &self.waker))?;
        self.asleep[cause as usize] = None;
        if self.slept_at.take().is_some_and(|at| at.elapsed() < SHORT_SLEEP) {
            self.spin = self.fresh_spin;
        }
        if self.bell.is_shared() {
            self.half.drain();
            self.asleep = [None; 2];
            self.rung_for_other = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// A place in a queue, given up when it is dropped.
struct Turn<'a, H: Half> {
    shared: &'a Shared<H>,
    cause: Cause,
    place: Option<Place>,
}

impl<H: Half> Drop for Turn<'_, H> {
    fn drop(&mut self) {
        self.shared.leave(self.cause, &mut self.place);
    }
}

impl<H: Half<Endpoint: fmt::Debug>> fmt::Debug for Shared<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
