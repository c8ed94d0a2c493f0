//! The shape of a hub, where everything in it is, and how a slot is named.

use static_assertions::const_assert;
use thiserror::Error;

use super::at::Span;
use super::descriptor::MsgDescHot;
use super::hub::{
    DEFAULT_HUB_RING_CAPACITY, ExtentHeader, HubHeader, HubSlotMeta, MAX_EXTENTS_PER_CLASS, MAX_PEERS,
    NUM_SIZE_CLASSES, PeerEntry, SizeClassHeader,
};
use super::ring::RING_HEADER_SIZE;

/// The slots of one size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SizeClass {
    /// Bytes per slot: a power of two from 64 on.
    pub slot_size: u32,
    /// Slots: a power of two from 4 on.
    pub slot_count: u32,
}

/// The size classes of version 1.
pub const HUB_SIZE_CLASSES: [SizeClass; NUM_SIZE_CLASSES] = [
    SizeClass { slot_size: 1 << 10, slot_count: 1024 },
    SizeClass { slot_size: 1 << 14, slot_count: 256 },
    SizeClass { slot_size: 1 << 18, slot_count: 32 },
    SizeClass { slot_size: 1 << 22, slot_count: 8 },
    SizeClass { slot_size: 1 << 24, slot_count: 4 },
];

/// Bits of a slot reference that say which slot of its class is meant; the three above say which class.
const INDEX_BITS: u32 = 29;

/// How a descriptor names a slot of a hub. `class` is below 8, `index` below 2^29; class 7 with the last index would be
/// the mark of an inline payload.
#[must_use]
#[inline(always)]
pub const fn encode_slot_ref(class: u32, index: u32) -> u32 {
    class << INDEX_BITS | index & !(u32::MAX << INDEX_BITS)
}

/// Size class and global index of a slot reference.
#[must_use]
#[inline(always)]
pub const fn decode_slot_ref(reference: u32) -> (u32, u32) {
    (reference >> INDEX_BITS, reference & !(u32::MAX << INDEX_BITS))
}

/// The number of a slot within its class: which extent, and which slot of it. `shift` is the class's, below 32.
#[must_use]
#[inline(always)]
pub const fn encode_global_index(extent: u32, slot: u32, shift: u8) -> u32 {
    extent.wrapping_shl(shift as u32) | slot
}

/// Extent and slot of a global index.
#[must_use]
#[inline(always)]
pub const fn decode_global_index(index: u32, shift: u8) -> (u32, u32) {
    (index.wrapping_shr(shift as u32), index & !u32::MAX.wrapping_shl(shift as u32))
}

/// The shape of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HubConfig {
    /// Entries of the peer table, from 2 to [`MAX_PEERS`]: the host's and one for each plugin.
    pub max_peers: u16,
    /// Descriptors per ring, a power of two.
    pub ring_capacity: u32,
    /// The size classes, each with larger slots than the one before. Others than [`HUB_SIZE_CLASSES`] keep version 1.0
    /// peers out.
    pub classes: [SizeClass; NUM_SIZE_CLASSES],
    /// Extents that each class may have, from 1 (the hub does not grow) to [`MAX_EXTENTS_PER_CLASS`]; each is as large as
    /// the class's first. More than 1 keeps out peers that do not know growth, those of version 1.0 among them.
    pub max_extents: u8,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            max_peers: MAX_PEERS,
            ring_capacity: DEFAULT_HUB_RING_CAPACITY,
            classes: HUB_SIZE_CLASSES,
            max_extents: 1,
        }
    }
}

