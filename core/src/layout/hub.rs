//! The structures of a hub: its header, its peers' entries, its size classes and their slots.

use static_assertions::const_assert;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::at::{At, at};
use super::slots::SlotMeta;

/// The first eight bytes of a hub.
pub const HUB_MAGIC: [u8; 8] = *b"RAPAHUB\0";

/// Version of the bytes of a hub whose size classes are [`HUB_SIZE_CLASSES`](super::HUB_SIZE_CLASSES): major in the high
/// half, minor in the low.
pub const HUB_PROTOCOL_VERSION: u32 = 1 << 16;

/// Version of the bytes of a hub with size classes of its own. Version 1.0 peers calculate where everything is from the
/// default classes and never read them, so they must refuse such a hub, and do.
pub const HUB_OWN_CLASSES_VERSION: u32 = 2 << 16;

/// Version of the bytes of a hub that may grow. What knows only the versions before takes the first extent of a class for
/// all of it, and would see a slot of another one as rubbish; so it must refuse such a hub, and does.
pub const HUB_GROWABLE_VERSION: u32 = 3 << 16;

/// Entries of the peer table at most. Entry 0 is the host's, so this is one more than there can be plugins.
pub const MAX_PEERS: u16 = 32;

/// Size classes of every hub.
pub const NUM_SIZE_CLASSES: usize = 5;

/// Extents that a size class has room to name, and may have.
pub const MAX_EXTENTS_PER_CLASS: usize = 16;

/// Descriptors per ring of a hub unless the caller says otherwise.
pub const DEFAULT_HUB_RING_CAPACITY: u32 = 256;

/// The owner of a slot that is free.
pub const NO_OWNER: u32 = u32::MAX;

/// The type of a [`PeerEntry`]: a plugin.
pub const PEER_TYPE_PLUGIN: u16 = 1;

/// Flag of a [`PeerEntry`]: a peer is there.
pub const PEER_FLAG_ACTIVE: u32 = 1;
/// Flag of a [`PeerEntry`]: the peer is about to leave. Nobody sets it; version 1.0 clears it.
pub const PEER_FLAG_DYING: u32 = 2;
/// Flag of a [`PeerEntry`]: the peer is gone.
pub const PEER_FLAG_DEAD: u32 = 4;
/// Flag of a [`PeerEntry`]: the entry was given out, and its peer is expected.
pub const PEER_FLAG_RESERVED: u32 = 8;

/// Header of a hub.
///
/// The words from 72 on are this project's; version 1.0 reserves their bytes and leaves them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct HubHeader {
    /// [`HUB_MAGIC`].
    pub magic: [u8; 8],
    /// [`HUB_PROTOCOL_VERSION`], [`HUB_OWN_CLASSES_VERSION`] or [`HUB_GROWABLE_VERSION`].
    pub version: u32,
    /// Zero.
    pub flags: u32,
    /// Entries of the peer table.
    pub max_peers: u16,
    /// Peers added minus peers removed.
    pub active_peers: u16,
    /// Peers ever added, modulo 65536.
    pub peer_id_counter: u16,
    /// Zero.
    pub pad: u16,
    /// Bytes up to the end of the last extent. (For who looks in from outside: `grown` is what members go by.)
    pub current_size: u64,
    /// Extents of all size classes. (Likewise.)
    pub extent_count: u32,
    /// Descriptors per ring.
    pub ring_capacity: u32,
    /// Where the peer table is, in bytes from the start, like the three below.
    pub peer_table: u64,
    /// Where the rings are.
    pub rings: u64,
    /// Where the [`SizeClassHeader`]s are.
    pub size_classes: u64,
    /// Where the extents are.
    pub extents: u64,
    /// [`PeerState`](super::PeerState) of the host; 0 = a version 1.0 host. Ours.
    pub host_state: u32,
    /// Sequence word of the host waiting for data from whichever plugin. Ours.
    pub host_sequence: u32,
    /// How the host waits for data from whichever plugin ([`crate::wake`] has the values). One word for all plugins, so
    /// that the host marks it once and not 31 times. Ours.
    pub host_sleeper: u32,
    /// Whether the host doubts who has some slot, and wants to be told by whoever announced one in vain: 0 = no. Ours.
    pub in_doubt: u32,
    /// One bit for each sender that must be looked at when a slot was freed: bit N for that of plugin N, bit 32 + N for
    /// the host's sender to plugin N; 0 = nobody waits (version 1.0 peers never do). Ours.
    pub slot_waiters: u64,
    /// Zero.
    pub reserved: [u8; 128],
    /// A byte for each size class, the smallest class in the lowest: how many extents it has beyond its first. A hub grows
    /// by one compare-exchange of this word. Zero in a hub that does not grow, as are the two below. Ours.
    pub grown: u64,
    /// Bytes of everything up to the first extents' end and of all further extents that the hub may have: who would make it
    /// larger does not. Ours.
    pub max_size: u64,
    /// Extents that each size class may have. Ours.
    pub max_extents: u32,
    /// Zero.
    pub pad_growth: [u8; 12],
}

