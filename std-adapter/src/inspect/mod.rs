//! A look into a segment, live or dead, from outside: for the day on which a session stands still and somebody wants to
//! know who sleeps, where the slots are, and whether the bytes make sense.
//!
//! Nothing is mapped and nothing is written: the file is read at given positions, so the peers notice nothing, a file that
//! is cut short meanwhile is an error and no signal, and reading rights are enough. The bytes may be anybody's: no word of
//! them is trusted with an address, a length or a loop.
//!
//! # Looking at what moves
//!
//! A segment in use changes while it is read. What is read in which order makes most of the checks exact all the same:
//!
//! ```text
//!   1 tails    2 heads, messages    3 heads of the lists    4 metadata, links    5 as 3    6 as 1
//!                                   |---- unchanged? Then the list has not changed. ---|
//!              |------ still there? Then its slot was in flight all the time. --------------|
//! ```
//!
//! A list that never holds still is not judged; the report says so. What remains is a word read while it is written, and
//! a slot on its way from a peer's hand into a list. So while anybody may be attached, a finding is what several looks
//! agree on: two, two milliseconds apart; and for a slot that is in no list five, over 170 milliseconds, unless
//! the peers' processes are gone. If nobody is attached, one look is enough.
//!
//! ```
//! use std::fs::File;
//!
//! use rapace_shm::inspect::SegmentReport;
//! use rapace_shm::{ShmSession, ShmSessionConfig};
//!
//! let session = ShmSession::create(ShmSessionConfig::default())?;
//! let file = File::from(session.memfd().expect("on a memfd").try_clone_to_owned()?);
//! let report = SegmentReport::read(&file)?;
//! assert!(report.findings.is_empty(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod display;
mod finding;
mod lists;
mod peers;
mod shape;
mod snapshot;
mod words;

use std::fs::File;
use std::io;
use std::time::Duration;

use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, MAGIC, PROTOCOL_VERSION, SegmentHeader, ShmSessionConfig,
};
use rapace_shm_core::ring::RingStatus;
use rapace_shm_core::slots::SlotStatus;

pub use finding::{Finding, FindingKind};
pub use lists::{FreeListName, FreeListReport};
pub use peers::{PeerReport, ProcessState};

use finding::Findings;
use snapshot::{Snapshot, Stop};

/// Pauses between looks: one for a word that was read while it was written, the rest for a slot that a thread has in
/// hand, which may have lost its processor right then.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(2), Duration::from_millis(8), Duration::from_millis(32), Duration::from_millis(128)];

/// How often a file is read anew because its length changed meanwhile, or a list of free slots.
const TRIES: u32 = 8;

/// Most bytes of headers, descriptors and metadata that are read: the memory that a report takes is some three times that.
const MAX_BOOKKEEPING: usize = 64 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A read failed.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// A directory, a pipe, a device.
    #[error("not a regular file and not a memfd; name the file or the descriptor that holds the segment")]
    NotAFile,
    /// Shorter than a segment's header.
    #[error("not a rapace segment: it has {len} bytes, the header alone takes {required}")]
    TooShort {
        /// Length of the file in bytes.
        len: u64,
        /// Length of a segment's header in bytes.
        required: usize,
    },
    /// It does not start as a segment does, and does not look like one that was damaged.
    #[error("not a rapace segment: it starts with {seen:02x?}, a segment with {MAGIC:02x?}")]
    NotASegment {
        /// The first bytes.
        seen: [u8; 8],
    },
    /// A hub, not a session.
    #[error("a hub, not a session; only the segments of sessions can be inspected")]
    Hub,
    /// More descriptors and slots than are worth the memory.
    #[error("its headers, descriptors and metadata take {bytes} bytes; at most {limit} are inspected")]
    TooLarge {
        /// Bytes before the first slot.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The file became shorter during every one of many tries to read it.
    #[error("the file was cut short {tries} times while it was read; try again when nobody changes its length")]
    NeverSettles {
        /// How often it was tried.
        tries: u32,
    },
}

/// What a segment's bytes say. Plain data; nothing in it is checked except where [`findings`](Self::findings) says that
/// something looks wrong. Its `Display` is for people: one fact per line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Length of the file in bytes.
    pub len: u64,
    /// The header, as it stands.
    pub header: SegmentHeader,
    /// What the header says of the peers A and B, and whether their processes run.
    pub peers: [PeerReport; 2],
    /// The rest; `None` if the header does not say where it is or the file ends before the slots begin.
    pub parts: Option<PartsReport>,
    /// Every field that looks wrong, the first thousand: version, shape and length first, then in the order of the segment.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub omitted: u64,
    /// How often the segment was looked at to be sure of the findings.
    pub looks: u32,
}

/// What stands behind the header.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartsReport {
    /// The shape by which the rest was read: what most places say that repeat it.
    pub config: ShmSessionConfig,
    /// The ring from A to B, and the one from B to A.
    pub rings: [RingReport; 2],
    /// The slots.
    pub slab: SlabReport,
}

/// What stands in a ring.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RingReport {
    /// Its header, as it stands.
    pub header: DescRingHeader,
    /// Head and tail, the tail read before the head.
    pub status: RingStatus,
}

/// What stands in the slab.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SlabReport {
    /// Its header, as it stands.
    pub header: DataSegmentHeader,
    /// Slots by what their metadata says. `free_list_len` counts those met in the lists that did not change meanwhile.
    pub status: SlotStatus,
    /// Slots in flight that a message in one of the rings names; whoever received the others still reads them.
    pub in_rings: u32,
    /// The lists of free slots.
    pub lists: [FreeListReport; 3],
}

