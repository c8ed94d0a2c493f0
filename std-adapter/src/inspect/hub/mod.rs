//! What the bytes of a hub say: a session's checks over a hub's parts, and who owns which slot.
//!
//! Read in the same order as a session ([the module above](super) has the picture), with the peer table before everything
//! else and once more after it: what a member announced is in its hands, and a member that came or went meanwhile
//! is no finding.

mod check;
mod display;
mod growth;
mod shape;
mod slots;
mod snapshot;

use std::fs::File;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::SizeClassStatus;
use rapace_shm_core::layout::{
    ExtentHeader, HUB_GROWABLE_VERSION, HubConfig, HubHeader, NUM_SIZE_CLASSES, PEER_FLAG_ACTIVE, PEER_FLAG_DEAD,
    PEER_FLAG_RESERVED, PeerEntry, PeerState, SizeClassHeader,
};

use super::finding::{Finding, Findings};
use super::lists::FreeListReport;
use super::looks::{self, Look, Verdict};
use super::peers::ProcessState;
use super::source::Stop;
use super::{InspectError, RingReport};

use snapshot::Snapshot;

/// What the bytes of a hub say. Plain data; nothing in it is checked except where [`findings`](Self::findings) says that
/// something looks wrong. Its `Display` is for people: one fact per line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubReport {
    /// Length of the file in bytes.
    pub len: u64,
    /// The header, as it stands.
    pub header: HubHeader,
    /// The rest; `None` if the header does not say where it is or the file ends before it does.
    pub parts: Option<HubPartsReport>,
    /// Every field that looks wrong, the first thousand: version, shape and length first, then in the order of the hub.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub omitted: u64,
    /// How often the hub was looked at to be sure of the findings.
    pub looks: u32,
}

/// What stands behind the header.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubPartsReport {
    /// The shape by which the rest was read: what most places say that repeat it.
    pub config: HubConfig,
    /// The host (member 0), and each place for a plugin, by number.
    pub members: Vec<MemberReport>,
    /// The size classes, the smallest first.
    pub classes: [ClassReport; NUM_SIZE_CLASSES],
}

/// What a hub says of a member, be there one or not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its number.
    pub id: PeerId,
    /// Its entry, as it stands. Of the host's own only the last words are used.
    pub entry: PeerEntry,
    /// The ring from it to the host. (Member 0 has one only beside a version 1.0 host.)
    pub to_host: RingReport,
    /// The ring from the host to it.
    pub to_peer: RingReport,
    /// Slots in use that it must free, of each size class.
    pub owned: [u32; NUM_SIZE_CLASSES],
    /// Its process id, 0 = not said: only in a hub at a path do members say which process they are.
    pub pid: u32,
    /// Whether that process runs.
    pub process: ProcessState,
}

/// What stands in a size class.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClassReport {
    /// Its header, as it stands.
    pub header: SizeClassHeader,
    /// The headers of its extents, as they stand: of as many as it has.
    pub extents: Vec<ExtentHeader>,
    /// Slots by what their metadata says. `free_list_len` is 0 if the list changed meanwhile.
    pub status: SizeClassStatus,
    /// Slots in flight that a message in one of the rings names; whoever received the others still reads them.
    pub in_rings: u32,
    /// The list of free slots.
    pub list: FreeListReport,
}

impl HubReport {
    /// Looks at a hub. The file needs to be open for reading only; its position does not matter and stays.
    ///
    /// Takes as long as reading everything but the payloads; up to 170 milliseconds more if something looks wrong.
    ///
    /// # Errors
    /// [`InspectError`]: a file that is no hub, cannot be read, or is larger than is worth inspecting. A hub that is
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
        check::header(&header, &mut findings);
        let parts = parts.map(|parts| check::parts(&header, &parts, &mut findings));
        let (findings, omitted) = findings.into_parts();
        Self { len, header, parts, findings, omitted, looks: 1 }
    }

    /// Whether a host of version 1.0 made it, or one that has not finished.
    #[must_use]
    pub const fn has_old_host(&self) -> bool {
        is_old_host(&self.header)
    }
}

const fn is_old_host(header: &HubHeader) -> bool {
    header.host_state == PeerState::Unknown as u32
}

/// Whether it is of the version of those that may grow.
const fn may_grow(header: &HubHeader) -> bool {
    header.version >> 16 == HUB_GROWABLE_VERSION >> 16
}

impl MemberReport {
    /// Whether the host has given this number to a plugin, and not taken it back.
    #[must_use]
    pub const fn is_in_use(&self) -> bool {
        is_in_use(&self.entry)
    }
}

const fn is_in_use(entry: &PeerEntry) -> bool {
    entry.flags & (PEER_FLAG_ACTIVE | PEER_FLAG_RESERVED) != 0 && entry.flags & PEER_FLAG_DEAD == 0
}

impl Look for HubReport {
    fn quick(file: &File, mut findings: Findings) -> Result<(Self, bool), Stop> {
        let snapshot = Snapshot::take(file, &mut findings)?;
        let is_settled = snapshot.parts.as_ref().is_none_or(|parts| parts.is_settled());
        Ok((Self::of(snapshot, findings), is_settled))
    }

