//! A session as one peer sees it: where its parts are, how it is begun, joined, and made ready for another peer.

use core::fmt;
use core::sync::atomic::Ordering;

use super::side::{EndWords, Side};
use super::{Link, LinkError, Receiver, Sender};
use crate::endpoint::{Endpoint, Half};
use crate::layout::{
    At, DataSegmentHeader, DescRingHeader, LayoutError, MAGIC, PROTOCOL_VERSION, PeerRole, PeerState, PeerWords,
    SegmentHeader, SegmentOffsets, ShmSessionConfig, Span, identify,
};
use crate::region::{Region, Word};
use crate::ring::{Place, RingStatus};
use crate::slots::{DataSegment, Reclaimed, SlotStatus};
use crate::wake::WaitPoint;

impl PeerWords {
    /// Forgets what the words said of the peer's process and of its heartbeats.
    fn clear<R: Region>(self, region: &R) {
        self.clear_heartbeats(region);
        region.u64(self.start).store(0, Ordering::Relaxed);
        for word in [self.pid, self.pid_namespace] {
            region.u32(word).store(0, Ordering::Relaxed);
        }
    }

    /// "Not started", which nobody takes for dead.
    fn clear_heartbeats<R: Region>(self, region: &R) {
        for word in [self.epoch, self.last_seen] {
            region.u64(word).store(0, Ordering::Relaxed);
        }
    }
}

/// The parts of a session and which peer this is: geometry that was checked once and is never read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    config: ShmSessionConfig,
    offsets: SegmentOffsets,
    pub(super) role: PeerRole,
}

impl Session {
    pub(super) fn new(config: ShmSessionConfig, role: PeerRole) -> Result<Self, LayoutError> {
        Ok(Self { config, offsets: SegmentOffsets::calculate(&config)?, role })
    }

    /// Which peer this is.
    #[must_use]
    pub const fn role(&self) -> PeerRole {
        self.role
    }

    /// The shape of the session.
    #[must_use]
    pub const fn config(&self) -> ShmSessionConfig {
        self.config
    }

    /// What the rings and the slab say now.
    #[must_use]
    pub fn status<R: Region>(&self, region: &R) -> LinkStatus {
        LinkStatus {
            outgoing: RingStatus::read(region, self.ring_from(self.role)),
            incoming: RingStatus::read(region, self.ring_from(self.role.peer())),
            slots: self.slab().slot_status(region),
        }
    }

    /// Makes room for a new peer after the other one has gone: frees every slot that this endpoint does not hold,
    /// empties both rings, and opens the side for [`Link::attach`]. Messages that were on their way are lost; loans,
    /// frozen bytes and payloads that this endpoint holds stay as they are. Returns how many slots the gone peer had in
    /// hand, if only to read, or on the way.
    ///
    /// The halves are this session's. The caller knows that the peer is gone; if it still runs, its next step is a
    /// [`PeerFault`](crate::PeerFault), here or there.
    ///
    /// # Errors
    /// [`LinkError::Busy`] if another thread is dropping a guard or allocating at this very moment: nothing was
    /// changed, try again. [`LinkError::PeerFault`] if the free list cannot be rebuilt; then the halves are closed, and
    /// another reset starts from what this one left.
    pub fn reset<E: Endpoint>(&self, sender: &mut Sender<E>, receiver: &mut Receiver<E>) -> Result<u32, LinkError> {
        let endpoint = sender.endpoint().clone();
        let ledger = endpoint.ledger();
        let are_mine = *sender.pool() == self.slab() && *receiver.pool() == self.slab();
        if !are_mine || !core::ptr::eq(ledger.entries, receiver.endpoint().ledger().entries) {
            return Err(LinkError::ForeignHalf);
        }
        if !ledger.gate.shut() {
            return Err(LinkError::Busy);
        }
        let reclaimed = self.slab().reclaim(&endpoint);
        ledger.gate.open();
        if let Err(fault) = reclaimed {
            sender.fail(fault);
            receiver.fail(fault);
        }
        let Reclaimed::Slots(slots) = reclaimed? else { return Err(LinkError::Busy) };
        let region = endpoint.region();
        // The old halves are replaced without telling a peer that is not there.
        sender.abandon();
        receiver.abandon();
        for from in [PeerRole::A, PeerRole::B] {
            self.ring_from(from).init(region);
        }
        self.role.peer().words().clear(region);
        // By the last one, a version 1.0 newcomer would take this peer for dead.
        self.role.words().clear_heartbeats(region);
        ledger.fault.clear();
        (*sender, *receiver) = self.halves(endpoint.clone());
        region.u32(self.role.state()).store(PeerState::Attached as u32, Ordering::Relaxed);
        // Release pairs with the Acquire in `take_side`: the newcomer finds everything reset.
        region.u32(self.role.peer().state()).store(PeerState::Vacant as u32, Ordering::Release);
        Ok(slots)
    }

