//! As `damaged.rs`, for hubs: one damage, one finding.
//!
//! Seen to fail when: the length of an extent has no vote on the size of its slots; an announced slot is missed in the
//! list; the owner of a listed slot is not looked at, or the owner of a message's; a link may lead to the class's count;
//! the owner of a free slot is counted.

use rapace_shm::core::layout::{
    DescRingHeader, ExtentHeader, HubHeader, HubSlotMeta, PeerEntry, SizeClassHeader, encode_slot_ref,
};
use rapace_shm::inspect::FindingKind::*;
use rapace_shm::inspect::{HubReport, Report};

use crate::hub_segment::{Hub, INLINE_MESSAGE, SLOT_MESSAGE};
use crate::segment::{Case, check_damages};

const HEADER: &[Case<Hub>] = &[
    (Magic, "header magic", |h| h.put(0, *b"RAPAHUC\0")),
    (Magic, "header magic", |h| h.put(0, [0; 8])),
    (Version, "header version", |h| h.put_u32(HubHeader::VERSION, 0, 4 << 16)),
    (Reserved, "header flags", |h| h.bytes[12] = 1),
    (Reserved, "header padding at 22", |h| h.bytes[22] = 1),
    (Reserved, "header reserved bytes at 96", |h| h.bytes[223] = 1),
    (Reserved, "header growth", |h| h.bytes[224] = 1),
    (Reserved, "header largest size", |h| h.bytes[239] = 1),
    (Reserved, "header extents at most", |h| h.bytes[240] = 1),
    (Reserved, "header padding at 244", |h| h.bytes[255] = 1),
    (PeerState, "host state", |h| h.put_u32(HubHeader::HOST_STATE, 0, 7)),
    (Sleeper, "host sleeper", |h| h.put_u32(HubHeader::HOST_SLEEPER, 0, 9)),
    (Flag, "header in doubt", |h| h.put_u32(HubHeader::IN_DOUBT, 0, 2)),
    (Waiter, "header waiters for a slot", |h| h.put_u64(HubHeader::SLOT_WAITERS, 0, 1 << 5 | 1 << 3)),
    (Waiter, "header waiters for a slot", |h| h.put_u64(HubHeader::SLOT_WAITERS, 0, 1)),
    (PeerCount, "header active peers", |h| h.put(18, 2_u16.to_ne_bytes())),
];

const SHAPE: &[Case<Hub>] = &[
    (ShapeDiffers, "header peers at most", |h| h.put(16, 0_u16.to_ne_bytes())),
    (ShapeDiffers, "header peers at most", |h| h.put(16, 6_u16.to_ne_bytes())),
    (ShapeDiffers, "header ring capacity", |h| h.put_u32(HubHeader::RING_CAPACITY, 0, 3)),
    (ShapeDiffers, "header ring capacity", |h| h.put_u32(HubHeader::RING_CAPACITY, 0, 16)),
    (ShapeDiffers, "header size", |h| h.put_u64(HubHeader::CURRENT_SIZE, 0, 1)),
    (ShapeDiffers, "header extents", |h| h.put_u32(HubHeader::EXTENT_COUNT, 0, 6)),
    (ShapeDiffers, "header offset of the peer table", |h| h.put_u64(HubHeader::PEER_TABLE, 0, 0)),
    (ShapeDiffers, "header offset of the rings", |h| h.put_u64(HubHeader::RINGS, 0, 256 + 64 * 7)),
    (ShapeDiffers, "header offset of the size classes", |h| h.put_u64(HubHeader::SIZE_CLASSES, 0, 4096)),
    (ShapeDiffers, "header offset of the extents", |h| h.put_u64(HubHeader::EXTENTS, 0, u64::MAX)),
    (ShapeDiffers, "ring 0→host capacity", |h| h.put_u32(DescRingHeader::CAPACITY, h.ring(0), 16)),
    (ShapeDiffers, "ring host→3 capacity", |h| h.put_u32(DescRingHeader::CAPACITY, h.ring(7), 0)),
    (ShapeDiffers, "class 0 slot size", |h| h.put_u32(SizeClassHeader::SLOT_SIZE, h.class(0), 128)),
    (ShapeDiffers, "class 4 slot size", |h| h.put_u32(SizeClassHeader::SLOT_SIZE, h.class(4), 4096)),
    (ShapeDiffers, "class 1 slots", |h| h.put_u32(SizeClassHeader::TOTAL_SLOTS, h.class(1), 8)),
    (ShapeDiffers, "class 1 slots", |h| h.put_u32(SizeClassHeader::TOTAL_SLOTS, h.class(1), u32::MAX)),
    (ShapeDiffers, "class 2 shift", |h| h.put(h.class(2) + 20, [200])),
    (ShapeDiffers, "class 2 extents", |h| h.put(h.class(2) + 21, [2])),
    (ShapeDiffers, "class 3 offset of extent 0", |h| h.put_u64(SizeClassHeader::EXTENTS, h.class(3), 64)),
    (ShapeDiffers, "class 3 offset of extent 15", |h| h.put(h.class(3) + 24 + 15 * 8, 64_u64.to_ne_bytes())),
    (ShapeDiffers, "class 4 extent's class", |h| h.put(h.at.extents[4], [3])),
    (ShapeDiffers, "class 4 extent's slots", |h| h.put_u32(ExtentHeader::SLOT_COUNT, h.at.extents[4], 8)),
    (ShapeDiffers, "class 0 extent's next extent", |h| h.put(h.at.extents[0] + 8, [1])),
    (ShapeDiffers, "class 0 extent's first index", |h| h.put(h.at.extents[0] + 16, [1])),
    (ShapeDiffers, "class 0 extent's offset of the metadata", |h| h.put(h.at.extents[0] + 24, [0])),
    (ShapeDiffers, "class 0 extent's offset of the slots", |h| h.put(h.at.extents[0] + 31, [1])),
    (FileTooShort, "file length", |h| h.bytes.truncate(h.at.end - 1)),
    (FileTooShort, "file length", |h| h.bytes.truncate(h.at.extents[4])),
    (FileTooLong, "file length", |h| h.bytes.push(0)),
];

