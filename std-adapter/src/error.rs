//! What can go wrong, in one type.

use std::fmt;
use std::io;

use rapace_shm_core::PeerFault;
use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::HubError;
use rapace_shm_core::layout::{HubLayoutError, LayoutError};
use rapace_shm_core::link::{LinkError, RecvError, SendError};

use crate::path::PathError;

/// Why a session could not be made, or a message not sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ring is full, or no slot is free; nothing was sent. Only the `try_` calls say so.
    #[error("ring is full or no slot is free; try again after the peer has received, or use a call that waits")]
    Full,
    /// Nothing is there to receive. Only [`try_recv`](crate::Receiver::try_recv) says so.
    #[error("nothing to receive; try again, or use a call that waits")]
    Empty,
    /// The peer has closed (and everything it sent was received), or this end was closed.
    #[error("session is closed")]
    Closed,
    /// The deadline passed; nothing was sent or received.
    #[error("deadline passed before the peer made progress")]
    Timeout,
    /// The payload is longer than a slot.
    #[error(
        "payload of {len} bytes is larger than the largest message, {max} bytes; split it or create the session with larger slots"
    )]
    TooLarge {
        /// Length of the payload in bytes.
        len: usize,
        /// The largest message in bytes.
        max: usize,
    },
    /// The loan (or the vector, or the bytes) belongs to another session.
    #[error("the loan was made by another session; send it there")]
    ForeignLoan,
    /// The peer's process is gone; everything that it had published has been received.
    #[error("peer's process is gone; reset the session for another peer, or drop it")]
    PeerDied,
    /// The peer is there, so nobody can take its place.
    #[error("peer is still there; only one that is gone can be replaced")]
    PeerAlive,
    /// This side of the session has no doorbell.
    #[error(
        "this side of the session sleeps on a futex, which an event loop cannot watch; meet through ShmListener, \
        or ask for doorbells"
    )]
    NoDoorbell,
    /// Something is at the path that must not be replaced.
    #[error("{what} is at {}; remove it, or choose another path", path.display())]
    PathTaken {
        /// The path.
        path: std::path::PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A session could not be agreed on.
    #[error("handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// The peer broke the protocol; this endpoint is closed.
    #[error("peer broke the protocol: {0}")]
    PeerFault(PeerFault),
    /// The segment is of another version or shape, or no segment.
    #[error(transparent)]
    Incompatible(LayoutError),
    /// The segment cannot be attached to.
    #[error(transparent)]
    Link(LinkError),
    /// What was asked of a hub cannot be done.
    #[error(transparent)]
    Hub(HubError),
    /// The hub's host does not serve that plugin itself.
    #[error(
        "plugin {} is none that the host itself serves: it never was there, is gone, or its end of the link was taken", id.0
    )]
    NotServed {
        /// The number.
        id: PeerId,
    },
    /// There is no plugin to hear from, and none can come.
    #[error("the hub has no plugin that waits together with others, and none can come; add one, or bind a path")]
    NoPlugins,
    /// The hub's host cannot be woken by a peer that knows nothing but the path.
    #[error(
        "the host of this hub sleeps on a doorbell, which whoever opens the path cannot ring; spawn the plugin, let it \
         join, or create the hub without doorbells"
    )]
    NeedsDoorbell,
    /// The hub is none that plugins of version 1.0 would open.
    #[error("plugins of version 1.0 refuse this hub; create it with the default size classes and one extent for each")]
    NotVersion1,
    /// The segment is larger than this process allows.
    #[error("segment of {size} bytes is larger than the limit of {limit} bytes; raise {variable} or make it smaller",
        variable = crate::MAX_BYTES_VARIABLE)]
    LimitExceeded {
        /// Size in bytes.
        size: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The file could be cut short under our feet, and reading past its end would kill this process.
    #[error("descriptor is not sealed against shrinking (seals {seals:#x}); pass a memfd made by ShmSession::create")]
    NotSealed {
        /// The seals it has, as `F_GET_SEALS` gives them.
        seals: u32,
    },
    /// No session was passed to this process.
    #[error("no session was passed to this process: {variable} is {seen}; start it with ShmSession::spawn")]
    NotInherited {
        /// The environment variable that carries it.
        variable: &'static str,
        /// What it holds.
        seen: String,
    },
    /// A session cannot be made or opened at a path.
    #[error(transparent)]
    Path(Box<PathError>),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Why two processes could not agree on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other end does not speak this handshake.
    #[error("other end is no rapace-shm peer: it says {seen:02x?}; connect to a ShmListener")]
    NotRapace {
        /// The first bytes that it sent.
        seen: [u8; 8],
    },
    /// The other end is no such socket.
    #[error("nobody speaks the handshake there ({0}); bind a ShmListener to that path first")]
    NobodyThere(std::io::ErrorKind),
    /// Another version of the handshake.
    #[error(
        "other end speaks version {seen} of the handshake, this one {expected}; use the same release on both sides"
    )]
    Version {
        /// Its version.
        seen: u32,
        /// This side's.
        expected: u32,
    },
    /// Another major version of the segment's bytes.
    #[error("other end speaks layout version {}.{}, this one {}.x; use the same major version on both sides",
        seen >> 16, seen & 0xffff, expected >> 16)]
    Layout {
        /// Its version.
        seen: u32,
        /// This side's.
        expected: u32,
    },
    /// The other end lacks something.
    #[error("other end has the capabilities {seen:#x}, but {required:#x} is required")]
    Capabilities {
        /// What it can do.
        seen: u32,
        /// What it must be able to do.
        required: u32,
    },
    /// A message that was not due.
    #[error("message of kind {seen} came where {expected} was due")]
    OutOfTurn {
        /// The kind seen.
        seen: u32,
        /// The kind that was due.
        expected: u32,
    },
    /// A message of another length.
    #[error("message of {seen} bytes, expected {expected}")]
    Length {
        /// Its length in bytes.
        seen: usize,
        /// The length of every message in bytes.
        expected: usize,
    },
    /// A welcome without what belongs to it.
    #[error("welcome came with {seen} descriptors, expected {expected}")]
    Descriptors {
        /// How many came.
        seen: usize,
        /// How many belong to it.
        expected: usize,
    },
    /// The other end is a process that may not.
    #[error(
        "other end is process {pid} of user {uid}, which is not admitted; by default it must be this process's user"
    )]
    NotAdmitted {
        /// Its process id when it connected.
        pid: u32,
        /// Its user when it connected.
        uid: u32,
    },
    /// The other end refused.
    #[error("other end refused ({}); its own error says more", Self::why(*reason))]
    Refused {
        /// The reason that it gave.
        reason: u32,
    },
    /// The other end closed the connection in the middle.
    #[error("other end hung up during the handshake; it may have died, or found this side wanting")]
    HungUp,
    /// The other end said nothing for too long.
    #[error("handshake took longer than its time-out; is the other end alive, and a ShmListener?")]
    Timeout,
}

