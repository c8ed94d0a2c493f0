//! A hub of a host and up to three plugins, and its slots as one member takes and frees them.

use std::cell::Cell;
use std::rc::Rc;

use rapace_shm_core::endpoint::Endpoint;
use rapace_shm_core::hub::{HostEnd, HubAllocator, HubHost, HubLink, HubPeer, Waits};
use rapace_shm_core::layout::{
    DescRingHeader, HubConfig, HubHeader, HubOffsets, PeerEntry, SizeClass, SizeClassHeader, SlotState, decode_slot_ref,
};
use rapace_shm_core::region::{Region, SlotRights};
use rapace_shm_core::slots::{Slot, SlotPool};

use crate::endpoint::{Barrier, Bell, LoomEndpoint};
use crate::fields::Fields;
use crate::mutant::{Mutant, Mutation};
use crate::place::Lines;
use crate::region::LoomRegion;

const fn class(slot_size: u32) -> SizeClass {
    SizeClass { slot_size, slot_count: 4 }
}

/// The shape of most models' hubs: one entry for the host, two for plugins, rings of one message, and classes of four
/// slots. The models use the largest class, as nothing else fits their messages.
pub const HUB: HubConfig = HubConfig {
    max_peers: 3,
    ring_capacity: 1,
    classes: [class(64), class(128), class(256), class(512), class(1024)],
    max_extents: 1,
};

/// The same, where each class may have a second extent.
pub const GROWING_HUB: HubConfig = HubConfig { max_extents: 2, ..HUB };

/// Fits the largest class only.
pub const LARGE: usize = 600;

/// Which slots of each class somebody has, by the schedule alone, whatever the memory says.
pub type Taken = Rc<[[Cell<bool>; 8]; 5]>;

/// A hub with two plugins.
#[derive(Debug)]
pub struct Hub {
    /// The host.
    pub host: HubHost<LoomEndpoint>,
    /// Its ends of the links.
    pub links: Vec<HubLink<HostEnd<LoomEndpoint>>>,
    /// The plugins' ends.
    pub plugins: Vec<HubLink<LoomEndpoint>>,
}

impl Hub {
    /// A hub; what is wrong with the host, and with each plugin.
    ///
    /// # Panics
    /// If the hub cannot be made.
    #[must_use]
    pub fn new(of_host: Mutation, of_plugins: [Mutation; 2]) -> Self {
        Self::of(HUB, of_host, of_plugins)
    }

    /// As [`new`](Self::new), of another shape.
    ///
    /// # Panics
    /// If the hub cannot be made.
    #[must_use]
    pub fn of(config: HubConfig, of_host: Mutation, of_plugins: [Mutation; 2]) -> Self {
        let region = LoomRegion::new(&Fields::hub(&config), Lines::Owned);
        let bell = Rc::new(bell());
        let endpoint = |mutation| {
            LoomEndpoint::new(Mutant::new(region.clone(), mutation), config.slots(), bell.clone(), Barrier::Fence)
        };
        let mut host = HubHost::create(endpoint(of_host), config).unwrap();
        let links: Vec<_> = of_plugins.iter().map(|_| host.reserve(Waits::Together).unwrap()).collect();
        let attach = |(link, mutation): (&HubLink<_>, _)| HubPeer::attach(endpoint(mutation), link.id()).unwrap();
        let plugins = links.iter().zip(of_plugins).map(attach).collect();
        Self { host, links, plugins }
    }

    /// Checks that all slots but `held` are free and listed.
    ///
    /// # Panics
    /// If one is not.
    pub fn assert_nothing_lost(&self, held: u32) {
        let slots = self.host.slot_status();
        assert_eq!(slots.free(), slots.total() - held, "slots are lost: {slots}");
        assert_eq!(slots.free_list_len(), slots.free(), "the free lists have lost slots");
    }
}

fn bell() -> Bell {
    let offsets = HubOffsets::calculate(&HUB).unwrap();
    let mut words = vec![HubHeader::HOST_SEQUENCE, SizeClassHeader::SLOT_AVAILABLE.within(offsets.size_classes)];
    for peer in 0..usize::from(HUB.max_peers) {
        let entry = offsets.peer_table + size_of::<PeerEntry>() * peer;
        words.extend([PeerEntry::TO_HOST.within(entry), PeerEntry::TO_PEER.within(entry)]);
        for ring in [2 * peer, 2 * peer + 1] {
            words.push(DescRingHeader::SPACE_SEQUENCE.within(offsets.rings + offsets.ring_size * ring));
        }
    }
    Bell::of(words)
}

/// One member's way to the slots.
#[derive(Debug)]
pub struct Member<E: Endpoint> {
    pool: HubAllocator,
    endpoint: E,
    taken: Taken,
}

impl<E: Endpoint> Member<E> {
    /// By one end of a link.
    #[must_use]
    pub fn new(link: &mut HubLink<E>, taken: &Taken) -> Self {
        let endpoint = link.endpoint().clone();
        Self { pool: *link.split().0.pool(), endpoint, taken: taken.clone() }
    }

    /// Takes a slot of the largest class if there is one, and writes all over it.
    ///
    /// # Panics
    /// If somebody has it already.
    pub fn allocate(&self) -> Option<Slot> {
        self.allocate_for(LARGE)
    }

    /// As [`allocate`](Self::allocate), of the smallest class that fits.
    ///
    /// # Panics
    /// If somebody has it already.
    pub fn allocate_for(&self, len: usize) -> Option<Slot> {
        let (slot, span) = self.pool.allocate(&self.endpoint, len).unwrap()?;
        let (class, index) = decode_slot_ref(slot.reference);
        assert!(!self.is_taken(slot).replace(true), "slot {index} of class {class} is given out twice");
        self.endpoint.region().copy_in(span, &1_u64.to_ne_bytes());
        Some(slot)
    }

    fn is_taken(&self, slot: Slot) -> &Cell<bool> {
        let (class, index) = decode_slot_ref(slot.reference);
        &self.taken[class as usize][index as usize]
    }

    /// This member's environment.
    #[must_use]
    pub const fn endpoint(&self) -> &E {
        &self.endpoint
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If it cannot be given back.
    pub fn free(&self, slot: Slot) {
        self.is_taken(slot).set(false);
        // SAFETY: the slot came from `allocate` of this member, and has no guard.
        let rights = unsafe { SlotRights::without_guards() };
        self.pool.free(&self.endpoint, slot, SlotState::Allocated, rights).unwrap();
    }
}
