//! What the values of the shared words are called.

use rapace_shm_core::layout::PeerState;
use rapace_shm_core::wake;

use super::ProcessState;

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

/// What a peer's state says.
pub(super) const fn peer_state(value: u32) -> Option<&'static str> {
    match PeerState::from_u32(value) {
        Some(PeerState::Unknown) => Some("nobody, or a version 1.0 peer"),
        Some(PeerState::Attached) => Some("attached"),
        Some(PeerState::Left) => Some("left"),
        Some(PeerState::Vacant) => Some("vacant"),
        None => None,
    }
}

/// What is known of a peer's process.
pub(super) const fn process_state(state: ProcessState) -> &'static str {
    match state {
        ProcessState::NotSaid => "unknown",
        ProcessState::Running => "running",
        ProcessState::Gone => "gone",
        ProcessState::OutOfSight => "out of sight",
    }
}

/// The names of the two rings.
pub(super) const RINGS: [&str; 2] = ["ring A→B", "ring B→A"];
