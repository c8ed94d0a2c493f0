//! One side of a session in this process: its mapping, its ledger, and the futex.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::layout::At;
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerIn, LedgerRef};
use rapace_shm_core::link;
use rapace_shm_core::region::{InRegion, Region};
use rapace_shm_core::wake::Ticket;

use crate::barrier::{Barriers, heavy_barrier};
use crate::futex::{self, Woken};
use crate::mapping::MappedRegion;
use crate::system_calls::{Counters, SystemCalls};

/// A slot on loan for a message that is being written, straight in shared memory.
pub type Loan = link::Loan<ShmEndpoint>;
/// The bytes of a received message, where the sender wrote them.
pub type Payload = link::Payload<ShmEndpoint>;
/// A received message.
pub type Message = link::Message<ShmEndpoint>;

/// What core needs of one side of a session. Clones are one reference count; each keeps the segment mapped.
#[derive(Clone)]
pub struct ShmEndpoint(Arc<Shared>);

struct Shared {
    region: MappedRegion,
    ledger: LedgerIn<Box<[LedgerEntry]>>,
    barriers: Barriers,
    counters: Counters,
}

impl ShmEndpoint {
    pub(crate) fn new(region: MappedRegion, slots: u32, barriers: Barriers) -> Self {
        let entries = (0..slots).map(|_| LedgerEntry::new()).collect();
        Self(Arc::new(Shared { region, ledger: LedgerIn::over(entries), barriers, counters: Counters::default() }))
    }

    /// The system calls that this side has made so far.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.0.counters.read()
    }

    /// Sleeps where the ticket says, until somebody signals or the deadline passes.
    pub(crate) fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> io::Result<Woken> {
        let word = self.region().u32(ticket.word());
        futex::wait_counting(word, ticket.value(), deadline, || self.0.counters.waits.add_one())
    }
}

impl InRegion for ShmEndpoint {
    type Region = MappedRegion;
    #[inline]
    fn region(&self) -> &MappedRegion {
        &self.0.region
    }
}

impl HasLedger for ShmEndpoint {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ledger.ledger()
    }
}

impl Endpoint for ShmEndpoint {
    fn wake(&self, word: At<u32>) {
        self.0.counters.wakes.add_one();
        // It can only fail for an address that is not mapped.
        let _ = futex::wake(self.region().u32(word), u32::MAX);
    }

    #[inline]
    fn is_registered(&self) -> bool {
        self.0.barriers.registered
    }

    fn has_heavy_barrier(&self) -> bool {
        self.0.barriers.heavy
    }

    fn heavy_barrier(&self) -> bool {
        self.0.barriers.heavy && {
            self.0.counters.barriers.add_one();
            heavy_barrier()
        }
    }
}

impl fmt::Debug for ShmEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmEndpoint")
            .field("region", &self.0.region)
            .field("held", &self.ledger().held())
            .field("barriers", &self.0.barriers)
            .field("system_calls", &self.system_calls())
            .finish()
    }
}
