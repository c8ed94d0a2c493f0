//! `Vec` and `Box` in the slots of a region (feature `allocator`).
//!
//! One allocation is one slot: a 16-byte header, then the bytes, aligned as asked. Nothing here needs `std` or
//! `alloc`; the `Vec` and `Box` that use it come with allocator-api2's own `alloc` feature. (With `std` that is on, and a
//! vector that was born in a slot can be [sent](crate::link::Sender::try_send_vec) from there.)
//!
//! ```
//! # use rapace_shm_core::{endpoint::Polled, layout::ShmSessionConfig, ledger::Ledger, link::Link, region::Memory};
//! use rapace_shm_core::allocator::allocator_api2::vec::Vec;
//!
//! # static MEMORY: Memory<16_384> = Memory::new();
//! # static A: Ledger<32> = Ledger::new();
//! # let config = ShmSessionConfig { ring_capacity: 16, slot_size: 256, slot_count: 32 };
//! # let link = Link::create(Polled::new(MEMORY.take().unwrap(), &A), config)?;
//! let mut numbers = Vec::new_in(link.allocator());
//! numbers.extend([1_u64, 2, 3]);
//! assert_eq!(numbers.iter().sum::<u64>(), 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Safety
//!
//! 1. A pointer handed out lies in a slot that this endpoint's ledger holds, so no other guard or allocation of this
//!    endpoint overlaps it, and it stays valid until [`Allocator::deallocate`] because the allocator (or a clone) keeps
//!    the region mapped.
//! 2. What slot a pointer belongs to is computed from its address and the private geometry, never read from the
//!    shared header.

#![allow(unsafe_code)]

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

#[cfg(feature = "std")]
mod vec;

pub use allocator_api2;
use allocator_api2::alloc::{AllocError, Allocator};

use crate::endpoint::Endpoint;
use crate::layout::{At, MsgDescHot, SlotState, Span};
use crate::link::{Link, Loan, Sender};
use crate::region::{ByteRegion, Held, Region, Word};
use crate::slots::{DataSegment, Slot, SlotPool, give_back};
#[cfg(feature = "std")]
pub use vec::{ShmVec, shm_vec, shm_vec_with_capacity};

/// Size of the header before each allocation: slot (4 bytes), generation (4), requested length (4), zero (4).
pub const ALLOCATION_HEADER_SIZE: usize = 16;

/// Allocates in the slots of a session. Clones share the slots; each keeps the region mapped.
///
/// An allocation fails (it never waits) if no slot is free or it does not fit a slot together with its header and
/// alignment.
#[derive(Clone)]
pub struct ShmAllocator<E: Endpoint> {
    endpoint: E,
    slab: DataSegment,
}

impl<E: Endpoint> ShmAllocator<E> {
    pub(crate) fn new(endpoint: E, slab: DataSegment) -> Self {
        Self { endpoint, slab }
    }

    /// The largest allocation that is sure to fit at an alignment of up to 4 bytes. A higher alignment takes up to
    /// `align - 4` bytes more.
    #[must_use]
    pub fn max_allocation_size(&self) -> usize {
        self.max_size_aligned_to(4)
    }

    /// The largest allocation that is sure to fit at this alignment, in whichever slot.
    fn max_size_aligned_to(&self, align: usize) -> usize {
        let padding = align.saturating_sub(self.slab.slot_align().min(ALLOCATION_HEADER_SIZE));
        self.slab.max_payload().saturating_sub(ALLOCATION_HEADER_SIZE).saturating_sub(padding)
    }
}

