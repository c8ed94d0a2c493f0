//! Every frame arrives, in both directions at once, whoever of the two kinds hosts.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapace_core::{EncodeError, Transport, TransportError};
use rapace_shm::{
    Doorbell, Heard, HostSender, HubConfig, HubHost, HubOptions, HubPeer, HubReceiver, HubSender, PeerId, Waits,
};
use rapace_transport_shm as published;

use crate::common::{Folder, Second, assert_hub_is_empty, command, part};
use crate::lengths::{FRAMES, frames};
use crate::old;

/// Frames from the host to plugin `id` and back have these seeds.
fn to(id: u16) -> u64 {
    100 + u64::from(id)
}

fn from(id: u16) -> u64 {
    200 + u64::from(id)
}

/// What a plugin of the published crate, or one of ours beside its host, is told besides its part.
const NUMBERS: &str = "RAPACE_SHM_TEST_NUMBERS";

pub fn numbers() -> (u16, RawFd) {
    let told = std::env::var(NUMBERS).unwrap();
    let (id, doorbell) = told.split_once(' ').unwrap();
    (id.parse().unwrap(), doorbell.parse().unwrap())
}

/// A plugin of the published crate at a host of ours, in a process of its own.
pub fn old_plugin(host: &mut HubHost, waits: Waits, test: &str, path: &Path) -> (PeerId, Second) {
    let mut command = command(test, path);
    let (id, number, _until_started) = host.pass_to_old(&mut command, waits).unwrap();
    command.env(NUMBERS, format!("{} {number}", id.0));
    (id, Second::of(command))
}

/// A place at a host of the published crate, and whoever takes it in a process of its own.
pub fn at_old_host(host: &published::HubHost, test: &str, path: &Path) -> (u16, published::Doorbell, Second) {
    let place = host.add_peer().unwrap();
    let mut command = command(test, path);
    command.env(NUMBERS, format!("{} {}", place.peer_id, place.peer_doorbell_fd));
    let second = Second::of(command);
    published::close_peer_fd(place.peer_doorbell_fd);
    (place.peer_id, place.doorbell, second)
}