const_assert!(size_of::<HubHeader>() == 256);
const_assert!(align_of::<HubHeader>() == 64);
const_assert!(core::mem::offset_of!(HubHeader, magic) == 0);
const_assert!(core::mem::offset_of!(HubHeader, version) == 8);
const_assert!(core::mem::offset_of!(HubHeader, flags) == 12);
const_assert!(core::mem::offset_of!(HubHeader, max_peers) == 16);
const_assert!(core::mem::offset_of!(HubHeader, active_peers) == 18);
const_assert!(core::mem::offset_of!(HubHeader, peer_id_counter) == 20);
const_assert!(core::mem::offset_of!(HubHeader, pad) == 22);
const_assert!(core::mem::offset_of!(HubHeader, current_size) == 24);
const_assert!(core::mem::offset_of!(HubHeader, extent_count) == 32);
const_assert!(core::mem::offset_of!(HubHeader, ring_capacity) == 36);
const_assert!(core::mem::offset_of!(HubHeader, peer_table) == 40);
const_assert!(core::mem::offset_of!(HubHeader, rings) == 48);
const_assert!(core::mem::offset_of!(HubHeader, size_classes) == 56);
const_assert!(core::mem::offset_of!(HubHeader, extents) == 64);
const_assert!(core::mem::offset_of!(HubHeader, host_state) == 72);
const_assert!(core::mem::offset_of!(HubHeader, host_sequence) == 76);
const_assert!(core::mem::offset_of!(HubHeader, host_sleeper) == 80);
const_assert!(core::mem::offset_of!(HubHeader, in_doubt) == 84);
const_assert!(core::mem::offset_of!(HubHeader, slot_waiters) == 88);
const_assert!(core::mem::offset_of!(HubHeader, reserved) == 96);
const_assert!(core::mem::offset_of!(HubHeader, grown) == 224);
const_assert!(core::mem::offset_of!(HubHeader, max_size) == 232);
const_assert!(core::mem::offset_of!(HubHeader, max_extents) == 240);
const_assert!(core::mem::offset_of!(HubHeader, pad_growth) == 244);

