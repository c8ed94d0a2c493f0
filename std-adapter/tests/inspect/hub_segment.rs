//! The bytes of a hub, to be damaged. It lies in memory of this process, as it would on bare metal; hubs of the operating
//! system are in `hub_alive.rs`.

use std::sync::OnceLock;

use rapace_shm::MsgDescHot;
use rapace_shm::core::endpoint::Polled;
use rapace_shm::core::hub::{HostLedger, HubHost, HubLink, HubPeer, Waits};
use rapace_shm::core::layout::{
    At, DescRingHeader, ExtentHeader, HubConfig, HubOffsets, HubSlotMeta, PeerEntry, SizeClass, SizeClassHeader,
};
use rapace_shm::core::ledger::Ledger;
use rapace_shm::core::region::{Memory, RawRegion, Region};
use rapace_shm::inspect::{HubReport, InspectError};

use crate::segment::Bytes;

pub const CLASSES: [SizeClass; 5] = [
    SizeClass { slot_size: 64, slot_count: 16 },
    SizeClass { slot_size: 128, slot_count: 4 },
    SizeClass { slot_size: 256, slot_count: 4 },
    SizeClass { slot_size: 512, slot_count: 4 },
    SizeClass { slot_size: 1024, slot_count: 4 },
];
pub const CONFIG: HubConfig = HubConfig { max_peers: 5, ring_capacity: 8, classes: CLASSES, max_extents: 1 };

/// Messages on their way from plugin 1 to the host: an inline one, and one in a slot of class 1.
pub const INLINE_MESSAGE: usize = 3;
pub const SLOT_MESSAGE: usize = 4;

/// The bytes of a hub.
pub type Hub = Bytes<HubOffsets>;

static MEMORY: Memory<32_768> = Memory::new();
static HOST: HostLedger<32> = HostLedger::new();
static PLUGINS: [Ledger<32>; 2] = [const { Ledger::new() }; 2];

fn bytes_of(region: &RawRegion) -> Vec<u8> {
    let end = HubOffsets::calculate(&CONFIG).unwrap().end;
    let word = |at| region.u64(At::new(at)).load(std::sync::atomic::Ordering::Relaxed);
    (0..end).step_by(8).flat_map(|at| word(at).to_ne_bytes()).collect()
}

/// A hub in use: plugin 1 has messages on their way to the host, plugin 2 has received one and shall receive another, the
/// host has slots in hand, plugin 3 is expected, and there is room for
/// another.
fn make() -> Vec<u8> {
    let region = MEMORY.take().unwrap();
    let mut host = HubHost::create(Polled::new(region, &HOST), CONFIG).unwrap();
    let mut links = [Waits::Together, Waits::Alone, Waits::Together].map(|waits| host.reserve(waits).unwrap());
    let [first, second] = &PLUGINS;
    let plugin = |number: usize, ledger| HubPeer::attach(Polled::new(region, ledger), links[number].id()).unwrap();
    let (mut one, mut two) = (plugin(0, first), plugin(1, second));
    for number in 0..3 {
        one.split().0.try_send(&MsgDescHot::data(number), &[1; 40]).unwrap();
    }
    let together = &mut links[..1];
    // All of them at once, so that they were three slots.
    let received: Vec<_> = (0..3).map(|_| host.try_any(together).unwrap().1.unwrap()).collect();
    drop(received);
    one.split().0.try_send(&MsgDescHot::data(3), b"inline").unwrap();
    one.split().0.try_send(&MsgDescHot::data(4), &[2; 100]).unwrap();
    let send = |link: &mut HubLink<_>, number| link.split().0.try_send(&MsgDescHot::data(number), &[3; 200]).unwrap();
    send(&mut links[1], 0);
    let _held = two.split().1.try_recv().unwrap().unwrap();
    send(&mut links[1], 1);
    let _loan = links[1].split().0.try_loan(500).unwrap();
    bytes_of(&region)
}

impl Hub {
    pub fn busy() -> Self {
        static BUSY: OnceLock<Vec<u8>> = OnceLock::new();
        Self { bytes: BUSY.get_or_init(make).clone(), at: HubOffsets::calculate(&CONFIG).unwrap() }
    }

    /// The same after everybody has left.
    pub fn deserted() -> Self {
        let mut hub = Self::busy();
        hub.put(72, 2_u32.to_ne_bytes());
        for plugin in 1..4 {
            hub.put_u32(PeerEntry::STATE, hub.entry(plugin), 2);
        }
        hub
    }

    pub fn entry(&self, peer: usize) -> usize {
        self.at.peer_table + peer * size_of::<PeerEntry>()
    }

    /// Twice a plugin's number is its ring to the host, one more the one from it.
    pub fn ring(&self, number: usize) -> usize {
        self.at.rings + number * self.at.ring_size
    }

    /// A message in plugin 1's ring to the host.
    pub fn message(&self, number: usize) -> usize {
        self.ring(2) + size_of::<DescRingHeader>() + number * 64
    }

    pub fn class(&self, number: usize) -> usize {
        self.at.size_classes + number * size_of::<SizeClassHeader>()
    }

    pub fn meta(&self, class: usize, slot: usize) -> usize {
        self.at.extents[class] + size_of::<ExtentHeader>() + slot * size_of::<HubSlotMeta>()
    }

    pub fn report(&self) -> Result<HubReport, InspectError> {
        HubReport::read(&self.file())
    }
}
