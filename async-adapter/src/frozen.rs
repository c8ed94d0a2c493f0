//! Bytes that are read on while they are in flight, for the encoder: a session has them, a hub has none.

use std::future::Future;
use std::ops::Range;

use rapace_shm::core::hub::HubAllocator;
use rapace_shm::core::slots::{DataSegment, Slot, SlotPool};
use rapace_shm::{Error, HostLinkEndpoint, MsgDescHot, OsEndpoint, PeerEndpoint, ShmBytes, ShmEndpoint};

use crate::transport::ShmTransport;

/// How an endpoint finds its [`ShmBytes`], and sends them. What is provided is what an endpoint does that has none.
pub trait Frozen<P: SlotPool + Send + Sync + 'static>: OsEndpoint {
    /// Those that these bytes are part of.
    fn bytes_at(&self, bytes: &[u8]) -> Option<ShmBytes> {
        let _ = bytes;
        None
    }

    /// Those in a part of a slot.
    fn bytes_in(&self, slot: Slot, range: Range<usize>) -> Option<ShmBytes> {
        let _ = (slot, range);
        None
    }

    /// Sends some.
    fn send_bytes(
        transport: &ShmTransport<Self, P>,
        descriptor: &MsgDescHot,
        bytes: &ShmBytes,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        transport.send(descriptor, bytes)
    }
}

impl Frozen<DataSegment> for ShmEndpoint {
    fn bytes_at(&self, bytes: &[u8]) -> Option<ShmBytes> {
        self.bytes_at(bytes)
    }

    fn bytes_in(&self, slot: Slot, range: Range<usize>) -> Option<ShmBytes> {
        self.bytes_in(slot, range)
    }

    fn send_bytes(
        transport: &ShmTransport,
        descriptor: &MsgDescHot,
        bytes: &ShmBytes,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        transport.send_bytes(descriptor, bytes)
    }
}

impl Frozen<HubAllocator> for PeerEndpoint {}
impl Frozen<HubAllocator> for HostLinkEndpoint {}