impl HubHeader {
    /// The word behind `magic`; written last by the creator.
    pub const MAGIC: At<u64> = at!(Self, magic);
    /// The word behind `version`.
    pub const VERSION: At<u32> = at!(Self, version);
    /// The word behind `max_peers` and `active_peers`, which only the host writes.
    pub const MAX_AND_ACTIVE_PEERS: At<u32> = at!(Self, max_peers);
    /// The word behind `peer_id_counter` and its padding, which only the host writes.
    pub const PEER_ID_COUNTER: At<u32> = at!(Self, peer_id_counter);
    /// The word behind `current_size`.
    pub const CURRENT_SIZE: At<u64> = at!(Self, current_size);
    /// The word behind `extent_count`.
    pub const EXTENT_COUNT: At<u32> = at!(Self, extent_count);
    /// The word behind `ring_capacity`, read once at attach.
    pub const RING_CAPACITY: At<u32> = at!(Self, ring_capacity);
    /// The word behind `peer_table`.
    pub const PEER_TABLE: At<u64> = at!(Self, peer_table);
    /// The word behind `rings`.
    pub const RINGS: At<u64> = at!(Self, rings);
    /// The word behind `size_classes`.
    pub const SIZE_CLASSES: At<u64> = at!(Self, size_classes);
    /// The word behind `extents`.
    pub const EXTENTS: At<u64> = at!(Self, extents);
    /// The shared word behind `host_state`.
    pub const HOST_STATE: At<u32> = at!(Self, host_state);
    /// The shared word behind `host_sequence`.
    pub const HOST_SEQUENCE: At<u32> = at!(Self, host_sequence);
    /// The shared word behind `host_sleeper`.
    pub const HOST_SLEEPER: At<u32> = at!(Self, host_sleeper);
    /// The shared word behind `in_doubt`.
    pub const IN_DOUBT: At<u32> = at!(Self, in_doubt);
    /// The shared word behind `slot_waiters`.
    pub const SLOT_WAITERS: At<u64> = at!(Self, slot_waiters);
    /// The shared word behind `grown`.
    pub const GROWN: At<u64> = at!(Self, grown);
    /// The shared word behind `max_size`.
    pub const MAX_SIZE: At<u64> = at!(Self, max_size);
    /// The word behind `max_extents`, read once at attach.
    pub const MAX_EXTENTS: At<u32> = at!(Self, max_extents);
}

/// Announcements that the threads of one peer share: as many allocate or free at a time.
pub const ANNOUNCEMENTS: usize = 3;

/// What a hub knows of one peer. Entry 0 is the host's, of which only the words from 48 on are used (a version 1.0 host
/// has no entry and gives this one to its first peer).
///
/// The words from 48 on are this project's; version 1.0 leaves their bytes zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct PeerEntry {
    /// The peer's number.
    pub peer_id: u16,
    /// [`PEER_TYPE_PLUGIN`].
    pub peer_type: u16,
    /// [`PEER_FLAG_ACTIVE`] and its neighbours.
    pub flags: u32,
    /// Heartbeats (version 1.0 peers only).
    pub epoch: u64,
    /// Last heartbeat, nanoseconds of the wall clock since 1970 (version 1.0 peers only).
    pub last_seen: u64,
    /// Where the ring from the peer to the host is, in bytes from the start of the hub.
    pub to_host_ring: u64,
    /// Where the ring from the host to the peer is.
    pub to_peer_ring: u64,
    /// Sequence word of the host waiting for data from this peer alone. Version 1.0 peers use it for that and for space.
    pub to_host: u32,
    /// Sequence word of the peer waiting for data. Version 1.0 hosts use it for that and for space.
    pub to_peer: u32,
    /// [`PeerState`](super::PeerState) of the peer. Ours.
    pub state: u32,
    /// One more than the reference of each slot that a thread of this peer is about to take or to give back; 0 = none.
    /// What a peer that was killed had in its hands is one of these. Ours.
    pub announced: [u32; ANNOUNCEMENTS],
}

const_assert!(size_of::<PeerEntry>() == 64);
const_assert!(align_of::<PeerEntry>() == 64);
const_assert!(core::mem::offset_of!(PeerEntry, peer_id) == 0);
const_assert!(core::mem::offset_of!(PeerEntry, peer_type) == 2);
const_assert!(core::mem::offset_of!(PeerEntry, flags) == 4);
const_assert!(core::mem::offset_of!(PeerEntry, epoch) == 8);
const_assert!(core::mem::offset_of!(PeerEntry, last_seen) == 16);
const_assert!(core::mem::offset_of!(PeerEntry, to_host_ring) == 24);
const_assert!(core::mem::offset_of!(PeerEntry, to_peer_ring) == 32);
const_assert!(core::mem::offset_of!(PeerEntry, to_host) == 40);
const_assert!(core::mem::offset_of!(PeerEntry, to_peer) == 44);
const_assert!(core::mem::offset_of!(PeerEntry, state) == 48);
const_assert!(core::mem::offset_of!(PeerEntry, announced) == 52);

