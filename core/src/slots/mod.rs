//! The slab: slots of shared memory, lists of those that are free, and who may touch which.
//!
//! A slot is free, allocated (its sender writes), in flight (sent, its receiver reads) or lent (sent, and both read).
//! Generation and state are one 64-bit word and every transition is one compare-exchange on both, so a stale handle can
//! change nothing. Of a lent slot each side gives up its [share](SlotState) when it lets go, and whoever is last frees it.
//!
//! A free slot is in one of three lists, each a tagged stack:
//!
//! ```text
//!   common         where all are at first; the only one that a version 1.0 peer knows     data header
//!   returned by A  what A has freed     beside the tail of the ring that A reads          ring B→A
//!   returned by B  what B has freed     beside the tail of the ring that B reads          ring A→B
//! ```
//!
//! With one list for both, every message would move its head's cache line to the receiver and back. So a peer gives
//! slots back to a list of its own, on a line that it writes anyway, and takes slots from there first. When that is
//! empty, it takes the whole list that the other one has returned, at once: in one-way traffic one such transfer serves
//! as many messages as were returned meanwhile. What is left of it becomes its own list, where the other one finds it
//! if it runs out. Beside a version 1.0 peer, or while nobody has attached, slots go back to the common list.

pub(crate) mod free_list;
mod reclaim;
mod status;

use core::sync::atomic::Ordering;

use crate::endpoint::{Endpoint, Event, Half, PeerId};
use crate::fault::PeerFault;
use crate::layout::{
    At, DataSegmentHeader, DescRingHeader, FREE_LIST_END, MsgDescHot, PeerRole, PeerState, SegmentOffsets,
    ShmSessionConfig, SlotMeta, SlotState, Span,
};
use crate::ledger::Returning;
#[cfg(feature = "allocator")]
use crate::region::REGION_ALIGN;
use crate::region::{Region, SlotRights, Word};
use crate::wake::{self, WaitPoint};
use free_list::{FreeList, Links};
pub(crate) use reclaim::Reclaimed;
pub use status::SlotStatus;

/// How often a change of one slot's shares is tried. Each failure means that the other side, or the reaper, has given up
/// its own, which each of them does once.
const SHARE_TRIES: u32 = 4;

/// One slot that this endpoint holds. Not a permission: the guards around it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What stands in [`MsgDescHot::payload_slot`].
    pub reference: u32,
    /// The generation at which it was allocated.
    pub generation: u32,
}

/// Where the payloads of a link live: a session's slab, or the size classes of a hub.
///
/// The methods are the transitions of a slot; core's one send step and one receive step call them in order.
pub trait SlotPool: Copy {
    /// Longest payload in bytes.
    fn max_payload(&self) -> usize;

    /// Takes a slot of at least `len` bytes, claims it in the ledger, and says where its bytes are; `None` if no
    /// slot is free. `len` is at most [`max_payload`](Self::max_payload).
    ///
    /// # Errors
    /// A fault of the free list or of the slot's metadata.
    fn allocate<E: Endpoint>(&self, endpoint: &E, len: usize) -> Result<Option<(Slot, Span)>, PeerFault>;

    /// Hands an allocated slot over: to be called right before its descriptor is written.
    ///
    /// # Errors
    /// The slot's metadata is not what it was; the claim is given back all the same.
    fn send<E: Endpoint>(&self, endpoint: &E, slot: Slot, rights: SlotRights) -> Result<(), PeerFault>;

    /// Hands an allocated slot over and keeps the right to read it: to be called right before its descriptor is written.
    /// The claim stays. `false` if that cannot be, so that a copy has to be sent: the peer would not understand it, or has
    /// the slot already. A pool that lends nothing leaves it at that.
    ///
    /// # Errors
    /// The slot's metadata is not what it was.
    fn lend<E: Endpoint>(&self, endpoint: &E, slot: Slot, rights: SlotRights) -> Result<bool, PeerFault> {
        let _ = (endpoint, slot, rights);
        Ok(false)
    }

    /// Says that a message in this slot will soon be received, if the peer's word is good. A hint: by default it does nothing.
    #[inline(always)]
    fn will_accept<R: Region>(&self, region: &R, slot: u32) {
        let _ = (region, slot);
    }

    /// Takes over the slot that a descriptor names and claims it in the ledger.
    ///
    /// # Errors
    /// A descriptor that names no slot in flight, or a range outside it; nothing was claimed.
    fn accept<E: Endpoint>(&self, endpoint: &E, descriptor: &MsgDescHot) -> Result<(), PeerFault>;

