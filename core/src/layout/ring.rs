//! The header of a descriptor ring.

use static_assertions::const_assert;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::at::{At, at};

/// Head, tail and the words around them: three cache lines, then `capacity` descriptors follow.
///
/// ```text
///   0  visible_head   written by the producer     one line each, so that
///  64  tail           written by the consumer     neither slows the other down
///  72  returned       written by the consumer     (the producer takes it all, seldom)
/// 128  capacity       never changes
/// 132  data_sleeper   written by the consumer     read at every message, written
/// 136  space_sleeper  written by the producer     only around a sleep and at the end:
/// 140  producer_state written by the producer     the line stays shared by both caches
/// 144  consumer_state written by the consumer
/// 148  seven words that only the rings of a hub use
/// ```
///
/// `returned` and the words from 132 on are this project's; version 1.0 reserves their bytes and leaves them zero,
/// and zero is the careful answer of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DescRingHeader {
    /// Messages published since creation.
    pub visible_head: u64,
    /// Zero.
    pub pad_head: [u8; 56],
    /// Messages consumed since creation.
    pub tail: u64,
    /// List of the free slots that the consumer has given back ([`crate::slots`]): a tag in the high half, one more than
    /// the first slot in the low half, 0 = none. Ours.
    pub returned: u64,
    /// Zero.
    pub pad_tail: [u8; 48],
    /// Number of descriptors, a power of two.
    pub capacity: u32,
    /// How the consumer waits for data ([`crate::wake`] has the values). Ours.
    pub data_sleeper: u32,
    /// How the producer waits for space. Ours.
    pub space_sleeper: u32,
    /// 0 = may publish more, 1 = has published its last. Ours.
    pub producer_state: u32,
    /// 0 = may consume more, 1 = takes no more. Ours.
    pub consumer_state: u32,
    /// Sequence word of the producer waiting for space; a session has it in its header. Ours.
    pub space_sequence: u32,
    /// How the producer waits for a slot. Ours.
    pub slots_sleeper: u32,
    /// Where the consumer waits for data: 0 = at `data_sleeper`, 1 = at the hub header's word, for all rings at once. Ours.
    pub waits_with_others: u32,
    /// [`PeerState`](super::PeerState) of the consumer towards this ring's producer: a host's towards one plugin. Ours.
    pub consumer_peer_state: u32,
    /// Process id of the producer, where it can be watched; 0 = not known. Ours.
    pub producer_pid: u32,
    /// When that process started, in clock ticks since boot. Ours.
    pub producer_start: u64,
    /// Inode number of its process id namespace. Ours.
    pub producer_pid_namespace: u32,
    /// Zero.
    pub reserved: [u8; 12],
}

/// Size of [`DescRingHeader`] in bytes.
pub const RING_HEADER_SIZE: usize = 192;

const_assert!(size_of::<DescRingHeader>() == RING_HEADER_SIZE);
const_assert!(align_of::<DescRingHeader>() == 8);
const_assert!(core::mem::offset_of!(DescRingHeader, visible_head) == 0);
const_assert!(core::mem::offset_of!(DescRingHeader, tail) == 64);
const_assert!(core::mem::offset_of!(DescRingHeader, returned) == 72);
const_assert!(core::mem::offset_of!(DescRingHeader, capacity) == 128);
const_assert!(core::mem::offset_of!(DescRingHeader, data_sleeper) == 132);
const_assert!(core::mem::offset_of!(DescRingHeader, space_sleeper) == 136);
const_assert!(core::mem::offset_of!(DescRingHeader, producer_state) == 140);
const_assert!(core::mem::offset_of!(DescRingHeader, consumer_state) == 144);
const_assert!(core::mem::offset_of!(DescRingHeader, space_sequence) == 148);
const_assert!(core::mem::offset_of!(DescRingHeader, slots_sleeper) == 152);
const_assert!(core::mem::offset_of!(DescRingHeader, waits_with_others) == 156);
const_assert!(core::mem::offset_of!(DescRingHeader, consumer_peer_state) == 160);
const_assert!(core::mem::offset_of!(DescRingHeader, producer_pid) == 164);
const_assert!(core::mem::offset_of!(DescRingHeader, producer_start) == 168);
const_assert!(core::mem::offset_of!(DescRingHeader, producer_pid_namespace) == 176);
const_assert!(core::mem::offset_of!(DescRingHeader, reserved) == 180);

impl DescRingHeader {
    /// The shared word behind `visible_head`.
    pub const VISIBLE_HEAD: At<u64> = at!(Self, visible_head);
    /// The shared word behind `tail`.
    pub const TAIL: At<u64> = at!(Self, tail);
    /// The shared word behind `returned`.
    pub const RETURNED: At<u64> = at!(Self, returned);
    /// The word behind `capacity`, read once at attach.
    pub const CAPACITY: At<u32> = at!(Self, capacity);
    /// The shared word behind `data_sleeper`.
    pub const DATA_SLEEPER: At<u32> = at!(Self, data_sleeper);
    /// The shared word behind `space_sleeper`.
    pub const SPACE_SLEEPER: At<u32> = at!(Self, space_sleeper);
    /// The shared word behind `producer_state`.
    pub const PRODUCER_STATE: At<u32> = at!(Self, producer_state);
    /// The shared word behind `consumer_state`.
    pub const CONSUMER_STATE: At<u32> = at!(Self, consumer_state);
    /// The shared word behind `space_sequence`.
    pub const SPACE_SEQUENCE: At<u32> = at!(Self, space_sequence);
    /// The shared word behind `slots_sleeper`.
    pub const SLOTS_SLEEPER: At<u32> = at!(Self, slots_sleeper);
    /// The shared word behind `waits_with_others`.
    pub const WAITS_WITH_OTHERS: At<u32> = at!(Self, waits_with_others);
    /// The shared word behind `consumer_peer_state`.
    pub const CONSUMER_PEER_STATE: At<u32> = at!(Self, consumer_peer_state);
    /// The shared word behind `producer_pid`.
    pub const PRODUCER_PID: At<u32> = at!(Self, producer_pid);
    /// The shared word behind `producer_start`.
    pub const PRODUCER_START: At<u64> = at!(Self, producer_start);
    /// The shared word behind `producer_pid_namespace`.
    pub const PRODUCER_PID_NAMESPACE: At<u32> = at!(Self, producer_pid_namespace);
}
