//! One plugin as its host has it.

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::{AnyLink, HostEnd, HubAllocator};
use rapace_shm_core::link;

use super::host_endpoint::HostEndpoint;
use super::{HostReceiver, HostSender};

/// The host's end of the link to one plugin.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: PeerId,
    /// `None` once it was taken to another thread.
    pub(super) sender: Option<HostSender>,
    pub(super) receiver: HostReceiver,
    /// Whether its end was reported.
    pub(super) ended: bool,
}

impl AnyLink<HostEndpoint> for Member {
    fn id(&self) -> PeerId {
        self.id
    }

    fn receiver(&mut self) -> Option<&mut link::Receiver<HostEnd<HostEndpoint>, HubAllocator>> {
        if self.ended { None } else { Some(self.receiver.link()) }
    }

    fn end(&mut self) {
        self.ended = true;
    }
}

/// The host's end of the link to one plugin that waits alone: in a thread of its own.
///
/// Dropped (or both its halves), the link is closed; the plugin's number is given out again once the plugin is gone.
#[derive(Debug)]
pub struct HubEnd {
    id: PeerId,
    sender: HostSender,
    receiver: HostReceiver,
}

impl HubEnd {
    pub(super) fn new(id: PeerId, sender: HostSender, receiver: HostReceiver) -> Self {
        Self { id, sender, receiver }
    }

    /// The number of the plugin at the other end.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Both halves, borrowed.
    pub fn split(&mut self) -> (&mut HostSender, &mut HostReceiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Both halves, to go to different threads. Each closes its direction when it is dropped.
    #[must_use]
    pub fn into_split(self) -> (HostSender, HostReceiver) {
        (self.sender, self.receiver)
    }

    /// The end that two halves came from.
    ///
    /// # Errors
    /// Both halves, if they came from two.
    pub fn reunite(sender: HostSender, receiver: HostReceiver) -> Result<Self, Box<(HostSender, HostReceiver)>> {
        let (of_sender, of_receiver) = (sender.endpoint(), receiver.endpoint());
        if of_sender.peer() == of_receiver.peer() && of_sender.host().is_same(of_receiver.host()) {
            return Ok(Self { id: of_sender.peer(), sender, receiver });
        }
        Err(Box::new((sender, receiver)))
    }
}
