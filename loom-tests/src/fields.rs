//! Which bytes of a region are words, and how wide: what a model's region is built from.
//!
//! A model checker has no bytes, only words. Declaring each of them, from the same typed offsets that core uses, is
//! what lets a [`LoomRegion`](crate::LoomRegion) notice an access that the layout does not know.

use rapace_shm_core::layout::{
    ANNOUNCEMENTS, At, DataSegmentHeader, DescRingHeader, ExtentHeader, HubConfig, HubHeader, HubOffsets, HubSlotMeta,
    Line, PeerEntry, RING_HEADER_SIZE, SegmentHeader, SegmentOffsets, ShmSessionConfig, SizeClassHeader, SlotMeta,
    Span,
};

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A 32-bit word.
    U32,
    /// A 64-bit word.
    U64,
    /// A descriptor: eight 64-bit words that one owner at a time writes.
    Line,
    /// Payload bytes that one owner at a time touches; whether their first four are also a speculative word.
    Payload { link: bool },
}

/// One declared place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

impl Field {
    pub(crate) fn end(&self) -> usize {
        self.span.offset + self.span.len
    }
}

/// The declared places of a region.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    fields: Vec<Field>,
}

impl Fields {
    /// No places yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// Declares a 32-bit word.
    #[must_use]
    pub fn u32(self, name: &'static str, at: At<u32>) -> Self {
        self.declare(name, at.offset(), size_of::<u32>(), Kind::U32)
    }

    /// Declares a 64-bit word.
    #[must_use]
    pub fn u64(self, name: &'static str, at: At<u64>) -> Self {
        self.declare(name, at.offset(), size_of::<u64>(), Kind::U64)
    }

    /// Declares a descriptor.
    #[must_use]
    pub fn line(self, name: &'static str, at: At<Line>) -> Self {
        self.declare(name, at.offset(), size_of::<Line>(), Kind::Line)
    }

    /// Declares a slot's bytes. With `link`, its first four are also a 32-bit word, the one overlay there is: read
    /// speculatively, by those who do not own the slot.
    #[must_use]
    pub fn payload(self, name: &'static str, span: Span, link: bool) -> Self {
        self.declare(name, span.offset, span.len, Kind::Payload { link })
    }

    /// Declares a ring at `offset` bytes: its header's words and its descriptors.
    #[must_use]
    pub fn ring(mut self, offset: usize, capacity: u32) -> Self {
        self = self
            .u64("ring visible_head", DescRingHeader::VISIBLE_HEAD.within(offset))
            .u64("ring tail", DescRingHeader::TAIL.within(offset))
            .u64("ring returned", DescRingHeader::RETURNED.within(offset))
            .u32("ring capacity", DescRingHeader::CAPACITY.within(offset))
            .u32("ring data_sleeper", DescRingHeader::DATA_SLEEPER.within(offset))
            .u32("ring space_sleeper", DescRingHeader::SPACE_SLEEPER.within(offset))
            .u32("ring producer_state", DescRingHeader::PRODUCER_STATE.within(offset))
            .u32("ring consumer_state", DescRingHeader::CONSUMER_STATE.within(offset))
            .u32("ring space_sequence", DescRingHeader::SPACE_SEQUENCE.within(offset))
            .u32("ring slots_sleeper", DescRingHeader::SLOTS_SLEEPER.within(offset))
            .u32("ring waits_with_others", DescRingHeader::WAITS_WITH_OTHERS.within(offset))
            .u32("ring consumer_peer_state", DescRingHeader::CONSUMER_PEER_STATE.within(offset))
            .u32("ring producer_pid", DescRingHeader::PRODUCER_PID.within(offset))
            .u64("ring producer_start", DescRingHeader::PRODUCER_START.within(offset))
            .u32("ring producer_pid_namespace", DescRingHeader::PRODUCER_PID_NAMESPACE.within(offset));
        for number in 0..capacity as usize {
            self = self.line("descriptor", At::new(offset + RING_HEADER_SIZE + number * size_of::<Line>()));
        }
        self
    }

    /// Declares a whole session.
    ///
    /// # Panics
    /// If the shape is none that the layout can carry.
    #[must_use]
    pub fn session(config: &ShmSessionConfig) -> Self {
        let offsets = SegmentOffsets::calculate(config).expect("a model's shape is a valid one");
        Self::new()
            .segment_header()
            .ring(offsets.a_to_b_ring, config.ring_capacity)
            .ring(offsets.b_to_a_ring, config.ring_capacity)
            .slab(config, &offsets)
    }

