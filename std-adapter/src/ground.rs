//! What every endpoint stands on, whether of a session or of a hub: its mapping, its ledger, its barriers and its counters.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rapace_shm_core::endpoint::{Event, SleepKind};
use rapace_shm_core::layout::At;
use rapace_shm_core::ledger::LedgerEntry;
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::{Ticket, WaitPoint};

use crate::barrier::{Barriers, heavy_barrier};
use crate::error::Error;
use crate::futex::{self, Woken};
use crate::mapping::MappedRegion;
use crate::metrics::ShmMetrics;
use crate::system_calls::Counters;
use crate::wiring::Wiring;

/// One endpoint's ground. Its ledger is `L`.
pub(crate) struct Ground<L> {
    pub(crate) region: MappedRegion,
    pub(crate) ledger: L,
    pub(crate) barriers: Barriers,
    pub(crate) counters: Counters,
    /// The memfd behind the segment, if there is one.
    pub(crate) file: Option<OwnedFd>,
    /// What counts, if somebody asked for it.
    metrics: OnceLock<Arc<ShmMetrics>>,
}

/// Ledger entries for so many slots, of which none is held.
pub(crate) fn entries(slots: u32) -> Box<[LedgerEntry]> {
    (0..slots).map(|_| LedgerEntry::new()).collect()
}

impl<L> Ground<L> {
    pub(crate) fn new(region: MappedRegion, ledger: L, barriers: Barriers, file: Option<OwnedFd>) -> Self {
        Self { region, ledger, barriers, counters: Counters::default(), file, metrics: OnceLock::new() }
    }

    pub(crate) fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.metrics.set(Arc::clone(metrics)).is_ok()
    }

    #[inline(always)]
    pub(crate) fn note(&self, event: Event) {
        if let Some(metrics) = self.metrics.get() {
            metrics.record(event);
        }
    }

    pub(crate) fn heavy_barrier(&self) -> bool {
        self.barriers.heavy && {
            self.counters.barriers.add_one();
            heavy_barrier()
        }
    }

    /// Wakes everybody who sleeps on a word. It can only fail for an address that is not mapped.
    pub(crate) fn wake(&self, word: At<u32>) {
        self.counters.wakes.add_one();
        let _ = futex::wake(self.region.u32(word), u32::MAX);
    }

    /// Sleeps on the ticket's word; false if the deadline passed.
    pub(crate) fn wait(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        let word = self.region.u32(ticket.word());
        let woken = futex::wait_counting(word, ticket.value(), deadline, || self.counters.waits.add_one())
            .map_err(Error::io("cannot wait on the segment's futex"))?;
        Ok(woken != Woken::TimedOut)
    }

    /// Bumps a word and wakes everybody who sleeps on it.
    pub(crate) fn signal(&self, word: At<u32>) {
        self.counters.wakes.add_one();
        let _ = futex::signal(self.region.u32(word));
    }

    /// Ends the sleep of a half of this side, on its bell if it sleeps on one.
    pub(crate) fn rouse(&self, wiring: Option<&Wiring>, ticket: &Ticket) {
        match (ticket.kind(), wiring) {
            (SleepKind::Doorbell, Some(wiring)) => {
                self.counters.rings.add_one();
                wiring.own.of(ticket.half()).ring();
            }
            _ => self.signal(ticket.word()),
        }
    }

    /// Ends every sleep at these points.
    pub(crate) fn signal_all(&self, points: &[WaitPoint]) {
        points.iter().for_each(|point| self.signal(point.sequence));
    }
}

/// What core asks an endpoint for and its ground answers.
macro_rules! asks_ground {
    ($this:ident => $ground:expr) => {
        #[inline(always)]
        fn note(&$this, event: ::rapace_shm_core::endpoint::Event) {
            $ground.note(event);
        }

        #[inline]
        fn is_registered(&$this) -> bool {
            $ground.barriers.registered
        }

        fn back(&$this, span: ::rapace_shm_core::layout::Span) -> bool {
            $ground.region.keeper().has(span)
        }

        fn extend(&$this, span: ::rapace_shm_core::layout::Span) -> bool {
            $ground.region.keeper().extend(span)
        }

        fn has_heavy_barrier(&$this) -> bool {
            $ground.barriers.heavy
        }

        fn heavy_barrier(&$this) -> bool {
            $ground.heavy_barrier()
        }
    };
}
pub(crate) use asks_ground;
