//! What a slab looks like at a moment, for people and for tests.

use core::fmt;
use core::sync::atomic::Ordering;

use super::DataSegment;
use crate::layout::{SlotMeta, SlotState};
use crate::region::{Region, Word};

/// A snapshot of a slab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotStatus {
    /// Slots that exist.
    pub total: u32,
    /// Slots whose metadata says free.
    pub free: u32,
    /// Slots whose metadata says allocated.
    pub allocated: u32,
    /// Slots whose metadata says in flight, and no longer read by their sender.
    pub in_flight: u32,
    /// Slots whose metadata says in flight, and still read by their sender.
    pub lent: u32,
    /// Slots whose metadata says something else.
    pub unknown: u32,
    /// Slots met on a walk along the lists of free slots, at most `total`.
    pub free_list_len: u32,
}

impl fmt::Display for SlotStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, free, allocated, in_flight, lent, unknown, free_list_len } = self;
        write!(f, "{total} slots: {free} free, {allocated} allocated, {in_flight} in flight")?;
        if *lent > 0 {
            write!(f, ", {lent} lent")?;
        }
        if *unknown > 0 {
            write!(f, ", {unknown} in no known state")?;
        }
        if free_list_len != free {
            write!(f, "; but the free lists have {free_list_len}")?;
        }
        Ok(())
    }
}

impl DataSegment {
    /// Counts the slots by what their metadata says, and walks the free lists. The numbers are taken one after the other:
    /// in a slab in use they need not add up.
    pub fn slot_status<R: Region>(&self, region: &R) -> SlotStatus {
        let mut status = SlotStatus { total: self.config.slot_count, ..SlotStatus::default() };
        for slot in 0..self.config.slot_count {
            let meta = SlotMeta::from_word(region.u64(self.meta(slot)).load(Ordering::Relaxed));
            match SlotState::from_u32(meta.state) {
                Some(SlotState::Free) => status.free += 1,
                Some(SlotState::Allocated) => status.allocated += 1,
                Some(SlotState::InFlight) => status.in_flight += 1,
                Some(SlotState::Lent) => status.lent += 1,
                None => status.unknown += 1,
            }
        }
        let met = self.lists().iter().map(|list| list.len(region, self)).fold(0, u32::saturating_add);
        status.free_list_len = met.min(self.config.slot_count);
        status
    }
}