    /// Declares a whole hub.
    ///
    /// # Panics
    /// If the shape is none that the layout can carry.
    #[must_use]
    pub fn hub(config: &HubConfig) -> Self {
        let offsets = HubOffsets::calculate(config).expect("a model's shape is a valid one");
        let mut fields = Self::new().hub_header();
        for peer in 0..usize::from(config.max_peers) {
            let ring = offsets.rings + 2 * offsets.ring_size * peer;
            fields = fields
                .peer_entry(offsets.peer_table + size_of::<PeerEntry>() * peer)
                .ring(ring, config.ring_capacity)
                .ring(ring + offsets.ring_size, config.ring_capacity);
        }
        for (number, class) in config.classes.iter().enumerate() {
            let header = offsets.size_classes + size_of::<SizeClassHeader>() * number;
            fields = fields.size_class(header, config.max_extents.into());
            for extent in 0..usize::from(config.max_extents) {
                // Further extents are as far apart as the first ones are long together.
                let at = offsets.extents[number] + extent * (offsets.end - offsets.extents[0]);
                fields = fields.extent(at, class.slot_count, class.slot_size);
            }
        }
        fields
    }

    fn hub_header(self) -> Self {
        self.u64("magic", HubHeader::MAGIC)
            .u32("version", HubHeader::VERSION)
            .u32("max and active peers", HubHeader::MAX_AND_ACTIVE_PEERS)
            .u32("peer_id_counter", HubHeader::PEER_ID_COUNTER)
            .u64("current_size", HubHeader::CURRENT_SIZE)
            .u32("extent_count", HubHeader::EXTENT_COUNT)
            .u32("ring_capacity", HubHeader::RING_CAPACITY)
            .u64("peer_table", HubHeader::PEER_TABLE)
            .u64("rings", HubHeader::RINGS)
            .u64("size_classes", HubHeader::SIZE_CLASSES)
            .u64("extents", HubHeader::EXTENTS)
            .u32("host_state", HubHeader::HOST_STATE)
            .u32("host_sequence", HubHeader::HOST_SEQUENCE)
            .u32("host_sleeper", HubHeader::HOST_SLEEPER)
            .u32("in_doubt", HubHeader::IN_DOUBT)
            .u64("slot_waiters", HubHeader::SLOT_WAITERS)
            .u64("grown", HubHeader::GROWN)
            .u64("max_size", HubHeader::MAX_SIZE)
            .u32("max_extents", HubHeader::MAX_EXTENTS)
    }

    fn peer_entry(mut self, at: usize) -> Self {
        for number in 0..ANNOUNCEMENTS {
            let first = PeerEntry::ANNOUNCED.within(at).offset();
            self = self.u32("announced", At::new(first + number * size_of::<u32>()));
        }
        self.u32("peer id and type", PeerEntry::ID_AND_TYPE.within(at))
            .u32("peer flags", PeerEntry::FLAGS.within(at))
            .u64("peer epoch", PeerEntry::EPOCH.within(at))
            .u64("peer last_seen", PeerEntry::LAST_SEEN.within(at))
            .u64("to_host_ring", PeerEntry::TO_HOST_RING.within(at))
            .u64("to_peer_ring", PeerEntry::TO_PEER_RING.within(at))
            .u32("to_host", PeerEntry::TO_HOST.within(at))
            .u32("to_peer", PeerEntry::TO_PEER.within(at))
            .u32("peer state", PeerEntry::STATE.within(at))
    }

    fn size_class(mut self, at: usize, extents: usize) -> Self {
        for extent in 0..extents {
            let first = SizeClassHeader::EXTENTS.within(at).offset();
            self = self.u64("class extent", At::new(first + extent * size_of::<u64>()));
        }
        self.u32("class slot_size", SizeClassHeader::SLOT_SIZE.within(at))
            .u32("class total_slots", SizeClassHeader::TOTAL_SLOTS.within(at))
            .u64("class free_head", SizeClassHeader::FREE_HEAD.within(at))
            .u32("class slot_available", SizeClassHeader::SLOT_AVAILABLE.within(at))
            .u32("class shift", SizeClassHeader::SHIFT_AND_EXTENT_COUNT.within(at))
            .u32("class quota", SizeClassHeader::QUOTA.within(at))
            .u32("class fresh", SizeClassHeader::FRESH.within(at))
    }

    fn extent(mut self, at: usize, slots: u32, slot_size: u32) -> Self {
        self = self
            .u32("extent class", ExtentHeader::CLASS.within(at))
            .u32("extent slot_count", ExtentHeader::SLOT_COUNT.within(at))
            .u32("extent base_index", ExtentHeader::BASE_INDEX.within(at))
            .u32("extent meta_offset", ExtentHeader::META_OFFSET.within(at))
            .u32("extent data_offset", ExtentHeader::DATA_OFFSET.within(at));
        let metas = at + size_of::<ExtentHeader>();
        let bytes = metas + size_of::<HubSlotMeta>() * slots as usize;
        for slot in 0..slots as usize {
            let meta = metas + size_of::<HubSlotMeta>() * slot;
            let len = slot_size as usize;
            self = self
                .u64("hub slot meta", HubSlotMeta::META.within(meta))
                .u32("hub slot next_free", HubSlotMeta::NEXT_FREE.within(meta))
                .u32("hub slot owner", HubSlotMeta::OWNER.within(meta))
                .payload("hub slot", Span { offset: bytes + len * slot, len }, false);
        }
        self
    }

