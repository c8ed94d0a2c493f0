//! What a hub promises its users, with real processes: how plugins come in ([`coming`]), what becomes of those that die
//! ([`death`]), that thousands may come and go ([`turnover`]), that nobody is kept waiting or woken for nothing
//! ([`quiet`]), and that one that grows disturbs nobody ([`growth`]).

#[path = "../common/mod.rs"]
mod common;

mod coming;
mod death;
mod growth;
mod quiet;
mod turnover;

use std::time::{Duration, Instant};

use common::{Folder, Second, assert_hub_is_empty, eventually, part};
use rapace_shm::{Error, Heard, HubConfig, HubHost, HubPeer, MsgDescHot, PeerId, SizeClass};

/// Four places for plugins, four slots of each of 64, 128, 256, 1024 and 65536 bytes.
const CONFIG: HubConfig = HubConfig {
    max_peers: 5,
    ring_capacity: 4,
    classes: [
        SizeClass { slot_size: 64, slot_count: 4 },
        SizeClass { slot_size: 128, slot_count: 4 },
        SizeClass { slot_size: 256, slot_count: 4 },
        SizeClass { slot_size: 1024, slot_count: 4 },
        SizeClass { slot_size: 65_536, slot_count: 4 },
    ],
    max_extents: 1,
};

/// In the descriptor, of every class, and the largest.
const LENGTHS: [usize; 9] = [0, 16, 17, 64, 65, 200, 1000, 1025, 65_536];

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn bytes(len: usize, salt: u64) -> Vec<u8> {
    (0..len).map(|place| (place as u64 * 7 + salt).to_le_bytes()[0]).collect()
}

/// Answers every message with the same bytes, until the host closes.
fn echo(mut plugin: HubPeer) {
    let (tx, rx) = plugin.split();
    for message in rx.iter() {
        let message = message.unwrap();
        tx.send(message.descriptor(), message.payload()).unwrap();
    }
}

/// The next message, whatever joins before it.
#[track_caller]
fn next_message(host: &mut HubHost) -> (PeerId, u64, Vec<u8>) {
    loop {
        match host.recv_any_deadline(soon()).unwrap() {
            (_, Heard::Joined) => {}
            (id, Heard::Message(message)) => return (id, message.descriptor().msg_id, message.payload().to_vec()),
            (id, other) => panic!("{id:?}: {other:?}"),
        }
    }
}

/// The next end, whatever joins before it.
#[track_caller]
fn next_end(host: &mut HubHost) -> (PeerId, Error) {
    loop {
        match host.recv_any_deadline(soon()).unwrap() {
            (_, Heard::Joined) => {}
            (id, Heard::Ended(end)) => return (id, end),
            (id, other) => panic!("{id:?}: {other:?}"),
        }
    }
}

/// Every length to each of these plugins, and back.
#[track_caller]
fn exchange(host: &mut HubHost, plugins: &[PeerId]) {
    for (number, len) in (0..).zip(LENGTHS) {
        for id in plugins {
            host.send_to(*id, &MsgDescHot::data(number), &bytes(len, id.0.into())).unwrap();
        }
        let mut from: Vec<u16> = plugins
            .iter()
            .map(|_| {
                let (id, answered, payload) = next_message(host);
                assert_eq!((answered, payload), (number, bytes(len, id.0.into())));
                id.0
            })
            .collect();
        from.sort_unstable();
        assert_eq!(from, plugins.iter().map(|id| id.0).collect::<Vec<_>>());
    }
}

/// All are gone, every slot is free, and every number can be given out.
#[track_caller]
fn assert_as_at_first(host: &mut HubHost) {
    eventually("every plugin's number is free again", || {
        host.tidy();
        host.peer_count() == 0
    });
    assert_hub_is_empty(host);
}

#[test]
fn spawned_plugin() {
    if part("spawned_plugin").is_some() {
        echo(HubPeer::inherited().unwrap());
    }
}

#[test]
fn joining_plugin() {
    let Some(path) = part("joining_plugin") else { return };
    let mut plugin = HubPeer::join(path).unwrap();
    let id = plugin.id();
    plugin.split().0.send(&MsgDescHot::data(7), &id.0.to_le_bytes()).unwrap();
    echo(plugin);
}

#[test]
fn opening_plugin() {
    let Some(argument) = part("opening_plugin") else { return };
    let (id, path) = argument.split_once(' ').unwrap();
    echo(HubPeer::open_at(path, PeerId(id.parse().unwrap())).unwrap());
}

fn opener(folder: &Folder, id: PeerId) -> Second {
    Second::start("opening_plugin", format!("{} {}", id.0, folder.join("hub").display()))
}