/// The published crate does not wait for a slot.
async fn send(transport: &impl Transport, seed: u64) {
    for frame in frames(seed).map(old::frame) {
        loop {
            match transport.send_frame(&frame).await {
                Ok(()) => break,
                Err(TransportError::Encode(EncodeError::NoSlotAvailable)) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn receive(transport: &impl Transport, seed: u64) {
    for frame in frames(seed) {
        old::receive(transport, &frame).await;
        tokio::task::yield_now().await;
    }
}

async fn exchange(transport: &impl Transport, sent: u64, received: u64) {
    tokio::join!(send(transport, sent), receive(transport, received));
}

#[test]
fn plugin_of_the_published_crate() {
    let Some(path) = part("exchange::plugin_of_the_published_crate") else { return };
    let (id, doorbell) = numbers();
    let peer = published::HubPeer::open(path, id).unwrap();
    peer.register();
    old::run(async {
        let doorbell = published::Doorbell::from_raw_fd(doorbell).unwrap();
        let transport = published::HubPeerTransport::new(Arc::new(peer), doorbell, "old");
        exchange(&transport, from(id), to(id)).await;
    });
}

fn exchange_of_ours(tx: HubSender, mut rx: HubReceiver, id: u16) {
    std::thread::scope(|scope| {
        scope.spawn(|| send_of_ours(tx, from(id)));
        for frame in frames(to(id)) {
            let message = rx.recv_deadline(Instant::now() + old::LIMIT).unwrap();
            frame.assert_is(message.descriptor(), message.payload());
        }
    });
}

fn send_of_ours(mut tx: HubSender, seed: u64) {
    for frame in frames(seed) {
        tx.send(&frame.descriptor, &frame.payload).unwrap();
    }
}

#[test]
fn plugin_of_ours() {
    let Some(_) = part("exchange::plugin_of_ours") else { return };
    let plugin = HubPeer::inherited().unwrap();
    let id = plugin.id().0;
    let (tx, rx) = plugin.into_split();
    exchange_of_ours(tx, rx, id);
}

#[test]
fn plugin_of_ours_at_an_old_host() {
    let Some(path) = part("exchange::plugin_of_ours_at_an_old_host") else { return };
    let (id, doorbell) = numbers();
    let doorbell = Doorbell::inherited(doorbell).unwrap();
    let (tx, rx) = HubPeer::open_with_doorbell(path, PeerId(id), doorbell).unwrap().into_split();
    exchange_of_ours(tx, rx, id);
}

fn host_sends(mut tx: HostSender, id: u16) -> HostSender {
    for frame in frames(to(id)) {
        tx.send(&frame.descriptor, &frame.payload).unwrap();
    }
    tx
}

/// Receives from all until each has sent everything.
fn host_receives(host: &mut HubHost, ids: &[PeerId]) {
    let mut expected: Vec<_> = ids.iter().map(|id| (*id, frames(from(id.0)))).collect();
    let (mut joined, mut heard) = (0, 0);
    while heard < ids.len() as u64 * FRAMES {
        match host.recv_any_deadline(Instant::now() + old::LIMIT).unwrap() {
            (id, Heard::Joined) => joined += usize::from(ids.contains(&id)),
            (id, Heard::Message(message)) => {
                let frames = &mut expected.iter_mut().find(|(expected, _)| *expected == id).unwrap().1;
                frames.next().unwrap().assert_is(message.descriptor(), message.payload());
                heard += 1;
            }
            // Ours have sent everything and left.
            (id, Heard::Ended(_)) => {
                assert!(expected.iter_mut().any(|(expected, rest)| *expected == id && rest.next().is_none()))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(joined, ids.len(), "everybody has come, the old ones too");
}

#[test]
fn every_frame_passes_intact_between_our_host_and_old_and_new_plugins_at_once() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let options = HubOptions::new().doorbells(true).sparse(true);
    let mut host = options.create_at(&path, HubConfig { max_peers: 5, ..HubConfig::default() }).unwrap();
    let old = || "exchange::plugin_of_the_published_crate";
    let mut plugins = vec![
        old_plugin(&mut host, Waits::Together, old(), &path),
        Second::plugin(&mut host, Waits::Together, "exchange::plugin_of_ours", ""),
        old_plugin(&mut host, Waits::Together, old(), &path),
    ];
    let (apart, second) = old_plugin(&mut host, Waits::Alone, old(), &path);
    let ids: Vec<PeerId> = plugins.iter().map(|(id, _)| *id).collect();
    std::thread::scope(|scope| {
        let (tx, mut rx) = host.take(apart).unwrap().into_split();
        let senders = ids.iter().map(|id| (host.take_sender(*id).unwrap(), id.0)).chain([(tx, apart.0)]);
        let senders: Vec<_> = senders.map(|(tx, id)| scope.spawn(move || host_sends(tx, id))).collect();
        let alone = scope.spawn(move || {
            for frame in frames(from(apart.0)) {
                let message = rx.recv_deadline(Instant::now() + old::LIMIT).unwrap();
                frame.assert_is(message.descriptor(), message.payload());
            }
            rx
        });
        host_receives(&mut host, &ids);
        let halves = (senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<_>>(), alone.join());
        plugins.push((apart, second));
        plugins.into_iter().for_each(|(_, second)| second.assert_ends_well());
        drop(halves);
    });
    assert_hub_is_empty(&host);
}

#[test]
fn every_frame_passes_intact_between_an_old_host_and_old_and_new_plugins_at_once() {
    let folder = Folder::new();
    let path = folder.join("hub");
    old::run(async {
        let config = published::HubConfig { max_peers: 3, ring_capacity: 256 };
        let host = Arc::new(published::HubHost::create(&path, config).unwrap());
        // Ours is peer 0 as well, which is the host's number of owner there.
        let parts = ["plugin_of_ours_at_an_old_host", "plugin_of_the_published_crate", "plugin_of_ours_at_an_old_host"];
        let plugins = parts.map(|part| at_old_host(&host, &format!("exchange::{part}"), &path));
        let [first, second, third] = plugins.map(|(id, doorbell, process)| {
            let transport = published::HubHostPeerTransport::new(host.clone(), id, doorbell);
            (async move { exchange(&transport, to(id), from(id)).await }, process)
        });
        tokio::join!(first.0, second.0, third.0);
        [first.1, second.1, third.1].into_iter().for_each(Second::assert_ends_well);
        let slots = host.allocator().slot_status();
        assert_eq!(slots.free, slots.total, "{slots}");
    });
}
