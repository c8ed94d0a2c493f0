//! Where everything in a hub is, and how a member waits: calculated from a shape that was checked once and is never read
//! again.

use crate::endpoint::{Half, PeerId};
use crate::layout::{
    At, DescRingHeader, ExtentHeader, HubConfig, HubHeader, HubOffsets, HubSlotMeta, MsgDescHot, NUM_SIZE_CLASSES,
    PeerEntry, RING_HEADER_SIZE, SizeClass, SizeClassHeader, Span, encode_slot_ref,
};
use crate::ring::Place;
use crate::wake::{Signallers, WaitPoint};

/// The host, as an owner of slots and in the peer table.
pub const HOST: PeerId = PeerId(0);

/// The shape of a hub and which member this is. It travels with every received message, so it is small, and it has no
/// byte that means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Binary logarithms of the classes' slot sizes, a byte each.
    sizes: u64,
    /// Binary logarithms of the slot counts of the classes' extents, a byte each; in the byte above them, how many extents
    /// a class may have.
    counts: u64,
    ring_capacity: u32,
    max_peers: u16,
    own: u16,
}

/// The places of one size class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) number: u32,
    /// Its [`SizeClassHeader`].
    header: usize,
    /// Its first extent.
    extent: usize,
    /// How far its further extents are apart, in bytes; 0 if there will be none.
    stride: usize,
    /// Slots that it may ever have.
    slots: u32,
    /// Slots that all smaller classes may ever have: where its entries in the ledger begin.
    entries: u32,
    size_log: u32,
    count_log: u32,
}

/// Size classes, as the numbers of classes are counted.
pub(crate) const CLASSES: u32 = {
    #[allow(clippy::cast_possible_truncation)] // 5
    let classes = NUM_SIZE_CLASSES as u32;
    classes
};

#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // less than 32
const fn byte(word: u64, number: u32) -> u32 {
    (word >> ((8 * number) & 63)) as u32 & 31
}

/// Bytes of an extent, by the binary logarithms of its slots' size and of their number.
#[inline(always)]
const fn extent_size(size_log: u32, count_log: u32) -> usize {
    size_of::<ExtentHeader>() + ((size_of::<HubSlotMeta>() + (1 << size_log)) << count_log)
}

impl Places {
    /// Of a shape that was checked.
    pub(crate) fn new(config: &HubConfig, own: PeerId) -> Self {
        let pack = |log: fn(SizeClass) -> u32| {
            config.classes.iter().rev().fold(0, |word, class| word << 8 | u64::from(log(*class)))
        };
        Self {
            sizes: pack(|class| class.slot_size.trailing_zeros()),
            counts: pack(|class| class.slot_count.trailing_zeros()) | u64::from(config.max_extents) << (8 * CLASSES),
            ring_capacity: config.ring_capacity,
            max_peers: config.max_peers,
            own: own.0,
        }
    }

    #[inline(always)]
    pub(crate) const fn own(&self) -> PeerId {
        PeerId(self.own)
    }

    pub(crate) const fn max_peers(&self) -> u16 {
        self.max_peers
    }

    /// Extents that a class may have.
    #[inline(always)]
    pub(crate) const fn max_extents(&self) -> u32 {
        byte(self.counts, CLASSES)
    }

    /// The shape.
    pub(crate) fn config(&self) -> HubConfig {
        let mut number = 0;
        let classes = [(); NUM_SIZE_CLASSES].map(|()| {
            let class =
                SizeClass { slot_size: 1 << byte(self.sizes, number), slot_count: 1 << byte(self.counts, number) };
            number += 1;
            class
        });
        let [max_extents, ..] = self.max_extents().to_le_bytes();
        HubConfig { max_peers: self.max_peers, ring_capacity: self.ring_capacity, classes, max_extents }
    }

    /// Size of the largest class's slots in bytes.
    #[inline(always)]
    pub(crate) const fn largest(&self) -> usize {
        1 << byte(self.sizes, CLASSES - 1)
    }

    #[inline(always)]
    const fn rings(&self) -> usize {
        HubOffsets::PEER_TABLE + self.max_peers as usize * size_of::<PeerEntry>()
    }

