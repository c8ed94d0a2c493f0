//! The bytes of a segment at about one moment, read with positioned reads. The order is what the checks lean on; the
//! module above has the picture.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rapace_shm_core::layout::{
    At, DataSegmentHeader, DescRingHeader, MAGIC, MsgDescHot, RING_HEADER_SIZE, SegmentHeader, SegmentOffsets,
    ShmSessionConfig, SlotMeta, SlotState,
};
use rapace_shm_core::ring::RingStatus;
use zerocopy::{FromBytes, IntoBytes};

use super::finding::{FindingKind, Findings};
use super::{InspectError, MAX_BOOKKEEPING, SegmentReport, shape};

/// How a hub's segment starts.
const HUB_MAGIC: [u8; 8] = *b"RAPAHUB\0";

/// Why a snapshot was not finished.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file became shorter than it was a moment ago.
    Cut,
    /// It makes no sense to try again.
    Error(InspectError),
}

impl From<InspectError> for Stop {
    fn from(error: InspectError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Error(InspectError::Io(error)),
        }
    }
}

/// A file, and how long it was when the snapshot began.
pub(super) struct Source<'a> {
    file: &'a File,
    pub(super) len: u64,
}

impl<'a> Source<'a> {
    fn new(file: &'a File) -> Result<Self, Stop> {
        let metadata = file.metadata().map_err(InspectError::Io)?;
        if !metadata.is_file() {
            return Err(InspectError::NotAFile.into());
        }
        Ok(Self { file, len: metadata.len() })
    }

    /// Whether the file has this many bytes.
    fn reaches(&self, end: usize) -> bool {
        end as u64 <= self.len
    }

    /// What stands at `at` bytes; `None` if the file ends before.
    pub(super) fn read<T: FromBytes + IntoBytes>(&self, at: usize) -> Result<Option<T>, Stop> {
        if !at.checked_add(size_of::<T>()).is_some_and(|end| self.reaches(end)) {
            return Ok(None);
        }
        let mut value = T::new_zeroed();
        self.file.read_exact_at(value.as_mut_bytes(), at as u64)?;
        Ok(Some(value))
    }

    /// What stands at `at` bytes, within what the file has.
    fn read_sure<T: FromBytes + IntoBytes>(&self, at: usize) -> Result<T, Stop> {
        self.read(at)?.ok_or(Stop::Cut)
    }

    /// Appends `count` things that start at `at` bytes, within what the file has.
    fn append<T: FromBytes + IntoBytes + Clone>(&self, into: &mut Vec<T>, at: usize, count: usize) -> Result<(), Stop> {
        let before = into.len();
        into.resize(before + count, T::new_zeroed());
        self.file.read_exact_at(into.split_at_mut(before).1.as_mut_bytes(), at as u64)?;
        Ok(())
    }

    /// The shared word behind a field of the structure at `base` bytes, within what the file has.
    fn word(&self, field: At<u64>, base: usize) -> Result<u64, Stop> {
        self.read_sure(field.within(base).offset())
    }
}

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
        check_magic(&source, &header, shape.as_ref(), findings)?;
        if !speaks_our_version {
            findings.add(FindingKind::Version, "header version", version(header.version), "1.x");
        }
        findings.append(of_shape);
        let Some((config, offsets)) = shape else { return Ok(Self { len: source.len, header, parts: None }) };
        check_length(source.len, &offsets, findings);
        let parts = if source.reaches(offsets.slot_data) { Some(Parts::read(&source, config, offsets)?) } else { None };
        Ok(Self { len: source.len, header, parts })
    }
}

fn version(word: u32) -> String {
    format!("{}.{}", word >> 16, word & 0xFFFF)
}

/// A wrong magic is a finding only if everything else says "segment".
fn check_magic(
    source: &Source<'_>,
    header: &SegmentHeader,
    shape: Option<&(ShmSessionConfig, SegmentOffsets)>,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let seen = header.magic;
    if seen == MAGIC {
        return Ok(());
    }
    if shape.is_none_or(|(_, offsets)| offsets.end as u64 != source.len) {
        return Err(InspectError::NotASegment { seen }.into());
    }
    findings.add(FindingKind::Magic, "header magic", format!("{seen:02x?}"), format!("{MAGIC:02x?}"));
    Ok(())
}

fn check_length(len: u64, offsets: &SegmentOffsets, findings: &mut Findings) {
    let kind = match len.cmp(&(offsets.end as u64)) {
        std::cmp::Ordering::Less => FindingKind::FileTooShort,
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Greater => FindingKind::FileTooLong,
    };
    findings.add(kind, "file length", format!("{len} bytes"), format!("{} bytes, by the shape", offsets.end));
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

/// A ring, and the messages in it.
pub(super) struct RingPart {
    pub(super) header: DescRingHeader,
    pub(super) status: RingStatus,
    /// From the one at `status.tail` on; none if head and tail contradict each other.
    pub(super) messages: Vec<MsgDescHot>,
    /// The tail after the metadata was read: what is before it may have been received meanwhile.
    pub(super) tail_after: u64,
}

impl Parts {
    fn read(source: &Source<'_>, config: ShmSessionConfig, offsets: SegmentOffsets) -> Result<Self, Stop> {
        if offsets.slot_data > MAX_BOOKKEEPING {
            return Err(InspectError::TooLarge { bytes: offsets.slot_data, limit: MAX_BOOKKEEPING }.into());
        }
        let places = [offsets.a_to_b_ring, offsets.b_to_a_ring];
        let [first, second] = places;
        let mut rings = [RingPart::read(source, first, &config)?, RingPart::read(source, second, &config)?];
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

    /// Whether this list did not change while the snapshot was taken. (A tag grows with every change.)
    pub(super) fn is_list_settled(&self, list: usize) -> bool {
        self.heads.get(list) == self.heads_after.get(list)
    }

    /// Whether no list did.
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

impl RingPart {
    fn read(source: &Source<'_>, at: usize, config: &ShmSessionConfig) -> Result<Self, Stop> {
        // Tail first: it never overtakes a head that is read later.
        let tail = source.word(DescRingHeader::TAIL, at)?;
        let header: DescRingHeader = source.read_sure(at)?;
        let status = RingStatus { visible_head: header.visible_head, tail, capacity: config.ring_capacity };
        let messages = messages(source, at + RING_HEADER_SIZE, &status)?;
        Ok(Self { header, status, messages, tail_after: tail })
    }
}

/// The descriptors from tail to head: up to the end of the ring, and from its start.
fn messages(source: &Source<'_>, at: usize, status: &RingStatus) -> Result<Vec<MsgDescHot>, Stop> {
    let capacity = status.capacity as usize;
    let count = usize::try_from(status.len()).ok().filter(|count| *count <= capacity).unwrap_or(0);
    // Less than the capacity, a u32.
    let start = usize::try_from(status.tail & (u64::from(status.capacity) - 1)).unwrap_or(0);
    let before_the_end = count.min(capacity - start);
    let mut messages = Vec::new();
    source.append(&mut messages, at + start * size_of::<MsgDescHot>(), before_the_end)?;
    source.append(&mut messages, at, count - before_the_end)?;
    Ok(messages)
}
