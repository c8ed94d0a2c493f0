//! Plugins come, die and come again, and nothing is left behind or lost.
//!
//! Campaigns of goals: `RAPACE_SHM_RECONNECTS=10000` and `RAPACE_SHM_KILLS=10000` with
//! `cargo test --release -p rapace-shm --test hub turnover`.
//!
//! Seen to fail on these mutants: a plugin that is gone and not reaped; a life socket that is never closed.

use std::collections::BTreeMap;
use std::time::Duration;

use rapace_shm::{Error, Heard, HubHost, HubPeer, MsgDescHot, PeerId, Waits};

use super::common::{Folder, Second, eventually, mappings, open_descriptors, part, times};
use super::{CONFIG, assert_as_at_first, bytes, next_end, next_message};

/// Joins, says something from a slot, takes another, and waits to be killed.
#[test]
fn short_lived_plugin() {
    let Some(path) = part("turnover::short_lived_plugin") else { return };
    let mut plugin = HubPeer::join(path).unwrap();
    let (tx, rx) = plugin.split();
    tx.send(&MsgDescHot::data(1), &[7; 100]).unwrap();
    let _held = tx.loan(100).unwrap();
    assert!(rx.recv().is_err());
}

/// What must be the same before and after.
fn census() -> (usize, usize) {
    (open_descriptors(), mappings())
}

#[test]
fn plugins_that_join_are_killed_and_join_again_leave_nothing_behind() {
    // In a process of its own: it counts what the whole process has open.
    let this = "turnover::plugins_that_join_are_killed_and_join_again_leave_nothing_behind";
    if part(this).is_none() {
        return Second::start(this, "").assert_ends_well();
    }
    let folder = Folder::new();
    let path = folder.join("socket");
    let mut host = HubHost::create(CONFIG).unwrap();
    host.bind(&path, Waits::Together).unwrap();
    let mut before = None;
    for cycle in 0..times("RAPACE_SHM_RECONNECTS", 60) {
        let mut child = Second::start("turnover::short_lived_plugin", &path);
        let (id, 1, _) = next_message(&mut host) else { panic!("another message") };
        child.kill();
        let (ended, end) = next_end(&mut host);
        assert!(ended == id && matches!(end, Error::PeerDied), "{end}");
        assert_as_at_first(&mut host);
        if cycle == 3 {
            before = Some(census());
        }
    }
    eventually("descriptors and mappings are as few as before", || {
        let (now, before) = (census(), before.unwrap());
        now.0 <= before.0 && now.1 <= before.1
    });
}

/// Answers every message with the same bytes, holding a loan and the message before last all the while.
#[test]
fn working_plugin() {
    if part("turnover::working_plugin").is_none() {
        return;
    }
    let mut plugin = HubPeer::inherited().unwrap();
    let (tx, rx) = plugin.split();
    let mut held = None;
    for message in rx.iter() {
        let message = message.unwrap();
        let loan = tx.try_loan(60).ok();
        tx.send(message.descriptor(), message.payload()).unwrap();
        held.replace((message, loan));
    }
}

/// A source of numbers that is the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Per plugin: its process, the next number to be sent, and the next one to come back.
type Plugins = BTreeMap<PeerId, (Second, u64, u64)>;

/// Hears of one thing that is as it should be; false if there was nothing.
fn hear(host: &mut HubHost, plugins: &mut Plugins, timeout: Duration) -> bool {
    let Ok((id, heard)) = host.recv_any_timeout(timeout) else { return false };
    match heard {
        Heard::Joined => {}
        Heard::Message(message) => {
            let (_, _, expected) = plugins.get_mut(&id).unwrap();
            assert_eq!(message.descriptor().msg_id, *expected, "{id:?}: lost, doubled or out of order");
            assert_eq!(message.payload(), bytes(message.len(), *expected));
            *expected += 1;
        }
        Heard::Ended(Error::PeerDied) => drop(plugins.remove(&id).unwrap()),
        other => panic!("{id:?}: {other:?}"),
    }
    true
}

/// T3: four plugins work, one after the other is killed at a moment that nobody chose, and comes again.
#[test]
fn of_four_plugins_that_are_killed_at_random_nothing_is_lost_and_the_others_go_on() {
    let mut host = HubHost::create(CONFIG).unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()));
    let start = |host: &mut HubHost| Second::plugin(host, Waits::Together, "turnover::working_plugin", "");
    let mut plugins = Plugins::new();
    let mut killed = 0;
    while killed < times("RAPACE_SHM_KILLS", 25) {
        while plugins.len() < 4 {
            let (id, child) = start(&mut host);
            plugins.insert(id, (child, 0, 0));
        }
        for (id, (_, next, _)) in &mut plugins {
            let len = [10, 60, 100, 1000][numbers.below(4)];
            match host.try_send_to(*id, &MsgDescHot::data(*next), &bytes(len, *next)) {
                Ok(()) => *next += 1,
                Err(Error::Full | Error::PeerDied) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if numbers.below(40) == 0 {
            let victim = *plugins.keys().nth(numbers.below(4)).unwrap();
            plugins.get_mut(&victim).unwrap().0.strike();
            killed += 1;
        }
        while hear(&mut host, &mut plugins, Duration::from_micros(50)) {}
    }
    while plugins.values().any(|(_, next, expected)| expected < next) {
        assert!(hear(&mut host, &mut plugins, Duration::from_secs(10)), "who is alive answers everything");
    }
    drop(plugins);
    let last = loop {
        if let Err(error) = host.recv_any_timeout(Duration::from_secs(10)) {
            break error;
        }
    };
    assert!(matches!(last, Error::NoPlugins), "{last}: every end is heard");
    assert_as_at_first(&mut host);
}
