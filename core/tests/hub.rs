//! What a hub promises: who gets which slot, who may join, who is heard when, and what is left after somebody goes.
//!
//! Seen to fail on these mutants of core: `classes_for` that starts at class 0; no look at the quota; a turn that always
//! starts with the first link, or credit without an end; `take_place` that ignores either flag; an `accept` that leaves the
//! owner as it was; one fault mark for all links; a waiter that sets no bit; a signaller that takes the host's mark; an
//! unknown waiter that is signalled at the new word only.

mod common;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use common::hub::{
    HeapHost, HostLink, HubLoan, PluginLink, SMALL_HUB, SharedHostLedger, host_of, hosts_own, hub_region, in_use, join,
};
use common::{HeapEndpoint, HeapRegion, endpoint, region};
use rapace_shm_core::PeerFault;
use rapace_shm_core::endpoint::{PeerId, Polled};
use rapace_shm_core::hub::{HOST, HubError, HubHost, HubPeer, Reaped, Waits};
use rapace_shm_core::layout::{
    At, HUB_SIZE_CLASSES, HubConfig, HubHeader, HubLayoutError, HubOffsets, MsgDescHot, PEER_FLAG_DEAD, PeerEntry,
    PeerState, SizeClassHeader, SlotState, encode_slot_ref,
};
use rapace_shm_core::ledger::HasLedger;
use rapace_shm_core::link::{RecvError, SendError};
use rapace_shm_core::region::{InRegion, Region, SlotRights};
use rapace_shm_core::slots::{Slot, SlotPool};
use rapace_shm_core::wake::Step;

const SLOTS: u32 = 20;

/// For slots that no guard of these tests has.
fn rights() -> SlotRights {
    // SAFETY: used only for slots that were taken from the pool right here.
    unsafe { SlotRights::without_guards() }
}

struct Hub {
    region: HeapRegion,
    host: HeapHost,
    links: Vec<HostLink>,
    plugins: Vec<PluginLink>,
}

/// A hub with this many plugins.
fn hub(plugins: usize, config: HubConfig) -> Hub {
    let region = hub_region(&config);
    let mut host = host_of(&region, config);
    let (links, plugins) = (0..plugins).map(|_| join(&mut host, &region)).unzip();
    Hub { region, host, links, plugins }
}

impl Hub {
    fn loan(&mut self, plugin: usize, len: usize) -> Result<HubLoan<HeapEndpoint>, SendError> {
        self.plugins[plugin].split().0.try_loan(len)
    }

    fn send(&mut self, plugin: usize, number: u64, payload: &[u8]) {
        self.plugins[plugin].split().0.try_send(&MsgDescHot::data(number), payload).unwrap();
    }

    fn heard(&mut self) -> Option<(PeerId, u64)> {
        let (from, message) = self.host.try_any(&mut self.links)?;
        Some((from, message.unwrap().descriptor().msg_id))
    }

    /// Plugin `number` dies as if killed: nothing of it is told to anybody.
    fn kill(&mut self, number: usize) -> HostLink {
        std::mem::forget(self.plugins.remove(number));
        self.links.remove(number)
    }
}

fn offsets() -> HubOffsets {
    HubOffsets::calculate(&SMALL_HUB).unwrap()
}

