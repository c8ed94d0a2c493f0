//! What there is to show: a report and the rates since the one before, as rows of text and numbers. Nothing here draws.

use std::time::Duration;

use rapace_shm::core::layout::{HubHeader, NUM_SIZE_CLASSES};
use rapace_shm::core::wake;
use rapace_shm::inspect::{
    ClassReport, HubPartsReport, HubReport, MemberReport, PartsReport, PeerReport, ProcessState, Report, RingReport,
    SegmentReport, peer_state_name,
};

use super::rates::{self, Rate, Sample};
use super::units::{Size, ago};

/// All that is shown of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What it is, its version and shape.
    pub what: String,
    pub peers: Vec<PeerRow>,
    pub rings: Vec<RingRow>,
    pub slots: Vec<SlotRow>,
    /// Fields that look wrong in this look and in the one before.
    pub findings: usize,
}

/// A peer of a session or a member of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    pub name: String,
    pub state: String,
    pub process: String,
    /// Only a version 1.0 peer says when it was there.
    pub last_seen: String,
    /// Slots that it must free.
    pub owns: String,
}

/// A ring.
#[derive(Clone, Debug, PartialEq)]
pub struct RingRow {
    pub name: String,
    pub depth: u64,
    pub capacity: u64,
    pub rate: Option<Rate>,
    pub producer: &'static str,
    pub consumer: &'static str,
}

/// The slots of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    pub size: Size,
    pub total: u32,
    pub free: u32,
    pub allocated: u32,
    pub in_flight: u32,
    /// Of those in flight.
    pub in_rings: u32,
}

const NOTHING: &str = "-";

/// The reports of a segment, one after the other.
#[derive(Debug, Default)]
pub struct History {
    before: Option<(Report, Sample)>,
}

impl History {
    /// Adds a report and says what there is to show of it. `now` is how long 1970 is ago by the wall clock, against which
    /// version 1.0 peers say when they were there.
    pub fn next(&mut self, report: Report, sample: Sample, now: Duration) -> View {
        let before = self.before.as_ref();
        let rate = |ring: &str| before.and_then(|(_, earlier)| sample.rate_since(earlier, ring));
        let is_confirmed = |(earlier, _): &(Report, Sample)| {
            let seen = |finding| earlier.findings().iter().any(|before| before.is_about_the_same(finding));
            report.findings().iter().filter(|finding| seen(finding)).count()
        };
        let findings = before.map_or(0, is_confirmed);
        let view = match &report {
            Report::Session(report) => session(report, rate, now, findings),
            Report::Hub(report) => hub(report, rate, now, findings),
        };
        self.before = Some((report, sample));
        view
    }
}

fn version(kind: &str, version: u32) -> String {
    format!("{kind} {}.{}", version >> 16, version & 0xFFFF)
}

fn state(value: u32) -> String {
    peer_state_name(value).map_or_else(|| format!("? ({value})"), str::to_owned)
}

fn session(report: &SegmentReport, rate: impl Fn(&str) -> Option<Rate>, now: Duration, findings: usize) -> View {
    let mut what = version("session", report.header.version);
    let (mut rings, mut slots) = (Vec::new(), Vec::new());
    if let Some(PartsReport { config, rings: both, slab, .. }) = &report.parts {
        let size = Size(u64::from(config.slot_size));
        what += &format!(", {} descriptors per ring, {} slots of {size}", config.ring_capacity, config.slot_count);
        let slots_sleepers = [slab.header.slots_sleeper_a, slab.header.slots_sleeper_b];
        for ((name, ring), slots_sleeper) in rates::SESSION_RINGS.iter().zip(both).zip(slots_sleepers) {
            let producer = producer(ring, slots_sleeper);
            rings.push(ring_row(
                (*name).to_owned(),
                ring,
                rate(name),
                producer,
                consumer(ring, ring.header.data_sleeper),
            ));
        }
        let in_flight = slab.status.in_flight.saturating_add(slab.status.lent);
        let (total, free, allocated) = (slab.status.total, slab.status.free, slab.status.allocated);
        slots.push(SlotRow { size, total, free, allocated, in_flight, in_rings: slab.in_rings });
    }
    let peers = report.peers.iter().map(|peer| session_peer(peer, now)).collect();
    View { what, peers, rings, slots, findings }
}

