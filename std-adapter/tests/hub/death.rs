//! What becomes of those that die, and of those that seem to.
//!
//! Seen to fail on these mutants: a step that does not see to what has stirred (a host that does not spin then hears of no
//! death); a wait for a slot that cleans up after nobody (hangs), or that drops what it received from the dead one; a set of
//! life sockets that is never looked at (hangs); an alarm that is never set.

use std::thread;
use std::time::{Duration, Instant};

use rapace_shm::{
    Error, HandshakeError, Heard, HubHost, HubOptions, HubPeer, MsgDescHot, PeerId, PeerState, Spin, Waits,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, recv,
    send, socket_with,
};
use rustix::process::Signal;

use super::common::{Folder, Second, eventually, part, times};
use super::{CONFIG, assert_as_at_first, exchange, next_end, next_message, opener, soon};

/// How often deaths are timed; the campaign of goals is 200.
fn deaths() -> u32 {
    times("RAPACE_SHM_KILLS", 5)
}

/// Prints what a campaign measured, and fails where it took longer than a scheduler can explain.
fn judge(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: median {:?}, p99 {:?} of {}", at(50), at(99), times.len());
    assert!(at(50) < Duration::from_millis(500), "{what}: median {:?}", at(50));
}

/// Kills a plugin; how long it takes until its host hears of it.
fn heard_after(host: &mut HubHost, id: PeerId, child: &mut Second) -> Duration {
    child.strike();
    let killed = Instant::now();
    let (ended, end) = next_end(host);
    assert!(ended == id && matches!(end, Error::PeerDied), "{end}");
    killed.elapsed()
}

#[test]
fn a_plugins_death_is_heard_at_once_asleep_or_spinning() {
    for (how, spin) in [("asleep", Spin::none()), ("spinning", Spin::tries(u32::MAX))] {
        let mut host = HubOptions::new().spin(spin).create(CONFIG).unwrap();
        let heard = (0..deaths()).map(|_| {
            let (id, mut child) = Second::plugin(&mut host, Waits::Together, "spawned_plugin", "");
            exchange(&mut host, &[id]);
            heard_after(&mut host, id, &mut child)
        });
        judge(&format!("plugin's death, host {how}"), heard.collect());
        assert_as_at_first(&mut host);
    }
}

#[test]
fn a_plugins_death_is_heard_in_a_hub_of_futexes() {
    let folder = Folder::new();
    let mut host = HubHost::create_at(folder.join("hub"), CONFIG).unwrap();
    let heard = (0..deaths()).map(|_| {
        let id = host.add_peer(Waits::Together).unwrap();
        let mut child = opener(&folder, id);
        exchange(&mut host, &[id]);
        heard_after(&mut host, id, &mut child)
    });
    judge("plugin's death, futexes", heard.collect());
    assert_as_at_first(&mut host);
}

/// A host that takes in two by its socket or by its path, and serves until it is killed.
#[test]
fn hosting() {
    let Some(argument) = part("death::hosting") else { return };
    let (how, path) = argument.split_once(' ').unwrap();
    let mut host = if how == "socket" {
        let mut host = HubHost::create(CONFIG).unwrap();
        host.bind(path, Waits::Together).unwrap();
        host
    } else {
        let mut host = HubHost::create_at(path, CONFIG).unwrap();
        assert_eq!((1..=2).map(|_| host.add_peer(Waits::Together).unwrap().0).sum::<u16>(), 3);
        host
    };
    loop {
        if let Ok((id, Heard::Message(message))) = host.recv_any() {
            host.send_to(id, message.descriptor(), message.payload()).unwrap();
        }
    }
}

/// Joins as soon as the host is there.
fn come(how: &str, path: &std::path::Path, number: u16, spin: Spin) -> HubPeer {
    let options = HubOptions::new().spin(spin);
    let mut plugin = None;
    eventually("the host is there", || {
        plugin = match how {
            "socket" => options.join(path).ok(),
            _ => options.open_at(path, PeerId(number)).ok(),
        };
        plugin.is_some()
    });
    plugin.unwrap()
}

