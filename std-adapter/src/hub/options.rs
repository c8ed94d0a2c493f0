//! How a member of a hub behaves, and how it comes to be one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub as core_hub;
use rapace_shm_core::layout::HubConfig;

use super::host::HubHost;
use super::host_endpoint::HostBells;
use super::peer::HubPeer;
use super::peer_endpoint::{PeerEndpoint, Way};
use super::room;
use crate::barrier::Barriers;
use crate::error::Error;
use crate::handshake;
use crate::inherit;
use crate::listener::{DEFAULT_HANDSHAKE_TIMEOUT, PeerCredentials};
use crate::mapping::Mapping;
use crate::socket::connect_to;
use crate::spin::Spin;
use crate::wiring::Wiring;

/// How this member of a hub behaves, host or plugin; the others may choose otherwise.
///
/// ```
/// use rapace_shm::{HubConfig, HubOptions, Spin};
///
/// let host = HubOptions::new().spin(Spin::none()).create(HubConfig::default())?;
/// # Ok::<(), rapace_shm::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HubOptions {
    pub(super) spin: Spin,
    membarrier: bool,
    /// `None`: on a memfd, and not at a path.
    doorbells: Option<bool>,
    pub(super) sparse: bool,
    /// As far as a hub that grows may.
    pub(super) max_bytes: Option<usize>,
    pub(super) handshake_timeout: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            spin: Spin::default(),
            membarrier: true,
            doorbells: None,
            sparse: false,
            max_bytes: None,
            handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT,
        }
    }
}

impl HubOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a waiting call looks before it sleeps.
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Whether to use `membarrier(2)` where the kernel allows it (the default). Without it every message costs a fence
    /// on this side.
    #[must_use]
    pub const fn membarrier(mut self, allowed: bool) -> Self {
        self.membarrier = allowed;
        self
    }

    /// Whether the members of the hub to be created sleep on doorbells (the default on a memfd) or on futexes (the default
    /// at a path). With doorbells plugins are spawned or join by a socket, an event loop can watch for messages, and death
    /// is seen by a socket's end, and plugins of version 1.0 can be [added](HubHost::add_old_peer); with futexes plugins open the
    /// path, and their processes are watched.
    #[must_use]
    pub const fn doorbells(mut self, wanted: bool) -> Self {
        self.doorbells = Some(wanted);
        self
    }

    /// Whether a hub at a path may go without having its space allocated: then a file system that runs full ends
    /// processes with SIGBUS, whoever touches a page first. By default all of it is allocated (115 MB with the default size
    /// classes), or the hub is not created. What it grows by is allocated in any case; where that cannot be done, it does
    /// not grow.
    #[must_use]
    pub const fn sparse(mut self, allowed: bool) -> Self {
        self.sparse = allowed;
        self
    }

    /// How many bytes a hub to be created may grow to, if its classes may have more
    /// [extents](HubConfig::max_extents) than one: headers, rings and all extents together. Unless told otherwise that is
    /// what this process allows for a segment ([`MAX_BYTES_VARIABLE`](crate::MAX_BYTES_VARIABLE)), 512 MiB by default. A
    /// member that allows less does not attach. When it is reached, senders find no slot: they wait, or get
    /// [`Error::Full`].
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How long each step of a handshake may take: 5 seconds unless told otherwise.
    #[must_use]
    pub const fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// The host of a new hub on a memfd; see [`HubHost::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(self, config: HubConfig) -> Result<HubHost, Error> {
        let file = room::memfd(&config)?;
        let mapping = room::with_room(Mapping::of_sealed(file.as_fd())?, Some(file.as_fd()), &config)?;
        HubHost::new(self, &mapping, Some(file), config)
    }

    /// The plugin that the host passed to this process; see [`HubPeer::inherited`].
    ///
    /// # Errors
    /// As there.
    pub fn inherited(self) -> Result<HubPeer, Error> {
        self.take_part(inherit::take()?, Instant::now() + self.handshake_timeout)
    }

    /// A plugin of the hub whose host listens at a path; see [`HubPeer::join`].
    ///
    /// # Errors
    /// As there.
    pub fn join(self, path: impl AsRef<Path>) -> Result<HubPeer, Error> {
        self.join_if(path, PeerCredentials::is_same_user)
    }

    /// As [`join`](Self::join), with a host that is admitted by another rule than "of the same user".
    ///
    /// # Errors
    /// As there.
    pub fn join_if(
        self,
        path: impl AsRef<Path>,
        admitted: impl FnOnce(&PeerCredentials) -> bool,
    ) -> Result<HubPeer, Error> {
        let deadline = Instant::now() + self.handshake_timeout;
        let socket = connect_to(path.as_ref(), deadline)?;
        let host = PeerCredentials::of(socket.as_fd())?;
        host.admit(admitted(&host))?;
        handshake::hello_hub(socket.as_fd())?;
        self.take_part(socket, deadline)
    }

    /// Takes the welcome out of a socket, attaches, and keeps the socket as the life socket.
    fn take_part(self, socket: OwnedFd, deadline: Instant) -> Result<HubPeer, Error> {
        let (file, offer) = handshake::take_hub_welcome(&socket, deadline)?;
        let found = room::of_found(Mapping::of_sealed_or_named(file.as_fd())?, Some(file.as_fd()))?;
        let id = offer.id;
        let peer = self.attach(&found, Some(file), Some(offer.wiring(Some(socket), None)?), id)?;
        peer.say_ready()?;
        Ok(peer)
    }

    /// Attaches with a number that the host has given out.
    pub(super) fn attach(
        self,
        mapping: &Arc<Mapping>,
        file: Option<OwnedFd>,
        wiring: Option<Wiring>,
        id: PeerId,
    ) -> Result<HubPeer, Error> {
        self.attach_with(mapping, wiring.map_or(Way::Path, |wiring| Way::Wired(wiring, file)), id)
    }

    /// As [`attach`](Self::attach), whatever there is between this plugin and its host.
    pub(super) fn attach_with(self, mapping: &Arc<Mapping>, way: Way, id: PeerId) -> Result<HubPeer, Error> {
        let region = mapping.region()?;
        let slots = core_hub::HubPeer::peek(&region)?.slots();
        let endpoint = PeerEndpoint::new(region, slots, self.barriers(), way);
        let mut link = core_hub::HubPeer::attach(endpoint.clone(), id)?;
        endpoint.take_place(&mut link)?;
        // The host may have been asleep since before there was anybody.
        link.greet();
        Ok(HubPeer::new(link, self.spin))
    }

    pub(super) fn barriers(self) -> Barriers {
        if self.membarrier { Barriers::of_process() } else { Barriers::FENCES }
    }

    /// The bells of a new hub, if it has any.
    pub(super) fn bells(self, unless_told: bool) -> Result<Option<HostBells>, Error> {
        self.doorbells.unwrap_or(unless_told).then(HostBells::new).transpose()
    }
}
