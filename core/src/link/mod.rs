//! A link: two peers, two rings, one slab. Here are the send step and the receive step, the only ones there are.
//!
//! ```text
//!  peer A                                            peer B
//!  Sender ---- ring A→B: descriptors --------------> Receiver
//!    | allocate                                         | free
//!    +------> slots: payloads, written and read in place <--+
//!  Receiver <------------------- ring B→A ----------- Sender
//! ```
//!
//! Each step tries; if it can't, it says that this side sleeps, looks again, and only then returns a
//! [`Step::Sleep`](crate::wake::Step::Sleep) with what to sleep on. The loop around it belongs to the adapter: a futex
//! wait, a doorbell's readiness, `wfe`.
//!
//! ```
//! use rapace_shm_core::endpoint::Polled;
//! use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
//! use rapace_shm_core::ledger::Ledger;
//! use rapace_shm_core::link::Link;
//! use rapace_shm_core::region::Memory;
//! use rapace_shm_core::wake::Step;
//!
//! static MEMORY: Memory<16_384> = Memory::new();
//! static A: Ledger<32> = Ledger::new();
//! static B: Ledger<32> = Ledger::new();
//!
//! let config = ShmSessionConfig { ring_capacity: 16, slot_size: 256, slot_count: 32 };
//! let region = MEMORY.take().expect("taken once");
//! let (mut tx, _) = Link::create(Polled::new(region, &A), config)?.into_split();
//! let (_, mut rx) = Link::attach(Polled::new(region, &B))?.into_split();
//!
//! let mut loan = tx.try_loan(100)?;
//! loan.fill(7);
//! tx.try_send_loan(&MsgDescHot::data(1), loan)?;
//!
//! match rx.poll_recv()? {
//!     Step::Ready(message) => assert_eq!(message.payload(), [7; 100]),
//!     Step::Sleep(ticket) => panic!("nothing arrived: sleep on {ticket:?}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod frozen;
mod guard;
mod recv;
mod send;
mod session;
pub(crate) mod side;

use thiserror::Error;

pub use frozen::{Frozen, FrozenSlice};
pub use guard::{Loan, Message, Payload};
pub use recv::{Receiver, RecvError};
pub use send::{SendError, Sender, Unsent};

use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{LayoutError, ShmSessionConfig};
pub use crate::layout::{PeerRole, PeerWords};
use session::take_side;
pub use session::{LinkStatus, Session};

/// Why there is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The region is no segment, or cannot become one of this shape.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The ledger has fewer entries than the session has slots.
    #[error("ledger has {entries} entries, the session has {slots} slots; provide one entry per slot")]
    LedgerTooSmall {
        /// Entries of the ledger.
        entries: usize,
        /// Slots of the session.
        slots: u32,
    },
    /// The ledger says that slots are held: another endpoint uses it.
    #[error("ledger holds {held} slots already; every endpoint needs a ledger of its own")]
    LedgerInUse {
        /// Slots held.
        held: usize,
    },
    /// Both sides of the session are taken, or its last peer left and the other one has not reset it yet.
    #[error("both sides of the session are taken; wait until the surviving peer has reset it, or create another")]
    Occupied,
    /// A version 1.0 peer has used this session from that side, and may still. It keeps its place in the rings to itself,
    /// so neither it nor its partner can be replaced.
    #[error(
        "a version 1.0 peer has used side {role:?} of the session; such a session cannot be joined again: create another"
    )]
    OldPeer {
        /// The version 1.0 peer's side.
        role: PeerRole,
    },
    /// A half that is to be reset belongs to another session; nothing was changed.
    #[error("sender or receiver is of another session; reset the halves of one session together")]
    ForeignHalf,
    /// Another thread of this process is in the middle of a step; nothing was changed.
    #[error("a guard is being dropped or an allocation is under way in another thread; try again")]
    Busy,
    /// The shared words contradict the protocol.
    #[error("peer broke the protocol: {0}")]
    PeerFault(#[from] PeerFault),
}

/// Both directions of a session, seen from one peer.
#[derive(Debug)]
pub struct Link<E: Endpoint> {
    sender: Sender<E>,
    receiver: Receiver<E>,
    session: Session,
}

