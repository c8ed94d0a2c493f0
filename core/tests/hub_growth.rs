//! What a hub that grows promises: a class that runs dry gets more slots while everybody goes on, within the bounds that
//! were set; nobody touches a byte before it is there; and who is killed in the middle of it takes nothing along.
//!
//! Seen to fail on these mutants of core: a member that does not look whether an extent is there (it touches bytes that are
//! not), or looks and goes on all the same, or remembers those of another hub; a host that does not clear what is there
//! already; growth without a look at the bound, at the other classes' part in it, at the number of extents, or at what
//! `extend` says; growth that wakes nobody; a larger class taken before the smaller one has grown; fresh slots that are not
//! announced, or that a reaper takes for lost, or finds in every case; a quota, or a reaper, that sees first extents only;
//! a `grown` or a `fresh` that is believed; totals that nobody writes, or nobody after a death. That a class with slots
//! again does not grow is in the loom models.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::elastic::{Elastic, File};
use common::hub::{HubLoan, SMALL_HUB, SharedHostLedger, host_of, hub_region, in_use, join};
use common::killer::{Killer, dies, slot};
use common::watched::Watched;
use common::{HeapRegion, SharedLedger, endpoint};
use rapace_shm_core::PeerFault;
use rapace_shm_core::endpoint::{Endpoint, PeerId, Polled};
use rapace_shm_core::hub::{HostEnd, HubError, HubHost, HubLink, HubPeer, Waits};
use rapace_shm_core::layout::{
    At, HubConfig, HubHeader, HubLayoutError, HubOffsets, MsgDescHot, SizeClassHeader, Span,
};
use rapace_shm_core::link::SendError;
use rapace_shm_core::region::Region;
use rapace_shm_core::wake::Step;

/// Up to three extents of four slots for each of the classes.
const GROWABLE: HubConfig = HubConfig { max_extents: 3, ..SMALL_HUB };
/// As many slots as it may have of one class.
const MOST: usize = 12;

type Host = Elastic<SharedHostLedger>;
type Plugin = Elastic<SharedLedger>;

struct Hub {
    file: Arc<File>,
    host: HubHost<Host>,
    links: Vec<HubLink<HostEnd<Host>>>,
    plugins: Vec<HubLink<Plugin>>,
}

fn offsets() -> HubOffsets {
    HubOffsets::calculate(&GROWABLE).unwrap()
}

/// Bytes of one extent of a class.
fn extent_size(class: usize) -> usize {
    64 + 4 * (16 + GROWABLE.classes[class].slot_size as usize)
}

impl Hub {
    fn new(plugins: usize) -> Self {
        let file = File::new(hub_region(&GROWABLE), offsets().end);
        let host = Elastic::new(&file, SharedHostLedger::new(GROWABLE.slots()));
        let mut hub =
            Self { file, host: HubHost::create(host, GROWABLE).unwrap(), links: Vec::new(), plugins: Vec::new() };
        (0..plugins).for_each(|_| hub.join());
        hub
    }

    fn join(&mut self) {
        let link = self.host.reserve(Waits::Together).unwrap();
        let plugin = Elastic::new(&self.file, SharedLedger::new(GROWABLE.slots()));
        self.plugins.push(HubPeer::attach(plugin, link.id()).unwrap());
        self.links.push(link);
    }

    fn loan(&mut self, plugin: usize, len: usize) -> Result<HubLoan<Plugin>, SendError> {
        self.plugins[plugin].split().0.try_loan(len)
    }

    fn loans(&mut self, plugin: usize, len: usize, count: usize) -> Vec<HubLoan<Plugin>> {
        (0..count).map(|_| self.loan(plugin, len).unwrap()).collect()
    }

    fn extents(&self) -> [u32; 5] {
        self.host.slot_status().classes.map(|class| class.extents)
    }
}

fn class_of<E: Endpoint>(loan: &HubLoan<E>) -> u32 {
    loan.slot().reference >> 29
}

