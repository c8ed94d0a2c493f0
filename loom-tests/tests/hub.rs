//! A hub: no slot has two owners and none is lost, whoever is killed at whichever access while others go on; and whoever
//! waits is woken.
//!
//! Beside the mutants below these models have found a slot lost for ever when core took every announcement of a living
//! member for having the slot: it may be in vain ([`settle`](rapace_shm_core::hub::HubHost::settle)).

use loom::thread;
use rapace_shm_core::layout::{
    DescRingHeader, HubHeader, HubOffsets, HubSlotMeta, MsgDescHot, PeerEntry, SizeClassHeader, encode_slot_ref,
};
use rapace_shm_core::region::InRegion;
use rapace_shm_core::wake::{ASLEEP, Step};
use rapace_shm_loom_tests::{HUB, Hub, LARGE, Member, Mutation, Taken, check, check_long, killed, wait};

/// The largest class, with only its slots `2` and `3` in the list: the other two are the host's.
struct Model {
    hub: Hub,
    taken: Taken,
}

impl Model {
    fn new(of_host: Mutation, of_plugins: [Mutation; 2]) -> Self {
        let mut hub = Hub::new(of_host, of_plugins);
        let taken = Taken::default();
        let host = Member::new(&mut hub.links[1], &taken);
        assert!(host.allocate().is_some() && host.allocate().is_some());
        Self { hub, taken }
    }
}

/// What plugin 1 does until it is killed.
#[derive(Clone, Copy)]
enum Life {
    Allocate,
    Free,
}

/// What plugin 2 does meanwhile.
#[derive(Clone, Copy)]
enum Other {
    Allocates,
    Frees,
}

/// Plugin 1 is killed at its access number `access` while plugin 2 takes a slot or gives one back; the host reaps plugin 1
/// as soon as it is dead.
fn reap(life: Life, access: u32, other: Other, mutations: (Mutation, [Mutation; 2])) {
    let Model { mut hub, taken } = Model::new(mutations.0, mutations.1);
    let living = Member::new(&mut hub.plugins[1], &taken);
    // What the dead one had, nobody else has: it does not count as taken.
    let dying = Member::new(&mut hub.plugins[0], &Taken::default());
    let end = hub.plugins[0].endpoint().region().life();
    let of_dying = matches!(life, Life::Free).then(|| dying.allocate().unwrap());
    let of_living = matches!(other, Other::Frees).then(|| living.allocate().unwrap());
    let living = thread::spawn(move || match of_living {
        Some(slot) => {
            living.free(slot);
            0
        }
        None => u32::from(living.allocate().is_some()),
    });
    end.ends_at(access, || match of_dying {
        Some(slot) => dying.free(slot),
        None => drop(dying.allocate()),
    });
    drop((hub.plugins.remove(0), dying));
    let link = hub.links.remove(0);
    hub.host.reap(link).unwrap();
    let held = living.join().unwrap();
    assert_eq!(hub.host.settle(), 0, "nobody announces anything any more");
    hub.assert_nothing_lost(2 + held);
}

const SOUND: (Mutation, [Mutation; 2]) = (Mutation::None, [Mutation::None; 2]);
/// More accesses than an allocation or a free makes.
const ACCESSES: std::ops::RangeInclusive<u32> = 1..=12;

#[test]
fn a_plugin_killed_while_it_allocates_takes_no_slot_from_one_that_allocates() {
    ACCESSES.for_each(|access| check_long(move || reap(Life::Allocate, access, Other::Allocates, SOUND)));
}

#[test]
fn a_plugin_killed_while_it_allocates_takes_no_slot_from_one_that_frees() {
    ACCESSES.for_each(|access| check_long(move || reap(Life::Allocate, access, Other::Frees, SOUND)));
}

#[test]
fn a_plugin_killed_while_it_frees_takes_no_slot_from_one_that_allocates() {
    ACCESSES.for_each(|access| check_long(move || reap(Life::Free, access, Other::Allocates, SOUND)));
}

