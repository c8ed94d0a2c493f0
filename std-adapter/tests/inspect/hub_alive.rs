//! Hubs of several processes that run while they are looked at.
//!
//! Seen to fail when: the process of a plugin is looked for in the ring that it reads.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use rapace_shm::inspect::{HubReport, ProcessState};
use rapace_shm::{Heard, HubConfig, HubHost, HubPeer, MsgDescHot, PeerId, Waits};

use crate::hub_segment::CONFIG;
use crate::segment::Another;

/// A plugin's path and number, or nothing if it inherits them.
const CHILD: &str = "RAPACE_SHM_INSPECT_PLUGIN";

/// For a process that sends everything back.
fn plugin_at(place: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hub_alive::plugin", "--nocapture"]).env(CHILD, place);
    command
}

/// What the process runs; does nothing when it is run as a test.
#[test]
fn plugin() {
    let Ok(place) = std::env::var(CHILD) else { return };
    let peer = match place.split_once(' ') {
        Some((id, path)) => HubPeer::open_at(path, PeerId(id.parse().unwrap())).unwrap(),
        None => HubPeer::inherited().unwrap(),
    };
    let (mut tx, mut rx) = peer.into_split();
    for message in rx.iter() {
        let message = message.unwrap();
        tx.send(message.descriptor(), message.payload()).unwrap();
    }
}

fn next_message(host: &mut HubHost) -> (PeerId, u64, usize) {
    loop {
        match host.recv_any_timeout(Duration::from_secs(20)).unwrap() {
            (_, Heard::Joined) => {}
            (id, Heard::Message(message)) => return (id, message.descriptor().msg_id, message.len()),
            (id, other) => panic!("{id:?}: {other:?}"),
        }
    }
}

#[test]
fn a_hub_of_four_processes_is_watched_without_being_disturbed() {
    const LOOKS: usize = 200;
    let mut host = HubHost::create(HubConfig::default()).unwrap();
    let file = File::open(format!("/proc/self/fd/{}", host.memfd().unwrap().as_raw_fd())).unwrap();
    let (ids, plugins): (Vec<_>, Vec<_>) = (0..3)
        .map(|_| {
            let (id, child) = host.spawn(&mut plugin_at(""), Waits::Together).unwrap();
            (id, Another(child))
        })
        .unzip();
    let watcher = std::thread::spawn(move || {
        let look = |_| {
            // The processes need the processors more.
            std::thread::sleep(Duration::from_micros(500));
            HubReport::read(&file).unwrap()
        };
        (0..LOOKS).map(look).collect::<Vec<_>>()
    });
    let mut round = 0_u64;
    while !watcher.is_finished() {
        let len = |id: &PeerId| usize::try_from((round * 7 + u64::from(id.0)) % 3000).unwrap();
        for id in &ids {
            host.send_to(*id, &MsgDescHot::data(round), &vec![1; len(id)]).unwrap();
        }
        for _ in &ids {
            let (id, number, seen) = next_message(&mut host);
            assert_eq!((number, seen), (round, len(&id)));
        }
        round += 1;
    }
    let mut seen = HashSet::new();
    for report in watcher.join().unwrap() {
        assert!(report.findings.is_empty(), "{report}");
        seen.insert(report.parts.unwrap().members[2].to_host.status.tail);
    }
    assert!(seen.len() > 10, "looked at {} different moments", seen.len());
    for (id, mut plugin) in ids.into_iter().zip(plugins) {
        host.dismiss(id).unwrap();
        assert!(plugin.0.wait().unwrap().success());
    }
}

#[test]
fn a_hub_at_a_path_says_which_of_its_processes_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub");
    let mut host = HubHost::create_at(&path, CONFIG).unwrap();
    let id = host.add_peer(Waits::Together).unwrap();
    let child = Another(plugin_at(&format!("{} {}", id.0, path.display())).spawn().unwrap());
    host.send_to(id, &MsgDescHot::data(5), &[1; 100]).unwrap();
    assert_eq!(next_message(&mut host), (id, 5, 100));
    let read = || HubReport::read(&File::open(&path).unwrap()).unwrap();
    let report = read();
    assert!(report.findings.is_empty(), "{report}");
    let (this, that) = (std::process::id(), child.0.id());
    for fact in
        [format!("\nhost process            {this}, running\n"), format!("\nplugin 1 process        {that}, running\n")]
    {
        assert!(report.to_string().contains(&fact), "no {fact:?} in {report}");
    }
    drop(child);
    let report = read();
    assert!(report.findings.is_empty(), "{report}");
    let members = report.parts.unwrap().members;
    let processes: Vec<_> = members.iter().map(|member| (member.pid, member.process)).collect();
    let nobody = (0, ProcessState::NotSaid);
    let expected = [(this, ProcessState::Running), (that, ProcessState::Gone), nobody, nobody, nobody];
    assert_eq!(processes, expected);
}