    /// Whether region and ledger are large enough.
    pub(super) fn check_room<E: Endpoint>(&self, endpoint: &E) -> Result<(), LinkError> {
        let (required, available) = (self.offsets.end, endpoint.region().size());
        if required > available {
            return Err(LayoutError::SegmentTooSmall { required, available }.into());
        }
        let ledger = endpoint.ledger();
        if ledger.entries.len() < self.config.slot_count as usize {
            return Err(LinkError::LedgerTooSmall { entries: ledger.entries.len(), slots: self.config.slot_count });
        }
        match ledger.held() {
            0 => Ok(()),
            held => Err(LinkError::LedgerInUse { held }),
        }
    }

    fn slab(&self) -> DataSegment {
        DataSegment::new(self.config, self.role)
    }

    /// The ring on which this peer sends.
    fn ring_from(&self, sender: PeerRole) -> Place {
        let header = match sender {
            PeerRole::A => self.offsets.a_to_b_ring,
            PeerRole::B => self.offsets.b_to_a_ring,
        };
        Place { header, capacity: self.config.ring_capacity }
    }

    /// Whether a peer has ever sent or received anything, or said that it was about to: a version 1.0 peer that waits for
    /// its first message has moved nothing, but its heart beats.
    fn has_moved<R: Region>(&self, region: &R, role: PeerRole) -> bool {
        let sent = RingStatus::read(region, self.ring_from(role)).visible_head;
        let received = RingStatus::read(region, self.ring_from(role.peer())).tail;
        let last_seen = region.u64(role.words().last_seen).load(Ordering::Relaxed);
        sent != 0 || received != 0 || last_seen != 0
    }

    /// Every point at which this peer waits: for data, for space, for a slot.
    #[must_use]
    pub fn own_points(&self) -> [WaitPoint; 3] {
        let own = self.role;
        [self.data_point(own.peer()), self.space_point(own), self.slab().point_of(own.id())]
    }

    /// Where the other peer waits for data that this one sends.
    fn data_point(&self, sender: PeerRole) -> WaitPoint {
        let sequence = match sender {
            PeerRole::A => SegmentHeader::A_TO_B_DATA,
            PeerRole::B => SegmentHeader::B_TO_A_DATA,
        };
        let sleeper = self.ring_from(sender).word(DescRingHeader::DATA_SLEEPER);
        WaitPoint::new(sequence, sleeper, sender.peer().id(), Half::Receiver)
    }

    /// Where this peer waits for space to send.
    fn space_point(&self, sender: PeerRole) -> WaitPoint {
        let sequence = match sender {
            PeerRole::A => SegmentHeader::A_TO_B_SPACE,
            PeerRole::B => SegmentHeader::B_TO_A_SPACE,
        };
        let sleeper = self.ring_from(sender).word(DescRingHeader::SPACE_SLEEPER);
        WaitPoint::new(sequence, sleeper, sender.id(), Half::Sender)
    }

    fn end_words(&self, own: At<u32>, peer: At<u32>, sibling: At<u32>) -> EndWords {
        EndWords { own, peer, sibling, peer_state: self.role.state() }
    }

    pub(super) fn link<E: Endpoint>(self, endpoint: E) -> Link<E> {
        let (sender, receiver) = self.halves(endpoint);
        Link { sender, receiver, session: self }
    }

    fn halves<E: Endpoint>(&self, endpoint: E) -> (Sender<E>, Receiver<E>) {
        let (own, peer) = (self.role, self.role.peer());
        let (outgoing, incoming) = (self.ring_from(own), self.ring_from(peer));
        let producer = outgoing.word(DescRingHeader::PRODUCER_STATE);
        let consumer = incoming.word(DescRingHeader::CONSUMER_STATE);
        let sending = self.end_words(producer, outgoing.word(DescRingHeader::CONSUMER_STATE), consumer);
        let receiving = self.end_words(consumer, incoming.word(DescRingHeader::PRODUCER_STATE), producer);
        let sender = Sender::new(
            Side::new(endpoint.clone(), sending),
            self.slab(),
            outgoing,
            self.data_point(own),
            self.space_point(own),
            self.slab().point_of(own.id()),
        );
        let receiver = Receiver::new(
            Side::new(endpoint, receiving),
            self.slab(),
            incoming,
            self.data_point(peer),
            self.space_point(peer),
        );
        (sender, receiver)
    }

