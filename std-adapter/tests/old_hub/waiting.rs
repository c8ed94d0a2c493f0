//! Whoever waits beside a member of the published crate gets what he waits for, although that rings nobody for it; and
//! wakes up no more than twice a second meanwhile.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use rapace_core::Transport;
use rapace_shm::inspect::Report;
use rapace_shm::{
    Doorbell, Error, Heard, HubConfig, HubHost, HubOptions, HubPeer, MsgDescHot, PeerId, Spin, SystemCalls, Waits,
};
use rapace_transport_shm as published;

use crate::common::{Folder, assert_hub_is_empty};
use crate::old;

const LARGEST: usize = 16 << 20;

/// Until the pauses between two looks are as long as they get.
const SETTLED: Duration = Duration::from_millis(1200);

/// How long wake-ups are counted.
const COUNTED: Duration = Duration::from_secs(2);

/// More than the longest pause.
const SOON: Duration = Duration::from_secs(2);

/// When a test has failed that would wait for ever.
pub fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn host(path: &Path, ring_capacity: u32) -> HubHost {
    let options = HubOptions::new().doorbells(true).sparse(true).spin(Spin::none());
    options.create_at(path, HubConfig { max_peers: 4, ring_capacity, ..HubConfig::default() }).unwrap()
}

fn sleeps(calls: SystemCalls) -> u64 {
    calls.waits + calls.polls
}

/// What the published crate does to receive, without a doorbell of its own.
fn receive_at(peer: &published::HubPeer) {
    let seen = peer.recv_ring().dequeue().unwrap();
    if seen.payload_slot != u32::MAX {
        let (class, slot) = (seen.payload_slot >> 29, seen.payload_slot & 0x1FFF_FFFF);
        peer.allocator().free(u8::try_from(class).unwrap(), slot, seen.payload_generation).unwrap();
    }
    published::futex::futex_signal(peer.recv_data_futex());
}

#[test]
fn a_sender_gets_the_place_in_the_ring_that_an_old_plugin_makes() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let mut host = host(&path, 4);
    let (id, _end) = host.add_old_peer(Waits::Together).unwrap();
    assert!(matches!(host.recv_any_timeout(Duration::from_millis(20)), Err(Error::Timeout)), "nobody has come");
    let plugin = published::HubPeer::open(&path, id.0).unwrap();
    plugin.register();
    for _ in 0..4 {
        host.try_send_to(id, &MsgDescHot::data(1), b"fills the ring").unwrap();
    }
    let mut tx = host.take_sender(id).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            tx.send_deadline(&MsgDescHot::data(1), b"waits", deadline()).unwrap();
            Instant::now()
        });
        std::thread::sleep(SETTLED);
        let before = sleeps(host.system_calls());
        std::thread::sleep(COUNTED);
        let slept = sleeps(host.system_calls()) - before;
        assert!((3..=5).contains(&slept), "woke up {slept} times in {COUNTED:?}");
        assert!(!waiting.is_finished());
        let made = Instant::now();
        receive_at(&plugin);
        assert!(waiting.join().unwrap() - made < SOON);
    });
}

#[test]
fn whoever_waits_for_a_slot_gets_the_one_that_an_old_plugin_frees() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let mut host = host(&path, 8);
    let ours = host.add_local(Waits::Together).unwrap();
    let (id, _end) = host.add_old_peer(Waits::Together).unwrap();
    let plugin = published::HubPeer::open(&path, id.0).unwrap();
    plugin.register();
    for _ in 0..4 {
        let loan = host.loan_for(id, LARGEST).unwrap();
        host.send_loan_to(id, &MsgDescHot::data(1), loan).unwrap();
    }
    let mut tx = host.take_sender(id).unwrap();
    let (mut our_tx, _our_rx) = ours.into_split();
    std::thread::scope(|scope| {
        let hosts = scope.spawn(|| tx.loan_deadline(LARGEST, deadline()).unwrap());
        let plugins = scope.spawn(|| our_tx.loan_deadline(LARGEST, deadline()).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!hosts.is_finished() && !plugins.is_finished());
        let made = Instant::now();
        for _ in 0..4 {
            receive_at(&plugin);
        }
        // Both are held until both are there: whoever of ours frees one wakes the other.
        drop((hosts.join().unwrap(), plugins.join().unwrap()));
        assert!(made.elapsed() < SOON);
    });
    assert_hub_is_empty(&host);
}

