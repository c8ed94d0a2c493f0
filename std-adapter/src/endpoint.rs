//! One side of a session in this process: its mapping, its ledger, and how it sleeps and wakes.

use std::fmt;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use rapace_shm_core::endpoint::{Endpoint, Half, PeerId, SleepKind};
use rapace_shm_core::layout::{At, PeerState};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerIn, LedgerRef};
use rapace_shm_core::link;
use rapace_shm_core::region::{InRegion, Region};
use rapace_shm_core::slots::{DataSegment, Slot};
use rapace_shm_core::wake::Ticket;

use crate::barrier::Barriers;
use crate::bytes::{Frozen, ShmBytes};
use crate::error::Error;
use crate::event_source::EventSource;
use crate::ground::{Ground, asks_ground, entries};
use crate::mapping::MappedRegion;
use crate::metrics::ShmMetrics;
use crate::os_endpoint::{OsEndpoint, private};
use crate::process::{Found, Process};
use crate::system_calls::SystemCalls;
use crate::trace::event;
use crate::watch::{Duty, Watch, Watched, is_recent, nanoseconds_since_1970, watch};
use crate::wiring::{Roused, Wiring};

/// A slot on loan for a message that is being written, straight in shared memory.
pub type Loan<E = ShmEndpoint, P = DataSegment> = link::Loan<E, P>;
/// The bytes of a received message, where the sender wrote them.
pub type Payload<E = ShmEndpoint, P = DataSegment> = link::Payload<E, P>;
/// A received message.
pub type Message<E = ShmEndpoint, P = DataSegment> = link::Message<E, P>;

/// What core needs of one side of a session. Clones are one reference count; each keeps the segment mapped.
#[derive(Clone)]
pub struct ShmEndpoint(Arc<Shared>);

struct Shared {
    ground: Ground<LedgerIn<Box<[LedgerEntry]>>>,
    /// Frozen bytes, some of which may be gone.
    frozen: Mutex<Vec<Weak<Frozen>>>,
    /// Which peer this is; set once the link is there.
    place: OnceLock<link::Session>,
    /// The doorbells and the life socket, if there are any. They change when another peer takes the place of one that is
    /// gone; nobody sleeps on them then, but guards are dropped in other threads.
    wiring: RwLock<Option<Arc<Wiring>>>,
    /// Who watches the peer's process, where there is no life socket.
    watch: Mutex<Watching>,
}