impl PeerEntry {
    /// The word behind `peer_id` and `peer_type`, which only the host writes.
    pub const ID_AND_TYPE: At<u32> = at!(Self, peer_id);
    /// The shared word behind `flags`.
    pub const FLAGS: At<u32> = at!(Self, flags);
    /// The shared word behind `epoch`.
    pub const EPOCH: At<u64> = at!(Self, epoch);
    /// The shared word behind `last_seen`.
    pub const LAST_SEEN: At<u64> = at!(Self, last_seen);
    /// The word behind `to_host_ring`.
    pub const TO_HOST_RING: At<u64> = at!(Self, to_host_ring);
    /// The word behind `to_peer_ring`.
    pub const TO_PEER_RING: At<u64> = at!(Self, to_peer_ring);
    /// The shared word behind `to_host`.
    pub const TO_HOST: At<u32> = at!(Self, to_host);
    /// The shared word behind `to_peer`.
    pub const TO_PEER: At<u32> = at!(Self, to_peer);
    /// The shared word behind `state`.
    pub const STATE: At<u32> = at!(Self, state);
    /// The shared word behind the first of `announced`; the others follow.
    pub const ANNOUNCED: At<u32> = at!(Self, announced);
}

/// One size class: what its slots are like, and which are free.
///
/// `quota` and `fresh` are this project's; version 1.0 leaves their bytes zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct SizeClassHeader {
    /// Size of a slot in bytes.
    pub slot_size: u32,
    /// Slots of all its extents. (In a hub that grows, for who looks in from outside: members go by
    /// [`grown`](HubHeader::grown).)
    pub total_slots: u32,
    /// Free list head: low half the first free slot, high half a tag that grows at every pop and push.
    pub free_head: u64,
    /// Bumped when a slot was freed. Whoever waits for a slot, of whatever class, sleeps on that of class 0.
    pub slot_available: u32,
    /// Bits of a global index that say which slot of its extent is meant.
    pub shift: u8,
    /// Extents. (As with `total_slots`.)
    pub extent_count: u8,
    /// Zero.
    pub pad: u16,
    /// Where each extent is, in bytes from the start of the hub; 0 = none. Nobody of ours reads more than the first: where
    /// the others are follows from the shape.
    pub extents: [u64; MAX_EXTENTS_PER_CLASS],
    /// Slots of this class that one plugin may have at a time, 0 = any number. Ours.
    pub quota: u32,
    /// In a hub that grows, the global index of the first slot that nobody has ever taken. It starts behind the first
    /// extent, whose slots are in the free list from the beginning; a slot of a further one gets there when it is freed for
    /// the first time. Ours.
    pub fresh: u32,
    /// Zero.
    pub reserved: [u8; 32],
}

const_assert!(size_of::<SizeClassHeader>() == 192);
const_assert!(align_of::<SizeClassHeader>() == 64);
const_assert!(core::mem::offset_of!(SizeClassHeader, slot_size) == 0);
const_assert!(core::mem::offset_of!(SizeClassHeader, total_slots) == 4);
const_assert!(core::mem::offset_of!(SizeClassHeader, free_head) == 8);
const_assert!(core::mem::offset_of!(SizeClassHeader, slot_available) == 16);
const_assert!(core::mem::offset_of!(SizeClassHeader, shift) == 20);
const_assert!(core::mem::offset_of!(SizeClassHeader, extent_count) == 21);
const_assert!(core::mem::offset_of!(SizeClassHeader, pad) == 22);
const_assert!(core::mem::offset_of!(SizeClassHeader, extents) == 24);
const_assert!(core::mem::offset_of!(SizeClassHeader, quota) == 152);
const_assert!(core::mem::offset_of!(SizeClassHeader, fresh) == 156);
const_assert!(core::mem::offset_of!(SizeClassHeader, reserved) == 160);

