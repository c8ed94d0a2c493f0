//! One damage, one finding: each kind is produced by exactly the damage that it is about, and names the field.
//!
//! Seen to fail when: the votes of the places that repeat the shape are not counted; the lists returned by A and by B are
//! exchanged; a slot in no list is believed after two looks; a deserted segment is looked at more than once.

use std::mem::offset_of;

use rapace_shm::core::layout::{DataSegmentHeader, DescRingHeader, SegmentHeader};
use rapace_shm::inspect::FindingKind::*;
use rapace_shm::inspect::Report;

use crate::segment::{CONFIG, Case, INLINE_MESSAGE, SLOT_MESSAGE, Segment, check_damages};

const HEADER: &[Case<Segment>] = &[
    (Magic, "header magic", |s| s.put(0, *b"RAPACF\0\0")),
    (Magic, "header magic", |s| s.put(0, [0; 8])),
    (Version, "header version", |s| s.put_u32(SegmentHeader::VERSION, 0, 2 << 16)),
    (Version, "header version", |s| s.put_u32(SegmentHeader::VERSION, 0, 0x100)),
    (Reserved, "header flags", |s| s.bytes[12] = 1),
    (Reserved, "header padding at 28", |s| s.bytes[31] = 1),
    (Reserved, "header reserved bytes at 120", |s| s.bytes[127] = 1),
    (PeerState, "peer A state", |s| s.put_u32(SegmentHeader::PEER_A_STATE, 0, 4)),
    (PeerState, "peer B state", |s| s.put_u32(SegmentHeader::PEER_B_STATE, 0, 9)),
];

const SHAPE: &[Case<Segment>] = &[
    (ShapeInvalid, "header ring capacity", |s| s.put_u32(SegmentHeader::RING_CAPACITY, 0, 3)),
    (ShapeInvalid, "header slot size", |s| s.put_u32(SegmentHeader::SLOT_SIZE, 0, 6)),
    (ShapeInvalid, "header slot count", |s| s.put_u32(SegmentHeader::SLOT_COUNT, 0, 0)),
    (ShapeInvalid, "ring A→B capacity", |s| s.put_u32(DescRingHeader::CAPACITY, s.at.a_to_b_ring, 0)),
    (ShapeDiffers, "header ring capacity", |s| s.put_u32(SegmentHeader::RING_CAPACITY, 0, 16)),
    (ShapeDiffers, "ring A→B capacity", |s| s.put_u32(DescRingHeader::CAPACITY, s.at.a_to_b_ring, 16)),
    (ShapeDiffers, "ring B→A capacity", |s| s.put_u32(DescRingHeader::CAPACITY, s.at.b_to_a_ring, 4)),
    (ShapeDiffers, "header slot size", |s| s.put_u32(SegmentHeader::SLOT_SIZE, 0, 128)),
    (ShapeDiffers, "data header slot size", |s| s.put_u32(DataSegmentHeader::SLOT_SIZE, s.at.data_header, 60)),
    (ShapeDiffers, "data header longest payload", |s| {
        s.put_u32(DataSegmentHeader::MAX_FRAME_SIZE, s.at.data_header, 68)
    }),
    (ShapeDiffers, "header slot count", |s| s.put_u32(SegmentHeader::SLOT_COUNT, 0, 13)),
    (ShapeDiffers, "data header slot count", |s| s.put_u32(DataSegmentHeader::SLOT_COUNT, s.at.data_header, 11)),
    (FileTooShort, "file length", |s| s.bytes.truncate(s.at.end - 1)),
    (FileTooShort, "file length", |s| s.bytes.truncate(s.at.slot_data + 70)),
    (FileTooShort, "file length", |s| s.bytes.truncate(s.at.slot_data - 1)),
    (FileTooShort, "file length", |s| s.bytes.truncate(s.at.data_header)),
    (FileTooShort, "file length", |s| s.bytes.truncate(128)),
    (FileTooLong, "file length", |s| s.bytes.push(0)),
];

const RINGS: &[Case<Segment>] = &[
    (RingIndices, "ring A→B head and tail", |s| s.put_u64(DescRingHeader::TAIL, s.at.a_to_b_ring, 4)),
    (RingIndices, "ring B→A head and tail", |s| s.put_u64(DescRingHeader::VISIBLE_HEAD, s.at.b_to_a_ring, 4 + 9)),
    (Reserved, "ring A→B padding at 8", |s| s.bytes[s.at.a_to_b_ring + 63] = 1),
    (Reserved, "ring B→A padding at 80", |s| s.bytes[s.at.b_to_a_ring + 80] = 1),
    (Reserved, "ring A→B reserved bytes at 148", |s| s.bytes[s.at.a_to_b_ring + 191] = 1),
    (Sleeper, "ring A→B data sleeper", |s| s.put_u32(DescRingHeader::DATA_SLEEPER, s.at.a_to_b_ring, 5)),
    (Sleeper, "ring B→A space sleeper", |s| s.put_u32(DescRingHeader::SPACE_SLEEPER, s.at.b_to_a_ring, u32::MAX)),
    (EndState, "ring A→B producer state", |s| s.put_u32(DescRingHeader::PRODUCER_STATE, s.at.a_to_b_ring, 2)),
    (EndState, "ring B→A consumer state", |s| s.put_u32(DescRingHeader::CONSUMER_STATE, s.at.b_to_a_ring, 2)),
    (InlineLength, "ring A→B message 1", |s| s.put(s.message(INLINE_MESSAGE) + 28, 17_u32.to_ne_bytes())),
    (MessageSlot, "ring A→B message 2", |s| s.put(s.message(SLOT_MESSAGE) + 16, 12_u32.to_ne_bytes())),
    (MessageGeneration, "ring A→B message 2", |s| s.put(s.message(SLOT_MESSAGE) + 20, 77_u32.to_ne_bytes())),
    (MessageRange, "ring A→B message 2", |s| s.put(s.message(SLOT_MESSAGE) + 24, 25_u32.to_ne_bytes())),
    (MessageRange, "ring A→B message 2", |s| s.put(s.message(SLOT_MESSAGE) + 24, [0xFF; 4])),
    (MessageState, "ring A→B message 2", |s| s.put(s.meta(s.sent_slot()) + 4, 1_u32.to_ne_bytes())),
    (MessageTwice, "ring A→B message 2", |s| {
        let (first, second) = (s.message(INLINE_MESSAGE), s.message(SLOT_MESSAGE));
        s.bytes.copy_within(second..second + 64, first);
    }),
];

