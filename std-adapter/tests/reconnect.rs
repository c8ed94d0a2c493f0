//! T8: peers come, die and come again, and nothing is left behind: no descriptor, no mapping, no slot.
//!
//! `RAPACE_SHM_RECONNECTS` says how often; the campaign of goals is 10 000:
//! `RAPACE_SHM_RECONNECTS=10000 cargo test --release -p rapace-shm --test reconnect`. One test after the other, because
//! each counts what the whole process has open.
//!
//! Seen to fail on these mutants: an agreed client whose socket is not closed; `unwire` that keeps the wiring. A watch that
//! outlives its endpoint is not seen here, where every process watched is killed in the end; the unit test of the watcher
//! looks for that.

mod common;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{Folder, Second, assert_nothing_leaked, eventually, mappings, open_descriptors, part, times};
use rapace_shm::{Error, MsgDescHot, ShmListener, ShmSession, ShmSessionConfig};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };

/// Held by the test that counts.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts at the tenth cycle, and when it is over.
struct Census {
    descriptors: usize,
    mappings: usize,
}

impl Census {
    fn take() -> Self {
        Self { descriptors: open_descriptors(), mappings: mappings() }
    }

    fn assert_no_more_now(&self) {
        eventually("descriptors and mappings are as few as before", || {
            open_descriptors() <= self.descriptors && mappings() <= self.mappings
        });
    }
}

/// Runs `cycle` as often as asked.
fn again_and_again(usual: u32, mut cycle: impl FnMut()) {
    let count = times("RAPACE_SHM_RECONNECTS", usual);
    for _ in 0..3 {
        cycle();
    }
    let before = Census::take();
    for _ in 3..count {
        cycle();
    }
    before.assert_no_more_now();
}

/// Connects, says something from a slot, takes another, and waits to be killed.
#[test]
fn client() {
    let Some(path) = part("client") else { return };
    let mut session = ShmSession::connect(Path::new(&path)).unwrap();
    let (tx, rx) = session.split();
    tx.send(&MsgDescHot::data(1), &[7; 30]).unwrap();
    let _held = tx.loan(10).unwrap();
    assert!(rx.recv().is_err());
}

#[test]
fn clients_that_connect_and_leave_leave_nothing_behind() {
    let _alone = alone();
    let folder = Folder::new();
    let path = folder.join("socket");
    let mut listener = ShmListener::bind(&path, CONFIG).unwrap();
    again_and_again(1000, || {
        let client = std::thread::scope(|scope| {
            let client = scope.spawn(|| ShmSession::connect(&path).unwrap());
            let mut session = listener.accept().unwrap();
            session.split().0.send(&MsgDescHot::data(1), &[1; 30]).unwrap();
            client.join().unwrap()
        });
        drop(client);
    });
}

#[test]
fn a_session_outlives_one_killed_client_after_the_other() {
    let _alone = alone();
    let folder = Folder::new();
    let path = folder.join("socket");
    let mut listener = ShmListener::bind(&path, CONFIG).unwrap();
    let mut child = Second::start("client", &path);
    let mut session = listener.accept().unwrap();
    again_and_again(60, || {
        assert_eq!(session.split().1.recv().unwrap().len(), 30);
        child.kill();
        assert!(matches!(session.split().1.recv(), Err(Error::PeerDied)));
        child = Second::start("client", &path);
        listener.reattach(&mut session, None).unwrap();
    });
    child.kill();
    session.reset().unwrap();
    assert_nothing_leaked(&session);
}

/// Attaches by the path of the memfd, says something, and waits to be killed.
#[test]
fn opener() {
    let Some(path) = part("opener") else { return };
    let memfd = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut session = ShmSession::attach(memfd.into()).unwrap();
    session.split().0.send(&MsgDescHot::data(1), &[7; 30]).unwrap();
    assert!(session.split().1.recv().is_err());
}

#[test]
fn peers_without_a_life_socket_are_watched_and_forgotten() {
    let _alone = alone();
    let mut killed_first = true;
    again_and_again(60, || {
        killed_first = !killed_first;
        let mut a = ShmSession::create(CONFIG).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), a.memfd().unwrap().as_raw_fd());
        let mut child = Second::start("opener", path);
        assert_eq!(a.split().1.recv().unwrap().len(), 30);
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(a.split().1.recv_deadline(soon), Err(Error::Timeout)), "asleep, and so watched");
        if killed_first {
            child.kill();
            assert!(matches!(a.split().1.recv(), Err(Error::PeerDied)));
        } else {
            drop(a);
            child.kill();
        }
    });
}