const PEERS: &[Case<Hub>] = &[
    (PeerNumber, "plugin 1 number and type", |h| h.put(h.entry(1), [2])),
    (PeerNumber, "host number and type", |h| h.put(h.entry(0) + 2, [2])),
    (PeerFlags, "plugin 1 flags", |h| h.put_u32(PeerEntry::FLAGS, h.entry(1), 1 | 8)),
    (PeerFlags, "plugin 2 flags", |h| h.put_u32(PeerEntry::FLAGS, h.entry(2), 16 | 1)),
    (PeerState, "plugin 3 state", |h| h.put_u32(PeerEntry::STATE, h.entry(3), 4)),
    (ShapeDiffers, "plugin 2 offset of its ring to the host", |h| h.put(h.entry(2) + 24, [1])),
    (ShapeDiffers, "host offset of the host's ring to it", |h| h.put(h.entry(0) + 32, [1])),
    (Announcement, "plugin 1 announcement 0", |h| h.put_u32(PeerEntry::ANNOUNCED, h.entry(1), 17)),
    (Announcement, "host announcement 2", |h| h.put(h.entry(0) + 60, [0xFF; 4])),
];

const RINGS: &[Case<Hub>] = &[
    (RingIndices, "ring 1→host head and tail", |h| h.put_u64(DescRingHeader::TAIL, h.ring(2), 6)),
    (RingIndices, "ring host→3 head and tail", |h| h.put_u64(DescRingHeader::VISIBLE_HEAD, h.ring(7), 9)),
    (Reserved, "ring 1→host list of returned slots", |h| h.put_u64(DescRingHeader::RETURNED, h.ring(2), 1)),
    (Reserved, "ring host→1 reserved bytes at 180", |h| h.put(h.ring(3) + 191, [1])),
    (Reserved, "ring 0→host padding at 8", |h| h.put(h.ring(0) + 8, [1])),
    (Sleeper, "ring 1→host data sleeper", |h| h.put_u32(DescRingHeader::DATA_SLEEPER, h.ring(2), 5)),
    (Sleeper, "ring host→1 slots sleeper", |h| h.put_u32(DescRingHeader::SLOTS_SLEEPER, h.ring(3), 5)),
    (Flag, "ring 2→host waits with others", |h| h.put_u32(DescRingHeader::WAITS_WITH_OTHERS, h.ring(4), 2)),
    (EndState, "ring host→2 consumer state", |h| h.put_u32(DescRingHeader::CONSUMER_STATE, h.ring(5), 2)),
    (PeerState, "ring 2→host consumer's peer state", |h| {
        h.put_u32(DescRingHeader::CONSUMER_PEER_STATE, h.ring(4), 9);
    }),
    (InlineLength, "ring 1→host message 3", |h| h.put(h.message(INLINE_MESSAGE) + 28, 17_u32.to_ne_bytes())),
    (MessageSlot, "ring 1→host message 4", |h| {
        h.put(h.message(SLOT_MESSAGE) + 16, encode_slot_ref(1, 4).to_ne_bytes());
    }),
    (MessageSlot, "ring 1→host message 4", |h| {
        h.put(h.message(SLOT_MESSAGE) + 16, encode_slot_ref(5, 0).to_ne_bytes());
    }),
    (MessageGeneration, "ring 1→host message 4", |h| h.put(h.message(SLOT_MESSAGE) + 20, 77_u32.to_ne_bytes())),
    (MessageRange, "ring 1→host message 4", |h| h.put(h.message(SLOT_MESSAGE) + 24, 29_u32.to_ne_bytes())),
    (MessageState, "ring 1→host message 4", |h| h.put(h.meta(1, 0) + 4, 1_u32.to_ne_bytes())),
    (MessageOwner, "ring 1→host message 4", |h| h.put_u32(HubSlotMeta::OWNER, h.meta(1, 0), 2)),
    (MessageTwice, "ring 1→host message 4", |h| {
        let (first, second) = (h.message(INLINE_MESSAGE), h.message(SLOT_MESSAGE));
        h.bytes.copy_within(second..second + 64, first);
    }),
];