#[test]
fn a_class_that_runs_dry_grows_and_each_member_meets_the_new_slots_when_it_needs_them() {
    let mut hub = Hub::new(2);
    let mapped = |hub: &Hub| [hub.host.endpoint().mapped(), hub.plugins[1].endpoint().mapped()];
    let end = offsets().end;
    let mut loans = hub.loans(0, 40, 9);
    assert!(loans.iter().all(|loan| class_of(loan) == 0), "the smallest class that fits");
    let first: HashSet<u32> = loans.iter().map(|loan| loan.slot().reference).collect();
    assert_eq!((first.len(), mapped(&hub)), (9, [end, end]), "nobody else has met them");
    for number in (0..9_u8).rev() {
        let mut loan = loans.pop().unwrap();
        loan.fill(number);
        hub.plugins[0].split().0.try_send_loan(&MsgDescHot::data(1), loan).unwrap();
        let (_, message) = hub.host.try_any(&mut hub.links).unwrap();
        let message = message.unwrap();
        assert_eq!(message.payload(), [number; 40]);
    }
    assert!(mapped(&hub)[0] > end && mapped(&hub)[1] == end);
    assert_eq!((hub.extents(), in_use(&hub.host)), ([3, 1, 1, 1, 1], 0));
    // What was freed is taken again before anything grows, whoever takes it.
    let loans = hub.loans(1, 40, MOST);
    let again: HashSet<u32> = loans.iter().map(|loan| loan.slot().reference).collect();
    assert!(again.len() == MOST && again.is_superset(&first));
    drop(loans);
    assert_eq!((hub.extents(), in_use(&hub.host)), ([3, 1, 1, 1, 1], 0));
    assert!(
        hub.host.slot_status().to_string().contains("12 slots of 64 bytes: 12 free, 0 allocated, 0 in flight, in 3")
    );
}

#[test]
fn every_class_grows_to_its_last_extent_before_a_larger_one_is_taken_and_no_slot_is_given_out_twice() {
    let mut hub = Hub::new(1);
    let mut loans: Vec<_> = std::iter::from_fn(|| hub.loan(0, 17).ok()).collect();
    let classes: Vec<_> = loans.iter().map(class_of).collect();
    let expected: Vec<_> = (0..5).flat_map(|class| [class; MOST]).collect();
    assert_eq!(classes, expected);
    for (number, loan) in (0..).zip(&mut loans) {
        loan.fill(number);
    }
    assert!((0..).zip(&loans).all(|(number, loan)| **loan == [number; 17]), "a slot was given out twice");
    assert_eq!((hub.loan(0, 17).unwrap_err(), hub.extents()), (SendError::NoSlot, [3; 5]));
    assert_eq!((hub.file.len(), in_use(&hub.host)), (offsets().reach, 60));
    drop(loans);
    assert_eq!(in_use(&hub.host), 0);
}

#[test]
fn a_hub_never_exceeds_the_bytes_that_it_may_have() {
    let mut hub = Hub::new(1);
    // One extent of the smallest class, and not one of any other.
    hub.host.set_max_size((offsets().end + extent_size(0) + 10) as u64).unwrap();
    let loans: Vec<_> = std::iter::from_fn(|| hub.loan(0, 17).ok()).collect();
    assert_eq!((loans.len(), hub.extents()), (24, [2, 1, 1, 1, 1]));
    let Ok(Step::Sleep(ticket)) = hub.plugins[0].split().0.poll_loan(17) else { panic!("there is none") };
    // More room is news to whoever waits.
    let sequence = |hub: &Hub| hub.file.region().u32(ticket.word()).load(Ordering::Relaxed);
    assert_eq!(sequence(&hub), ticket.value());
    hub.host.set_max_size((offsets().end + extent_size(0) + extent_size(4)) as u64).unwrap();
    assert_ne!(sequence(&hub), ticket.value());
    assert!(matches!(hub.plugins[0].split().0.poll_loan(17), Ok(Step::Ready(_))));
    let larger: Vec<_> = std::iter::from_fn(|| hub.loan(0, 1000).ok()).collect();
    assert_eq!((larger.len(), hub.extents()), (0, [3, 1, 1, 1, 1]), "there is room for the smallest class again");
    drop(loans);
    let not_growable = host_of(&hub_region(&SMALL_HUB), SMALL_HUB);
    assert_eq!(not_growable.set_max_size(1 << 20), Err(HubError::NotGrowable));
}

