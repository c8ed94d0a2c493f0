//! The size classes: their headers, what the slots' metadata says, and who owns which.

use std::array;
use std::collections::HashSet;

use rapace_shm_core::hub::{HOST, SizeClassStatus};
use rapace_shm_core::layout::{
    ExtentHeader, HubSlotMeta, NO_OWNER, NUM_SIZE_CLASSES, PeerEntry, PeerState, SizeClassHeader, SlotMeta, SlotState,
};
use rapace_shm_core::slots::SlotStatus;

use super::super::check::zero;
use super::super::finding::{FindingKind, Findings};
use super::super::lists::{FreeListName, Slots, Walk};
use super::super::messages::Messages;
use super::super::words;
use super::check::{class_and_slot, reference, same};
use super::growth::place;
use super::snapshot::{ClassPart, Parts};
use super::{ClassReport, is_in_use};

/// The slot that a reference names, and its size in bytes.
pub(super) fn find(parts: &Parts, reference: u32) -> Option<(HubSlotMeta, u32)> {
    let (class, slot) = class_and_slot(reference);
    let class = parts.classes.get(class)?;
    class.meta.get(slot).map(|meta| (*meta, class.shape.slot_size))
}

fn is_in_state(meta: &HubSlotMeta, states: &[SlotState]) -> bool {
    states.iter().any(|state| meta.meta.state == *state as u32)
}

/// Whether somebody has it.
fn is_taken(meta: &HubSlotMeta) -> bool {
    is_in_state(meta, &[SlotState::Allocated, SlotState::InFlight])
}

/// Slots in use that each member must free, of each class.
pub(super) fn owned(parts: &Parts) -> Vec<[u32; NUM_SIZE_CLASSES]> {
    let mut owned = vec![[0; NUM_SIZE_CLASSES]; parts.entries.len()];
    for (number, class) in parts.classes.iter().enumerate() {
        for meta in class.meta.iter().filter(|meta| is_taken(meta)) {
            let count = owned.get_mut(meta.owner as usize).and_then(|counts| counts.get_mut(number));
            if let Some(count) = count {
                *count += 1;
            }
        }
    }
    owned
}

/// Checks every class.
pub(super) fn classes(parts: &Parts, messages: &Messages, findings: &mut Findings) -> [ClassReport; NUM_SIZE_CLASSES] {
    // Before the slots were read or after: either way it was in somebody's hands.
    let entries = parts.entries.iter().chain(&parts.entries_after);
    let in_hand: HashSet<u32> =
        entries.flat_map(|entry| entry.announced).filter_map(|said| said.checked_sub(1)).collect();
    array::from_fn(|number| Class { parts, number, part: &parts.classes[number] }.check(messages, &in_hand, findings))
}

/// One size class.
struct Class<'a> {
    parts: &'a Parts,
    number: usize,
    part: &'a ClassPart,
}

