//! The slots: what their metadata says, and whether the lists of free ones agree.
//!
//! Every slot is passed at most once, whatever the links say: a slot that was passed before ends the walk.

use std::fmt;

use rapace_shm_core::layout::{FREE_LIST_END, SlotState};
use rapace_shm_core::slots::SlotStatus;

use super::finding::{FindingKind, Findings};
use super::snapshot::Parts;

/// Which list of free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeListName {
    /// The one in the data header, which version 1.0 peers know.
    Common,
    /// What peer A has returned.
    ReturnedByA,
    /// What peer B has returned.
    ReturnedByB,
}

impl FreeListName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Common, Self::ReturnedByA, Self::ReturnedByB];

    /// The first slot that this list's head names. The common one's "none" is all ones, the others' zero.
    #[allow(clippy::cast_possible_truncation)] // the low half
    const fn first(self, head: u64) -> u32 {
        match self {
            Self::Common => head as u32,
            Self::ReturnedByA | Self::ReturnedByB => (head as u32).wrapping_sub(1),
        }
    }
}

impl fmt::Display for FreeListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common free list",
            Self::ReturnedByA => "list returned by A",
            Self::ReturnedByB => "list returned by B",
        })
    }
}

/// What a list of free slots holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FreeListReport {
    /// Which one.
    pub name: FreeListName,
    /// The slot that its head names, if it names one.
    pub first: Option<u32>,
    /// Its tag: how often it was changed, modulo 2^32.
    pub tag: u32,
    /// Slots met on the way to its end, or to the first thing that looks wrong; `None` if it changed meanwhile.
    pub len: Option<u32>,
}

/// The slab as far as it was looked at.
struct Slab<'a> {
    parts: &'a Parts,
    findings: &'a mut Findings,
    /// The list that each slot was met in.
    met_in: Vec<Option<FreeListName>>,
    /// Whether all lists were followed to their ends.
    is_whole: bool,
}

/// Counts the slots and walks the lists.
pub(super) fn check(parts: &Parts, findings: &mut Findings) -> (SlotStatus, [FreeListReport; 3]) {
    let mut status = census(parts, findings);
    let mut slab = Slab { parts, findings, met_in: vec![None; parts.meta.len()], is_whole: true };
    let lists = FreeListName::ALL.map(|name| slab.list(name));
    slab.unlisted();
    status.free_list_len = lists.iter().filter_map(|list| list.len).sum();
    (status, lists)
}

fn census(parts: &Parts, findings: &mut Findings) -> SlotStatus {
    let mut status = SlotStatus { total: parts.config.slot_count, ..SlotStatus::default() };
    for (slot, meta) in parts.meta.iter().enumerate() {
        match SlotState::from_u32(meta.state) {
            Some(SlotState::Free) => status.free += 1,
            Some(SlotState::Allocated) => status.allocated += 1,
            Some(SlotState::InFlight) => status.in_flight += 1,
            Some(SlotState::Lent) => status.lent += 1,
            None => {
                status.unknown += 1;
                let expected = "0 (free), 1 (allocated), 2 (in flight) or 3 (lent)";
                findings.add(FindingKind::SlotState, format_args!("slot {slot} state"), meta.state, expected);
            }
        }
    }
    status
}

impl Slab<'_> {
    #[allow(clippy::cast_possible_truncation)] // the high half
    fn list(&mut self, name: FreeListName) -> FreeListReport {
        let head = self.parts.heads[name as usize];
        let first = name.first(head);
        let len = self.parts.is_list_settled(name as usize).then(|| self.walk(name, first));
        self.is_whole &= len.is_some();
        FreeListReport { name, first: (first != FREE_LIST_END).then_some(first), tag: (head >> 32) as u32, len }
    }

    /// Follows a list that did not change while it was read, as far as it makes sense.
    fn walk(&mut self, name: FreeListName, first: u32) -> u32 {
        let (mut from, mut next, mut met) = (None, first, 0);
        while next != FREE_LIST_END {
            if !self.enter(name, from, next) {
                self.is_whole = false;
                break;
            }
            met += 1;
            // Without one the file ends before the slot, which is a finding of its own.
            let Some(link) = self.parts.links.get(next as usize).copied().flatten() else {
                self.is_whole = false;
                break;
            };
            (from, next) = (Some(next), link);
        }
        met
    }

    /// Whether the slot that a list leads to can be in it.
    fn enter(&mut self, name: FreeListName, from: Option<u32>, slot: u32) -> bool {
        let count = self.parts.meta.len();
        let Some(meta) = self.parts.meta.get(slot as usize) else {
            let expected = format!("a slot below {count}, or the end");
            return self.refuse(FindingKind::FreeLink, name, from, format!("slot {slot}"), &expected);
        };
        match self.met_in[slot as usize].replace(name) {
            None => {}
            Some(other) if other == name => {
                let seen = format!("slot {slot} once more");
                return self.refuse(FindingKind::FreeCycle, name, from, seen, "a slot not met before, or the end");
            }
            Some(other) => {
                let seen = format!("slot {slot}, which is in the {other} too");
                return self.refuse(FindingKind::ListedTwice, name, from, seen, "a slot of no other list");
            }
        }
        let how = match SlotState::from_u32(meta.state) {
            // An unknown state is a finding of its own.
            Some(SlotState::Free) | None => return true,
            Some(SlotState::Allocated) => "allocated",
            Some(SlotState::InFlight) => "in flight",
            Some(SlotState::Lent) => "lent",
        };
        let seen = format!("slot {slot}, {how} at generation {}", meta.generation);
        self.refuse(FindingKind::ListedNotFree, name, from, seen, "a free slot")
    }

    fn refuse(
        &mut self,
        kind: FindingKind,
        name: FreeListName,
        from: Option<u32>,
        seen: String,
        expected: &str,
    ) -> bool {
        match from {
            None => self.findings.add(kind, format_args!("{name}, head"), seen, expected),
            Some(slot) => self.findings.add(kind, format_args!("{name}, link of slot {slot}"), seen, expected),
        }
        false
    }

    /// Points out free slots that are in no list, unless a list that was not followed to its end may have them.
    fn unlisted(&mut self) {
        if !self.is_whole {
            return;
        }
        for (slot, (meta, met_in)) in self.parts.meta.iter().zip(&self.met_in).enumerate() {
            if meta.state == SlotState::Free as u32 && met_in.is_none() {
                // With the generation: the same slot on its way again is not the same finding.
                let field = format!("slot {slot} of generation {}", meta.generation);
                self.findings.add(FindingKind::Unlisted, field, "free, and in no list", "in one of the free lists");
            }
        }
    }
}
