//! What becomes of a dead plugin: everything that it had goes back, while all others go on, even if one of them is stopped
//! in the middle of a step.
//!
//! ```text
//!   1. what it had published        is freed (or was received before)
//!   2. what lies in its ring        is freed, whether or not it had taken it over
//!   3. what says that it owns it    is freed
//!   4. what it had announced        goes back if it is free, in no list, and in nobody else's hands
//!   5. its words                    say "unknown" again; its number may be given out
//! ```
//!
//! The last but one needs an argument. A slot that the dead one announced may be lost (popped and not yet marked, or
//! marked free and not yet pushed), but it may as well be in its list, or in the hands of a live member that has just
//! popped it or is about to push it. The reaper cuts the list off, which is one instant T at which it knows all that was
//! in it, and looks around that instant:
//!
//! ```text
//!   state (g, free)?  announced?   T: cut off   announced?   still (g, free)?      put the list back
//! ```
//!
//! Between the two looks at the state, nobody has allocated the slot: generation g + 1 would be there.
//! - A member that popped it before T had announced it before that. Either the second look at the announcements sees
//!   that, or it was cleared, after the state had become "allocated": the last look sees that.
//! - A member that set it free has announced it before. Either the first look at the announcements sees that, or it was
//!   cleared, after the slot was pushed: before T, so it is in the list.
//! - Nobody else can have it. So if it is not in the list and was not announced either time, it is lost, and stays so
//!   until the reaper pushes it.
//!
//! In a hub that [grows](super::growth), being fresh at T is being in the list: who takes a fresh slot announces it before
//! it does so, too.
//!
//! An announcement of somebody else, however, may be in vain: that member was about to pop the slot when the dead one did,
//! and goes on to the next one as soon as it finds out.
//!
//! ```text
//!   plugin 1                 plugin 2                   host
//!   announce 7               announce 7
//!   pop 7
//!   killed                                              7 is free, in no list, announced by 2: whose is it?
//!                            pop 7 fails; announce 5    7 is lost
//! ```
//!
//! So the host keeps such a slot in mind ([`Doubts`]) and looks again: whenever it receives, when it reaps, and when
//! whoever announced in vain wakes it for that. As long as there is a doubt, somebody alive has announced the slot, so
//! there are never more doubts than announcements.
//!
//! While the list is cut off, who looks for a slot of that class finds none, takes a larger one (or a fresh one, or lets
//! the class grow) or waits, and is woken when it is over. Only a plugin that was killed within an allocation or a free causes that.

use core::sync::atomic::Ordering;

use super::end::{HasLinkMarks, HostEnd};
use super::host::HubHost;
use super::link::HubLink;
use super::places::Class;
use super::{HOST, HubError};
use crate::endpoint::{Endpoint, PeerId};
use crate::fault::PeerFault;
use crate::layout::{
    ANNOUNCEMENTS, At, HubHeader, INLINE_PAYLOAD_SLOT, Line, MAX_PEERS, MsgDescHot, NO_OWNER, PEER_FLAG_DEAD,
    PeerEntry, PeerState, RING_HEADER_SIZE, SlotMeta, SlotState,
};
use crate::region::{Region, Word};
use crate::slots::SlotPool;
use crate::slots::free_list::{Links, Taken};
use crate::wake;

/// What became of a slot that a dead plugin had announced.
enum Verdict {
    /// It is free and nobody has it.
    Lost,
    /// It is in use, in its list, or on its way there.
    Found,
    /// It is free and in no list, and another member has announced it.
    Doubtful,
}

/// Slots that may be lost or in the hands of a member that has announced them.
#[derive(Debug)]
pub(super) struct Doubts {
    references: [u32; DOUBTS],
    count: usize,
}

/// As many as there are announcements.
const DOUBTS: usize = ANNOUNCEMENTS * MAX_PEERS as usize;

impl Doubts {
    pub(super) const fn new() -> Self {
        Self { references: [0; DOUBTS], count: 0 }
    }

    fn all(&self) -> &[u32] {
        self.references.get(..self.count).unwrap_or(&self.references)
    }

    /// Adds a slot, once. (There is room but for rubbish.)
    fn add(&mut self, reference: u32) {
        if self.all().contains(&reference) {
            return;
        }
        if let Some(place) = self.references.get_mut(self.count) {
            *place = reference;
            self.count += 1;
        }
    }
}

/// What a dead plugin had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Slots in its ring that it had not received, or not let go of.
    pub unreceived: u32,
    /// Other slots that it owned.
    pub owned: u32,
    /// Slots that it was killed in the middle of taking or giving back.
    pub announced: u32,
    /// Slots that it, or one that died before, was killed in the middle of taking, or that another member is taking right
    /// now: which of the two will turn out.
    pub in_doubt: u32,
}

