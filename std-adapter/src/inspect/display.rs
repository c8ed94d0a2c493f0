//! The report as people read it: one fact per line, always in the same order, so that it can be compared and searched.

use std::fmt;

use rapace_shm_core::layout::{SegmentHeader, ShmSessionConfig};
use rapace_shm_core::slots::SlotStatus;

use super::words::{self, RINGS};
use super::{Finding, FreeListReport, PartsReport, PeerReport, ProcessState, RingReport, SegmentReport, SlabReport};

/// One line; the facts stand below each other.
pub(super) fn line(f: &mut fmt::Formatter<'_>, what: impl fmt::Display, fact: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{:<24}{fact}", what.to_string())
}

/// A word's value by its name.
pub(super) fn named(value: u32, name: fn(u32) -> Option<&'static str>) -> String {
    name(value).map_or_else(|| format!("? ({value})"), str::to_owned)
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        line(f, "file length", format_args!("{} bytes", self.len))?;
        line(f, "version", words::version(header.version))?;
        for peer in &self.peers {
            write!(f, "{peer}")?;
        }
        match &self.parts {
            Some(parts) => write!(f, "{}", InHeader { header, parts })?,
            None => line(f, "the rest", "cannot be found")?,
        }
        findings(f, &self.findings, self.omitted, self.looks)
    }
}

/// The end of every report, without a line break behind it.
pub(super) fn findings(f: &mut fmt::Formatter<'_>, findings: &[Finding], omitted: u64, looks: u32) -> fmt::Result {
    let count = findings.len() as u64 + omitted;
    let looks = if looks == 1 { "one look" } else { "several looks" };
    match count {
        0 => write!(f, "{:<24}none ({looks})", "findings"),
        _ => write!(f, "{:<24}{count} ({looks})", "findings"),
    }?;
    for finding in findings {
        write!(f, "\n! {finding}")?;
    }
    if omitted > 0 {
        write!(f, "\nand {omitted} more")?;
    }
    Ok(())
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSaid => "unknown",
            Self::Running => "running",
            Self::Gone => "gone",
            Self::OutOfSight => "out of sight",
        })
    }
}

impl fmt::Display for PeerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, state, epoch, last_seen, pid, pid_namespace, start, process } = *self;
        line(f, format_args!("peer {name}"), named(state, words::peer_state))?;
        if pid != 0 || pid_namespace != 0 || start != 0 {
            let fact =
                format_args!("{pid}, {process}; pid namespace {pid_namespace}, started {start} ticks after boot");
            line(f, format_args!("peer {name} process"), fact)?;
        }
        if epoch != 0 || last_seen != 0 {
            let fact = format_args!("number {epoch}, {last_seen} ns after 1970");
            line(f, format_args!("peer {name} heartbeat"), fact)?;
        }
        Ok(())
    }
}

/// The parts, with the sequence words that stand in the header.
struct InHeader<'a> {
    header: &'a SegmentHeader,
    parts: &'a PartsReport,
}

impl fmt::Display for InHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PartsReport { config, rings: [first, second], slab } = self.parts;
        let ShmSessionConfig { ring_capacity, slot_size, slot_count } = config;
        let shape = format_args!("{ring_capacity} descriptors per ring, {slot_count} slots of {slot_size} bytes");
        line(f, "shape", shape)?;
        let header = self.header;
        ring(f, 0, first, ["B for data", "A for space"], [header.a_to_b_data, header.a_to_b_space])?;
        ring(f, 1, second, ["A for data", "B for space"], [header.b_to_a_data, header.b_to_a_space])?;
        self::slab(f, slab)
    }
}

fn ring(
    f: &mut fmt::Formatter<'_>,
    index: usize,
    report: &RingReport,
    waiting: [&str; 2],
    sequences: [u32; 2],
) -> fmt::Result {
    ring_and_ends(f, RINGS[index], report)?;
    let sleepers = [report.header.data_sleeper, report.header.space_sleeper];
    for ((who, sleeper), sequence) in waiting.into_iter().zip(sleepers).zip(sequences) {
        waits(f, who, sleeper, sequence)?;
    }
    Ok(())
}

/// How full a ring is, and whether its ends are open.
pub(super) fn ring_and_ends(f: &mut fmt::Formatter<'_>, name: &str, report: &RingReport) -> fmt::Result {
    line(f, name, report.status)?;
    line(f, format_args!("{name} producer"), named(report.header.producer_state, words::end_state))?;
    line(f, format_args!("{name} consumer"), named(report.header.consumer_state, words::end_state))
}

pub(super) fn waits(f: &mut fmt::Formatter<'_>, who: &str, sleeper: u32, sequence: u32) -> fmt::Result {
    let fact = format_args!("{}; sequence {sequence}", named(sleeper, words::sleeper));
    line(f, format_args!("wait of {who}"), fact)
}

fn slab(f: &mut fmt::Formatter<'_>, slab: &SlabReport) -> fmt::Result {
    let SlabReport { header, status, in_rings, lists } = slab;
    let SlotStatus { free, allocated, in_flight, lent, unknown, .. } = status;
    line(f, "slots free", free)?;
    line(f, "slots allocated", allocated)?;
    let on_the_way = in_flight.saturating_add(*lent);
    line(f, "slots in flight", format_args!("{on_the_way}, of which {in_rings} in the rings"))?;
    line(f, "slots lent", format_args!("{lent} of those in flight, which their senders still read"))?;
    line(f, "slots in no known state", unknown)?;
    for list in lists {
        line(f, list.name, list)?;
    }
    waits(f, "A for a slot", header.slots_sleeper_a, header.slot_available)?;
    waits(f, "B for a slot", header.slots_sleeper_b, header.slot_available)
}

impl fmt::Display for FreeListReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len {
            Some(len) => write!(f, "{len} slots")?,
            None => write!(f, "in motion, not judged")?,
        }
        if let Some(first) = self.first {
            write!(f, ", first {first}")?;
        }
        write!(f, ", tag {}", self.tag)
    }
}
