//! A plugin's side of a hub in this process: its mapping, its ledger, and how it sleeps and wakes.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, SleepKind};
use rapace_shm_core::hub::{self, HOST, HubAllocator, HubLink};
use rapace_shm_core::layout::{At, HubHeader, ProcessWords};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerIn, LedgerRef};
use rapace_shm_core::region::InRegion;
use rapace_shm_core::wake::{Ticket, WaitPoint};

use super::old::{Looks, OldHost};
use super::watching::ProcessWatch;
use crate::barrier::Barriers;
use crate::doorbell::Doorbell;
use crate::error::Error;
use crate::event_source::EventSource;
use crate::ground::{Ground, asks_ground, entries};
use crate::mapping::MappedRegion;
use crate::metrics::ShmMetrics;
use crate::os_endpoint::{OsEndpoint, private};
use crate::process::Process;
use crate::system_calls::SystemCalls;
use crate::trace::event;
use crate::watch::{Watched, nanoseconds_since_1970};
use crate::wiring::{Roused, Wiring};

/// What core needs of a plugin. Clones are one reference count; each keeps the hub mapped.
///
/// When the last one goes, with the last half, loan and payload, the host is told that nothing here touches the hub any
/// more.
#[derive(Clone)]
pub struct PeerEndpoint(Arc<Shared>);

struct Shared {
    ground: Ground<LedgerIn<Box<[LedgerEntry]>>>,
    /// The doorbells and the life socket, unless this plugin only knew the path.
    wiring: Option<Wiring>,
    /// The host, if it is of version 1.0.
    old: Option<OldHost>,
    looks: Looks,
    place: OnceLock<Place>,
    /// Who watches the host's process, where there is no life socket.
    watch: ProcessWatch,
}

/// What is between a plugin and its host besides shared memory.
pub(super) enum Way {
    /// Nothing: it only knows the path.
    Path,
    /// Doorbells, a life socket, and the hub's memfd.
    Wired(Wiring, Option<OwnedFd>),
    /// The doorbell of version 1.0.
    Old(Doorbell),
}

/// What is known once the plugin has attached.
struct Place {
    pool: HubAllocator,
    own_points: [WaitPoint; 3],
    host: ProcessWords,
}

impl PeerEndpoint {
    pub(super) fn new(region: MappedRegion, slots: u32, barriers: Barriers, way: Way) -> Self {
        let (wiring, file, old) = match way {
            Way::Path => (None, None, None),
            Way::Wired(wiring, file) => (Some(wiring), file, None),
            Way::Old(doorbell) => (None, None, Some(OldHost::new(doorbell))),
        };
        let ground = Ground::new(region, LedgerIn::over(entries(slots)), barriers, file);
        let (place, watch, looks) = (OnceLock::new(), ProcessWatch::default(), Looks::default());
        Self(Arc::new(Shared { ground, wiring, old, looks, place, watch }))
    }

    /// Notes where this plugin is, and says in the hub which process it is.
    pub(super) fn take_place(&self, link: &mut HubLink<Self>) -> Result<(), Error> {
        let pool = *link.split().0.pool();
        let place = Place { pool, own_points: link.own_points(), host: link.peer_process() };
        // It is the first: nobody else has the endpoint yet.
        let _ = self.0.place.set(place);
        if let Some(old) = &self.0.old {
            self.0.beat(nanoseconds_since_1970());
            return old.begin(&self.whom());
        }
        if self.0.wiring.is_none()
            && let Ok(process) = Process::current()
        {
            process.write(self.region(), link.own_process());
        }
        Ok(())
    }

    pub(super) fn wiring(&self) -> Option<&Wiring> {
        self.0.wiring.as_ref()
    }

    pub(super) fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.0.ground.count_into(metrics)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn note_death(&self) {
        if !self.ledger().peer_has_died() {
            event!(WARN, "hub's host died");
        }
        self.ledger().peer_died();
    }

    /// Has the host's process watched. A futex cannot see it end.
    fn watch_host(&self) -> Result<(), Error> {
        let Some(place) = self.0.place.get() else { return Ok(()) };
        if self.0.watch.start(self.region(), place.host, || self.whom())? {
            self.note_death();
        }
        Ok(())
    }

    fn whom(&self) -> Weak<dyn Watched> {
        let whom: Weak<Shared> = Arc::downgrade(&self.0);
        whom
    }

