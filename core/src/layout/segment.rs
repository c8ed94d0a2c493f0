//! A two-peer session: its header, its shape, and where everything is.

use static_assertions::const_assert;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::at::{At, Span, at};
use super::descriptor::MsgDescHot;
use super::ring::RING_HEADER_SIZE;
use super::slots::{DataSegmentHeader, SlotMeta};

/// The first eight bytes of a session segment.
pub const MAGIC: [u8; 8] = *b"RAPACE\0\0";

/// Version of the bytes (not of this crate): major in the high half, minor in the low. A peer accepts any minor
/// version of its own major version.
pub const PROTOCOL_VERSION: u32 = 1 << 16;

/// Descriptors per ring unless the caller says otherwise.
pub const DEFAULT_RING_CAPACITY: u32 = 256;

/// Slots unless the caller says otherwise.
pub const DEFAULT_SLOT_COUNT: u32 = 64;

/// Slot size in bytes unless the caller says otherwise.
pub const DEFAULT_SLOT_SIZE: u32 = 4096;

/// Header of a session segment.
///
/// The words from 80 on are this project's; version 1.0 reserves their bytes and leaves them zero. Those from 88 on say
/// which process a peer is, for peers that met by a path and have no life socket to tell them of each other's death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct SegmentHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`PROTOCOL_VERSION`] of the creator.
    pub version: u32,
    /// Zero.
    pub flags: u32,
    /// Descriptors per ring.
    pub ring_capacity: u32,
    /// Bytes per slot.
    pub slot_size: u32,
    /// Slots.
    pub slot_count: u32,
    /// Zero.
    pub pad: u32,
    /// Heartbeats of peer A (version 1.0 peers only).
    pub peer_a_epoch: u64,
    /// Heartbeats of peer B (version 1.0 peers only).
    pub peer_b_epoch: u64,
    /// Last heartbeat of peer A, nanoseconds of the wall clock since 1970 (version 1.0 peers only).
    pub peer_a_last_seen: u64,
    /// Last heartbeat of peer B, likewise.
    pub peer_b_last_seen: u64,
    /// Sequence word of B waiting for data from A.
    pub a_to_b_data: u32,
    /// Sequence word of A waiting for space on the way to B.
    pub a_to_b_space: u32,
    /// Sequence word of A waiting for data from B.
    pub b_to_a_data: u32,
    /// Sequence word of B waiting for space on the way to A.
    pub b_to_a_space: u32,
    /// [`PeerState`] of A. Ours.
    pub peer_a_state: u32,
    /// [`PeerState`] of B. Ours.
    pub peer_b_state: u32,
    /// Process id of A, 0 = not said. Ours.
    pub peer_a_pid: u32,
    /// Inode number of A's process id namespace, 0 = not said. Ours.
    pub peer_a_pid_namespace: u32,
    /// When A's process started, in clock ticks since boot: tells it from a later one with the same id. Ours.
    pub peer_a_start: u64,
    /// Process id of B, likewise. Ours.
    pub peer_b_pid: u32,
    /// Inode number of B's process id namespace. Ours.
    pub peer_b_pid_namespace: u32,
    /// When B's process started. Ours.
    pub peer_b_start: u64,
    /// Zero.
    pub reserved: [u8; 8],
}

const_assert!(size_of::<SegmentHeader>() == 128);
const_assert!(align_of::<SegmentHeader>() == 64);
const_assert!(core::mem::offset_of!(SegmentHeader, magic) == 0);
const_assert!(core::mem::offset_of!(SegmentHeader, version) == 8);
const_assert!(core::mem::offset_of!(SegmentHeader, flags) == 12);
const_assert!(core::mem::offset_of!(SegmentHeader, ring_capacity) == 16);
const_assert!(core::mem::offset_of!(SegmentHeader, slot_size) == 20);
const_assert!(core::mem::offset_of!(SegmentHeader, slot_count) == 24);
const_assert!(core::mem::offset_of!(SegmentHeader, pad) == 28);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_epoch) == 32);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_epoch) == 40);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_last_seen) == 48);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_last_seen) == 56);
const_assert!(core::mem::offset_of!(SegmentHeader, a_to_b_data) == 64);
const_assert!(core::mem::offset_of!(SegmentHeader, a_to_b_space) == 68);
const_assert!(core::mem::offset_of!(SegmentHeader, b_to_a_data) == 72);
const_assert!(core::mem::offset_of!(SegmentHeader, b_to_a_space) == 76);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_state) == 80);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_state) == 84);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_pid) == 88);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_pid_namespace) == 92);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_a_start) == 96);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_pid) == 104);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_pid_namespace) == 108);
const_assert!(core::mem::offset_of!(SegmentHeader, peer_b_start) == 112);
const_assert!(core::mem::offset_of!(SegmentHeader, reserved) == 120);