    /// Where the payload of a descriptor that was accepted is.
    fn span(&self, descriptor: &MsgDescHot) -> Span;

    /// Lets go of a held slot. `share` is what this endpoint has of it: [`SlotState::Allocated`] as its sender,
    /// [`SlotState::InFlight`] as its receiver. If the other side has no share in it, the slot goes back to the free list
    /// and those who wait for one are woken.
    ///
    /// # Errors
    /// The slot's metadata is not what it was; the claim is given back all the same.
    fn free<E: Endpoint>(
        &self,
        endpoint: &E,
        slot: Slot,
        share: SlotState,
        rights: SlotRights,
    ) -> Result<(), PeerFault>;

    /// Wakes everybody who waits for a slot.
    fn wake_waiters<E: Endpoint>(&self, endpoint: &E);
}

/// Gives a share of a slot back for a guard, which cannot report a fault: the endpoint's next step does.
#[inline]
pub(crate) fn give_back<E: Endpoint>(pool: &impl SlotPool, endpoint: &E, slot: Slot, share: SlotState) {
    match pool.free(endpoint, slot, share, SlotRights::OF_A_GUARD) {
        Ok(()) => endpoint.note(Event::SlotFreed),
        Err(_) => endpoint.ledger().fault.set_tampered(slot.reference),
    }
}

/// The slab of a session: its geometry, copied and checked once. Slots are shared by both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSegment {
    /// Of a session whose offsets were calculated without overflow. A copy travels with every received message, so it is
    /// this and not the offsets.
    config: ShmSessionConfig,
    /// 1 for peer B, otherwise A. Not the enumeration, whose invalid values would become the discriminant of an
    /// `Option<Message>` and messages be put together byte by byte.
    own: u32,
}

impl DataSegment {
    pub(crate) fn new(config: ShmSessionConfig, own: PeerRole) -> Self {
        Self { config, own: u32::from(own == PeerRole::B) }
    }

    /// Bytes per slot.
    #[must_use]
    pub const fn slot_size(&self) -> u32 {
        self.config.slot_size
    }

