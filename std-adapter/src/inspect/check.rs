//! The checks of headers and messages: each field by itself, and against what else was read.

use std::collections::HashMap;
use std::fmt;

use rapace_shm_core::layout::{DataSegmentHeader, INLINE_PAYLOAD_SIZE, MsgDescHot, SegmentHeader, SlotMeta, SlotState};

use super::finding::{FindingKind, Findings};
use super::snapshot::{Parts, RingPart};
use super::words::{self, RINGS};
use super::{PartsReport, RingReport, SlabReport, lists};

/// Points out a byte that is not zero where all must be.
fn zero(findings: &mut Findings, field: impl fmt::Display, bytes: &[u8]) {
    let Some(at) = bytes.iter().position(|byte| *byte != 0) else { return };
    let seen = format!("{:#04x} in byte {at} of {}", bytes[at], bytes.len());
    findings.add(FindingKind::Reserved, field, seen, "zero");
}

/// Points out a word whose value has no name.
fn named(
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
    for (name, ring) in RINGS.into_iter().zip(&parts.rings) {
        ring_header(name, ring, findings);
    }
    data_header(&parts.data, findings);
    let in_rings = messages(parts, findings);
    let (status, lists) = lists::check(parts, findings);
    let [first, second] = &parts.rings;
    let report = |ring: &RingPart| RingReport { header: ring.header, status: ring.status };
    PartsReport {
        config: parts.config,
        rings: [report(first), report(second)],
        slab: SlabReport { header: parts.data, status, in_rings, lists },
    }
}

fn ring_header(name: &str, ring: &RingPart, findings: &mut Findings) {
    let header = &ring.header;
    indices(name, ring, findings);
    zero(findings, format_args!("{name} padding at 8"), &header.pad_head);
    zero(findings, format_args!("{name} padding at 80"), &header.pad_tail);
    for (what, value) in [("data sleeper", header.data_sleeper), ("space sleeper", header.space_sleeper)] {
        named(findings, FindingKind::Sleeper, format_args!("{name} {what}"), value, words::sleeper);
    }
    for (what, value) in [("producer state", header.producer_state), ("consumer state", header.consumer_state)] {
        named(findings, FindingKind::EndState, format_args!("{name} {what}"), value, words::end_state);
    }
    zero(findings, format_args!("{name} reserved bytes at 148"), &header.reserved);
}

fn indices(name: &str, ring: &RingPart, findings: &mut Findings) {
    let status = &ring.status;
    if status.len() > u64::from(status.capacity) {
        let seen = format!("head {}, tail {}", status.visible_head, status.tail);
        let expected = format!("head from tail to tail + {}", status.capacity);
        findings.add(FindingKind::RingIndices, format_args!("{name} head and tail"), seen, expected);
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

/// The messages that nobody has received. Returns how many slots they name.
fn messages(parts: &Parts, findings: &mut Findings) -> u32 {
    let mut named_by = HashMap::new();
    for (name, ring) in RINGS.into_iter().zip(&parts.rings) {
        for (number, message) in (ring.status.tail..).zip(&ring.messages) {
            // What was received meanwhile may have its slot anywhere.
            if number >= ring.tail_after {
                self::message(parts, format!("{name} message {number}"), message, &mut named_by, findings);
            }
        }
    }
    // There are fewer slots than that.
    u32::try_from(named_by.len()).unwrap_or(u32::MAX)
}

/// One message, checked as its receiver will check it. Notes the slot that it names.
fn message(
    parts: &Parts,
    field: String,
    message: &MsgDescHot,
    named_by: &mut HashMap<u32, String>,
    findings: &mut Findings,
) {
    let &MsgDescHot { payload_slot: slot, payload_offset: offset, payload_len: len, .. } = message;
    if message.is_inline() {
        if len as usize > INLINE_PAYLOAD_SIZE {
            let expected = format!("at most {INLINE_PAYLOAD_SIZE} bytes");
            findings.add(FindingKind::InlineLength, field, format_args!("{len} bytes inline"), expected);
        }
        return;
    }
    let Some(meta) = parts.meta.get(slot as usize) else {
        let expected = format!("a slot below {}", parts.config.slot_count);
        return findings.add(FindingKind::MessageSlot, field, format_args!("slot {slot}"), expected);
    };
    if let Some(other) = named_by.get(&slot) {
        let seen = format!("slot {slot}, which {other} names too");
        return findings.add(FindingKind::MessageTwice, field, seen, "a slot of its own");
    }
    if offset.checked_add(len).is_none_or(|end| end > parts.config.slot_size) {
        let seen = format!("{len} bytes from {offset} on in slot {slot}");
        let expected = format!("within {} bytes", parts.config.slot_size);
        findings.add(FindingKind::MessageRange, &field, seen, expected);
    }
    its_slot(&field, message, *meta, findings);
    named_by.insert(slot, field);
}

/// What a message's slot says of itself.
fn its_slot(field: &str, message: &MsgDescHot, meta: SlotMeta, findings: &mut Findings) {
    let &MsgDescHot { payload_slot: slot, payload_generation: generation, .. } = message;
    if generation != meta.generation {
        let seen = format!("slot {slot} of generation {generation}");
        findings.add(FindingKind::MessageGeneration, field, seen, format_args!("its generation, {}", meta.generation));
    } else if matches!(SlotState::from_u32(meta.state), Some(SlotState::Free | SlotState::Allocated)) {
        let seen = format!("slot {slot} in state {}", meta.state);
        findings.add(FindingKind::MessageState, field, seen, "a slot in state 2 (in flight) or 3 (lent)");
    }
}