    fn verdict(&mut self) -> Verdict<'_> {
        Verdict { findings: &mut self.findings, omitted: &mut self.omitted, looks: &mut self.looks }
    }

    fn may_be_attached(&self) -> bool {
        self.is_anybody(|_| true)
    }

    /// Members of a hub on a memfd do not say which processes they are; one that was killed may as well run.
    fn may_run(&self) -> bool {
        self.is_anybody(|process| process != ProcessState::Gone)
    }
}

impl HubReport {
    /// Whether there is the host or a plugin that has not left and has such a process.
    fn is_anybody(&self, is_such: impl Fn(ProcessState) -> bool) -> bool {
        let members = || self.parts.iter().flat_map(|parts| &parts.members);
        let host = members().next().map_or(ProcessState::NotSaid, |host| host.process);
        let is_such_plugin = |member: &MemberReport| {
            member.is_in_use() && member.entry.state != PeerState::Left as u32 && is_such(member.process)
        };
        (self.header.host_state != PeerState::Left as u32 && is_such(host)) || members().any(is_such_plugin)
    }
}

/// What moves while it is read, held still. Seen to fail when: a list is judged although its head changed; an owner is
/// looked for in only one of the two readings of the peer table; announcements are those of the first reading alone.
#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rapace_shm_core::hub::Waits;
    use rapace_shm_core::layout::{HubOffsets, HubSlotMeta, SizeClass};

    use super::super::finding::FindingKind;
    use super::check::reference;
    use super::snapshot::Parts;
    use super::*;
    use crate::{HubHost, MsgDescHot};

    fn config() -> HubConfig {
        let classes = [6, 7, 8, 9, 10].map(|log| SizeClass { slot_size: 1 << log, slot_count: 4 });
        HubConfig { max_peers: 2, ring_capacity: 4, classes, max_extents: 1 }
    }

    fn hub() -> (HubHost, File, HubOffsets) {
        let host = HubHost::create(config()).unwrap();
        let file = File::from(host.memfd().unwrap().try_clone_to_owned().unwrap());
        (host, file, HubOffsets::calculate(&config()).unwrap())
    }

    fn report(file: &File, meanwhile: impl FnOnce(&mut Parts)) -> HubReport {
        let mut findings = Findings::default();
        let mut snapshot = Snapshot::take(file, &mut findings).unwrap();
        snapshot.parts.as_mut().map(meanwhile).unwrap();
        HubReport::of(snapshot, findings)
    }

    fn kinds(report: &HubReport) -> Vec<FindingKind> {
        report.findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_not_judged() {
        let (_host, file, at) = hub();
        let link = HubSlotMeta::NEXT_FREE.within(at.extents[0] + size_of::<ExtentHeader>()).offset();
        file.write_all_at(&99_u32.to_ne_bytes(), link as u64).unwrap();
        assert_eq!(kinds(&report(&file, |_| {})), [FindingKind::FreeLink]);
        let changed = report(&file, |parts| parts.classes[0].head_after += 1 << 32);
        assert!(changed.findings.is_empty(), "{changed}");
        assert!(changed.to_string().contains("class 0 free list       in motion, not judged, first 0, tag 1\n"));
    }

    #[test]
    fn who_came_or_went_meanwhile_may_have_slots() {
        let (mut host, file, _) = hub();
        let mut plugin = host.add_local(Waits::Together).unwrap();
        plugin.split().0.send(&MsgDescHot::data(0), &[1; 40]).unwrap();
        let vacate = |entry: &mut PeerEntry| (entry.flags, entry.state) = (PEER_FLAG_DEAD, 0);
        let came = report(&file, |parts| vacate(&mut parts.entries[1]));
        let went = report(&file, |parts| vacate(&mut parts.entries_after[1]));
        let never = report(&file, |parts| {
            vacate(&mut parts.entries[1]);
            vacate(&mut parts.entries_after[1]);
        });
        for (report, expected) in [(came, 0), (went, 0), (never, 1)] {
            let removed = kinds(&report).into_iter().filter(|kind| *kind == FindingKind::OwnerRemoved).count();
            assert_eq!(removed, expected, "{report}");
        }
    }

    #[test]
    fn a_slot_that_was_announced_before_or_after_was_in_somebodys_hands() {
        let (_host, file, _) = hub();
        let lose = |parts: &mut Parts| {
            let class = &mut parts.classes[2];
            class.header.free_head += 1;
            class.head_after += 1;
        };
        assert_eq!(kinds(&report(&file, lose)), [FindingKind::Unlisted]);
        for is_before in [true, false] {
            let report = report(&file, |parts| {
                lose(parts);
                let entries = if is_before { &mut parts.entries } else { &mut parts.entries_after };
                entries[0].announced[1] = reference(2, 0) + 1;
            });
            assert!(report.findings.is_empty(), "{report}");
        }
    }
}
