//! A hub that grows: two members that find a class dry at once get a slot each of one new extent, they never exceed the
//! bound together, and who is killed at any access of growth takes nothing along and stops nobody.

use std::sync::atomic::Ordering;

use loom::thread;
use rapace_shm_core::layout::{
    ExtentHeader, HubHeader, HubOffsets, PeerEntry, SizeClassHeader, decode_slot_ref, encode_slot_ref,
};
use rapace_shm_core::region::{InRegion, Region, Word};
use rapace_shm_core::slots::Slot;
use rapace_shm_loom_tests::{
    GROWING_HUB, Hub, LARGE, LoomEndpoint, Member, Mutation, Taken, check, check_at_every_access, killed, wait,
};

/// Fits the class below the largest.
const MIDDLE: usize = 300;

fn offsets() -> HubOffsets {
    HubOffsets::calculate(&GROWING_HUB).unwrap()
}

/// A hub in which the host has every slot of the first extents of the two largest classes.
fn dry(of_host: Mutation, of_plugins: [Mutation; 2]) -> (Hub, Taken) {
    let mut hub = Hub::of(GROWING_HUB, of_host, of_plugins);
    let taken = Taken::default();
    let host = Member::new(&mut hub.links[1], &taken);
    for len in [MIDDLE, LARGE] {
        (0..4).for_each(|_| assert!(host.allocate_for(len).is_some()));
    }
    (hub, taken)
}

const HOSTS: u32 = 8;

/// Extents that the classes have beyond their first.
fn grown(hub: &Hub) -> u32 {
    hub.host.slot_status().classes.iter().map(|class| class.extents - 1).sum()
}

/// Whoever has a slot of a further extent finds that extent's header.
fn see_header(member: &Member<LoomEndpoint>, slot: Slot) {
    let (class, index) = decode_slot_ref(slot.reference);
    if index >= 4 {
        let extent = offsets().extents[class as usize] + offsets().end - offsets().extents[0];
        let count = member.endpoint().region().u32(ExtentHeader::SLOT_COUNT.within(extent)).load(Ordering::Relaxed);
        assert_eq!(count, 4, "an extent without a header");
    }
}

/// Both plugins need a slot of the largest class.
fn both_need_one(mutations: [Mutation; 2]) {
    let (mut hub, taken) = dry(Mutation::None, mutations);
    let [one, two] = [0, 1].map(|plugin| Member::new(&mut hub.plugins[plugin], &taken));
    let allocate = |member: &Member<_>| see_header(member, member.allocate().expect("there is room for more"));
    let one = thread::spawn(move || allocate(&one));
    allocate(&two);
    one.join().unwrap();
    assert_eq!(grown(&hub), 1, "one extent is enough for both");
    hub.assert_nothing_lost(HOSTS + 2);
}

#[test]
fn two_that_find_a_class_dry_get_a_slot_each_of_one_new_extent() {
    check(|| both_need_one([Mutation::None; 2]));
}

fn class_word(field: usize) -> usize {
    offsets().size_classes + 4 * size_of::<SizeClassHeader>() + field
}

#[test]
fn without_one_step_for_the_first_fresh_slot_two_get_it() {
    let torn = Mutation::TornExchange(class_word(SizeClassHeader::FRESH.offset()));
    killed("seen: 1", move || both_need_one([torn, Mutation::None]));
}

#[test]
fn without_its_order_a_fresh_slot_seems_to_be_in_an_extent_that_is_not_there() {
    let fresh = class_word(SizeClassHeader::FRESH.offset());
    killed("Fresh", move || both_need_one([Mutation::None, Mutation::NoAcquire(fresh)]));
}

#[test]
fn without_its_order_an_extent_is_seen_without_its_header() {
    let grown = HubHeader::GROWN.offset();
    killed("without a header", move || both_need_one([Mutation::NoRelease(grown), Mutation::None]));
    killed("without a header", move || both_need_one([Mutation::None, Mutation::NoAcquire(grown)]));
}