    fn segment_header(self) -> Self {
        self.u64("magic", SegmentHeader::MAGIC)
            .u32("version", SegmentHeader::VERSION)
            .u32("ring_capacity", SegmentHeader::RING_CAPACITY)
            .u32("slot_size", SegmentHeader::SLOT_SIZE)
            .u32("slot_count", SegmentHeader::SLOT_COUNT)
            .u32("a_to_b_data", SegmentHeader::A_TO_B_DATA)
            .u32("a_to_b_space", SegmentHeader::A_TO_B_SPACE)
            .u32("b_to_a_data", SegmentHeader::B_TO_A_DATA)
            .u32("b_to_a_space", SegmentHeader::B_TO_A_SPACE)
            .u32("peer_a_state", SegmentHeader::PEER_A_STATE)
            .u32("peer_b_state", SegmentHeader::PEER_B_STATE)
            .u64("peer_a_epoch", SegmentHeader::PEER_A_EPOCH)
            .u64("peer_b_epoch", SegmentHeader::PEER_B_EPOCH)
            .u64("peer_a_last_seen", SegmentHeader::PEER_A_LAST_SEEN)
            .u64("peer_b_last_seen", SegmentHeader::PEER_B_LAST_SEEN)
            .u32("peer_a_pid", SegmentHeader::PEER_A_PID)
            .u32("peer_b_pid", SegmentHeader::PEER_B_PID)
            .u32("peer_a_pid_namespace", SegmentHeader::PEER_A_PID_NAMESPACE)
            .u32("peer_b_pid_namespace", SegmentHeader::PEER_B_PID_NAMESPACE)
            .u64("peer_a_start", SegmentHeader::PEER_A_START)
            .u64("peer_b_start", SegmentHeader::PEER_B_START)
    }

    fn slab(mut self, config: &ShmSessionConfig, offsets: &SegmentOffsets) -> Self {
        let header = offsets.data_header;
        self = self
            .u32("slab slot_size", DataSegmentHeader::SLOT_SIZE.within(header))
            .u32("slab slot_count", DataSegmentHeader::SLOT_COUNT.within(header))
            .u32("slab max_frame_size", DataSegmentHeader::MAX_FRAME_SIZE.within(header))
            .u64("free_head", DataSegmentHeader::FREE_HEAD.within(header))
            .u32("slot_available", DataSegmentHeader::SLOT_AVAILABLE.within(header))
            .u32("slots_sleeper_a", DataSegmentHeader::SLOTS_SLEEPER_A.within(header))
            .u32("slots_sleeper_b", DataSegmentHeader::SLOTS_SLEEPER_B.within(header));
        let size = config.slot_size as usize;
        for slot in 0..config.slot_count as usize {
            let meta = At::new(offsets.slot_meta + slot * size_of::<SlotMeta>());
            let bytes = Span { offset: offsets.slot_data + slot * size, len: size };
            self = self.u64("slot meta", meta).payload("slot", bytes, true);
        }
        self
    }

    fn declare(mut self, name: &'static str, offset: usize, len: usize, kind: Kind) -> Self {
        let field = Field { name, span: Span { offset, len }, kind };
        if let Some(other) = self.fields.iter().find(|other| overlap(other, &field)) {
            panic!(
                "fields overlap: `{}` at {}..{} and `{name}` at {offset}..{}",
                other.name,
                other.span.offset,
                other.end(),
                field.end()
            );
        }
        self.fields.push(field);
        self
    }

    /// One past the last declared byte.
    pub(crate) fn size(&self) -> usize {
        self.fields.iter().map(Field::end).max().unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.fields.iter()
    }
}

fn overlap(a: &Field, b: &Field) -> bool {
    a.span.offset < b.end() && b.span.offset < a.end()
}

#[cfg(test)]
mod tests {
    use rapace_shm_core::layout::SizeClass;

    use super::*;

    #[test]
    #[should_panic(expected = "fields overlap: `wide` at 0..8 and `narrow` at 4..8")]
    fn two_fields_on_the_same_bytes_are_refused() {
        let _ = Fields::new().u64("wide", At::new(0)).u32("narrow", At::new(4));
    }

    #[test]
    #[should_panic(expected = "fields overlap: `slot` at 64..96 and `count` at 92..96")]
    fn a_word_in_a_payload_that_is_no_link_is_refused() {
        let _ = Fields::new().payload("slot", Span { offset: 64, len: 32 }, true).u32("count", At::new(92));
    }

    #[test]
    fn a_session_and_a_hub_declare_every_byte_up_to_its_end() {
        let config = ShmSessionConfig { ring_capacity: 2, slot_size: 24, slot_count: 2 };
        assert_eq!(Fields::session(&config).size(), SegmentOffsets::calculate(&config).unwrap().end);
        let classes = [6, 7, 8, 9, 10].map(|log| SizeClass { slot_size: 1 << log, slot_count: 4 });
        for max_extents in [1, 3] {
            let config = HubConfig { max_peers: 3, ring_capacity: 1, classes, max_extents };
            assert_eq!(Fields::hub(&config).size(), HubOffsets::calculate(&config).unwrap().reach);
        }
    }
}
