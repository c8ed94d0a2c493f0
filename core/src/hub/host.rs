//! The host: it creates the hub, gives numbers to plugins, and receives from whichever has something.

use core::fmt;
use core::sync::atomic::Ordering;

use super::end::{HasLinkMarks, HostEnd};
use super::link::HubLink;
use super::places::{CLASSES, HOST, Places};
use super::pool::HubAllocator;
use super::reap::Doubts;
use super::status::HubSlotStatus;
use super::{HubError, check_room};
use crate::endpoint::{Endpoint, PeerId};
use crate::layout::{
    ANNOUNCEMENTS, At, DescRingHeader, HUB_GROWABLE_VERSION, HUB_MAGIC, HUB_OWN_CLASSES_VERSION, HUB_PROTOCOL_VERSION,
    HUB_SIZE_CLASSES, HubConfig, HubHeader, HubLayoutError, HubOffsets, NUM_SIZE_CLASSES, PEER_FLAG_DEAD,
    PEER_FLAG_RESERVED, PEER_TYPE_PLUGIN, PeerEntry, PeerState, RING_HEADER_SIZE, SizeClassHeader, Span,
};
use crate::link::{Message, Receiver, RecvError};
use crate::region::{Region, Word};
use crate::slots::SlotPool;
use crate::wake::{Step, Waiter};

/// A link as [`HubHost::try_any`] asks it: a [`HubLink`], or whatever else holds the host's receiver of one.
pub trait AnyLink<E: Endpoint + HasLinkMarks> {
    /// The plugin's number.
    fn id(&self) -> PeerId;

    /// What to receive with; `None` once its end was reported.
    fn receiver(&mut self) -> Option<&mut Receiver<HostEnd<E>, HubAllocator>>;

    /// Its end is being reported.
    fn end(&mut self);
}

impl<E: Endpoint + HasLinkMarks> AnyLink<E> for HubLink<HostEnd<E>> {
    fn id(&self) -> PeerId {
        self.id()
    }

    fn receiver(&mut self) -> Option<&mut Receiver<HostEnd<E>, HubAllocator>> {
        if self.ended { None } else { Some(self.split().1) }
    }

    fn end(&mut self) {
        self.ended = true;
    }
}

/// A message out of a plugin's ring, or why there will be none any more.
pub type FromAny<E> = (PeerId, Result<Message<HostEnd<E>, HubAllocator>, RecvError>);

/// Where the host waits for the data of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// With those of all others that wait together, by [`HubHost::poll_any`]: one sleep for all.
    Together,
    /// By its own receiver, in a thread or task of its own. Such a link is not one for [`HubHost::poll_any`].
    Alone,
}

/// The host of a hub. It has no links itself: [`reserve`](Self::reserve) gives the caller one for each plugin, to be kept
/// in whatever holds them.
pub struct HubHost<E: Endpoint> {
    pub(super) endpoint: E,
    pub(super) pool: HubAllocator,
    any: Waiter,
    /// A bit for each number that is given out.
    pub(super) used: u32,
    turn: Turn,
    pub(super) doubts: Doubts,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Where the next round starts.
    next: usize,
    /// How many messages the last sender may still be asked for before the others are looked at again: as many as others
    /// had nothing, so that looking costs no more than what it finds. If nobody was passed over it is none.
    credit: usize,
}

/// How much credit there can be: how much longer than a round anybody may have to wait.
const CREDIT: usize = 16;

