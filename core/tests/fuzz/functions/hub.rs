//! A hub of a host and a plugin, of whose words any may say something else between any two calls.

use std::sync::atomic::Ordering;

use rapace_shm_core::hub::{HostEnd, HubError, HubPeer, Waits};
use rapace_shm_core::layout::{At, HubConfig, HubHeader};
use rapace_shm_core::region::Region;

use super::input::Input;
use crate::common::hub::{HeapHost, HostSide, SMALL_HUB, host_of, hub_region};
use crate::common::member::{Member, check_disjoint};
use crate::common::rubbish::{Choices, value};
use crate::common::{HeapEndpoint, HeapRegion, endpoint};

/// A hub and those who have one link of it; none once the rubbish keeps a plugin out.
struct Hub {
    region: HeapRegion,
    config: HubConfig,
    host: HeapHost,
    link: Option<Member<HostEnd<HostSide>>>,
    plugin: Option<Member<HeapEndpoint>>,
}

impl Hub {
    fn new(input: &mut Input<'_>) -> Self {
        let max_extents = u8::try_from(1 + input.below(3)).unwrap();
        let config = HubConfig { max_peers: 2, ring_capacity: 2, max_extents, ..SMALL_HUB };
        let region = hub_region(&config);
        let host = host_of(&region, config);
        let mut hub = Self { region, config, host, link: None, plugin: None };
        hub.join();
        hub
    }

    fn join(&mut self) {
        self.link = self.host.reserve(Waits::Alone).ok().map(Member::new);
        let Some(id) = self.link.as_ref().map(|member| member.link.id()) else { return };
        self.plugin = HubPeer::attach(endpoint(&self.region, self.config.slots()), id).ok().map(Member::new);
    }

    /// The plugin goes with everything it has, and another one comes.
    fn replace(&mut self) {
        self.plugin = None;
        match self.link.take().map(|member| self.host.reap(member.link)) {
            Some(Err(HubError::PeerFault(fault))) => assert!(!fault.to_string().is_empty()),
            Some(Err(error)) => panic!("it was this host's: {error}"),
            Some(Ok(_)) | None => self.join(),
        }
    }

    fn look(&self) {
        let status = self.host.slot_status();
        assert!(status.free_list_len() <= status.total() && status.total() <= self.config.slots());
        assert!(!status.to_string().is_empty());
    }

    /// Any word, or one of those that growth goes by.
    fn spoil(&self, input: &mut Input<'_>) {
        let words = self.region.size() / size_of::<u32>();
        let growth = HubHeader::GROWN.offset() + 4 * input.below(4);
        let offset = if input.below(8) == 0 { growth } else { input.below(words) * size_of::<u32>() };
        let (word, other) = (self.region.u32(At::new(offset)), self.region.u32(At::new(input.below(words) * 4)));
        let value = value(input, word.load(Ordering::Relaxed), other.load(Ordering::Relaxed));
        word.store(value, Ordering::Relaxed);
    }
}

/// Any word of a hub says something else.
pub fn hub(data: &[u8]) {
    let mut input = Input::new(data);
    let mut hub = Hub::new(&mut input);
    let mut honest = true;
    while !input.is_empty() {
        match input.below(32) {
            0..12 => hub.plugin.iter_mut().for_each(|member| member.call(&mut input)),
            12..22 => hub.link.iter_mut().for_each(|member| member.call(&mut input)),
            22 => hub.replace(),
            23 => hub.look(),
            _ => {
                honest = false;
                hub.spoil(&mut input);
            }
        }
        let faulted = hub.link.as_ref().is_some_and(|member| member.faulted)
            || hub.plugin.as_ref().is_some_and(|member| member.faulted);
        assert!(!(honest && faulted), "a fault without a cause");
        check_disjoint(hub.link.iter().flat_map(Member::ranges));
        check_disjoint(hub.plugin.iter().flat_map(Member::ranges));
    }
}