/// How far the peer of an endpoint without a life socket is being watched.
#[derive(Debug, Default)]
enum Watching {
    /// Not yet: nobody is there, or it has not said which process it is.
    #[default]
    Not,
    /// By the watcher.
    By(#[allow(dead_code)] Watch),
    /// Nobody of ours is there. If it is a version 1.0 peer, the watcher writes heartbeats for it to see.
    Beating(#[allow(dead_code)] Watch),
    /// There is nothing to watch: it is this process, or one that cannot be seen.
    Never,
}

impl ShmEndpoint {
    pub(crate) fn new(region: MappedRegion, slots: u32, barriers: Barriers, file: Option<OwnedFd>) -> Self {
        Self(Arc::new(Shared {
            ground: Ground::new(region, LedgerIn::over(entries(slots)), barriers, file),
            frozen: Mutex::default(),
            place: OnceLock::new(),
            wiring: RwLock::default(),
            watch: Mutex::default(),
        }))
    }

    /// The system calls that this side has made so far.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.0.ground.counters.read()
    }

    pub(crate) fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.0.ground.count_into(metrics)
    }

    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        self.0.ground.file.as_ref()
    }

    /// Notes frozen bytes, so that they are found as long as anybody holds them.
    pub(crate) fn note(&self, frozen: &Arc<Frozen>) {
        let mut known = self.0.frozen.lock();
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(frozen));
    }

    /// The [`ShmBytes`] of this side that these bytes are part of, if they are and somebody holds them: for adapters that
    /// are given a slice. Looks at every one that is alive.
    #[must_use]
    pub fn bytes_at(&self, bytes: &[u8]) -> Option<ShmBytes> {
        self.find_bytes(|frozen| {
            let from = bytes.as_ptr().addr().checked_sub(frozen.as_ptr().addr())?;
            Some(from..from.checked_add(bytes.len())?)
        })
    }

    /// Some of the [`ShmBytes`] that are in a slot, if somebody holds them; as [`ShmBytes::location`] says it.
    #[must_use]
    pub fn bytes_in(&self, slot: Slot, range: Range<usize>) -> Option<ShmBytes> {
        self.find_bytes(|frozen| (frozen.slot() == slot).then(|| range.clone()))
    }

    fn find_bytes(&self, which: impl Fn(&Frozen) -> Option<Range<usize>>) -> Option<ShmBytes> {
        let known = self.0.frozen.lock().clone();
        let alive = known.iter().filter_map(Weak::upgrade);
        alive.filter_map(|frozen| which(&frozen).and_then(|range| ShmBytes::all_of(frozen).slice(range))).next()
    }

    /// Says which peer this is, and in the segment which process.
    pub(crate) fn take_place(&self, place: link::Session) {
        let place = self.0.place.get_or_init(|| place);
        // Without a /proc the peer goes unwatched, which is all that this is for.
        if let Ok(process) = Process::current() {
            process.write(self.region(), place.role().words().process());
        }
    }

    /// Which peer this is.
    ///
    /// # Panics
    /// Never: the halves, through which this is asked, are made after the place was taken.
    pub(crate) fn place(&self) -> &link::Session {
        self.0.place.get().expect("set when the link was made")
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn wiring(&self) -> Option<Arc<Wiring>> {
        self.0.wiring.read().clone()
    }

    /// Whoever sleeps from now on sleeps on these bells; only while nobody does.
    pub(crate) fn rewire(&self, wiring: Wiring) {
        *self.0.wiring.write() = Some(Arc::new(wiring));
    }

    /// Forgets the peer that is gone.
    pub(crate) fn unwire(&self) {
        *self.0.wiring.write() = None;
        *self.0.watch.lock() = Watching::Not;
    }

    pub(crate) fn is_wired(&self) -> bool {
        self.0.wiring.read().is_some()
    }

    /// Sleeps where the ticket says, until somebody signals, the peer is gone or the deadline (of the monotonic clock)
    /// passes; false in the last case. Blocks the thread: for those who drive the halves' `poll_` steps themselves.
    ///
    /// # Errors
    /// [`Error::Io`] as the kernel says it.
    pub fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        match (ticket.kind(), self.wiring()) {
            (SleepKind::Doorbell, Some(wiring)) => {
                let roused = wiring.sleep(ticket.half(), deadline, || self.0.ground.counters.polls.add_one())?;
                if roused == Roused::PeerDied {
                    self.note_death();
                }
                Ok(roused != Roused::TimedOut)
            }
            _ => {
                self.watch_peer()?;
                if self.ledger().peer_has_died() {
                    return Ok(true);
                }
                self.0.ground.wait(ticket, deadline)
            }
        }
    }

    /// Ends a [`sleep`](Self::sleep) of this side on the ticket, in whatever thread that is.
    pub fn rouse(&self, ticket: &Ticket) {
        self.0.ground.rouse(self.wiring().as_deref(), ticket);
    }

    fn note_death(&self) {
        if !self.ledger().peer_has_died() {
            event!(WARN, role = ?self.place().role(), "peer died");
        }
        self.ledger().peer_died();
    }

    /// Whether the peer is known to be there no more: it is dead, or it has left. Of a version 1.0 peer it is not known as
    /// long as its heart beats.
    pub(crate) fn peer_is_gone(&self) -> bool {
        self.look_for_death();
        if self.ledger().peer_has_died() {
            return true;
        }
        match self.peer_state() {
            Some(PeerState::Attached) => false,
            Some(PeerState::Unknown | PeerState::Vacant) => {
                !is_recent(self.region().u64(self.place().role().peer().words().last_seen).load(Ordering::Relaxed))
            }
            _ => true,
        }
    }

    /// What the segment says of the peer, if it is something.
    pub(crate) fn peer_state(&self) -> Option<PeerState> {
        PeerState::from_u32(self.region().u32(self.place().role().peer().words().state).load(Ordering::Acquire))
    }

    /// Has the peer's process watched, once there is one to watch. A futex cannot see it end.
    fn watch_peer(&self) -> Result<(), Error> {
        self.start_watching()?;
        self.0.begin_to_beat();
        Ok(())
    }

    fn start_watching(&self) -> Result<(), Error> {
        let nobody_of_ours = matches!(self.peer_state(), Some(PeerState::Unknown | PeerState::Vacant));
        let mut watching = self.0.watch.lock();
        match *watching {
            Watching::Not => {}
            // Whoever came is one of ours.
            Watching::Beating(_) if !nobody_of_ours => {}
            _ => return Ok(()),
        }
        let whom = || {
            let whom: Weak<Shared> = Arc::downgrade(&self.0);
            whom as Weak<dyn Watched>
        };
        if nobody_of_ours {
            *watching = Watching::Beating(watch(Duty::Heartbeat, whom())?);
            return Ok(());
        }
        let words = self.place().role().peer().words();
        let Some(process) = Process::read(self.region(), words.process()) else { return Ok(()) };
        *watching = match process.find() {
            Found::Running(descriptor) => Watching::By(watch(Duty::Death(descriptor), whom())?),
            Found::Gone => {
                self.note_death();
                Watching::Never
            }
            Found::Myself | Found::OutOfSight => Watching::Never,
        };
        Ok(())
    }
}

