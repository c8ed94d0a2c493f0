//! The open file behind a path segment: its space, its lock, its header, and what becomes of its name.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rapace_shm_core::layout::{PeerState, SegmentHeader};
use rustix::fs::{FallocateFlags, FileType, FlockOperation, Stat, fallocate, flock, fstat};
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

    /// A fresh segment of `len` bytes, locked, that has no name yet.
    pub(super) fn create(place: Place, len: usize) -> std::result::Result<Self, Error> {
        let create = || {
            let file = Self::open(place.nameless()?);
            file.allocate(len)?;
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

/// A segment's file that was found at its path, locked against being replaced, and what it said of itself.
pub(super) struct Found {
    pub(super) file: PathFile,
    pub(super) header: SegmentHeader,
    /// Its size in bytes.
    pub(super) size: usize,
    /// Bytes that it really has on its file system.
    allocated: u64,
}

impl Found {
    /// Reads what there is of a header; what is missing is zero.
    pub(super) fn read(file: PathFile) -> Result<Self> {
        let stat = fstat(&file).map_err(PathProblem::io("cannot see what was opened"))?;
        let mut header = [0; size_of::<SegmentHeader>()];
        pread(&file, &mut header, 0).map_err(PathProblem::io("cannot read the header of the file"))?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        #[allow(clippy::unnecessary_cast)] // signed on some targets, and never negative
        let allocated = (stat.st_blocks as u64).saturating_mul(512);
        Ok(Self { file, header: SegmentHeader::from_bytes(header), size, allocated })
    }

    /// Whether a peer of ours created the session, or took a version 1.0 creator's place after its death. Such a creator
    /// never says that it is attached.
    pub(super) fn is_ours(&self) -> bool {
        self.header.peer_a_state != PeerState::Unknown as u32
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