impl<E: Endpoint + HasLinkMarks> HubHost<E> {
    /// Cleans up after a plugin that is gone: frees everything that it had, empties its rings, and makes its number free
    /// to be given out again. Messages of it that were not received yet are lost, so receive first; those that were
    /// received stay as they are.
    ///
    /// The caller knows that the plugin's process is gone. One that still runs loses its slots while it uses them.
    ///
    /// # Errors
    /// [`HubError::ForeignLink`]: the link (or one of its halves) is not one of this host's; nothing was done.
    /// [`HubError::PeerFault`]: a free list or a slot cannot be what it is; the number stays in use.
    pub fn reap(&mut self, mut link: HubLink<HostEnd<E>>) -> Result<Reaped, HubError> {
        let id = self.check_own(&mut link)?;
        // Frees what the plugin had published, and flushes what the host had written.
        link.close();
        drop(link);
        self.clean_up(id)
    }

    /// As [`reap`](Self::reap), for a link whose halves the host has closed or dropped, in whatever thread they were.
    ///
    /// # Errors
    /// [`HubError::NotReserved`]: no plugin has that number. [`HubError::InUse`]: a half is still open; nothing was done.
    /// Otherwise as [`reap`](Self::reap).
    pub fn reap_closed(&mut self, id: PeerId) -> Result<Reaped, HubError> {
        if !self.is_given(id) {
            return Err(HubError::NotReserved { id });
        }
        if HostEnd::is_in_use(&self.endpoint, id) {
            return Err(HubError::InUse { id });
        }
        // Halves that only this has: they find what the plugin published after the others were closed.
        let end = HostEnd::new(self.endpoint.clone(), id);
        self.reap(HubLink::of_host(&end, self.pool, id, false))
    }

    fn clean_up(&mut self, id: PeerId) -> Result<Reaped, HubError> {
        let endpoint = self.endpoint.clone();
        let region = endpoint.region();
        let flags = region.u32(self.pool.places.entry(id, PeerEntry::FLAGS));
        flags.store(PEER_FLAG_DEAD, Ordering::Release);
        let unreceived = self.free_unreceived(id)?;
        let owned = self.free_owned(id)?;
        let announced = self.recover_announced(id)?;
        self.clear_place(id);
        self.settle();
        // The host's own bit went when its sender was closed.
        wake::put_bit(region, HubHeader::SLOT_WAITERS, 1 << id.0, false);
        region.u32(self.pool.places.entry(id, PeerEntry::STATE)).store(PeerState::Unknown as u32, Ordering::Release);
        self.used &= !(1 << id.0);
        self.count_peers(-1);
        if self.pool.grows() {
            // It may have been killed before it had said that the hub has grown.
            self.pool.places.classes().for_each(|class| self.pool.write_totals(region, &class));
        }
        self.pool.wake_waiters(&self.endpoint);
        let in_doubt = u32::try_from(self.doubts.count).unwrap_or(u32::MAX);
        Ok(Reaped { unreceived, owned, announced, in_doubt })
    }

    fn check_own(&self, link: &mut HubLink<HostEnd<E>>) -> Result<PeerId, HubError> {
        let id = link.id();
        let own = self.endpoint.ledger().entries;
        let (sender, receiver) = link.split();
        let is_own = |end: &HostEnd<E>| end.peer() == id && core::ptr::eq(end.host().ledger().entries, own);
        if is_own(sender.endpoint()) && is_own(receiver.endpoint()) {
            return Ok(id);
        }
        Err(HubError::ForeignLink { id })
    }

    /// Frees every slot that a message in the ring to the plugin names. Of those that it had received none is in flight
    /// with that generation any more, or it is one of those that it held.
    fn free_unreceived(&self, id: PeerId) -> Result<u32, PeerFault> {
        let ring = self.pool.places.ring_to_peer(id);
        let region = self.endpoint.region();
        let mut freed = 0;
        for number in 0..ring.capacity as usize {
            let line = At::<Line>::new(ring.header + RING_HEADER_SIZE).nth(number);
            let descriptor = MsgDescHot::from_line(region.load_line(line));
            let reference = descriptor.payload_slot;
            let named = (reference != INLINE_PAYLOAD_SLOT).then(|| self.pool.find_there(&self.endpoint, reference));
            let Some(Ok((class, slot))) = named else { continue };
            let seen = class.load(region, slot);
            let owner = class.owner(region, slot);
            let is_its = owner == u32::from(HOST.0) || owner == u32::from(id.0);
            if seen == SlotMeta::new(descriptor.payload_generation, SlotState::InFlight) && is_its {
                self.force_free(&class, slot, seen)?;
                freed += 1;
            }
        }
        Ok(freed)
    }

    fn free_owned(&self, id: PeerId) -> Result<u32, PeerFault> {
        let region = self.endpoint.region();
        let mut freed = 0;
        for class in self.pool.places.classes() {
            for slot in 0..self.pool.there(&self.endpoint, &class)? {
                if class.is_owned_by(region, slot, id) {
                    let seen = class.load(region, slot);
                    self.force_free(&class, slot, seen)?;
                    freed += 1;
                }
            }
        }
        Ok(freed)
    }

    /// A new generation as well, so that no handle to the slot is good any more.
    fn force_free(&self, class: &Class, slot: u32, seen: SlotMeta) -> Result<(), PeerFault> {
        let free = SlotMeta::new(seen.generation.wrapping_add(1), SlotState::Free);
        self.pool.give_back(&self.endpoint, (class, slot), (seen, free), || {})
    }