    /// Number of slots.
    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        self.config.slot_count
    }

    #[inline(always)]
    fn word<T>(&self, field: At<T>) -> At<T> {
        field.within(self.header())
    }

    #[inline(always)]
    fn header(&self) -> usize {
        SegmentOffsets::data_header_of(self.config.ring_capacity)
    }

    /// Generation and state of a slot that exists.
    #[inline(always)]
    fn meta(&self, slot: u32) -> At<u64> {
        At::new(self.header() + size_of::<DataSegmentHeader>() + slot as usize * size_of::<SlotMeta>())
    }

    /// Where the first slot starts: behind the metadata of the last.
    #[inline(always)]
    fn data(&self) -> usize {
        self.meta(self.config.slot_count).offset()
    }

    /// The bytes of a slot that exists.
    #[inline(always)]
    fn bytes(&self, slot: u32) -> Span {
        let size = self.config.slot_size as usize;
        Span { offset: self.data() + slot as usize * size, len: size }
    }

    /// What every slot's address is a multiple of, in bytes: a power of two.
    #[cfg(feature = "allocator")]
    pub(crate) fn slot_align(&self) -> usize {
        let either = self.data() | self.config.slot_size as usize | REGION_ALIGN;
        1 << either.trailing_zeros()
    }

    /// The slot that contains the byte at `offset` of the region, and how many bytes there are from there to its end.
    #[cfg(feature = "allocator")]
    pub(crate) fn locate(&self, offset: usize) -> Option<(u32, usize)> {
        let from_first = offset.checked_sub(self.data())?;
        let size = self.config.slot_size as usize;
        let slot = u32::try_from(from_first.checked_div(size)?).ok().filter(|slot| *slot < self.config.slot_count)?;
        Some((slot, size - from_first.checked_rem(size)?))
    }

    /// Asks for the cache lines of a slot that exists which whoever gets it writes: together they take no longer than one.
    #[inline(always)]
    fn fetch<R: Region>(&self, region: &R, slot: u32) {
        region.will_write(self.link(slot).offset());
        region.will_write(self.meta(slot).offset());
    }

    fn check_index(&self, slot: u32) -> Result<(), PeerFault> {
        if slot < self.config.slot_count {
            return Ok(());
        }
        Err(PeerFault::SlotIndex { slot, count: self.config.slot_count })
    }

    /// Writes header, metadata and free list of a slab in which every slot is free.
    pub(crate) fn init<R: Region>(&self, region: &R) {
        let write = |field: At<u32>, value| region.u32(self.word(field)).store(value, Ordering::Relaxed);
        write(DataSegmentHeader::SLOT_SIZE, self.config.slot_size);
        write(DataSegmentHeader::SLOT_COUNT, self.config.slot_count);
        write(DataSegmentHeader::MAX_FRAME_SIZE, self.config.slot_size);
        write(DataSegmentHeader::SLOT_AVAILABLE, 0);
        write(DataSegmentHeader::SLOTS_SLEEPER_A, wake::UNKNOWN);
        write(DataSegmentHeader::SLOTS_SLEEPER_B, wake::UNKNOWN);
        let fresh = SlotMeta::new(0, SlotState::Free).to_word();
        for slot in 0..self.config.slot_count {
            region.u64(self.meta(slot)).store(fresh, Ordering::Relaxed);
            let next = if slot + 1 < self.config.slot_count { slot + 1 } else { FREE_LIST_END };
            region.u32(self.link(slot)).store(next, Ordering::Relaxed);
        }
        // The other two are zero, as the rest of their rings' headers.
        self.common().init(region, 0);
    }

    #[inline(always)]
    fn own(&self) -> PeerRole {
        if self.own == 1 { PeerRole::B } else { PeerRole::A }
    }

    /// The list that a version 1.0 peer knows.
    #[inline(always)]
    fn common(&self) -> FreeList {
        FreeList::version_1(self.word(DataSegmentHeader::FREE_HEAD))
    }

    /// What a peer has returned: beside the tail of the ring that it reads.
    #[inline(always)]
    fn returned_by(&self, peer: PeerRole) -> FreeList {
        FreeList::zero_is_empty(DescRingHeader::RETURNED.within(match peer {
            PeerRole::A => SegmentOffsets::b_to_a_ring_of(self.config.ring_capacity),
            PeerRole::B => SegmentOffsets::A_TO_B_RING,
        }))
    }

    fn lists(&self) -> [FreeList; 3] {
        [self.common(), self.returned_by(PeerRole::A), self.returned_by(PeerRole::B)]
    }

    /// Whether the other peer is one of ours: it knows the lists of returned slots, and what lent means.
    #[inline(always)]
    fn peer_is_ours<R: Region>(&self, region: &R) -> bool {
        let seen = region.u32(self.own().peer().state()).load(Ordering::Relaxed);
        seen == PeerState::Attached as u32 || seen == PeerState::Left as u32
    }

    /// Takes a slot out of the lists: from its own, from the other peer's, from the common one.
    #[inline]
    fn pop<E: Endpoint>(&self, endpoint: &E) -> Result<Option<u32>, PeerFault> {
        let region = endpoint.region();
        if let Some(slot) = self.returned_by(self.own()).pop(region, self)? {
            return Ok(Some(slot));
        }
        match self.take_over(endpoint)? {
            None => self.common().pop(region, self),
            some => Ok(some),
        }
    }

    /// Takes everything that the other peer has returned: one slot is the answer, the rest becomes this endpoint's list.
    #[inline(never)]
    fn take_over<E: Endpoint>(&self, endpoint: &E) -> Result<Option<u32>, PeerFault> {
        let region = endpoint.region();
        let Some(first) = self.returned_by(self.own().peer()).take_all(region, self)? else { return Ok(None) };
        if self.returned_by(self.own()).adopt(region, self, first.next)? {
            // Meanwhile the rest was in no list: whoever looked for a slot then found none.
            self.wake_waiters(endpoint);
        }
        Ok(Some(first.slot))
    }

    /// Returns a slot whose metadata says free and which this endpoint still has to itself.
    #[inline]
    fn push<R: Region>(&self, region: &R, slot: u32) -> Result<(), PeerFault> {
        let list = if self.peer_is_ours(region) { self.returned_by(self.own()) } else { self.common() };
        list.push(region, self, slot)
    }

    /// One transition, from exactly this generation and state to the other; else what stands there.
    #[inline(always)]
    fn exchange<R: Region>(&self, region: &R, slot: u32, from: SlotMeta, to: SlotMeta) -> Result<(), SlotMeta> {
        // AcqRel: the new owner sees what the old one did with the bytes.
        let word = region.u64(self.meta(slot));
        match word.compare_exchange(from.to_word(), to.to_word(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(seen) => Err(SlotMeta::from_word(seen)),
        }
    }

    /// As [`exchange`](Self::exchange), where anything else is a fault.
    #[inline]
    fn change<R: Region>(&self, region: &R, slot: u32, from: SlotMeta, to: SlotMeta) -> Result<(), PeerFault> {
        self.exchange(region, slot, from, to).map_err(|seen| mismatch(slot, from, seen))
    }

    /// Lists a slot that this endpoint has just freed, and tells those who wait for one.
    #[inline(always)]
    fn put_back<E: Endpoint>(&self, endpoint: &E, slot: u32, returning: Returning<'_>) -> Result<(), PeerFault> {
        let pushed = self.push(endpoint.region(), slot);
        returning.settle();
        self.wake_waiters(endpoint);
        pushed
    }

    /// Gives up a share in a slot that is not this endpoint's alone: `seen` stands there and not `alone`. Frees it if that
    /// turns out to be the last share after all.
    #[inline(never)]
    fn free_beside<E: Endpoint>(
        &self,
        endpoint: &E,
        slot: u32,
        (alone, mut seen): (SlotMeta, SlotMeta),
        returning: Returning<'_>,
    ) -> Result<(), PeerFault> {
        let [lent, free] = [SlotState::Lent, SlotState::Free].map(|state| SlotMeta::new(alone.generation, state));
        let mut fault = PeerFault::NeverSettles { tries: SHARE_TRIES };
        for _ in 0..SHARE_TRIES {
            let left = match seen {
                seen if seen == alone => free,
                seen if seen == lent => SlotMeta { state: lent.state & !alone.state, ..lent },
                other => {
                    fault = mismatch(slot, alone, other);
                    break;
                }
            };
            match self.exchange(endpoint.region(), slot, seen, left) {
                Ok(()) if left == free => return self.put_back(endpoint, slot, returning),
                Ok(()) => {
                    returning.settle();
                    return Ok(());
                }
                Err(now) => seen = now,
            }
        }
        returning.settle();
        Err(fault)
    }

    /// Whether the metadata is what a slot that was just popped must have; its generation.
    #[inline]
    fn generation_of_free<R: Region>(&self, region: &R, slot: u32) -> Result<u32, PeerFault> {
        let seen = SlotMeta::from_word(region.u64(self.meta(slot)).load(Ordering::Acquire));
        if seen.state == SlotState::Free as u32 {
            return Ok(seen.generation);
        }
        Err(PeerFault::State { slot, expected: SlotState::Free as u32, seen: seen.state })
    }

    #[inline(always)]
    fn points(&self) -> [WaitPoint; 2] {
        [self.point_of(PeerId(0)), self.point_of(PeerId(1))]
    }

    /// Where a peer waits for a slot.
    #[inline(always)]
    pub(crate) fn point_of(&self, waiter: PeerId) -> WaitPoint {
        let sleeper = match waiter {
            PeerId(0) => DataSegmentHeader::SLOTS_SLEEPER_A,
            PeerId(_) => DataSegmentHeader::SLOTS_SLEEPER_B,
        };
        let sequence = self.word(DataSegmentHeader::SLOT_AVAILABLE);
        WaitPoint::new(sequence, self.word(sleeper), waiter, Half::Sender)
    }
}

