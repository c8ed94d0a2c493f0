//! One plugin's link to the host, as either of the two has it: a session's halves over a hub's rings and slots.

use core::fmt;

use super::places::{HOST, Places};
use super::pool::HubAllocator;
use crate::endpoint::{Endpoint, PeerId};
use crate::layout::{At, DescRingHeader, PeerEntry, ProcessWords};
use crate::link::side::{EndWords, Side};
use crate::link::{Receiver, Sender};
use crate::ring::Place;
use crate::wake::WaitPoint;

/// Both directions between the host and one plugin. The host has one per plugin, a plugin has one.
///
/// Dropped, both directions are closed, and the other end sees that after it has received what was sent.
pub struct HubLink<E: Endpoint> {
    id: PeerId,
    sender: Sender<E, HubAllocator>,
    receiver: Receiver<E, HubAllocator>,
    /// Whether its end has been reported to whoever receives from any.
    pub(super) ended: bool,
}

/// One end of a link: the rings it sends and receives on, and where it and its peer wait.
struct Ends {
    outgoing: Place,
    incoming: Place,
    data_out: WaitPoint,
    space_out: WaitPoint,
    slots: WaitPoint,
    data_in: WaitPoint,
    space_in: WaitPoint,
    state: At<u32>,
}

impl Ends {
    fn host(places: &Places, id: PeerId, with_others: bool) -> Self {
        let (to_host, to_peer) = (places.ring_to_host(id), places.ring_to_peer(id));
        Self {
            outgoing: to_peer,
            incoming: to_host,
            data_out: places.peer_data(id),
            space_out: places.host_space(id),
            slots: places.host_slots(id),
            data_in: places.host_data(id, with_others),
            space_in: places.peer_space(id),
            state: to_host.word(DescRingHeader::CONSUMER_PEER_STATE),
        }
    }

    fn plugin(places: &Places, id: PeerId, host_with_others: bool) -> Self {
        let (to_host, to_peer) = (places.ring_to_host(id), places.ring_to_peer(id));
        Self {
            outgoing: to_host,
            incoming: to_peer,
            data_out: places.host_data(id, host_with_others),
            space_out: places.peer_space(id),
            slots: places.peer_slots(id),
            data_in: places.peer_data(id),
            space_in: places.host_space(id),
            state: places.entry(id, PeerEntry::STATE),
        }
    }

    fn halves<E: Endpoint>(
        &self,
        endpoint: &E,
        pool: HubAllocator,
    ) -> (Sender<E, HubAllocator>, Receiver<E, HubAllocator>) {
        let (outgoing, incoming, peer_state) = (self.outgoing, self.incoming, self.state);
        let producer = outgoing.word(DescRingHeader::PRODUCER_STATE);
        let consumer = incoming.word(DescRingHeader::CONSUMER_STATE);
        let peer = outgoing.word(DescRingHeader::CONSUMER_STATE);
        let sending = Side::new(endpoint.clone(), EndWords { own: producer, peer, sibling: consumer, peer_state });
        let peer = incoming.word(DescRingHeader::PRODUCER_STATE);
        let receiving = Side::new(endpoint.clone(), EndWords { own: consumer, peer, sibling: producer, peer_state });
        let sender = Sender::new(sending, pool, outgoing, self.data_out, self.space_out, self.slots);
        (sender, Receiver::new(receiving, pool, incoming, self.data_in, self.space_in))
    }
}

fn producer_words(ring: Place) -> ProcessWords {
    ProcessWords {
        pid: ring.word(DescRingHeader::PRODUCER_PID),
        pid_namespace: ring.word(DescRingHeader::PRODUCER_PID_NAMESPACE),
        start: ring.word(DescRingHeader::PRODUCER_START),
    }
}

impl<E: Endpoint> HubLink<E> {
    /// The host's end.
    pub(super) fn of_host(endpoint: &E, pool: HubAllocator, id: PeerId, with_others: bool) -> Self {
        Self::new(Ends::host(&pool.places, id, with_others).halves(endpoint, pool), id)
    }

    /// The plugin's end.
    pub(super) fn of_plugin(endpoint: &E, pool: HubAllocator, id: PeerId, host_with_others: bool) -> Self {
        Self::new(Ends::plugin(&pool.places, id, host_with_others).halves(endpoint, pool), id)
    }

    fn new((sender, receiver): (Sender<E, HubAllocator>, Receiver<E, HubAllocator>), id: PeerId) -> Self {
        Self { id, sender, receiver, ended: false }
    }

    /// Every point at which this end waits: for data, for space, for a slot.
    #[must_use]
    pub fn own_points(&self) -> [WaitPoint; 3] {
        let [space, slots] = self.sender.own_points();
        [self.receiver.own_point(), space, slots]
    }

    /// Where this end says which process it is, for peers that have no other way to see it end.
    #[must_use]
    pub fn own_process(&self) -> ProcessWords {
        producer_words(if self.is_hosts() {
            self.places().ring_to_peer(self.id)
        } else {
            self.places().ring_to_host(self.id)
        })
    }

    /// Where the other end says which process it is.
    #[must_use]
    pub fn peer_process(&self) -> ProcessWords {
        producer_words(if self.is_hosts() {
            self.places().ring_to_host(self.id)
        } else {
            self.places().ring_to_peer(self.id)
        })
    }

    fn places(&self) -> &Places {
        &self.sender.pool().places
    }

    fn is_hosts(&self) -> bool {
        self.places().own() == HOST
    }

    /// Wakes the other end if it sleeps: it may do so since before there was anybody, and want to know who came.
    pub fn greet(&self) {
        self.sender.greet();
        self.receiver.greet();
    }

    /// The plugin's number.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// This end's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.sender.endpoint()
    }

    /// Both halves, borrowed.
    pub fn split(&mut self) -> (&mut Sender<E, HubAllocator>, &mut Receiver<E, HubAllocator>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Both halves, to go to different threads; [`from_parts`](Self::from_parts) is the way back, for the host to
    /// [reap](super::HubHost::reap). Once both are closed it can also do so [without](super::HubHost::reap_closed).
    #[must_use]
    pub fn into_parts(self) -> (PeerId, Sender<E, HubAllocator>, Receiver<E, HubAllocator>) {
        (self.id, self.sender, self.receiver)
    }

    /// A link of what [`into_parts`](Self::into_parts) gave.
    #[must_use]
    pub fn from_parts(id: PeerId, sender: Sender<E, HubAllocator>, receiver: Receiver<E, HubAllocator>) -> Self {
        Self::new((sender, receiver), id)
    }

    /// Says that the process at the other end is gone: sends fail from now on, and receiving ends when everything that it
    /// had published has been received.
    pub fn peer_died(&self) {
        self.endpoint().ledger().peer_died();
    }

    /// Closes both directions, freeing what is in the ring that this end receives on.
    pub fn close(&mut self) {
        self.sender.close();
        self.receiver.close();
    }
}

impl<E: Endpoint> fmt::Debug for HubLink<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubLink").field("id", &self.id).finish_non_exhaustive()
    }
}