impl SegmentHeader {
    /// A snapshot of the header: the first bytes of a segment, read in whatever way.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// Whether this is the header of a session segment, and of a version that this peer speaks.
    ///
    /// # Errors
    /// [`LayoutError::InvalidMagic`] or [`LayoutError::IncompatibleVersion`].
    pub const fn identify(&self) -> Result<(), LayoutError> {
        identify(u64::from_ne_bytes(self.magic), self.version)
    }

    /// The shape that this snapshot claims for a segment of `available` bytes.
    ///
    /// # Errors
    /// No segment, another version, a shape that the layout cannot carry, or one that needs more bytes.
    pub fn shape(&self, available: usize) -> Result<ShmSessionConfig, LayoutError> {
        self.identify()?;
        let Self { ring_capacity, slot_size, slot_count, .. } = *self;
        let config = ShmSessionConfig { ring_capacity, slot_size, slot_count };
        config.fits(available)?;
        Ok(config)
    }

    /// The word behind `magic`; written last by the creator.
    pub const MAGIC: At<u64> = at!(Self, magic);
    /// The word behind `version`.
    pub const VERSION: At<u32> = at!(Self, version);
    /// The word behind `ring_capacity`, read once at attach.
    pub const RING_CAPACITY: At<u32> = at!(Self, ring_capacity);
    /// The word behind `slot_size`, read once at attach.
    pub const SLOT_SIZE: At<u32> = at!(Self, slot_size);
    /// The word behind `slot_count`, read once at attach.
    pub const SLOT_COUNT: At<u32> = at!(Self, slot_count);
    /// The shared word behind `a_to_b_data`.
    pub const A_TO_B_DATA: At<u32> = at!(Self, a_to_b_data);
    /// The shared word behind `a_to_b_space`.
    pub const A_TO_B_SPACE: At<u32> = at!(Self, a_to_b_space);
    /// The shared word behind `b_to_a_data`.
    pub const B_TO_A_DATA: At<u32> = at!(Self, b_to_a_data);
    /// The shared word behind `b_to_a_space`.
    pub const B_TO_A_SPACE: At<u32> = at!(Self, b_to_a_space);
    /// The shared word behind `peer_a_state`.
    pub const PEER_A_STATE: At<u32> = at!(Self, peer_a_state);
    /// The shared word behind `peer_b_state`.
    pub const PEER_B_STATE: At<u32> = at!(Self, peer_b_state);
    /// The shared word behind `peer_a_last_seen`.
    pub const PEER_A_LAST_SEEN: At<u64> = at!(Self, peer_a_last_seen);
    /// The shared word behind `peer_b_last_seen`.
    pub const PEER_B_LAST_SEEN: At<u64> = at!(Self, peer_b_last_seen);
    /// The shared word behind `peer_a_epoch`.
    pub const PEER_A_EPOCH: At<u64> = at!(Self, peer_a_epoch);
    /// The shared word behind `peer_b_epoch`.
    pub const PEER_B_EPOCH: At<u64> = at!(Self, peer_b_epoch);
    /// The shared word behind `peer_a_pid`.
    pub const PEER_A_PID: At<u32> = at!(Self, peer_a_pid);
    /// The shared word behind `peer_a_pid_namespace`.
    pub const PEER_A_PID_NAMESPACE: At<u32> = at!(Self, peer_a_pid_namespace);
    /// The shared word behind `peer_a_start`.
    pub const PEER_A_START: At<u64> = at!(Self, peer_a_start);
    /// The shared word behind `peer_b_pid`.
    pub const PEER_B_PID: At<u32> = at!(Self, peer_b_pid);
    /// The shared word behind `peer_b_pid_namespace`.
    pub const PEER_B_PID_NAMESPACE: At<u32> = at!(Self, peer_b_pid_namespace);
    /// The shared word behind `peer_b_start`.
    pub const PEER_B_START: At<u64> = at!(Self, peer_b_start);
}

