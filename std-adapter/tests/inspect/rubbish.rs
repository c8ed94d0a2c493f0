//! Files that are no segments, segments with random bytes, and a file that changes its length: an answer always, and soon.
//!
//! Seen to fail when: the magic of a file is not compared with its shape, or not with a hub's; the length is not looked at
//! before a structure is read; the end of the file is an input error like others; nothing limits the memory; a walk
//! passes a slot twice (then it does not end); other files than regular ones are read.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rapace_shm::inspect::{InspectError, SegmentReport};
use rapace_shm::{ShmSession, ShmSessionConfig};
use rustix::fs::ftruncate;

use crate::segment::{CONFIG, Segment, memfd_with};

fn refused(bytes: &[u8]) -> InspectError {
    SegmentReport::read(&memfd_with(bytes)).unwrap_err()
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    assert!(matches!(refused(b""), InspectError::TooShort { len: 0, required: 128 }));
    assert!(matches!(refused(&[0; 127]), InspectError::TooShort { len: 127, .. }));
    let text = refused("#!/bin/sh\n".repeat(100).as_bytes());
    assert!(matches!(text, InspectError::NotASegment { seen } if seen == *b"#!/bin/s"), "{text}");
    assert!(matches!(refused(&[0; 4096]), InspectError::NotASegment { seen: [0, ..] }));
    let mut hub = vec![0; 4096];
    hub[..8].copy_from_slice(b"RAPAHUB\0");
    let hub = refused(&hub);
    assert!(matches!(hub, InspectError::Hub));
    assert!(hub.to_string().starts_with("a hub"), "{hub}");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    for path in ["/", "/dev/zero"] {
        let error = SegmentReport::read(&File::open(path).unwrap()).unwrap_err();
        assert!(matches!(error, InspectError::NotAFile), "{path}: {error}");
    }
}

/// A sparse file costs its creator nothing; reading all of it would cost the reader everything.
#[test]
fn a_shape_that_takes_too_much_memory_is_refused_with_both_sizes() {
    let shapes = [
        ShmSessionConfig { ring_capacity: 1 << 31, ..CONFIG },
        ShmSessionConfig { slot_size: 4, slot_count: u32::MAX - 1, ..CONFIG },
    ];
    for config in shapes {
        let mut header = Segment::of(&ShmSession::create(CONFIG).unwrap()).bytes[..128].to_vec();
        header[16..20].copy_from_slice(&config.ring_capacity.to_ne_bytes());
        header[20..24].copy_from_slice(&config.slot_size.to_ne_bytes());
        header[24..28].copy_from_slice(&config.slot_count.to_ne_bytes());
        let file = memfd_with(&header);
        ftruncate(&file, rapace_shm::core::layout::calculate_segment_size(&config).unwrap() as u64).unwrap();
        let error = SegmentReport::read(&file).unwrap_err();
        assert!(matches!(error, InspectError::TooLarge { limit: 67_108_864, .. }), "{error}");
    }
}

/// Both are printed too: that must not fail either.
fn ask(segment: &Segment) -> Result<(), InspectError> {
    segment.report().map(|report| drop(report.to_string()))
}

#[test]
fn random_files_are_answered() {
    let mut random = fastrand::Rng::with_seed(1);
    let like = Segment::deserted();
    for trial in 0..2000 {
        let mut bytes: Vec<u8> = (0..random.usize(..5000)).map(|_| random.u8(..)).collect();
        // Ever more of a segment in front, so that ever later checks meet the rubbish.
        let sound = (trial % 25) * 100;
        let sound = sound.min(bytes.len()).min(like.bytes.len());
        bytes[..sound].copy_from_slice(&like.bytes[..sound]);
        match ask(&Segment { bytes, at: like.at }) {
            Ok(()) | Err(InspectError::TooShort { .. } | InspectError::NotASegment { .. }) => {}
            Err(InspectError::TooLarge { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn segments_with_flipped_bits_are_answered() {
    let mut random = fastrand::Rng::with_seed(2);
    let sound = Segment::deserted();
    for _ in 0..5000 {
        let mut segment = sound.clone();
        for _ in 0..=random.usize(..4) {
            // The peers' states stay: a doubted report takes its time.
            let at = random.usize(..segment.bytes.len());
            if !(80..88).contains(&at) {
                segment.bytes[at] ^= 1 << random.u8(..8);
            }
        }
        match ask(&segment) {
            Ok(()) | Err(InspectError::NotASegment { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_that_changes_its_length_is_answered() {
    let sound = Segment::deserted();
    let file = memfd_with(&sound.bytes);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(3);
            while !is_done.load(Ordering::Relaxed) {
                ftruncate(&file, random.u64(..=sound.bytes.len() as u64)).unwrap();
            }
        });
        let unexpected = (0..2000).find_map(|_| match SegmentReport::read(&file) {
            Ok(_) | Err(InspectError::TooShort { .. } | InspectError::NotASegment { .. }) => None,
            Err(InspectError::NeverSettles { .. }) => None,
            Err(other) => Some(other),
        });
        is_done.store(true, Ordering::Relaxed);
        assert!(unexpected.is_none(), "{unexpected:?}");
    });
}
