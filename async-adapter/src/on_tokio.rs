//! A doorbell on the reactor of the tokio runtime that is running.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rapace_shm::{Error, EventSource};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::bell::unwatched;

/// An event source that tokio watches.
///
/// # Invariants
/// 1. The descriptor is owned, so it stays open, and the same file, until the registration is gone: `AsyncFd` takes that
///    back before it drops what it owns, and this type never gives the descriptor away.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Outside of a runtime tokio would panic, so that is asked first. (In a runtime without I/O it does; nobody can ask.)
    pub(crate) fn new(source: EventSource) -> Result<Self, Error> {
        let what = "no tokio runtime is running here; make the transport inside one, or use TransportOptions::new";
        Handle::try_current().map_err(|source| Error::Io { what, source: io::Error::other(source) })?;
        // SAFETY: invariant 1.
        let watched = unsafe { AsyncFd::register_with_interest(OwnedFd::from(source), Interest::READABLE) };
        watched.map(Self).map_err(|refused| unwatched(refused.into()))
    }

    /// Ready once the source became readable since this was last ready.
    pub(crate) fn poll_stirred(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Cleared before the bell is drained: what rings in between is heard again.
        ready!(self.0.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}
