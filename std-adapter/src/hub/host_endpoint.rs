//! The host's side of a hub in this process: one mapping and one ledger for all its links, and how it sleeps and wakes.
//!
//! ```text
//!   every plugin  --- rings ---> [data bell]  \
//!   plugin 1      <== life socket ==>          > one epoll set: the host sleeps once for all
//!   plugin 2      <== life socket ==>         /
//!   joining plugins --> [socket at a path]   /
//!
//!   whoever frees a slot --- rings ---> [slots bell], heard by every sender that waits
//! ```

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::RwLock;
use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, SleepKind};
use rapace_shm_core::hub::{HOST, HasLinkMarks, HostEnd, HostLedgerIn, HubAllocator, LinkMarks};
use rapace_shm_core::layout::{At, HubHeader, MAX_PEERS, ProcessWords};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerRef};
use rapace_shm_core::region::InRegion;
use rapace_shm_core::wake::{Ticket, WaitPoint};
use rustix::event::{Timespec, epoll};

use super::old::Looks;
use super::watching::ProcessWatch;
use crate::alarm::Alarm;
use crate::doorbell::{Bell, Doorbell};
use crate::error::Error;
use crate::event_source::EventSource;
use crate::ground::{Ground, asks_ground};
use crate::mapping::MappedRegion;
use crate::metrics::ShmMetrics;
use crate::os_endpoint::{OsEndpoint, private};
use crate::system_calls::SystemCalls;
use crate::trace::event;
use crate::watch::Watched;
use crate::wiring::{EDGE, LIFE_EVENTS, Roused, Wiring, add_to_set, epoll_set, take_from_set, wait_for_set};

/// What core needs of a hub's host. Clones are one reference count; each keeps the hub mapped.
#[derive(Clone)]
pub struct HostEndpoint(Arc<Shared>);

struct Shared {
    ground: Ground<HostLedgerIn<Box<[LedgerEntry]>>>,
    /// `None`: everybody sleeps on futexes.
    bells: Option<HostBells>,
    /// By the plugin's number. They change as plugins come and go, while guards are dropped in other threads.
    links: [RwLock<Option<Arc<LinkState>>>; MAX_PEERS as usize],
    /// A bit for each plugin that is known to be dead.
    dead: AtomicU32,
    /// What has stirred besides data: [`DEATH`], [`RECEPTION`].
    stirred: AtomicU64,
}

/// The bells that all plugins ring, and what the host sleeps on.
#[derive(Debug)]
pub(super) struct HostBells {
    /// For data from whichever plugin.
    pub(super) data: Arc<Bell>,
    /// For everybody who waits for a slot.
    pub(super) slots: Arc<Bell>,
    /// Of every plugin's life socket, by number. Each thread that waits for a slot hears it, too.
    pub(super) lives: OwnedFd,
    /// For those that have to attach by a certain time.
    pub(super) alarm: Alarm,
    set: OwnedFd,
}

impl HostBells {
    pub(super) fn new() -> Result<Self, Error> {
        let (data, slots) = (Arc::new(Bell::new()?), Arc::new(Bell::new()?));
        let (lives, alarm) = (epoll_set([], EDGE, None)?, Alarm::new()?);
        let set = epoll_set([&*data], EDGE, None)?;
        add_to_set(&set, lives.as_fd(), LIVES, epoll::EventFlags::IN)?;
        add_to_set(&set, alarm.as_fd(), ALARM, EDGE)?;
        Ok(Self { data, slots, lives, alarm, set })
    }
}

/// What the host has of one link besides its halves.
pub(super) struct LinkState {
    pub(super) id: PeerId,
    pub(super) wiring: Option<Wiring>,
    pub(super) own_points: [WaitPoint; 3],
    pub(super) process: ProcessWords,
    pub(super) watch: ProcessWatch,
    pub(super) host: HostEndpointRef,
    pub(super) looks: Looks,
    pub(super) pool: HubAllocator,
}

impl LinkState {
    fn bit(&self) -> u32 {
        1 << (self.id.0 & 31)
    }

    /// What is between the host and a plugin of version 1.0.
    fn old_doorbell(&self) -> Option<&Doorbell> {
        self.wiring.as_ref()?.old.as_ref()
    }
}

/// The host, if it is still there.
#[derive(Clone)]
pub(super) struct HostEndpointRef(Weak<Shared>);

/// Bit: a plugin has died.
pub(super) const DEATH: u64 = 1;

/// Number of the set of life sockets.
const LIVES: u64 = 1 << 1;

/// Bit and number of the alarm: somebody has taken too long.
pub(super) const ALARM: u64 = 1 << 2;