#[test]
fn a_hosts_death_is_heard_by_every_plugin_at_once_asleep_or_spinning() {
    let folder = Folder::new();
    for how in ["socket", "path"] {
        let mut heard = Vec::new();
        for _ in 0..deaths() {
            let path = folder.join(how);
            let mut host = Second::start("death::hosting", format!("{how} {}", path.display()));
            let spins = [Spin::none(), Spin::tries(u32::MAX)];
            let plugins: Vec<_> = (1..).zip(spins).map(|(number, spin)| come(how, &path, number, spin)).collect();
            let threads: Vec<_> = plugins
                .into_iter()
                .map(|mut plugin| {
                    let (tx, rx) = plugin.split();
                    tx.send(&MsgDescHot::data(1), &[1; 100]).unwrap();
                    assert_eq!(rx.recv_deadline(soon()).unwrap().len(), 100);
                    thread::spawn(move || {
                        let (tx, rx) = plugin.split();
                        assert!(matches!(rx.recv(), Err(Error::PeerDied)));
                        let heard = Instant::now();
                        assert!(matches!(tx.send(&MsgDescHot::data(2), b""), Err(Error::PeerDied)));
                        heard
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(10));
            host.strike();
            let killed = Instant::now();
            heard.extend(threads.into_iter().map(|thread| thread.join().unwrap().duration_since(killed)));
        }
        judge(&format!("host's death, met by {how}"), heard);
    }
}

/// Says three things, one of them inline, takes every slot there is, and waits to be killed.
#[test]
fn hoarding_plugin() {
    if part("death::hoarding_plugin").is_none() {
        return;
    }
    let mut plugin = HubPeer::inherited().unwrap();
    let (tx, rx) = plugin.split();
    for (number, len) in [(1, 100), (2, 1000), (3, 3)] {
        tx.send(&MsgDescHot::data(number), &vec![7; len]).unwrap();
    }
    let mut hoard = Vec::new();
    for len in [64, 128, 256, 1024, 65_536] {
        while let Ok(loan) = tx.try_loan(len) {
            hoard.push(loan);
        }
    }
    tx.send(&MsgDescHot::data(4), b"all mine").unwrap();
    assert!(rx.recv().is_err());
}

/// With doorbells and with futexes; with the last of it taken by a send, and by a loan.
#[test]
fn a_host_that_waits_for_a_slot_gets_those_of_a_plugin_that_dies_meanwhile() {
    for spin in [Spin::none(), Spin::tries(u32::MAX)] {
        let mut host = HubOptions::new().spin(spin).create(CONFIG).unwrap();
        let mut other = host.add_local(Waits::Together).unwrap();
        let (hoarder, mut child) = Second::plugin(&mut host, Waits::Together, "death::hoarding_plugin", "");
        eventually("every slot is taken", || host.slot_status().free() == 0);
        assert!(matches!(host.try_send_to(other.id(), &MsgDescHot::data(1), &[1; 60]), Err(Error::Full)));
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            child.kill();
        });
        host.send_to(other.id(), &MsgDescHot::data(5), &[5; 60]).unwrap();
        killer.join().unwrap();
        assert_eq!(other.split().1.recv_deadline(soon()).unwrap().payload(), [5; 60]);
        for (number, len) in [(1, 100), (2, 1000), (3, 3), (4, 8)] {
            let (from, seen, payload) = next_message(&mut host);
            assert_eq!(
                (from, seen, payload.len()),
                (hoarder, number, len),
                "what it had sent is still heard, in order"
            );
        }
        let (ended, end) = next_end(&mut host);
        assert!(ended == hoarder && matches!(end, Error::PeerDied), "{end}");
        let more = host.try_recv_any().map(|(id, heard)| format!("{id:?}: {heard:?}"));
        assert!(matches!(more, Err(Error::Empty)), "its end is heard of once, and then {more:?}");
        assert!(host.reclaimed(hoarder).unwrap().unwrap().owned > 0);
        drop(other);
        assert!(matches!(next_end(&mut host), (_, Error::Closed)));
        assert_as_at_first(&mut host);
    }
}

#[test]
fn a_host_that_waits_for_room_towards_a_plugin_that_dies_is_told() {
    let mut host = HubHost::create(CONFIG).unwrap();
    let (id, mut child) = Second::plugin(&mut host, Waits::Together, "death::hoarding_plugin", "");
    eventually("every slot is taken", || host.slot_status().free() == 0);
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        child.kill();
    });
    let refused = host.loan_for(id, 60).unwrap_err();
    assert!(matches!(refused, Error::PeerDied), "{refused}");
    killer.join().unwrap();
    for number in 1..=4 {
        assert_eq!(next_message(&mut host).1, number);
    }
    assert!(matches!(next_end(&mut host), (_, Error::PeerDied)));
    assert_as_at_first(&mut host);
}

