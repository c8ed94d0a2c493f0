//! Hubs that are found by a file name. [`crate::path`] says what that promises and what it cannot.

use std::path::Path;
use std::sync::atomic::Ordering;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::layout::{HubConfig, HubHeader, PeerState, calculate_hub_size};
use rapace_shm_core::region::Region;

use super::host::HubHost;
use super::options::HubOptions;
use super::peer::HubPeer;
use super::peer_endpoint::Way;
use super::room;
use crate::doorbell::Doorbell;
use crate::error::Error;
use crate::mapping::{Mapping, check_limit};
use crate::path::{Kind, PathFile, Place};

impl HubOptions {
    /// The host of a new hub at a path; see [`HubHost::create_at`].
    ///
    /// # Errors
    /// As there.
    pub fn create_at(self, path: impl AsRef<Path>, config: HubConfig) -> Result<HubHost, Error> {
        let len = calculate_hub_size(&config)?;
        check_limit(len)?;
        let place = Place::find(path.as_ref(), Kind::Hub)?;
        // First, so that there is room for the new one where there was for the old one.
        place.vacate().map_err(|problem| place.blame(problem))?;
        let mapping = Mapping::of_path(PathFile::create(place, len, self.sparse)?, len)?;
        let mapping = room::with_room(mapping, None, &config)?;
        let host = HubHost::new(self, &mapping, None, config)?;
        mapping.publish()?;
        Ok(host)
    }

    /// A plugin of the hub at a path; see [`HubPeer::open_at`].
    ///
    /// # Errors
    /// As there.
    pub fn open_at(self, path: impl AsRef<Path>, id: PeerId) -> Result<HubPeer, Error> {
        self.open(path.as_ref(), id, None)
    }

    pub(super) fn open(self, path: &Path, id: PeerId, doorbell: Option<Doorbell>) -> Result<HubPeer, Error> {
        let place = Place::find(path, Kind::Hub)?;
        let found = place.attach().map_err(|problem| place.blame(problem))?;
        found.header.identify_hub()?;
        let len = found.size;
        let mapping = room::of_found(Mapping::of_path(found.file, len)?, None)?;
        let host = mapping.region()?.u32(HubHeader::HOST_STATE).load(Ordering::Acquire);
        match (host == PeerState::Unknown as u32, doorbell) {
            (true, None) => Err(Error::NeedsDoorbell),
            (true, Some(doorbell)) => self.attach_with(&mapping, Way::Old(doorbell), id),
            (false, _) => self.attach(&mapping, None, None, id),
        }
    }
}

impl HubHost {
    /// The host of a new hub in a file at `path`, mode 0600. The name is removed when the host goes. A hub that was left
    /// there by processes which are all dead is replaced; whatever else is there is an error and left alone.
    ///
    /// Its members sleep on futexes: [add](Self::add_peer) plugins, which then [open](HubPeer::open_at) the path with their
    /// number. [`HubOptions::doorbells`] says otherwise. All its space is allocated, unless it may be
    /// [sparse](HubOptions::sparse).
    ///
    /// # Errors
    /// [`Error::Path`]: something is there, or the directory or its file system cannot take a hub. [`Error::Hub`] for a shape
    /// that the layout cannot carry, [`Error::LimitExceeded`].
    pub fn create_at(path: impl AsRef<Path>, config: HubConfig) -> Result<Self, Error> {
        HubOptions::new().create_at(path, config)
    }
}
