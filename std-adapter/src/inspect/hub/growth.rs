//! How far a hub has grown: how many extents each size class has, where they are, and which of their slots nobody has ever
//! taken.
//!
//! Who adds an extent makes the file longer, counts it in one word of the header, and only then writes it down everywhere
//! else; who takes a fresh slot says so before it has it. So a look reads in the other order:
//!
//! ```text
//!   first fresh slots | how many extents there are | the slots of those | first fresh slots once more
//! ```

use std::array;

use rapace_shm_core::layout::{HubConfig, HubHeader, HubOffsets, HubSlotMeta, NUM_SIZE_CLASSES, SizeClass};

use super::super::check;
use super::super::finding::{FindingKind, Findings};
use super::super::source::{Source, Stop};
use super::check::same;
use super::snapshot::{Parts, meta_of};

/// How many extents each class has: at least one, and no more than the hub's shape allows.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    /// What the header says, one byte per class: those beyond the first.
    grown: u64,
    max: u8,
}

impl Extents {
    pub(super) fn read(source: &Source<'_>, config: &HubConfig) -> Result<Self, Stop> {
        // Elsewhere these bytes have no meaning.
        let grown = if config.max_extents > 1 { source.word(HubHeader::GROWN, 0)? } else { 0 };
        Ok(Self { grown, max: config.max_extents })
    }

    pub(super) fn of(self, class: usize) -> usize {
        let said = self.grown.to_le_bytes().get(class).copied().unwrap_or(0);
        usize::from(said.min(self.max.saturating_sub(1))) + 1
    }

    /// Bytes of all slots' metadata.
    pub(super) fn metadata(self, config: &HubConfig) -> usize {
        let slots = config.classes.iter().enumerate().map(|(class, shape)| self.of(class) * shape.slot_count as usize);
        slots.fold(0, usize::saturating_add).saturating_mul(size_of::<HubSlotMeta>())
    }

    /// Where the extents of a class are of which a file has all metadata, one after the other.
    pub(super) fn places(
        self,
        source: &Source<'_>,
        class: usize,
        slot_count: u32,
        offsets: &HubOffsets,
    ) -> impl Iterator<Item = usize> {
        let reaches = move |at: &usize| source.reaches(meta_of(*at) + slot_count as usize * size_of::<HubSlotMeta>());
        (0..self.of(class)).map(move |number| place(offsets, class, number)).take_while(reaches)
    }
}

/// Where an extent is: behind the first of each class come the second ones.
pub(super) fn place(offsets: &HubOffsets, class: usize, number: usize) -> usize {
    let [first, ..] = offsets.extents;
    offsets.extents.get(class).map_or(offsets.end, |at| at + number * (offsets.end - first))
}

/// One past the last byte of the last extent that there is.
pub(super) fn end(parts: &Parts) -> usize {
    let last = |class: usize| place(&parts.offsets, class, parts.extents.of(class) - 1);
    let end = |(class, shape): (usize, &SizeClass)| last(class) + shape.extent_size().unwrap_or(0);
    parts.config.classes.iter().enumerate().map(end).fold(0, usize::max)
}

/// The length of the file. One that was made longer by somebody who did not come to say so is no harm.
pub(super) fn length(len: u64, parts: &Parts, findings: &mut Findings) {
    let end = end(parts);
    let may_be = end as u64..=parts.offsets.reach as u64;
    if parts.config.max_extents == 1 || !may_be.contains(&len) {
        check::length(len, end, findings);
    }
}

/// How many extents each class has, as the header says it.
pub(super) fn header(header: &HubHeader, parts: &Parts, findings: &mut Findings) {
    let said = parts.extents.grown.to_le_bytes();
    let most = parts.config.max_extents.saturating_sub(1);
    for (class, said) in said.into_iter().enumerate() {
        let most = if class < NUM_SIZE_CLASSES { most } else { 0 };
        if said > most {
            let field = format!("header growth, class {class}");
            findings.add(FindingKind::Growth, field, said, format_args!("at most {most} further extents"));
        }
    }
    let all: usize = array::from_fn::<_, NUM_SIZE_CLASSES, _>(|class| parts.extents.of(class)).iter().sum();
    same(findings, "header extents", header.extent_count as usize, all);
    same(findings, "header size", header.current_size, end(parts) as u64);
}