const SLOTS: &[Case<Hub>] = &[
    (Reserved, "class 0 padding at 22", |h| h.put(h.class(0) + 23, [1])),
    (Reserved, "class 4 first fresh slot", |h| h.put(h.class(4) + 156, [1])),
    (Reserved, "class 4 reserved bytes at 160", |h| h.put(h.class(4) + 191, [1])),
    (Reserved, "class 1 extent's padding at 1", |h| h.put(h.at.extents[1] + 3, [1])),
    (Reserved, "class 1 extent's padding at 20", |h| h.put(h.at.extents[1] + 20, [1])),
    (Reserved, "class 1 extent's reserved bytes at 32", |h| h.put(h.at.extents[1] + 63, [1])),
    // Lent is a state of sessions.
    (SlotState, "class 4 slot 3 state", |h| h.put(h.meta(4, 3) + 4, 3_u32.to_ne_bytes())),
    (FreeLink, "class 4 free list, head", |h| h.put_u64(SizeClassHeader::FREE_HEAD, h.class(4), 4)),
    (FreeLink, "class 4 free list, link of slot 3", |h| h.put_u32(HubSlotMeta::NEXT_FREE, h.meta(4, 3), 9)),
    (FreeCycle, "class 4 free list, link of slot 3", |h| h.put_u32(HubSlotMeta::NEXT_FREE, h.meta(4, 3), 1)),
    (ListedNotFree, "class 1 free list, link of slot 3", |h| h.put_u32(HubSlotMeta::NEXT_FREE, h.meta(1, 3), 0)),
    (Unlisted, "class 4 slot 0 of generation 0", |h| h.put_u64(SizeClassHeader::FREE_HEAD, h.class(4), 1)),
    (Owner, "class 4 slot 2 of generation 0 owner", |h| h.put_u32(HubSlotMeta::OWNER, h.meta(4, 2), 1)),
    (Owner, "class 3 slot 0 of generation 1 owner", |h| h.put_u32(HubSlotMeta::OWNER, h.meta(3, 0), u32::MAX)),
    (Owner, "class 3 slot 0 of generation 1 owner", |h| h.put_u32(HubSlotMeta::OWNER, h.meta(3, 0), 5)),
    (OwnerRemoved, "class 2 slot 0 of generation 1 owner", |h| {
        // Plugin 2 has received it; it is gone, and nobody reaped it.
        h.put_u32(PeerEntry::FLAGS, h.entry(2), 4);
        h.put_u32(PeerEntry::STATE, h.entry(2), 0);
        h.put(18, 2_u16.to_ne_bytes());
    }),
];

/// Kinds of findings that a hub can have; a new one needs a case. Of a session's only two are none of a hub's: a class has
/// one list, so no slot is listed twice, and a shape that cannot be is in `a_shape_that_cannot_be`.
const KINDS: usize = 30;

#[test]
fn each_damage_is_one_finding_that_names_the_field() {
    let cases = [HEADER, SHAPE, PEERS, RINGS, SLOTS].concat();
    let kinds = check_damages(&Hub::busy(), &cases, |hub| Report::read(&hub.file()));
    assert_eq!(kinds.len(), KINDS);
}

#[test]
fn a_shape_that_cannot_be_is_said_with_the_rule() {
    let mut hub = Hub::busy();
    for (at, value) in [(16, 0_u32), (48, 0), (52, 0)] {
        hub.put(at, value.to_ne_bytes());
    }
    hub.put_u64(PeerEntry::TO_HOST_RING, hub.entry(0), 0);
    let report = hub.report().unwrap();
    let [finding] = report.findings.as_slice() else { panic!("{report}") };
    assert_eq!((finding.kind, finding.expected.as_str()), (ShapeInvalid, "from 1 to 32"), "{report}");
    assert!(report.parts.is_none() && report.to_string().contains("\nthe rest                cannot be found\n"));
}

#[test]
fn an_announced_slot_in_no_list_is_in_somebodys_hands() {
    let mut hub = Hub::busy();
    hub.put_u64(SizeClassHeader::FREE_HEAD, hub.class(4), 1);
    hub.put_u32(PeerEntry::ANNOUNCED, hub.entry(2), encode_slot_ref(4, 0) + 1);
    // Killed between the two steps, it has not yet crossed its name out. That it is free is what counts.
    hub.put_u32(HubSlotMeta::OWNER, hub.meta(4, 0), 2);
    let report = hub.report().unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.parts.as_ref().unwrap().members[2].owned, [0, 0, 1, 0, 0]);
    assert!(report.to_string().contains("\nplugin 2 has in hand    class 4 slot 0\n"), "{report}");
}

#[test]
fn a_lost_slot_is_doubted_for_longer_while_somebody_may_have_it() {
    for (mut hub, looks) in [(Hub::busy(), 5), (Hub::deserted(), 1)] {
        hub.put_u64(SizeClassHeader::FREE_HEAD, hub.class(4), 1);
        let report: HubReport = hub.report().unwrap();
        assert_eq!((report.findings.len(), report.looks), (1, looks), "{report}");
        assert_eq!(HubReport::glance(&hub.file()).unwrap().looks, 1);
    }
}