impl SizeClassHeader {
    /// The word behind `slot_size`, read once at attach.
    pub const SLOT_SIZE: At<u32> = at!(Self, slot_size);
    /// The word behind `total_slots`, read once at attach (not in a hub that grows).
    pub const TOTAL_SLOTS: At<u32> = at!(Self, total_slots);
    /// The shared word behind `free_head`.
    pub const FREE_HEAD: At<u64> = at!(Self, free_head);
    /// The shared word behind `slot_available`.
    pub const SLOT_AVAILABLE: At<u32> = at!(Self, slot_available);
    /// The word behind `shift`, `extent_count` and their padding.
    pub const SHIFT_AND_EXTENT_COUNT: At<u32> = at!(Self, shift);
    /// The word behind the first of `extents`; the others follow.
    pub const EXTENTS: At<u64> = at!(Self, extents);
    /// The shared word behind `quota`.
    pub const QUOTA: At<u32> = at!(Self, quota);
    /// The shared word behind `fresh`.
    pub const FRESH: At<u32> = at!(Self, fresh);
}

/// Header of a run of slots: their metadata follows, then their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct ExtentHeader {
    /// Its size class.
    pub class: u8,
    /// Zero.
    pub pad_class: [u8; 3],
    /// Slots.
    pub slot_count: u32,
    /// Where the class's next extent is; never set.
    pub next: u64,
    /// Global index of its first slot.
    pub base_index: u32,
    /// Zero.
    pub pad: u32,
    /// Where the metadata is, in bytes from the start of the extent.
    pub meta_offset: u32,
    /// Where the first slot is, in bytes from the start of the extent.
    pub data_offset: u32,
    /// Zero.
    pub reserved: [u8; 32],
}

const_assert!(size_of::<ExtentHeader>() == 64);
const_assert!(align_of::<ExtentHeader>() == 64);
const_assert!(core::mem::offset_of!(ExtentHeader, class) == 0);
const_assert!(core::mem::offset_of!(ExtentHeader, pad_class) == 1);
const_assert!(core::mem::offset_of!(ExtentHeader, slot_count) == 4);
const_assert!(core::mem::offset_of!(ExtentHeader, next) == 8);
const_assert!(core::mem::offset_of!(ExtentHeader, base_index) == 16);
const_assert!(core::mem::offset_of!(ExtentHeader, pad) == 20);
const_assert!(core::mem::offset_of!(ExtentHeader, meta_offset) == 24);
const_assert!(core::mem::offset_of!(ExtentHeader, data_offset) == 28);
const_assert!(core::mem::offset_of!(ExtentHeader, reserved) == 32);

impl ExtentHeader {
    /// The word behind `class` and its padding.
    pub const CLASS: At<u32> = at!(Self, class);
    /// The word behind `slot_count`.
    pub const SLOT_COUNT: At<u32> = at!(Self, slot_count);
    /// The word behind `base_index`.
    pub const BASE_INDEX: At<u32> = at!(Self, base_index);
    /// The word behind `meta_offset`.
    pub const META_OFFSET: At<u32> = at!(Self, meta_offset);
    /// The word behind `data_offset`.
    pub const DATA_OFFSET: At<u32> = at!(Self, data_offset);
}

/// Metadata of one slot of a hub. Unlike a session's, its link is here and not in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HubSlotMeta {
    /// Generation and state: one 64-bit word.
    pub meta: SlotMeta,
    /// Global index of the next free slot, [`FREE_LIST_END`](super::FREE_LIST_END) = none.
    pub next_free: u32,
    /// Who must free the slot: a peer's number, [`NO_OWNER`] while it is free.
    pub owner: u32,
}

const_assert!(size_of::<HubSlotMeta>() == 16);
const_assert!(align_of::<HubSlotMeta>() == 4);
const_assert!(core::mem::offset_of!(HubSlotMeta, meta) == 0);
const_assert!(core::mem::offset_of!(HubSlotMeta, next_free) == 8);
const_assert!(core::mem::offset_of!(HubSlotMeta, owner) == 12);

impl HubSlotMeta {
    /// The shared word behind `meta`: metadata stands on a multiple of 16.
    pub const META: At<u64> = at!(Self, meta);
    /// The shared word behind `next_free`.
    pub const NEXT_FREE: At<u32> = at!(Self, next_free);
    /// The shared word behind `owner`.
    pub const OWNER: At<u32> = at!(Self, owner);
}
