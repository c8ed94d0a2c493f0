//! A look into a segment, live or dead, from outside: for the day on which a session or a hub stands still and somebody
//! wants to know who sleeps, where the slots are, and whether the bytes make sense.
//!
//! Nothing is mapped and nothing is written: the file is read at given positions, so the peers notice nothing, a file that
//! is cut short meanwhile is an error and no signal, and reading rights are enough. The bytes may be anybody's: no word of
//! them is trusted with an address, a length or a loop.
//!
//! # Looking at what moves
//!
//! A segment in use changes while it is read. What is read in which order makes most of the checks exact all the same:
//!
//! ```text
//!   1 tails    2 heads, messages    3 heads of the lists    4 metadata, links    5 as 3    6 as 1
//!                                   |---- unchanged? Then the list has not changed. ---|
//!              |------ still there? Then its slot was in flight all the time. --------------|
//! ```
//!
//! A list that never holds still is not judged; the report says so. What remains is a word read while it is written, and
//! a slot on its way from a peer's hand into a list. So while anybody may be attached, a finding is what several looks
//! agree on: two, two milliseconds apart; and for a slot that is in no list five, over 170 milliseconds, unless
//! the peers' processes are gone. If nobody is attached, one look is enough.
//!
//! ```
//! use std::fs::File;
//!
//! use rapace_shm::inspect::SegmentReport;
//! use rapace_shm::{ShmSession, ShmSessionConfig};
//!
//! let session = ShmSession::create(ShmSessionConfig::default())?;
//! let file = File::from(session.memfd().expect("on a memfd").try_clone_to_owned()?);
//! let report = SegmentReport::read(&file)?;
//! assert!(report.findings.is_empty(), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod display;
mod finding;
mod hub;
mod lists;
mod looks;
mod messages;
mod peers;
mod rings;
mod segment;
mod shape;
mod snapshot;
mod source;
mod words;

use std::fmt;
use std::fs::File;
use std::io;

use rapace_shm_core::layout::{HUB_MAGIC, MAGIC};

pub use finding::{Finding, FindingKind};
pub use hub::{ClassReport, HubPartsReport, HubReport, MemberReport};
pub use lists::{FreeListName, FreeListReport};
pub use peers::{PeerReport, ProcessState};
pub use segment::{PartsReport, RingReport, SegmentReport, SlabReport};
pub use words::peer_state as peer_state_name;

use source::{Source, Stop};

/// Most bytes of headers, descriptors and metadata that are read: the memory that a report takes is some three times that.
const MAX_BOOKKEEPING: usize = 64 << 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A read failed.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// A directory, a pipe, a device.
    #[error("not a regular file and not a memfd; name the file or the descriptor that holds the segment")]
    NotAFile,
    /// Shorter than a segment's header.
    #[error("not a rapace segment: it has {len} bytes, the header alone takes {required}")]
    TooShort {
        /// Length of the file in bytes.
        len: u64,
        /// Length of a segment's header in bytes.
        required: usize,
    },
    /// It does not start as a segment does, and does not look like one that was damaged.
    #[error(
        "not a rapace segment: it starts with {seen:02x?}, a session with {MAGIC:02x?}, a hub with {HUB_MAGIC:02x?}"
    )]
    NotASegment {
        /// The first bytes.
        seen: [u8; 8],
    },
    /// A hub, where a session was expected.
    #[error("a hub, not a session; read it as a hub")]
    Hub,
    /// A session, where a hub was expected.
    #[error("a session, not a hub; read it as a session")]
    Session,
    /// More descriptors and slots than are worth the memory.
    #[error("its headers, descriptors and metadata take {bytes} bytes; at most {limit} are inspected")]
    TooLarge {
        /// Bytes before the first slot.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The file became shorter during every one of many tries to read it.
    #[error("the file was cut short {tries} times while it was read; try again when nobody changes its length")]
    NeverSettles {
        /// How often it was tried.
        tries: u32,
    },
}

/// What the bytes of a segment say, of whichever kind it is.
#[derive(Clone, Debug)]
pub enum Report {
    /// Of a session.
    Session(Box<SegmentReport>),
    /// Of a hub.
    Hub(Box<HubReport>),
}

impl Report {
    /// Looks at a segment of whichever kind, as [`SegmentReport::read`] and [`HubReport::read`] do.
    ///
    /// # Errors
    /// As theirs.
    pub fn read(file: &File) -> Result<Self, InspectError> {
        Self::of(file, SegmentReport::read, HubReport::read)
    }

    /// Looks once, as [`SegmentReport::glance`] and [`HubReport::glance`] do: for those who look again and again.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn glance(file: &File) -> Result<Self, InspectError> {
        Self::of(file, SegmentReport::glance, HubReport::glance)
    }

    fn of(
        file: &File,
        session: impl Fn(&File) -> Result<SegmentReport, InspectError>,
        hub: impl Fn(&File) -> Result<HubReport, InspectError>,
    ) -> Result<Self, InspectError> {
        let is_hub = match Source::new(file).and_then(|source| source.read::<[u8; 8]>(0)) {
            Ok(magic) => magic == Some(HUB_MAGIC),
            // What is wrong is found out once more.
            Err(Stop::Cut | Stop::Error(_)) => false,
        };
        let as_hub = || hub(file).map(|report| Self::Hub(Box::new(report)));
        if is_hub {
            return as_hub();
        }
        match session(file) {
            // Perhaps a hub whose magic was damaged; if not, what was first said holds.
            Err(InspectError::NotASegment { seen }) => as_hub().map_err(|_| InspectError::NotASegment { seen }),
            done => done.map(|report| Self::Session(Box::new(report))),
        }
    }

    /// Every field that looks wrong, the first thousand.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Session(report) => &report.findings,
            Self::Hub(report) => &report.findings,
        }
    }

    /// How many more there are.
    #[must_use]
    pub const fn omitted(&self) -> u64 {
        match self {
            Self::Session(report) => report.omitted,
            Self::Hub(report) => report.omitted,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(report) => report.fmt(f),
            Self::Hub(report) => report.fmt(f),
        }
    }
}