/// Whether a side of a session is taken. Version 1.0 peers never write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PeerState {
    /// Nobody of ours has attached here: nobody at all, or a version 1.0 peer.
    Unknown = 0,
    /// A peer is attached.
    Attached = 1,
    /// The peer has closed both its ends; what it sent may still be in the ring.
    Left = 2,
    /// The peer has gone, and the other one has made room for a successor.
    Vacant = 3,
}

impl PeerState {
    /// The state with this number, if it is one.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Self> {
        match value {
            0 => Some(Self::Unknown),
            1 => Some(Self::Attached),
            2 => Some(Self::Left),
            3 => Some(Self::Vacant),
            _ => None,
        }
    }
}

/// The shape of a session. Both peers must agree on it; an attaching peer reads it from the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShmSessionConfig {
    /// Descriptors per ring, a power of two.
    pub ring_capacity: u32,
    /// Bytes per slot, a multiple of four: the longest payload.
    pub slot_size: u32,
    /// Slots, shared by both directions, and held by whoever has a loan or a payload.
    ///
    /// A peer that receives nothing while it waits for a slot (a server that answers one request before it takes the
    /// next) never gets one from a peer that has filled all of them with requests: have fewer requests under way than
    /// there are slots.
    pub slot_count: u32,
}

impl Default for ShmSessionConfig {
    fn default() -> Self {
        Self { ring_capacity: DEFAULT_RING_CAPACITY, slot_size: DEFAULT_SLOT_SIZE, slot_count: DEFAULT_SLOT_COUNT }
    }
}

/// Why a region cannot be, or cannot become, a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The first eight bytes are not [`MAGIC`].
    #[error("not a rapace segment: it starts with {seen:02x?}; open a segment that a peer has created")]
    InvalidMagic {
        /// The bytes that stand there.
        seen: [u8; 8],
    },
    /// The creator speaks another major version.
    #[error("segment has layout version {}.{}, this peer speaks {}.x; use the same major version on both sides",
        found >> 16, found & 0xffff, expected >> 16)]
    IncompatibleVersion {
        /// [`PROTOCOL_VERSION`] of this peer.
        expected: u32,
        /// The version that stands in the header.
        found: u32,
    },
    /// The region is shorter than the shape needs.
    #[error(
        "segment needs {required} bytes, the region has {available}; make it larger or its rings and slots smaller"
    )]
    SegmentTooSmall {
        /// Bytes that the shape needs.
        required: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The region, or a ring within it, does not start where it must.
    #[error("starts at {address:#x}, which is not a multiple of {align}; align it")]
    Misaligned {
        /// The region's address, or the ring's offset in the region.
        address: usize,
        /// What it must be a multiple of, in bytes.
        align: usize,
    },
    /// The ring capacity is no power of two from 1 to 2^31.
    #[error("ring capacity is {seen}; it must be a power of two from 1 to 2147483648")]
    RingCapacity {
        /// The capacity asked for or seen.
        seen: u32,
    },
    /// A free slot stores a 4-byte link, so its size is a positive multiple of 4.
    #[error("slot size is {seen} bytes; it must be a positive multiple of 4")]
    SlotSize {
        /// The size asked for or seen, in bytes.
        seen: u32,
    },
    /// There must be a slot, and the number 2^32 - 1 means "none".
    #[error("slot count is {seen}; it must be from 1 to 4294967294")]
    SlotCount {
        /// The count asked for or seen.
        seen: u32,
    },
    /// The shape needs more bytes than this machine can address.
    #[error("the shape {config:?} needs more bytes than can be addressed; make it smaller")]
    TooLarge {
        /// The shape.
        config: ShmSessionConfig,
    },
    /// Two places of the segment that must say the same do not.
    #[error("segment contradicts itself: {field} is {seen}, the segment header says {expected}; create it anew")]
    Inconsistent {
        /// Which field.
        field: &'static str,
        /// What the segment header says.
        expected: u32,
        /// What the field says.
        seen: u32,
    },
    /// The shape differs from the one that the caller insists on.
    #[error("segment has the shape {found:?}, expected {expected:?}; configure both peers alike")]
    ConfigMismatch {
        /// The caller's shape.
        expected: ShmSessionConfig,
        /// The segment's shape.
        found: ShmSessionConfig,
    },
}

