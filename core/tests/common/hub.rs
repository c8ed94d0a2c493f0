//! A hub over heap memory, for tests.

use std::sync::Arc;

use rapace_shm_core::endpoint::{Endpoint, Polled};
use rapace_shm_core::hub::{
    HOST, HasLinkMarks, HostEnd, HostLedgerIn, HubAllocator, HubHost, HubLink, HubPeer, LinkMarks, Waits,
};
use rapace_shm_core::layout::{HubConfig, HubOffsets, SizeClass};
use rapace_shm_core::ledger::{HasLedger, LedgerEntry, LedgerRef};
use rapace_shm_core::link::{Loan, Payload, Receiver, Sender};

use super::{HeapEndpoint, HeapRegion, endpoint, region};

/// Two plugins at most, four slots of each of 64, 128, 256, 512 and 1024 bytes.
pub const SMALL_HUB: HubConfig = HubConfig {
    max_peers: 4,
    ring_capacity: 4,
    classes: [
        SizeClass { slot_size: 64, slot_count: 4 },
        SizeClass { slot_size: 128, slot_count: 4 },
        SizeClass { slot_size: 256, slot_count: 4 },
        SizeClass { slot_size: 512, slot_count: 4 },
        SizeClass { slot_size: 1024, slot_count: 4 },
    ],
    max_extents: 1,
};

#[derive(Clone)]
pub struct SharedHostLedger(Arc<HostLedgerIn<Box<[LedgerEntry]>>>);

impl SharedHostLedger {
    pub fn new(slots: u32) -> Self {
        Self(Arc::new(HostLedgerIn::over((0..slots).map(|_| LedgerEntry::new()).collect())))
    }
}

impl HasLedger for SharedHostLedger {
    fn ledger(&self) -> LedgerRef<'_> {
        self.0.ledger()
    }
}

impl HasLinkMarks for SharedHostLedger {
    fn link_marks(&self) -> &LinkMarks {
        self.0.link_marks()
    }
}

pub type HostSide = Polled<HeapRegion, SharedHostLedger>;
pub type HeapHost = HubHost<HostSide>;
pub type HostLink = HubLink<HostEnd<HostSide>>;
pub type PluginLink = HubLink<HeapEndpoint>;
pub type HubSender<E> = Sender<E, HubAllocator>;
pub type HubReceiver<E> = Receiver<E, HubAllocator>;
pub type HubLoan<E> = Loan<E, HubAllocator>;
pub type HubPayload<E> = Payload<E, HubAllocator>;

pub fn hub_region(config: &HubConfig) -> HeapRegion {
    region(HubOffsets::calculate(config).unwrap().reach)
}

pub fn host_of(region: &HeapRegion, config: HubConfig) -> HeapHost {
    HubHost::create(Polled::new(region.clone(), SharedHostLedger::new(config.slots())), config).unwrap()
}

/// A new plugin: the host's end of its link, and its own.
pub fn join(host: &mut HeapHost, region: &HeapRegion) -> (HostLink, PluginLink) {
    let link = host.reserve(Waits::Together).unwrap();
    let plugin = HubPeer::attach(endpoint(region, host.allocator().config().slots()), link.id()).unwrap();
    (link, plugin)
}

/// Slots in use, by the hub's own census.
pub fn in_use(host: &HubHost<impl Endpoint + HasLinkMarks>) -> u32 {
    let slots = host.slot_status();
    assert_eq!(slots.free(), slots.free_list_len(), "{slots}");
    slots.total() - slots.free()
}

/// Slots that the host must free.
pub fn hosts_own(host: &HeapHost) -> u32 {
    host.allocator().owned_by(host.endpoint(), HOST)
}
