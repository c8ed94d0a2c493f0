//! What a host does with the numbers that it gives out, beside threads that it gave halves of links to.
//!
//! Seen to fail on these mutants of core: a `withdraw` that leaves the number to whoever comes; a `withdraw` that takes it
//! from one who has come; a `reap_closed` that does not look whether a half is open; a `has_gone` that says so of whoever
//! has that flag, given out or not.

mod common;

use common::endpoint;
use common::hub::{SMALL_HUB, host_of, hub_region, in_use, join};
use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::{HubError, HubPeer, Reaped, Waits};
use rapace_shm_core::layout::MsgDescHot;

const SLOTS: u32 = 20;

#[test]
fn a_number_that_is_withdrawn_is_nobodys_and_one_that_somebody_has_stays() {
    let region = hub_region(&SMALL_HUB);
    let mut host = host_of(&region, SMALL_HUB);
    assert!(!host.withdraw(PeerId(1)), "nobody was given it");
    let (_link, _plugin) = join(&mut host, &region);
    assert!(!host.withdraw(PeerId(1)), "its plugin has come");
    let waiting = host.reserve(Waits::Alone).unwrap();
    let id = waiting.id();
    assert!(host.withdraw(id));
    assert!(!host.withdraw(id), "once");
    assert!(HubPeer::attach(endpoint(&region, SLOTS), id).is_err(), "who comes too late finds it taken");
    drop(waiting);
    assert_eq!(host.reap_closed(id).unwrap(), Reaped::default());
    assert_eq!((host.peer_count(), host.reserve(Waits::Together).unwrap().id()), (1, id));
}

#[test]
fn a_number_goes_back_once_both_halves_of_the_hosts_end_are_closed() {
    let region = hub_region(&SMALL_HUB);
    let mut host = host_of(&region, SMALL_HUB);
    let (link, mut plugin) = join(&mut host, &region);
    let (id, sender, receiver) = link.into_parts();
    plugin.split().0.try_send(&MsgDescHot::data(1), &[1; 100]).unwrap();
    assert_eq!(host.reap_closed(PeerId(2)).unwrap_err(), HubError::NotReserved { id: PeerId(2) });
    assert_eq!(host.reap_closed(id).unwrap_err(), HubError::InUse { id });
    drop(receiver);
    // It was killed with something in its ring that it sent after the receiver had gone.
    std::mem::forget(plugin);
    let in_a_thread = std::thread::spawn(move || sender);
    assert_eq!(host.reap_closed(id).unwrap_err(), HubError::InUse { id }, "a thread has the other half");
    drop(in_a_thread.join().unwrap());
    host.reap_closed(id).unwrap();
    assert_eq!((in_use(&host), host.peer_count()), (0, 0));
}

#[test]
fn who_has_said_that_it_is_gone_is_known_until_its_number_is_free() {
    let region = hub_region(&SMALL_HUB);
    let mut host = host_of(&region, SMALL_HUB);
    let (link, mut plugin) = join(&mut host, &region);
    let (id, pool) = (link.id(), *plugin.split().0.pool());
    assert!(!host.has_gone(id));
    drop(plugin);
    assert!(!host.has_gone(id), "it has left, but may hold a payload");
    HubPeer::say_gone(&region, &pool);
    assert!(host.has_gone(id));
    host.reap(link).unwrap();
    assert!(!host.has_gone(id));
    HubPeer::say_gone(&region, &pool);
    assert!(!host.has_gone(id), "a number that is not given out has not gone, whatever its words say");
}