impl<E: Endpoint> Link<E> {
    /// Writes a fresh session into the endpoint's region and becomes its peer A.
    ///
    /// Whatever the region held is overwritten: that nobody uses it is for the caller to know.
    ///
    /// # Errors
    /// [`LinkError`]: a shape that the layout cannot carry, a region or a ledger that is too small, a ledger in use.
    pub fn create(endpoint: E, config: ShmSessionConfig) -> Result<Self, LinkError> {
        let session = Session::new(config, PeerRole::A)?;
        session.check_room(&endpoint)?;
        endpoint.ledger().fault.clear();
        session.create(endpoint.region());
        Ok(session.link(endpoint))
    }

    /// Attaches to a session that a peer has created: as B, or as A if A has gone and B has
    /// [reset](Self::reset) the session.
    ///
    /// # Errors
    /// [`LinkError`]: no segment, another version, a segment that contradicts itself or is cut short, a ledger that
    /// is too small or in use, both sides taken.
    pub fn attach(endpoint: E) -> Result<Self, LinkError> {
        let config = Session::peek(endpoint.region())?;
        let mut session = Session::new(config, PeerRole::B)?;
        session.check_room(&endpoint)?;
        session.check_copies(endpoint.region())?;
        session.role = take_side(endpoint.region(), &session)?;
        endpoint.ledger().fault.clear();
        Ok(session.link(endpoint))
    }

    /// As [`attach`](Self::attach), if the segment has exactly this shape.
    ///
    /// # Errors
    /// Also [`LayoutError::ConfigMismatch`].
    pub fn attach_expecting(endpoint: E, expected: ShmSessionConfig) -> Result<Self, LinkError> {
        let found = Session::peek(endpoint.region())?;
        if found != expected {
            return Err(LayoutError::ConfigMismatch { expected, found }.into());
        }
        Self::attach(endpoint)
    }

    /// Wakes the peer if it sleeps: it may do so since before there was anybody, and want to know who came.
    pub fn greet(&self) {
        self.sender.greet();
        self.receiver.greet();
    }

    /// Which peer this is, and the shape.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.sender.endpoint()
    }

    /// The sending half.
    #[must_use]
    pub fn sender(&self) -> &Sender<E> {
        &self.sender
    }

    /// Both halves, borrowed.
    pub fn split(&mut self) -> (&mut Sender<E>, &mut Receiver<E>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Both halves, to go to different threads. Each closes its direction when it is dropped.
    #[must_use]
    pub fn into_split(self) -> (Sender<E>, Receiver<E>) {
        (self.sender, self.receiver)
    }

    /// The halves and the session they belong to; [`from_parts`](Self::from_parts) is the way back.
    #[must_use]
    pub fn into_parts(self) -> (Sender<E>, Receiver<E>, Session) {
        (self.sender, self.receiver, self.session)
    }

    /// A link of the two halves that [`into_parts`](Self::into_parts) gave.
    #[must_use]
    pub fn from_parts(sender: Sender<E>, receiver: Receiver<E>, session: Session) -> Self {
        Self { sender, receiver, session }
    }

    /// What the rings and the slab say now.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.session.status(self.endpoint().region())
    }

    /// Makes room for a new peer after the other one has gone; see [`Session::reset`].
    ///
    /// # Errors
    /// As there.
    pub fn reset(&mut self) -> Result<u32, LinkError> {
        self.session.reset(&mut self.sender, &mut self.receiver)
    }
}

#[cfg(test)]
mod tests {
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    use super::*;
    use crate::endpoint::Polled;
    use crate::ledger::Ledger;
    use crate::region::RawRegion;
    use crate::ring::{Consumer, Producer};

    type Bare = Polled<RawRegion, &'static Ledger<1>>;

    assert_impl_all!(Sender<Bare>: Send);
    assert_impl_all!(Receiver<Bare>: Send);
    assert_impl_all!(Producer<RawRegion>: Send);
    assert_impl_all!(Consumer<RawRegion>: Send);
    assert_not_impl_any!(Sender<Bare>: Sync, Clone);
    assert_not_impl_any!(Receiver<Bare>: Sync, Clone);
    assert_not_impl_any!(Producer<RawRegion>: Sync, Clone);
    assert_not_impl_any!(Consumer<RawRegion>: Sync, Clone);
    assert_impl_all!(Loan<Bare>: Send, Sync);
    assert_impl_all!(Payload<Bare>: Send, Sync);
    assert_impl_all!(Message<Bare>: Send, Sync);
    assert_impl_all!(Frozen<Bare>: Send, Sync);
    assert_not_impl_any!(Loan<Bare>: Clone);
    assert_not_impl_any!(Frozen<Bare>: Clone);
    assert_not_impl_any!(Payload<Bare>: Clone);
}