#[test]
fn the_smallest_class_that_fits_is_taken_and_a_larger_one_when_it_is_empty() {
    let mut hub = hub(1, SMALL_HUB);
    let class = |loan: &HubLoan<HeapEndpoint>| loan.slot().reference >> 29;
    let first: Vec<_> = (0..5).map(|_| hub.loan(0, 17).unwrap()).collect();
    assert_eq!(first.iter().map(class).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
    for (len, expected) in [(64, 1), (65, 1), (129, 2), (1024, 4)] {
        assert_eq!(class(&hub.loan(0, len).unwrap()), expected, "{len} bytes");
    }
    assert_eq!(hub.loan(0, 1025).unwrap_err(), SendError::TooLarge { len: 1025, max: 1024 });
    let rest: Vec<_> = std::iter::from_fn(|| hub.loan(0, 20).ok()).collect();
    let all: HashSet<u32> = first.iter().chain(&rest).map(|loan| loan.slot().reference).collect();
    assert_eq!((all.len(), hub.loan(0, 20).unwrap_err()), (20, SendError::NoSlot));
    drop((first, rest));
    assert_eq!((in_use(&hub.host), hub.host.slot_status().to_string().lines().count()), (0, 5));
}

#[test]
fn a_message_of_each_class_goes_both_ways_and_its_slot_comes_back() {
    let mut hub = hub(2, SMALL_HUB);
    for len in [0_usize, 16, 17, 64, 65, 128, 300, 600, 1024] {
        let bytes = vec![len.to_le_bytes()[0]; len];
        hub.send(1, 5, &bytes);
        let (from, message) = hub.host.try_any(&mut hub.links).unwrap();
        let message = message.unwrap();
        assert_eq!((from, message.payload()), (PeerId(2), &bytes[..]));
        assert_eq!(hosts_own(&hub.host), u32::from(len > 16), "whoever received a slot must free it");
        drop(message);
        hub.links[0].split().0.try_send(&MsgDescHot::data(6), &bytes).unwrap();
        let message = hub.plugins[0].split().1.try_recv().unwrap().unwrap();
        assert_eq!(message.payload(), bytes);
        assert!(hub.plugins[1].split().1.try_recv().unwrap().is_none(), "it was for another");
    }
    assert_eq!(in_use(&hub.host), 0);
}

#[test]
fn a_loan_of_the_host_can_be_sent_to_whichever_plugin() {
    let mut hub = hub(2, SMALL_HUB);
    let mut loan = hub.links[0].split().0.try_loan(100).unwrap();
    loan.fill(9);
    hub.links[1].split().0.try_send_loan(&MsgDescHot::data(1), loan).unwrap();
    assert_eq!(hub.plugins[1].split().1.try_recv().unwrap().unwrap().payload(), [9; 100]);
    let foreign = hub.plugins[0].split().0.try_loan(100).unwrap();
    let refused = hub.plugins[1].split().0.try_send_loan(&MsgDescHot::data(1), foreign).unwrap_err();
    assert_eq!(refused.error, SendError::ForeignLoan);
}

#[test]
fn what_no_slot_in_flight_fits_is_a_fault_and_claims_nothing() {
    let mut hub = hub(1, SMALL_HUB);
    let pool = *hub.plugins[0].split().0.pool();
    let (sender, receiver) = (hub.plugins[0].endpoint().clone(), hub.links[0].endpoint().clone());
    let (slot, _) = pool.allocate(&sender, 100).unwrap().unwrap();
    let host_pool = *hub.host.allocator();
    let good = MsgDescHot {
        payload_slot: slot.reference,
        payload_generation: slot.generation,
        payload_len: 100,
        ..MsgDescHot::data(1)
    };
    let refused = |descriptor: MsgDescHot| host_pool.accept(&receiver, &descriptor).unwrap_err();
    let (expected, seen) = (SlotState::InFlight as u32, SlotState::Allocated as u32);
    assert_eq!(refused(good), PeerFault::State { slot: slot.reference, expected, seen });
    pool.send(&sender, slot, rights()).unwrap();
    for class in 5..8 {
        let reference = encode_slot_ref(class, 0);
        assert_eq!(refused(MsgDescHot { payload_slot: reference, ..good }), PeerFault::SizeClass { reference, class });
    }
    for index in [4, 5, (1 << 29) - 1] {
        let reference = encode_slot_ref(1, index);
        let fault = PeerFault::SlotIndex { slot: reference, count: 4 };
        assert_eq!(refused(MsgDescHot { payload_slot: reference, ..good }), fault);
    }
    let fault = PeerFault::Generation { slot: slot.reference, expected: 7, seen: 1 };
    assert_eq!(refused(MsgDescHot { payload_generation: 7, ..good }), fault);
    for (offset, len) in [(0, 129), (1, 128), (u32::MAX, 1), (1, u32::MAX)] {
        let fault = PeerFault::PayloadRange { slot: slot.reference, offset, len, slot_size: 128 };
        assert_eq!(refused(MsgDescHot { payload_offset: offset, payload_len: len, ..good }), fault);
    }
    assert_eq!(receiver.ledger().held(), 0);
    host_pool.accept(&receiver, &good).unwrap();
    assert_eq!(refused(good), PeerFault::AlreadyHeld { slot: slot.reference });
    host_pool.free(&receiver, slot, SlotState::InFlight, rights()).unwrap();
    let nowhere = Slot { reference: u32::MAX, generation: 0 };
    assert!(host_pool.free(&receiver, nowhere, SlotState::InFlight, rights()).is_err());
    assert_eq!(in_use(&hub.host), 0);
}

#[test]
fn only_the_number_that_was_given_out_and_is_not_taken_lets_a_plugin_in() {
    let region = hub_region(&SMALL_HUB);
    let mut host = host_of(&region, SMALL_HUB);
    let attach = |id: u16| HubPeer::attach(endpoint(&region, SLOTS), PeerId(id)).map(|link| link.id().0);
    for id in [0, 4, 31, u16::MAX] {
        assert_eq!(attach(id), Err(HubError::NoSuchPeer { id: PeerId(id), last: 3 }));
    }
    assert_eq!(attach(1), Err(HubError::NotReserved { id: PeerId(1) }));
    let first = host.reserve(Waits::Together).unwrap();
    assert_eq!((first.id(), host.peer_state(PeerId(1))), (PeerId(1), Some(PeerState::Vacant)));
    let plugin = HubPeer::attach(endpoint(&region, SLOTS), PeerId(1)).unwrap();
    assert_eq!(attach(1), Err(HubError::Taken { id: PeerId(1) }));
    assert_eq!(attach(2), Err(HubError::NotReserved { id: PeerId(2) }));
    // A plugin that is gone keeps its number until it is reaped.
    drop(plugin);
    assert_eq!(host.peer_state(PeerId(1)), Some(PeerState::Left));
    assert_eq!(attach(1), Err(HubError::Taken { id: PeerId(1) }));
    region.u32(PeerEntry::FLAGS.within(256 + 64)).store(PEER_FLAG_DEAD, Ordering::Relaxed);
    assert_eq!(attach(1), Err(HubError::Taken { id: PeerId(1) }));
    host.reap(first).unwrap();
    assert_eq!((attach(1), host.peer_state(PeerId(1))), (Err(HubError::Taken { id: PeerId(1) }), None));
    let links: Vec<_> = (0..3).map(|_| host.reserve(Waits::Alone).unwrap()).collect();
    assert_eq!(links.iter().map(|link| link.id().0).collect::<Vec<_>>(), [1, 2, 3], "the number is given out again");
    assert_eq!(host.reserve(Waits::Alone).unwrap_err(), HubError::Full { plugins: 3 });
    assert_eq!(attach(1), Ok(1));
}

#[test]
fn beside_a_version_1_host_its_first_plugin_is_number_0() {
    let region = hub_region(&SMALL_HUB);
    let host = host_of(&region, SMALL_HUB);
    region.u32(HubHeader::HOST_STATE).store(0, Ordering::Relaxed);
    region.u32(HubHeader::HOST_SLEEPER).store(0, Ordering::Relaxed);
    region.u32(PeerEntry::FLAGS.within(256)).store(8, Ordering::Relaxed);
    let mut plugin = HubPeer::attach(endpoint(&region, SLOTS), HOST).unwrap();
    plugin.split().0.try_send(&MsgDescHot::data(1), b"").unwrap();
    // The host sleeps on the one word that version 1.0 has for both directions of waiting.
    assert_eq!(region.u32(PeerEntry::TO_HOST.within(256)).load(Ordering::Relaxed), 1);
    assert_eq!(HubPeer::attach(endpoint(&region, SLOTS), HOST).unwrap_err(), HubError::Taken { id: HOST });
    drop(host);
}

#[test]
fn a_version_1_plugin_is_woken_for_data_and_for_space_by_its_one_word() {
    let region = hub_region(&SMALL_HUB);
    let mut host = host_of(&region, SMALL_HUB);
    let (mut link, mut plugin) = join(&mut host, &region);
    let ring = |direction: usize| offsets().rings + (2 + direction) * offsets().ring_size;
    let unknown = |ring: usize, field: At<u32>| region.u32(field.within(ring)).store(0, Ordering::Relaxed);
    let word = |field: At<u32>| region.u32(field.within(256 + 64)).load(Ordering::Relaxed);
    plugin.split().0.try_send(&MsgDescHot::data(1), b"").unwrap();
    unknown(ring(0), rapace_shm_core::layout::DescRingHeader::SPACE_SLEEPER);
    unknown(ring(1), rapace_shm_core::layout::DescRingHeader::DATA_SLEEPER);
    let before = word(PeerEntry::TO_HOST);
    drop(link.split().1.try_recv().unwrap().unwrap());
    assert_eq!(word(PeerEntry::TO_HOST), before + 1, "space");
    link.split().0.try_send(&MsgDescHot::data(1), b"").unwrap();
    assert_eq!(word(PeerEntry::TO_PEER), 1, "data");
}

#[test]
fn a_region_that_is_no_hub_of_ours_is_refused() {
    let region = hub_region(&SMALL_HUB);
    let peek = || HubPeer::peek(&region);
    assert_eq!(peek(), Err(HubLayoutError::InvalidMagic { seen: [0; 8] }));
    let host = host_of(&region, SMALL_HUB);
    assert_eq!(peek(), Ok(SMALL_HUB));
    let spoil = |at: At<u32>, value: u32, refused: &dyn Fn(HubLayoutError) -> bool| {
        let before = region.u32(at).load(Ordering::Relaxed);
        region.u32(at).store(value, Ordering::Relaxed);
        let error = peek().unwrap_err();
        assert!(refused(error), "{error}");
        region.u32(at).store(before, Ordering::Relaxed);
    };
    let class = |number: usize| offsets().size_classes + 192 * number;
    let too_small = |error| matches!(error, HubLayoutError::HubTooSmall { .. });
    let inconsistent = |error| matches!(error, HubLayoutError::Inconsistent { .. });
    spoil(HubHeader::VERSION, 4 << 16, &|error| error == HubLayoutError::IncompatibleVersion { found: 4 << 16 });
    spoil(HubHeader::VERSION, 3 << 16, &|error| error == HubLayoutError::MaxExtents { seen: 0 });
    spoil(HubHeader::VERSION, 1 << 16, &too_small);
    spoil(HubHeader::RING_CAPACITY, 3, &|error| error == HubLayoutError::RingCapacity { seen: 3 });
    spoil(HubHeader::RING_CAPACITY, 1 << 31, &too_small);
    spoil(HubHeader::MAX_AND_ACTIVE_PEERS, 0, &|error| error == HubLayoutError::MaxPeers { seen: 0 });
    spoil(SizeClassHeader::SLOT_SIZE.within(class(1)), 100, &|error| {
        matches!(error, HubLayoutError::SizeClass { class: 1, .. })
    });
    spoil(SizeClassHeader::TOTAL_SLOTS.within(class(4)), 1 << 20, &too_small);
    spoil(At::new(SizeClassHeader::EXTENTS.within(class(2)).offset()), 64, &inconsistent);
    spoil(At::new(offsets().rings + 128), 8, &inconsistent);
    assert_eq!(peek(), Ok(SMALL_HUB));
    let refused = HubPeer::attach(endpoint(&region, 19), PeerId(1)).unwrap_err();
    assert_eq!(refused, HubError::LedgerTooSmall { entries: 19, slots: 20 });
    drop(host);
    let create = |size: usize, config| {
        HubHost::create(Polled::new(common::region(size), SharedHostLedger::new(20)), config).unwrap_err()
    };
    assert!(matches!(create(1 << 12, SMALL_HUB), HubError::Layout(HubLayoutError::HubTooSmall { .. })));
    let alone = HubConfig { max_peers: 1, ..SMALL_HUB };
    assert_eq!(create(1 << 16, alone), HubError::Layout(HubLayoutError::MaxPeers { seen: 1 }));
    let large = HubConfig { classes: HUB_SIZE_CLASSES, ..SMALL_HUB };
    assert!(matches!(create(1 << 12, large), HubError::Layout(HubLayoutError::HubTooSmall { .. })));
    let _ = region;
}

#[test]
fn everybody_who_has_something_is_heard_in_turn() {
    let mut hub = hub(3, SMALL_HUB);
    for round in 0..3 {
        for plugin in 0..3 {
            hub.send(plugin, round, b"");
        }
    }
    let heard: Vec<_> = std::iter::from_fn(|| hub.heard()).collect();
    let expected: Vec<_> = (0..3).flat_map(|round| (1..4).map(move |id| (PeerId(id), round))).collect();
    assert_eq!(heard, expected);
}

/// With 31 plugins that always have something, each waits for exactly the others; with one that does, the others are
/// looked at now and then and one that starts is heard within a round and a credit.
#[test]
fn nobody_waits_longer_than_a_round() {
    let config = HubConfig { max_peers: 32, ring_capacity: 32, ..SMALL_HUB };
    let mut hub = hub(31, config);
    let mut last = [0; 31];
    let mut longest = 0;
    for turn in 0..3100 {
        for plugin in 0..31 {
            let _ = hub.plugins[plugin].split().0.try_send(&MsgDescHot::data(1), b"");
        }
        let (from, _) = hub.heard().unwrap();
        let seen = &mut last[usize::from(from.0) - 1];
        longest = longest.max(turn - *seen);
        *seen = turn;
    }
    assert_eq!(longest, 31);
    while hub.heard().is_some() {}
    for _ in 0..40 {
        hub.send(7, 1, b"");
        assert_eq!(hub.heard(), Some((PeerId(8), 1)));
    }
    for number in 0..32 {
        let _ = hub.plugins[7].split().0.try_send(&MsgDescHot::data(number), b"");
    }
    hub.send(3, 2, b"");
    let waited = (0..).take_while(|_| hub.heard().unwrap().0 != PeerId(4)).count();
    assert!(waited <= 16, "{waited}");
}

#[test]
fn an_end_is_reported_once_and_the_others_go_on() {
    let mut hub = hub(2, SMALL_HUB);
    hub.send(0, 1, b"last");
    drop(hub.plugins.remove(0));
    assert_eq!(hub.heard(), Some((PeerId(1), 1)));
    let (from, end) = hub.host.try_any(&mut hub.links).unwrap();
    assert_eq!((from, end.unwrap_err()), (PeerId(1), RecvError::Closed));
    assert!(matches!(hub.host.poll_any(&mut hub.links), Step::Sleep(_)));
    hub.send(0, 2, b"");
    assert_eq!(hub.heard(), Some((PeerId(2), 2)));
}

#[test]
fn a_plugin_that_breaks_the_protocol_closes_its_own_link_and_no_other() {
    let mut hub = hub(2, SMALL_HUB);
    let head = At::<u64>::new(offsets().rings + 2 * offsets().ring_size);
    hub.region.u64(head).store(1 << 40, Ordering::Relaxed);
    hub.send(1, 7, &[1; 50]);
    let (from, fault) = hub.host.try_any(&mut hub.links).unwrap();
    assert!(matches!(fault.unwrap_err(), RecvError::PeerFault(PeerFault::Head { .. })));
    assert_eq!(from, PeerId(1));
    assert_eq!(hub.heard(), Some((PeerId(2), 7)));
    assert_eq!(hub.links[0].split().0.try_send(&MsgDescHot::data(1), b""), Err(SendError::Closed));
    hub.links[1].split().0.try_send(&MsgDescHot::data(1), &[1; 50]).unwrap();
}

#[test]
fn one_mark_wakes_the_host_whoever_sends() {
    let mut hub = hub(3, SMALL_HUB);
    let Step::Sleep(ticket) = hub.host.poll_any(&mut hub.links) else { panic!("nothing was sent") };
    assert_eq!(ticket.word(), HubHeader::HOST_SEQUENCE);
    let sequence = || hub.region.u32(HubHeader::HOST_SEQUENCE).load(Ordering::Relaxed);
    let before = sequence();
    hub.plugins[2].split().0.try_send(&MsgDescHot::data(1), b"").unwrap();
    assert_eq!((ticket.value(), sequence()), (before, before + 1));
    // Nobody takes the mark: whoever comes next wakes again, as the first one may have been stopped.
    hub.plugins[0].split().0.try_send(&MsgDescHot::data(2), b"").unwrap();
    assert_eq!(sequence(), before + 2);
    let Step::Ready(_) = hub.host.poll_any(&mut hub.links) else { panic!("two were sent") };
    hub.plugins[1].split().0.try_send(&MsgDescHot::data(3), b"").unwrap();
    assert_eq!(sequence(), before + 2, "awake");
}

#[test]
fn whoever_waits_for_a_slot_has_a_bit_while_it_waits_and_is_woken() {
    let mut hub = hub(2, SMALL_HUB);
    let bits = || hub.region.u64(HubHeader::SLOT_WAITERS).load(Ordering::Relaxed);
    // Without a heavy barrier all have to be looked at always.
    assert_eq!(bits(), 0b110 | 0b110 << 32);
    let available = SizeClassHeader::SLOT_AVAILABLE.within(offsets().size_classes);
    let loans: Vec<_> = std::iter::from_fn(|| hub.plugins[0].split().0.try_loan(600).ok()).collect();
    let Ok(Step::Sleep(ticket)) = hub.plugins[1].split().0.poll_loan(600) else { panic!("no slot is free") };
    assert_eq!((ticket.word(), ticket.value()), (available, hub.region.u32(available).load(Ordering::Relaxed)));
    drop(loans);
    assert_ne!(hub.region.u32(available).load(Ordering::Relaxed), ticket.value());
    assert!(matches!(hub.plugins[1].split().0.poll_loan(600), Ok(Step::Ready(_))));
}

#[test]
fn a_greedy_plugin_leaves_every_other_member_a_slot_of_each_class() {
    let mut hub = hub(3, HubConfig { ring_capacity: 8, ..SMALL_HUB });
    hub.host.share_among(3);
    let mut greedy = Vec::new();
    for len in [64, 128, 256, 512, 1024] {
        greedy.extend(std::iter::from_fn(|| hub.loan(0, len).ok()));
    }
    assert_eq!(greedy.len(), 5, "one of each class");
    // What it sends counts until it was received, what it receives until it is freed.
    while let Some(loan) = greedy.pop() {
        hub.plugins[0].split().0.try_send_loan(&MsgDescHot::data(1), loan).unwrap();
        let mut others = Vec::new();
        for len in [64, 128, 256, 512, 1024] {
            for plugin in [1, 2] {
                others.push(hub.plugins[plugin].split().0.try_loan(len).unwrap());
            }
            assert_eq!(hub.loan(0, len).unwrap_err(), SendError::NoSlot, "{len}");
        }
    }
    let messages: Vec<_> = std::iter::from_fn(|| hub.host.try_any(&mut hub.links)).collect();
    assert!(!messages.is_empty());
    assert!(hub.loan(0, 1024).is_ok(), "taken over by the host, it is no longer the plugin's");
    assert_eq!(hub.host.set_quota(5, 1), Err(HubError::NoSuchClass { class: 5 }));
    hub.host.set_quota(4, 2).unwrap();
    let two = [hub.loan(0, 1024).unwrap(), hub.loan(0, 1024).unwrap()];
    assert_eq!(hub.loan(0, 1024).unwrap_err(), SendError::NoSlot);
    drop((two, messages));
    assert_eq!(in_use(&hub.host), 0);
}

#[test]
fn everything_of_a_dead_plugin_goes_back_and_nothing_of_others() {
    let mut hub = hub(2, SMALL_HUB);
    let mut host_loan = hub.links[0].split().0.try_loan(64).unwrap();
    host_loan.fill(1);
    let mut other_loan = hub.loan(1, 64).unwrap();
    other_loan.fill(2);
    hub.send(0, 1, &[3; 100]);
    hub.send(0, 2, &[4; 100]);
    let (_, kept) = hub.host.try_any(&mut hub.links).unwrap();
    let kept = kept.unwrap();
    for number in 0..3 {
        hub.links[0].split().0.try_send(&MsgDescHot::data(number), &[5; 300]).unwrap();
    }
    std::mem::forget(hub.plugins[0].split().1.try_recv().unwrap().unwrap());
    std::mem::forget(hub.loan(0, 1000).unwrap());
    let link = hub.kill(0);
    let reaped = hub.host.reap(link).unwrap();
    assert_eq!(reaped, Reaped { unreceived: 3, owned: 1, announced: 0, in_doubt: 0 });
    assert_eq!((in_use(&hub.host), hosts_own(&hub.host)), (3, 2));
    assert!(kept.payload() == [3; 100] && *host_loan == [1; 64] && *other_loan == [2; 64]);
    drop((kept, host_loan, other_loan));
    assert_eq!((in_use(&hub.host), hub.host.peer_count()), (0, 1));
    let (mut link, mut plugin) = join(&mut hub.host, &hub.region);
    assert_eq!(link.id(), PeerId(1));
    assert!(plugin.split().1.try_recv().unwrap().is_none() && link.split().1.try_recv().unwrap().is_none());
}

#[test]
fn what_was_published_before_the_death_is_received_first() {
    let mut hub = hub(1, SMALL_HUB);
    hub.send(0, 1, &[3; 100]);
    hub.links[0].peer_died();
    let sent = hub.links[0].split().0.try_send(&MsgDescHot::data(1), b"");
    assert_eq!((sent, hub.heard()), (Err(SendError::PeerDied), Some((PeerId(1), 1))));
    let (_, end) = hub.host.try_any(&mut hub.links).unwrap();
    assert_eq!(end.unwrap_err(), RecvError::PeerDied);
    let link = hub.kill(0);
    hub.host.reap(link).unwrap();
    // The next one of that number starts with a clean sheet.
    let (mut link, _plugin) = join(&mut hub.host, &hub.region);
    link.split().0.try_send(&MsgDescHot::data(1), b"").unwrap();
}

#[test]
fn a_link_of_another_host_is_not_reaped() {
    let (mut hub, mut other) = (hub(1, SMALL_HUB), hub(1, SMALL_HUB));
    let foreign = other.kill(0);
    assert_eq!(hub.host.reap(foreign).unwrap_err(), HubError::ForeignLink { id: PeerId(1) });
    let (_, sender, receiver) = hub.kill(0).into_parts();
    let mixed = rapace_shm_core::hub::HubLink::from_parts(PeerId(2), sender, receiver);
    assert_eq!(hub.host.reap(mixed).unwrap_err(), HubError::ForeignLink { id: PeerId(2) });
    let _ = region(64);
}

#[test]
fn a_thousand_plugins_that_come_and_are_killed_leave_nothing() {
    let mut hub = hub(1, SMALL_HUB);
    for round in 0..1000 {
        let (link, mut plugin) = join(&mut hub.host, &hub.region);
        assert_eq!(link.id(), PeerId(2));
        std::mem::forget(plugin.split().0.try_loan(17 + round % 1000).unwrap());
        let _ = plugin.split().0.try_send(&MsgDescHot::data(1), &[1; 200]);
        std::mem::forget(plugin);
        hub.host.reap(link).unwrap();
    }
    assert_eq!((in_use(&hub.host), hub.host.peer_count()), (0, 1));
    assert_eq!(hub.host.endpoint().region().u64(HubHeader::SLOT_WAITERS).load(Ordering::Relaxed), 2 | 2 << 32);
}

#[test]
fn threads_of_several_members_never_get_the_same_slot_and_lose_none() {
    const ROUNDS: usize = 5_000;
    let mut hub = hub(3, SMALL_HUB);
    let run = |plugin: &mut PluginLink, own: u8| {
        for round in 0..ROUNDS {
            let len = 17 + round * 31 % 1000;
            let mut loans: Vec<_> = (0..=round % 3).filter_map(|_| plugin.split().0.try_loan(len).ok()).collect();
            loans.iter_mut().for_each(|loan| loan.fill(own));
            std::thread::yield_now();
            assert!(loans.iter().all(|loan| loan.iter().all(|byte| *byte == own)), "somebody else has this slot");
        }
    };
    std::thread::scope(|scope| {
        for (own, plugin) in (1..).zip(&mut hub.plugins) {
            scope.spawn(move || run(plugin, own));
        }
    });
    assert_eq!(in_use(&hub.host), 0);
}
