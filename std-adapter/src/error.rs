//! What can go wrong, in one type.

use std::fmt;
use std::io;

use rapace_shm_core::PeerFault;
use rapace_shm_core::layout::LayoutError;
use rapace_shm_core::link::{LinkError, RecvError, SendError};

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
    /// The loan belongs to another session.
    #[error("the loan was made by another session; send it there")]
    ForeignLoan,
    /// The peer broke the protocol; this endpoint is closed.
    #[error("peer broke the protocol: {0}")]
    PeerFault(PeerFault),
    /// The segment is of another version or shape, or no segment.
    #[error(transparent)]
    Incompatible(LayoutError),
    /// The segment cannot be attached to.
    #[error(transparent)]
    Link(LinkError),
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
    #[error("no session was passed to this process: {variable} is {seen}; start it with ShmSession::pass_to")]
    NotInherited {
        /// The environment variable that carries it.
        variable: &'static str,
        /// What it holds.
        seen: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
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
            _ => Self::Closed,
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::PeerFault(fault) => Self::PeerFault(fault),
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
            Error::Timeout => io::ErrorKind::TimedOut,
            Error::TooLarge { .. } | Error::ForeignLoan => io::ErrorKind::InvalidInput,
            Error::PeerFault(_) | Error::Incompatible(_) => io::ErrorKind::InvalidData,
            Error::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A loan that was not sent, and why. The loan is as it was.
pub struct Unsent {
    /// Why.
    pub error: Error,
    /// What was to be sent; `None` only if its slot is what the peer tampered with.
    pub loan: Option<crate::Loan>,
}

impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").field("error", &self.error).finish_non_exhaustive()
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Unsent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Unsent> for Error {
    fn from(unsent: Unsent) -> Self {
        unsent.error
    }
}

impl From<Unsent> for io::Error {
    fn from(unsent: Unsent) -> Self {
        unsent.error.into()
    }
}