#[test]
fn who_is_stopped_is_not_dead() {
    let mut host = HubHost::create(CONFIG).unwrap();
    let (id, child) = Second::plugin(&mut host, Waits::Together, "spawned_plugin", "");
    exchange(&mut host, &[id]);
    child.signal(Signal::STOP);
    eventually("the plugin is stopped", || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    });
    host.send_to(id, &MsgDescHot::data(9), &[9; 100]).unwrap();
    let stopped_for = Duration::from_secs(u64::from(times("RAPACE_SHM_PATIENCE", 1)));
    assert!(matches!(host.recv_any_timeout(stopped_for), Err(Error::Timeout)));
    assert_eq!(host.peer_state(id), Some(PeerState::Attached));
    child.signal(Signal::CONT);
    assert_eq!(next_message(&mut host).1, 9);
    host.dismiss(id).unwrap();
    child.assert_ends_well();
    assert_as_at_first(&mut host);
}

#[test]
fn payloads_outlive_the_plugin_that_sent_them() {
    for killed in [false, true] {
        let mut host = HubHost::create(CONFIG).unwrap();
        let (id, mut child) = Second::plugin(&mut host, Waits::Together, "spawned_plugin", "");
        host.send_to(id, &MsgDescHot::data(1), &[3; 1000]).unwrap();
        let message = loop {
            match host.recv_any_deadline(soon()).unwrap() {
                (_, Heard::Message(message)) => break message,
                (_, heard) => assert!(matches!(heard, Heard::Joined)),
            }
        };
        if killed {
            child.kill();
            assert!(matches!(next_end(&mut host), (_, Error::PeerDied)));
        } else {
            host.dismiss(id).unwrap();
            child.assert_ends_well();
        }
        eventually("its number is free", || {
            host.tidy();
            host.peer_count() == 0
        });
        assert_eq!(host.slot_status().free(), host.slot_status().total() - 1, "the payload's slot is not");
        assert_eq!(message.payload(), [3; 1000]);
        drop(message);
        assert_as_at_first(&mut host);
    }
}

/// What a plugin says first on its socket, overheard by a host that is none.
fn overheard_hello(folder: &Folder) -> Vec<u8> {
    let address = SocketAddrUnix::new(folder.join("trap")).unwrap();
    let trap = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    bind(&trap, &address).unwrap();
    listen(&trap, 1).unwrap();
    let path = folder.join("trap");
    let plugin = thread::spawn(move || HubPeer::join(path).map(drop).unwrap_err());
    let caught = accept(&trap).unwrap();
    let mut hello = vec![0; 256];
    let (len, _) = recv(&caught, &mut hello, RecvFlags::empty()).unwrap();
    hello.truncate(len);
    drop((caught, trap));
    plugin.join().unwrap();
    hello
}

/// While the host is asleep in one call, and hears of nothing else.
#[test]
fn who_comes_and_does_not_go_on_is_sent_away_in_time() {
    let folder = Folder::new();
    let hello = overheard_hello(&folder);
    for says_hello in [false, true] {
        let options = HubOptions::new().spin(Spin::none()).handshake_timeout(Duration::from_millis(100));
        let mut host = options.create(CONFIG).unwrap();
        host.bind(folder.join("socket"), Waits::Together).unwrap();
        let ghost = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&ghost, &SocketAddrUnix::new(folder.join("socket")).unwrap()).unwrap();
        if says_hello {
            send(&ghost, &hello, SendFlags::empty()).unwrap();
        }
        let told = thread::spawn(move || {
            let begun = Instant::now();
            let mut word = [0; 256];
            // Maybe a welcome, maybe a refusal; then the end.
            while recv(&ghost, &mut word, RecvFlags::empty()).is_ok_and(|(len, _)| len > 0) {}
            begun.elapsed()
        });
        let heard = host.recv_any_timeout(Duration::from_secs(2)).map(drop).unwrap_err();
        let in_time = if says_hello {
            matches!(heard, Error::Timeout)
        } else {
            matches!(heard, Error::Handshake(HandshakeError::Timeout))
        };
        assert!(in_time, "{heard}");
        let waited = told.join().unwrap();
        assert!(waited < Duration::from_millis(1500), "sent away after {waited:?}");
        assert_eq!(host.peer_count(), 0);
    }
}
