//! Rubbish in a hub, at any moment, between any two accesses of its host and its plugins: no panic, no endless loop, nothing
//! handed out twice by one member's ledger, and after a fault a closed link.
//!
//! `RAPACE_SHM_HOSTILE_TRIALS` and `RAPACE_SHM_HOSTILE_SEED` as in `hostile.rs`.
//!
//! Seen to fail on these mutants of core: no claim in the ledger (two guards overlap); a slot's index that is not checked
//! (an access outside the region), nor a payload's length; a waiter's bit of a member that cannot be (likewise: found by
//! this test).

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::hub::{SMALL_HUB, SharedHostLedger, hub_region};
use common::member::{Member, check_disjoint};
use common::vandal::{Vandal, trials};
use common::watched::Watched;
use common::{HeapRegion, SharedLedger};
use fastrand::Rng;
use rapace_shm_core::endpoint::Polled;
use rapace_shm_core::hub::{HostEnd, HubError, HubHost, HubPeer, Waits};
use rapace_shm_core::layout::{At, HubConfig, HubHeader, HubOffsets, HubSlotMeta, RING_HEADER_SIZE, SizeClassHeader};
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::Step;

/// Every other hub is one that grows.
fn config(seed: u64) -> HubConfig {
    HubConfig { max_peers: 3, ring_capacity: 2, max_extents: if seed.is_multiple_of(2) { 2 } else { 1 }, ..SMALL_HUB }
}

const CALLS: usize = 100;

/// The halves of every word of the headers, the entries, the descriptors and the metadata.
fn targets(config: &HubConfig) -> Vec<usize> {
    let offsets = HubOffsets::calculate(config).unwrap();
    let mut targets: Vec<usize> = (0..offsets.rings).step_by(4).collect();
    for ring in 0..2 * usize::from(config.max_peers) {
        let (start, len) = (offsets.rings + ring * offsets.ring_size, RING_HEADER_SIZE + 64 * 2);
        targets.extend((start..start + len).step_by(4));
    }
    for (number, extent) in offsets.extents.into_iter().enumerate() {
        let header = offsets.size_classes + number * size_of::<SizeClassHeader>();
        targets.extend((header..header + 32).step_by(4));
        targets.push(SizeClassHeader::FRESH.within(header).offset());
        // Those of growth more often than one in hundreds.
        targets.extend([HubHeader::GROWN.offset() + (number & 4); 8]);
        for further in 0..usize::from(config.max_extents) {
            let extent = extent + further * (offsets.end - offsets.extents[0]);
            targets.extend((extent..extent + 64 + 4 * size_of::<HubSlotMeta>()).step_by(4));
        }
    }
    targets
}

type Victim = Polled<Watched<Vandal>, SharedLedger>;
type HostVictim = Polled<Watched<Vandal>, SharedHostLedger>;

struct Hub {
    config: HubConfig,
    region: HeapRegion,
    vandal: Arc<Vandal>,
    host: HubHost<HostVictim>,
    links: Vec<Member<HostEnd<HostVictim>>>,
    plugins: Vec<Member<Victim>>,
}

impl Hub {
    #[allow(clippy::arc_with_non_send_sync)] // one thread
    fn new(seed: u64) -> (Self, u8) {
        let config = config(seed);
        let region = hub_region(&config);
        let vandal = Arc::new(Vandal::new(seed, targets(&config)));
        let rate = vandal.rate.replace(0);
        let watched = Watched::new(region.clone(), vandal.clone());
        let host = HubHost::create(Polled::new(watched, SharedHostLedger::new(config.slots())), config).unwrap();
        let mut hub = Self { config, region, vandal, host, links: Vec::new(), plugins: Vec::new() };
        hub.join();
        hub.join();
        (hub, rate)
    }

    /// One more plugin, if there is a place and the rubbish lets it in.
    fn join(&mut self) {
        let Ok(link) = self.host.reserve(Waits::Together) else { return };
        let watched = Watched::new(self.region.clone(), self.vandal.clone());
        let ledger = SharedLedger::new(self.config.slots());
        if let Ok(plugin) = HubPeer::attach(Polled::new(watched, ledger), link.id()) {
            self.plugins.push(Member::new(plugin));
        }
        self.links.push(Member::new(link));
    }