/// There is room for one more extent, of whichever class, and each plugin needs one of another class.
fn room_for_one(mutations: [Mutation; 2]) {
    let (mut hub, taken) = dry(Mutation::None, mutations);
    let largest = offsets().end - offsets().extents[4];
    hub.host.set_max_size((offsets().end + largest) as u64).unwrap();
    let [one, two] = [0, 1].map(|plugin| Member::new(&mut hub.plugins[plugin], &taken));
    let one = thread::spawn(move || u32::from(one.allocate().is_some()));
    // If the other one was first, there is a larger slot for this one.
    assert!(two.allocate_for(MIDDLE).is_some());
    let held = HOSTS + 1 + one.join().unwrap();
    assert_eq!(grown(&hub), 1, "beyond the bound");
    hub.assert_nothing_lost(held);
}

#[test]
fn two_that_let_different_classes_grow_keep_within_the_bound_together() {
    check(|| room_for_one([Mutation::None; 2]));
}

#[test]
fn without_one_step_for_all_classes_they_exceed_the_bound() {
    let torn = Mutation::TornExchange(HubHeader::GROWN.offset());
    killed("", move || room_for_one([torn, Mutation::None]));
}

/// Plugin 1 is killed at its access number `access` while both need a slot; the host reaps it as soon as it is dead. Says
/// whether it was killed before it had one.
fn reap(access: u32, mutations: [Mutation; 2]) -> bool {
    let (mut hub, taken) = dry(Mutation::None, mutations);
    let living = Member::new(&mut hub.plugins[1], &taken);
    // What the dead one had, nobody else has: it does not count as taken.
    let dying = Member::new(&mut hub.plugins[0], &Taken::default());
    let end = hub.plugins[0].endpoint().region().life();
    let living = thread::spawn(move || assert!(living.allocate().is_some(), "growth was stopped by somebody's death"));
    let died = end.ends_at(access, || {
        dying.allocate();
    });
    drop((hub.plugins.remove(0), dying));
    let link = hub.links.remove(0);
    hub.host.reap(link).unwrap();
    living.join().unwrap();
    assert_eq!((hub.host.settle(), grown(&hub)), (0, 1));
    hub.assert_nothing_lost(HOSTS + 1);
    died
}

#[test]
fn a_plugin_killed_while_it_lets_a_class_grow_takes_no_slot_along_and_stops_nobody() {
    let access = check_at_every_access(|access| reap(access, [Mutation::None; 2]));
    assert!(access > 30, "only {access} kill points: growth has become short");
}

/// A plugin's first announcement.
fn announced(plugin: usize) -> usize {
    PeerEntry::ANNOUNCED.within(offsets().peer_table + size_of::<PeerEntry>() * plugin).offset()
}

#[test]
fn without_its_announcement_a_fresh_slot_is_lost() {
    let mutant = Mutation::LostStore(announced(1), encode_slot_ref(4, 4) + 1);
    killed("lost slots", move || {
        reap(37, [mutant, Mutation::None]);
    });
}

/// Plugin 1 waits for a slot while the hub may not grow; then it may.
fn for_room(of_host: Mutation, of_plugin: Mutation) {
    let (mut hub, _) = dry(of_host, [of_plugin, Mutation::None]);
    hub.host.set_max_size(offsets().end as u64).unwrap();
    let mut waiting = hub.plugins.remove(0);
    let waiting = thread::spawn(move || {
        let endpoint = waiting.endpoint().clone();
        drop(wait(&endpoint, || waiting.split().0.poll_loan(LARGE)).unwrap());
    });
    hub.host.set_max_size(offsets().reach as u64).unwrap();
    waiting.join().unwrap();
    hub.assert_nothing_lost(HOSTS);
}

#[test]
fn whoever_waits_for_a_slot_hears_that_the_hub_may_grow() {
    check(|| for_room(Mutation::None, Mutation::None));
}

#[test]
fn without_fence_or_wake_who_waits_for_room_sleeps_for_ever() {
    killed("deadlock", || for_room(Mutation::NoFence, Mutation::None));
    killed("deadlock", || for_room(Mutation::NoWake, Mutation::None));
    killed("deadlock", || for_room(Mutation::None, Mutation::NoFence));
}