/// Bit and number of the socket that plugins join by.
pub(super) const RECEPTION: u64 = 1 << 3;

/// Bit and number of the doorbells of plugins of version 1.0.
const OLD_RINGS: u64 = 1 << 4;

impl HostEndpoint {
    pub(super) fn new(ground: Ground<HostLedgerIn<Box<[LedgerEntry]>>>, bells: Option<HostBells>) -> Self {
        let links = [const { RwLock::new(None) }; MAX_PEERS as usize];
        Self(Arc::new(Shared { ground, bells, links, dead: AtomicU32::new(0), stirred: AtomicU64::new(0) }))
    }

    pub(super) fn downgrade(&self) -> HostEndpointRef {
        HostEndpointRef(Arc::downgrade(&self.0))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn bells(&self) -> Option<&HostBells> {
        self.0.bells.as_ref()
    }

    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.ground.file.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.0.ground.count_into(metrics)
    }

    fn link(&self, id: PeerId) -> Option<Arc<LinkState>> {
        self.0.links.get(usize::from(id.0))?.read().clone()
    }

    /// Whoever waits for this plugin from now on hears its bells and its end.
    pub(super) fn connect(&self, link: LinkState) -> Result<(), Error> {
        if let (Some(life), Some(bells)) = (link.wiring.as_ref().and_then(|wiring| wiring.life.as_ref()), self.bells())
        {
            add_to_set(&bells.lives, life.as_fd(), link.id.0.into(), LIFE_EVENTS)?;
        }
        if let (Some(doorbell), Some(bells)) = (link.old_doorbell(), self.bells()) {
            add_to_set(&bells.set, doorbell.as_fd(), OLD_RINGS, epoll::EventFlags::IN)?;
        }
        self.0.dead.fetch_and(!link.bit(), Ordering::Relaxed);
        if let Some(place) = self.0.links.get(usize::from(link.id.0)) {
            *place.write() = Some(Arc::new(link));
        }
        Ok(())
    }

    /// Forgets a plugin.
    pub(super) fn disconnect(&self, id: PeerId) {
        let Some(link) = self.0.links.get(usize::from(id.0)).and_then(|place| place.write().take()) else { return };
        self.listen_no_more(&link);
    }

    /// Whether a plugin's process is known to have ended.
    pub(super) fn is_dead(&self, id: PeerId) -> bool {
        self.0.dead.load(Ordering::Acquire) >> (id.0 & 31) & 1 == 1
    }

    /// Hears of clients, too.
    pub(super) fn attend(&self, reception: BorrowedFd<'_>) -> Result<(), Error> {
        let bells = self.bells().ok_or(Error::NoDoorbell)?;
        add_to_set(&bells.set, reception, RECEPTION, epoll::EventFlags::IN)
    }

    /// Whether a plugin has died since it was last asked what has stirred.
    pub(super) fn has_heard_of_death(&self) -> bool {
        self.0.stirred.load(Ordering::Relaxed) & DEATH != 0
    }

    /// All who have died so far are being seen to.
    pub(super) fn take_death(&self) {
        self.0.stirred.fetch_and(!DEATH, Ordering::Acquire);
    }

    /// What has stirred since it was last asked.
    #[inline]
    pub(super) fn take_stirred(&self) -> u64 {
        if self.0.stirred.load(Ordering::Relaxed) == 0 { 0 } else { self.0.stirred.swap(0, Ordering::Acquire) }
    }

    /// A life socket that has ended is readable for good: it is taken out of the set.
    fn listen_no_more(&self, link: &LinkState) {
        if let (Some(life), Some(bells)) = (link.wiring.as_ref().and_then(|wiring| wiring.life.as_ref()), self.bells())
        {
            // It fails if that was done before.
            let _ = epoll::delete(&bells.lives, life);
        }
    }

    pub(super) fn note_death(&self, id: PeerId) {
        self.0.note_death(id);
    }

    /// Looks whether a plugin of version 1.0 is gone, by ringing.
    pub(super) fn probe_old(&self, id: PeerId) {
        if self.link(id).is_some_and(|link| link.old_doorbell().is_some()) {
            self.ring(id, Half::Receiver);
        }
    }

    /// Sleeps as a sender that waits for room.
    fn sleep_for_room(&self, link: &LinkState, wiring: &Wiring, deadline: Option<Instant>) -> Result<Roused, Error> {
        let counters = &self.0.ground.counters;
        let sleep = |until| wiring.sleep(Half::Sender, until, || counters.polls.add_one());
        if !link.pool.has_old_members(self.region()) {
            return sleep(deadline);
        }
        let words = || link.pool.old_signals(self.region(), link.id);
        link.looks.sleep(words, deadline, |until| {
            let roused = sleep(Some(until))?;
            let is_gone = wiring.old.is_some()
                && roused == Roused::TimedOut
                && !wiring.ring_peer(Half::Receiver, || counters.rings.add_one());
            Ok(if is_gone { Roused::PeerDied } else { roused })
        })
    }