    /// A plugin goes, with everything it has, and is reaped.
    fn replace(&mut self, number: usize) {
        if number >= self.links.len() {
            return self.join();
        }
        let link = self.links.remove(number);
        self.plugins.retain(|plugin| plugin.link.id() != link.link.id());
        match self.host.reap(link.link) {
            Ok(_) => self.join(),
            Err(HubError::PeerFault(fault)) => assert!(!fault.to_string().is_empty()),
            Err(error) => panic!("it was this host's: {error}"),
        }
    }

    /// The host receives from whichever plugin has something.
    fn hear(&mut self, rng: &mut Rng) {
        let mut links: Vec<_> = self.links.drain(..).collect();
        let mut ends: Vec<_> = Vec::new();
        let mut rest: Vec<_> = Vec::new();
        for Member { link, loans, payloads, faulted } in links.drain(..) {
            ends.push(link);
            rest.push((loans, payloads, faulted));
        }
        let step = self.host.poll_any(&mut ends);
        self.host.disarm();
        for (link, (loans, payloads, faulted)) in ends.into_iter().zip(rest) {
            self.links.push(Member { link, loans, payloads, faulted });
        }
        if let Step::Ready((from, received)) = step {
            let member = self.links.iter_mut().find(|member| member.link.id() == from).expect("one of these");
            match received {
                Ok(message) => member.got(message, rng.bool()),
                Err(error) => member.ended(Some(error)),
            }
        }
    }

    fn call(&mut self, rng: &mut Rng) {
        match rng.u8(..16) {
            0..6 => {
                if let Some(member) = rng.choice(&mut self.plugins) {
                    member.call(rng);
                }
            }
            6..11 => {
                if let Some(member) = rng.choice(&mut self.links) {
                    member.call(rng);
                }
            }
            11..14 => self.hear(rng),
            14 => self.replace(rng.usize(..2)),
            _ => {
                let status = self.host.slot_status();
                assert!(status.free_list_len() <= status.total() && !status.to_string().is_empty());
                self.host.share_among(rng.u16(..5));
            }
        }
        check_disjoint(self.links.iter().flat_map(Member::ranges));
        self.plugins.iter().for_each(|plugin| check_disjoint(plugin.ranges()));
    }
}

#[test]
fn rubbish_between_any_two_accesses_of_a_hub() {
    trials(1, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let (mut hub, rate) = Hub::new(seed);
        // A quiet start, so that there is something to spoil.
        for call in 0..CALLS {
            hub.vandal.rate.set(if call < 10 { 0 } else { rate });
            hub.vandal.accesses.set(0);
            hub.call(&mut rng);
        }
        // Guards and halves go while the rubbish goes on.
        hub.vandal.accesses.set(0);
        drop(hub);
    });
}

/// Headers and shapes that the newcomer did not make.
#[test]
fn attaching_to_a_hub_of_rubbish() {
    trials(1, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let (mut hub, rate) = Hub::new(seed);
        for _ in 0..rng.usize(..4) {
            let offsets = HubOffsets::calculate(&hub.config).unwrap();
            let header = rng.usize(..size_of::<HubHeader>() + 64 * 3) & !3;
            let class = offsets.size_classes + (rng.usize(..size_of::<SizeClassHeader>() * 5) & !3);
            let any = rng.u32(..);
            let value = rng.choice([0, 1, 2, 3, 8, 64, 1 << 17, 1 << 31, u32::MAX, any]).unwrap_or(any);
            let at = rng.choice([header, class]).unwrap_or(header);
            hub.region.u32(At::new(at)).store(value, Ordering::Relaxed);
        }
        hub.vandal.rate.set(rate);
        hub.vandal.accesses.set(0);
        hub.replace(0);
        for _ in 0..20 {
            hub.vandal.accesses.set(0);
            hub.call(&mut rng);
        }
        hub.vandal.accesses.set(0);
    });
}
