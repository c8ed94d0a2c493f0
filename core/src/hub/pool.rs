//! The slots of a hub: five size classes that all members share, and who must free which.
//!
//! It is the second pool behind the one send step and the one receive step: generation and state are one word, each
//! class's free slots are the same [tagged stack](crate::slots). New is what a death asks for. Every slot in use names its
//! *owner*, who must free it, and a member *announces* each slot that it is about to take or give back:
//!
//! ```text
//!   allocate                        send           accept             free
//!   announce the list's first slot                                    announce it
//!   compare-exchange the head                                         allocated / in flight -> free
//!   owner = me                                     owner = me         owner = nobody
//!   free -> allocated, generation + 1              (and only then     push it
//!   clear the announcement         -> in flight     the tail moves)   clear the announcement
//! ```
//!
//! So wherever a member is killed, each slot that it had is found: by its owner word if it is in use, by an
//! announcement if it is free and in no list ([`reap`](super::reap) tells it from one that is on its way in or out of a
//! live member's hands).

use core::cell::Cell;
use core::sync::atomic::Ordering;

use super::HOST;
use super::growth::GROWTHS;
use super::places::{Class, Places};
use crate::endpoint::{Endpoint, PeerId};
use crate::fault::PeerFault;
use crate::lanes::Lane;
use crate::layout::{
    At, ExtentHeader, FREE_LIST_END, HubConfig, HubHeader, HubSlotMeta, MsgDescHot, NO_OWNER, NUM_SIZE_CLASSES,
    SizeClassHeader, SlotMeta, SlotState, Span, decode_slot_ref,
};
use crate::region::{Region, SlotRights, Word};
use crate::slots::free_list::{FreeList, Links};
use crate::slots::{Slot, SlotPool, mismatch};
use crate::wake::{self, Signaller};

/// The slots of a hub, as one of its members takes and frees them: its geometry, copied and checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubAllocator {
    pub(super) places: Places,
}

/// One member's announcement, while it lasts.
pub(super) struct Announced<'a, R: Region> {
    region: &'a R,
    word: At<u32>,
    /// How many slots it has named.
    said: Cell<u32>,
    /// Private permission to use the word; given back after the word is cleared.
    _lane: Lane<'a>,
}

impl<R: Region> Announced<'_, R> {
    #[inline(always)]
    pub(super) fn say(&self, reference: u32) {
        self.said.set(self.said.get().wrapping_add(1));
        // Relaxed would do for the step that follows, a compare-exchange that releases. Release, because another slot's
        // announcement may be what it replaces.
        self.region.u32(self.word).store(reference.wrapping_add(1), Ordering::Release);
    }
}

impl<R: Region> Drop for Announced<'_, R> {
    #[inline]
    fn drop(&mut self) {
        // Release: a reaper that sees no announcement sees what became of the slot.
        self.region.u32(self.word).store(0, Ordering::Release);
    }
}

/// A class's free list, for those who announce nothing.
pub(super) struct Listed<'a, E> {
    pool: &'a HubAllocator,
    endpoint: &'a E,
    class: &'a Class,
}

impl<E: Endpoint> Links for Listed<'_, E> {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.class.slots()
    }

    #[inline(always)]
    fn link(&self, slot: u32) -> At<u32> {
        self.class.meta(slot, HubSlotMeta::NEXT_FREE)
    }

    #[inline(always)]
    fn will_take<R: Region>(&self, _: &R, _: u32) {}

    #[inline(always)]
    fn reach(&self, slot: u32) -> Result<(), PeerFault> {
        self.pool.reach(self.endpoint, self.class, slot)
    }
}

/// The same, for who announces what it is about to take.
struct Announcing<'a, 'b, E: Endpoint> {
    listed: Listed<'a, E>,
    announced: &'a Announced<'b, E::Region>,
}

