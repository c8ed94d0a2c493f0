//! What a hub's slots are doing, counted.

use core::fmt;

use super::places::Class;
use super::pool::HubAllocator;
use crate::endpoint::{Endpoint, PeerId};
use crate::layout::{NUM_SIZE_CLASSES, SlotState};

/// A snapshot of one size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClassStatus {
    /// Size of a slot in bytes.
    pub slot_size: u32,
    /// Extents that it has.
    pub extents: u32,
    /// Slots that exist.
    pub total: u32,
    /// Slots whose metadata says free.
    pub free: u32,
    /// Slots whose metadata says allocated.
    pub allocated: u32,
    /// Slots whose metadata says in flight.
    pub in_flight: u32,
    /// Slots whose metadata says something else.
    pub unknown: u32,
    /// Slots met on a walk along the list of free slots, at most `total`, and slots of further extents that nobody has
    /// ever taken.
    pub free_list_len: u32,
}

/// A snapshot of a hub's slots. The numbers are taken one after the other: in a hub in use they need not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubSlotStatus {
    /// The classes, the smallest first.
    pub classes: [SizeClassStatus; NUM_SIZE_CLASSES],
}

impl HubSlotStatus {
    fn sum(&self, number: fn(&SizeClassStatus) -> u32) -> u32 {
        self.classes.iter().map(number).fold(0, u32::saturating_add)
    }

    /// Slots of all classes.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.sum(|class| class.total)
    }

    /// Free slots of all classes.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.sum(|class| class.free)
    }

    /// Allocated slots of all classes.
    #[must_use]
    pub fn allocated(&self) -> u32 {
        self.sum(|class| class.allocated)
    }

    /// Slots in flight of all classes.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.sum(|class| class.in_flight)
    }

    /// Slots in no known state, of all classes.
    #[must_use]
    pub fn unknown(&self) -> u32 {
        self.sum(|class| class.unknown)
    }

    /// Slots met on a walk along the lists of free slots, or never taken.
    #[must_use]
    pub fn free_list_len(&self) -> u32 {
        self.sum(|class| class.free_list_len)
    }
}

impl HubAllocator {
    /// Counts the slots by what their metadata says, and walks the free lists. Where the header says rubbish of a class's
    /// growth, its first extent is what is counted.
    pub fn slot_status<E: Endpoint>(&self, endpoint: &E) -> HubSlotStatus {
        let region = endpoint.region();
        let mut status = HubSlotStatus::default();
        for (class, counts) in self.places.classes().zip(&mut status.classes) {
            let total = self.there(endpoint, &class).unwrap_or(class.count());
            (counts.slot_size, counts.extents, counts.total) = (class.slot_size(), class.extent_of(total), total);
            for slot in 0..total {
                match SlotState::from_u32(class.load(region, slot).state) {
                    Some(SlotState::Free) => counts.free += 1,
                    Some(SlotState::Allocated) => counts.allocated += 1,
                    Some(SlotState::InFlight) => counts.in_flight += 1,
                    // Nobody lends in a hub.
                    Some(SlotState::Lent) | None => counts.unknown += 1,
                }
            }
            let listed = class.list().len(region, &self.listed(endpoint, &class));
            let fresh = self.fresh_count(endpoint, &class).unwrap_or(0);
            counts.free_list_len = listed.saturating_add(fresh).min(total);
        }
        status
    }

    /// Slots in use that this member must free, of all classes. (Of a class of whose growth the header says rubbish, none.)
    pub fn owned_by<E: Endpoint>(&self, endpoint: &E, owner: PeerId) -> u32 {
        let owned = |class: Class| self.owned_in(endpoint, &class, owner).unwrap_or(0);
        self.places.classes().map(owned).fold(0, u32::saturating_add)
    }
}

impl fmt::Display for SizeClassStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot_size, extents, total, free, allocated, in_flight, unknown, free_list_len } = self;
        write!(f, "{total} slots of {slot_size} bytes: {free} free, {allocated} allocated, {in_flight} in flight")?;
        if *extents > 1 {
            write!(f, ", in {extents} extents")?;
        }
        if *unknown > 0 {
            write!(f, ", {unknown} in no known state")?;
        }
        if free_list_len != free {
            write!(f, "; but the free list has {free_list_len}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HubSlotStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = &self.classes;
        write!(f, "{first}")?;
        rest.iter().try_for_each(|class| write!(f, "\n{class}"))
    }
}
