//! The header of a session's slab, and the metadata of its slots.

use static_assertions::const_assert;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::at::{At, at};

/// The free list's "no slot".
pub const FREE_LIST_END: u32 = u32::MAX;

/// Geometry of the slab and the head of its free list; the metadata of the slots follows, then their bytes.
///
/// The two sleeper words are this project's; version 1.0 reserves their bytes and leaves them zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct DataSegmentHeader {
    /// Size of a slot in bytes.
    pub slot_size: u32,
    /// Number of slots.
    pub slot_count: u32,
    /// Longest payload in bytes; equals the slot size.
    pub max_frame_size: u32,
    /// Zero.
    pub pad: u32,
    /// Free list head: low half the first free slot, high half a tag that grows at every pop and push.
    pub free_head: u64,
    /// Sequence word of those who wait for a slot.
    pub slot_available: u32,
    /// How peer A waits for a slot ([`crate::wake`] has the values). Ours.
    pub slots_sleeper_a: u32,
    /// How peer B waits for a slot. Ours.
    pub slots_sleeper_b: u32,
    /// Zero.
    pub reserved: [u8; 28],
}

const_assert!(size_of::<DataSegmentHeader>() == 64);
const_assert!(align_of::<DataSegmentHeader>() == 64);
const_assert!(core::mem::offset_of!(DataSegmentHeader, slot_size) == 0);
const_assert!(core::mem::offset_of!(DataSegmentHeader, slot_count) == 4);
const_assert!(core::mem::offset_of!(DataSegmentHeader, max_frame_size) == 8);
const_assert!(core::mem::offset_of!(DataSegmentHeader, pad) == 12);
const_assert!(core::mem::offset_of!(DataSegmentHeader, free_head) == 16);
const_assert!(core::mem::offset_of!(DataSegmentHeader, slot_available) == 24);
const_assert!(core::mem::offset_of!(DataSegmentHeader, slots_sleeper_a) == 28);
const_assert!(core::mem::offset_of!(DataSegmentHeader, slots_sleeper_b) == 32);
const_assert!(core::mem::offset_of!(DataSegmentHeader, reserved) == 36);

impl DataSegmentHeader {
    /// The word behind `slot_size`, read once at attach.
    pub const SLOT_SIZE: At<u32> = at!(Self, slot_size);
    /// The word behind `slot_count`, read once at attach.
    pub const SLOT_COUNT: At<u32> = at!(Self, slot_count);
    /// The word behind `max_frame_size`.
    pub const MAX_FRAME_SIZE: At<u32> = at!(Self, max_frame_size);
    /// The shared word behind `free_head`.
    pub const FREE_HEAD: At<u64> = at!(Self, free_head);
    /// The shared word behind `slot_available`.
    pub const SLOT_AVAILABLE: At<u32> = at!(Self, slot_available);
    /// The shared word behind `slots_sleeper_a`.
    pub const SLOTS_SLEEPER_A: At<u32> = at!(Self, slots_sleeper_a);
    /// The shared word behind `slots_sleeper_b`.
    pub const SLOTS_SLEEPER_B: At<u32> = at!(Self, slots_sleeper_b);
}

/// Who may touch a slot's bytes.
///
/// A set of two shares: 1 is the sender's, 2 the receiver's. Version 1.0 knows the first three states; it never sees the
/// fourth, because bytes are lent only to a peer whose state word says that it is one of ours.
///
/// ```text
///              allocate             send                     drop
///   0 free ---------------> 1 ---------------> 2 in flight ---------> 0 free
///                     allocated
///                           | lend
///                           v     the sender lets go first
///                        3 lent --------------------------> 2
///                           |     the receiver lets go first
///                           +-----------------------------> 1
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// Nobody: the slot is in the free list.
    Free = 0,
    /// The peer that allocated it, which is writing.
    Allocated = 1,
    /// The peer it was sent to.
    InFlight = 2,
    /// Both, and neither writes: the sender reads on what it has sent. Whoever lets go last frees the slot. Ours.
    Lent = 3,
}

impl SlotState {
    /// The state with this number, if it is one.
    #[must_use]
    #[inline]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Free),
            1 => Some(Self::Allocated),
            2 => Some(Self::InFlight),
            3 => Some(Self::Lent),
            _ => None,
        }
    }
}

/// Generation and state of one slot: neighbours, so that one 64-bit compare-exchange changes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SlotMeta {
    /// Grows by one (wrapping) at every allocation.
    pub generation: u32,
    /// A [`SlotState`] as a number.
    pub state: u32,
}

const_assert!(size_of::<SlotMeta>() == 8);
const_assert!(align_of::<SlotMeta>() == 4);
const_assert!(core::mem::offset_of!(SlotMeta, generation) == 0);
const_assert!(core::mem::offset_of!(SlotMeta, state) == 4);

impl SlotMeta {
    /// A slot of this generation in this state.
    #[must_use]
    #[inline]
    pub const fn new(generation: u32, state: SlotState) -> Self {
        Self { generation, state: state as u32 }
    }

    /// Both fields as one word, in the byte order that the two fields have in memory.
    #[must_use]
    #[inline]
    pub fn to_word(self) -> u64 {
        zerocopy::transmute!(self)
    }

    /// The two fields that a word holds.
    #[must_use]
    #[inline]
    pub fn from_word(word: u64) -> Self {
        zerocopy::transmute!(word)
    }
}
