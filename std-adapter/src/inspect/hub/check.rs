//! The checks of a hub's header, of its peer table and of its rings.

use std::fmt;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::HOST;
use rapace_shm_core::layout::{
    DescRingHeader, HubHeader, HubSlotMeta, NO_OWNER, PEER_FLAG_ACTIVE, PEER_FLAG_DEAD, PEER_FLAG_DYING,
    PEER_FLAG_RESERVED, PEER_TYPE_PLUGIN, PeerEntry, SlotMeta, decode_slot_ref, encode_slot_ref,
};

use super::super::check::{named, zero};
use super::super::finding::{FindingKind, Findings};
use super::super::messages::{Messages, Named};
use super::super::peers::{self, ProcessState};
use super::super::rings::{self, RingPart};
use super::super::words;
use super::snapshot::{Parts, ring_at};
use super::{HubPartsReport, MemberReport, growth, is_in_use, is_old_host, may_grow, slots};

/// Points out a place that says something else than what follows from the shape.
pub(super) fn same<T: PartialEq + fmt::Display>(
    findings: &mut Findings,
    field: impl fmt::Display,
    seen: T,
    expected: T,
) {
    if seen != expected {
        findings.add(FindingKind::ShapeDiffers, field, seen, format_args!("{expected}, as other places say"));
    }
}

/// Points out a word that is neither yes nor no.
fn flag(findings: &mut Findings, field: impl fmt::Display, seen: u32) {
    if seen > 1 {
        findings.add(FindingKind::Flag, field, seen, "0 (no) or 1 (yes)");
    }
}

/// The header, but for what says its version and shape.
pub(super) fn header(header: &HubHeader, findings: &mut Findings) {
    zero(findings, "header flags", &header.flags.to_ne_bytes());
    zero(findings, "header padding at 22", &header.pad.to_ne_bytes());
    named(findings, FindingKind::PeerState, "host state", header.host_state, words::peer_state);
    named(findings, FindingKind::Sleeper, "host sleeper", header.host_sleeper, words::sleeper);
    flag(findings, "header in doubt", header.in_doubt);
    zero(findings, "header reserved bytes at 96", &header.reserved);
    if !may_grow(header) {
        zero(findings, "header growth", &header.grown.to_ne_bytes());
        zero(findings, "header largest size", &header.max_size.to_ne_bytes());
        zero(findings, "header extents at most", &header.max_extents.to_ne_bytes());
    }
    zero(findings, "header padding at 244", &header.pad_growth);
}

/// Everything behind it, and what the header says of that.
pub(super) fn parts(header: &HubHeader, parts: &Parts, findings: &mut Findings) -> HubPartsReport {
    places(header, parts, findings);
    peer_table(header, parts, findings);
    let mut messages = Messages::default();
    for (id, rings) in (0..).map(PeerId).zip(&parts.rings) {
        for (name, ring) in words::hub_rings(id).iter().zip(rings) {
            ring_header(name, ring, parts.config.ring_capacity, findings);
            messages.check(name, ring, &OfLink { parts, id }, findings);
        }
    }
    let classes = slots::classes(parts, &messages, findings);
    let owned = slots::owned(parts);
    let members = (0..).map(PeerId).zip(&parts.rings).zip(owned).map(|((id, rings), owned)| {
        let (entry, [to_host, to_peer]) = (parts.entries[usize::from(id.0)], rings.each_ref().map(RingPart::report));
        let (pid, process) = process_of(id, parts);
        MemberReport { id, entry, to_host, to_peer, owned, pid, process }
    });
    let members = members.collect();
    HubPartsReport { config: parts.config, members, classes }
}

/// Which process a member is: a producer says it in its ring. The host says it to each plugin.
fn process_of(id: PeerId, parts: &Parts) -> (u32, ProcessState) {
    let of_host = || parts.rings.iter().map(|[_, to_peer]| to_peer).find(|ring| ring.header.producer_pid != 0);
    let ring = if id == HOST { of_host() } else { parts.rings.get(usize::from(id.0)).map(|[to_host, _]| to_host) };
    ring.map_or((0, ProcessState::NotSaid), |RingPart { header, .. }| {
        let state = peers::process(header.producer_pid, header.producer_pid_namespace, header.producer_start);
        (header.producer_pid, state)
    })
}

/// What the header says of the shape.
fn places(header: &HubHeader, parts: &Parts, findings: &mut Findings) {
    let (config, offsets) = (&parts.config, &parts.offsets);
    let [first_extent, ..] = offsets.extents;
    same(findings, "header peers at most", header.max_peers, config.max_peers);
    same(findings, "header ring capacity", header.ring_capacity, config.ring_capacity);
    growth::header(header, parts, findings);
    for (field, seen, expected) in [
        ("header offset of the peer table", header.peer_table, offsets.peer_table),
        ("header offset of the rings", header.rings, offsets.rings),
        ("header offset of the size classes", header.size_classes, offsets.size_classes),
        ("header offset of the extents", header.extents, first_extent),
    ] {
        same(findings, field, seen, expected as u64);
    }
}