impl HandshakeError {
    /// The reason "no place is free" in a refusal.
    pub(crate) const FULL: u32 = 6;

    /// The reason "something else" in a refusal.
    pub(crate) const UNKNOWN: u32 = 0;

    /// As a refusal gives it.
    pub(crate) const fn code(&self) -> u32 {
        match self {
            Self::Version { .. } => 1,
            Self::Layout { .. } => 2,
            Self::Capabilities { .. } => 3,
            Self::NotAdmitted { .. } => 4,
            Self::Timeout => 5,
            _ => Self::UNKNOWN,
        }
    }

    const fn why(reason: u32) -> &'static str {
        match reason {
            1 => "another version of the handshake",
            2 => "another version of the layout",
            3 => "a capability is missing",
            4 => "this process is not admitted",
            5 => "it took too long",
            Self::FULL => "the hub has no place free",
            _ => "for a reason that it did not say",
        }
    }
}

impl Error {
    /// For `map_err` behind a system call.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { what, source: source.into() }
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full | SendError::NoSlot => Self::Full,
            SendError::TooLarge { len, max } => Self::TooLarge { len, max },
            SendError::ForeignLoan => Self::ForeignLoan,
            SendError::PeerFault(fault) => Self::PeerFault(fault),
            SendError::PeerDied => Self::PeerDied,
            _ => Self::Closed,
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::PeerFault(fault) => Self::PeerFault(fault),
            RecvError::PeerDied => Self::PeerDied,
            _ => Self::Closed,
        }
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Layout(error) => Self::Incompatible(error),
            LinkError::PeerFault(fault) => Self::PeerFault(fault),
            other => Self::Link(other),
        }
    }
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        match error {
            HubError::PeerFault(fault) => Self::PeerFault(fault),
            other => Self::Hub(other),
        }
    }
}

impl From<HubLayoutError> for Error {
    fn from(error: HubLayoutError) -> Self {
        Self::Hub(error.into())
    }
}

impl From<LayoutError> for Error {
    fn from(error: LayoutError) -> Self {
        Self::Incompatible(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Full | Error::Empty => io::ErrorKind::WouldBlock,
            Error::Closed => io::ErrorKind::BrokenPipe,
            Error::PeerDied => io::ErrorKind::ConnectionReset,
            Error::Timeout | Error::Handshake(HandshakeError::Timeout) => io::ErrorKind::TimedOut,
            Error::Handshake(HandshakeError::NobodyThere(kind)) => *kind,
            Error::Handshake(HandshakeError::NotAdmitted { .. }) => io::ErrorKind::PermissionDenied,
            Error::Handshake(_) => io::ErrorKind::ConnectionAborted,
            Error::TooLarge { .. } | Error::ForeignLoan => io::ErrorKind::InvalidInput,
            Error::PeerFault(_) | Error::Incompatible(_) | Error::Hub(HubError::Layout(_)) => {
                io::ErrorKind::InvalidData
            }
            Error::NotServed { .. } | Error::NoPlugins => io::ErrorKind::NotConnected,
            Error::Path(error) => error.kind(),
            Error::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A loan (or a vector) that was not sent, and why. It is as it was.
pub struct Unsent<L = crate::Loan, E = Error> {
    /// Why.
    pub error: E,
    /// What was to be sent; `None` only if its slot is what the peer tampered with.
    pub loan: Option<L>,
}

impl<L, E: fmt::Debug> fmt::Debug for Unsent<L, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<L, E: fmt::Display> fmt::Display for Unsent<L, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<L, E: std::error::Error + 'static> std::error::Error for Unsent<L, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<L> From<Unsent<L>> for Error {
    fn from(unsent: Unsent<L>) -> Self {
        unsent.error
    }
}

impl<L> From<Unsent<L>> for io::Error {
    fn from(unsent: Unsent<L>) -> Self {
        unsent.error.into()
    }
}