impl<E: Endpoint> Links for Announcing<'_, '_, E> {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.listed.count()
    }

    #[inline(always)]
    fn link(&self, slot: u32) -> At<u32> {
        self.listed.link(slot)
    }

    #[inline(always)]
    fn will_take<Q: Region>(&self, _: &Q, slot: u32) {
        self.announced.say(self.listed.class.reference(slot));
    }

    #[inline(always)]
    fn comes_next<Q: Region>(&self, region: &Q, slot: u32) {
        self.listed.class.fetch(region, slot);
    }

    #[inline(always)]
    fn reach(&self, slot: u32) -> Result<(), PeerFault> {
        self.listed.reach(slot)
    }
}

impl Class {
    /// Asks for the cache lines of a slot that may be in use soon. They need not be there: it is a hint.
    #[inline(always)]
    fn fetch<R: Region>(&self, region: &R, slot: u32) {
        region.will_write(self.meta(slot, HubSlotMeta::NEXT_FREE).offset());
        region.will_write(self.bytes(slot).offset);
    }

    #[inline(always)]
    pub(super) fn list(&self) -> FreeList {
        FreeList::version_1(self.word(SizeClassHeader::FREE_HEAD))
    }

    #[inline(always)]
    pub(super) fn load<R: Region>(&self, region: &R, slot: u32) -> SlotMeta {
        // Acquire pairs with every transition.
        SlotMeta::from_word(region.u64(self.meta(slot, HubSlotMeta::META)).load(Ordering::Acquire))
    }

    /// One transition: from exactly this generation and state to the other.
    #[inline(always)]
    fn change<R: Region>(&self, region: &R, slot: u32, from: SlotMeta, to: SlotMeta) -> Result<(), PeerFault> {
        let word = region.u64(self.meta(slot, HubSlotMeta::META));
        // AcqRel: the new owner sees what the old one did with the bytes.
        match word.compare_exchange(from.to_word(), to.to_word(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(seen) => Err(mismatch(self.reference(slot), from, SlotMeta::from_word(seen))),
        }
    }

    #[inline(always)]
    pub(super) fn owner<R: Region>(&self, region: &R, slot: u32) -> u32 {
        region.u32(self.meta(slot, HubSlotMeta::OWNER)).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(super) fn set_owner<R: Region>(&self, region: &R, slot: u32, owner: u32) {
        // Relaxed: the transition, or the tail, that follows carries it.
        region.u32(self.meta(slot, HubSlotMeta::OWNER)).store(owner, Ordering::Relaxed);
    }

    /// Whether a slot is in use and this member must free it.
    pub(super) fn is_owned_by<R: Region>(&self, region: &R, slot: u32, owner: PeerId) -> bool {
        // In this order: the owner is written before the state says that the slot is in use.
        self.load(region, slot).state != SlotState::Free as u32 && self.owner(region, slot) == u32::from(owner.0)
    }

    /// Writes header, extent header and free list of a class in which every slot is free.
    fn init<R: Region>(&self, region: &R) {
        let write = |field: At<u32>, value| region.u32(field).store(value, Ordering::Relaxed);
        write(self.word(SizeClassHeader::SLOT_SIZE), self.slot_size());
        self.write_totals(region, 0);
        // Slot 0 with tag 1: what version 1.0 has when it is done.
        region.u64(self.word(SizeClassHeader::FREE_HEAD)).store(1 << 32, Ordering::Relaxed);
        self.write_extent(region, 0);
        let fresh = SlotMeta::new(0, SlotState::Free).to_word();
        for slot in 0..self.count() {
            region.u64(self.meta(slot, HubSlotMeta::META)).store(fresh, Ordering::Relaxed);
            let next = if slot + 1 < self.count() { slot + 1 } else { FREE_LIST_END };
            write(self.meta(slot, HubSlotMeta::NEXT_FREE), next);
            self.set_owner(region, slot, NO_OWNER);
        }
    }
}

impl HubAllocator {
    pub(super) const fn new(places: Places) -> Self {
        Self { places }
    }

    /// The shape of the hub.
    #[must_use]
    pub fn config(&self) -> HubConfig {
        self.places.config()
    }

    /// Who allocates here: the host is 0.
    #[must_use]
    pub const fn owner(&self) -> PeerId {
        self.places.own()
    }

    /// The smallest class whose slots hold `len` bytes, if there is one.
    #[must_use]
    pub fn find_class_for_size(&self, len: usize) -> Option<u32> {
        self.places.classes_for(len).next().map(|class| class.number)
    }

    /// Writes every class, all slots free.
    pub(super) fn init<R: Region>(&self, region: &R) {
        for class in self.places.classes() {
            region.clear(Span {
                offset: class.word(SizeClassHeader::SLOT_SIZE).offset(),
                len: size_of::<SizeClassHeader>(),
            });
            region.clear(Span { len: size_of::<ExtentHeader>(), ..class.extent(0) });
            class.init(region);
        }
    }

    #[inline(always)]
    fn owner_word(&self) -> u32 {
        u32::from(self.places.own().0)
    }

    /// The class and the slot that a reference names, if they can exist: one that this member has, or has had, does.
    #[inline(always)]
    pub(super) fn find(&self, reference: u32) -> Result<(Class, u32), PeerFault> {
        let (number, slot) = decode_slot_ref(reference);
        if number as usize >= NUM_SIZE_CLASSES {
            return Err(PeerFault::SizeClass { reference, class: number });
        }
        let class = self.places.class(number);
        if slot >= class.slots() {
            return Err(PeerFault::SlotIndex { slot: reference, count: class.slots() });
        }
        Ok((class, slot))
    }

    /// As [`find`](Self::find), for a reference that somebody else has written: the slot is there and can be touched.
    #[inline(always)]
    pub(super) fn find_there<E: Endpoint>(&self, endpoint: &E, reference: u32) -> Result<(Class, u32), PeerFault> {
        let (class, slot) = self.find(reference)?;
        self.reach(endpoint, &class, slot)?;
        Ok((class, slot))
    }

    /// A class's free list, for those who announce nothing.
    #[inline(always)]
    pub(super) const fn listed<'a, E>(&'a self, endpoint: &'a E, class: &'a Class) -> Listed<'a, E> {
        Listed { pool: self, endpoint, class }
    }