impl<E> ShmAllocator<E>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    /// Takes a slot and says where in it an allocation of this layout starts.
    fn allocate_slot(&self, layout: Layout) -> Option<NonNull<u8>> {
        let (slot, span) = self.slab.allocate(&self.endpoint, self.slab.max_payload()).ok().flatten()?;
        let placed = self.place(slot, span, layout);
        if placed.is_none() {
            self.give_back(slot);
        }
        placed
    }

    fn place(&self, slot: Slot, span: Span, layout: Layout) -> Option<NonNull<u8>> {
        let start = self.endpoint.region().bytes(span)?;
        let earliest = start.as_ptr().addr().checked_add(ALLOCATION_HEADER_SIZE)?;
        let address = earliest.checked_next_multiple_of(layout.align())?;
        let before = address - start.as_ptr().addr();
        if before.checked_add(layout.size())? > span.len {
            return None;
        }
        self.write_header(slot, span, layout);
        // SAFETY: `before + size` is at most the slot's length, so the result is within the same slot.
        Some(unsafe { start.add(before) })
    }

    fn write_header(&self, slot: Slot, span: Span, layout: Layout) {
        let region = self.endpoint.region();
        // Fits: the allocation does, and a slot's size is a u32.
        let len = u32::try_from(layout.size()).unwrap_or(u32::MAX);
        for (offset, value) in [(0, slot.reference), (4, slot.generation), (8, len), (12, 0)] {
            region.u32(At::new(span.offset + offset)).store(value, Ordering::Relaxed);
        }
    }

    fn give_back(&self, slot: Slot) {
        give_back(&self.slab, &self.endpoint, slot, SlotState::Allocated);
    }

    /// Makes an allocation a loan of its first `len` bytes (or of those that there are), to be sent where it lies;
    /// `None` if it is in no slot, because it has no bytes.
    ///
    /// # Safety
    /// The allocation is one of this allocator or of a clone, not deallocated and not made a loan before, and its first
    /// `len` bytes are initialised. It is the loan's from here on: nobody uses or deallocates it any more.
    pub unsafe fn loan_of(&self, allocation: NonNull<u8>, len: usize) -> Option<Loan<E>> {
        let (slot, room) = self.slot_of(allocation)?;
        let start = self.slab.slot_size().checked_sub(u32::try_from(room).ok()?)?;
        let of_slot =
            self.slab.span(&MsgDescHot { payload_slot: slot.reference, payload_offset: start, ..MsgDescHot::new() });
        let span = Span { len: len.min(room), ..of_slot };
        // The allocation's claim in the ledger (invariant 1) becomes the loan's.
        Some(Loan::starting_at(start, Held::new(self.endpoint.clone(), span), self.slab, slot))
    }

    /// The slot that contains an allocation, by its address and the ledger, with the bytes from there to its end.
    fn slot_of(&self, allocation: NonNull<u8>) -> Option<(Slot, usize)> {
        let base = self.endpoint.region().bytes(Span { offset: 0, len: 0 })?;
        let offset = allocation.as_ptr().addr().checked_sub(base.as_ptr().addr())?;
        let (reference, room) = self.slab.locate(offset)?;
        let generation = self.endpoint.ledger().entry(reference).ok()?.held_generation()?;
        Some((Slot { reference, generation }, room))
    }
}

impl<E: Endpoint> Sender<E> {
    /// An allocator over this session's slots, for `Vec` and `Box`. What it allocates can be sent here.
    #[must_use]
    pub fn allocator(&self) -> ShmAllocator<E> {
        ShmAllocator::new(self.endpoint().clone(), *self.pool())
    }
}

impl<E: Endpoint> Link<E> {
    /// An allocator over this session's slots, for `Vec` and `Box`.
    #[must_use]
    pub fn allocator(&self) -> ShmAllocator<E> {
        self.sender().allocator()
    }
}

// SAFETY: invariant 1; clones name the same slots, and moving the allocator moves no slot.
unsafe impl<E> Allocator for ShmAllocator<E>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            let dangling = NonNull::without_provenance(layout_address(layout));
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        let allocated = self.endpoint.ledger().gate.pass(|| self.allocate_slot(layout)).flatten();
        Ok(NonNull::slice_from_raw_parts(allocated.ok_or(AllocError)?, layout.size()))
    }

    unsafe fn deallocate(&self, allocation: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        if let Some((slot, _)) = self.slot_of(allocation) {
            self.give_back(slot);
        }
    }

    unsafe fn grow(&self, allocation: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let aligned = allocation.as_ptr().addr().is_multiple_of(new.align());
        if old.size() > 0 && aligned && self.slot_of(allocation).is_some_and(|(_, room)| new.size() <= room) {
            return Ok(NonNull::slice_from_raw_parts(allocation, new.size()));
        }
        let larger = self.allocate(new)?;
        // SAFETY: both are valid for the old size (the caller's promise, `allocate`'s) and lie in different slots.
        unsafe { larger.cast::<u8>().copy_from_nonoverlapping(allocation, old.size()) };
        // SAFETY: the caller's promise about `allocation` and `old`.
        unsafe { self.deallocate(allocation, old) };
        Ok(larger)
    }
}

/// A non-null address that is aligned as asked, for allocations of no bytes.
fn layout_address(layout: Layout) -> core::num::NonZeroUsize {
    core::num::NonZeroUsize::new(layout.align()).unwrap_or(core::num::NonZeroUsize::MIN)
}

impl<E: Endpoint> fmt::Debug for ShmAllocator<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmAllocator").field("slab", &self.slab).finish_non_exhaustive()
    }
}