fn word(path: &Path, id: PeerId, at: usize) -> u64 {
    old::word(path, 256 + 64 * usize::from(id.0) + at)
}

/// Epoch and last seen.
fn heart(path: &Path, id: PeerId) -> [u64; 2] {
    [8, 16].map(|at| word(path, id, at))
}

#[test]
fn host_and_plugin_of_ours_sleep_beside_an_old_plugin_and_need_no_heartbeat() {
    let folder = Folder::new();
    let path = folder.join("hub");
    let mut host = host(&path, 4);
    let mut ours = host.add_local(Waits::Together).unwrap();
    let (id, end) = host.add_old_peer(Waits::Together).unwrap();
    published::HubPeer::open(&path, id.0).unwrap().register();
    let doorbell = Doorbell::from_owned_fd(end).unwrap();
    for _ in 0..2 {
        assert!(matches!(host.recv_any_timeout(SOON), Ok((_, Heard::Joined))));
    }
    let Ok(Report::Hub(report)) = Report::read(&File::open(&path).unwrap()) else { panic!("no hub") };
    assert!(report.findings.is_empty(), "{report}");
    // What it rings for once is heard once.
    doorbell.signal();
    let before = [host.system_calls(), ours.system_calls()].map(sleeps);
    std::thread::scope(|scope| {
        let ours = &mut ours;
        scope.spawn(|| assert!(matches!(ours.split().1.recv_deadline(Instant::now() + COUNTED), Err(Error::Timeout))));
        assert!(matches!(host.recv_any_timeout(COUNTED), Err(Error::Timeout)));
    });
    let slept = [host.system_calls(), ours.system_calls()].map(sleeps);
    for (before, after) in before.into_iter().zip(slept) {
        assert!(after - before <= 6, "woke up {} times in {COUNTED:?}", after - before);
    }
    assert_eq!(heart(&path, ours.id()), [0, 0]);
}

#[test]
fn a_plugin_of_ours_sleeps_beside_an_old_host_and_its_heart_beats_until_it_leaves() {
    let folder = Folder::new();
    let path = folder.join("hub");
    old::run(async {
        let config = published::HubConfig { max_peers: 2, ring_capacity: 4 };
        let host = std::sync::Arc::new(published::HubHost::create(&path, config).unwrap());
        let place = host.add_peer().unwrap();
        let id = PeerId(place.peer_id);
        let refused = HubPeer::open_at(&path, id).unwrap_err();
        assert!(matches!(refused, Error::NeedsDoorbell), "{refused}");
        let doorbell = Doorbell::inherited(place.peer_doorbell_fd).unwrap();
        assert!(matches!(Doorbell::inherited(place.peer_doorbell_fd), Err(Error::NotInherited { .. })));
        let mut ours = HubOptions::new().spin(Spin::none()).open_with_doorbell(&path, id, doorbell).unwrap();
        assert!(host.is_peer_active(id.0));
        assert_eq!(heart(&path, id)[0], 1);
        let before = sleeps(ours.system_calls());
        assert!(matches!(ours.split().1.recv_deadline(Instant::now() + COUNTED), Err(Error::Timeout)));
        let slept = sleeps(ours.system_calls()) - before;
        assert!(slept <= 4, "woke up {slept} times in {COUNTED:?}");
        let [epoch, last_seen] = heart(&path, id);
        assert!((2..=5).contains(&epoch), "{epoch} heartbeats");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(u128::from(last_seen) + u128::from(old::SILENCE) > now.as_nanos());

        // A full ring: the old host makes room and rings nobody.
        let transport = published::HubHostPeerTransport::new(host, id.0, place.doorbell);
        let (mut tx, rx) = ours.into_split();
        for _ in 0..4 {
            tx.send(&MsgDescHot::data(1), b"fills the ring").unwrap();
        }
        let waiting = std::thread::spawn(move || {
            tx.send_deadline(&MsgDescHot::data(1), b"waits", deadline()).unwrap();
            tx
        });
        std::thread::sleep(Duration::from_millis(200));
        let made = Instant::now();
        for _ in 0..5 {
            transport.recv_frame().await.unwrap();
        }
        drop((waiting.join().unwrap(), rx));
        assert!(made.elapsed() < SOON);
        let gone = heart(&path, id);
        std::thread::sleep(Duration::from_millis(1300));
        assert_eq!(heart(&path, id), gone, "it has left");
    });
}