/// A free slot's link is its first four bytes.
impl Links for DataSegment {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.config.slot_count
    }

    #[inline(always)]
    fn link(&self, slot: u32) -> At<u32> {
        At::new(self.bytes(slot).offset)
    }

    #[inline(always)]
    fn will_take<R: Region>(&self, region: &R, slot: u32) {
        self.fetch(region, slot);
    }

    #[inline(always)]
    fn comes_next<R: Region>(&self, region: &R, slot: u32) {
        self.fetch(region, slot);
    }
}

impl SlotPool for DataSegment {
    #[inline]
    fn max_payload(&self) -> usize {
        self.config.slot_size as usize
    }

    #[inline]
    fn allocate<E: Endpoint>(&self, endpoint: &E, len: usize) -> Result<Option<(Slot, Span)>, PeerFault> {
        let region = endpoint.region();
        let Some(slot) = self.pop(endpoint)? else { return Ok(None) };
        let before = self.generation_of_free(region, slot)?;
        let generation = before.wrapping_add(1);
        let entry = endpoint.ledger().entry(slot)?;
        entry.claim(slot, generation, SlotState::Allocated)?;
        let taken = self.change(
            region,
            slot,
            SlotMeta::new(before, SlotState::Free),
            SlotMeta::new(generation, SlotState::Allocated),
        );
        if let Err(fault) = taken {
            entry.transfer();
            return Err(fault);
        }
        let Span { offset, len: size } = self.bytes(slot);
        Ok(Some((Slot { reference: slot, generation }, Span { offset, len: len.min(size) })))
    }

