//! Frames between a process of the published crate and this one, in both roles, in every shape, both ways at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rapace_shm::core::layout::{DescRingHeader, SegmentOffsets};
use rapace_shm::{Receiver, Sender, ShmSession, ShmSessionConfig};

use crate::common::{Folder, Second, assert_nothing_leaked, eventually, part};
use crate::frames::frames;
use crate::old::{self, ShmTransport};

const fn shape(ring_capacity: u32, slot_size: u32, slot_count: u32) -> ShmSessionConfig {
    ShmSessionConfig { ring_capacity, slot_size, slot_count }
}

pub const DEFAULT: ShmSessionConfig = shape(256, 4096, 64);
pub const TIGHT: [ShmSessionConfig; 3] = [shape(1, 20, 1), shape(2, 32, 2), shape(4, 256, 3)];
pub const MANY: ShmSessionConfig = shape(1024, 512, 512);

/// The seeds of the two directions.
const FROM_OLD: u64 = 1;
const FROM_OURS: u64 = 2;

/// Who makes the session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Creator {
    /// The published crate creates it at a path, this one opens it.
    Theirs,
    /// This one creates it at a path.
    Ours,
    /// This one creates it on a memfd, which the published crate opens by its path in procfs.
    OursOnMemfd,
}

const CREATORS: [Creator; 3] = [Creator::Theirs, Creator::Ours, Creator::OursOnMemfd];

/// How much, and how fast.
#[derive(Clone, Copy, Debug)]
struct Pace {
    frames: u64,
    /// Every how many frames each of the four that send and receive rests; each at another one.
    rest_every: u64,
}

const NEVER: u64 = u64::MAX;
/// Longer than the published crate sleeps before it looks again by itself.
const REST: Duration = Duration::from_millis(130);

impl Pace {
    fn rests(self, who: u64, number: u64) -> bool {
        number % self.rest_every == who && self.rest_every != NEVER
    }
}

/// The published side, in its process.
#[test]
fn old_side() {
    let Some(told) = part("exchange::old_side") else { return };
    let mut told = told.splitn(7, ' ');
    let mut next = || told.next().unwrap();
    let creates = next() == "creates";
    let config = shape(next().parse().unwrap(), next().parse().unwrap(), next().parse().unwrap());
    let pace = Pace { frames: next().parse().unwrap(), rest_every: next().parse().unwrap() };
    let path = PathBuf::from(next());
    let transport = ShmTransport::new(if creates { old::create(&path, config) } else { old::open(&path) });
    old::run(async {
        let send = async {
            for frame in frames(FROM_OLD, config.slot_size, pace.frames) {
                if pace.rests(0, frame.descriptor.msg_id) {
                    tokio::time::sleep(REST).await;
                }
                old::send(&transport, frame).await;
            }
        };
        let receive = async {
            for frame in frames(FROM_OURS, config.slot_size, pace.frames) {
                if pace.rests(1, frame.descriptor.msg_id) {
                    tokio::time::sleep(REST).await;
                }
                old::receive(&transport, &frame).await;
            }
        };
        tokio::join!(send, receive);
    });
}

/// Every second one by copy, every second one written in place.
fn send(mut tx: Sender, slot_size: u32, pace: Pace) -> Sender {
    for frame in frames(FROM_OURS, slot_size, pace.frames) {
        let number = frame.descriptor.msg_id;
        if pace.rests(2, number) {
            std::thread::sleep(REST);
        }
        if number.is_multiple_of(2) {
            tx.send(&frame.descriptor, &frame.payload).unwrap();
        } else {
            let mut loan = tx.loan(frame.payload.len()).unwrap();
            loan.copy_from_slice(&frame.payload);
            tx.send_loan(&frame.descriptor, loan).unwrap();
        }
    }
    tx
}

/// Holds each payload until the next one is there, if there are slots enough.
fn receive(mut rx: Receiver, config: ShmSessionConfig, pace: Pace) -> Receiver {
    let mut held = None;
    for frame in frames(FROM_OLD, config.slot_size, pace.frames) {
        if pace.rests(3, frame.descriptor.msg_id) {
            std::thread::sleep(REST);
        }
        let message = rx.recv_deadline(std::time::Instant::now() + old::LIMIT).unwrap();
        frame.assert_is(message.descriptor(), message.payload());
        assert_eq!(message.descriptor().is_inline(), frame.payload.len() <= 16);
        if config.slot_count > 4 {
            held = Some((frame, message));
        }
        if let Some((frame, message)) = &held {
            frame.assert_is(message.descriptor(), message.payload());
        }
    }
    rx
}

/// One session: both sides send `frames` frames at once. What is left behind is looked at when the other process has ended.
fn exchange(creator: Creator, config: ShmSessionConfig, pace: Pace) {
    let folder = Folder::new();
    let named = folder.join("session");
    let old_side = |role: &str, path: &Path| {
        let ShmSessionConfig { ring_capacity, slot_size, slot_count } = config;
        let Pace { frames, rest_every } = pace;
        let path = path.display();
        let told = format!("{role} {ring_capacity} {slot_size} {slot_count} {frames} {rest_every} {path}");
        Second::start("exchange::old_side", told)
    };
    let (session, path, other) = match creator {
        Creator::Theirs => {
            let other = old_side("creates", &named);
            eventually("the old peer's session", || named.exists());
            (ShmSession::open_at(&named).unwrap(), named, other)
        }
        Creator::Ours => {
            let session = ShmSession::create_at(&named, config).unwrap();
            let other = old_side("opens", &named);
            (session, named, other)
        }
        Creator::OursOnMemfd => {
            use std::os::fd::AsRawFd;
            let session = ShmSession::create(config).unwrap();
            let path = format!("/proc/{}/fd/{}", std::process::id(), session.memfd().unwrap().as_raw_fd());
            let other = old_side("opens", path.as_ref());
            (session, path.into(), other)
        }
    };
    let (tx, rx) = session.into_split();
    let (tx, rx) = std::thread::scope(|scope| {
        let tx = scope.spawn(move || send(tx, config.slot_size, pace));
        let rx = receive(rx, config, pace);
        (tx.join().unwrap(), rx)
    });
    other.assert_ends_well();
    let session = ShmSession::reunite(tx, rx).unwrap();
    assert_nothing_leaked(&session);
    let offsets = SegmentOffsets::calculate(&config).unwrap();
    for ring in [offsets.a_to_b_ring, offsets.b_to_a_ring] {
        let returned = DescRingHeader::RETURNED.within(ring).offset();
        assert_eq!(old::word(&path, returned), 0, "a slot was returned where an old peer does not look");
    }
    if pace.rest_every != NEVER {
        assert!(session.system_calls().waits > 0, "nobody slept");
    }
}

/// In both roles, and on a memfd.
fn exchange_in_both_roles(shapes: &[ShmSessionConfig], pace: Pace) {
    std::thread::scope(|scope| {
        for creator in CREATORS {
            scope.spawn(move || shapes.iter().for_each(|config| exchange(creator, *config, pace)));
        }
    });
}

#[test]
fn thousands_of_frames_pass_both_ways_at_once() {
    exchange_in_both_roles(&[DEFAULT, MANY], Pace { frames: 3000, rest_every: NEVER });
}

#[test]
fn frames_pass_where_there_is_room_for_hardly_one() {
    exchange_in_both_roles(&TIGHT, Pace { frames: 150, rest_every: NEVER });
}

#[test]
fn frames_pass_between_sides_that_sleep() {
    exchange_in_both_roles(&[DEFAULT, TIGHT[1]], Pace { frames: 12, rest_every: 6 });
}