/// Whether these are the first words of a session segment of this major version.
pub(crate) const fn identify(magic: u64, version: u32) -> Result<(), LayoutError> {
    if magic != u64::from_ne_bytes(MAGIC) {
        return Err(LayoutError::InvalidMagic { seen: magic.to_ne_bytes() });
    }
    if version >> 16 != PROTOCOL_VERSION >> 16 {
        return Err(LayoutError::IncompatibleVersion { expected: PROTOCOL_VERSION, found: version });
    }
    Ok(())
}

impl ShmSessionConfig {
    /// Whether a segment of `available` bytes has room for this shape.
    pub(crate) fn fits(&self, available: usize) -> Result<(), LayoutError> {
        let required = SegmentOffsets::calculate(self)?.end;
        if required > available {
            return Err(LayoutError::SegmentTooSmall { required, available });
        }
        Ok(())
    }

    /// Refuses shapes that the layout cannot carry.
    ///
    /// # Errors
    /// [`LayoutError::RingCapacity`], [`LayoutError::SlotSize`] or [`LayoutError::SlotCount`].
    pub const fn validate(&self) -> Result<(), LayoutError> {
        if !self.ring_capacity.is_power_of_two() {
            return Err(LayoutError::RingCapacity { seen: self.ring_capacity });
        }
        if self.slot_size == 0 || !self.slot_size.is_multiple_of(4) {
            return Err(LayoutError::SlotSize { seen: self.slot_size });
        }
        if self.slot_count == 0 || self.slot_count == u32::MAX {
            return Err(LayoutError::SlotCount { seen: self.slot_count });
        }
        Ok(())
    }
}

/// Where the parts of a session segment are, in bytes from its start. No part is rounded up; everything up to the
/// slot metadata stands on a 64-byte boundary, the slots on an 8-byte one.
///
/// ```text
/// segment header | ring A→B, descriptors | ring B→A, descriptors | data header | metadata | slots
/// ```
///
/// It can only be made by [`SegmentOffsets::calculate`], so whoever has one has a shape that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentOffsets {
    /// Header of the ring from A to B.
    pub a_to_b_ring: usize,
    /// Descriptors of the ring from A to B.
    pub a_to_b_descriptors: usize,
    /// Header of the ring from B to A.
    pub b_to_a_ring: usize,
    /// Descriptors of the ring from B to A.
    pub b_to_a_descriptors: usize,
    /// [`DataSegmentHeader`].
    pub data_header: usize,
    /// [`SlotMeta`] of slot 0.
    pub slot_meta: usize,
    /// First byte of slot 0.
    pub slot_data: usize,
    /// One past the last byte.
    pub end: usize,
}

impl SegmentOffsets {
    /// Places every part of a session of this shape.
    ///
    /// # Errors
    /// What [`ShmSessionConfig::validate`] refuses, and [`LayoutError::TooLarge`].
    pub const fn calculate(config: &ShmSessionConfig) -> Result<Self, LayoutError> {
        if let Err(error) = config.validate() {
            return Err(error);
        }
        match Self::place(config) {
            Some(offsets) => Ok(offsets),
            None => Err(LayoutError::TooLarge { config: *config }),
        }
    }

    /// Header of the ring from A to B.
    pub(crate) const A_TO_B_RING: usize = size_of::<SegmentHeader>();

    /// Header of the ring from B to A. Of a shape whose offsets were calculated: nothing overflows.
    #[inline(always)]
    pub(crate) const fn b_to_a_ring_of(ring_capacity: u32) -> usize {
        Self::A_TO_B_RING + RING_HEADER_SIZE + ring_capacity as usize * size_of::<MsgDescHot>()
    }

    /// The data header, likewise.
    #[inline(always)]
    pub(crate) const fn data_header_of(ring_capacity: u32) -> usize {
        Self::b_to_a_ring_of(ring_capacity) + RING_HEADER_SIZE + ring_capacity as usize * size_of::<MsgDescHot>()
    }

