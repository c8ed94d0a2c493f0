//! Sessions that run while they are looked at. What a torn read does is tested where it can be held still, in the module
//! itself.
//!
//! Seen to fail when: the two sleepers of a ring are exchanged; messages in the rings are not counted.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rapace_shm::core::wake;
use rapace_shm::inspect::{ProcessState, SegmentReport};
use rapace_shm::{MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};

use crate::segment::{Another, file_of, report};

const CHILD: &str = "RAPACE_SHM_INSPECT_CHILD";

/// A process that sends everything back.
fn start_echo(session: &ShmSession) -> Another {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "alive::echo", "--nocapture"]).env(CHILD, "1");
    Another(session.spawn(&mut command).unwrap())
}

/// What the process runs; does nothing when it is run as a test.
#[test]
fn echo() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let (mut tx, mut rx) = ShmSession::inherited().unwrap().into_split();
    for message in rx.iter() {
        let message = message.unwrap();
        tx.send(message.descriptor(), message.payload()).unwrap();
    }
}

#[test]
fn a_session_between_two_processes_is_watched_without_being_disturbed() {
    const LOOKS: usize = 300;
    let mut session = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let file = file_of(&session);
    let mut child = start_echo(&session);
    let watcher = std::thread::spawn(move || {
        let look = |_| {
            // The two processes need the processors more.
            std::thread::sleep(Duration::from_micros(500));
            SegmentReport::read(&file).unwrap()
        };
        (0..LOOKS).map(look).collect::<Vec<_>>()
    });
    let (tx, rx) = session.split();
    let mut messages = 0_u64;
    while !watcher.is_finished() {
        let payload = vec![messages.to_le_bytes()[0]; usize::try_from(messages % 300).unwrap()];
        tx.send(&MsgDescHot::data(messages), &payload).unwrap();
        let echo = rx.recv().unwrap();
        assert_eq!((echo.descriptor().msg_id, echo.payload()), (messages, payload.as_slice()));
        messages += 1;
    }
    let mut seen = HashSet::new();
    for report in watcher.join().unwrap() {
        assert!(report.findings.is_empty(), "{report}");
        seen.insert(report.parts.unwrap().rings[1].status.tail);
    }
    assert!(seen.len() > 10, "looked at {} different moments", seen.len());
    session.split().0.close();
    assert!(child.0.wait().unwrap().success());
    let slots = session.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "{slots}");
    assert_eq!(report(&session).parts.unwrap().rings.map(|ring| ring.status.visible_head), [messages; 2]);
}

#[test]
fn who_sleeps_is_said_and_not_woken() {
    let a = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let memfd = a.memfd().unwrap().try_clone_to_owned().unwrap();
    let mut b = SessionOptions::new().spin(Spin::none()).attach(memfd).unwrap();
    let file = file_of(&a);
    let receiver = std::thread::spawn(move || {
        let message = b.split().1.recv().unwrap();
        (message.len(), b.system_calls().waits)
    });
    let start = Instant::now();
    let asleep = |report: &SegmentReport| report.parts.as_ref().unwrap().rings[0].header.data_sleeper == wake::ASLEEP;
    let mut report = SegmentReport::read(&file).unwrap();
    while !asleep(&report) {
        assert!(start.elapsed() < Duration::from_secs(20), "{report}");
        std::thread::yield_now();
        report = SegmentReport::read(&file).unwrap();
    }
    // It may not yet have come to the call itself; it will not be made twice.
    for _ in 0..100 {
        report = SegmentReport::read(&file).unwrap();
    }
    assert!(
        report.to_string().contains("\nwait of B for data      asleep on the sequence word; sequence "),
        "{report}"
    );
    assert!(report.findings.is_empty(), "{report}");
    let mut a = a;
    a.split().0.send(&MsgDescHot::data(0), b"wake up").unwrap();
    assert_eq!(receiver.join().unwrap(), (7, 1));
}

/// A process that was killed has not left: that is for the other peer to find out, and no finding.
#[test]
fn a_killed_peer_still_looks_attached() {
    let mut session = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let child = start_echo(&session);
    session.split().0.send(&MsgDescHot::data(0), &[1; 100]).unwrap();
    drop(session.split().1.recv().unwrap());
    drop(child);
    let report = report(&session);
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.to_string().contains("\npeer B                  attached\n"), "{report}");
    assert_eq!(report.peers.map(|peer| peer.process), [ProcessState::Running, ProcessState::Gone]);
}