#[test]
fn with_no_space_for_more_a_hub_goes_on_with_what_it_has() {
    let mut hub = Hub::new(2);
    hub.file.full.store(true, Ordering::Relaxed);
    let mut loans: Vec<_> = std::iter::from_fn(|| hub.loan(0, 17).ok()).collect();
    assert_eq!((loans.len(), hub.extents(), hub.file.len()), (20, [1; 5], offsets().end));
    let Ok(Step::Sleep(ticket)) = hub.plugins[1].split().0.poll_loan(17) else { panic!("there is none") };
    hub.file.full.store(false, Ordering::Relaxed);
    loans.push(hub.loan(0, 17).unwrap());
    assert_eq!(hub.extents(), [2, 1, 1, 1, 1]);
    assert_ne!(hub.file.region().u32(ticket.word()).load(Ordering::Relaxed), ticket.value());
    assert!(matches!(hub.plugins[1].split().0.poll_loan(17), Ok(Step::Ready(_))), "and was woken for it");
    drop(loans);
    assert_eq!(in_use(&hub.host), 0);
}

#[test]
fn a_quota_counts_the_slots_of_every_extent() {
    let mut hub = Hub::new(2);
    hub.host.set_quota(0, 6).unwrap();
    let loans: Vec<_> =
        std::iter::from_fn(|| Some(hub.loan(0, 17).unwrap()).filter(|loan| class_of(loan) == 0)).collect();
    assert_eq!((loans.len(), hub.extents()), (6, [2, 1, 1, 1, 1]));
    drop(loans);
    // What there is now is what is shared.
    hub.host.share_among(1);
    let mine: Vec<_> =
        std::iter::from_fn(|| Some(hub.loan(0, 17).unwrap()).filter(|loan| class_of(loan) == 0)).collect();
    assert_eq!((mine.len(), class_of(&hub.loan(1, 17).unwrap())), (7, 0));
}

#[test]
fn memory_that_is_all_there_from_the_beginning_may_hold_anything() {
    let region = hub_region(&GROWABLE);
    let len = region.size();
    for offset in (0..len).step_by(4) {
        region.copy_in(Span { offset, len: 4 }, &[0xaa; 4]);
    }
    let mut host = host_of(&region, GROWABLE);
    let (_link, mut plugin) = join(&mut host, &region);
    let loans: Vec<_> = std::iter::from_fn(|| plugin.split().0.try_loan(17).ok()).collect();
    assert_eq!(loans.len(), 5 * MOST);
    drop(loans);
    assert_eq!(in_use(&host), 0);
}

#[test]
fn who_joins_a_hub_that_has_grown_sees_all_of_it_and_needs_room_for_all_of_it() {
    let mut hub = Hub::new(1);
    let loan = hub.loans(0, 1000, 9).pop().unwrap();
    hub.join();
    let shape = HubPeer::peek(hub.file.region()).unwrap();
    assert_eq!((shape, shape.slots()), (GROWABLE, 60));
    let message = hub.plugins[0].split().0.try_send_loan(&MsgDescHot::data(1), loan);
    message.unwrap();
    hub.host.try_any(&mut hub.links).unwrap().1.unwrap();
    assert_eq!(hub.loans(1, 1000, MOST).len(), MOST);
    let refused = HubPeer::attach(endpoint(hub.file.region(), 59), PeerId(2)).unwrap_err();
    assert_eq!(refused, HubError::LedgerTooSmall { entries: 59, slots: 60 });
    let short = common::region(offsets().end);
    let refused = HubHost::create(Polled::new(short, SharedHostLedger::new(60)), GROWABLE).unwrap_err();
    let (required, available) = (offsets().reach, offsets().end);
    assert_eq!(refused, HubError::Layout(HubLayoutError::HubTooSmall { required, available }));
}

#[test]
fn rubbish_about_growth_is_a_fault_and_no_byte_that_is_not_there_is_touched() {
    let class_0 = offsets().size_classes;
    let fault = |hub: &mut Hub| match hub.plugins[0].split().0.try_loan(17) {
        Err(SendError::PeerFault(fault)) => fault,
        other => panic!("no fault but {other:?}"),
    };
    let mut hub = Hub::new(1);
    let _loans = hub.loans(0, 17, 4);
    hub.file.region().u64(HubHeader::GROWN).store(1 | 3 << 8, Ordering::Relaxed);
    assert_eq!(fault(&mut hub), PeerFault::Extents { class: 1, seen: 4, max: 3 });
    let status = hub.host.slot_status();
    assert_eq!((status.total(), status.classes[1].extents), (20, 1));
    let mut hub = Hub::new(1);
    let _loans = hub.loans(0, 17, 4);
    hub.file.region().u64(HubHeader::GROWN).store(1, Ordering::Relaxed);
    assert_eq!(fault(&mut hub), PeerFault::ExtentMissing { class: 0, extent: 1 });
    for seen in [3, 9, u32::MAX] {
        let mut hub = Hub::new(1);
        let _loans = hub.loans(0, 17, 8);
        hub.file.region().u32(SizeClassHeader::FRESH.within(class_0)).store(seen, Ordering::Relaxed);
        assert_eq!(fault(&mut hub), PeerFault::Fresh { class: 0, seen, first: 4, there: 8 });
    }
    // A list that leads into an extent that nobody has added.
    let mut hub = Hub::new(1);
    hub.file.region().u64(SizeClassHeader::FREE_HEAD.within(class_0)).store(5, Ordering::Relaxed);
    assert_eq!(fault(&mut hub), PeerFault::SlotIndex { slot: 5, count: 4 });
    let mut hub = Hub::new(1);
    hub.file.region().u64(SizeClassHeader::FREE_HEAD.within(class_0)).store(12, Ordering::Relaxed);
    assert_eq!(fault(&mut hub), PeerFault::FreeLink { slot: u32::MAX, next: 12, count: 12 });
}

