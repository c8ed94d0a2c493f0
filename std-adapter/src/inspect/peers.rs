//! The peers: what the header says of each, and whether its process still runs.

use rapace_shm_core::layout::{PeerState, SegmentHeader};

use crate::process::{Found, Process};

/// What is known of the process of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessState {
    /// The peer does not say which process it is.
    NotSaid,
    /// It runs, or has ended and nobody has waited for it yet.
    Running,
    /// It has ended.
    Gone,
    /// Its number is one of another pid namespace, or the kernel has no pidfds.
    OutOfSight,
}

/// What the header says of a peer, and its process. Nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerReport {
    /// `A` or `B`.
    pub name: char,
    /// A [`PeerState`] as a number.
    pub state: u32,
    /// Heartbeats (version 1.0 peers only).
    pub epoch: u64,
    /// Last heartbeat, nanoseconds of the wall clock since 1970 (version 1.0 peers only).
    pub last_seen: u64,
    /// Process id, 0 = not said.
    pub pid: u32,
    /// Inode number of the process id namespace, 0 = not said.
    pub pid_namespace: u32,
    /// When the process started, in clock ticks since boot.
    pub start: u64,
    /// Whether the process runs.
    pub process: ProcessState,
}

/// What is known of a process that a peer says it is.
pub(super) fn process(pid: u32, pid_namespace: u32, start: u64) -> ProcessState {
    if pid == 0 {
        return ProcessState::NotSaid;
    }
    match Process::new(pid, pid_namespace, start).find() {
        Found::Running(_) | Found::Myself => ProcessState::Running,
        Found::Gone => ProcessState::Gone,
        Found::OutOfSight => ProcessState::OutOfSight,
    }
}

/// A and B.
pub(super) fn of(header: &SegmentHeader) -> [PeerReport; 2] {
    [
        PeerReport {
            name: 'A',
            state: header.peer_a_state,
            epoch: header.peer_a_epoch,
            last_seen: header.peer_a_last_seen,
            pid: header.peer_a_pid,
            pid_namespace: header.peer_a_pid_namespace,
            start: header.peer_a_start,
            process: process(header.peer_a_pid, header.peer_a_pid_namespace, header.peer_a_start),
        },
        PeerReport {
            name: 'B',
            state: header.peer_b_state,
            epoch: header.peer_b_epoch,
            last_seen: header.peer_b_last_seen,
            pid: header.peer_b_pid,
            pid_namespace: header.peer_b_pid_namespace,
            start: header.peer_b_start,
            process: process(header.peer_b_pid, header.peer_b_pid_namespace, header.peer_b_start),
        },
    ]
}

impl PeerReport {
    /// Whether somebody may be attached on this side. A peer that was killed looks as if it were.
    pub(super) fn may_be_attached(&self) -> bool {
        match PeerState::from_u32(self.state) {
            Some(PeerState::Left | PeerState::Vacant) => false,
            // A version 1.0 peer, if it ever did anything.
            Some(PeerState::Unknown) => self.epoch != 0,
            Some(PeerState::Attached) | None => true,
        }
    }

    /// Whether somebody may be attached, and may be in the middle of something.
    pub(super) fn may_run(&self) -> bool {
        self.may_be_attached() && self.process != ProcessState::Gone
    }
}