    fn recover_announced(&mut self, id: PeerId) -> Result<u32, PeerFault> {
        let mut recovered = 0;
        for lane in 0..ANNOUNCEMENTS {
            let word = self.pool.places.announcement(id, lane);
            let said = self.endpoint.region().u32(word).load(Ordering::Acquire);
            let Some(reference) = said.checked_sub(1) else { continue };
            match self.recover(reference, Some(id))? {
                Verdict::Lost => recovered += 1,
                Verdict::Found => {}
                Verdict::Doubtful => self.doubts.add(reference),
            }
        }
        Ok(recovered)
    }

    /// Looks again at the slots of which it was not clear whether a dead plugin had them. [`try_any`](Self::try_any),
    /// [`poll_any`](Self::poll_any) and [`reap`](Self::reap) do that, and there is mostly nothing to do; a host whose links all
    /// wait alone calls it when its word in the hub header was bumped, or now and then. Returns how many slots remain in
    /// doubt.
    pub fn settle(&mut self) -> usize {
        if self.doubts.count > 0 {
            self.settle_doubts();
        }
        self.doubts.count
    }

    #[cold]
    fn settle_doubts(&mut self) {
        let in_doubt = HubHeader::IN_DOUBT;
        self.endpoint.region().u32(in_doubt).store(1, Ordering::Relaxed);
        // Pairs with the fence in `HubAllocator::tell_if_in_doubt`.
        self.endpoint.region().fence();
        let mut rest = Doubts::new();
        for reference in self.doubts.all() {
            // One that cannot be looked at now (a list is broken) may be later.
            if matches!(self.recover(*reference, None), Ok(Verdict::Doubtful) | Err(_)) {
                rest.add(*reference);
            }
        }
        if rest.count < self.doubts.count {
            self.pool.wake_waiters(&self.endpoint);
        }
        if rest.count == 0 {
            self.endpoint.region().u32(in_doubt).store(0, Ordering::Relaxed);
        }
        self.doubts = rest;
    }

    /// Puts a slot that a dead plugin announced back into its list if it is lost.
    fn recover(&self, reference: u32, dead: Option<PeerId>) -> Result<Verdict, PeerFault> {
        // One that does not exist was not announced by core.
        let Ok((class, slot)) = self.pool.find_there(&self.endpoint, reference) else { return Ok(Verdict::Found) };
        let verdict = self.judge(&class, slot, dead)?;
        if matches!(verdict, Verdict::Lost) {
            let region = self.endpoint.region();
            class.set_owner(region, slot, NO_OWNER);
            class.list().push(region, &self.pool.listed(&self.endpoint, &class), slot)?;
        }
        Ok(verdict)
    }

    /// Whether a slot that a dead plugin announced is free, in no list, and in no other member's hands.
    fn judge(&self, class: &Class, slot: u32, dead: Option<PeerId>) -> Result<Verdict, PeerFault> {
        let region = self.endpoint.region();
        let before = class.load(region, slot);
        if before.state != SlotState::Free as u32 {
            return Ok(Verdict::Found);
        }
        let announced_before = self.is_announced(class.reference(slot), dead);
        if self.pool.is_fresh(region, class, slot) {
            return Ok(Verdict::Found);
        }
        let links = self.pool.listed(&self.endpoint, class);
        let chain = class.list().take_all(region, &links)?;
        let listed = is_in(region, &links, chain, slot);
        let announced = self.is_announced(class.reference(slot), dead) || announced_before;
        let after = class.load(region, slot);
        if let Some(first) = chain {
            class.list().adopt(region, &links, first.slot)?;
            // Who looked for a slot meanwhile found none.
            self.pool.wake_waiters(&self.endpoint);
        }
        Ok(match (listed? || before != after, announced) {
            (true, _) => Verdict::Found,
            (false, true) => Verdict::Doubtful,
            (false, false) => Verdict::Lost,
        })
    }

    /// Whether a member other than this one has announced a slot, be it dead as well: then it is found when that one is
    /// reaped.
    fn is_announced(&self, reference: u32, but_by: Option<PeerId>) -> bool {
        let (region, places) = (self.endpoint.region(), &self.pool.places);
        let others = (0..places.max_peers()).map(PeerId).filter(|id| Some(*id) != but_by);
        let mut words = others.flat_map(|id| (0..ANNOUNCEMENTS).map(move |lane| places.announcement(id, lane)));
        // Acquire pairs with the Release of every announcement.
        words.any(|word| region.u32(word).load(Ordering::Acquire) == reference.wrapping_add(1))
    }
}

/// Whether a slot is in a chain that was taken off its list.
fn is_in<R: Region>(region: &R, links: &impl Links, chain: Option<Taken>, slot: u32) -> Result<bool, PeerFault> {
    let mut next = chain;
    // No chain is longer than there are slots.
    for _ in 0..links.count() {
        let Some(taken) = next else { return Ok(false) };
        if taken.slot == slot {
            return Ok(true);
        }
        next = Taken::at(region, links, taken.next)?;
    }
    Ok(false)
}
