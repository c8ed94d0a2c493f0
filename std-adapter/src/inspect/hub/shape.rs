//! The shape of a hub, which follows from several places: as in a session, most votes win. A place that loses is pointed
//! out where it is checked against the winner.

use rapace_shm_core::layout::{
    DescRingHeader, ExtentHeader, HUB_PROTOCOL_VERSION, HUB_SIZE_CLASSES, HubConfig, HubHeader, HubOffsets,
    HubSlotMeta, MAX_PEERS, MsgDescHot, NUM_SIZE_CLASSES, PeerEntry, RING_HEADER_SIZE, SizeClass, SizeClassHeader,
};

use super::super::finding::{FindingKind, Findings};
use super::super::shape::{Ballot, is_capacity};
use super::super::source::{Source, Stop};
use super::may_grow;

/// What may be asked of a number.
#[derive(Clone, Copy)]
struct Rule {
    is_valid: fn(u32) -> bool,
    text: &'static str,
}

const PEERS: Rule = Rule { is_valid: |seen| (1..=u32::from(MAX_PEERS)).contains(&seen), text: "from 1 to 32" };
const CAPACITY: Rule = Rule { is_valid: is_capacity, text: "a power of two" };
const EXTENTS: Rule = Rule { is_valid: |seen| (1..=16).contains(&seen), text: "from 1 to 16" };
const SLOT_SIZE: Rule =
    Rule { is_valid: |seen| seen.is_power_of_two() && seen >= 64, text: "a power of two from 64 on" };
const SLOT_COUNT: Rule = Rule {
    is_valid: |seen| seen.is_power_of_two() && (4..=1 << 28).contains(&seen),
    text: "a power of two from 4 to 268435456",
};

/// The number that most places say. If none says one that can be, what stands at the first of them is pointed out.
fn elect(field: &str, seen: u32, places: [Option<u32>; 3], rule: Rule, findings: &mut Findings) -> Option<u32> {
    let ballot = Ballot { places: places.map(|seen| ("", seen)), is_valid: rule.is_valid, rule: rule.text };
    let winner = ballot.winner();
    if winner.is_none() {
        findings.add(FindingKind::ShapeInvalid, field, seen, rule.text);
    }
    winner
}

/// The shape that most places say, if there is one that a hub can have.
pub(super) fn find(
    source: &Source<'_>,
    header: &HubHeader,
    findings: &mut Findings,
) -> Result<Option<(HubConfig, HubOffsets)>, Stop> {
    let Some(max_peers) = max_peers(source, header, findings)? else { return Ok(None) };
    let Some(ring_capacity) = ring_capacity(source, header, max_peers, findings)? else { return Ok(None) };
    let mut config = HubConfig { max_peers, ring_capacity, classes: HUB_SIZE_CLASSES, max_extents: 1 };
    if may_grow(header) {
        let (seen, field) = (header.max_extents, "header extents at most");
        let Some(most) = elect(field, seen, [Some(seen), None, None], EXTENTS, findings) else { return Ok(None) };
        config.max_extents = u8::try_from(most).unwrap_or(1);
    }
    if header.version >> 16 != HUB_PROTOCOL_VERSION >> 16 {
        let Some(classes) = classes(source, header, &config, findings)? else { return Ok(None) };
        config.classes = classes;
    }
    Ok(place(&config, findings).map(|offsets| (config, offsets)))
}

fn place(config: &HubConfig, findings: &mut Findings) -> Option<HubOffsets> {
    let placed = HubOffsets::calculate(config);
    placed.map_err(|error| findings.add(FindingKind::ShapeInvalid, "header shape", error, "one that can be")).ok()
}

/// Entries of the peer table: the header says it, and where the rings begin.
fn max_peers(source: &Source<'_>, header: &HubHeader, findings: &mut Findings) -> Result<Option<u16>, Stop> {
    let by_rings = |rings: u64| {
        let table = rings.checked_sub(size_of::<HubHeader>() as u64)?;
        let each = size_of::<PeerEntry>() as u64;
        table.is_multiple_of(each).then(|| u32::try_from(table / each).ok()).flatten()
    };
    let first = source.read::<PeerEntry>(size_of::<HubHeader>())?;
    let seen = u32::from(header.max_peers);
    let places = [Some(seen), by_rings(header.rings), first.and_then(|entry| by_rings(entry.to_host_ring))];
    let winner = elect("header peers at most", seen, places, PEERS, findings);
    Ok(winner.and_then(|peers| u16::try_from(peers).ok()))
}