fn session_peer(peer: &PeerReport, now: Duration) -> PeerRow {
    let (process, last_seen) = (process(peer.pid, peer.process), last_seen(peer.last_seen, now));
    PeerRow {
        name: format!("peer {}", peer.name),
        state: state(peer.state),
        process,
        last_seen,
        owns: NOTHING.to_owned(),
    }
}

fn process(pid: u32, state: ProcessState) -> String {
    match state {
        ProcessState::NotSaid => NOTHING.to_owned(),
        state => format!("{pid} {state}"),
    }
}

fn last_seen(heartbeat: u64, now: Duration) -> String {
    match heartbeat {
        0 => NOTHING.to_owned(),
        heartbeat => ago(now.saturating_sub(Duration::from_nanos(heartbeat))),
    }
}

fn ring_row(
    name: String,
    ring: &RingReport,
    rate: Option<Rate>,
    producer: &'static str,
    consumer: &'static str,
) -> RingRow {
    let capacity = u64::from(ring.status.capacity);
    // Head and tail that contradict each other are for `inspect` to explain.
    RingRow { name, depth: ring.status.len().min(capacity), capacity, rate, producer, consumer }
}

const fn is_asleep(sleeper: u32) -> bool {
    matches!(sleeper, wake::ASLEEP | wake::ASLEEP_ON_DOORBELL)
}

const fn producer(ring: &RingReport, slots_sleeper: u32) -> &'static str {
    match ring.header.space_sleeper {
        _ if ring.header.producer_state != 0 => "closed",
        space if is_asleep(space) => "waits for space",
        _ if is_asleep(slots_sleeper) => "waits for a slot",
        wake::UNKNOWN => "unknown",
        _ => "awake",
    }
}

const fn consumer(ring: &RingReport, data_sleeper: u32) -> &'static str {
    match data_sleeper {
        _ if ring.header.consumer_state != 0 => "closed",
        sleeper if is_asleep(sleeper) => "waits for data",
        wake::UNKNOWN => "unknown",
        _ => "awake",
    }
}

fn hub(report: &HubReport, rate: impl Fn(&str) -> Option<Rate>, now: Duration, findings: usize) -> View {
    let mut what = version("hub", report.header.version);
    let mut peers = Vec::new();
    let (mut rings, mut slots) = (Vec::new(), Vec::new());
    if let Some(parts) = &report.parts {
        let plugins = parts.members.iter().filter(|member| member.is_in_use()).count();
        let ring_capacity = parts.config.ring_capacity;
        what += &format!(", {ring_capacity} descriptors per ring, {plugins} of {} plugins", places(report, parts));
        slots = parts.classes.iter().map(class_row).collect();
        rings = hub_rings(&report.header, parts, rate);
        let is_shown = |member: &&MemberReport| is_host(member, report) || rates::is_there(member);
        peers = parts.members.iter().filter(is_shown).map(|member| member_row(member, report, parts, now)).collect();
    }
    View { what, peers, rings, slots, findings }
}

/// A version 1.0 host has no place of its own.
fn is_host(member: &MemberReport, report: &HubReport) -> bool {
    member.id.0 == 0 && !report.has_old_host()
}

fn places(report: &HubReport, parts: &HubPartsReport) -> usize {
    parts.members.iter().filter(|member| !is_host(member, report)).count()
}

fn class_row(class: &ClassReport) -> SlotRow {
    let status = &class.status;
    SlotRow {
        size: Size(u64::from(status.slot_size)),
        total: status.total,
        free: status.free,
        allocated: status.allocated,
        in_flight: status.in_flight,
        in_rings: class.in_rings,
    }
}