impl Shared {
    /// Whether the peer is one of version 1.0 that has begun to send or to receive: such a peer says nothing but when it was
    /// last seen.
    fn is_beside_old_peer(&self) -> bool {
        let Some(place) = self.place.get() else { return false };
        let words = place.role().peer().words();
        let state = PeerState::from_u32(self.ground.region.u32(words.state).load(Ordering::Relaxed));
        matches!(state, Some(PeerState::Unknown | PeerState::Vacant))
            && self.ground.region.u64(words.last_seen).load(Ordering::Relaxed) != 0
    }

    /// The first heartbeat does not wait for its second: an endpoint may be gone by then, and one whose heart has never beaten
    /// counts as alive for good.
    fn begin_to_beat(&self) {
        let Some(place) = self.place.get() else { return };
        let last_seen = self.ground.region.u64(place.role().words().last_seen);
        if self.is_beside_old_peer() && last_seen.load(Ordering::Relaxed) == 0 {
            self.beat(nanoseconds_since_1970());
        }
    }
}

impl Watched for Shared {
    fn peer_died(&self) {
        event!(WARN, role = ?self.place.get().map(link::Session::role), "peer died");
        self.ground.ledger.ledger().peer_died();
        let Some(place) = self.place.get() else { return };
        self.ground.signal_all(&place.own_points());
    }

    fn beat(&self, nanoseconds_since_1970: u64) {
        let Some(place) = self.place.get() else { return };
        if !self.is_beside_old_peer() {
            return;
        }
        let words = place.role().words();
        self.ground.region.u64(words.last_seen).store(nanoseconds_since_1970, Ordering::Release);
        self.ground.region.u64(words.epoch).fetch_add(1, Ordering::Release);
    }
}

impl InRegion for ShmEndpoint {
    type Region = MappedRegion;
    #[inline]
    fn region(&self) -> &MappedRegion {
        &self.0.ground.region
    }
}

impl HasLedger for ShmEndpoint {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ground.ledger.ledger()
    }
}

impl Endpoint for ShmEndpoint {
    fn sleep_kind(&self) -> SleepKind {
        if self.is_wired() { SleepKind::Doorbell } else { SleepKind::Word }
    }

    fn wake(&self, word: At<u32>) {
        if self.0.is_beside_old_peer() {
            // It is woken for every message and at the end, by an endpoint that may never sleep; but its heart has to beat.
            // Without a watcher it does not, and counts as alive.
            let _ = self.watch_peer();
        }
        self.0.ground.wake(word);
    }

    fn ring(&self, peer: PeerId, half: Half) {
        let Some(wiring) = self.wiring() else { return };
        self.0.ground.counters.rings.add_one();
        let bells = if peer == self.place().role().id() { &wiring.own } else { &wiring.peer };
        bells.of(half).ring();
    }

    asks_ground!(self => self.0.ground);
}

impl private::Sealed for ShmEndpoint {}

impl OsEndpoint for ShmEndpoint {
    fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error> {
        self.sleep(ticket, deadline)
    }

    fn rouse(&self, ticket: &Ticket) {
        self.rouse(ticket);
    }

    /// What the watcher says it says by itself; that it cannot be started is no death.
    fn look_for_death(&self) {
        let gone = match self.wiring() {
            Some(wiring) if wiring.life.is_some() => wiring.peer_is_gone(),
            _ => {
                let _ = self.watch_peer();
                false
            }
        };
        if gone {
            self.note_death();
        }
    }

    fn event_source(&self, half: Half) -> Result<EventSource, Error> {
        EventSource::new(&*self.wiring().ok_or(Error::NoDoorbell)?, half)
    }

    fn drain(&self, half: Half) {
        if let Some(wiring) = self.wiring() {
            self.0.ground.counters.polls.add_one();
            wiring.own.of(half).drain();
            self.look_for_death();
        }
    }

    fn system_calls(&self) -> SystemCalls {
        self.system_calls()
    }
}

impl fmt::Debug for ShmEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmEndpoint")
            .field("region", &self.0.ground.region)
            .field("held", &self.ledger().held())
            .field("barriers", &self.0.ground.barriers)
            .field("wiring", &self.wiring())
            .field("system_calls", &self.system_calls())
            .finish()
    }
}