    #[inline]
    fn send<E: Endpoint>(&self, endpoint: &E, slot: Slot, _rights: SlotRights) -> Result<(), PeerFault> {
        let Slot { reference, generation } = slot;
        // The claim goes first: once the slot is in flight the peer may free it, and it may be popped here again.
        endpoint.ledger().entry(reference)?.transfer();
        self.change(
            endpoint.region(),
            reference,
            SlotMeta::new(generation, SlotState::Allocated),
            SlotMeta::new(generation, SlotState::InFlight),
        )
    }

    #[inline]
    fn lend<E: Endpoint>(&self, endpoint: &E, slot: Slot, _rights: SlotRights) -> Result<bool, PeerFault> {
        let Slot { reference, generation } = slot;
        let region = endpoint.region();
        if !self.peer_is_ours(region) {
            return Ok(false);
        }
        let [from, lent] = [SlotState::Allocated, SlotState::Lent].map(|state| SlotMeta::new(generation, state));
        match self.exchange(region, reference, from, lent) {
            Ok(()) => Ok(true),
            Err(seen) if seen == lent => Ok(false),
            Err(seen) => Err(mismatch(reference, from, seen)),
        }
    }

    #[inline]
    fn accept<E: Endpoint>(&self, endpoint: &E, descriptor: &MsgDescHot) -> Result<(), PeerFault> {
        let slot = descriptor.payload_slot;
        self.check_index(slot)?;
        let (offset, len) = (descriptor.payload_offset, descriptor.payload_len);
        if offset.checked_add(len).is_none_or(|end| end > self.config.slot_size) {
            return Err(PeerFault::PayloadRange { slot, offset, len, slot_size: self.config.slot_size });
        }
        // Both are at the sender's core, and both will be written when the slot is freed.
        let region = endpoint.region();
        self.fetch(region, slot);
        let generation = descriptor.payload_generation;
        let expected = SlotMeta::new(generation, SlotState::InFlight);
        // Acquire pairs with the sender's change to in flight, or to lent.
        let seen = SlotMeta::from_word(region.u64(self.meta(slot)).load(Ordering::Acquire));
        if seen != expected && seen != SlotMeta::new(generation, SlotState::Lent) {
            return Err(mismatch(slot, expected, seen));
        }
        endpoint.ledger().entry(slot)?.claim(slot, generation, SlotState::InFlight)
    }

    #[inline(always)]
    fn will_accept<R: Region>(&self, region: &R, slot: u32) {
        if slot < self.config.slot_count {
            self.fetch(region, slot);
        }
    }

    #[inline]
    fn span(&self, descriptor: &MsgDescHot) -> Span {
        let MsgDescHot { payload_slot, payload_offset, payload_len, .. } = *descriptor;
        let start = self.bytes(payload_slot).offset.wrapping_add(payload_offset as usize);
        Span { offset: start, len: payload_len as usize }
    }

    #[inline]
    fn free<E: Endpoint>(
        &self,
        endpoint: &E,
        slot: Slot,
        share: SlotState,
        _rights: SlotRights,
    ) -> Result<(), PeerFault> {
        let region = endpoint.region();
        let Slot { reference, generation } = slot;
        // The claim goes first: once the other side has the slot to itself, it may come back here at once.
        let returning = endpoint.ledger().entry(reference)?.let_go();
        let alone = SlotMeta::new(generation, share);
        match self.exchange(region, reference, alone, SlotMeta::new(generation, SlotState::Free)) {
            Ok(()) => self.put_back(endpoint, reference, returning),
            Err(seen) => self.free_beside(endpoint, reference, (alone, seen), returning),
        }
    }

    #[inline(always)]
    fn wake_waiters<E: Endpoint>(&self, endpoint: &E) {
        wake::signal_both(endpoint, &self.points());
    }
}

#[cold]
pub(crate) fn mismatch(slot: u32, expected: SlotMeta, seen: SlotMeta) -> PeerFault {
    if seen.generation != expected.generation {
        return PeerFault::Generation { slot, expected: expected.generation, seen: seen.generation };
    }
    PeerFault::State { slot, expected: expected.state, seen: seen.state }
}
