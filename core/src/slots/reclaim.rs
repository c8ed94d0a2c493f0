//! What becomes of the slots when a peer has died: everything that the survivor does not hold is freed, while guards of
//! the survivor may be dropped by other threads.

use core::sync::atomic::Ordering;

use super::free_list::Taken;
use super::{DataSegment, SHARE_TRIES, SlotPool};
use crate::endpoint::Endpoint;
use crate::fault::PeerFault;
use crate::layout::{SlotMeta, SlotState};
use crate::ledger::LedgerEntry;
use crate::region::{Region, Word};

/// What [`DataSegment::reclaim`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reclaimed {
    /// This many slots were in the dead peer's hands.
    Slots(u32),
    /// A guard is being dropped by another thread at this moment; nothing was changed.
    Busy,
}

impl DataSegment {
    /// Frees every slot that this endpoint's ledger does not hold, drops the dead peer's share in those that it does, and
    /// builds the common list anew. The other peer is gone, no allocation of this endpoint is under way (its sender is
    /// borrowed, the gate is shut), but guards may be dropped meanwhile by other threads.
    ///
    /// ```text
    ///   1. claim every entry that nobody holds         a guard that is dropped from here on pushes its slot itself
    ///   2. cut each list off
    ///   3. walk what was cut off: a slot on it that was not claimed in 1 was pushed meanwhile; push it again
    ///   4. free and push every slot claimed in 1; of every other one, give up what was the dead peer's
    /// ```
    pub(crate) fn reclaim<E: Endpoint>(&self, endpoint: &E) -> Result<Reclaimed, PeerFault> {
        let region = endpoint.region();
        let ledger = endpoint.ledger();
        if !ledger.is_settled() {
            return Ok(Reclaimed::Busy);
        }
        for slot in 0..self.config.slot_count {
            // One that a guard holds stays what it is.
            ledger.entry(slot)?.claim_for_reaper();
        }
        for list in self.lists() {
            let mut late = list.take_all(region, self)?;
            // No list is longer than there are slots.
            for _ in 0..self.config.slot_count {
                let Some(Taken { slot, next }) = late else { break };
                if !ledger.entry(slot)?.is_reapers() {
                    self.common().push(region, self, slot)?;
                }
                late = Taken::at(region, self, next)?;
            }
        }
        let mut lost = 0;
        for slot in 0..self.config.slot_count {
            let entry = ledger.entry(slot)?;
            let was_dead_peers = if entry.is_reapers() {
                self.free_unheld(region, slot, entry)?
            } else {
                self.give_up_for_dead(region, slot, entry)?
            };
            lost += u32::from(was_dead_peers);
        }
        self.wake_waiters(endpoint);
        Ok(Reclaimed::Slots(lost))
    }

    /// Frees and lists a slot that the reaper has claimed; says whether it was in somebody's hands.
    fn free_unheld<R: Region>(&self, region: &R, slot: u32, entry: &LedgerEntry) -> Result<bool, PeerFault> {
        let seen = SlotMeta::from_word(region.u64(self.meta(slot)).load(Ordering::Acquire));
        let was_free = seen.state == SlotState::Free as u32;
        // A slot that was in somebody's hands gets a new generation, so that no handle to it is good any more.
        let generation = seen.generation.wrapping_add(u32::from(!was_free));
        let free = SlotMeta::new(generation, SlotState::Free).to_word();
        region.u64(self.meta(slot)).store(free, Ordering::Release);
        entry.transfer();
        self.common().push(region, self, slot)?;
        Ok(!was_free)
    }

    /// Gives up the dead peer's share in a slot that was held here when the reaper came; says whether there was one. The
    /// guard may be dropped meanwhile, so each of its steps may come in between:
    ///
    /// ```text
    ///   guard, with share s         metadata      here: metadata first, then the entry
    ///                               lent          to s: the guard, or its drop, goes on alone
    ///   let go in the ledger
    ///   lent -> the dead one's      not s         nobody is left who would free it: to free, and push
    ///   settle
    ///
    ///   s -> free, push             free          nothing
    /// ```
    fn give_up_for_dead<R: Region>(&self, region: &R, slot: u32, entry: &LedgerEntry) -> Result<bool, PeerFault> {
        let mut seen = SlotMeta::from_word(region.u64(self.meta(slot)).load(Ordering::Acquire));
        for _ in 0..SHARE_TRIES {
            let (own, is_held) = entry.share();
            let left = seen.state & own;
            let is_tampered = SlotState::from_u32(seen.state).is_none() || (is_held && left == 0);
            // What was tampered with is for its guard to find.
            if seen.state == left || is_tampered {
                return Ok(false);
            }
            let generation = seen.generation.wrapping_add(u32::from(left == 0));
            match self.exchange(region, slot, seen, SlotMeta { generation, state: left }) {
                Ok(()) if left == 0 => return self.common().push(region, self, slot).map(|()| true),
                Ok(()) => return Ok(true),
                Err(now) => seen = now,
            }
        }
        Err(PeerFault::NeverSettles { tries: SHARE_TRIES })
    }
}