#[test]
fn a_plugin_killed_while_it_frees_takes_no_slot_from_one_that_frees() {
    ACCESSES.for_each(|access| check_long(move || reap(Life::Free, access, Other::Frees, SOUND)));
}

fn offsets() -> HubOffsets {
    HubOffsets::calculate(&HUB).unwrap()
}

/// A plugin's first announcement.
fn announced(plugin: usize) -> usize {
    PeerEntry::ANNOUNCED.within(offsets().peer_table + size_of::<PeerEntry>() * plugin).offset()
}

/// The first slot that the models take: the third of the largest class.
const SLOT: u32 = 2;

fn head() -> usize {
    SizeClassHeader::FREE_HEAD.within(offsets().size_classes + 4 * size_of::<SizeClassHeader>()).offset()
}

fn owner() -> usize {
    let metas = offsets().extents[4] + 64;
    HubSlotMeta::OWNER.within(metas + SLOT as usize * size_of::<HubSlotMeta>()).offset()
}

#[test]
fn without_its_announcement_a_popped_slot_is_lost() {
    let mutant = Mutation::LostStore(announced(1), encode_slot_ref(4, SLOT) + 1);
    killed("", move || reap(Life::Allocate, 7, Other::Allocates, (Mutation::None, [mutant, Mutation::None])));
}

#[test]
fn without_its_announcement_a_slot_is_taken_from_who_has_just_popped_it() {
    let mutant = Mutation::LostStore(announced(2), encode_slot_ref(4, SLOT) + 1);
    killed("", move || reap(Life::Allocate, 5, Other::Allocates, (Mutation::None, [Mutation::None, mutant])));
}

#[test]
fn without_its_owner_an_allocated_slot_is_lost() {
    let mutant = Mutation::LostStore(owner(), 1);
    killed("slots are lost", move || {
        reap(Life::Allocate, 11, Other::Allocates, (Mutation::None, [mutant, Mutation::None]))
    });
}

#[test]
fn without_one_step_for_the_head_a_slot_is_given_out_twice_or_lost() {
    let torn = Mutation::TornExchange(head());
    killed("", move || reap(Life::Allocate, 12, Other::Allocates, (Mutation::None, [Mutation::None, torn])));
}

/// Plugin 2 waits for a slot until plugin 1 gives one back.
fn for_a_slot(mutations: [Mutation; 2]) {
    let Model { mut hub, taken: _ } = Model::new(Mutation::None, mutations);
    let (mut waiting, mut holding) = (hub.plugins.pop().unwrap(), hub.plugins.pop().unwrap());
    let held: Vec<_> = std::iter::from_fn(|| holding.split().0.try_loan(LARGE).ok()).collect();
    assert_eq!(held.len(), 2);
    let waiting = thread::spawn(move || {
        let endpoint = waiting.endpoint().clone();
        drop(wait(&endpoint, || waiting.split().0.poll_loan(LARGE)).unwrap());
    });
    drop(held);
    waiting.join().unwrap();
    hub.assert_nothing_lost(2);
}

/// Both plugins wait for a slot, and the host gives one back: whoever is second gets it from the first.
fn for_one_slot_each(of_host: Mutation, mutations: [Mutation; 2]) {
    let mut hub = Hub::new(of_host, mutations);
    let mut held: Vec<_> = std::iter::from_fn(|| hub.links[0].split().0.try_loan(LARGE).ok()).collect();
    assert_eq!(held.len(), 4);
    let waiting: Vec<_> = std::mem::take(&mut hub.plugins)
        .into_iter()
        .map(|mut plugin| {
            thread::spawn(move || {
                let endpoint = plugin.endpoint().clone();
                drop(wait(&endpoint, || plugin.split().0.poll_loan(LARGE)).unwrap());
                plugin
            })
        })
        .collect();
    drop(held.pop());
    // Their ends are no slots.
    let ended: Vec<_> = waiting.into_iter().map(|waiting| waiting.join().unwrap()).collect();
    drop((held, ended));
    hub.assert_nothing_lost(0);
}

