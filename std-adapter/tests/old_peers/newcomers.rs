//! Who may come where a peer of the published crate is, or was. It keeps its place in the rings to itself, so nobody can join
//! it but the partner that it has; once it is dead, a reset makes room for either kind.

use std::path::Path;
use std::time::{Duration, Instant};

use rapace_core::Transport;
use rapace_shm::core::layout::{DescRingHeader, SegmentOffsets};
use rapace_shm::core::link::LinkError;
use rapace_shm::path::PathProblem;
use rapace_shm::{Error, MsgDescHot, PeerRole, ShmSession, ShmSessionConfig};

use crate::common::{Folder, Second, assert_nothing_leaked, eventually, part};
use crate::frames::{Frame, frames};
use crate::old::{self, ShmTransport};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 64, slot_count: 4 };

/// Frames of which one is inline and one in a slot.
fn pair_of_frames() -> [Frame; 2] {
    let mut some = frames(7, CONFIG.slot_size, 5).skip(3);
    std::array::from_fn(|_| some.next().unwrap())
}

/// The published side, in its process: sends two frames, and then waits until it is killed.
#[test]
fn old_side() {
    let Some(told) = part("newcomers::old_side") else { return };
    let (role, path) = told.split_once(' ').unwrap();
    let path = Path::new(path);
    let transport = ShmTransport::new(if role == "creates" { old::create(path, CONFIG) } else { old::open(path) });
    old::run(async {
        for frame in pair_of_frames() {
            old::send(&transport, frame).await;
        }
        for frame in pair_of_frames() {
            old::receive(&transport, &frame).await;
        }
        panic!("{:?}", transport.recv_frame().await);
    });
}

fn old_side_that(does: &str, path: &Path) -> Second {
    Second::start("newcomers::old_side", format!("{does} {}", path.display()))
}

/// The old side's frames arrive, and ours are sent.
fn talk_to_old_side(session: &mut ShmSession) {
    let (tx, rx) = session.split();
    for frame in pair_of_frames() {
        let message = rx.recv_deadline(Instant::now() + old::LIMIT).unwrap();
        frame.assert_is(message.descriptor(), message.payload());
    }
    for frame in pair_of_frames() {
        tx.send(&frame.descriptor, &frame.payload).unwrap();
    }
}

#[track_caller]
fn assert_refused(path: &Path, role: PeerRole) {
    match ShmSession::open_at(path) {
        Err(Error::Link(LinkError::OldPeer { role: seen })) => assert_eq!(seen, role),
        other => panic!("{other:?}"),
    }
}

/// Waits as long as it takes the published crate to begin to.
fn begin_to_wait(transport: &ShmTransport) {
    old::run(async { tokio::time::timeout(Duration::from_millis(10), transport.recv_frame()).await.unwrap_err() });
}

#[test]
fn nobody_takes_the_place_of_an_old_peer_not_even_of_one_that_has_only_waited() {
    let folder = Folder::new();
    let path = folder.join("ours");
    let mut session = ShmSession::create_at(&path, CONFIG).unwrap();
    let transport = ShmTransport::new(old::open(&path));
    begin_to_wait(&transport);
    assert_refused(&path, PeerRole::B);
    let [inline, in_slot] = pair_of_frames();
    old::run(old::send(&transport, in_slot.clone()));
    assert_refused(&path, PeerRole::B);
    let message = session.split().1.recv().unwrap();
    in_slot.assert_is(message.descriptor(), message.payload());
    session.split().0.send(&inline.descriptor, &inline.payload).unwrap();
    old::run(old::receive(&transport, &inline));
}

#[test]
fn beside_an_old_creator_there_is_one_partner() {
    let folder = Folder::new();
    let path = folder.join("theirs");
    let transport = ShmTransport::new(old::create(&path, CONFIG));
    begin_to_wait(&transport);
    let session = ShmSession::open_at(&path).unwrap();
    assert_refused(&path, PeerRole::A);
    // It has left, but the creator goes on where it was.
    drop(session);
    assert_refused(&path, PeerRole::A);
}