/// Why a region cannot be, or cannot become, a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HubLayoutError {
    /// The first eight bytes are not [`HUB_MAGIC`](super::HUB_MAGIC).
    #[error("not a rapace hub: it starts with {seen:02x?}; open a hub that a host has created")]
    InvalidMagic {
        /// The bytes that stand there.
        seen: [u8; 8],
    },
    /// The host speaks another major version.
    #[error("hub has layout version {}.{}, this peer speaks 1.x to 3.x; use a host of the same major version",
        found >> 16, found & 0xffff)]
    IncompatibleVersion {
        /// The version that stands in the header.
        found: u32,
    },
    /// The region is shorter than the shape needs.
    #[error("hub needs {required} bytes, the region has {available}; make it larger or the hub smaller")]
    HubTooSmall {
        /// Bytes that the shape needs.
        required: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The peer table cannot have that many entries.
    #[error("hub has {seen} places for peers; it must have 1 to 32, and 2 or more to create it")]
    MaxPeers {
        /// The number asked for or seen.
        seen: u16,
    },
    /// The ring capacity is no power of two from 1 to 2^31.
    #[error("ring capacity is {seen}; it must be a power of two from 1 to 2147483648")]
    RingCapacity {
        /// The capacity asked for or seen.
        seen: u32,
    },
    /// A size class cannot be.
    #[error(
        "size class {class} has {} slots of {} bytes; both must be powers of two, from 4 to 2^28 and from 64 to 2^31, \
         the slots larger than those of the class before",
        seen.slot_count, seen.slot_size
    )]
    SizeClass {
        /// Which class.
        class: usize,
        /// What was asked for or seen.
        seen: SizeClass,
    },
    /// The classes cannot have that many extents.
    #[error("each size class may have {seen} extents; it must be 1 to 16")]
    MaxExtents {
        /// The number asked for or seen.
        seen: u32,
    },
    /// A size class could grow to more slots than a slot reference can name.
    #[error("size class {class} could have {slots} slots; a reference names 2^29, so allow fewer extents")]
    TooManySlots {
        /// Which class.
        class: usize,
        /// Slots of as many extents as are allowed.
        slots: u64,
    },
    /// The shape needs more bytes than this machine can address.
    #[error("the shape needs more bytes than can be addressed; make it smaller")]
    TooLarge,
    /// A place of the hub does not say what follows from the header.
    #[error("hub contradicts itself: {field} is {seen}, expected {expected}; create it anew")]
    Inconsistent {
        /// Which field.
        field: &'static str,
        /// What follows from the header.
        expected: u64,
        /// What the field says.
        seen: u64,
    },
}

impl HubConfig {
    /// Refuses shapes that the layout cannot carry.
    ///
    /// # Errors
    /// [`HubLayoutError::MaxPeers`], [`HubLayoutError::RingCapacity`], [`HubLayoutError::SizeClass`],
    /// [`HubLayoutError::MaxExtents`] or [`HubLayoutError::TooManySlots`].
    pub fn validate(&self) -> Result<(), HubLayoutError> {
        if self.max_peers == 0 || self.max_peers > MAX_PEERS {
            return Err(HubLayoutError::MaxPeers { seen: self.max_peers });
        }
        if !self.ring_capacity.is_power_of_two() {
            return Err(HubLayoutError::RingCapacity { seen: self.ring_capacity });
        }
        if !(1..=MAX_EXTENTS_PER_CLASS).contains(&usize::from(self.max_extents)) {
            return Err(HubLayoutError::MaxExtents { seen: self.max_extents.into() });
        }
        self.validate_classes()
    }

    fn validate_classes(&self) -> Result<(), HubLayoutError> {
        let mut before = 32;
        for (class, seen) in self.classes.into_iter().enumerate() {
            let SizeClass { slot_size, slot_count } = seen;
            let counts = slot_count.is_power_of_two() && (4..=1 << 28).contains(&slot_count);
            if !counts || !slot_size.is_power_of_two() || slot_size <= before {
                return Err(HubLayoutError::SizeClass { class, seen });
            }
            let slots = u64::from(slot_count) * u64::from(self.max_extents);
            if slots > 1 << INDEX_BITS {
                return Err(HubLayoutError::TooManySlots { class, slots });
            }
            before = slot_size;
        }
        Ok(())
    }

