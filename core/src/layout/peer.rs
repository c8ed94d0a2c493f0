//! The two peers of a session, and the words of the segment header that speak of each.

use super::at::At;
use super::segment::SegmentHeader;

/// Which of the two peers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// The creator.
    A,
    /// The one that attached.
    B,
}

impl PeerRole {
    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Where this peer's [`PeerState`](super::PeerState) stands.
    pub(crate) const fn state(self) -> At<u32> {
        self.words().state
    }

    /// Where the segment header speaks of this peer.
    #[must_use]
    pub const fn words(self) -> PeerWords {
        match self {
            Self::A => PeerWords {
                state: SegmentHeader::PEER_A_STATE,
                epoch: SegmentHeader::PEER_A_EPOCH,
                last_seen: SegmentHeader::PEER_A_LAST_SEEN,
                pid: SegmentHeader::PEER_A_PID,
                pid_namespace: SegmentHeader::PEER_A_PID_NAMESPACE,
                start: SegmentHeader::PEER_A_START,
            },
            Self::B => PeerWords {
                state: SegmentHeader::PEER_B_STATE,
                epoch: SegmentHeader::PEER_B_EPOCH,
                last_seen: SegmentHeader::PEER_B_LAST_SEEN,
                pid: SegmentHeader::PEER_B_PID,
                pid_namespace: SegmentHeader::PEER_B_PID_NAMESPACE,
                start: SegmentHeader::PEER_B_START,
            },
        }
    }
}

/// The words of the segment header that speak of one peer; [`SegmentHeader`] says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerWords {
    /// Its [`PeerState`](super::PeerState).
    pub state: At<u32>,
    /// Its heartbeats.
    pub epoch: At<u64>,
    /// When its last heartbeat was.
    pub last_seen: At<u64>,
    /// Its process.
    pub pid: At<u32>,
    /// The namespace of that process.
    pub pid_namespace: At<u32>,
    /// When that process started.
    pub start: At<u64>,
}

impl PeerWords {
    /// Those that say which process it is.
    #[must_use]
    pub const fn process(self) -> ProcessWords {
        ProcessWords { pid: self.pid, pid_namespace: self.pid_namespace, start: self.start }
    }
}

/// The words in which a peer says which process it is: a number alone does not say, because numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessWords {
    /// Its process id; 0 = it has not said.
    pub pid: At<u32>,
    /// The namespace of that.
    pub pid_namespace: At<u32>,
    /// When the process started.
    pub start: At<u64>,
}