fn member_row(member: &MemberReport, report: &HubReport, parts: &HubPartsReport, now: Duration) -> PeerRow {
    let (name, state) = match is_host(member, report) {
        true => ("host".to_owned(), state(report.header.host_state)),
        false => (format!("plugin {}", member.id.0), state(member.entry.state)),
    };
    let owns = owns(&member.owned, parts, member.entry.announced.iter().filter(|said| **said != 0).count());
    let (process, last_seen) = (process(member.pid, member.process), last_seen(member.entry.last_seen, now));
    PeerRow { name, state, process, last_seen, owns }
}

fn owns(owned: &[u32; NUM_SIZE_CLASSES], parts: &HubPartsReport, in_hand: usize) -> String {
    let classes = owned.iter().zip(&parts.config.classes).filter(|(count, _)| **count > 0);
    let mut all: Vec<String> =
        classes.map(|(count, class)| format!("{count} of {}", Size(u64::from(class.slot_size)))).collect();
    if in_hand > 0 {
        all.push(format!("{in_hand} in hand"));
    }
    if all.is_empty() { NOTHING.to_owned() } else { all.join(", ") }
}

fn hub_rings(header: &HubHeader, parts: &HubPartsReport, rate: impl Fn(&str) -> Option<Rate>) -> Vec<RingRow> {
    let mut rows = Vec::new();
    for MemberReport { id, to_host, to_peer, .. } in parts.members.iter().filter(|member| rates::is_there(member)) {
        let waits_with_others = to_host.header.waits_with_others != 0;
        let host = if waits_with_others { header.host_sleeper } else { to_host.header.data_sleeper };
        let consumers = [host, to_peer.header.data_sleeper];
        for ((name, ring), sleeper) in rates::hub_rings(id.0).into_iter().zip([to_host, to_peer]).zip(consumers) {
            let producer = producer(ring, ring.header.slots_sleeper);
            let rate = rate(&name);
            rows.push(ring_row(name, ring, rate, producer, consumer(ring, sleeper)));
        }
    }
    rows
}