    /// Writes a whole fresh segment, its magic last.
    pub(super) fn create<R: Region>(&self, region: &R) {
        let config = &self.config;
        // Everything before the metadata. That is written slot by slot; of a slot only its link, so that the pages of
        // a large fresh mapping stay untouched.
        region.clear(Span { offset: 0, len: self.offsets.slot_meta });
        let write = |field: At<u32>, value| region.u32(field).store(value, Ordering::Relaxed);
        write(SegmentHeader::VERSION, PROTOCOL_VERSION);
        write(SegmentHeader::RING_CAPACITY, config.ring_capacity);
        write(SegmentHeader::SLOT_SIZE, config.slot_size);
        write(SegmentHeader::SLOT_COUNT, config.slot_count);
        write(PeerRole::A.state(), PeerState::Attached as u32);
        self.ring_from(PeerRole::A).init(region);
        self.ring_from(PeerRole::B).init(region);
        self.slab().init(region);
        // Release pairs with the Acquire in `peek`: whoever sees the magic sees the rest.
        region.u64(SegmentHeader::MAGIC).store(u64::from_ne_bytes(MAGIC), Ordering::Release);
    }

    /// Reads the shape of a segment that a peer created, for those who must provide a ledger before they attach.
    ///
    /// # Errors
    /// No segment, another version, or a shape that the layout cannot carry.
    pub fn peek<R: Region>(region: &R) -> Result<ShmSessionConfig, LayoutError> {
        let (required, available) = (size_of::<SegmentHeader>(), region.size());
        if available < required {
            return Err(LayoutError::SegmentTooSmall { required, available });
        }
        let magic = region.u64(SegmentHeader::MAGIC).load(Ordering::Acquire);
        let read = |field: At<u32>| region.u32(field).load(Ordering::Relaxed);
        identify(magic, read(SegmentHeader::VERSION))?;
        let config = ShmSessionConfig {
            ring_capacity: read(SegmentHeader::RING_CAPACITY),
            slot_size: read(SegmentHeader::SLOT_SIZE),
            slot_count: read(SegmentHeader::SLOT_COUNT),
        };
        config.fits(available)?;
        Ok(config)
    }

    /// Whether the other places that repeat the shape agree with the header.
    pub(super) fn check_copies<R: Region>(&self, region: &R) -> Result<(), LayoutError> {
        let ShmSessionConfig { ring_capacity, slot_size, slot_count } = self.config;
        let data = self.offsets.data_header;
        for (field, at, expected) in [
            ("ring A→B capacity", self.ring_from(PeerRole::A).word(DescRingHeader::CAPACITY), ring_capacity),
            ("ring B→A capacity", self.ring_from(PeerRole::B).word(DescRingHeader::CAPACITY), ring_capacity),
            ("data header slot size", DataSegmentHeader::SLOT_SIZE.within(data), slot_size),
            ("data header slot count", DataSegmentHeader::SLOT_COUNT.within(data), slot_count),
        ] {
            let seen = region.u32(at).load(Ordering::Relaxed);
            if seen != expected {
                return Err(LayoutError::Inconsistent { field, expected, seen });
            }
        }
        Ok(())
    }
}

/// Takes a vacant side: B's, or either if its peer has gone and the other one has made room for a successor.
pub(super) fn take_side<R: Region>(region: &R, session: &Session) -> Result<PeerRole, LinkError> {
    use PeerState::{Attached, Unknown, Vacant};
    let take = |role: PeerRole, from: PeerState| {
        // Acquire pairs with the Release in `Session::reset`; one of two newcomers wins.
        let taken = region.u32(role.state()).compare_exchange(
            from as u32,
            Attached as u32,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        taken.is_ok()
    };
    // Acquire as above: what is looked at next is what the session was reset to.
    let state = |role: PeerRole| PeerState::from_u32(region.u32(role.state()).load(Ordering::Acquire));
    // What a version 1.0 peer leaves behind: it never says that it is there, but it moves its ends of the rings. It keeps
    // its positions to itself, so nobody can start anew beside it, or take its place while it may be alive. That also goes
    // for a place that was vacated: an old peer may have come first.
    for (role, from) in [(PeerRole::B, Vacant), (PeerRole::A, Vacant), (PeerRole::B, Unknown)] {
        if state(role) == Some(from) && !session.has_moved(region, role) && take(role, from) {
            return Ok(role);
        }
    }
    let is_old = |role: &PeerRole| match state(*role) {
        Some(Unknown) => true,
        Some(Vacant) => session.has_moved(region, *role),
        _ => false,
    };
    match [PeerRole::B, PeerRole::A].into_iter().find(is_old) {
        Some(role) => Err(LinkError::OldPeer { role }),
        None => Err(LinkError::Occupied),
    }
}

/// A snapshot of a session, from one peer's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The ring on which this peer sends.
    pub outgoing: RingStatus,
    /// The ring on which this peer receives.
    pub incoming: RingStatus,
    /// The slab.
    pub slots: SlotStatus,
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "outgoing: {}", self.outgoing)?;
        writeln!(f, "incoming: {}", self.incoming)?;
        write!(f, "slots:    {}", self.slots)
    }
}
