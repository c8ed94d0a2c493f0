//! How a hub grows while it is in use: a size class that runs dry gets another extent, and nobody stops for it.
//!
//! Every extent that there may ever be has its place (see [`HubOffsets`](crate::layout::HubOffsets)), so all that members
//! have to agree on is how many each class has: one byte per class of one word, [`HubHeader::grown`]. Who grows a class
//! first makes sure that the bytes are there ([`Endpoint::extend`]), then changes the word, by one compare-exchange.
//!
//! ```text
//!   who finds a class dry                others
//!   g = grown
//!   still dry? within max_size?
//!   extend: the file is longer           (nothing refers to these bytes yet)
//!   grown: g -> g + 1 of this class
//!   take the first fresh slot
//!   send it                              a reference into an extent that was never met: grown says that it is there?
//!                                        back: map it; then go on
//! ```
//!
//! There is no lock and no half-grown hub. A member killed before the compare-exchange leaves a file that is longer than it
//! need be, which the next one finds useful; killed after it, an extent that all can use. If another one grew the hub
//! meanwhile, whichever class it was, the compare-exchange fails and it looks again: so no two grow a class where one
//! extent is enough, and they never exceed together what each of them would have kept to.
//!
//! A new extent's slots are in no list, which somebody killed would have to have finished: its bytes read as zero, which
//! is the metadata of a free slot, and [`SizeClassHeader::fresh`] says which of them nobody has ever taken. Taking one is
//! taking the first of a list, with announcement and compare-exchange; and to a reaper, a slot that is still fresh is one
//! in the list ([`reap`](super::reap)).
//!
//! Which class grows: the smallest that fits, before a larger one is looked at. Who allows growth would rather have one
//! more extent of small slots than small payloads in slots of a hundred times their size.

use core::sync::atomic::Ordering;

use super::places::{CLASSES, Class};
use super::pool::{Announced, HubAllocator};
use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{At, ExtentHeader, HubHeader, MAX_EXTENTS_PER_CLASS, NUM_SIZE_CLASSES, SizeClassHeader};
use crate::region::{Region, Word};
use crate::slots::SlotPool;
use crate::slots::free_list::TRIES;

/// How often a hub can grow at all.
pub(super) const GROWTHS: usize = NUM_SIZE_CLASSES * MAX_EXTENTS_PER_CLASS;

/// How many extents each class has beyond its first, as the header said it at a moment; checked.
#[derive(Clone, Copy)]
struct Grown(u64);

impl Grown {
    #[allow(clippy::cast_possible_truncation)] // a byte
    const fn of(self, class: u32) -> u32 {
        (self.0 >> (8 * class)) as u32 & 0xff
    }

    const fn with_one_more(self, class: u32) -> u64 {
        self.0 + (1 << (8 * class))
    }
}

impl HubAllocator {
    /// Whether the hub is one that may grow.
    #[inline(always)]
    pub(super) const fn grows(&self) -> bool {
        self.places.max_extents() > 1
    }

    fn grown<R: Region>(&self, region: &R) -> Result<Grown, PeerFault> {
        // Acquire pairs with the compare-exchange in `grow`: what was written about an extent is visible.
        let grown = Grown(region.u64(HubHeader::GROWN).load(Ordering::Acquire));
        let max = self.places.max_extents();
        match (0..CLASSES).find(|class| grown.of(*class) >= max) {
            Some(class) => Err(PeerFault::Extents { class, seen: grown.of(class) + 1, max }),
            None => Ok(grown),
        }
    }

    /// Slots of the extents that a class has now. This endpoint has met them all.
    #[inline]
    pub(super) fn there<E: Endpoint>(&self, endpoint: &E, class: &Class) -> Result<u32, PeerFault> {
        if !self.grows() {
            return Ok(class.count());
        }
        let grown = self.grown(endpoint.region())?.of(class.number);
        self.meet(endpoint, class, grown)?;
        Ok(class.count() * (grown + 1))
    }

    /// Makes sure, once per extent, that the bytes of this many further extents are there: from then on they stay.
    fn meet<E: Endpoint>(&self, endpoint: &E, class: &Class, grown: u32) -> Result<(), PeerFault> {
        let Some(met) = endpoint.ledger().lanes.met(class.number) else { return Ok(()) };
        // Acquire pairs with the Release below: another thread of this endpoint has mapped them.
        let known = met.load(Ordering::Acquire);
        for extent in known + 1..=grown {
            if !endpoint.back(class.extent(extent)) {
                return Err(PeerFault::ExtentMissing { class: class.number, extent });
            }
        }
        if grown > known {
            met.fetch_max(grown, Ordering::Release);
        }
        Ok(())
    }