    #[inline(always)]
    const fn ring_size(&self) -> usize {
        RING_HEADER_SIZE + self.ring_capacity as usize * size_of::<MsgDescHot>()
    }

    #[inline(always)]
    const fn class_headers(&self) -> usize {
        self.rings() + 2 * self.max_peers as usize * self.ring_size()
    }

    /// The places of a class that exists.
    #[inline(always)]
    pub(crate) const fn class(&self, number: u32) -> Class {
        let headers = self.class_headers();
        let extents = self.max_extents();
        let mut extent = self.first_extents();
        let mut entries = 0;
        let mut smaller = 0;
        while smaller < number {
            extent += extent_size(byte(self.sizes, smaller), byte(self.counts, smaller));
            entries += extents << byte(self.counts, smaller);
            smaller += 1;
        }
        Class {
            number,
            header: headers + number as usize * size_of::<SizeClassHeader>(),
            extent,
            stride: if extents > 1 { self.all_extents() } else { 0 },
            slots: extents << byte(self.counts, number),
            entries,
            size_log: byte(self.sizes, number),
            count_log: byte(self.counts, number),
        }
    }

    #[inline(always)]
    const fn first_extents(&self) -> usize {
        self.class_headers() + NUM_SIZE_CLASSES * size_of::<SizeClassHeader>()
    }

    /// Bytes of one extent of each class. Out of line: a message in a hub that does not grow has no use for it.
    #[inline(never)]
    const fn all_extents(&self) -> usize {
        let (mut bytes, mut number) = (0, 0);
        while number < CLASSES {
            bytes += extent_size(byte(self.sizes, number), byte(self.counts, number));
            number += 1;
        }
        bytes
    }

    /// One past the last byte of the first extents.
    pub(crate) const fn end(&self) -> usize {
        self.first_extents() + self.all_extents()
    }

    /// Every class, the smallest first.
    pub(crate) fn classes(self) -> impl Iterator<Item = Class> {
        self.classes_from(0)
    }

    /// Every class whose slots hold `len` bytes, the smallest first.
    #[inline(always)]
    pub(crate) fn classes_for(self, len: usize) -> impl Iterator<Item = Class> {
        let mut first = 0;
        while first < CLASSES && len > 1 << byte(self.sizes, first) {
            first += 1;
        }
        self.classes_from(first)
    }

    #[inline(always)]
    fn classes_from(self, first: u32) -> impl Iterator<Item = Class> {
        (first..CLASSES).map(move |number| self.class(number))
    }

    /// A field of a member's entry.
    #[inline(always)]
    pub(crate) const fn entry<T>(&self, peer: PeerId, field: At<T>) -> At<T> {
        field.within(HubOffsets::PEER_TABLE + peer.0 as usize * size_of::<PeerEntry>())
    }

    /// One of a member's announcements.
    #[inline(always)]
    pub(crate) const fn announcement(&self, peer: PeerId, lane: usize) -> At<u32> {
        let first = self.entry(peer, PeerEntry::ANNOUNCED);
        At::new(first.offset() + lane * size_of::<u32>())
    }

    /// The ring from a peer to the host.
    pub(crate) const fn ring_to_host(&self, peer: PeerId) -> Place {
        self.ring(2 * peer.0 as usize)
    }

    /// The ring from the host to a peer.
    pub(crate) const fn ring_to_peer(&self, peer: PeerId) -> Place {
        self.ring(2 * peer.0 as usize + 1)
    }

    const fn ring(&self, number: usize) -> Place {
        Place { header: self.rings() + number * self.ring_size(), capacity: self.ring_capacity }
    }

    /// Where the host waits for data from a peer: alone, or with those from all others.
    pub(crate) fn host_data(&self, peer: PeerId, with_others: bool) -> WaitPoint {
        let old = self.entry(peer, PeerEntry::TO_HOST);
        if with_others {
            return WaitPoint { old, ..Self::any_data() };
        }
        WaitPoint::new(old, self.ring_to_host(peer).word(DescRingHeader::DATA_SLEEPER), HOST, Half::Receiver)
    }

    /// Where the host waits for data from whichever peer.
    pub(crate) fn any_data() -> WaitPoint {
        let by = Signallers::Many;
        WaitPoint { by, ..WaitPoint::new(HubHeader::HOST_SEQUENCE, HubHeader::HOST_SLEEPER, HOST, Half::Receiver) }
    }