#[test]
fn an_old_creators_session_is_never_replaced_whether_it_lives_or_not() {
    let folder = Folder::new();
    let path = folder.join("session");
    let mut other = old_side_that("creates", &path);
    eventually("the old peer's session", || path.exists());
    let assert_left_alone = || match ShmSession::create_at(&path, CONFIG) {
        Err(Error::Path(error)) => assert!(matches!(error.problem, PathProblem::Unmarked), "{error}"),
        other => panic!("{other:?}"),
    };
    assert_left_alone();
    let mut session = ShmSession::open_at(&path).unwrap();
    talk_to_old_side(&mut session);
    assert_left_alone();
    other.kill();
    drop(session);
    assert_left_alone();
}

/// Resets as soon as that is allowed; how long that took.
fn reset_when_possible(session: &mut ShmSession) -> Duration {
    let begin = Instant::now();
    loop {
        match session.reset() {
            Ok(_) => return begin.elapsed(),
            Err(Error::PeerAlive) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A session beside an old peer that was killed with frames of ours on their way, reset.
fn after_an_old_peers_death(path: &Path) -> ShmSession {
    let mut session = ShmSession::create_at(path, CONFIG).unwrap();
    let mut other = old_side_that("opens", path);
    talk_to_old_side(&mut session);
    assert!(matches!(session.split().1.recv_deadline(Instant::now() + Duration::from_millis(50)), Err(Error::Timeout)));
    assert_ne!(old::word(path, PeerRole::A.words().last_seen.offset()), 0, "our heart beats");
    other.kill();
    assert!(matches!(session.reset(), Err(Error::PeerAlive)), "it may be alive for all that it said");
    for _ in 0..2 {
        session.split().0.send(&MsgDescHot::data(1), &[1; 50]).unwrap();
    }
    let took = reset_when_possible(&mut session);
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_nothing_leaked(&session);
    for role in [PeerRole::A, PeerRole::B] {
        for word in [role.words().last_seen, role.words().epoch] {
            assert_eq!(old::word(path, word.offset()), 0, "a stale heartbeat of {role:?}");
        }
    }
    session
}

fn one_of_ours_follows() {
    let folder = Folder::new();
    let path = folder.join("session");
    let mut session = after_an_old_peers_death(&path);
    let mut newcomer = ShmSession::open_at(&path).unwrap();
    assert_eq!(newcomer.role(), PeerRole::B);
    for frame in frames(9, CONFIG.slot_size, 50) {
        newcomer.split().0.send(&frame.descriptor, &frame.payload).unwrap();
        let message = session.split().1.recv().unwrap();
        frame.assert_is(message.descriptor(), message.payload());
    }
    drop(newcomer);
    session.reset().unwrap();
    assert_nothing_leaked(&session);
}

fn another_old_one_follows() {
    let folder = Folder::new();
    let path = folder.join("session");
    let mut session = after_an_old_peers_death(&path);
    let other = old_side_that("opens", &path);
    talk_to_old_side(&mut session);
    assert_refused(&path, PeerRole::B);
    let (_tx, rx) = session.split();
    assert!(matches!(rx.recv_deadline(Instant::now() + Duration::from_millis(1100)), Err(Error::Timeout)));
    assert_ne!(old::word(&path, PeerRole::A.words().last_seen.offset()), 0, "our heart beats for this one, too");
    let offsets = SegmentOffsets::calculate(&CONFIG).unwrap();
    let returned = DescRingHeader::RETURNED.within(offsets.b_to_a_ring).offset();
    assert_eq!(old::word(&path, returned), 0, "a slot was returned where an old peer does not look");
    drop(other);
}

#[test]
fn when_an_old_peer_is_dead_a_reset_makes_room_for_either_kind() {
    std::thread::scope(|scope| {
        scope.spawn(one_of_ours_follows);
        scope.spawn(another_old_one_follows);
    });
}