    /// Makes sure that a slot that may exist does, and that this endpoint can touch it.
    #[inline(always)]
    pub(super) fn reach<E: Endpoint>(&self, endpoint: &E, class: &Class, slot: u32) -> Result<(), PeerFault> {
        if slot < class.count() { Ok(()) } else { self.reach_further(endpoint, class, slot) }
    }

    #[inline(never)]
    fn reach_further<E: Endpoint>(&self, endpoint: &E, class: &Class, slot: u32) -> Result<(), PeerFault> {
        let met = endpoint.ledger().lanes.met(class.number);
        // Acquire as in `meet`.
        if met.is_some_and(|met| class.extent_of(slot) <= met.load(Ordering::Acquire)) {
            return Ok(());
        }
        let count = self.there(endpoint, class)?;
        if slot < count { Ok(()) } else { Err(PeerFault::SlotIndex { slot: class.reference(slot), count }) }
    }

    /// The first slot of a class that nobody has ever taken, if there is one left of the extents that it has: what `seen`,
    /// just read from its header, says.
    fn fresh<E: Endpoint>(&self, endpoint: &E, class: &Class, seen: u32) -> Result<Option<u32>, PeerFault> {
        // In this order: whoever took a slot had seen its extent.
        let there = self.there(endpoint, class)?;
        let first = class.count();
        if seen < first || seen > there {
            return Err(PeerFault::Fresh { class: class.number, seen, first, there });
        }
        Ok((seen < there).then_some(seen))
    }

    /// Takes a slot that nobody has ever taken, as one is taken from the free list.
    #[cold]
    pub(super) fn take_fresh<E: Endpoint>(
        &self,
        endpoint: &E,
        class: &Class,
        announced: &Announced<'_, E::Region>,
    ) -> Result<Option<u32>, PeerFault> {
        let shared = endpoint.region().u32(class.word(SizeClassHeader::FRESH));
        // Acquire, here and on failure, pairs with the compare-exchange of whoever took the slot before.
        let mut seen = shared.load(Ordering::Acquire);
        for _ in 0..TRIES {
            let Some(slot) = self.fresh(endpoint, class, seen)? else { return Ok(None) };
            announced.say(class.reference(slot));
            match shared.compare_exchange(seen, slot + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Some(slot)),
                Err(now) => seen = now,
            }
        }
        Err(PeerFault::NeverSettles { tries: TRIES })
    }

    /// How many slots nobody has ever taken.
    pub(super) fn fresh_count<E: Endpoint>(&self, endpoint: &E, class: &Class) -> Result<u32, PeerFault> {
        if !self.grows() {
            return Ok(0);
        }
        let seen = endpoint.region().u32(class.word(SizeClassHeader::FRESH)).load(Ordering::Acquire);
        let first = self.fresh(endpoint, class, seen)?;
        let there = self.there(endpoint, class)?;
        Ok(first.map_or(0, |first| there.saturating_sub(first)))
    }

    /// Whether nobody has ever taken this slot, which exists: then it is where it belongs, in whoever's hands it seems to
    /// be.
    pub(super) fn is_fresh<R: Region>(&self, region: &R, class: &Class, slot: u32) -> bool {
        slot >= class.count() && slot >= region.u32(class.word(SizeClassHeader::FRESH)).load(Ordering::Acquire)
    }

    /// Adds an extent to a class that had no slot left; says whether another look is worth while, because it did or somebody
    /// else has done something.
    ///
    /// ```text
    ///   finds nothing                            finds nothing
    ///   g = grown                                g = grown
    ///   still nothing                            still nothing
    ///   extend                                   extend: it is there already
    ///   g -> g + 1
    ///   takes a slot                             g -> g + 1 fails: look again, there are slots
    ///
    ///   finds nothing; g -> g + 1                finds nothing
    ///                                            g + 1 = grown
    ///                                            there is something now: look again
    /// ```
    #[cold]
    pub(super) fn grow<E: Endpoint>(&self, endpoint: &E, class: &Class) -> Result<bool, PeerFault> {
        if !self.grows() {
            return Ok(false);
        }
        let region = endpoint.region();
        let grown = self.grown(region)?;
        // First of all: the extent that was added meanwhile may have been the last that there can be.
        if self.fresh_count(endpoint, class)? > 0 || !class.list().is_empty(region) {
            return Ok(true);
        }
        let next = grown.of(class.number) + 1;
        let may_grow = next < self.places.max_extents() && self.has_room(region, grown, class);
        if !may_grow || !endpoint.extend(class.extent(next)) {
            return Ok(false);
        }
        // Whoever else is about to add it writes the same.
        class.write_extent(region, next);
        let after = grown.with_one_more(class.number);
        // AcqRel: whoever sees that the extent is there sees its header, and the zeroes behind it.
        let word = region.u64(HubHeader::GROWN);
        if word.compare_exchange(grown.0, after, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.write_totals(region, class);
            // Some may have found neither a slot nor a way to grow.
            self.wake_waiters(endpoint);
        }
        Ok(true)
    }

    /// Whether one more extent of a class keeps the hub within its bound.
    fn has_room<R: Region>(&self, region: &R, grown: Grown, class: &Class) -> bool {
        let further = |class: Class| (class.extent(0).len as u64).saturating_mul(grown.of(class.number).into());
        let further = self.places.classes().map(further).fold(class.extent(0).len as u64, u64::saturating_add);
        // As with a quota, every member holds itself to what stands there; more than the reserved places there cannot be.
        let bound = region.u64(HubHeader::MAX_SIZE).load(Ordering::Relaxed);
        (self.places.end() as u64).saturating_add(further) <= bound
    }

    /// Writes how many extents there are to where those look who do not go by [`HubHeader::grown`]: all, and those of one
    /// class. Who has been overtaken writes again; who was killed before it could leaves that to the host.
    pub(super) fn write_totals<R: Region>(&self, region: &R, class: &Class) {
        for _ in 0..GROWTHS {
            let Ok(grown) = self.grown(region) else { return };
            class.write_totals(region, grown.of(class.number));
            let extents = (0..CLASSES).map(|class| grown.of(class) + 1).fold(0, u32::saturating_add);
            region.u32(HubHeader::EXTENT_COUNT).store(extents, Ordering::Relaxed);
            let end = |class: Class| class.extent(grown.of(class.number)).offset + class.extent(0).len;
            let end = self.places.classes().map(end).fold(0, usize::max);
            region.u64(HubHeader::CURRENT_SIZE).store(end as u64, Ordering::Relaxed);
            if region.u64(HubHeader::GROWN).load(Ordering::Acquire) == grown.0 {
                return;
            }
        }
    }

    /// Writes how far a fresh hub may grow, and prepares what there is already of the extents to come: memory that is all
    /// there from the beginning may hold anything.
    pub(super) fn init_growth<E: Endpoint>(&self, endpoint: &E, reach: usize) {
        let region = endpoint.region();
        endpoint.ledger().lanes.forget_extents();
        if !self.grows() {
            return;
        }
        region.u32(HubHeader::MAX_EXTENTS).store(self.places.max_extents(), Ordering::Relaxed);
        region.u64(HubHeader::MAX_SIZE).store(reach as u64, Ordering::Relaxed);
        for class in self.places.classes() {
            region.u32(class.word(SizeClassHeader::FRESH)).store(class.count(), Ordering::Relaxed);
            for extent in 1..self.places.max_extents() {
                if endpoint.back(class.extent(extent)) {
                    region.clear(class.extent_head(extent));
                }
            }
        }
    }
}