    const fn place(config: &ShmSessionConfig) -> Option<Self> {
        let a_to_b_ring = Self::A_TO_B_RING;
        let a_to_b_descriptors = a_to_b_ring + RING_HEADER_SIZE;
        let b_to_a_ring = match part_after(a_to_b_descriptors, config.ring_capacity, size_of::<MsgDescHot>()) {
            Some(at) => at,
            None => return None,
        };
        let Some(b_to_a_descriptors) = b_to_a_ring.checked_add(RING_HEADER_SIZE) else { return None };
        let data_header = match part_after(b_to_a_descriptors, config.ring_capacity, size_of::<MsgDescHot>()) {
            Some(at) => at,
            None => return None,
        };
        let Some(slot_meta) = data_header.checked_add(size_of::<DataSegmentHeader>()) else { return None };
        let Some(slot_data) = part_after(slot_meta, config.slot_count, size_of::<SlotMeta>()) else { return None };
        let Some(end) = part_after(slot_data, config.slot_count, config.slot_size as usize) else { return None };
        if end > isize::MAX as usize {
            return None;
        }
        Some(Self {
            a_to_b_ring,
            a_to_b_descriptors,
            b_to_a_ring,
            b_to_a_descriptors,
            data_header,
            slot_meta,
            slot_data,
            end,
        })
    }

    /// The whole segment.
    #[must_use]
    pub const fn whole(&self) -> Span {
        Span { offset: 0, len: self.end }
    }
}

/// Where the next part starts after `count` things of `size` bytes at `start`.
const fn part_after(start: usize, count: u32, size: usize) -> Option<usize> {
    match (count as usize).checked_mul(size) {
        Some(bytes) => start.checked_add(bytes),
        None => None,
    }
}

/// Bytes that a session of this shape takes.
///
/// # Errors
/// As [`SegmentOffsets::calculate`].
///
/// ```
/// use rapace_shm_core::layout::{ShmSessionConfig, calculate_segment_size};
///
/// assert_eq!(calculate_segment_size(&ShmSessionConfig::default()), Ok(296_000));
/// ```
pub const fn calculate_segment_size(config: &ShmSessionConfig) -> Result<usize, LayoutError> {
    match SegmentOffsets::calculate(config) {
        Ok(offsets) => Ok(offsets.end),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_session_stands_where_version_1_puts_it() {
        let offsets = SegmentOffsets::calculate(&ShmSessionConfig::default()).unwrap();
        assert_eq!(offsets.a_to_b_ring, 128);
        assert_eq!(offsets.a_to_b_descriptors, 320);
        assert_eq!(offsets.b_to_a_ring, 16_704);
        assert_eq!(offsets.b_to_a_descriptors, 16_896);
        assert_eq!(offsets.data_header, 33_280);
        assert_eq!(offsets.slot_meta, 33_344);
        assert_eq!(offsets.slot_data, 33_856);
        assert_eq!(offsets.end, 296_000);
    }

    #[test]
    fn every_shape_obeys_the_formula_or_is_refused() {
        for ring_capacity in [0, 1, 2, 3, 64, 1 << 20, 1 << 31, u32::MAX] {
            for slot_size in [0, 1, 2, 4, 6, 100, 4096, u32::MAX - 3, u32::MAX] {
                for slot_count in [0, 1, 7, 64, u32::MAX - 1, u32::MAX] {
                    let config = ShmSessionConfig { ring_capacity, slot_size, slot_count };
                    let wide =
                        576 + 128 * u128::from(ring_capacity) + u128::from(slot_count) * (8 + u128::from(slot_size));
                    let possible = config.validate().is_ok() && wide <= isize::MAX as u128;
                    match calculate_segment_size(&config) {
                        Ok(size) => {
                            assert_eq!((size as u128, possible), (wide, true), "{config:?}");
                            let offsets = SegmentOffsets::calculate(&config).unwrap();
                            assert_eq!(SegmentOffsets::b_to_a_ring_of(ring_capacity), offsets.b_to_a_ring);
                            assert_eq!(SegmentOffsets::data_header_of(ring_capacity), offsets.data_header);
                        }
                        Err(_) => assert!(!possible, "{config:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn a_shape_that_the_layout_cannot_carry_says_why() {
        let base = ShmSessionConfig::default();
        let refused = |config: ShmSessionConfig| config.validate().unwrap_err();
        assert_eq!(refused(ShmSessionConfig { ring_capacity: 3, ..base }), LayoutError::RingCapacity { seen: 3 });
        assert_eq!(refused(ShmSessionConfig { slot_size: 6, ..base }), LayoutError::SlotSize { seen: 6 });
        assert_eq!(refused(ShmSessionConfig { slot_count: 0, ..base }), LayoutError::SlotCount { seen: 0 });
    }
}