    /// Sleeps on the ticket: on the word, or on the half's bells.
    fn sleep_once(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<Roused, Error> {
        match (ticket.kind(), self.wiring()) {
            (SleepKind::Doorbell, Some(wiring)) => {
                wiring.sleep(ticket.half(), deadline, || self.0.ground.counters.polls.add_one())
            }
            _ => Ok(if self.0.ground.wait(ticket, deadline)? { Roused::Perhaps } else { Roused::TimedOut }),
        }
    }
}

impl Watched for Shared {
    fn peer_died(&self) {
        event!(WARN, "hub's host died");
        self.ground.ledger.ledger().peer_died();
        if let Some(place) = self.place.get() {
            self.ground.signal_all(&place.own_points);
        }
    }

    fn beat(&self, nanoseconds_since_1970: u64) {
        let (Some(place), Some(old)) = (self.place.get(), &self.old) else { return };
        place.pool.beat(&self.ground.region, nanoseconds_since_1970);
        // This plugin sleeps on words; what was rung for it needs only not to fill the socket.
        let _ = old.doorbell.drain();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Some(place) = self.place.get() else { return };
        hub::HubPeer::say_gone(&self.ground.region, &place.pool);
        match &self.wiring {
            // Its end is what the host hears next.
            Some(wiring) if wiring.life.is_some() => {}
            Some(wiring) => wiring.peer.of(Half::Receiver).ring(),
            None => self.ground.signal(HubHeader::HOST_SEQUENCE),
        }
    }
}

impl InRegion for PeerEndpoint {
    type Region = MappedRegion;
    #[inline]
    fn region(&self) -> &MappedRegion {
        &self.0.ground.region
    }
}

impl HasLedger for PeerEndpoint {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ground.ledger.ledger()
    }
}

impl Endpoint for PeerEndpoint {
    fn sleep_kind(&self) -> SleepKind {
        if self.0.wiring.is_some() { SleepKind::Doorbell } else { SleepKind::Word }
    }

    fn wake(&self, word: At<u32>) {
        self.0.ground.wake(word);
    }

    /// Other plugins are only rung for slots.
    fn ring(&self, peer: PeerId, half: Half) {
        if let (Some(old), HOST, Half::Receiver) = (&self.0.old, peer, half) {
            self.0.ground.counters.rings.add_one();
            old.doorbell.signal();
        }
        let Some(wiring) = self.wiring() else { return };
        self.0.ground.counters.rings.add_one();
        let bells = if peer == HOST { &wiring.peer } else { &wiring.own };
        bells.of(half).ring();
    }

    fn ring_for_slot(&self, _: PeerId) -> bool {
        let Some(slots) = self.wiring().and_then(|wiring| wiring.slots.as_ref()) else { return false };
        self.0.ground.counters.rings.add_one();
        slots.ring();
        true
    }

    asks_ground!(self => self.0.ground);
}

impl private::Sealed for PeerEndpoint {}

impl OsEndpoint for PeerEndpoint {
    fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        if self.wiring().is_none() {
            self.watch_host()?;
            if self.ledger().peer_has_died() {
                return Ok(true);
            }
        }
        let roused = match self.0.place.get() {
            Some(place) if ticket.half() == Half::Sender && place.pool.has_old_members(self.region()) => {
                let words = || place.pool.old_signals(self.region(), place.pool.owner());
                self.0.looks.sleep(words, deadline, |until| self.sleep_once(ticket, Some(until)))?
            }
            _ => self.sleep_once(ticket, deadline)?,
        };
        if roused == Roused::PeerDied {
            self.note_death();
        }
        Ok(roused != Roused::TimedOut)
    }

    fn rouse(&self, ticket: &Ticket) {
        self.0.ground.rouse(self.wiring(), ticket);
    }

    /// What the watcher says it says by itself; that it cannot be started is no death.
    fn look_for_death(&self) {
        match self.wiring() {
            Some(wiring) if wiring.peer_is_gone() => self.note_death(),
            Some(_) => {}
            None => {
                let _ = self.watch_host();
            }
        }
    }

    fn event_source(&self, half: Half) -> Result<EventSource, Error> {
        EventSource::of_set(self.wiring().ok_or(Error::NoDoorbell)?.set(half))
    }

    fn drain(&self, half: Half) {
        if let Some(wiring) = self.wiring() {
            self.0.ground.counters.polls.add_one();
            wiring.drain(half);
            self.look_for_death();
        }
    }

    fn system_calls(&self) -> SystemCalls {
        self.0.ground.counters.read()
    }
}

impl fmt::Debug for PeerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerEndpoint")
            .field("region", &self.0.ground.region)
            .field("held", &self.ledger().held())
            .field("wiring", &self.0.wiring)
            .field("system_calls", &self.system_calls())
            .finish_non_exhaustive()
    }
}
