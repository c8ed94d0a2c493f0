//! The open file behind a path segment: its space, its lock, its header, and what becomes of its name.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rapace_shm_core::layout::{HubHeader, HubLayoutError, PeerState, SegmentHeader};
use rustix::fs::{FallocateFlags, FileType, FlockOperation, Stat, fallocate, flock, fstat, ftruncate};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::process::geteuid;

use super::error::{PathProblem, unable};
use super::place::Place;
use crate::error::Error;

type Result<T> = std::result::Result<T, PathProblem>;

/// A segment's file, open and as a rule locked. Kept beside the mapping, it lives longer than that.
///
/// When it goes, the creator's removes the name, and only then is the lock given back. A lock belongs to what was opened,
/// not to a descriptor: a child that is just being forked has a copy, but cannot keep the lock.
pub(crate) struct PathFile {
    file: File,
    /// Where the creator publishes it.
    made_at: Option<Place>,
}

impl PathFile {
    /// An open file; not locked yet.
    pub(super) fn open(file: File) -> Self {
        Self { file, made_at: None }
    }

    /// A fresh segment of `len` bytes, locked, that has no name yet. A sparse one has no space allocated.
    pub(crate) fn create(place: Place, len: usize, sparse: bool) -> std::result::Result<Self, Error> {
        let create = || {
            let file = Self::open(place.nameless()?);
            if sparse {
                ftruncate(&file, len as u64).map_err(PathProblem::io("cannot size the file"))?;
            } else {
                file.allocate(len)?;
            }
            // Nobody else has it open, so the lock is to be had.
            file.lock(FlockOperation::NonBlockingLockShared)?;
            Ok(file)
        };
        let mut file = create().map_err(|problem| place.blame(problem))?;
        file.made_at = Some(place);
        Ok(file)
    }

    /// Gives a fresh segment its name.
    pub(crate) fn publish(&self) -> std::result::Result<(), Error> {
        let Some(place) = &self.made_at else { return Ok(()) };
        place.publish(self).map_err(|problem| place.blame(problem))
    }

    /// Tries to lock; says whether the lock was to be had.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<bool> {
        match flock(self, operation) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Err(unable(self, "lock files (flock)")),
            Err(errno) => Err(PathProblem::io("cannot lock the file")(errno)),
        }
    }

    /// Makes the first `len` bytes exist, so that no access to them finds the file system full.
    fn allocate(&self, len: usize) -> Result<()> {
        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, len as u64)) {
            Ok(()) => Ok(()),
            Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(PathProblem::NoSpace { size: len, source: errno.into() })
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(unable(self, "allocate space ahead (fallocate)")),
            Err(errno) => Err(PathProblem::io("cannot allocate the segment")(errno)),
        }
    }
}

impl AsFd for PathFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for PathFile {
    fn drop(&mut self) {
        if let Some(place) = &self.made_at {
            place.remove(self);
        }
        // If it fails, closing the file does it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// What may be at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A session.
    Session,
    /// A hub.
    Hub,
}

/// Bytes of the larger of the two headers.
const HEAD: usize = size_of::<HubHeader>();

/// The first bytes of a file, whatever it is.
pub(crate) struct Head([u8; HEAD]);

impl Head {
    pub(super) fn session(&self) -> SegmentHeader {
        let [header, _]: [[u8; size_of::<SegmentHeader>()]; 2] = zerocopy::transmute!(self.0);
        SegmentHeader::from_bytes(header)
    }

    fn hub(&self) -> HubHeader {
        zerocopy::transmute!(self.0)
    }

    pub(crate) fn identify_hub(&self) -> std::result::Result<(), HubLayoutError> {
        self.hub().identify()
    }

    /// Whether it is what is looked for, of a version that is known.
    pub(super) fn identify(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Session => self.session().identify().map_err(PathProblem::Foreign),
            Kind::Hub => self.identify_hub().map_err(PathProblem::ForeignToHubs),
        }
    }

    /// Whether a peer of ours created it, or took a version 1.0 creator's place after its death. Such a creator never says
    /// that it is attached.
    pub(super) fn is_ours(&self, kind: Kind) -> bool {
        let state = match kind {
            Kind::Session => self.session().peer_a_state,
            Kind::Hub => self.hub().host_state,
        };
        state != PeerState::Unknown as u32
    }
}

/// A segment's file that was found at its path, locked against being replaced, and what it said of itself.
pub(crate) struct Found {
    pub(crate) file: PathFile,
    pub(crate) header: Head,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// Bytes that it really has on its file system.
    allocated: u64,
}

impl Found {
    /// Reads what there is of a header; what is missing is zero.
    pub(super) fn read(file: PathFile) -> Result<Self> {
        let stat = fstat(&file).map_err(PathProblem::io("cannot see what was opened"))?;
        let mut header = [0; HEAD];
        pread(&file, &mut header, 0).map_err(PathProblem::io("cannot read the header of the file"))?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        #[allow(clippy::unnecessary_cast)] // signed on some targets, and never negative
        let allocated = (stat.st_blocks as u64).saturating_mul(512);
        Ok(Self { file, header: Head(header), size, allocated })
    }

    /// Makes the space exist that a version 1.0 creator left to chance.
    pub(super) fn fill_holes(&self, len: usize) -> Result<()> {
        if self.allocated >= len as u64 {
            return Ok(());
        }
        match self.file.allocate(len) {
            Err(full @ PathProblem::NoSpace { .. }) => Err(full),
            // Where that cannot be done, it has to do without, like its creator.
            _ => Ok(()),
        }
    }
}

/// Refuses what is no regular file, or another user's.
pub(super) fn check_file(stat: &Stat) -> Result<()> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let (owner, user) = (stat.st_uid, geteuid().as_raw());
            return if owner == user { Ok(()) } else { Err(PathProblem::OtherUser { owner, user }) };
        }
        FileType::Symlink => "symbolic link",
        FileType::Directory => "directory",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        _ => "device",
    };
    Err(PathProblem::NotAFile { kind })
}
