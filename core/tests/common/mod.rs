//! A session over heap memory, for tests.
#![allow(dead_code)] // each test file uses its part

pub mod elastic;
pub mod expected;
pub mod hub;
pub mod killer;
pub mod member;
pub mod rubbish;
pub mod side;
pub mod vandal;
pub mod watched;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use rapace_shm_core::endpoint::{Endpoint, Polled};
use rapace_shm_core::layout::{ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerIn, LedgerRef};
use rapace_shm_core::link::Link;
use rapace_shm_core::region::{REGION_ALIGN, RawRegion};

/// Heap memory that goes when the last region over it goes.
pub struct Heap(NonNull<u8>, Layout);

// SAFETY: the memory is only reached through the region.
unsafe impl Send for Heap {}
// SAFETY: likewise.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `region`.
        unsafe { dealloc(self.0.as_ptr(), self.1) };
    }
}

pub type HeapRegion = RawRegion<Arc<Heap>>;

pub fn region(size: usize) -> HeapRegion {
    let layout = Layout::from_size_align(size, REGION_ALIGN).unwrap();
    // SAFETY: no test asks for an empty region.
    let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: the keeper owns the memory, and nothing else reaches it.
    unsafe { RawRegion::new(base, size, Arc::new(Heap(base, layout))) }.unwrap()
}

#[derive(Clone)]
pub struct SharedLedger(Arc<LedgerIn<Box<[LedgerEntry]>>>);

impl SharedLedger {
    pub fn new(slots: u32) -> Self {
        Self(Arc::new(LedgerIn::over((0..slots).map(|_| LedgerEntry::new()).collect())))
    }
}

impl HasLedger for SharedLedger {
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ledger()
    }
}

pub type HeapEndpoint = Polled<HeapRegion, SharedLedger>;
pub type HeapLink = Link<HeapEndpoint>;

pub const SMALL: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 };

pub fn endpoint(region: &HeapRegion, slots: u32) -> HeapEndpoint {
    Polled::new(region.clone(), SharedLedger::new(slots))
}

pub fn pair(config: ShmSessionConfig) -> (HeapLink, HeapLink) {
    let (a, b, _) = pair_and_region(config);
    (a, b)
}

pub fn pair_and_region(config: ShmSessionConfig) -> (HeapLink, HeapLink, HeapRegion) {
    let region = region(calculate_segment_size(&config).unwrap());
    let a = Link::create(endpoint(&region, config.slot_count), config).unwrap();
    let b = Link::attach(endpoint(&region, config.slot_count)).unwrap();
    (a, b, region)
}

/// Slots that are neither free nor listed, by the slab's own census; 0 when everything came back.
pub fn leaked<E: Endpoint>(link: &Link<E>) -> u32 {
    let slots = link.status().slots;
    assert_eq!(slots.free, slots.free_list_len, "{slots}");
    slots.total - slots.free
}

/// The number that an environment variable holds, if it is set.
pub fn number_from(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}