    /// Where a peer waits for data.
    pub(crate) fn peer_data(&self, peer: PeerId) -> WaitPoint {
        let sequence = self.entry(peer, PeerEntry::TO_PEER);
        WaitPoint::new(sequence, self.ring_to_peer(peer).word(DescRingHeader::DATA_SLEEPER), peer, Half::Receiver)
    }

    /// Where a peer waits for space on its way to the host. Version 1.0 has the same word for that and for the host's data.
    pub(crate) fn peer_space(&self, peer: PeerId) -> WaitPoint {
        let old = self.entry(peer, PeerEntry::TO_HOST);
        WaitPoint { old, ..space(self.ring_to_host(peer), peer) }
    }

    /// Where the host waits for space on its way to a peer.
    pub(crate) fn host_space(&self, peer: PeerId) -> WaitPoint {
        let old = self.entry(peer, PeerEntry::TO_PEER);
        WaitPoint { old, ..space(self.ring_to_peer(peer), HOST) }
    }

    /// Where a peer waits for a slot.
    pub(crate) fn peer_slots(&self, peer: PeerId) -> WaitPoint {
        self.slots_point(peer, false)
    }

    /// Where the host waits for a slot for a message to a peer.
    pub(crate) fn host_slots(&self, peer: PeerId) -> WaitPoint {
        self.slots_point(peer, true)
    }

    /// Whoever has this bit in [`HubHeader::SLOT_WAITERS`], if there is somebody.
    pub(crate) fn slot_waiter(&self, bit: u32) -> Option<WaitPoint> {
        let peer = PeerId(u16::try_from(bit % u32::BITS).ok().filter(|peer| *peer < self.max_peers)?);
        Some(self.slots_point(peer, bit >= u32::BITS))
    }

    /// All sleep on one word, whatever class they wait for.
    fn slots_point(&self, peer: PeerId, of_host: bool) -> WaitPoint {
        let (waiter, ring) = if of_host { (HOST, self.ring_to_peer(peer)) } else { (peer, self.ring_to_host(peer)) };
        let sequence = SizeClassHeader::SLOT_AVAILABLE.within(self.class_headers());
        let bit = u64::from(of_host) * u64::from(u32::MAX) + 1;
        let by = Signallers::Listed { list: HubHeader::SLOT_WAITERS, bit: bit << (peer.0 & 31) };
        WaitPoint { by, ..WaitPoint::new(sequence, ring.word(DescRingHeader::SLOTS_SLEEPER), waiter, Half::Sender) }
    }
}

fn space(ring: Place, producer: PeerId) -> WaitPoint {
    let (sequence, sleeper) = (DescRingHeader::SPACE_SEQUENCE, DescRingHeader::SPACE_SLEEPER);
    WaitPoint::new(ring.word(sequence), ring.word(sleeper), producer, Half::Sender)
}

impl Class {
    /// A field of its header.
    #[inline(always)]
    pub(crate) const fn word<T>(&self, field: At<T>) -> At<T> {
        field.within(self.header)
    }

    /// Where one of its extents is, or will be if it ever is.
    #[inline(always)]
    pub(crate) const fn extent(&self, number: u32) -> Span {
        let offset = self.extent + number as usize * self.stride;
        Span { offset, len: extent_size(self.size_log, self.count_log) }
    }

    /// The part of an extent before its slots: header and metadata.
    pub(crate) const fn extent_head(&self, number: u32) -> Span {
        let Span { offset, len } = self.extent(number);
        Span { offset, len: len - ((1 << self.size_log) << self.count_log) }
    }

    /// Which of its extents a slot is in.
    #[inline(always)]
    pub(crate) const fn extent_of(&self, slot: u32) -> u32 {
        slot >> self.count_log
    }

    /// Slots of one extent: of the first, which is always there.
    #[inline(always)]
    pub(crate) const fn count(&self) -> u32 {
        1 << self.count_log
    }

    /// Slots that it may ever have.
    #[inline(always)]
    pub(crate) const fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes per slot.
    #[inline(always)]
    pub(crate) const fn slot_size(&self) -> u32 {
        1 << self.size_log
    }

