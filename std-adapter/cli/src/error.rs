//! Why the program gave up.

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use crate::target::CannotInspect;

/// Each says what was seen and, where there is something, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}; name a file that this user can read", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the second process ended early ({0})")]
    Ended(ExitStatus),
    #[error("the second process has been silent for {0} s; it was killed")]
    Silent(u64),
    #[error("the second process failed ({0})")]
    Failed(ExitStatus),
    #[error("checksum {far:08x} on the far side differs from {near:08x} on this side, after {bytes} bytes")]
    Checksum { near: u32, far: u64, bytes: u64 },
    #[error("message {seen} arrived where message {expected} was due, {bytes} bytes long")]
    Disorder { expected: u64, seen: u64, bytes: usize },
    #[error("{0} slots leaked: neither free nor held by anybody after all processes had finished")]
    Leaked(u64),
    #[error("plugin {plugin} ended early ({status})")]
    PluginEnded { plugin: u16, status: ExitStatus },
    #[error("plugin {plugin} failed ({status})")]
    PluginFailed { plugin: u16, status: ExitStatus },
    #[error("plugin {plugin} answered request {seen} with {bytes} bytes where request {expected} was due")]
    PluginDisorder { plugin: u16, expected: u64, seen: u64, bytes: usize },
    #[error("what plugin {plugin} had could not be reclaimed: {source}; the host goes on without its number")]
    NotReclaimed { plugin: u16, source: rapace_shm::HubError },
    #[error("the replacement became plugin {seen}, not {expected}, whose number was free")]
    OtherNumber { expected: u16, seen: u16 },
    #[error("the first process is gone")]
    Orphaned,
    #[error("unknown job {0}; both processes must be of the same build")]
    UnknownJob(u32),
    #[error(transparent)]
    CannotInspect(#[from] CannotInspect),
    #[error("fields that look wrong: {0}")]
    Findings(u64),
    #[error(transparent)]
    Session(#[from] rapace_shm::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// What the program ends with: 2 if a segment could not be looked at, so that 1 always says that one looks wrong.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::CannotInspect(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<rapace_shm::Unsent> for Error {
    fn from(unsent: rapace_shm::Unsent) -> Self {
        Self::Session(unsent.error)
    }
}
