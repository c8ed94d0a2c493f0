//! The rings: how many messages are in each, which, and whether their headers make sense.

use rapace_shm_core::layout::{DescRingHeader, MsgDescHot, RING_HEADER_SIZE};
use rapace_shm_core::ring::RingStatus;

use super::finding::{FindingKind, Findings};
use super::source::{Source, Stop};
use super::{RingReport, check, words};

/// A ring, and the messages in it.
pub(super) struct RingPart {
    pub(super) header: DescRingHeader,
    pub(super) status: RingStatus,
    /// From the one at `status.tail` on; none if head and tail contradict each other.
    pub(super) messages: Vec<MsgDescHot>,
    /// The tail after the metadata was read: what is before it may have been received meanwhile.
    pub(super) tail_after: u64,
}

impl RingPart {
    pub(super) const fn report(&self) -> RingReport {
        RingReport { header: self.header, status: self.status }
    }

    pub(super) fn read(source: &Source<'_>, at: usize, capacity: u32) -> Result<Self, Stop> {
        // Tail first: it never overtakes a head that is read later.
        let tail = source.word(DescRingHeader::TAIL, at)?;
        let header: DescRingHeader = source.read_sure(at)?;
        let status = RingStatus { visible_head: header.visible_head, tail, capacity };
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

/// What a ring's header has in a session and in a hub alike.
pub(super) fn check_header(name: &str, ring: &RingPart, findings: &mut Findings) {
    let header = &ring.header;
    indices(name, ring, findings);
    check::zero(findings, format_args!("{name} padding at 8"), &header.pad_head);
    check::zero(findings, format_args!("{name} padding at 80"), &header.pad_tail);
    for (what, value) in [("data sleeper", header.data_sleeper), ("space sleeper", header.space_sleeper)] {
        check::named(findings, FindingKind::Sleeper, format_args!("{name} {what}"), value, words::sleeper);
    }
    for (what, value) in [("producer state", header.producer_state), ("consumer state", header.consumer_state)] {
        check::named(findings, FindingKind::EndState, format_args!("{name} {what}"), value, words::end_state);
    }
}

fn indices(name: &str, ring: &RingPart, findings: &mut Findings) {
    let status = &ring.status;
    if status.len() > u64::from(status.capacity) {
        let seen = format!("head {}, tail {}", status.visible_head, status.tail);
        let expected = format!("head from tail to tail + {}", status.capacity);
        findings.add(FindingKind::RingIndices, format_args!("{name} head and tail"), seen, expected);
    }
}
