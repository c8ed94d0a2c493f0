//! The bytes beside the published crate's own: a session of ours differs in the words that this project adds, and in nothing
//! else that can be told apart.

use std::path::{Path, PathBuf};

use rapace_shm::core::layout::{At, DataSegmentHeader, DescRingHeader, SegmentHeader, SegmentOffsets};
use rapace_shm::{PeerRole, ShmSession, ShmSessionConfig};

use crate::common::Folder;
use crate::exchange::{DEFAULT, MANY, TIGHT};
use crate::frames::{Frame, frames};
use crate::old::{self, ShmTransport};

/// Bytes that may differ, and why.
struct Allowed {
    at: usize,
    len: usize,
    why: &'static str,
}

fn allow<T>(at: At<T>, base: usize, why: &'static str) -> Allowed {
    Allowed { at: base + at.offset(), len: size_of::<T>(), why }
}

/// The words that a peer of ours writes when it takes its side.
fn added(config: &ShmSessionConfig, role: PeerRole) -> Vec<Allowed> {
    let SegmentOffsets { a_to_b_ring, b_to_a_ring, data_header, .. } = SegmentOffsets::calculate(config).unwrap();
    let words = role.words();
    let (outgoing, incoming, slots_sleeper) = match role {
        PeerRole::A => (a_to_b_ring, b_to_a_ring, DataSegmentHeader::SLOTS_SLEEPER_A),
        PeerRole::B => (b_to_a_ring, a_to_b_ring, DataSegmentHeader::SLOTS_SLEEPER_B),
    };
    vec![
        allow(words.state, 0, "the peer is attached"),
        allow(words.pid, 0, "its process"),
        allow(words.pid_namespace, 0, "the namespace of its process"),
        allow(words.start, 0, "when its process started"),
        allow(DescRingHeader::DATA_SLEEPER, incoming, "it does not sleep for data"),
        allow(DescRingHeader::SPACE_SLEEPER, outgoing, "it does not sleep for space"),
        allow(slots_sleeper, data_header, "it does not sleep for a slot"),
    ]
}

/// What two runs of the same messages need not have in common.
fn of_the_moment() -> Vec<Allowed> {
    [PeerRole::A, PeerRole::B]
        .iter()
        .flat_map(|role| {
            let words = role.words();
            [allow(words.epoch, 0, "heartbeats"), allow(words.last_seen, 0, "when the last heartbeat was")]
        })
        .collect()
}

/// What a newcomer as peer B does to the sequence words: it wakes whoever has slept since before it came.
fn greeting() -> Vec<Allowed> {
    vec![
        allow(SegmentHeader::B_TO_A_DATA, 0, "one more signal: wakes a receiver"),
        allow(SegmentHeader::A_TO_B_SPACE, 0, "one more signal: wakes a sender"),
    ]
}

/// Outside of what is allowed nothing differs; and what is ours was zero. Returns what was used of the allowances.
#[track_caller]
fn compare<'a>(ours: &[u8], theirs: &[u8], allowed: &'a [Allowed]) -> Vec<&'a str> {
    assert_eq!(ours.len(), theirs.len());
    let is_allowed = |at: &usize| allowed.iter().any(|range| (range.at..range.at + range.len).contains(at));
    let different: Vec<_> = (0..ours.len()).filter(|at| ours[*at] != theirs[*at]).collect();
    let wrong: Vec<_> = different.iter().filter(|at| !is_allowed(at)).collect();
    assert!(wrong.is_empty(), "bytes at {wrong:?} differ");
    let used = |range: &&Allowed| different.iter().any(|at| (range.at..range.at + range.len).contains(at));
    allowed.iter().filter(used).map(|range| range.why).collect()
}

fn shapes() -> impl Iterator<Item = ShmSessionConfig> {
    [DEFAULT, MANY].into_iter().chain(TIGHT)
}

#[test]
fn a_fresh_session_equals_the_published_crates_outside_of_the_words_that_are_added() {
    for config in shapes() {
        let folder = Folder::new();
        let [ours, theirs] = [folder.join("ours"), folder.join("theirs")];
        let _ours = ShmSession::create_at(&ours, config).unwrap();
        let _theirs = old::create(&theirs, config);
        let [ours, theirs] = [ours, theirs].map(|path| std::fs::read(path).unwrap());
        let added = added(&config, PeerRole::A);
        let used = compare(&ours, &theirs, &added);
        assert_eq!(used, added.iter().map(|range| range.why).collect::<Vec<_>>(), "allowed, but not needed");
        for Allowed { at, len, why } in added {
            assert!(theirs[at..at + len].iter().all(|byte| *byte == 0), "not reserved: {why}");
        }
    }
}

/// One side of either kind.
enum End {
    Old(Box<ShmTransport>),
    Ours(Box<ShmSession>),
}

impl End {
    fn create(ours: bool, path: &Path, config: ShmSessionConfig) -> Self {
        if ours {
            return Self::Ours(Box::new(ShmSession::create_at(path, config).unwrap()));
        }
        Self::Old(Box::new(ShmTransport::new(old::create(path, config))))
    }

    fn open(ours: bool, path: &Path) -> Self {
        if ours {
            return Self::Ours(Box::new(ShmSession::open_at(path).unwrap()));
        }
        Self::Old(Box::new(ShmTransport::new(old::open(path))))
    }

    fn send(&mut self, frame: &Frame) {
        match self {
            Self::Old(transport) => old::run(old::send(transport, frame.clone())),
            Self::Ours(session) => session.split().0.send(&frame.descriptor, &frame.payload).unwrap(),
        }
    }

    fn receive(&mut self, frame: &Frame) {
        match self {
            Self::Old(transport) => old::run(old::receive(&**transport, frame)),
            Self::Ours(session) => {
                let message = session.split().1.recv().unwrap();
                frame.assert_is(message.descriptor(), message.payload());
            }
        }
    }
}

/// The bytes after the same messages between two sides, while both are there.
fn after_messages(path: PathBuf, config: ShmSessionConfig, [a_is_ours, b_is_ours]: [bool; 2]) -> Vec<u8> {
    let mut a = End::create(a_is_ours, &path, config);
    let mut b = End::open(b_is_ours, &path);
    for mut frame in frames(5, config.slot_size, 60) {
        // Behind a short inline payload the published crate leaves what the caller had there; we write zeroes.
        frame.descriptor.inline_payload = [0; 16];
        a.send(&frame);
        b.receive(&frame);
        if frame.descriptor.msg_id % 3 == 0 {
            b.send(&frame);
            a.receive(&frame);
        }
    }
    std::fs::read(path).unwrap()
}

#[test]
fn messages_leave_the_same_bytes_as_between_two_peers_of_the_published_crate() {
    for config in shapes() {
        let folder = Folder::new();
        let theirs = after_messages(folder.join("theirs"), config, [false, false]);
        let ours = after_messages(folder.join("we create"), config, [true, false]);
        let mut allowed = added(&config, PeerRole::A);
        allowed.extend(of_the_moment());
        compare(&ours, &theirs, &allowed);
        let ours = after_messages(folder.join("we open"), config, [false, true]);
        let mut allowed = added(&config, PeerRole::B);
        allowed.extend(of_the_moment());
        allowed.extend(greeting());
        compare(&ours, &theirs, &allowed);
    }
}