impl Class {
    /// Writes the header of one of its extents, but for what is zero: it follows from the shape.
    pub(super) fn write_extent<R: Region>(&self, region: &R, number: u32) {
        let extent = self.extent(number).offset;
        let write = |field: At<u32>, value| region.u32(field.within(extent)).store(value, Ordering::Relaxed);
        let [class, ..] = self.number.to_le_bytes();
        write(ExtentHeader::CLASS, zerocopy::transmute!([class, 0, 0, 0]));
        write(ExtentHeader::SLOT_COUNT, self.count());
        write(ExtentHeader::BASE_INDEX, self.count() * number);
        #[allow(clippy::cast_possible_truncation)] // 64
        write(ExtentHeader::META_OFFSET, size_of::<ExtentHeader>() as u32);
        // Wraps for classes that version 1.0 could not describe; nobody of ours reads it.
        #[allow(clippy::cast_possible_truncation)]
        write(ExtentHeader::DATA_OFFSET, self.extent_head(number).len as u32);
    }

    /// Writes how many extents it has beyond its first, and where they all are.
    pub(super) fn write_totals<R: Region>(&self, region: &R, further: u32) {
        let write = |field: At<u32>, value| region.u32(self.word(field)).store(value, Ordering::Relaxed);
        write(SizeClassHeader::TOTAL_SLOTS, self.count() * (further + 1));
        let [[shift, ..], [extents, ..]] = [self.shift(), further + 1].map(u32::to_le_bytes);
        write(SizeClassHeader::SHIFT_AND_EXTENT_COUNT, zerocopy::transmute!([shift, extents, 0, 0]));
        let first = self.word(SizeClassHeader::EXTENTS).offset();
        for extent in 0..=further {
            let at = At::<u64>::new(first + extent as usize * size_of::<u64>());
            region.u64(at).store(self.extent(extent).offset as u64, Ordering::Relaxed);
        }
    }
}
