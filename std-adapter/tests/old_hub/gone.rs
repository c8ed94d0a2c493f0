//! What becomes of those who wait for a member of the published crate that is gone, and of what it had.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rapace_shm::{Doorbell, Error, Heard, HubConfig, HubError, HubHost, HubPeer, MsgDescHot, PeerId, SizeClass, Waits};
use rapace_transport_shm as published;

use crate::common::{Folder, Second, assert_hub_is_empty, eventually, part};
use crate::exchange::{at_old_host, numbers, old_plugin};
use crate::old;
use crate::waiting::{deadline, host};

/// More than the longest pause between two looks.
const SOON: Duration = Duration::from_secs(2);

/// Sends one message, and neither receives nor ends.
#[test]
fn silent_plugin() {
    let Some(path) = part("gone::silent_plugin") else { return };
    let (id, doorbell) = numbers();
    let peer = std::sync::Arc::new(published::HubPeer::open(path, id).unwrap());
    peer.register();
    old::run(async {
        let doorbell = published::Doorbell::from_raw_fd(doorbell).unwrap();
        let transport = published::HubPeerTransport::new(peer, doorbell, "old");
        transport.send_frame(&rapace_core::MsgDescHot::new(), &[7; 5000]).await.unwrap();
        std::thread::sleep(old::LIMIT);
    });
}

#[test]
fn a_killed_old_plugin_ends_who_waits_for_it_and_its_slots_and_number_come_back() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let mut host = host(&path, 4);
    let (id, mut plugin) = old_plugin(&mut host, Waits::Together, "gone::silent_plugin", &path);
    let begun = Instant::now();
    assert!(matches!(host.recv_any_deadline(deadline()), Ok((from, Heard::Joined)) if from == id));
    assert!(begun.elapsed() < deadline() - Instant::now() - SOON, "its ring was not heard");
    for _ in 0..4 {
        host.try_send_to(id, &MsgDescHot::data(1), &[8; 5000]).unwrap();
    }
    let mut tx = host.take_sender(id).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || tx.send_deadline(&MsgDescHot::data(1), b"waits", deadline()));
        std::thread::sleep(Duration::from_millis(200));
        plugin.kill();
        let killed = Instant::now();
        let ended = waiting.join().unwrap();
        assert!(matches!(ended, Err(Error::PeerDied)), "{ended:?}");
        assert!(killed.elapsed() < SOON);
    });
    match host.recv_any_deadline(deadline()).unwrap() {
        (from, Heard::Message(message)) => assert_eq!((from, message.payload()), (id, &[7; 5000][..])),
        other => panic!("{other:?}"),
    }
    assert!(matches!(host.recv_any_deadline(deadline()), Ok((_, Heard::Ended(Error::PeerDied)))));
    let (next, _end) = host.add_old_peer(Waits::Together).unwrap();
    assert_eq!(next, id);
    assert_hub_is_empty(&host);
}

#[test]
fn the_place_of_an_old_plugin_that_is_gone_is_free_once_it_was_dismissed() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let mut host = host(&path, 4);
    let (id, mut plugin) = old_plugin(&mut host, Waits::Together, "gone::silent_plugin", &path);
    assert!(matches!(host.recv_any_deadline(deadline()), Ok((_, Heard::Joined))));
    assert!(matches!(host.recv_any_deadline(deadline()), Ok((_, Heard::Message(_)))));
    host.dismiss(id).unwrap();
    assert_eq!(host.peer_count(), 1, "it may still touch the hub");
    plugin.kill();
    host.tidy();
    assert_eq!(host.peer_count(), 0);
    assert_hub_is_empty(&host);
}

#[test]
fn who_cannot_be_together_is_told_so() {
    let folder = Folder::new();
    let at = |name: &str| folder.join(name);
    let mut host = host(&at("hub"), 4);
    let (id, _end) = host.add_old_peer(Waits::Together).unwrap();
    let taken = HubPeer::open_at(at("hub"), id).unwrap_err();
    assert!(matches!(taken, Error::Hub(HubError::Taken { .. })), "{taken}");

    let small = [64, 128, 256, 512, 1024].map(|slot_size| SizeClass { slot_size, slot_count: 4 });
    let other = HubConfig { max_peers: 2, ring_capacity: 4, classes: small, max_extents: 1 };
    let refused = HubHost::create(other).unwrap().add_old_peer(Waits::Together).unwrap_err();
    assert!(matches!(refused, Error::NotVersion1), "{refused}");
    let futexes = HubHost::create_at(at("futexes"), other).unwrap().add_old_peer(Waits::Together).unwrap_err();
    assert!(matches!(futexes, Error::NoDoorbell), "{futexes}");
}

/// A host of the published crate, and a plugin of ours that waits for it.
#[test]
fn old_host() {
    let Some(folder) = part("gone::old_host") else { return };
    let path = Path::new(&folder).join("hub");
    old::run(async {
        let config = published::HubConfig { max_peers: 2, ring_capacity: 4 };
        let host = published::HubHost::create(&path, config).unwrap();
        let (_, _doorbell, _plugin) = at_old_host(&host, "gone::plugin_that_waits", &path);
        std::thread::sleep(old::LIMIT);
    });
}

#[test]
fn plugin_that_waits() {
    let Some(path) = part("gone::plugin_that_waits") else { return };
    let path = Path::new(&path);
    let (id, doorbell) = numbers();
    let mut plugin = HubPeer::open_with_doorbell(path, PeerId(id), Doorbell::inherited(doorbell).unwrap()).unwrap();
    File::create(path.with_extension("waits")).unwrap();
    let ended = plugin.split().1.recv_deadline(deadline());
    assert!(matches!(ended, Err(Error::PeerDied)), "{ended:?}");
    File::create(path.with_extension("ended")).unwrap();
}

#[test]
fn a_plugin_of_ours_hears_that_an_old_host_was_killed() {
    let folder = Folder::new();
    let mut host = Second::start("gone::old_host", folder.as_ref());
    eventually("a plugin that waits", || folder.join("hub.waits").exists());
    std::thread::sleep(Duration::from_millis(200));
    host.kill();
    let killed = Instant::now();
    eventually("its end", || folder.join("hub.ended").exists());
    assert!(killed.elapsed() < SOON);
}