impl<E: Endpoint + HasLinkMarks> HubHost<E> {
    /// Writes a fresh hub into the endpoint's region and becomes its host.
    ///
    /// Whatever the region held is overwritten: that nobody uses it is for the caller to know.
    ///
    /// # Errors
    /// [`HubError`]: a shape that the layout cannot carry (a hub needs two places for peers at least, one is the host's),
    /// a region or a ledger that is too small, a ledger in use.
    pub fn create(endpoint: E, config: HubConfig) -> Result<Self, HubError> {
        if config.max_peers == 1 {
            return Err(HubLayoutError::MaxPeers { seen: 1 }.into());
        }
        check_room(&endpoint, &config)?;
        let pool = HubAllocator::new(Places::new(&config, HOST));
        endpoint.ledger().fault.clear();
        write(&endpoint, &config, &pool)?;
        let any = Waiter::start(&endpoint, Places::any_data());
        // Release pairs with the Acquire in `HubPeer::peek`: whoever sees the magic sees the rest.
        endpoint.region().u64(HubHeader::MAGIC).store(u64::from_ne_bytes(HUB_MAGIC), Ordering::Release);
        Ok(Self { endpoint, pool, any, used: 1, turn: Turn::default(), doubts: Doubts::new() })
    }

    /// Gives out the number of a plugin and opens its place in the hub. What comes back is the host's end of the link to
    /// it; the number goes to whoever shall [attach](super::HubPeer::attach) with it.
    ///
    /// # Errors
    /// [`HubError::Full`].
    pub fn reserve(&mut self, waits: Waits) -> Result<HubLink<HostEnd<E>>, HubError> {
        self.reserve_as(waits, PeerState::Vacant)
    }

    /// As [`reserve`](Self::reserve), for a plugin of version 1.0: no other one can attach with the number. It opens the hub
    /// with that, and says little more ([`old_plugin_has_come`](HubAllocator::old_plugin_has_come)).
    ///
    /// Such a plugin announces nothing and does not say what it holds of the host's. When it is killed, a slot that it was
    /// taking, giving back or reading may be lost to the hub.
    ///
    /// # Errors
    /// [`HubError::Full`].
    pub fn reserve_old(&mut self, waits: Waits) -> Result<HubLink<HostEnd<E>>, HubError> {
        self.reserve_as(waits, PeerState::Unknown)
    }

    fn reserve_as(&mut self, waits: Waits, state: PeerState) -> Result<HubLink<HostEnd<E>>, HubError> {
        let last = self.pool.places.max_peers() - 1;
        let free = (1..=last).find(|number| self.used >> number & 1 == 0);
        let id = PeerId(free.ok_or(HubError::Full { plugins: last })?);
        self.used |= 1 << id.0;
        let together = waits == Waits::Together;
        self.clear_place(id);
        let region = self.endpoint.region();
        let waits_with_others = self.pool.places.ring_to_host(id).word(DescRingHeader::WAITS_WITH_OTHERS);
        region.u32(waits_with_others).store(u32::from(together), Ordering::Relaxed);
        self.count_peers(1);
        let end = HostEnd::new(self.endpoint.clone(), id);
        let link = HubLink::of_host(&end, self.pool, id, together);
        self.open_place(id, state);
        Ok(link)
    }