/// The host waits for one message of each plugin.
fn for_any(of_host: Mutation, of_plugins: [Mutation; 2]) {
    let Hub { mut host, mut links, plugins } = Hub::new(of_host, of_plugins);
    let sending: Vec<_> = plugins
        .into_iter()
        .map(|mut plugin| {
            thread::spawn(move || {
                let id = u64::from(plugin.id().0);
                plugin.split().0.try_send(&MsgDescHot::data(id), b"").unwrap();
                plugin
            })
        })
        .collect();
    let endpoint = host.endpoint().clone();
    let mut heard = [false; 3];
    for _ in 0..2 {
        let received = wait(&endpoint, || Ok::<Step<_>, ()>(host.poll_any(&mut links)));
        let (from, message) = received.unwrap();
        assert_eq!(message.unwrap().descriptor().msg_id, u64::from(from.0));
        assert!(!std::mem::replace(&mut heard[usize::from(from.0)], true), "heard twice");
    }
    // Their ends are no message.
    sending.into_iter().for_each(|sending| drop(sending.join().unwrap()));
}

#[test]
fn whoever_waits_for_a_slot_gets_the_one_that_is_given_back() {
    check(|| for_a_slot([Mutation::None; 2]));
}

#[test]
fn without_mark_fence_or_wake_a_waiter_for_a_slot_sleeps_for_ever() {
    let ring = offsets().rings + 4 * offsets().ring_size;
    let marked = DescRingHeader::SLOTS_SLEEPER.within(ring).offset();
    killed("deadlock", move || for_a_slot([Mutation::None, Mutation::LostStore(marked, ASLEEP)]));
    killed("deadlock", || for_a_slot([Mutation::None, Mutation::NoFence]));
    killed("deadlock", || for_a_slot([Mutation::NoFence, Mutation::None]));
    killed("deadlock", || for_a_slot([Mutation::NoWake, Mutation::None]));
    killed("deadlock", || for_a_slot([Mutation::None, Mutation::LateValue]));
}

#[test]
fn every_waiter_for_a_slot_gets_the_one_that_there_is_in_turn() {
    check_long(|| for_one_slot_each(Mutation::None, [Mutation::None; 2]));
}

#[test]
fn without_mark_fence_or_wake_the_second_waiter_for_a_slot_sleeps_for_ever() {
    let ring = offsets().rings + 4 * offsets().ring_size;
    let marked = DescRingHeader::SLOTS_SLEEPER.within(ring).offset();
    killed("deadlock", move || {
        for_one_slot_each(Mutation::None, [Mutation::None, Mutation::LostStore(marked, ASLEEP)])
    });
    killed("deadlock", || for_one_slot_each(Mutation::NoWake, [Mutation::None; 2]));
    // The first waiter is who wakes the second.
    killed("deadlock", || for_one_slot_each(Mutation::None, [Mutation::NoWake, Mutation::None]));
    killed("deadlock", || for_one_slot_each(Mutation::None, [Mutation::NoFence, Mutation::None]));
}

#[test]
fn a_host_that_sleeps_once_hears_every_plugin() {
    check_long(|| for_any(Mutation::None, [Mutation::None; 2]));
}

#[test]
fn without_mark_fence_or_wake_a_host_sleeps_for_ever() {
    let marked = Mutation::LostStore(HubHeader::HOST_SLEEPER.offset(), ASLEEP);
    killed("deadlock", move || for_any(marked, [Mutation::None; 2]));
    killed("deadlock", || for_any(Mutation::NoFence, [Mutation::None; 2]));
    killed("deadlock", || for_any(Mutation::None, [Mutation::NoFence, Mutation::None]));
    killed("deadlock", || for_any(Mutation::None, [Mutation::None, Mutation::NoWake]));
}