#[test]
fn what_a_ledger_knew_of_another_hub_is_forgotten() {
    let ledger = SharedLedger::new(GROWABLE.slots());
    let attach = |hub: &mut Hub| {
        hub.links.push(hub.host.reserve(Waits::Together).unwrap());
        HubPeer::attach(Elastic::new(&hub.file, ledger.clone()), PeerId(1)).unwrap()
    };
    let mut large = Hub::new(0);
    let mut plugin = attach(&mut large);
    drop((0..MOST).map(|_| plugin.split().0.try_loan(17).unwrap()).collect::<Vec<_>>());
    drop(plugin);
    let mut small = Hub::new(0);
    let mut plugin = attach(&mut small);
    // As if an extent were there.
    small.file.region().u64(HubHeader::GROWN).store(1, Ordering::Relaxed);
    let _loans: Vec<_> = (0..4).map(|_| plugin.split().0.try_loan(17).unwrap()).collect();
    let refused = plugin.split().0.try_loan(17).unwrap_err();
    assert_eq!(refused, SendError::PeerFault(PeerFault::ExtentMissing { class: 0, extent: 1 }));
}

#[test]
fn totals_and_offsets_are_there_for_who_looks_in_from_outside() {
    let mut hub = Hub::new(1);
    let _loans = hub.loans(0, 17, 5);
    let region = hub.file.region();
    let class_0 = offsets().size_classes;
    let read = |at: At<u32>| region.u32(at).load(Ordering::Relaxed);
    let second = offsets().end;
    assert_eq!((read(HubHeader::EXTENT_COUNT), read(SizeClassHeader::TOTAL_SLOTS.within(class_0))), (6, 8));
    assert_eq!(region.u64(HubHeader::CURRENT_SIZE).load(Ordering::Relaxed), (second + extent_size(0)) as u64);
    let extents = SizeClassHeader::EXTENTS.within(class_0).offset();
    assert_eq!(region.u64(At::new(extents + 8)).load(Ordering::Relaxed), second as u64);
    let header = [0, 4, 0, 0, 4, 0, 64, 64 + 4 * 16].map(u32::to_ne_bytes).concat();
    let mut seen = [0; 32];
    region.copy_out(Span { offset: second, len: 32 }, &mut seen);
    assert_eq!(seen[..], header);
}

/// Those who live on in a hub with two extents for each class: the host and a plugin, which have each slot of the largest
/// class's first extent but two.
struct Survivors {
    region: HeapRegion,
    host: common::hub::HeapHost,
    link: common::hub::HostLink,
    plugin: common::hub::PluginLink,
}

const SLOTS: u32 = 40;

impl Survivors {
    fn new() -> Self {
        let config = HubConfig { max_extents: 2, ..SMALL_HUB };
        let region = hub_region(&config);
        let mut host = host_of(&region, config);
        let (link, plugin) = join(&mut host, &region);
        Self { region, host, link, plugin }
    }

    /// A plugin that does no more, stopped or dead, after one access of its life: it takes more slots than one extent has, sends one, and lets go of
    /// the others. What is left of it: whether it was stopped before the end, and the host's end of its link.
    fn dying(&mut self, access: u64) -> (bool, common::hub::HostLink) {
        let killer = Killer::at(u64::MAX);
        let link = self.host.reserve(Waits::Together).unwrap();
        let watched = Polled::new(Watched::new(self.region.clone(), killer.clone()), SharedLedger::new(SLOTS));
        let mut plugin = HubPeer::attach(watched, link.id()).unwrap();
        killer.left.store(access, Ordering::Relaxed);
        let died = dies(|| {
            let (tx, _) = plugin.split();
            let mut loans: Vec<_> = (0..5).map(|_| tx.try_loan(600).unwrap()).collect();
            let mut loan = loans.pop().unwrap();
            loan.append(&slot(3));
            tx.try_send_loan(&MsgDescHot::data(1), loan).unwrap();
        });
        killer.dead.store(true, Ordering::Relaxed);
        (died, link)
    }

