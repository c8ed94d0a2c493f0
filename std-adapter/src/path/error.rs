//! What can be wrong with a path, in words that name it.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rapace_shm_core::layout::{HubLayoutError, LayoutError};
use rustix::fs::fstatfs;
use rustix::io::Errno;

use crate::error::Error;

/// A session could not be made or opened at a path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct PathError {
    /// The path, as the caller gave it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: PathProblem,
}

/// What is wrong with the path of a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// The path ends in no name: it is empty, `/`, or ends in `..`.
    #[error("this is no name of a file; name one in a directory that exists")]
    NoName,
    /// Something else than a file has that name; it was neither followed nor opened.
    #[error("a {kind} is there, and a session is a regular file; it is left alone: choose another path")]
    NotAFile {
        /// What it is: "symbolic link", "directory", "fifo", "socket", "device".
        kind: &'static str,
    },
    /// The file belongs to another user, who could cut it short at any time.
    #[error(
        "the file belongs to user {owner}, this process is user {user}; choose another path, or have the owner pass a memfd"
    )]
    OtherUser {
        /// Id of the file's owner.
        owner: u32,
        /// Id that this process has for files.
        user: u32,
    },
    /// To create: the file that is there is no session, or one of another version.
    #[error("the file that is there is left alone ({0}); choose another path, or remove it if nobody needs it")]
    Foreign(LayoutError),
    /// To create: the file that is there is no hub, or one of another version.
    #[error("the file that is there is left alone ({0}); choose another path, or remove it if nobody needs it")]
    ForeignToHubs(HubLayoutError),
    /// To create: a version 1.0 peer made the session that is there. Such a peer says neither that it lives nor that it is
    /// gone.
    #[error(
        "a version 1.0 peer made the session that is there, and may still use it; it is left alone: choose another path, \
         or remove it if that peer is gone"
    )]
    Unmarked,
    /// To create: somebody uses the session that is there.
    #[error("a live session is there; open it, choose another path, or end the process that uses it")]
    Live,
    /// To open: whoever used the session that is there has gone without removing it.
    #[error("everybody who used the session that is there is gone; create it anew")]
    Stale,
    /// What the name leads to kept changing, or its lock kept being taken.
    #[error(
        "the file was replaced or locked by others at each of {tries} tries; try again, or see who else uses the path"
    )]
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// The file system has no room for the segment. Nothing is left of it.
    #[error(
        "no room for a segment of {size} bytes ({source}); free some, make the session smaller, or use a larger file \
         system (in a container /dev/shm often has 64 MiB)"
    )]
    NoSpace {
        /// Size of the segment in bytes.
        size: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system cannot do what a session needs.
    #[error(
        "the file system (type {file_system:#x}) cannot {what}; use a directory on tmpfs (/dev/shm), ext4, xfs or btrfs"
    )]
    FileSystem {
        /// What it cannot do.
        what: &'static str,
        /// Its type, as `statfs(2)` gives it; 0 if it does not say.
        file_system: u64,
    },
    /// A system call failed for another reason.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl PathProblem {
    /// For `map_err` behind a system call.
    pub(super) fn io(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { what, source: errno.into() }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NoName => io::ErrorKind::InvalidInput,
            Self::OtherUser { .. } => io::ErrorKind::PermissionDenied,
            Self::NotAFile { .. } | Self::Foreign(_) | Self::ForeignToHubs(_) | Self::Unmarked => {
                io::ErrorKind::AlreadyExists
            }
            Self::Live | Self::Contended { .. } => io::ErrorKind::ResourceBusy,
            Self::Stale => io::ErrorKind::ConnectionRefused,
            Self::NoSpace { .. } => io::ErrorKind::StorageFull,
            Self::FileSystem { .. } => io::ErrorKind::Unsupported,
            Self::Io { source, .. } => source.kind(),
        }
    }
}

impl PathError {
    /// The kind that an [`io::Error`] made of this has.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.problem.kind()
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::Path(Box::new(error))
    }
}

/// What to say when the file system of `fd` cannot do something.
pub(super) fn unable(fd: impl AsFd, what: &'static str) -> PathProblem {
    let file_system = fstatfs(fd).map_or(0, |system| system.f_type.cast_unsigned());
    PathProblem::FileSystem { what, file_system }
}