impl SegmentReport {
    /// Looks at a segment. The file needs to be open for reading only; its position does not matter and stays.
    ///
    /// Takes as long as reading everything but the payloads; up to 170 milliseconds more if something looks wrong.
    ///
    /// # Errors
    /// [`InspectError`]: a file that is no segment, cannot be read, or is larger than is worth inspecting. A segment that is
    /// damaged is not an error: its damage is in [`findings`](Self::findings).
    pub fn read(file: &File) -> Result<Self, InspectError> {
        let mut report = Self::look(file)?;
        for pause in PAUSES {
            if !report.is_in_doubt() {
                break;
            }
            std::thread::sleep(pause);
            let earlier = std::mem::replace(&mut report, Self::look(file)?);
            report.confirm(&earlier);
        }
        Ok(report)
    }

    /// Whether another look may show that a finding was none.
    fn is_in_doubt(&self) -> bool {
        let may_run = self.peers.iter().any(PeerReport::may_run);
        let passes = |finding: &Finding| self.looks < 2 || (may_run && finding.kind == FindingKind::Unlisted);
        self.peers.iter().any(PeerReport::may_be_attached) && self.findings.iter().any(passes)
    }

    /// Keeps the findings that an earlier look had too.
    fn confirm(&mut self, earlier: &Self) {
        self.findings.retain(|finding| earlier.findings.iter().any(|before| before.is_about_the_same(finding)));
        self.omitted = self.omitted.min(earlier.omitted);
        self.looks += earlier.looks;
    }

    /// One look: of several quick ones, the first during which no list of free slots changed.
    fn look(file: &File) -> Result<Self, InspectError> {
        let mut last = Err(InspectError::NeverSettles { tries: TRIES });
        for _ in 0..TRIES {
            let mut findings = Findings::default();
            let snapshot = match Snapshot::take(file, &mut findings) {
                Ok(snapshot) => snapshot,
                Err(Stop::Cut) => continue,
                Err(Stop::Error(error)) => return Err(error),
            };
            let is_settled = snapshot.parts.as_ref().is_none_or(|parts| parts.is_settled());
            last = Ok(Self::of(snapshot, findings));
            if is_settled {
                break;
            }
        }
        last
    }

    fn of(snapshot: Snapshot, mut findings: Findings) -> Self {
        let Snapshot { len, header, parts } = snapshot;
        check::segment_header(&header, &mut findings);
        let parts = parts.map(|parts| check::parts(&parts, &mut findings));
        let (findings, omitted) = findings.into_parts();
        Self { len, header, peers: peers::of(&header), parts, findings, omitted, looks: 1 }
    }

    /// Whether this program's layout says how to read the rest.
    fn speaks_our_version(header: &SegmentHeader) -> bool {
        header.version >> 16 == PROTOCOL_VERSION >> 16
    }
}

/// What moves while it is read, held still. Seen to fail when: a list is judged although its head changed; messages are
/// judged that were received meanwhile; `confirm` keeps everything.
#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rapace_shm_core::layout::{MsgDescHot, SegmentOffsets, SlotMeta};

    use super::*;
    use crate::ShmSession;

    fn session() -> (ShmSession, File, SegmentOffsets) {
        let config = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };
        let session = ShmSession::create(config).unwrap();
        let file = File::from(session.memfd().unwrap().as_fd().try_clone_to_owned().unwrap());
        (session, file, SegmentOffsets::calculate(&config).unwrap())
    }

    fn report(file: &File, meanwhile: impl FnOnce(&mut snapshot::Parts)) -> SegmentReport {
        let mut findings = Findings::default();
        let mut snapshot = Snapshot::take(file, &mut findings).unwrap();
        snapshot.parts.as_mut().map(meanwhile).unwrap();
        SegmentReport::of(snapshot, findings)
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_not_judged() {
        let (_session, file, at) = session();
        file.write_all_at(&99_u32.to_ne_bytes(), at.slot_data as u64).unwrap();
        assert_eq!(report(&file, |_| {}).findings.len(), 1);
        let changed = report(&file, |parts| parts.heads_after[0] += 1 << 32);
        assert!(changed.findings.is_empty(), "{changed}");
        assert!(
            changed.to_string().contains("common free list        in motion, not judged, first 0, tag 0\n"),
            "{changed}"
        );
    }

    #[test]
    fn a_message_that_was_received_meanwhile_is_not_judged() {
        let (mut session, file, at) = session();
        session.split().0.send(&MsgDescHot::data(1), &[0; 64]).unwrap();
        // Freed and taken again by somebody else.
        file.write_all_at(&9_u32.to_ne_bytes(), at.slot_meta as u64).unwrap();
        assert_eq!(report(&file, |_| {}).findings.len(), 1);
        let received = report(&file, |parts| parts.rings[0].tail_after = 1);
        assert!(received.findings.is_empty(), "{received}");
    }

    #[test]
    fn a_finding_is_what_all_looks_saw() {
        let (_session, file, at) = session();
        let bad_state = |slot: usize| {
            let place = at.slot_meta + slot * size_of::<SlotMeta>() + std::mem::offset_of!(SlotMeta, state);
            file.write_all_at(&9_u32.to_ne_bytes(), place as u64).unwrap();
        };
        bad_state(2);
        let earlier = report(&file, |_| {});
        bad_state(3);
        let mut later = report(&file, |_| {});
        assert_eq!((earlier.findings.len(), later.findings.len()), (1, 2));
        later.confirm(&earlier);
        assert_eq!((later.findings, later.looks), (earlier.findings, 2));
    }
}