    /// Binary logarithm of the number of slots.
    pub(crate) const fn shift(&self) -> u32 {
        self.count_log
    }

    /// The extent of a slot, and its number there.
    #[inline(always)]
    const fn place_of(&self, slot: u32) -> (usize, usize) {
        (self.extent(self.extent_of(slot)).offset, (slot & (self.count() - 1)) as usize)
    }

    /// A field of the metadata of a slot that exists.
    #[inline(always)]
    pub(crate) const fn meta<T>(&self, slot: u32, field: At<T>) -> At<T> {
        let (extent, slot) = self.place_of(slot);
        field.within(extent + size_of::<ExtentHeader>() + slot * size_of::<HubSlotMeta>())
    }

    /// The bytes of a slot that exists.
    #[inline(always)]
    pub(crate) const fn bytes(&self, slot: u32) -> Span {
        let (extent, slot) = self.place_of(slot);
        let first = extent + size_of::<ExtentHeader>() + (size_of::<HubSlotMeta>() << self.count_log);
        Span { offset: first + (slot << self.size_log), len: 1 << self.size_log }
    }

    /// The number of a slot's entry in the ledger.
    #[inline(always)]
    pub(crate) const fn entry(&self, slot: u32) -> u32 {
        self.entries + slot
    }

    /// How a descriptor names a slot.
    #[inline(always)]
    pub(crate) const fn reference(&self, slot: u32) -> u32 {
        encode_slot_ref(self.number, slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_where_the_layout_says() {
        let own = HubConfig {
            max_peers: 3,
            ring_capacity: 4,
            classes: [6, 8, 10, 12, 31].map(|log| SizeClass { slot_size: 1 << log, slot_count: 1 << (log / 2) }),
            max_extents: 1,
        };
        let growable = HubConfig { max_extents: 16, ..own };
        for config in [HubConfig::default(), own, growable] {
            let (offsets, places) = (HubOffsets::calculate(&config).unwrap(), Places::new(&config, PeerId(2)));
            assert_eq!((places.config(), places.own()), (config, PeerId(2)));
            assert_eq!(places.ring_to_host(PeerId(0)).header, offsets.rings);
            assert_eq!(places.ring_to_peer(PeerId(2)).header, offsets.rings + 5 * offsets.ring_size);
            assert_eq!(places.class(0).header, offsets.size_classes);
            assert_eq!(places.largest(), config.classes[4].slot_size as usize);
            let mut entries = 0;
            for (class, expected) in places.classes().zip(config.classes) {
                assert_eq!(class.extent(0).offset, offsets.extents[class.number as usize]);
                assert_eq!((class.slot_size(), class.count()), (expected.slot_size, expected.slot_count));
                assert_eq!(class.entry(0), entries);
                entries += class.slots();
            }
            let last = places.class(4);
            let end = |slot| last.bytes(slot).offset + last.bytes(slot).len;
            assert_eq!((end(last.count() - 1), places.end()), (offsets.end, offsets.end));
            assert_eq!((end(last.slots() - 1), entries), (offsets.reach, config.slots()));
        }
    }

    #[test]
    fn further_extents_stand_behind_each_other_as_the_first_ones_do() {
        let config = HubConfig { max_extents: 3, ..HubConfig::default() };
        let places = Places::new(&config, HOST);
        let mut at = places.end();
        for extent in 1..3 {
            for class in places.classes() {
                assert_eq!(class.extent(extent).offset, at);
                let (first, head) = (extent * class.count(), class.extent_head(extent));
                assert_eq!(class.meta(first, HubSlotMeta::META).offset(), at + 64);
                assert_eq!(class.bytes(first).offset, at + head.len);
                at += class.extent(extent).len;
            }
        }
        assert_eq!(at, HubOffsets::calculate(&config).unwrap().reach);
    }

    #[test]
    fn the_smallest_class_that_fits_comes_first() {
        let places = Places::new(&HubConfig::default(), HOST);
        let first = |len: usize| places.classes_for(len).next().map(|class| class.number);
        assert_eq!([0, 1024, 1025, 16_384].map(first), [Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!([1 << 24, (1 << 24) + 1].map(first), [Some(4), None]);
    }
}
