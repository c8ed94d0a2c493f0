//! Nobody is woken for nothing, and nobody is kept waiting by somebody who takes more than its share.
//!
//! Seen to fail on these mutants: a host that looks around every 50 ms; one that rings for each message; a quota that is not
//! set.

use std::thread;
use std::time::Duration;

use rapace_shm::{
    Error, Heard, HubConfig, HubHost, HubOptions, HubPeer, MsgDescHot, PeerId, SizeClass, Spin, SystemCalls, Waits,
};

use super::common::{Folder, Second, eventually, part};
use super::{CONFIG, assert_as_at_first, opener};

/// How often a process went to sleep, in all its threads.
fn sleeps(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |path: std::path::PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    threads.map(|entry| of(entry.unwrap().path())).sum()
}

/// With doorbells, and at a path with futexes; the host as well as the plugins.
#[test]
fn who_has_nothing_to_do_is_not_woken() {
    for doorbells in [true, false] {
        let folder = Folder::new();
        let mut host = match doorbells {
            true => HubHost::create(CONFIG).unwrap(),
            false => HubHost::create_at(folder.join("hub"), CONFIG).unwrap(),
        };
        let children: Vec<_> = (0..4)
            .map(|_| match doorbells {
                true => Second::plugin(&mut host, Waits::Together, "spawned_plugin", "").1,
                false => {
                    let id = host.add_peer(Waits::Together).unwrap();
                    opener(&folder, id)
                }
            })
            .collect();
        for _ in 0..4 {
            assert!(matches!(host.recv_any(), Ok((_, Heard::Joined))));
        }
        // The rest of every start.
        assert!(matches!(host.recv_any_timeout(Duration::from_millis(300)), Err(Error::Timeout)));
        let before: Vec<_> = children.iter().map(|child| sleeps(child.id())).collect();
        let calls = host.system_calls();
        assert!(matches!(host.recv_any_timeout(Duration::from_millis(700)), Err(Error::Timeout)));
        let after: Vec<_> = children.iter().map(|child| sleeps(child.id())).collect();
        assert_eq!(after, before, "a plugin was woken");
        let asked = host.system_calls();
        let slept = (asked.waits + asked.polls) - (calls.waits + calls.polls);
        assert!(slept <= 2 && asked.wakes == calls.wakes && asked.rings == calls.rings, "{calls:?} {asked:?}");
        drop(children);
    }
}

/// Looks for much longer than a scheduler's time slice.
const PATIENT: Spin = Spin::tries(50_000_000);

/// The goal: per million messages of steady traffic.
const PER_MILLION: u64 = 100;

#[test]
fn a_million_messages_ask_the_kernel_for_next_to_nothing() {
    const BURSTS: u64 = 600;
    const BURST: u64 = 200;
    const PLUGINS: u64 = 1;
    let mut config = HubConfig { max_peers: 2, ring_capacity: 256, ..CONFIG };
    config.classes[1] = SizeClass { slot_size: 128, slot_count: 1024 };
    let options = HubOptions::new().spin(PATIENT);
    let mut host = options.create(config).unwrap();
    let threads: Vec<_> = (0..PLUGINS)
        .map(|_| {
            let mut plugin = host.add_local(Waits::Together).unwrap();
            thread::spawn(move || {
                let (tx, rx) = plugin.split();
                for number in 0..BURSTS * BURST {
                    let message = rx.recv().unwrap();
                    assert_eq!(message.descriptor().msg_id, number);
                    tx.send(message.descriptor(), message.payload()).unwrap();
                }
                let calls = plugin.system_calls();
                assert!(rx_closed(plugin));
                calls
            })
        })
        .collect();
    for _ in 0..PLUGINS {
        assert!(matches!(host.recv_any(), Ok((_, Heard::Joined))));
    }
    let before = host.system_calls();
    for burst in 0..BURSTS {
        for number in burst * BURST..(burst + 1) * BURST {
            for id in 1..=PLUGINS {
                host.send_to(PeerId(u16::try_from(id).unwrap()), &MsgDescHot::data(number), &[7; 100]).unwrap();
            }
        }
        for _ in 0..BURST * PLUGINS {
            assert!(matches!(host.recv_any(), Ok((_, Heard::Message(_)))));
        }
    }
    // Without the looks for deaths: one for each 32 768 tries of somebody who waits, whatever is sent.
    let of = |calls: SystemCalls| calls.waits + calls.wakes + calls.rings + calls.barriers;
    let mut asked = of(host.system_calls()) - of(before);
    for id in 1..=PLUGINS {
        host.dismiss(PeerId(u16::try_from(id).unwrap())).unwrap();
    }
    asked += threads.into_iter().map(|thread| of(thread.join().unwrap())).sum::<u64>();
    // Both ways.
    let millions = 2 * PLUGINS * BURSTS * BURST / 1_000_000;
    println!("{asked} system calls for {millions} million messages");
    assert!(asked <= PER_MILLION * millions.max(1), "{asked} system calls");
}

