//! Sessions between peers that meet by a file name.
//!
//! ```
//! use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("session");
//! // one process
//! let mut a = ShmSession::create_at(&path, ShmSessionConfig::default())?;
//! // another one of the same user
//! let mut b = ShmSession::open_at(&path)?;
//! a.split().0.send(&MsgDescHot::data(1), b"found you")?;
//! assert_eq!(b.split().1.recv()?.payload(), b"found you");
//! // the name goes with the creator
//! drop(a);
//! assert!(!path.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promised
//!
//! ```text
//! creator   O_TMPFILE, allocate, write, lock shared ── link ── ... ── unlink if it is still ours, close
//!                                                       │
//! name      nothing, or a session that nobody uses ─────┴──── the whole session ─────┐
//!                                                                                    │
//! opener                       open, lock shared, does the name still lead here?, read the header, map
//! ```
//!
//! - The file appears under its name complete or not at all, with mode 0600 whatever the umask.
//! - All its space is allocated before it appears. A file system without room for it (in a container, `/dev/shm` often has
//!   64 MiB) is an error of `create_at`, and never a SIGBUS later.
//! - No symbolic link at the name is followed, and nothing that is no regular file of this user is opened. (Links among
//!   the directories on the way are followed.) The exception is a name in procfs: `/proc/PID/fd/N` is how a memfd of
//!   another process is opened by path.
//! - Everyone attached holds a shared `flock(2)` on the file, which the kernel takes away from the dead. `create_at` replaces
//!   a file only if it is a session of this layout, created by this library, and locked by nobody. `open_at` refuses such
//!   a file as stale. A file that a version 1.0 peer made is opened but never replaced, because such a peer holds no lock.
//! - The creator removes the name when the last of its halves, loans and payloads goes, if the name still leads to its
//!   file. An opener removes nothing. What a killed creator leaves behind, the next `create_at` at that path replaces.
//! - Lengths and shape are checked before anything is mapped, and again in the mapping.
//!
//! # Not promised
//!
//! - **A file can be cut short later**, by its owner or root: by `truncate(1)`, a careless script, or a version 1.0 peer that
//!   creates its session at the same path. The next access beyond the new end is a SIGBUS, which ends the process. The
//!   kernel lets only a memfd be sealed against that: where it matters, use [`ShmSession::create`] and pass the descriptor.
//! - Whoever removes or renames the file by hand takes the name away; those who are attached do not notice.
//! - The same user is trusted. The file of another user is refused, even for root, because its owner could do the above
//!   on purpose. A session between users is one whose memfd is passed.
//! - A forked child that runs no other program shares the lock: if its parent is killed, the file counts as in use until the
//!   child has ended, too.
//! - Network file systems have no memory to share between machines; most refuse at `create_at`, with an error that gives the
//!   type of the file system. The memory limit of a container also counts what lies in its `/dev/shm`.
//! - The name is free for a moment while a stale file is replaced, so somebody who opens it just then finds nothing.

mod error;
mod file;
mod place;

use std::path::Path;
use std::sync::Arc;

use rapace_shm_core::layout::{ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::{Link, LinkError};

pub use error::{PathError, PathProblem};
pub(crate) use file::{Kind, PathFile};
pub(crate) use place::Place;

use crate::endpoint::ShmEndpoint;
use crate::error::Error;
use crate::mapping::{Mapping, check_limit};
use crate::session::{SessionOptions, ShmSession};

impl SessionOptions {
    /// Peer A of a new session at a path; see [`ShmSession::create_at`].
    ///
    /// # Errors
    /// As there.
    pub fn create_at(self, path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<ShmSession, Error> {
        let len = calculate_segment_size(&config)?;
        check_limit(len)?;
        let place = Place::find(path.as_ref(), Kind::Session)?;
        // First, so that there is room for the new one where there was for the old one.
        place.vacate().map_err(|problem| place.blame(problem))?;
        let mapping = Arc::new(Mapping::of_path(PathFile::create(place, len, false)?, len)?);
        let session = self.session(Link::create(self.endpoint(&mapping, config.slot_count, None)?, config)?);
        mapping.publish()?;
        Ok(session)
    }

    /// The other peer of a session at a path; see [`ShmSession::open_at`].
    ///
    /// # Errors
    /// As there.
    pub fn open_at(self, path: impl AsRef<Path>) -> Result<ShmSession, Error> {
        self.open(path.as_ref(), Link::attach)
    }

    /// As [`open_at`](Self::open_at), if the session has exactly this shape; see [`ShmSession::open_at_expecting`].
    ///
    /// # Errors
    /// As there.
    pub fn open_at_expecting(self, path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<ShmSession, Error> {
        self.open(path.as_ref(), |endpoint| Link::attach_expecting(endpoint, config))
    }

    fn open(
        self,
        path: &Path,
        attach: impl FnOnce(ShmEndpoint) -> Result<Link<ShmEndpoint>, LinkError>,
    ) -> Result<ShmSession, Error> {
        let place = Place::find(path, Kind::Session)?;
        let found = place.attach().map_err(|problem| place.blame(problem))?;
        let config = found.header.session().shape(found.size)?;
        let len = calculate_segment_size(&config)?;
        check_limit(len)?;
        found.fill_holes(len).map_err(|problem| place.blame(problem))?;
        let mapping = Arc::new(Mapping::of_path(found.file, len)?);
        Ok(self.newcomer(attach(self.endpoint(&mapping, config.slot_count, None)?)?))
    }
}

impl ShmSession {
    /// Peer A of a new session in a file at `path`, mode 0600, which [`open_at`](Self::open_at) finds. The name is removed
    /// when this session goes. A session that was left there by processes which are all dead is replaced; whatever else is
    /// there is an error and left alone. [The module](crate::path) says what that promises and what it cannot.
    ///
    /// Waits up to 10 milliseconds for others who look at the same file.
    ///
    /// # Errors
    /// [`Error::Path`]: something is there, or the directory or its file system cannot take a session. A shape that the layout
    /// cannot carry, or a segment above the size limit.
    pub fn create_at(path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<Self, Error> {
        SessionOptions::new().create_at(path, config)
    }

    /// The other peer of the session at `path`, whose shape is read from its header. Everything about the file is checked
    /// before it is used.
    ///
    /// It may be a file that a version 1.0 peer made, or another process's memfd by its path under `/proc/PID/fd`. A file
    /// that is longer than its shape needs is accepted. Waits up to 10 milliseconds for others who look at the same file.
    ///
    /// # Errors
    /// [`Error::Path`]: nothing is there, no session, or one that everybody has left. [`Error::Incompatible`],
    /// [`Error::LimitExceeded`], [`Error::Link`] if both sides are taken.
    pub fn open_at(path: impl AsRef<Path>) -> Result<Self, Error> {
        SessionOptions::new().open_at(path)
    }

    /// As [`open_at`](Self::open_at), if the session has exactly this shape.
    ///
    /// # Errors
    /// As there, and [`Error::Incompatible`] with both shapes if they differ.
    pub fn open_at_expecting(path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<Self, Error> {
        SessionOptions::new().open_at_expecting(path, config)
    }
}
