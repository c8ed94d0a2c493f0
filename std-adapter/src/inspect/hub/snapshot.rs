//! The bytes of a hub at about one moment, but for its payloads.

use std::fs::File;

use rapace_shm_core::layout::{
    DescRingHeader, ExtentHeader, HUB_GROWABLE_VERSION, HUB_MAGIC, HUB_OWN_CLASSES_VERSION, HUB_PROTOCOL_VERSION,
    HubConfig, HubHeader, HubOffsets, HubSlotMeta, MAGIC, PeerEntry, SizeClass, SizeClassHeader,
};

use super::super::finding::{FindingKind, Findings};
use super::super::rings::RingPart;
use super::super::source::{Source, Stop};
use super::super::{InspectError, check, words};
use super::growth::{self, Extents};
use super::shape;

/// One snapshot.
pub(super) struct Snapshot {
    pub(super) len: u64,
    pub(super) header: HubHeader,
    pub(super) parts: Option<Parts>,
}

/// Everything behind the header but the payloads.
pub(super) struct Parts {
    pub(super) config: HubConfig,
    pub(super) offsets: HubOffsets,
    pub(super) extents: Extents,
    /// The peer table before everything else was read, and after it.
    pub(super) entries: Vec<PeerEntry>,
    pub(super) entries_after: Vec<PeerEntry>,
    /// The ring to the host and the one from it, of each entry.
    pub(super) rings: Vec<[RingPart; 2]>,
    pub(super) classes: Vec<ClassPart>,
}

/// One size class.
pub(super) struct ClassPart {
    pub(super) shape: SizeClass,
    /// Its list's head in here is from before the metadata was read.
    pub(super) header: SizeClassHeader,
    /// Of its extents, as far as the file has them.
    pub(super) extents: Vec<ExtentHeader>,
    /// Of all of them, one after the other; with the links of the list.
    pub(super) meta: Vec<HubSlotMeta>,
    /// Its list's head after the metadata was read.
    pub(super) head_after: u64,
    /// The first slot that nobody has ever taken, after the metadata was read.
    pub(super) fresh_after: u32,
}

/// Whether this program knows where everything is in a hub of this version.
fn is_known(version: u32) -> bool {
    [HUB_PROTOCOL_VERSION, HUB_OWN_CLASSES_VERSION, HUB_GROWABLE_VERSION]
        .iter()
        .any(|known| known >> 16 == version >> 16)
}

impl Snapshot {
    /// Reads all there is to read. Adds what is found out about magic, version, shape and length.
    pub(super) fn take(file: &File, findings: &mut Findings) -> Result<Self, Stop> {
        let source = Source::new(file)?;
        let Some(header) = source.read::<HubHeader>(0)? else {
            return Err(InspectError::TooShort { len: source.len, required: size_of::<HubHeader>() }.into());
        };
        if header.magic == MAGIC {
            return Err(InspectError::Session.into());
        }
        let mut of_shape = Findings::default();
        let is_known = is_known(header.version);
        let shape = if is_known { shape::find(&source, &header, &mut of_shape)? } else { None };
        // As long as one that has grown may be, or as one that has not.
        let end = shape.as_ref().map(|(_, HubOffsets { end, reach, .. })| {
            usize::try_from(source.len).map_or(*end, |len| len.clamp(*end, *reach))
        });
        check::magic(source.len, (header.magic, HUB_MAGIC), end, findings)?;
        if !is_known {
            findings.add(FindingKind::Version, "header version", words::version(header.version), "1.x, 2.x or 3.x");
        }
        findings.append(of_shape);
        let Some((config, offsets)) = shape else { return Ok(Self { len: source.len, header, parts: None }) };
        let parts = Parts::read(&source, config, offsets)?;
        match &parts {
            Some(parts) => growth::length(source.len, parts, findings),
            None => check::length(source.len, offsets.end, findings),
        }
        Ok(Self { len: source.len, header, parts })
    }
}

impl Parts {
    /// `None` if the file ends before the metadata of the last class does.
    fn read(source: &Source<'_>, config: HubConfig, offsets: HubOffsets) -> Result<Option<Self>, Stop> {
        let [first_extent, ..] = offsets.extents;
        check::bookkeeping(first_extent)?;
        let [.., last] = config.classes;
        let [.., last_extent] = offsets.extents;
        if !source.reaches(meta_of(last_extent).saturating_add(last.slot_count as usize * size_of::<HubSlotMeta>())) {
            return Ok(None);
        }
        let entries = entries(source, &config, &offsets)?;
        let mut rings = rings(source, &config, &offsets)?;
        let (extents, classes) = classes(source, &config, &offsets)?;
        for (ring, number) in rings.iter_mut().flatten().zip(0..) {
            ring.tail_after = source.word(DescRingHeader::TAIL, ring_at(&offsets, number))?;
        }
        let entries_after = self::entries(source, &config, &offsets)?;
        Ok(Some(Self { config, offsets, extents, entries, entries_after, rings, classes }))
    }

    /// Whether no list of free slots changed meanwhile.
    pub(super) fn is_settled(&self) -> bool {
        self.classes.iter().all(|class| class.header.free_head == class.head_after)
    }
}

/// Where a ring is: those of entry 0 come first, the one to the host before the one from it.
pub(super) const fn ring_at(offsets: &HubOffsets, number: usize) -> usize {
    offsets.rings + number * offsets.ring_size
}

pub(super) const fn meta_of(extent: usize) -> usize {
    extent + size_of::<ExtentHeader>()
}

fn entries(source: &Source<'_>, config: &HubConfig, offsets: &HubOffsets) -> Result<Vec<PeerEntry>, Stop> {
    let mut entries = Vec::new();
    source.append(&mut entries, offsets.peer_table, usize::from(config.max_peers))?;
    Ok(entries)
}

fn rings(source: &Source<'_>, config: &HubConfig, offsets: &HubOffsets) -> Result<Vec<[RingPart; 2]>, Stop> {
    let ring = |number| RingPart::read(source, ring_at(offsets, number), config.ring_capacity);
    (0..usize::from(config.max_peers)).map(|peer| Ok([ring(2 * peer)?, ring(2 * peer + 1)?])).collect()
}

/// First the heads of all lists, then the metadata of all classes, then the heads once more.
fn classes(source: &Source<'_>, config: &HubConfig, offsets: &HubOffsets) -> Result<(Extents, Vec<ClassPart>), Stop> {
    let header_at = |number: usize| offsets.size_classes + number * size_of::<SizeClassHeader>();
    let mut classes = Vec::new();
    for (number, shape) in config.classes.into_iter().enumerate() {
        let header = source.read_sure(header_at(number))?;
        let (extents, meta) = (Vec::new(), Vec::new());
        classes.push(ClassPart { shape, header, extents, meta, head_after: 0, fresh_after: 0 });
    }
    let extents = Extents::read(source, config)?;
    let [first_extent, ..] = offsets.extents;
    check::bookkeeping(first_extent.saturating_add(extents.metadata(config)))?;
    for (number, class) in classes.iter_mut().enumerate() {
        for extent in extents.places(source, number, class.shape.slot_count, offsets) {
            class.extents.push(source.read_sure(extent)?);
            source.append(&mut class.meta, meta_of(extent), class.shape.slot_count as usize)?;
        }
    }
    for (number, class) in classes.iter_mut().enumerate() {
        let after: SizeClassHeader = source.read_sure(header_at(number))?;
        (class.head_after, class.fresh_after) = (after.free_head, after.fresh);
    }
    Ok((extents, classes))
}