    /// Notes what the set says.
    fn hear(&self, numbers: impl Iterator<Item = u64>) {
        let heard = numbers.fold(0, |heard, number| heard | number);
        if heard & LIVES != 0 {
            self.look_who_died();
        }
        if heard & OLD_RINGS != 0 {
            self.drain_old();
        }
        if heard & (RECEPTION | ALARM) != 0 {
            self.0.stirred.fetch_or(heard & (RECEPTION | ALARM), Ordering::Release);
        }
    }

    /// Silences the doorbells of all plugins of version 1.0.
    fn drain_old(&self) {
        for link in self.0.links.iter().filter_map(|link| link.read().clone()) {
            if let Some(doorbell) = link.old_doorbell() {
                self.0.ground.counters.polls.add_one();
                // Such a socket does not end, and what cannot be read today stays readable.
                let _ = doorbell.drain();
            }
        }
    }

    /// Notes whose life socket has ended. In whichever thread: each is heard of once.
    fn look_who_died(&self) {
        let Some(bells) = self.bells() else { return };
        self.0.ground.counters.polls.add_one();
        // If it fails, the set stays readable and is looked at again.
        let Ok(numbers) = take_from_set(&bells.lives, Some(Timespec::default())) else { return };
        for link in numbers.filter_map(|number| self.link(PeerId(u16::try_from(number).ok()?))) {
            self.0.ground.counters.polls.add_one();
            if link.wiring.as_ref().is_some_and(Wiring::peer_is_gone) {
                self.listen_no_more(&link);
                self.note_death(link.id);
            }
        }
    }

    /// Has every plugin's process watched that can be seen to end in no other way.
    fn watch_all(&self) -> Result<(), Error> {
        let links = self.0.links.iter().filter_map(|link| link.read().clone());
        links.into_iter().try_for_each(|link| self.watch(&link))
    }

    fn watch(&self, link: &Arc<LinkState>) -> Result<(), Error> {
        if link.wiring.is_some() {
            return Ok(());
        }
        let whom = || {
            let whom: Weak<LinkState> = Arc::downgrade(link);
            whom as Weak<dyn Watched>
        };
        if link.watch.start(self.region(), link.process, whom)? {
            self.note_death(link.id);
        }
        Ok(())
    }
}

impl Shared {
    fn note_death(&self, id: PeerId) {
        self.ground.ledger.link_marks().peer_died(id);
        let bit = 1 << (id.0 & 31);
        if self.dead.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return;
        }
        event!(WARN, plugin = id.0, "plugin died");
        self.stirred.fetch_or(DEATH, Ordering::Release);
        // It may have been another thread that heard of it than the one that cleans up.
        if let Some(bells) = &self.bells {
            bells.data.ring();
            bells.slots.ring();
        }
    }
}

impl Watched for LinkState {
    fn peer_died(&self) {
        let Some(host) = self.host.0.upgrade() else { return };
        host.note_death(self.id);
        host.ground.signal_all(&self.own_points);
        // Whoever waits for data from any plugin, if this one's link waits alone.
        host.ground.signal(HubHeader::HOST_SEQUENCE);
    }

    fn beat(&self, _: u64) {}
}

impl InRegion for HostEndpoint {
    type Region = MappedRegion;
    #[inline]
    fn region(&self) -> &MappedRegion {
        &self.0.ground.region
    }
}

impl HasLedger for HostEndpoint {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ground.ledger.ledger()
    }
}

impl HasLinkMarks for HostEndpoint {
    #[inline]
    fn link_marks(&self) -> &LinkMarks {
        self.0.ground.ledger.link_marks()
    }
}

impl Endpoint for HostEndpoint {
    fn sleep_kind(&self) -> SleepKind {
        if self.0.bells.is_some() { SleepKind::Doorbell } else { SleepKind::Word }
    }

    fn wake(&self, word: At<u32>) {
        self.0.ground.wake(word);
    }

    fn ring(&self, peer: PeerId, half: Half) {
        let ring = |bell: &Bell| {
            self.0.ground.counters.rings.add_one();
            bell.ring();
        };
        if peer == HOST {
            self.bells().iter().for_each(|bells| ring(&bells.data));
        } else if let Some(wiring) = self.link(peer).as_ref().and_then(|link| link.wiring.as_ref())
            && !wiring.ring_peer(half, || self.0.ground.counters.rings.add_one())
        {
            self.note_death(peer);
            self.bells().iter().for_each(|bells| ring(&bells.data));
        }
    }