impl Class<'_> {
    fn check(&self, messages: &Messages, in_hand: &HashSet<u32>, findings: &mut Findings) -> ClassReport {
        self.header(findings);
        for (extent, header) in self.part.extents.iter().enumerate() {
            self.extent(extent, header, findings);
        }
        let meta: Vec<SlotMeta> = self.part.meta.iter().map(|meta| meta.meta).collect();
        let links: Vec<Option<u32>> = self.part.meta.iter().map(|meta| Some(meta.next_free)).collect();
        let of = format!("class {} ", self.number);
        let slots = Slots { meta: &meta, links: &links, of: &of, are_lent: false };
        let status = slots.census(findings);
        let mut walk = Walk::new(&slots, findings);
        #[allow(clippy::cast_possible_truncation)] // below 5
        let name = FreeListName::OfClass(self.number as u8);
        let list = walk.list(name, [self.part.header.free_head, self.part.head_after]);
        let first_fresh = self.first_fresh();
        walk.unlisted(|slot| slot >= first_fresh || in_hand.contains(&reference(self.number, slot)));
        let listed = walk.into_met();
        self.owners(&listed, findings);
        if self.parts.config.max_extents > 1 {
            self.fresh(&listed, findings);
        }
        let fresh = u32::try_from(self.part.meta.len().saturating_sub(first_fresh)).unwrap_or(0);
        let status = self.status(status, list.len.map(|listed| listed.saturating_add(fresh)));
        let in_rings = messages.count(|reference| class_and_slot(reference).0 == self.number);
        ClassReport { header: self.part.header, extents: self.part.extents.clone(), status, in_rings, list }
    }

    fn status(&self, seen: SlotStatus, listed: Option<u32>) -> SizeClassStatus {
        let SlotStatus { total, free, allocated, in_flight, unknown, .. } = seen;
        let (slot_size, free_list_len) = (self.part.shape.slot_size, listed.unwrap_or(0));
        let extents = u32::try_from(self.part.extents.len()).unwrap_or(u32::MAX);
        SizeClassStatus { slot_size, extents, total, free, allocated, in_flight, unknown, free_list_len }
    }

    /// How many slots there are, if the file has them all.
    fn there(&self) -> usize {
        self.parts.extents.of(self.number) * self.part.shape.slot_count as usize
    }

    fn header(&self, findings: &mut Findings) {
        let (header, number): (&SizeClassHeader, _) = (&self.part.header, self.number);
        let field = |what: &str| format!("class {number} {what}");
        same(findings, field("slot size"), header.slot_size, self.part.shape.slot_size);
        let extents = self.parts.extents.of(number);
        same(findings, field("slots"), header.total_slots as usize, self.there());
        same(findings, field("shift"), u32::from(header.shift), self.part.shape.slot_count.trailing_zeros());
        same(findings, field("extents"), usize::from(header.extent_count), extents);
        zero(findings, field("padding at 22"), &header.pad.to_ne_bytes());
        for (extent, seen) in header.extents.into_iter().enumerate() {
            let expected = if extent < extents { place(&self.parts.offsets, number, extent) as u64 } else { 0 };
            same(findings, field(&format!("offset of extent {extent}")), seen, expected);
        }
        if self.parts.config.max_extents == 1 {
            zero(findings, field("first fresh slot"), &header.fresh.to_ne_bytes());
        }
        zero(findings, field("reserved bytes at 160"), &header.reserved);
    }

    fn extent(&self, place: usize, extent: &ExtentHeader, findings: &mut Findings) {
        let number = self.number;
        let which = if place == 0 { "extent's".to_owned() } else { format!("extent {place}'s") };
        let field = |what: &str| format!("class {number} {which} {what}");
        same(findings, field("class"), usize::from(extent.class), number);
        same(findings, field("slots"), extent.slot_count, self.part.shape.slot_count);
        same(findings, field("next extent"), extent.next, 0);
        let first = place * self.part.shape.slot_count as usize;
        same(findings, field("first index"), extent.base_index as usize, first);
        let meta = size_of::<ExtentHeader>();
        let data = meta + size_of::<HubSlotMeta>() * self.part.shape.slot_count as usize;
        same(findings, field("offset of the metadata"), extent.meta_offset as usize, meta);
        // The field is narrower than a class can be large; then nobody reads it.
        same(findings, field("offset of the slots"), extent.data_offset as usize, data & u32::MAX as usize);
        zero(findings, field("padding at 1"), &extent.pad_class);
        zero(findings, field("padding at 20"), &extent.pad.to_ne_bytes());
        zero(findings, field("reserved bytes at 32"), &extent.reserved);
    }

    /// From where on slots need not be in the list. If what is said of that cannot be, those of the first extent must.
    fn first_fresh(&self) -> usize {
        let (first, there) = (self.part.shape.slot_count as usize, self.there());
        let said = self.part.header.fresh as usize;
        match self.parts.config.max_extents {
            1 => there,
            _ if (first..=there).contains(&said) => said,
            _ => first,
        }
    }

    /// The slots that nobody has ever taken.
    fn fresh(&self, is_listed: &[bool], findings: &mut Findings) {
        let (first, there) = (self.part.shape.slot_count, self.there());
        let seen = self.part.header.fresh;
        if seen < first || seen as usize > there {
            let expected = format!("from {first} to {there}");
            return findings.add(FindingKind::Fresh, format!("class {} first fresh slot", self.number), seen, expected);
        }
        let behind = self.part.meta.iter().zip(is_listed).enumerate().skip(self.part.fresh_after as usize);
        for (slot, (meta, is_listed)) in behind.filter(|(_, (meta, is_listed))| is_taken(meta) || **is_listed) {
            let field = format!("class {} slot {slot} of generation {}", self.number, meta.meta.generation);
            let seen = if *is_listed { "in the list of free slots" } else { "in use" };
            let expected = format!("never taken, as all from {} on", self.part.fresh_after);
            findings.add(FindingKind::Fresh, field, seen, expected);
        }
    }

    /// Who owns which. On its way between the list and a hand a slot's owner may be either.
    fn owners(&self, is_listed: &[bool], findings: &mut Findings) {
        for (slot, (meta, is_listed)) in self.part.meta.iter().zip(is_listed).enumerate() {
            if is_taken(meta) {
                self.holder(slot, meta, findings);
            } else if *is_listed && is_in_state(meta, &[SlotState::Free]) && meta.owner != NO_OWNER {
                findings.add(FindingKind::Owner, self.owner_of(slot, meta), words::owner(meta.owner), "nobody");
            }
        }
    }

    /// The owner of a slot in use.
    fn holder(&self, slot: usize, meta: &HubSlotMeta, findings: &mut Findings) {
        let (kind, expected) = match usize::try_from(meta.owner).ok().and_then(|owner| self.parts.entries.get(owner)) {
            None => (FindingKind::Owner, "the host, or a plugin that there can be"),
            Some(_) if self.is_removed(meta.owner) => (FindingKind::OwnerRemoved, "a member that is there"),
            Some(_) => return,
        };
        findings.add(kind, self.owner_of(slot, meta), words::owner(meta.owner), expected);
    }

    /// Whether a plugin was not there, neither before the slots were read nor after.
    fn is_removed(&self, owner: u32) -> bool {
        let is_there = |entries: &[PeerEntry]| {
            let entry = entries.get(owner as usize);
            entry.is_some_and(|entry| is_in_use(entry) || entry.state != PeerState::Unknown as u32)
        };
        owner != u32::from(HOST.0) && !is_there(&self.parts.entries) && !is_there(&self.parts.entries_after)
    }

    /// With the generation: the same slot once more in use is another matter.
    fn owner_of(&self, slot: usize, meta: &HubSlotMeta) -> String {
        format!("class {} slot {slot} of generation {} owner", self.number, meta.meta.generation)
    }
}
