//! A plugin: one link, to the host.

use std::path::Path;
use std::sync::Arc;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::{HubLink, HubSlotStatus};
use rapace_shm_core::layout::HubConfig;

use super::options::HubOptions;
use super::peer_endpoint::PeerEndpoint;
use super::{HubReceiver, HubSender};
use crate::error::Error;
use crate::handshake;
use crate::metrics::ShmMetrics;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;
use crate::trace::event;

/// A plugin of a hub: both directions of its link to the host.
///
/// Dropped, it leaves: the host receives everything that was sent, then sees the end. Its number is given out again once
/// its last loan and payload are gone, too.
#[derive(Debug)]
pub struct HubPeer {
    id: PeerId,
    sender: HubSender,
    receiver: HubReceiver,
}

impl HubPeer {
    pub(super) fn new(link: HubLink<PeerEndpoint>, spin: Spin) -> Self {
        let (id, sender, receiver) = link.into_parts();
        event!(DEBUG, plugin = id.0, "plugin attached");
        Self { id, sender: Sender::new(sender, spin), receiver: Receiver::new(receiver, spin) }
    }

    /// The plugin that this process is, if a host started it with [`HubHost::spawn`](super::HubHost::spawn) or
    /// [`pass_to`](super::HubHost::pass_to). Works once.
    ///
    /// # Errors
    /// [`Error::NotInherited`] if it is none or that was taken already, otherwise as [`join`](Self::join).
    pub fn inherited() -> Result<Self, Error> {
        HubOptions::new().inherited()
    }

    /// A plugin of the hub whose host [listens](super::HubHost::bind) at a path. The host gives it a number. A plugin that
    /// comes back after a crash does the same.
    ///
    /// # Errors
    /// [`Error::Handshake`] if nobody is there, if it is no hub, another user's, has no place free, or takes more than 5
    /// seconds. [`Error::NotSealed`], [`Error::LimitExceeded`], [`Error::Hub`] if what it gives is no such hub.
    pub fn join(path: impl AsRef<Path>) -> Result<Self, Error> {
        HubOptions::new().join(path)
    }

    /// A plugin of the hub at `path`, with the number that its host has [given](super::HubHost::add_peer) it. Everything
    /// about the file is checked before it is used.
    ///
    /// # Errors
    /// [`Error::Path`]: nothing is there, no hub, or one that everybody has left. [`Error::Hub`]: no such hub, or a number
    /// that is not given out, is taken, or belongs to another. [`Error::LimitExceeded`].
    pub fn open_at(path: impl AsRef<Path>, id: PeerId) -> Result<Self, Error> {
        HubOptions::new().open_at(path, id)
    }

    /// This plugin's number.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// The shape of the hub.
    #[must_use]
    pub fn config(&self) -> HubConfig {
        self.sender.slots().1.config()
    }

    /// What the hub's slots look like at this moment, everybody's.
    #[must_use]
    pub fn slot_status(&self) -> HubSlotStatus {
        let (endpoint, pool) = self.sender.slots();
        pool.slot_status(endpoint)
    }

    /// The system calls that this plugin has made so far.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.receiver.system_calls()
    }

    /// Counts what goes through this plugin's link, from now on and in both its halves. Says whether it does: the first
    /// set of counters that it is given is the one that it keeps.
    pub fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.sender.endpoint().count_into(metrics)
    }

    /// Both halves, borrowed.
    pub fn split(&mut self) -> (&mut HubSender, &mut HubReceiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Both halves, to go to different threads. Each closes its direction when it is dropped.
    #[must_use]
    pub fn into_split(self) -> (HubSender, HubReceiver) {
        (self.sender, self.receiver)
    }

    /// The plugin that two halves came from.
    ///
    /// # Errors
    /// Both halves, if they came from two.
    pub fn reunite(sender: HubSender, receiver: HubReceiver) -> Result<Self, Box<(HubSender, HubReceiver)>> {
        if sender.endpoint().is_same(receiver.endpoint()) {
            return Ok(Self { id: sender.slots().1.owner(), sender, receiver });
        }
        Err(Box::new((sender, receiver)))
    }

    /// Tells the host that this plugin has attached.
    pub(super) fn say_ready(&self) -> Result<(), Error> {
        use std::os::fd::AsFd;
        let life = self.sender.endpoint().wiring().and_then(|wiring| wiring.life.as_ref());
        life.map_or(Ok(()), |life| handshake::ready(life.as_fd()))
    }
}