/// The peer table, and what the header says of the peers.
fn peer_table(header: &HubHeader, parts: &Parts, findings: &mut Findings) {
    let active = parts.entries.iter().filter(|entry| is_in_use(entry)).count();
    if usize::from(header.active_peers) != active {
        findings.add(FindingKind::PeerCount, "header active peers", header.active_peers, active);
    }
    waiters(header, parts.config.max_peers, findings);
    for (id, entry) in (0..).map(PeerId).zip(&parts.entries) {
        let name = words::member(id);
        number(&name, id, entry, findings);
        flags(&name, entry, findings);
        named(findings, FindingKind::PeerState, format_args!("{name} state"), entry.state, words::peer_state);
        let ring = |number| ring_at(&parts.offsets, 2 * usize::from(id.0) + number) as u64;
        same(findings, format_args!("{name} offset of its ring to the host"), entry.to_host_ring, ring(0));
        same(findings, format_args!("{name} offset of the host's ring to it"), entry.to_peer_ring, ring(1));
        announced(&name, entry, parts, findings);
    }
}

/// Bit N stands for plugin N, bit 32 + N for the host on its way to plugin N.
fn waiters(header: &HubHeader, max_peers: u16, findings: &mut Findings) {
    let places = u32::MAX.checked_shr(u32::BITS.saturating_sub(u32::from(max_peers))).unwrap_or(0);
    let plugins = if is_old_host(header) { places } else { places & !1 };
    let known = u64::from(plugins) << 32 | u64::from(plugins);
    let strangers = header.slot_waiters & !known;
    if strangers != 0 {
        let seen = format!("bit {}", strangers.trailing_zeros());
        let expected = format!("bits of plugins below {max_peers}");
        findings.add(FindingKind::Waiter, "header waiters for a slot", seen, expected);
    }
}

/// An entry that was never used says 0.
fn number(name: &str, id: PeerId, entry: &PeerEntry, findings: &mut Findings) {
    let (seen, flags) = ((entry.peer_id, entry.peer_type), entry.flags);
    if seen != (id.0, PEER_TYPE_PLUGIN) && (flags != 0 || seen != (0, 0)) {
        let seen = format!("number {}, type {}", entry.peer_id, entry.peer_type);
        let expected = format!("number {}, type {PEER_TYPE_PLUGIN} (a plugin)", id.0);
        findings.add(FindingKind::PeerNumber, format_args!("{name} number and type"), seen, expected);
    }
}

fn flags(name: &str, entry: &PeerEntry, findings: &mut Findings) {
    let known = PEER_FLAG_ACTIVE | PEER_FLAG_DYING | PEER_FLAG_DEAD | PEER_FLAG_RESERVED;
    let is_active = entry.flags & PEER_FLAG_ACTIVE != 0;
    if entry.flags & !known != 0 || is_active && entry.flags & (PEER_FLAG_DEAD | PEER_FLAG_RESERVED) != 0 {
        let expected = "1 (active), 2 (leaving), 4 (gone) or 8 (reserved)";
        findings.add(
            FindingKind::PeerFlags,
            format_args!("{name} flags"),
            format_args!("{:#x}", entry.flags),
            expected,
        );
    }
}

fn announced(name: &str, entry: &PeerEntry, parts: &Parts, findings: &mut Findings) {
    for (lane, said) in entry.announced.into_iter().enumerate() {
        let Some(reference) = said.checked_sub(1) else { continue };
        if slots::find(parts, reference).is_none() {
            let field = format!("{name} announcement {lane}");
            findings.add(FindingKind::Announcement, field, words::slot_reference(reference), "a slot, or none");
        }
    }
}

fn ring_header(name: &str, ring: &RingPart, capacity: u32, findings: &mut Findings) {
    let header: &DescRingHeader = &ring.header;
    same(findings, format_args!("{name} capacity"), header.capacity, capacity);
    rings::check_header(name, ring, findings);
    zero(findings, format_args!("{name} list of returned slots"), &header.returned.to_ne_bytes());
    let sleeper = format_args!("{name} slots sleeper");
    named(findings, FindingKind::Sleeper, sleeper, header.slots_sleeper, words::sleeper);
    flag(findings, format_args!("{name} waits with others"), header.waits_with_others);
    let state = format_args!("{name} consumer's peer state");
    named(findings, FindingKind::PeerState, state, header.consumer_peer_state, words::peer_state);
    zero(findings, format_args!("{name} reserved bytes at 180"), &header.reserved);
}

/// The slots, as messages between the host and one plugin name them.
struct OfLink<'a> {
    parts: &'a Parts,
    id: PeerId,
}

impl Named for OfLink<'_> {
    const ON_THE_WAY: &'static str = "a slot in state 2 (in flight)";

    fn find(&self, reference: u32) -> Option<(SlotMeta, u32)> {
        slots::find(self.parts, reference).map(|(meta, size)| (meta.meta, size))
    }

    fn name(&self, reference: u32) -> String {
        words::slot_reference(reference)
    }

    fn rule(&self) -> String {
        "a slot of one of the classes".to_owned()
    }

    /// It is its sender's until its receiver has taken it over, which is before it is out of the ring.
    fn check(&self, field: &str, reference: u32, findings: &mut Findings) {
        let owner = slots::find(self.parts, reference).map(|(HubSlotMeta { owner, .. }, _)| owner);
        if owner.is_some_and(|owner| owner != 0 && owner != u32::from(self.id.0)) {
            let seen = format!("{} of {}", words::slot_reference(reference), words::owner(owner.unwrap_or(NO_OWNER)));
            let expected = format!("of the host or of {}", words::member(self.id));
            findings.add(FindingKind::MessageOwner, field, seen, expected);
        }
    }
}

/// A slot by class and number, as a message names it.
pub(super) const fn reference(class: usize, slot: usize) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // below 8, and below 2^29
    encode_slot_ref(class as u32, slot as u32)
}

/// Class and number.
pub(super) const fn class_and_slot(reference: u32) -> (usize, usize) {
    let (class, slot) = decode_slot_ref(reference);
    (class as usize, slot as usize)
}