    fn ring_for_slot(&self, _: PeerId) -> bool {
        let Some(bells) = self.bells() else { return false };
        self.0.ground.counters.rings.add_one();
        bells.slots.ring();
        true
    }

    asks_ground!(self => self.0.ground);
}

impl private::Sealed for HostEndpoint {}

/// The host as it waits for whichever plugin.
impl OsEndpoint for HostEndpoint {
    fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        let (SleepKind::Doorbell, Some(bells)) = (ticket.kind(), self.bells()) else {
            self.watch_all()?;
            let stirred = self.0.stirred.load(Ordering::Acquire) != 0;
            return if stirred { Ok(true) } else { self.0.ground.wait(ticket, deadline) };
        };
        let heard = wait_for_set(&bells.set, deadline, || self.0.ground.counters.polls.add_one())?;
        let Some(numbers) = heard else { return Ok(false) };
        self.hear(numbers);
        Ok(true)
    }

    fn rouse(&self, ticket: &Ticket) {
        match self.bells() {
            Some(_) => self.ring(HOST, Half::Receiver),
            None => self.0.ground.signal(ticket.word()),
        }
    }

    fn look_for_death(&self) {
        let Some(bells) = self.bells() else {
            // What the watcher says it says by itself; that it cannot be started is no death.
            let _ = self.watch_all();
            return;
        };
        self.0.ground.counters.polls.add_one();
        if let Ok(numbers) = take_from_set(&bells.set, Some(Timespec::default())) {
            self.hear(numbers);
        }
    }

    fn event_source(&self, _: Half) -> Result<EventSource, Error> {
        EventSource::of_set(&self.bells().ok_or(Error::NoDoorbell)?.set)
    }

    fn drain(&self, _: Half) {
        self.look_for_death();
    }

    fn system_calls(&self) -> SystemCalls {
        self.0.ground.counters.read()
    }
}

impl private::Sealed for HostEnd<HostEndpoint> {}

/// The host as it waits for one plugin.
impl OsEndpoint for HostEnd<HostEndpoint> {
    fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        let (host, ground) = (self.host(), &self.host().0.ground);
        // Without it the plugin is gone: the next look says so.
        let Some(link) = host.link(self.peer()) else { return Ok(true) };
        let (SleepKind::Doorbell, Some(wiring)) = (ticket.kind(), &link.wiring) else {
            host.watch_all()?;
            return if self.ledger().peer_has_died() { Ok(true) } else { ground.wait(ticket, deadline) };
        };
        let roused = match ticket.half() {
            Half::Sender => host.sleep_for_room(&link, wiring, deadline)?,
            Half::Receiver => wiring.sleep(Half::Receiver, deadline, || ground.counters.polls.add_one())?,
        };
        match roused {
            Roused::PeerDied => host.note_death(self.peer()),
            Roused::OtherDied => host.look_who_died(),
            Roused::Perhaps | Roused::TimedOut => {}
        }
        Ok(roused != Roused::TimedOut)
    }

    fn rouse(&self, ticket: &Ticket) {
        let link = self.host().link(self.peer());
        self.host().0.ground.rouse(link.as_ref().and_then(|link| link.wiring.as_ref()), ticket);
    }

    /// At all plugins: whoever has died may have had the slot that this waits for.
    fn look_for_death(&self) {
        if self.host().bells().is_some() {
            return self.host().look_who_died();
        }
        // What the watcher says it says by itself; that it cannot be started is no death.
        let _ = self.host().watch_all();
    }

    fn event_source(&self, half: Half) -> Result<EventSource, Error> {
        let link = self.host().link(self.peer());
        let wiring = link.as_ref().and_then(|link| link.wiring.as_ref()).ok_or(Error::NoDoorbell)?;
        EventSource::of_set(wiring.set(half))
    }

    fn drain(&self, half: Half) {
        let Some(link) = self.host().link(self.peer()) else { return };
        if let Some(wiring) = &link.wiring {
            self.host().0.ground.counters.polls.add_one();
            wiring.drain(half);
            self.look_for_death();
        }
    }

    fn system_calls(&self) -> SystemCalls {
        self.host().system_calls()
    }
}

impl fmt::Debug for HostEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostEndpoint")
            .field("region", &self.0.ground.region)
            .field("held", &self.ledger().held())
            .field("bells", &self.0.bells)
            .field("system_calls", &self.system_calls())
            .finish_non_exhaustive()
    }
}
