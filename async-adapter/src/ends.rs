//! What a transport is made over: anything that has a sender and a receiver of one link.

use rapace_shm::core::hub::HubAllocator;
use rapace_shm::core::slots::{DataSegment, SlotPool};
use rapace_shm::{
    HostLinkEndpoint, HubEnd, HubPeer, OsEndpoint, PeerEndpoint, Receiver, Sender, ShmEndpoint, ShmSession,
};

/// Both ends of a link: a [`ShmSession`], a hub's plugin ([`HubPeer`]), or its host's end of the link to one ([`HubEnd`]).
/// These three, and no others.
pub trait Ends: private::Sealed {
    /// This side's environment.
    type Endpoint: OsEndpoint;
    /// Where its loans come from.
    type Pool: SlotPool;
    /// The sender and the receiver.
    fn into_ends(self) -> Halves<Self::Endpoint, Self::Pool>;
}

/// The sender and the receiver of one link.
pub type Halves<E, P> = (Sender<E, P>, Receiver<E, P>);

mod private {
    pub trait Sealed {}
}

macro_rules! ends {
    ($($link:ty: $endpoint:ty, $pool:ty;)*) => {$(
        impl private::Sealed for $link {}

        impl Ends for $link {
            type Endpoint = $endpoint;
            type Pool = $pool;

            fn into_ends(self) -> Halves<$endpoint, $pool> {
                self.into_split()
            }
        }
    )*};
}

ends! {
    ShmSession: ShmEndpoint, DataSegment;
    HubPeer: PeerEndpoint, HubAllocator;
    HubEnd: HostLinkEndpoint, HubAllocator;
}