    /// Takes back a number that nobody has attached with yet; says whether that is so. From then on nobody can: the number
    /// is to be [reaped](Self::reap).
    #[must_use]
    pub fn withdraw(&self, id: PeerId) -> bool {
        if self.peer_state(id).is_none() {
            return false;
        }
        let word = self.endpoint.region().u32(self.pool.places.entry(id, PeerEntry::STATE));
        // One of this and the compare-exchange in `HubPeer::attach` wins.
        let take = |from: PeerState| {
            word.compare_exchange(from as u32, PeerState::Left as u32, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let has_not_come = || !self.pool.old_plugin_has_come(self.endpoint.region(), id);
        take(PeerState::Vacant) || (has_not_come() && take(PeerState::Unknown))
    }

    /// Whether a plugin has said that it will not touch the hub any more (see [`say_gone`](super::HubPeer::say_gone)).
    #[must_use]
    pub fn has_gone(&self, id: PeerId) -> bool {
        let flags = self.pool.places.entry(id, PeerEntry::FLAGS);
        // Acquire pairs with the Release in `HubPeer::say_gone`.
        self.is_given(id) && self.endpoint.region().u32(flags).load(Ordering::Acquire) & PEER_FLAG_DEAD != 0
    }

    /// Empties a plugin's rings and entry; its words say "unknown".
    pub(super) fn clear_place(&self, id: PeerId) {
        let (region, places) = (self.endpoint.region(), &self.pool.places);
        places.ring_to_host(id).init(region);
        places.ring_to_peer(id).init(region);
        for lane in 0..ANNOUNCEMENTS {
            region.u32(places.announcement(id, lane)).store(0, Ordering::Relaxed);
        }
        for field in [PeerEntry::EPOCH, PeerEntry::LAST_SEEN] {
            region.u64(places.entry(id, field)).store(0, Ordering::Relaxed);
        }
    }

    fn open_place(&self, id: PeerId, state: PeerState) {
        let (region, places) = (self.endpoint.region(), &self.pool.places);
        let id_and_type: u32 = zerocopy::transmute!([id.0, PEER_TYPE_PLUGIN]);
        region.u32(places.entry(id, PeerEntry::ID_AND_TYPE)).store(id_and_type, Ordering::Relaxed);
        region.u32(places.entry(id, PeerEntry::FLAGS)).store(PEER_FLAG_RESERVED, Ordering::Relaxed);
        // Release pairs with the Acquire in `HubPeer::attach`: the newcomer finds everything reset.
        region.u32(places.entry(id, PeerEntry::STATE)).store(state as u32, Ordering::Release);
    }

    /// Counts a plugin that was added or removed.
    pub(super) fn count_peers(&self, added: i16) {
        let region = self.endpoint.region();
        let active = u16::try_from(self.used.count_ones() - 1).unwrap_or(u16::MAX);
        let peers: u32 = zerocopy::transmute!([self.pool.places.max_peers(), active]);
        region.u32(HubHeader::MAX_AND_ACTIVE_PEERS).store(peers, Ordering::Relaxed);
        if added > 0 {
            let word = region.u32(HubHeader::PEER_ID_COUNTER);
            let [counter, pad]: [u16; 2] = zerocopy::transmute!(word.load(Ordering::Relaxed));
            word.store(zerocopy::transmute!([counter.wrapping_add(1), pad]), Ordering::Relaxed);
        }
    }

    /// Receives a message from whichever plugin has one, or learns that one has none any more (once). Whoever was heard is
    /// asked last in the next round.
    ///
    /// `links` are those of this host that [wait together](Waits::Together), in an order that does not change from call to
    /// call but when one comes or goes.
    pub fn try_any(&mut self, links: &mut [impl AnyLink<E>]) -> Option<FromAny<E>> {
        let place = self.ready_any(links)?;
        links.get_mut(place).and_then(ask)
    }

    /// As [`try_any`](Self::try_any), or says what to sleep on: one ticket for all.
    pub fn poll_any(&mut self, links: &mut [impl AnyLink<E>]) -> Step<FromAny<E>> {
        self.poll(|host| host.try_any(links))
    }

    /// The place in `links` of the one that [`try_any`](Self::try_any) would hear next, for adapters that receive from it
    /// themselves: a message that moves from one `Option` into another is copied each time.
    pub fn ready_any(&mut self, links: &mut [impl AnyLink<E>]) -> Option<usize> {
        self.settle();
        let place = self.turn.take(links)?;
        self.any.disarm(&self.endpoint);
        Some(place)
    }

    /// As [`ready_any`](Self::ready_any), or marks the host as asleep as [`poll_any`](Self::poll_any) does.
    pub fn poll_ready_any(&mut self, links: &mut [impl AnyLink<E>]) -> Step<usize> {
        self.poll(|host| host.ready_any(links))
    }

    fn poll<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Option<T>) -> Step<T> {
        if let Some(found) = attempt(self) {
            return Step::Ready(found);
        }
        let ticket = self.any.arm(&self.endpoint);
        match attempt(self) {
            Some(found) => Step::Ready(found),
            None => Step::Sleep(ticket),
        }
    }

    /// Says that the host will not sleep after all: to be called when a ticket is given up without another step.
    pub fn disarm(&mut self) {
        self.any.disarm(&self.endpoint);
    }

    /// Lets no plugin have more than `slots` slots of a size class at a time; 0 = any number. A plugin that has as many
    /// waits, or takes a larger slot. What it sent counts until it was received, what it received until it was freed.
    ///
    /// Every plugin holds itself to it, and reads it anew each time.
    ///
    /// # Errors
    /// [`HubError::NoSuchClass`].
    pub fn set_quota(&self, class: u32, slots: u32) -> Result<(), HubError> {
        if class as usize >= NUM_SIZE_CLASSES {
            return Err(HubError::NoSuchClass { class });
        }
        let word = self.pool.places.class(class).word(SizeClassHeader::QUOTA);
        self.endpoint.region().u32(word).store(slots, Ordering::Relaxed);
        Ok(())
    }

    /// Sets the quota of every class so that a plugin leaves at least one slot for each of `others` other members (of a
    /// class that has fewer slots than that, all but one). What counts is the slots that there are now: in a hub that has
    /// grown, call it again.
    pub fn share_among(&self, others: u16) {
        for class in self.pool.places.classes() {
            let there = self.pool.there(&self.endpoint, &class).unwrap_or(class.count());
            let quota = there.saturating_sub(u32::from(others)).max(1);
            self.endpoint.region().u32(class.word(SizeClassHeader::QUOTA)).store(quota, Ordering::Relaxed);
        }
    }

    /// Lets the hub grow to no more than this many bytes, headers, rings and all extents together; at first that is as
    /// much as all extents that it may have need. If it is larger already it stays as it is.
    ///
    /// Every member holds itself to it, and reads it anew each time that it would let a size class grow.
    ///
    /// # Errors
    /// [`HubError::NotGrowable`].
    pub fn set_max_size(&self, bytes: u64) -> Result<(), HubError> {
        if !self.pool.grows() {
            return Err(HubError::NotGrowable);
        }
        self.endpoint.region().u64(HubHeader::MAX_SIZE).store(bytes, Ordering::Relaxed);
        // Who waits for a slot may let the hub grow now.
        self.pool.wake_waiters(&self.endpoint);
        Ok(())
    }

    /// The hub's slots.
    #[must_use]
    pub const fn allocator(&self) -> &HubAllocator {
        &self.pool
    }

    /// This side's environment.
    #[must_use]
    pub const fn endpoint(&self) -> &E {
        &self.endpoint
    }

    /// Plugins that have a number.
    #[must_use]
    pub const fn peer_count(&self) -> u32 {
        self.used.count_ones() - 1
    }

    /// What a plugin's entry says of it: `None` if no plugin has that number or the entry says nothing known.
    #[must_use]
    pub fn peer_state(&self, id: PeerId) -> Option<PeerState> {
        let word = self.is_given(id).then(|| self.pool.places.entry(id, PeerEntry::STATE))?;
        PeerState::from_u32(self.endpoint.region().u32(word).load(Ordering::Relaxed))
    }

    /// Whether a number is a plugin's.
    pub(super) fn is_given(&self, id: PeerId) -> bool {
        id != HOST && id.0 < self.pool.places.max_peers() && self.used >> (id.0 & 31) & 1 == 1
    }

    /// What the slots say now.
    #[must_use]
    pub fn slot_status(&self) -> HubSlotStatus {
        self.pool.slot_status(&self.endpoint)
    }
}

impl Turn {
    /// The place of whoever is to be heard next.
    fn take<E: Endpoint + HasLinkMarks>(&mut self, links: &mut [impl AnyLink<E>]) -> Option<usize> {
        if self.credit > 0 {
            self.credit -= 1;
            let last = self.next.checked_sub(1).unwrap_or(links.len().wrapping_sub(1));
            if links.get_mut(last).is_some_and(has_something) {
                return Some(last);
            }
        }
        let start = if self.next < links.len() { self.next } else { 0 };
        for (passed, number) in (start..links.len()).chain(0..start).enumerate() {
            if links.get_mut(number).is_some_and(has_something) {
                *self = Self { next: number + 1, credit: passed.min(CREDIT) };
                return Some(number);
            }
        }
        None
    }
}

/// Whether there is a message or an end to be heard.
#[inline]
fn has_something<E: Endpoint + HasLinkMarks>(link: &mut impl AnyLink<E>) -> bool {
    link.receiver().is_some_and(|receiver| !matches!(receiver.is_ready(), Ok(false)))
}

fn ask<E: Endpoint + HasLinkMarks>(link: &mut impl AnyLink<E>) -> Option<FromAny<E>> {
    let id = link.id();
    match link.receiver()?.try_recv() {
        Ok(message) => message.map(|message| (id, Ok(message))),
        Err(end) => {
            link.end();
            Some((id, Err(end)))
        }
    }
}

/// Writes a whole fresh hub but for its magic.
fn write<E: Endpoint>(endpoint: &E, config: &HubConfig, pool: &HubAllocator) -> Result<(), HubError> {
    let (offsets, region) = (HubOffsets::calculate(config)?, endpoint.region());
    // Of the rings only the headers, so that the pages of a large fresh mapping stay untouched.
    region.clear(Span { offset: 0, len: offsets.rings });
    for (field, value) in [
        (HubHeader::VERSION, version_of(config)),
        (HubHeader::MAX_AND_ACTIVE_PEERS, zerocopy::transmute!([config.max_peers, 0])),
        (HubHeader::EXTENT_COUNT, CLASSES),
        (HubHeader::RING_CAPACITY, config.ring_capacity),
        (HubHeader::HOST_STATE, PeerState::Attached as u32),
    ] {
        region.u32(field).store(value, Ordering::Relaxed);
    }
    let [first_extent, ..] = offsets.extents;
    let write = |field: At<u64>, value: usize| region.u64(field).store(value as u64, Ordering::Relaxed);
    write(HubHeader::CURRENT_SIZE, offsets.end);
    write(HubHeader::PEER_TABLE, offsets.peer_table);
    write(HubHeader::RINGS, offsets.rings);
    write(HubHeader::SIZE_CLASSES, offsets.size_classes);
    write(HubHeader::EXTENTS, first_extent);
    for id in (0..config.max_peers).map(PeerId) {
        let places = &pool.places;
        write(places.entry(id, PeerEntry::TO_HOST_RING), places.ring_to_host(id).header);
        write(places.entry(id, PeerEntry::TO_PEER_RING), places.ring_to_peer(id).header);
        for ring in [places.ring_to_host(id), places.ring_to_peer(id)] {
            region.clear(Span { offset: ring.header, len: RING_HEADER_SIZE });
            ring.init(region);
        }
    }
    pool.init(region);
    pool.init_growth(endpoint, offsets.reach);
    Ok(())
}

/// The lowest version that can say what this hub is.
fn version_of(config: &HubConfig) -> u32 {
    match (config.max_extents, config.classes) {
        (1, HUB_SIZE_CLASSES) => HUB_PROTOCOL_VERSION,
        (1, _) => HUB_OWN_CLASSES_VERSION,
        _ => HUB_GROWABLE_VERSION,
    }
}

impl<E: Endpoint> Drop for HubHost<E> {
    /// Says that the host has left. (The links say it to each plugin.)
    fn drop(&mut self) {
        self.any.stop(&self.endpoint);
        let word = self.endpoint.region().u32(HubHeader::HOST_STATE);
        word.store(PeerState::Left as u32, Ordering::Release);
    }
}

impl<E: Endpoint> fmt::Debug for HubHost<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubHost").field("used", &self.used).finish_non_exhaustive()
    }
}
