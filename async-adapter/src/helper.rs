//! How a task waits where there is no doorbell: a thread of its own sleeps on the futex for it.
//!
//! ```text
//!   task                               helper
//!   arm: ticket --- desk: ticket ----> sleeps on the word
//!   Pending                              | somebody signals, or the peer's process ends
//!   woken  <------- desk: over --------  woken
//! ```
//!
//! The thread starts when a task first waits and ends when the transport is dropped. A task that no longer waits leaves
//! it asleep, for the next one that waits for the same cause.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Condvar, Mutex};
use rapace_shm::core::wake::Ticket;
use rapace_shm::{Error, OsEndpoint};

/// A thread that sleeps for a task; not started before it is needed.
pub(crate) struct Helper<E: OsEndpoint>(Option<Started<E>>);

impl<E: OsEndpoint> Default for Helper<E> {
    fn default() -> Self {
        Self(None)
    }
}

struct Started<E: OsEndpoint> {
    desk: Arc<Desk>,
    endpoint: E,
}

#[derive(Default)]
struct Desk {
    order: Mutex<Order>,
    changed: Condvar,
}

/// What the thread is to do.
#[derive(Default)]
struct Order {
    /// What to sleep on.
    ticket: Option<Ticket>,
    /// How that sleep ended.
    over: Option<Result<(), Error>>,
    stop: bool,
}

impl<E: OsEndpoint> Helper<E> {
    /// Ready once a sleep on the ticket has ended; until then `waker` will be woken when it does.
    pub(crate) fn poll(&mut self, endpoint: &E, ticket: Ticket, waker: &Waker) -> Poll<Result<(), Error>> {
        let desk = &self.start(endpoint, waker)?.desk;
        let mut order = desk.order.lock();
        if order.ticket == Some(ticket) {
            let Some(over) = order.over.take() else { return Poll::Pending };
            order.ticket = None;
            return Poll::Ready(over);
        }
        // Another ticket of this cause has another value of the same word: an older sleep is over already, or about to be.
        order.ticket = Some(ticket);
        order.over = None;
        drop(order);
        desk.changed.notify_one();
        Poll::Pending
    }

    fn start(&mut self, endpoint: &E, waker: &Waker) -> Result<&Started<E>, Error> {
        if self.0.is_none() {
            let desk = Arc::<Desk>::default();
            let (at_work, endpoint, waker) = (desk.clone(), endpoint.clone(), waker.clone());
            let started = Started { desk, endpoint: endpoint.clone() };
            std::thread::Builder::new()
                .name("rapace-shm-wait".into())
                .spawn(move || at_work.run(&endpoint, &waker))
                .map_err(|source| Error::Io { what: "cannot start the thread that waits for a session", source })?;
            self.0 = Some(started);
        }
        self.0.as_ref().ok_or(Error::Closed)
    }
}

impl<E: OsEndpoint> Drop for Started<E> {
    fn drop(&mut self) {
        let mut order = self.desk.order.lock();
        order.stop = true;
        let ticket = order.ticket;
        drop(order);
        self.desk.changed.notify_one();
        if let Some(ticket) = ticket {
            self.endpoint.rouse(&ticket);
        }
    }
}

impl Desk {
    fn run(&self, endpoint: &impl OsEndpoint, waker: &Waker) {
        while let Some(ticket) = self.next() {
            let over = endpoint.sleep(&ticket, None).map(drop);
            let mut order = self.order.lock();
            if order.ticket == Some(ticket) {
                order.over = Some(over);
                drop(order);
                waker.wake_by_ref();
            }
        }
    }

    /// What to sleep on next; `None` at the end.
    fn next(&self) -> Option<Ticket> {
        let mut order = self.order.lock();
        loop {
            if order.stop {
                return None;
            }
            match order.ticket {
                Some(ticket) if order.over.is_none() => return Some(ticket),
                _ => self.changed.wait(&mut order),
            }
        }
    }
}

impl<E: OsEndpoint> fmt::Debug for Helper<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("started", &self.0.is_some()).finish()
    }
}