const SLOTS: &[Case<Segment>] = &[
    (Reserved, "data header padding at 12", |s| s.bytes[s.at.data_header + 12] = 1),
    (Reserved, "data header reserved bytes at 36", |s| s.bytes[s.at.data_header + 63] = 1),
    (Sleeper, "data header slots sleeper of A", |s| s.put_u32(DataSegmentHeader::SLOTS_SLEEPER_A, s.at.data_header, 6)),
    (Sleeper, "data header slots sleeper of B", |s| s.put_u32(DataSegmentHeader::SLOTS_SLEEPER_B, s.at.data_header, 7)),
    (SlotState, "slot 11 state", |s| s.put(s.meta(11) + 4, 4_u32.to_ne_bytes())),
    (FreeLink, "common free list, head", |s| s.put_u64(DataSegmentHeader::FREE_HEAD, s.at.data_header, 12)),
    (FreeLink, "common free list, link of slot 11", |s| s.put(s.link(11), 12_u32.to_ne_bytes())),
    (FreeLink, "list returned by A, head", |s| s.put_u64(DescRingHeader::RETURNED, s.at.b_to_a_ring, 1 + 12)),
    (FreeLink, "list returned by B, head", |s| s.put_u64(DescRingHeader::RETURNED, s.at.a_to_b_ring, 1 + 99)),
    (FreeCycle, "common free list, link of slot 11", |s| s.put(s.link(11), 11_u32.to_ne_bytes())),
    (FreeCycle, "common free list, link of slot 11", |s| s.put(s.link(11), 5_u32.to_ne_bytes())),
    (ListedTwice, "list returned by A, head", |s| s.put_u64(DescRingHeader::RETURNED, s.at.b_to_a_ring, 1 + 11)),
    (ListedNotFree, "list returned by B, head", |s| {
        s.put_u64(DescRingHeader::RETURNED, s.at.a_to_b_ring, 1 + u64::from(s.loaned_slot()));
    }),
    (ListedNotFree, "common free list, link of slot 11", |s| s.put(s.link(11), s.sent_slot().to_ne_bytes())),
    (Unlisted, "slot 4 of generation 0", |s| s.put_u64(DataSegmentHeader::FREE_HEAD, s.at.data_header, 5)),
];

/// Kinds of findings that a session can have; a new one needs a case.
const KINDS: usize = 23;

#[test]
fn each_damage_is_one_finding_that_names_the_field() {
    let cases = [HEADER, SHAPE, RINGS, SLOTS].concat();
    let kinds = check_damages(&Segment::busy(), &cases, |segment| Report::read(&segment.file()));
    assert_eq!(kinds.len(), KINDS);
}

#[test]
fn a_finding_says_what_was_seen_and_what_was_expected() {
    let mut segment = Segment::deserted();
    segment.put(segment.link(11), 99_u32.to_ne_bytes());
    segment.put_u64(DescRingHeader::TAIL, segment.at.b_to_a_ring, 7);
    let report = segment.report().unwrap();
    let said: Vec<_> = report.findings.iter().map(|found| (found.seen.as_str(), found.expected.as_str())).collect();
    let indices = ("head 4, tail 7", "head from tail to tail + 8");
    assert_eq!(said, [indices, ("slot 99", "a slot below 12, or the end")], "{report}");
}

#[test]
fn a_slot_in_no_list_is_doubted_for_longer_while_somebody_may_have_it() {
    for (mut segment, looks) in [(Segment::busy(), 5), (Segment::orphaned(), 2), (Segment::deserted(), 1)] {
        segment.put_u64(DataSegmentHeader::FREE_HEAD, segment.at.data_header, 5);
        let report = segment.report().unwrap();
        assert_eq!((report.findings.len(), report.looks), (1, looks), "{report}");
        segment.put_u64(DataSegmentHeader::FREE_HEAD, segment.at.data_header, 4);
        segment.bytes[12] = 1;
        let report = segment.report().unwrap();
        assert_eq!((report.findings.len(), report.looks), (1, looks.min(2)), "{report}");
    }
}

#[test]
fn findings_without_end_are_counted_and_not_kept() {
    let config = rapace_shm::ShmSessionConfig { slot_count: 5000, ..CONFIG };
    let mut segment = Segment::of(&rapace_shm::ShmSession::create(config).unwrap());
    for slot in 0..5000 {
        segment.put(segment.meta(slot) + offset_of!(rapace_shm::core::layout::SlotMeta, state), [9; 4]);
    }
    let report = segment.report().unwrap();
    assert_eq!((report.findings.len(), report.omitted), (1000, 4000));
    assert!(report.to_string().ends_with("\nand 4000 more"));
}
