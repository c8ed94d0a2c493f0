//! The bytes of a segment, to be damaged.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::Child;

use rapace_shm::core::layout::{At, SegmentOffsets};
use rapace_shm::inspect::{FindingKind, InspectError, Report, SegmentReport};
use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};
use rustix::fs::{MemfdFlags, memfd_create};

pub const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 8, slot_size: 64, slot_count: 12 };

/// What the session of [`Segment::busy`] has on its way and in hand.
pub const INLINE_MESSAGE: u64 = 1;
pub const SLOT_MESSAGE: u64 = 2;

/// A process that ends with this value.
pub struct Another(pub Child);

impl Drop for Another {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes, and where what is in them.
#[derive(Clone)]
pub struct Bytes<O> {
    pub bytes: Vec<u8>,
    pub at: O,
}

/// Those of a session.
pub type Segment = Bytes<SegmentOffsets>;

/// The file behind a session, open for reading only.
pub fn file_of(session: &ShmSession) -> File {
    File::open(format!("/proc/self/fd/{}", session.memfd().unwrap().as_raw_fd())).unwrap()
}

pub fn report(session: &ShmSession) -> SegmentReport {
    SegmentReport::read(&file_of(session)).unwrap()
}

pub fn memfd_with(bytes: &[u8]) -> File {
    let file = File::from(memfd_create("inspected", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(bytes, 0).unwrap();
    file
}

pub fn two_peers(config: ShmSessionConfig) -> (ShmSession, ShmSession) {
    let a = ShmSession::create(config).unwrap();
    let b = ShmSession::attach(a.memfd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    (a, b)
}

impl<O> Bytes<O> {
    pub fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }

    pub fn put_u32(&mut self, field: At<u32>, base: usize, value: u32) {
        self.put(field.within(base).offset(), value.to_ne_bytes());
    }

    pub fn put_u64(&mut self, field: At<u64>, base: usize, value: u64) {
        self.put(field.within(base).offset(), value.to_ne_bytes());
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    pub fn file(&self) -> File {
        memfd_with(&self.bytes)
    }
}

impl Segment {
    pub fn of(session: &ShmSession) -> Self {
        let at = SegmentOffsets::calculate(&session.config()).unwrap();
        let mut bytes = vec![0; at.end];
        file_of(session).read_exact_at(&mut bytes, 0).unwrap();
        Self { bytes, at }
    }

    /// A session in use: slots in every list, one on loan, and on the way to B a message that is inline and one that is
    /// not.
    pub fn busy() -> Self {
        let (mut a, mut b) = two_peers(CONFIG);
        for number in 0..4 {
            b.split().0.send(&MsgDescHot::data(number), &[1; 40]).unwrap();
        }
        // All of them at once, so that they were four slots.
        let received: Vec<_> = (0..4).map(|_| a.split().1.recv().unwrap()).collect();
        drop(received);
        let _loan = a.split().0.loan(40).unwrap();
        a.split().0.send(&MsgDescHot::data(0), &[2; 40]).unwrap();
        drop(b.split().1.recv().unwrap());
        a.split().0.send(&MsgDescHot::data(INLINE_MESSAGE), b"inline").unwrap();
        a.split().0.send(&MsgDescHot::data(SLOT_MESSAGE), &[3; 40]).unwrap();
        Self::of(&a)
    }

    /// The same after both peers have left.
    pub fn deserted() -> Self {
        let mut segment = Self::busy();
        for state in [80, 84] {
            segment.put(state, 2_u32.to_ne_bytes());
        }
        segment
    }

    /// The same after both processes have died without leaving: there is no process of this number.
    pub fn orphaned() -> Self {
        let mut segment = Self::busy();
        for pid in [88, 104] {
            segment.put(pid, u32::MAX.to_ne_bytes());
        }
        segment
    }

    pub fn link(&self, slot: u32) -> usize {
        self.at.slot_data + slot as usize * CONFIG.slot_size as usize
    }

    pub fn meta(&self, slot: u32) -> usize {
        self.at.slot_meta + slot as usize * 8
    }

    /// A message on the way from A to B.
    pub fn message(&self, number: u64) -> usize {
        self.at.a_to_b_descriptors + usize::try_from(number).unwrap() % CONFIG.ring_capacity as usize * 64
    }

    /// The slot of the message that has one.
    pub fn sent_slot(&self) -> u32 {
        self.u32(self.message(SLOT_MESSAGE) + 16)
    }

    /// The slot on loan.
    pub fn loaned_slot(&self) -> u32 {
        (0..CONFIG.slot_count).find(|slot| self.u32(self.meta(*slot) + 4) == 1).unwrap()
    }

    pub fn report(&self) -> Result<SegmentReport, InspectError> {
        SegmentReport::read(&self.file())
    }
}

/// One damage, the one kind of finding that it is, and the field that it names.
pub type Case<S> = (FindingKind, &'static str, fn(&mut S));

/// Does each damage to a fresh copy, and checks that exactly its finding is reported, and how. Returns the kinds.
pub fn check_damages<O: Clone>(
    sound: &Bytes<O>,
    cases: &[Case<Bytes<O>>],
    report: impl Fn(&Bytes<O>) -> Result<Report, InspectError>,
) -> HashSet<FindingKind> {
    let mut kinds = HashSet::new();
    for (kind, field, damage) in cases {
        let mut segment = sound.clone();
        damage(&mut segment);
        let report = report(&segment).unwrap_or_else(|error| panic!("{kind:?} of {field}: {error}"));
        let findings: Vec<_> = report.findings().iter().map(|found| (found.kind, found.field.as_str())).collect();
        assert_eq!(findings, [(*kind, *field)], "{report}");
        let text = report.to_string();
        assert!(text.contains(&format!("\nfindings                1 (several looks)\n! {field}\n")), "{text}");
        assert!(text.contains(&format!("\n    meaning   {}", kind.meaning())), "{text}");
        kinds.insert(*kind);
    }
    kinds
}
