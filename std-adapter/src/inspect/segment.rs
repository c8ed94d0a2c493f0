//! What the bytes of a session say.

use std::fs::File;

use rapace_shm_core::layout::{DataSegmentHeader, DescRingHeader, PROTOCOL_VERSION, SegmentHeader, ShmSessionConfig};
use rapace_shm_core::ring::RingStatus;
use rapace_shm_core::slots::SlotStatus;

use super::finding::{Finding, Findings};
use super::lists::FreeListReport;
use super::looks::{self, Look, Verdict};
use super::peers::{self, PeerReport};
use super::snapshot::Snapshot;
use super::source::Stop;
use super::{InspectError, check};

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
    /// [`InspectError`]: a file that is no session, cannot be read, or is larger than is worth inspecting. A segment that is
    /// damaged is not an error: its damage is in [`findings`](Self::findings).
    pub fn read(file: &File) -> Result<Self, InspectError> {
        looks::several(file)
    }

    /// Looks once: while anybody is attached, a finding may be a word that was read while it was written.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn glance(file: &File) -> Result<Self, InspectError> {
        looks::once(file)
    }

    fn of(snapshot: Snapshot, mut findings: Findings) -> Self {
        let Snapshot { len, header, parts } = snapshot;
        check::segment_header(&header, &mut findings);
        let parts = parts.map(|parts| check::parts(&parts, &mut findings));
        let (findings, omitted) = findings.into_parts();
        Self { len, header, peers: peers::of(&header), parts, findings, omitted, looks: 1 }
    }

    /// Whether this program's layout says how to read the rest.
    pub(super) fn speaks_our_version(header: &SegmentHeader) -> bool {
        header.version >> 16 == PROTOCOL_VERSION >> 16
    }
}

impl Look for SegmentReport {
    fn quick(file: &File, mut findings: Findings) -> Result<(Self, bool), Stop> {
        let snapshot = Snapshot::take(file, &mut findings)?;
        let is_settled = snapshot.parts.as_ref().is_none_or(|parts| parts.is_settled());
        Ok((Self::of(snapshot, findings), is_settled))
    }

    fn verdict(&mut self) -> Verdict<'_> {
        Verdict { findings: &mut self.findings, omitted: &mut self.omitted, looks: &mut self.looks }
    }

    fn may_be_attached(&self) -> bool {
        self.peers.iter().any(PeerReport::may_be_attached)
    }

    fn may_run(&self) -> bool {
        self.peers.iter().any(PeerReport::may_run)
    }
}

/// What moves while it is read, held still. Seen to fail when: a list is judged although its head changed; messages are
/// judged that were received meanwhile; `confirm` keeps everything.
#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use rapace_shm_core::layout::{MsgDescHot, SegmentOffsets, SlotMeta};

    use super::super::snapshot;
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
        looks::confirm(&mut later, earlier.clone());
        assert_eq!((later.findings, later.looks), (earlier.findings, 2));
    }
}
