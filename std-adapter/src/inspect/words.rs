//! What the values of the shared words are called.

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::HOST;
use rapace_shm_core::layout::{
    NO_OWNER, PEER_FLAG_ACTIVE, PEER_FLAG_DEAD, PEER_FLAG_DYING, PEER_FLAG_RESERVED, PeerState, decode_slot_ref,
};
use rapace_shm_core::wake;

/// What a sleeper word says of its side.
pub(super) const fn sleeper(value: u32) -> Option<&'static str> {
    match value {
        wake::UNKNOWN => Some("unknown, signalled always"),
        wake::AWAKE => Some("awake"),
        wake::ASLEEP => Some("asleep on the sequence word"),
        wake::ASLEEP_ON_DOORBELL => Some("asleep on its doorbell"),
        wake::AWAKE_FENCED => Some("awake, fences before it sleeps"),
        _ => None,
    }
}

/// What the state of a ring's end says.
pub(super) const fn end_state(value: u32) -> Option<&'static str> {
    match value {
        0 => Some("open"),
        1 => Some("closed"),
        _ => None,
    }
}

/// What a peer's state says ([`PeerState`] as a number); `None` if there is no such state.
#[must_use]
pub const fn peer_state(value: u32) -> Option<&'static str> {
    match PeerState::from_u32(value) {
        Some(PeerState::Unknown) => Some("nobody, or a version 1.0 peer"),
        Some(PeerState::Attached) => Some("attached"),
        Some(PeerState::Left) => Some("left"),
        Some(PeerState::Vacant) => Some("vacant"),
        None => None,
    }
}

/// The names of the two rings.
pub(super) const RINGS: [&str; 2] = ["ring A→B", "ring B→A"];

/// A version word.
pub(super) fn version(word: u32) -> String {
    format!("{}.{}", word >> 16, word & 0xFFFF)
}

/// A member of a hub.
pub(super) fn member(id: PeerId) -> String {
    if id == HOST { "host".to_owned() } else { format!("plugin {}", id.0) }
}

/// The rings of a member of a hub, the one to the host first.
pub(super) fn hub_rings(id: PeerId) -> [String; 2] {
    [format!("ring {}→host", id.0), format!("ring host→{}", id.0)]
}

/// Who must free a slot.
pub(super) fn owner(owner: u32) -> String {
    match u16::try_from(owner) {
        _ if owner == NO_OWNER => "nobody".to_owned(),
        Ok(id) => member(PeerId(id)),
        Err(_) => format!("? ({owner})"),
    }
}

/// A slot of a hub.
pub(super) fn slot_reference(reference: u32) -> String {
    let (class, slot) = decode_slot_ref(reference);
    format!("class {class} slot {slot}")
}

/// The flags of a plugin.
pub(super) fn peer_flags(flags: u32) -> String {
    let known = [
        (PEER_FLAG_ACTIVE, "active"),
        (PEER_FLAG_DYING, "leaving"),
        (PEER_FLAG_DEAD, "gone"),
        (PEER_FLAG_RESERVED, "reserved"),
    ];
    let rest = known.iter().fold(flags, |rest, (flag, _)| rest & !flag);
    let mut words: Vec<String> =
        known.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, word)| (*word).to_owned()).collect();
    if rest != 0 {
        words.push(format!("? ({rest:#x})"));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