    /// Slots that all classes may ever have together: how many entries a ledger needs, eight bytes each. That is 1324 for
    /// the default classes, and 21 184 (170 KB) where each of them may have 16 extents.
    #[must_use]
    pub fn slots(&self) -> u32 {
        let first = self.classes.iter().map(|class| class.slot_count).fold(0, u32::saturating_add);
        first.saturating_mul(self.max_extents.into())
    }
}

/// Bytes of one ring.
const fn ring_size(capacity: u32) -> Option<usize> {
    match (capacity as usize).checked_mul(size_of::<MsgDescHot>()) {
        Some(bytes) => bytes.checked_add(RING_HEADER_SIZE),
        None => None,
    }
}

impl SizeClass {
    /// Bytes of an extent of this class, if they can be counted.
    #[must_use]
    pub const fn extent_size(self) -> Option<usize> {
        let Some(slot) = (self.slot_size as usize).checked_add(size_of::<HubSlotMeta>()) else { return None };
        match slot.checked_mul(self.slot_count as usize) {
            Some(slots) => slots.checked_add(size_of::<ExtentHeader>()),
            None => None,
        }
    }
}

/// Where the parts of a hub are, in bytes from its start. Each stands on a 64-byte boundary.
///
/// ```text
/// hub header | peer entries | rings of peer 0: to host, to peer | … | size class headers | extent of each class
///   and in a hub that grows                                                              | second extent of each | …
/// ```
///
/// Every extent that there may ever be has its place from the beginning, so that where a slot is follows from its number
/// alone, and nothing that a peer writes later has to be believed. Where no extent is yet, nothing need be: a file has a
/// hole there, or ends before.
///
/// It can only be made by [`HubOffsets::calculate`], so whoever has one has a shape that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubOffsets {
    /// First [`PeerEntry`].
    pub peer_table: usize,
    /// The ring from peer 0 to the host.
    pub rings: usize,
    /// Bytes of one ring; each peer has two, one behind the other.
    pub ring_size: usize,
    /// First [`SizeClassHeader`].
    pub size_classes: usize,
    /// The first extent of each class.
    pub extents: [usize; NUM_SIZE_CLASSES],
    /// One past the last byte of the first extents: as large as a fresh hub is.
    pub end: usize,
    /// One past the last byte of the last extent that there may be: as much as members reserve. The same as `end` in a hub
    /// that does not grow.
    pub reach: usize,
}

impl HubOffsets {
    /// First [`PeerEntry`] of every hub.
    pub(crate) const PEER_TABLE: usize = size_of::<HubHeader>();

    /// Places every part of a hub of this shape.
    ///
    /// # Errors
    /// What [`HubConfig::validate`] refuses, and [`HubLayoutError::TooLarge`].
    pub fn calculate(config: &HubConfig) -> Result<Self, HubLayoutError> {
        config.validate()?;
        Self::place(config).ok_or(HubLayoutError::TooLarge)
    }

    /// Where the size classes are, which say what the rest of the shape is.
    pub(crate) fn size_classes_of(max_peers: u16, ring_capacity: u32) -> Option<usize> {
        let peers = usize::from(max_peers);
        let rings = Self::PEER_TABLE + size_of::<PeerEntry>() * peers;
        ring_size(ring_capacity)?.checked_mul(2 * peers)?.checked_add(rings)
    }

    fn place(config: &HubConfig) -> Option<Self> {
        let rings = Self::PEER_TABLE + size_of::<PeerEntry>() * usize::from(config.max_peers);
        let ring_size = ring_size(config.ring_capacity)?;
        let size_classes = Self::size_classes_of(config.max_peers, config.ring_capacity)?;
        let mut end = size_classes.checked_add(size_of::<SizeClassHeader>() * NUM_SIZE_CLASSES)?;
        let first = end;
        let mut extents = [0; NUM_SIZE_CLASSES];
        for (extent, class) in extents.iter_mut().zip(config.classes) {
            *extent = end;
            end = end.checked_add(class.extent_size()?)?;
        }
        let further = (end - first).checked_mul(usize::from(config.max_extents).checked_sub(1)?)?;
        let reach = end.checked_add(further)?;
        let fits = isize::try_from(reach).is_ok();
        fits.then_some(Self { peer_table: Self::PEER_TABLE, rings, ring_size, size_classes, extents, end, reach })
    }

