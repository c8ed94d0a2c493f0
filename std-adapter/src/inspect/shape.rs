//! The shape of a segment, which stands in several places. One place that was overwritten shall not make everything
//! behind it look wrong: most votes win, and of equals the header.

use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, SegmentHeader, SegmentOffsets, ShmSessionConfig, SlotMeta,
};

use super::finding::{FindingKind, Findings};
use super::source::{Source, Stop};

/// A place that says a part of the shape; `None` where the file is too short to have it.
type Place<'a> = (&'a str, Option<u32>);

/// The places of one number, and which numbers are possible at all.
pub(super) struct Ballot<'a> {
    pub(super) places: [Place<'a>; 3],
    pub(super) is_valid: fn(u32) -> bool,
    pub(super) rule: &'static str,
}

pub(super) fn is_capacity(value: u32) -> bool {
    value.is_power_of_two()
}

fn is_slot_size(value: u32) -> bool {
    value != 0 && value.is_multiple_of(4)
}

fn is_slot_count(value: u32) -> bool {
    value != 0 && value != u32::MAX
}

impl Ballot<'_> {
    fn votes(&self, value: u32) -> usize {
        self.places.iter().filter(|(_, seen)| *seen == Some(value)).count()
    }

    /// The first possible number that two places say, or else the first possible one.
    pub(super) fn winner(&self) -> Option<u32> {
        let mut possible = self.places.iter().filter_map(|(_, seen)| *seen).filter(|value| (self.is_valid)(*value));
        possible.clone().find(|value| self.votes(*value) > 1).or_else(|| possible.next())
    }

    /// Points out the places that say something else than the winner.
    pub(super) fn report(&self, winner: Option<u32>, findings: &mut Findings) {
        for (field, seen) in self.places {
            let Some(seen) = seen.filter(|seen| Some(*seen) != winner) else { continue };
            let kind = if (self.is_valid)(seen) { FindingKind::ShapeDiffers } else { FindingKind::ShapeInvalid };
            match winner {
                Some(winner) => findings.add(kind, field, seen, format_args!("{winner}, as other places say")),
                None => findings.add(kind, field, seen, self.rule),
            }
        }
    }
}

/// The shape that most places say, if there is one that a segment can have.
pub(super) fn find(
    source: &Source<'_>,
    header: &SegmentHeader,
    findings: &mut Findings,
) -> Result<Option<(ShmSessionConfig, SegmentOffsets)>, Stop> {
    let rings = rings(source, header)?;
    let capacity = rings.winner();
    rings.report(capacity, findings);
    let Some(ring_capacity) = capacity else { return Ok(None) };
    let Some((_, offsets)) = place(smallest(ring_capacity), findings) else { return Ok(None) };
    let data = source.read::<DataSegmentHeader>(offsets.data_header)?;
    let size = Ballot {
        places: [
            ("header slot size", Some(header.slot_size)),
            ("data header slot size", data.map(|data| data.slot_size)),
            ("data header longest payload", data.map(|data| data.max_frame_size)),
        ],
        is_valid: is_slot_size,
        rule: "a positive multiple of 4",
    };
    let slot_size = size.winner();
    size.report(slot_size, findings);
    let Some(slot_size) = slot_size else { return Ok(None) };
    let count = slot_count(source.len, header, data, &offsets, slot_size, findings);
    let Some(slot_count) = count else { return Ok(None) };
    let config = ShmSessionConfig { ring_capacity, slot_size, slot_count };
    Ok(place(config, findings))
}

fn place(config: ShmSessionConfig, findings: &mut Findings) -> Option<(ShmSessionConfig, SegmentOffsets)> {
    match SegmentOffsets::calculate(&config) {
        Ok(offsets) => Some((config, offsets)),
        Err(error) => {
            findings.add(FindingKind::ShapeInvalid, "header shape", error, "one that fits into memory");
            None
        }
    }
}

/// What the three places say about the capacity. Where the third one is depends on the capacity: each candidate is tried.
fn rings(source: &Source<'_>, header: &SegmentHeader) -> Result<Ballot<'static>, Stop> {
    let first = source.read::<DescRingHeader>(size_of::<SegmentHeader>())?.map(|ring| ring.capacity);
    let ballot = |third| Ballot {
        places: [
            ("header ring capacity", Some(header.ring_capacity)),
            ("ring A→B capacity", first),
            ("ring B→A capacity", third),
        ],
        is_valid: is_capacity,
        rule: "a power of two",
    };
    let (mut best, mut most) = (ballot(None), 0);
    for candidate in [Some(header.ring_capacity), first].into_iter().flatten() {
        let Ok(offsets) = SegmentOffsets::calculate(&smallest(candidate)) else { continue };
        let third = source.read::<DescRingHeader>(offsets.b_to_a_ring)?.map(|ring| ring.capacity);
        let votes = ballot(third).votes(candidate);
        if votes > most {
            (best, most) = (ballot(third), votes);
        }
    }
    Ok(best)
}

/// A shape with these rings: all before the slots is where every shape with them has it.
const fn smallest(ring_capacity: u32) -> ShmSessionConfig {
    ShmSessionConfig { ring_capacity, slot_size: 4, slot_count: 1 }
}

fn slot_count(
    len: u64,
    header: &SegmentHeader,
    data: Option<DataSegmentHeader>,
    offsets: &SegmentOffsets,
    slot_size: u32,
    findings: &mut Findings,
) -> Option<u32> {
    let mut ballot = Ballot {
        places: [
            ("header slot count", Some(header.slot_count)),
            ("data header slot count", data.map(|data| data.slot_count)),
            ("file length", by_length(len, offsets, slot_size)),
        ],
        is_valid: is_slot_count,
        rule: "from 1 to 4294967294",
    };
    let winner = ballot.winner();
    // What is wrong with the length is said elsewhere.
    ballot.places[2].1 = None;
    ballot.report(winner, findings);
    winner
}

/// How many slots of this size the file has room for, if it is exactly room for them.
fn by_length(len: u64, offsets: &SegmentOffsets, slot_size: u32) -> Option<u32> {
    let slots = len.checked_sub(offsets.slot_meta as u64)?;
    let each = size_of::<SlotMeta>() as u64 + u64::from(slot_size);
    slots.is_multiple_of(each).then(|| slots / each).and_then(|count| u32::try_from(count).ok())
}