    /// How many slots of a class a member must free.
    #[cold]
    pub(super) fn owned_in<E: Endpoint>(&self, endpoint: &E, class: &Class, owner: PeerId) -> Result<u32, PeerFault> {
        let owned = |slot: &u32| class.is_owned_by(endpoint.region(), *slot, owner);
        Ok((0..self.there(endpoint, class)?).filter(owned).fold(0, |count, _| count + 1))
    }

    #[inline(always)]
    fn announced<'a, E: Endpoint>(&self, endpoint: &'a E) -> Announced<'a, E::Region> {
        let lane = endpoint.ledger().lanes.enter();
        let word = self.places.announcement(self.places.own(), lane.number());
        Announced { region: endpoint.region(), word, said: Cell::new(0), _lane: lane }
    }

    /// Takes a slot of this class if one is free.
    #[inline]
    fn take<E: Endpoint>(&self, endpoint: &E, class: &Class, len: usize) -> Result<Option<(Slot, Span)>, PeerFault> {
        let announced = self.announced(endpoint);
        let taken = self.take_announced(endpoint, class, len, &announced);
        let in_vain = announced.said.get() != u32::from(matches!(taken, Ok(Some(_))));
        drop(announced);
        if in_vain {
            self.tell_if_in_doubt(endpoint);
        }
        taken
    }

    /// Tells the host that something that was announced turned out to be somebody else's, if that is what the host waits
    /// for: it could not tell who had taken that slot, this member or one that died.
    #[cold]
    fn tell_if_in_doubt<E: Endpoint>(&self, endpoint: &E) {
        let region = endpoint.region();
        // Pairs with the fence in `HubHost::settle`: either it sees that the announcement is gone, or this sees its doubt.
        region.fence();
        if region.u32(HubHeader::IN_DOUBT).load(Ordering::Relaxed) != 0 {
            Signaller::new(endpoint, Places::any_data()).signal(endpoint);
        }
    }

    #[inline(always)]
    fn take_announced<E: Endpoint>(
        &self,
        endpoint: &E,
        class: &Class,
        len: usize,
        announced: &Announced<'_, E::Region>,
    ) -> Result<Option<(Slot, Span)>, PeerFault> {
        let region = endpoint.region();
        let links = Announcing { listed: self.listed(endpoint, class), announced };
        let slot = match class.list().pop(region, &links)? {
            None if self.grows() => self.take_fresh(endpoint, class, announced)?,
            popped => popped,
        };
        let Some(slot) = slot else { return Ok(None) };
        let reference = class.reference(slot);
        let free = class.load(region, slot);
        if free.state != SlotState::Free as u32 {
            return Err(PeerFault::State { slot: reference, expected: SlotState::Free as u32, seen: free.state });
        }
        let generation = free.generation.wrapping_add(1);
        let entry = endpoint.ledger().entry(class.entry(slot))?;
        entry.claim(reference, generation, SlotState::Allocated)?;
        // Before the state says that the slot is in use: a reaper that sees that must see whose.
        class.set_owner(region, slot, self.owner_word());
        if let Err(fault) = class.change(region, slot, free, SlotMeta::new(generation, SlotState::Allocated)) {
            entry.transfer();
            return Err(fault);
        }
        self.count_one_more(endpoint, class);
        let Span { offset, len: size } = class.bytes(slot);
        Ok(Some((Slot { reference, generation }, Span { offset, len: len.min(size) })))
    }

    /// Slots of this class that this member may have, 0 = any number.
    #[inline(always)]
    fn quota<E: Endpoint>(&self, endpoint: &E, class: &Class) -> u32 {
        if self.places.own() == HOST {
            return 0;
        }
        endpoint.region().u32(class.word(SizeClassHeader::QUOTA)).load(Ordering::Relaxed)
    }

    /// Whether this member has fewer slots of the class than it may.
    #[inline(always)]
    fn may_take<E: Endpoint>(&self, endpoint: &E, class: &Class) -> Result<bool, PeerFault> {
        let quota = self.quota(endpoint, class);
        let Some(taken) = endpoint.ledger().lanes.taken(class.number).filter(|_| quota != 0) else { return Ok(true) };
        if taken.load(Ordering::Relaxed) < quota {
            return Ok(true);
        }
        // What was sent and has been taken over since is not its own any more.
        let owned = self.owned_in(endpoint, class, self.places.own())?;
        taken.store(owned, Ordering::Relaxed);
        Ok(owned < quota)
    }

    #[inline(always)]
    fn count_one_more<E: Endpoint>(&self, endpoint: &E, class: &Class) {
        let taken = endpoint.ledger().lanes.taken(class.number);
        if let Some(taken) = taken.filter(|_| self.quota(endpoint, class) != 0) {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn count_one_less<E: Endpoint>(&self, endpoint: &E, class: &Class) {
        let taken = endpoint.ledger().lanes.taken(class.number);
        if let Some(taken) = taken.filter(|_| self.quota(endpoint, class) != 0) {
            let seen = taken.load(Ordering::Relaxed);
            // Once: if it fails, the count is too high until it is taken again.
            let _ = taken.compare_exchange(seen, seen.saturating_sub(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Sets a slot free whose metadata is `from`, and puts it into its list; `release` is called once it is nobody's.
    #[inline]
    pub(super) fn give_back<E: Endpoint>(
        &self,
        endpoint: &E,
        (class, slot): (&Class, u32),
        (from, to): (SlotMeta, SlotMeta),
        release: impl FnOnce(),
    ) -> Result<(), PeerFault> {
        let region = endpoint.region();
        let announced = self.announced(endpoint);
        announced.say(class.reference(slot));
        let freed = class.change(region, slot, from, to);
        release();
        freed?;
        class.set_owner(region, slot, NO_OWNER);
        class.list().push(region, &self.listed(endpoint, class), slot)
    }

    /// Lets a class that had no slot grow, and takes one of the new ones.
    #[cold]
    fn grow_and_take<E: Endpoint>(
        &self,
        endpoint: &E,
        class: &Class,
        len: usize,
    ) -> Result<Option<(Slot, Span)>, PeerFault> {
        // Others may take them all. They cannot do that more often than a hub can grow.
        for _ in 0..GROWTHS {
            if !self.grow(endpoint, class)? {
                break;
            }
            if let Some(taken) = self.take(endpoint, class, len)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }
}

impl SlotPool for HubAllocator {
    #[inline]
    fn max_payload(&self) -> usize {
        self.places.largest()
    }

    #[inline]
    fn allocate<E: Endpoint>(&self, endpoint: &E, len: usize) -> Result<Option<(Slot, Span)>, PeerFault> {
        for class in self.places.classes_for(len) {
            if !self.may_take(endpoint, &class)? {
                continue;
            }
            let taken = match self.take(endpoint, &class, len)? {
                None if self.grows() => self.grow_and_take(endpoint, &class, len)?,
                taken => taken,
            };
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    #[inline]
    fn send<E: Endpoint>(&self, endpoint: &E, slot: Slot, _rights: SlotRights) -> Result<(), PeerFault> {
        let Slot { reference, generation } = slot;
        let (class, slot) = self.find(reference)?;
        // The claim goes first: once the slot is in flight the peer may free it, and it may be popped here again.
        endpoint.ledger().entry(class.entry(slot))?.transfer();
        let (from, to) = (SlotState::Allocated, SlotState::InFlight);
        class.change(endpoint.region(), slot, SlotMeta::new(generation, from), SlotMeta::new(generation, to))
    }

    #[inline]
    fn will_accept<R: Region>(&self, region: &R, reference: u32) {
        if let Ok((class, slot)) = self.find(reference) {
            class.fetch(region, slot);
        }
    }

    #[inline]
    fn accept<E: Endpoint>(&self, endpoint: &E, descriptor: &MsgDescHot) -> Result<(), PeerFault> {
        let reference = descriptor.payload_slot;
        let (class, slot) = self.find_there(endpoint, reference)?;
        let (offset, len) = (descriptor.payload_offset, descriptor.payload_len);
        if offset.checked_add(len).is_none_or(|end| end > class.slot_size()) {
            return Err(PeerFault::PayloadRange { slot: reference, offset, len, slot_size: class.slot_size() });
        }
        let generation = descriptor.payload_generation;
        let expected = SlotMeta::new(generation, SlotState::InFlight);
        let region = endpoint.region();
        class.fetch(region, slot);
        let seen = class.load(region, slot);
        if seen != expected {
            return Err(mismatch(reference, expected, seen));
        }
        endpoint.ledger().entry(class.entry(slot))?.claim(reference, generation, SlotState::InFlight)?;
        // Before the tail moves: until then the slot is found through the ring.
        class.set_owner(region, slot, self.owner_word());
        self.count_one_more(endpoint, &class);
        // Its sender may have waited for having one slot less.
        self.wake_waiters(endpoint);
        Ok(())
    }

    #[inline]
    fn span(&self, descriptor: &MsgDescHot) -> Span {
        let Ok((class, slot)) = self.find(descriptor.payload_slot) else { return Span { offset: 0, len: 0 } };
        let start = class.bytes(slot).offset.wrapping_add(descriptor.payload_offset as usize);
        Span { offset: start, len: descriptor.payload_len as usize }
    }

    #[inline]
    fn free<E: Endpoint>(
        &self,
        endpoint: &E,
        slot: Slot,
        share: SlotState,
        _rights: SlotRights,
    ) -> Result<(), PeerFault> {
        let Slot { reference, generation } = slot;
        let (class, slot) = self.find(reference)?;
        let entry = endpoint.ledger().entry(class.entry(slot))?;
        let change = (SlotMeta::new(generation, share), SlotMeta::new(generation, SlotState::Free));
        let freed = self.give_back(endpoint, (&class, slot), change, || entry.transfer());
        self.count_one_less(endpoint, &class);
        self.wake_waiters(endpoint);
        freed
    }

    #[inline(always)]
    fn wake_waiters<E: Endpoint>(&self, endpoint: &E) {
        wake::signal_listed(endpoint, HubHeader::SLOT_WAITERS, |bit| self.places.slot_waiter(bit));
    }
}
