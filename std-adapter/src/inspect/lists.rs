//! The slots: what their metadata says, and whether the lists of free ones agree.
//!
//! Every slot is passed at most once, whatever the links say: a slot that was passed before ends the walk.

use std::fmt;

use rapace_shm_core::layout::{FREE_LIST_END, SlotMeta, SlotState};
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
    /// That of a size class of a hub.
    OfClass(u8),
}

impl FreeListName {
    /// All of a session.
    pub const ALL: [Self; 3] = [Self::Common, Self::ReturnedByA, Self::ReturnedByB];

    /// The first slot that this list's head names. "None" is zero for what a peer has returned,
    /// all ones elsewhere.
    #[allow(clippy::cast_possible_truncation)] // the low half
    const fn first(self, head: u64) -> u32 {
        match self {
            Self::Common | Self::OfClass(_) => head as u32,
            Self::ReturnedByA | Self::ReturnedByB => (head as u32).wrapping_sub(1),
        }
    }
}

impl fmt::Display for FreeListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common => f.write_str("common free list"),
            Self::ReturnedByA => f.write_str("list returned by A"),
            Self::ReturnedByB => f.write_str("list returned by B"),
            Self::OfClass(class) => write!(f, "class {class} free list"),
        }
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

/// The slots of a session, or of one size class of a hub.
pub(super) struct Slots<'a> {
    pub(super) meta: &'a [SlotMeta],
    /// The link of each, as far as it is known.
    pub(super) links: &'a [Option<u32>],
    /// What goes before "slot" to say which.
    pub(super) of: &'a str,
    /// Whether their senders may read on: never in a hub.
    pub(super) are_lent: bool,
}

impl Slots<'_> {
    fn state(&self, meta: SlotMeta) -> Option<SlotState> {
        SlotState::from_u32(meta.state).filter(|state| self.are_lent || *state != SlotState::Lent)
    }

    /// Counts them by what their metadata says.
    pub(super) fn census(&self, findings: &mut Findings) -> SlotStatus {
        let total = u32::try_from(self.meta.len()).unwrap_or(u32::MAX);
        let mut status = SlotStatus { total, ..SlotStatus::default() };
        for (slot, meta) in self.meta.iter().enumerate() {
            match self.state(*meta) {
                Some(SlotState::Free) => status.free += 1,
                Some(SlotState::Allocated) => status.allocated += 1,
                Some(SlotState::InFlight) => status.in_flight += 1,
                Some(SlotState::Lent) => status.lent += 1,
                None => {
                    status.unknown += 1;
                    self.unknown(slot, meta.state, findings);
                }
            }
        }
        status
    }

    fn unknown(&self, slot: usize, state: u32, findings: &mut Findings) {
        let expected = match self.are_lent {
            true => "0 (free), 1 (allocated), 2 (in flight) or 3 (lent)",
            false => "0 (free), 1 (allocated) or 2 (in flight)",
        };
        findings.add(FindingKind::SlotState, format_args!("{}slot {slot} state", self.of), state, expected);
    }
}

/// A walk along lists of free slots, as far as it came.
pub(super) struct Walk<'a> {
    slots: &'a Slots<'a>,
    findings: &'a mut Findings,
    /// The list that each slot was met in.
    met_in: Vec<Option<FreeListName>>,
    /// Whether all lists were followed to their ends.
    is_whole: bool,
}

/// Counts a session's slots and walks its lists.
pub(super) fn of_session(parts: &Parts, findings: &mut Findings) -> (SlotStatus, [FreeListReport; 3]) {
    let slots = Slots { meta: &parts.meta, links: &parts.links, of: "", are_lent: true };
    let mut status = slots.census(findings);
    let mut walk = Walk::new(&slots, findings);
    let [common, by_a, by_b] = parts.heads;
    let [after_common, after_a, after_b] = parts.heads_after;
    let lists = [
        walk.list(FreeListName::Common, [common, after_common]),
        walk.list(FreeListName::ReturnedByA, [by_a, after_a]),
        walk.list(FreeListName::ReturnedByB, [by_b, after_b]),
    ];
    walk.unlisted(|_| false);
    status.free_list_len = lists.iter().filter_map(|list| list.len).sum();
    (status, lists)
}

impl<'a> Walk<'a> {
    pub(super) fn new(slots: &'a Slots<'a>, findings: &'a mut Findings) -> Self {
        Self { slots, findings, met_in: vec![None; slots.meta.len()], is_whole: true }
    }

    /// Follows a list whose head is known from before the slots were read, and from after.
    #[allow(clippy::cast_possible_truncation)] // the high half
    pub(super) fn list(&mut self, name: FreeListName, [head, after]: [u64; 2]) -> FreeListReport {
        let first = name.first(head);
        // A tag grows with every change.
        let len = (head == after).then(|| self.walk(name, first));
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
            let Some(link) = self.slots.links.get(next as usize).copied().flatten() else {
                self.is_whole = false;
                break;
            };
            (from, next) = (Some(next), link);
        }
        met
    }

    /// Whether the slot that a list leads to can be in it.
    fn enter(&mut self, name: FreeListName, from: Option<u32>, slot: u32) -> bool {
        let count = self.slots.meta.len();
        let Some(meta) = self.slots.meta.get(slot as usize) else {
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
        let how = match self.slots.state(*meta) {
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

    /// Which slots were met in a list.
    pub(super) fn into_met(self) -> Vec<bool> {
        self.met_in.iter().map(Option::is_some).collect()
    }

    fn has_met(&self, slot: usize) -> bool {
        self.met_in.get(slot).is_some_and(Option::is_some)
    }

    /// Points out free slots that are in no list and not known to be in somebody's hand, unless a list that was not
    /// followed to its end may have them.
    pub(super) fn unlisted(&mut self, is_in_hand: impl Fn(usize) -> bool) {
        if !self.is_whole {
            return;
        }
        for (slot, meta) in self.slots.meta.iter().enumerate() {
            if meta.state == SlotState::Free as u32 && !self.has_met(slot) && !is_in_hand(slot) {
                // With the generation: the same slot on its way again is not the same finding.
                let field = format!("{}slot {slot} of generation {}", self.slots.of, meta.generation);
                self.findings.add(FindingKind::Unlisted, field, "free, and in no list", "in one of the free lists");
            }
        }
    }
}
