//! The checks of headers: each field by itself, and against what else was read.

use std::cmp::Ordering;
use std::fmt;
use std::mem::offset_of;

use rapace_shm_core::layout::{DataSegmentHeader, DescRingHeader, SegmentHeader, SlotMeta};
use zerocopy::IntoBytes;

use super::finding::{FindingKind, Findings};
use super::messages::{Messages, Named};
use super::snapshot::Parts;
use super::source::Stop;
use super::words::{self, RINGS};
use super::{InspectError, MAX_BOOKKEEPING, PartsReport, SlabReport, lists, rings};

/// A wrong magic is a finding only if everything else says what the file is: its length is `end`, which follows from the
/// shape.
pub(super) fn magic(
    len: u64,
    (seen, expected): ([u8; 8], [u8; 8]),
    end: Option<usize>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    if seen == expected {
        return Ok(());
    }
    if end.is_none_or(|end| end as u64 != len) {
        return Err(InspectError::NotASegment { seen }.into());
    }
    findings.add(FindingKind::Magic, "header magic", format!("{seen:02x?}"), format!("{expected:02x?}"));
    Ok(())
}

/// The length of the file against what the shape needs.
pub(super) fn length(len: u64, end: usize, findings: &mut Findings) {
    let kind = match len.cmp(&(end as u64)) {
        Ordering::Less => FindingKind::FileTooShort,
        Ordering::Equal => return,
        Ordering::Greater => FindingKind::FileTooLong,
    };
    findings.add(kind, "file length", format!("{len} bytes"), format!("{end} bytes, by the shape"));
}

/// Whether everything but the payloads is worth the memory.
pub(super) fn bookkeeping(bytes: usize) -> Result<(), Stop> {
    match bytes > MAX_BOOKKEEPING {
        true => Err(InspectError::TooLarge { bytes, limit: MAX_BOOKKEEPING }.into()),
        false => Ok(()),
    }
}

/// Points out a byte that is not zero where all must be.
pub(super) fn zero(findings: &mut Findings, field: impl fmt::Display, bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte != 0) else { return };
    let seen = format!("{:#04x} in byte {at} of {}", bytes[at], bytes.len());
    findings.add(FindingKind::Reserved, field, seen, "zero");
}

/// Points out a word whose value has no name.
pub(super) fn named(
    findings: &mut Findings,
    kind: FindingKind,
    field: impl fmt::Display,
    value: u32,
    name: fn(u32) -> Option<&'static str>,
) {
    if name(value).is_some() {
        return;
    }
    let known: Vec<_> =
        (0..u32::from(u8::MAX)).map_while(|value| Some(format!("{value} ({})", name(value)?))).collect();
    findings.add(kind, field, value, known.join(", "));
}

/// The segment header, but for what says its version and shape.
pub(super) fn segment_header(header: &SegmentHeader, findings: &mut Findings) {
    zero(findings, "header flags", &header.flags.to_ne_bytes());
    zero(findings, "header padding at 28", &header.pad.to_ne_bytes());
    named(findings, FindingKind::PeerState, "peer A state", header.peer_a_state, words::peer_state);
    named(findings, FindingKind::PeerState, "peer B state", header.peer_b_state, words::peer_state);
    zero(findings, "header reserved bytes at 120", &header.reserved);
}

/// Everything behind it.
pub(super) fn parts(parts: &Parts, findings: &mut Findings) -> PartsReport {
    let mut messages = Messages::default();
    for (name, ring) in RINGS.into_iter().zip(&parts.rings) {
        rings::check_header(name, ring, findings);
        // The words from 148 on are a hub's.
        let rest = ring.header.as_bytes().get(offset_of!(DescRingHeader, space_sequence)..);
        zero(findings, format_args!("{name} reserved bytes at 148"), rest.unwrap_or_default());
    }
    data_header(&parts.data, findings);
    for (name, ring) in RINGS.into_iter().zip(&parts.rings) {
        messages.check(name, ring, parts, findings);
    }
    let (status, lists) = lists::of_session(parts, findings);
    let [first, second] = &parts.rings;
    PartsReport {
        config: parts.config,
        rings: [first.report(), second.report()],
        slab: SlabReport { header: parts.data, status, in_rings: messages.count(|_| true), lists },
    }
}

/// A message names a session's slot by its number.
impl Named for Parts {
    const ON_THE_WAY: &'static str = "a slot in state 2 (in flight) or 3 (lent)";

    fn find(&self, reference: u32) -> Option<(SlotMeta, u32)> {
        self.meta.get(reference as usize).map(|meta| (*meta, self.config.slot_size))
    }

    fn name(&self, reference: u32) -> String {
        format!("slot {reference}")
    }

    fn rule(&self) -> String {
        format!("a slot below {}", self.config.slot_count)
    }
}

fn data_header(header: &DataSegmentHeader, findings: &mut Findings) {
    zero(findings, "data header padding at 12", &header.pad.to_ne_bytes());
    for (what, value) in [("A", header.slots_sleeper_a), ("B", header.slots_sleeper_b)] {
        let field = format_args!("data header slots sleeper of {what}");
        named(findings, FindingKind::Sleeper, field, value, words::sleeper);
    }
    zero(findings, "data header reserved bytes at 36", &header.reserved);
}
