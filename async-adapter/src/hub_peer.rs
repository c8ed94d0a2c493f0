//! The transports of one link of a hub: a plugin's, and its host's towards one plugin.
//!
//! ```text
//!   plugin   HubPeerTransport <---- two rings ----> HubHostPeerTransport   one task of the host, which waits alone
//!   plugin   HubPeerTransport <---- two rings ----> HubHostTransport       the host, which waits for many
//! ```
//!
//! Both are what a session's transport is, over another endpoint and another pool of slots.

use std::path::Path;

use rapace_shm::core::hub::HubAllocator;
use rapace_shm::{Error, HostLinkEndpoint, HubEnd, HubPeer, PeerEndpoint, PeerId};

use crate::listener::unblock;
use crate::sender::ShmSender;
use crate::transport::{ShmTransport, TransportOptions};

/// A plugin's transport, to its host.
///
/// ```
/// use rapace_shm::{HubConfig, HubHost, MsgDescHot, Waits};
/// use rapace_shm_async::{HubHostPeerTransport, HubPeerTransport};
///
/// let mut host = HubHost::create(HubConfig::default())?;
/// let plugin = host.add_local(Waits::Alone)?; // most are other processes: spawned, or joined by a socket
/// let end = host.take(plugin.id())?;
/// let (plugin, host) = (HubPeerTransport::new(plugin)?, HubHostPeerTransport::new(end)?);
/// futures::executor::block_on(async {
///     plugin.send(&MsgDescHot::data(1), &[7; 4000]).await?;
///     assert_eq!(host.recv().await?.payload(), [7; 4000]);
///     Ok::<_, rapace_shm::Error>(())
/// })?;
/// # Ok::<(), rapace_shm::Error>(())
/// ```
pub type HubPeerTransport = ShmTransport<PeerEndpoint, HubAllocator>;

/// The host's transport to one plugin that waits alone ([`Waits::Alone`](rapace_shm::Waits::Alone)): one peer, one task.
pub type HubHostPeerTransport = ShmTransport<HostLinkEndpoint, HubAllocator>;

/// A handle by which tasks send to one plugin of a [`HubHostTransport`](crate::HubHostTransport). It does not keep the plugin's
/// place: once the plugin has ended, every call fails with [`Error::Closed`] or [`Error::PeerDied`], also when the number was
/// given to another one.
pub type HostPeerHandle = ShmSender<HostLinkEndpoint, HubAllocator>;

impl HostPeerHandle {
    /// The plugin's number.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.endpoint().peer()
    }
}

impl HubPeerTransport {
    /// The plugin of the hub whose host listens at the path of a socket.
    ///
    /// # Errors
    /// As [`TransportOptions::join`].
    pub async fn join(path: impl AsRef<Path>) -> Result<Self, Error> {
        TransportOptions::new().join(path).await
    }

    /// The plugin that this process is, if a host started it. Works once.
    ///
    /// # Errors
    /// As [`TransportOptions::inherited`].
    pub fn inherited() -> Result<Self, Error> {
        TransportOptions::new().inherited()
    }

    /// This plugin's number.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.with_sender(|sender| sender.slots().1.owner())
    }

    /// The plugin below: to look at it, or to block on it. `None` if there are other handles of its sender; they remain, and
    /// the receiver is closed.
    #[must_use]
    pub fn into_peer(self) -> Option<HubPeer> {
        let (sender, receiver) = self.into_halves()?;
        HubPeer::reunite(sender, receiver).ok()
    }
}

impl HubHostPeerTransport {
    /// The number of the plugin at the other end.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.endpoint().peer()
    }

    /// The end of the link below: to look at it, or to block on it. `None` if there are other handles of its sender; they
    /// remain, and the receiver is closed.
    #[must_use]
    pub fn into_end(self) -> Option<HubEnd> {
        let (sender, receiver) = self.into_halves()?;
        HubEnd::reunite(sender, receiver).ok()
    }
}

impl TransportOptions {
    /// A plugin of the hub whose host listens at the path of a socket. The handshake runs on a thread, which ends with it; a
    /// future that is dropped meanwhile gives up the place.
    ///
    /// # Errors
    /// As [`HubPeer::join`], and as [`over`](Self::over).
    pub async fn join(self, path: impl AsRef<Path>) -> Result<HubPeerTransport, Error> {
        let (options, path) = (self.hub, path.as_ref().to_owned());
        self.over(unblock(move || options.join(path)).await?)
    }

    /// The plugin that this process is, if a host started it. Works once. The welcome is in the inherited socket already,
    /// so nothing is waited for.
    ///
    /// # Errors
    /// As [`HubPeer::inherited`], and as [`over`](Self::over).
    pub fn inherited(self) -> Result<HubPeerTransport, Error> {
        self.over(self.hub.inherited()?)
    }
}