    /// Everything that there is or can be, each slot once.
    fn every_slot_once(&mut self) -> usize {
        let (mut hosts, mut plugins) = (Vec::new(), Vec::new());
        let mut number = 0;
        loop {
            let taken = if number % 2 == 0 {
                self.link.split().0.try_loan(17).map(|mut loan| {
                    loan.fill(number);
                    hosts.push((number, loan));
                })
            } else {
                self.plugin.split().0.try_loan(17).map(|mut loan| {
                    loan.fill(number);
                    plugins.push((number, loan));
                })
            };
            if taken.is_err() {
                break;
            }
            number += 1;
        }
        let intact = hosts.iter().all(|(own, loan)| loan.iter().all(|byte| byte == own))
            && plugins.iter().all(|(own, loan)| loan.iter().all(|byte| byte == own));
        assert!(intact, "a slot was handed out twice");
        number.into()
    }
}

#[test]
fn a_plugin_killed_at_any_access_of_growth_leaks_no_slot_and_gives_none_to_two() {
    let mut accesses = 0;
    loop {
        accesses += 1;
        let mut survivors = Survivors::new();
        let held = [600; 2].map(|len| survivors.plugin.split().0.try_loan(len).unwrap());
        let (died, link) = survivors.dying(accesses);
        survivors.host.reap(link).unwrap();
        assert_eq!(in_use(&survivors.host), 2);
        let header = survivors.region.u32(HubHeader::EXTENT_COUNT).load(Ordering::Relaxed);
        let extents = survivors.host.slot_status().classes.map(|class| class.extents).iter().sum::<u32>();
        assert_eq!(header, extents, "the header says what there is");
        assert_eq!(survivors.every_slot_once(), SLOTS as usize - 2);
        drop(held);
        assert_eq!(in_use(&survivors.host), 0);
        if !died {
            break;
        }
    }
    assert!(accesses > 80, "only {accesses} kill points: growth has become short");
}

#[test]
fn a_plugin_stopped_at_any_access_of_growth_keeps_nobody_from_growing() {
    let mut accesses = 0;
    loop {
        accesses += 1;
        let mut survivors = Survivors::new();
        let (stopped, link) = survivors.dying(accesses);
        // It has at most five slots, and is about to take one more.
        let left = survivors.every_slot_once();
        assert!((SLOTS as usize - 6..=SLOTS as usize).contains(&left), "{left} slots are left");
        assert_eq!(survivors.host.slot_status().classes.map(|class| class.extents), [2; 5]);
        survivors.host.reap(link).unwrap();
        assert_eq!((in_use(&survivors.host), survivors.every_slot_once()), (0, SLOTS as usize));
        if !stopped {
            break;
        }
    }
}

#[test]
fn threads_that_grow_the_hub_at_once_never_get_the_same_slot_and_lose_none() {
    const ROUNDS: usize = 300;
    let config = HubConfig { max_extents: 16, ..SMALL_HUB };
    for round in 0..ROUNDS {
        let region = hub_region(&config);
        let mut host = host_of(&region, config);
        let mut members: Vec<_> = (0..3).map(|_| join(&mut host, &region)).collect();
        std::thread::scope(|scope| {
            for (own, (_, plugin)) in (1..).zip(&mut members) {
                scope.spawn(move || {
                    let mut loans: Vec<_> = (0..8).map(|_| plugin.split().0.try_loan(1000 - round).unwrap()).collect();
                    loans.iter_mut().for_each(|loan| loan.fill(own));
                    std::thread::yield_now();
                    assert!(
                        loans.iter().all(|loan| loan.iter().all(|byte| *byte == own)),
                        "somebody else has this slot"
                    );
                });
            }
        });
        assert_eq!(in_use(&host), 0);
        // 24 slots of four to an extent, if all were held at once; not one extent more.
        let extents = host.slot_status().classes[4].extents;
        assert!(extents <= 6, "{extents} extents");
    }
}