    /// The whole of a fresh hub.
    #[must_use]
    pub const fn whole(&self) -> Span {
        Span { offset: 0, len: self.end }
    }
}

/// Bytes that a fresh hub of this shape takes; [`HubOffsets::reach`] says how far it may grow.
///
/// # Errors
/// As [`HubOffsets::calculate`].
///
/// ```
/// use rapace_shm_core::layout::{HubConfig, calculate_hub_size};
///
/// assert_eq!(calculate_hub_size(&HubConfig::default()), Ok(115_380_416));
/// ```
pub fn calculate_hub_size(config: &HubConfig) -> Result<usize, HubLayoutError> {
    HubOffsets::calculate(config).map(|offsets| offsets.end)
}

const_assert!(RING_HEADER_SIZE.is_multiple_of(64));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_hub_stands_where_version_1_puts_it() {
        let offsets = HubOffsets::calculate(&HubConfig::default()).unwrap();
        assert_eq!((offsets.peer_table, offsets.rings, offsets.size_classes), (256, 2304, 1_063_168));
        let sizes = [1_065_024, 4_198_464, 8_389_184, 33_554_624, 67_108_992];
        let mut at = 1_064_128;
        for (extent, size) in offsets.extents.into_iter().zip(sizes) {
            assert_eq!(extent, at);
            at += size;
        }
        assert_eq!((offsets.end, at), (115_380_416, 115_380_416));
        assert_eq!(HubConfig::default().slots(), 1324);
    }

    #[test]
    fn a_slot_reference_names_class_extent_and_slot() {
        assert_eq!(encode_slot_ref(3, 5), 3 << 29 | 5);
        assert_eq!(decode_slot_ref(u32::MAX), (7, (1 << 29) - 1));
        assert_eq!(encode_global_index(2, 5, 3), 21);
        assert_eq!(decode_global_index(21, 3), (2, 5));
    }

    #[test]
    fn a_shape_that_the_layout_cannot_carry_says_why() {
        let base = HubConfig::default();
        let refused = |config: HubConfig| HubOffsets::calculate(&config).unwrap_err();
        for seen in [0, 33, u16::MAX] {
            assert_eq!(refused(HubConfig { max_peers: seen, ..base }), HubLayoutError::MaxPeers { seen });
        }
        for seen in [0, 3, u32::MAX] {
            assert_eq!(refused(HubConfig { ring_capacity: seen, ..base }), HubLayoutError::RingCapacity { seen });
        }
        for (class, slot_size, slot_count) in
            [(0, 32, 4), (0, 96, 4), (0, 64, 2), (0, 64, 6), (0, 64, 1 << 29), (1, 1024, 4), (4, 0, 4)]
        {
            let seen = SizeClass { slot_size, slot_count };
            let mut config = base;
            config.classes[class] = seen;
            assert_eq!(refused(config), HubLayoutError::SizeClass { class, seen });
        }
        for seen in [0, 17, u8::MAX] {
            let config = HubConfig { max_extents: seen, ..base };
            assert_eq!(refused(config), HubLayoutError::MaxExtents { seen: seen.into() });
        }
        let mut config = HubConfig { max_extents: 3, ..base };
        config.classes[0].slot_count = 1 << 28;
        assert_eq!(refused(config), HubLayoutError::TooManySlots { class: 0, slots: 3 << 28 });
        let config = HubConfig { max_extents: 16, ..base };
        assert_eq!(HubOffsets::calculate(&config).unwrap().reach, 115_380_416 + 15 * 114_316_288);
        assert_eq!(config.slots(), 16 * 1324);
    }
}