/// Seen to fail when: the producer's and the consumer's waits are exchanged; findings of one look count.
#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::Instant;

    use rapace_shm::{HubConfig, HubHost, MsgDescHot, ShmSession, ShmSessionConfig, Waits};

    use super::*;

    const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };

    fn file_of(session: &ShmSession) -> File {
        File::from(session.memfd().unwrap().try_clone_to_owned().unwrap())
    }

    /// A look, so many seconds after the first.
    fn look(history: &mut History, file: &File, start: Instant, seconds: u64) -> View {
        let report = Report::glance(file).unwrap();
        let sample = Sample::of(&report, start + Duration::from_secs(seconds));
        history.next(report, sample, Duration::from_secs(1000 + seconds))
    }

    #[test]
    fn a_session_at_work_is_shown_with_its_rates() {
        let mut a = ShmSession::create(CONFIG).unwrap();
        let mut b = ShmSession::attach(a.memfd().unwrap().try_clone_to_owned().unwrap()).unwrap();
        let (file, start, mut history) = (file_of(&a), Instant::now(), History::default());
        let first = look(&mut history, &file, start, 0);
        assert_eq!(first.what, "session 1.0, 4 descriptors per ring, 4 slots of 64 B");
        assert!(first.rings.iter().all(|ring| ring.rate.is_none() && ring.depth == 0));
        for number in 0..6 {
            a.split().0.send(&MsgDescHot::data(number), b"inline").unwrap();
            b.split().1.recv().unwrap();
        }
        for number in 6..8 {
            a.split().0.send(&MsgDescHot::data(number), &[1; 40]).unwrap();
        }
        let held = b.split().1.recv().unwrap();
        let _loan = b.split().0.loan(40).unwrap();
        let view = look(&mut history, &file, start, 2);
        let [ring, back] = view.rings.as_slice() else { panic!("{view:?}") };
        assert_eq!((ring.name.as_str(), ring.depth, ring.capacity), ("A→B", 1, 4));
        assert_eq!(ring.rate, Some(Rate { sent: 4.0, received: 3.5 }));
        assert_eq!((ring.producer, ring.consumer, back.rate), ("awake", "awake", Some(Rate::default())));
        let expected = SlotRow { size: Size(64), total: 4, free: 1, allocated: 1, in_flight: 2, in_rings: 1 };
        assert_eq!(view.slots, [expected]);
        assert_eq!(view.peers[0].process, format!("{} running", std::process::id()));
        drop(held);
    }

    #[test]
    fn who_waits_for_what_is_said() {
        let session = ShmSession::create(CONFIG).unwrap();
        let mut report = Report::glance(&file_of(&session)).unwrap();
        let Report::Session(bytes) = &mut report else { panic!("{report}") };
        let parts = bytes.parts.as_mut().unwrap();
        let [first, second] = &mut parts.rings;
        first.header.data_sleeper = wake::ASLEEP;
        second.header.space_sleeper = wake::ASLEEP_ON_DOORBELL;
        second.header.consumer_state = 1;
        parts.slab.header.slots_sleeper_a = wake::ASLEEP;
        bytes.peers[1].last_seen = 998_000_000_000;
        let sample = Sample::of(&report, Instant::now());
        let view = History::default().next(report, sample, Duration::from_secs(1000));
        let waits: Vec<_> = view.rings.iter().map(|ring| (ring.producer, ring.consumer)).collect();
        assert_eq!(waits, [("waits for a slot", "waits for data"), ("waits for space", "closed")]);
        assert_eq!(view.peers[1].last_seen, "2.0 s ago");
    }

    #[test]
    fn a_hub_is_shown_with_those_who_are_there() {
        let mut host = HubHost::create(HubConfig { max_peers: 4, ..HubConfig::default() }).unwrap();
        let file = File::from(host.memfd().unwrap().try_clone_to_owned().unwrap());
        let (start, mut history) = (Instant::now(), History::default());
        let mut plugins = [(); 2].map(|()| host.add_local(Waits::Together).unwrap());
        look(&mut history, &file, start, 0);
        for number in 0..8 {
            plugins[1].split().0.send(&MsgDescHot::data(number), &[1; 5000]).unwrap();
        }
        let view = look(&mut history, &file, start, 2);
        assert_eq!(view.what, "hub 1.0, 256 descriptors per ring, 2 of 3 plugins");
        let peers: Vec<_> = view.peers.iter().map(|peer| (peer.name.as_str(), peer.owns.as_str())).collect();
        assert_eq!(peers, [("host", "-"), ("plugin 1", "-"), ("plugin 2", "8 of 16 KiB")]);
        let rings: Vec<_> = view.rings.iter().map(|ring| (ring.name.as_str(), ring.depth, ring.rate)).collect();
        let (idle, busy) = (Some(Rate::default()), Some(Rate { sent: 4.0, received: 0.0 }));
        let expected = [("1→host", 0, idle), ("host→1", 0, idle), ("2→host", 8, busy), ("host→2", 0, idle)];
        assert_eq!(rings, expected);
        let slots: Vec<_> = view.slots.iter().map(|slots| (slots.size, slots.total, slots.in_rings)).collect();
        assert_eq!(slots[..2], [(Size(1024), 1024, 0), (Size(16_384), 256, 8)]);
        assert_eq!((slots.len(), view.findings), (5, 0));
    }

    #[test]
    fn what_looks_wrong_is_what_two_looks_saw() {
        let session = ShmSession::create(CONFIG).unwrap();
        let (file, start, mut history) = (file_of(&session), Instant::now(), History::default());
        look(&mut history, &file, start, 0);
        // The header's flags.
        file.write_all_at(&[1], 12).unwrap();
        assert_eq!(look(&mut history, &file, start, 1).findings, 0);
        assert_eq!(look(&mut history, &file, start, 2).findings, 1);
        file.write_all_at(&[0], 12).unwrap();
        assert_eq!(look(&mut history, &file, start, 3).findings, 0);
    }
}
