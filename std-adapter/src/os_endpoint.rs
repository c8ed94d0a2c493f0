//! What a blocking half needs of an endpoint besides what core asks for: that its thread can sleep.
//!
//! There are three such endpoints, and one set of halves over all of them:
//!
//! ```text
//!   Sender, Receiver  <  ShmEndpoint          one side of a session
//!                     <  PeerEndpoint         a plugin of a hub
//!                     <  HostEnd<HostEndpoint>   a hub's host, towards one plugin
//! ```

use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::{Endpoint, Half};
use rapace_shm_core::region::RawRegion;
use rapace_shm_core::wake::Ticket;

use crate::error::Error;
use crate::event_source::EventSource;
use crate::mapping::Mapping;
use crate::system_calls::SystemCalls;

/// An endpoint with an operating system: it can sleep and be roused, and it learns of its peer's death. Implemented by
/// this crate's endpoints only; for adapters that drive the halves' `poll_` steps themselves.
pub trait OsEndpoint: Endpoint<Region = RawRegion<Arc<Mapping>>> + Send + Sync + private::Sealed + 'static {
    /// Sleeps where the ticket says, until somebody signals, the peer is gone or the deadline (of the monotonic clock)
    /// passes; false in the last case. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Io`] as the kernel says it.
    fn sleep(&self, ticket: &Ticket, deadline: Option<Instant>) -> Result<bool, Error>;

    /// Ends a [`sleep`](Self::sleep) of this side on the ticket, in whatever thread that is.
    fn rouse(&self, ticket: &Ticket);

    /// Looks whether the peer is gone, for whoever has not slept for long.
    fn look_for_death(&self);

    /// What a foreign event loop watches for one half.
    ///
    /// # Errors
    /// [`Error::NoDoorbell`] if this side sleeps on a futex, [`Error::Io`] if there are too many open files.
    fn event_source(&self, half: Half) -> Result<EventSource, Error>;

    /// Silences a half's event source, and notes the peer's death.
    fn drain(&self, half: Half);

    /// The system calls that this side has made so far.
    fn system_calls(&self) -> SystemCalls;
}

pub(crate) mod private {
    /// Keeps others from implementing [`OsEndpoint`](super::OsEndpoint): what it promises may grow.
    pub trait Sealed {}
}
