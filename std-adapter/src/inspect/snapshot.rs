//! The bytes of a segment at about one moment, read with positioned reads. The order is what the checks lean on; the
//! module above has the picture.

use std::fs::File;

use rapace_shm_core::layout::{
    DataSegmentHeader, DescRingHeader, HUB_MAGIC, MAGIC, SegmentHeader, SegmentOffsets, ShmSessionConfig, SlotMeta,
    SlotState,
};

use super::finding::{FindingKind, Findings};
use super::rings::RingPart;
use super::source::{Source, Stop};
use super::{InspectError, SegmentReport, check, shape, words};

/// One snapshot.
pub(super) struct Snapshot {
    pub(super) len: u64,
    pub(super) header: SegmentHeader,
    pub(super) parts: Option<Parts>,
}

impl Snapshot {
    /// Reads all there is to read. Adds what is found out about magic, version, shape and length.
    pub(super) fn take(file: &File, findings: &mut Findings) -> Result<Self, Stop> {
        let source = Source::new(file)?;
        let Some(header) = source.read::<SegmentHeader>(0)? else {
            return Err(InspectError::TooShort { len: source.len, required: size_of::<SegmentHeader>() }.into());
        };
        if header.magic == HUB_MAGIC {
            return Err(InspectError::Hub.into());
        }
        let speaks_our_version = SegmentReport::speaks_our_version(&header);
        let mut of_shape = Findings::default();
        let shape = if speaks_our_version { shape::find(&source, &header, &mut of_shape)? } else { None };
        check::magic(source.len, (header.magic, MAGIC), shape.as_ref().map(|(_, offsets)| offsets.end), findings)?;
        if !speaks_our_version {
            findings.add(FindingKind::Version, "header version", words::version(header.version), "1.x");
        }
        findings.append(of_shape);
        let Some((config, offsets)) = shape else { return Ok(Self { len: source.len, header, parts: None }) };
        check::length(source.len, offsets.end, findings);
        let parts = if source.reaches(offsets.slot_data) { Some(Parts::read(&source, config, offsets)?) } else { None };
        Ok(Self { len: source.len, header, parts })
    }
}

/// Everything behind the header but the payloads.
pub(super) struct Parts {
    pub(super) config: ShmSessionConfig,
    pub(super) rings: [RingPart; 2],
    pub(super) data: DataSegmentHeader,
    pub(super) meta: Vec<SlotMeta>,
    /// The link of each slot that may be free; `None` for the others, whose first bytes are payload, and behind the
    /// file's end.
    pub(super) links: Vec<Option<u32>>,
    /// The heads of the lists before the metadata was read, and after the links.
    pub(super) heads: [u64; 3],
    pub(super) heads_after: [u64; 3],
}

impl Parts {
    fn read(source: &Source<'_>, config: ShmSessionConfig, offsets: SegmentOffsets) -> Result<Self, Stop> {
        check::bookkeeping(offsets.slot_data)?;
        let places = [offsets.a_to_b_ring, offsets.b_to_a_ring];
        let [first, second] = places;
        let ring = |at| RingPart::read(source, at, config.ring_capacity);
        let mut rings = [ring(first)?, ring(second)?];
        let heads = heads(source, &offsets)?;
        let data = source.read_sure(offsets.data_header)?;
        let mut meta = Vec::new();
        source.append(&mut meta, offsets.slot_meta, config.slot_count as usize)?;
        let links = links(source, &config, &offsets, &meta)?;
        let heads_after = self::heads(source, &offsets)?;
        for (ring, at) in rings.iter_mut().zip(places) {
            ring.tail_after = source.word(DescRingHeader::TAIL, at)?;
        }
        Ok(Self { config, rings, data, meta, links, heads, heads_after })
    }

    /// Whether no list changed while the snapshot was taken. (A tag grows with every change.)
    pub(super) fn is_settled(&self) -> bool {
        self.heads == self.heads_after
    }
}

/// The heads of the lists, in the order of [`FreeListName::ALL`](super::FreeListName::ALL). Each peer returns slots beside
/// the tail of the ring that it reads.
fn heads(source: &Source<'_>, offsets: &SegmentOffsets) -> Result<[u64; 3], Stop> {
    Ok([
        source.word(DataSegmentHeader::FREE_HEAD, offsets.data_header)?,
        source.word(DescRingHeader::RETURNED, offsets.b_to_a_ring)?,
        source.word(DescRingHeader::RETURNED, offsets.a_to_b_ring)?,
    ])
}

fn links(
    source: &Source<'_>,
    config: &ShmSessionConfig,
    offsets: &SegmentOffsets,
    meta: &[SlotMeta],
) -> Result<Vec<Option<u32>>, Stop> {
    let link = |(slot, meta): (usize, &SlotMeta)| match SlotState::from_u32(meta.state) {
        Some(SlotState::Free) | None => source.read(offsets.slot_data + slot * config.slot_size as usize),
        Some(SlotState::Allocated | SlotState::InFlight | SlotState::Lent) => Ok(None),
    };
    meta.iter().enumerate().map(link).collect()
}