/// Descriptors per ring: the header says it, the first ring, and where the size classes begin.
fn ring_capacity(
    source: &Source<'_>,
    header: &HubHeader,
    max_peers: u16,
    findings: &mut Findings,
) -> Result<Option<u32>, Stop> {
    let rings = size_of::<HubHeader>() + usize::from(max_peers) * size_of::<PeerEntry>();
    let by_classes = || {
        let each = header.size_classes.checked_sub(rings as u64)? / (2 * u64::from(max_peers));
        let descriptors = each.checked_sub(RING_HEADER_SIZE as u64)? / size_of::<MsgDescHot>() as u64;
        u32::try_from(descriptors).ok()
    };
    let first = source.read::<DescRingHeader>(rings)?.map(|ring| ring.capacity);
    let seen = header.ring_capacity;
    Ok(elect("header ring capacity", seen, [Some(seen), first, by_classes()], CAPACITY, findings))
}

/// The classes of a hub that has its own.
fn classes(
    source: &Source<'_>,
    header: &HubHeader,
    config: &HubConfig,
    findings: &mut Findings,
) -> Result<Option<[SizeClass; NUM_SIZE_CLASSES]>, Stop> {
    let Some(offsets) = place(config, findings) else { return Ok(None) };
    let mut headers: Vec<SizeClassHeader> = Vec::new();
    let [mut extent, ..] = offsets.extents;
    if !source.reaches(extent) {
        return Ok(None);
    }
    source.append(&mut headers, offsets.size_classes, NUM_SIZE_CLASSES)?;
    let mut classes = HUB_SIZE_CLASSES;
    for (number, class) in classes.iter_mut().enumerate() {
        let next = headers.get(number + 1).map_or_else(|| end_of_first(header, &headers), |next| next.extents[0]);
        let found = headers.get(number).map(|header| (number, header, next));
        let Some(found) = found else { return Ok(None) };
        let Some((shape, end)) = one_class(source, found, extent, findings)? else { return Ok(None) };
        (*class, extent) = (shape, end);
    }
    Ok(Some(classes))
}

/// Where the first extents end: the hub did when it was fresh. If it has grown, second extents are as far from the first.
fn end_of_first(header: &HubHeader, headers: &[SizeClassHeader]) -> u64 {
    let first = headers.first().map_or(0, |header| header.extents[0]);
    let grown = headers.iter().find(|header| header.extents[1] != 0).filter(|_| may_grow(header));
    grown.map_or(header.current_size, |class| first.saturating_add(class.extents[1].saturating_sub(class.extents[0])))
}

/// One class whose extent begins at `extent` bytes, and where that ends.
fn one_class(
    source: &Source<'_>,
    (number, header, next): (usize, &SizeClassHeader, u64),
    extent: usize,
    findings: &mut Findings,
) -> Result<Option<(SizeClass, usize)>, Stop> {
    let in_extent = source.read::<ExtentHeader>(extent)?.map(|extent| extent.slot_count);
    let by_shift = 1_u32.checked_shl(u32::from(header.shift));
    let (field, seen) = (format!("class {number} slots"), header.total_slots);
    let of_each = u32::from(header.extent_count.max(1));
    let seen = if seen.is_multiple_of(of_each) { seen / of_each } else { seen };
    let count = elect(&field, seen, [Some(seen), in_extent, by_shift], SLOT_COUNT, findings);
    let Some(slot_count) = count else { return Ok(None) };
    let by_length = || {
        let slots = next.checked_sub(extent as u64)?.checked_sub(size_of::<ExtentHeader>() as u64)?;
        u32::try_from((slots / u64::from(slot_count)).checked_sub(size_of::<HubSlotMeta>() as u64)?).ok()
    };
    let (field, seen) = (format!("class {number} slot size"), header.slot_size);
    // Of the two, the one that hardly is a size by chance goes first.
    let size = elect(&field, seen, [by_length(), Some(seen), None], SLOT_SIZE, findings);
    let shape = size.map(|slot_size| SizeClass { slot_size, slot_count });
    Ok(shape.and_then(|shape| Some((shape, extent.checked_add(shape.extent_size()?)?))))
}
