//! Which segment to look at, and how it is opened: for reading only.
//!
//! A session between a parent and its child has no name in the file system, but every process that holds its memfd shows
//! it as `/proc/PID/fd/FD`, to processes that may trace it: those of the same user, as a rule.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use rapace_shm::inspect::{InspectError, Report};
use rustix::fs::{Mode, OFlags};

/// What those who look at a segment are told.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// A file, or PID:FD for a descriptor of a running process (`ls -l /proc/PID/fd` lists them); write ./1:2 for a file
    /// of such a name
    #[arg(value_parser = OsStringValueParser::new().map(Target::from))]
    target: Target,
}

/// Where a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file.
    Path(PathBuf),
    /// A descriptor of a process.
    Descriptor { pid: u32, fd: u32 },
}

impl From<OsString> for Target {
    fn from(word: OsString) -> Self {
        let descriptor = |word: &str| {
            let (pid, fd) = word.split_once(':')?;
            Some(Self::Descriptor { pid: pid.parse().ok()?, fd: fd.parse().ok()? })
        };
        word.to_str().and_then(descriptor).unwrap_or_else(|| Self::Path(word.into()))
    }
}

impl Target {
    fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Descriptor { pid, fd } => format!("/proc/{pid}/fd/{fd}").into(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Descriptor { pid, fd } => write!(f, "{pid}:{fd}"),
        }
    }
}

/// Why there was nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum CannotInspect {
    #[error("there is no file {}; name one, or a descriptor as PID:FD", .0.display())]
    NoFile(PathBuf),
    #[error(
        "there is no process {0}; a segment without a name in the file system is gone with the last process that had it"
    )]
    NoProcess(u32),
    #[error("process {pid} has no descriptor {fd}; `ls -l /proc/{pid}/fd` lists those that it has")]
    NoDescriptor { pid: u32, fd: u32 },
    #[error("this user may not read {0}; be the user that it belongs to, or root")]
    NotAllowed(Target),
    #[error("cannot open {target}: {source}")]
    Open { target: Target, source: io::Error },
    #[error("{target}: {source}")]
    Segment { target: Target, source: InspectError },
    #[error("{0} is gone: those who had it have closed it, or put another in its place")]
    Gone(Target),
}

/// A segment that was opened.
#[derive(Debug)]
pub struct Segment {
    target: Target,
    file: File,
}

impl Which {
    /// Opens it.
    pub fn open(&self) -> Result<Segment, CannotInspect> {
        let target = self.target.clone();
        Ok(Segment { file: open(&target)?, target })
    }
}

impl Segment {
    /// Takes a report.
    pub fn look(&self, how: fn(&File) -> Result<Report, InspectError>) -> Result<Report, CannotInspect> {
        how(&self.file).map_err(|source| CannotInspect::Segment { target: self.target.clone(), source })
    }

    /// Whether it can still be found where it was. What is open stays readable without that, and says nothing any more.
    pub fn expect_there(&self) -> Result<(), CannotInspect> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let opened = self.file.metadata().map(identity);
        let there = std::fs::metadata(self.target.path()).map(identity);
        match (opened, there) {
            (Ok(opened), Ok(there)) if opened == there => Ok(()),
            _ => Err(CannotInspect::Gone(self.target.clone())),
        }
    }

    /// How the user named it.
    pub const fn target(&self) -> &Target {
        &self.target
    }
}

/// Opens for reading, without waiting for the other end should it be a pipe.
fn open(target: &Target) -> Result<File, CannotInspect> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(target.path(), flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(why(target, error.into())),
    }
}

fn why(target: &Target, source: io::Error) -> CannotInspect {
    match (source.kind(), target) {
        (io::ErrorKind::NotFound, Target::Path(path)) => CannotInspect::NoFile(path.clone()),
        (io::ErrorKind::NotFound, Target::Descriptor { pid, fd }) => {
            if Path::new("/proc").join(pid.to_string()).exists() {
                CannotInspect::NoDescriptor { pid: *pid, fd: *fd }
            } else {
                CannotInspect::NoProcess(*pid)
            }
        }
        (io::ErrorKind::PermissionDenied, _) => CannotInspect::NotAllowed(target.clone()),
        _ => CannotInspect::Open { target: target.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_a_descriptor_and_everything_else_a_path() {
        let target = |word: &str| Target::from(OsString::from(word));
        assert_eq!(target("12:3"), Target::Descriptor { pid: 12, fd: 3 });
        for path in ["./12:3", "12", "12:", ":3", "12:3:4", "12:x", "-1:3", "99999999999:3", "/dev/shm/a:1"] {
            assert_eq!(target(path), Target::Path(path.into()));
        }
    }

    #[test]
    fn why_a_target_was_not_opened_says_what_to_do() {
        let path = Target::Path("/secret".into());
        let descriptor = Target::Descriptor { pid: std::process::id(), fd: 9 };
        let said = |target: &Target, kind: io::ErrorKind| why(target, kind.into()).to_string();
        assert!(said(&path, io::ErrorKind::PermissionDenied).starts_with("this user may not read /secret; be "));
        assert!(said(&descriptor, io::ErrorKind::NotFound).contains(" has no descriptor 9; "));
        assert!(said(&path, io::ErrorKind::Interrupted).starts_with("cannot open /secret: "));
    }
}
