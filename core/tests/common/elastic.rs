//! A file that grows, as several members have it mapped: each byte of it can be touched only by those who have made sure
//! that it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rapace_shm_core::endpoint::{Endpoint, Polled};
use rapace_shm_core::hub::{HasLinkMarks, LinkMarks};
use rapace_shm_core::layout::Span;
use rapace_shm_core::ledger::{HasLedger, LedgerRef};
use rapace_shm_core::region::InRegion;

use super::HeapRegion;
use super::watched::{Watch, Watched};

/// The file: addresses for all that it may ever be, and how long it is.
pub struct File {
    region: HeapRegion,
    len: AtomicUsize,
    /// There is no space for more.
    pub full: AtomicBool,
}

impl File {
    pub fn new(region: HeapRegion, len: usize) -> Arc<Self> {
        Arc::new(Self { region, len: AtomicUsize::new(len), full: AtomicBool::new(false) })
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub fn region(&self) -> &HeapRegion {
        &self.region
    }
}

/// How far one member has mapped the file.
pub struct Mapped(AtomicUsize);

impl Watch for Mapped {
    fn access(&self, _: &HeapRegion) -> bool {
        true
    }

    fn touches(&self, span: Span) {
        let mapped = self.0.load(Ordering::Relaxed);
        assert!(span.offset + span.len <= mapped, "{span:?} is touched, and only {mapped} bytes are mapped");
    }
}

/// One member.
#[derive(Clone)]
pub struct Elastic<L> {
    polled: Polled<Watched<Mapped>, L>,
    file: Arc<File>,
    mapped: Arc<Mapped>,
}

impl<L> Elastic<L> {
    pub fn new(file: &Arc<File>, ledger: L) -> Self {
        let mapped = Arc::new(Mapped(AtomicUsize::new(file.len())));
        let polled = Polled::new(Watched::new(file.region.clone(), mapped.clone()), ledger);
        Self { polled, file: file.clone(), mapped }
    }

    pub fn mapped(&self) -> usize {
        self.mapped.0.load(Ordering::Relaxed)
    }
}

impl<L> InRegion for Elastic<L> {
    type Region = Watched<Mapped>;

    fn region(&self) -> &Watched<Mapped> {
        self.polled.region()
    }
}

impl<L: HasLedger> HasLedger for Elastic<L> {
    fn ledger(&self) -> LedgerRef<'_> {
        self.polled.ledger()
    }
}

impl<L: HasLinkMarks> HasLinkMarks for Elastic<L> {
    fn link_marks(&self) -> &LinkMarks {
        self.polled.link_marks()
    }
}

impl<L: HasLedger + Clone> Endpoint for Elastic<L> {
    fn back(&self, span: Span) -> bool {
        let (end, is_there) = (span.offset + span.len, span.offset + span.len <= self.file.len());
        if is_there {
            self.mapped.0.fetch_max(end, Ordering::Relaxed);
        }
        is_there
    }

    fn extend(&self, span: Span) -> bool {
        if !self.file.full.load(Ordering::Relaxed) {
            self.file.len.fetch_max(span.offset + span.len, Ordering::Relaxed);
        }
        self.back(span)
    }
}