/// Waits for the end.
fn rx_closed(mut plugin: HubPeer) -> bool {
    matches!(plugin.split().1.recv(), Err(Error::Closed))
}

/// Takes all the slots that it can get, says how many, and waits for the end.
#[test]
fn greedy_plugin() {
    if part("quiet::greedy_plugin").is_none() {
        return;
    }
    let mut plugin = HubPeer::inherited().unwrap();
    let (tx, rx) = plugin.split();
    let mut hoard = Vec::new();
    for class in CONFIG.classes {
        while let Ok(loan) = tx.try_loan(class.slot_size as usize) {
            hoard.push(loan);
        }
    }
    tx.send(&MsgDescHot::data(hoard.len() as u64), b"").unwrap();
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

/// T11.
#[test]
fn a_greedy_plugin_leaves_every_other_a_slot_of_every_class() {
    let mut host = HubHost::create(CONFIG).unwrap();
    // The host and two plugins.
    host.share_among(3);
    let (greedy, child) = Second::plugin(&mut host, Waits::Together, "quiet::greedy_plugin", "");
    let taken = loop {
        if let (_, Heard::Message(message)) = host.recv_any().unwrap() {
            break message.descriptor().msg_id;
        }
    };
    assert_eq!(taken, 5, "one of four in each class");
    let mut others: Vec<_> = (0..2).map(|_| host.add_local(Waits::Together).unwrap()).collect();
    let loans: Vec<_> = others
        .iter_mut()
        .flat_map(|plugin| CONFIG.classes.map(|class| plugin.split().0.try_loan(class.slot_size as usize).unwrap()))
        .collect();
    let own: Vec<_> = CONFIG.classes.map(|class| host.loan_for(greedy, class.slot_size as usize).unwrap()).into();
    assert_eq!(host.slot_status().free(), 0, "each has its share");
    drop((loans, own, others));
    host.dismiss(greedy).unwrap();
    child.assert_ends_well();
    for _ in 0..2 {
        eventually("both have ended", || !matches!(host.recv_any(), Ok((_, Heard::Joined))));
    }
    assert_as_at_first(&mut host);
}

/// T12: all are busy all the time, so each is heard once in a round.
#[test]
fn of_many_busy_plugins_each_is_heard_once_in_a_round() {
    const PLUGINS: usize = 31;
    let config = HubConfig { max_peers: 32, ring_capacity: 64, ..CONFIG };
    let mut host = HubHost::create(config).unwrap();
    let mut plugins: Vec<_> = (0..PLUGINS).map(|_| host.add_local(Waits::Together).unwrap()).collect();
    for plugin in &mut plugins {
        for number in 0..64 {
            plugin.split().0.send(&MsgDescHot::data(number), b"busy").unwrap();
        }
    }
    let mut last_heard = [0_usize; PLUGINS + 1];
    let (mut longest, mut now) = (0, 0);
    while now < PLUGINS * 50 {
        let (id, heard) = host.recv_any().unwrap();
        let Heard::Message(_) = heard else { continue };
        now += 1;
        let last = &mut last_heard[usize::from(id.0)];
        longest = longest.max(now - *last);
        *last = now;
        // It has more to say at once.
        plugins[usize::from(id.0) - 1].split().0.send(&MsgDescHot::data(0), b"busy").unwrap();
    }
    assert!(longest <= 2 * PLUGINS, "one was not heard for {longest} messages, which is more than two rounds");
}
