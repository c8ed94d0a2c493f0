//! The bytes of a hub that may grow: how far it is mapped, and how large it may become.
//!
//! Addresses cost nothing and are there for all that the hub's [shape](HubConfig::max_extents) allows (1.83 GB with the
//! default size classes and 16 extents of each). What costs memory are extents, and those are bounded by a number of bytes
//! in the hub's header, which every member keeps to.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rapace_shm_core::hub as core_hub;
use rapace_shm_core::layout::{HubConfig, HubHeader, HubOffsets};
use rapace_shm_core::region::Region;

use super::host::HubHost;
use super::host_endpoint::HostEndpoint;
use crate::error::Error;
use crate::mapping::{Mapping, check_limit, growing_memfd, limit, sealed_memfd};

/// The memfd of a fresh hub.
pub(super) fn memfd(config: &HubConfig) -> Result<OwnedFd, Error> {
    let len = HubOffsets::calculate(config)?.end;
    if config.max_extents > 1 { growing_memfd(len) } else { sealed_memfd(len) }
}

/// A hub's file, mapped as far as the hub may grow.
pub(super) fn with_room(
    mapping: Mapping,
    memfd: Option<BorrowedFd<'_>>,
    config: &HubConfig,
) -> Result<Arc<Mapping>, Error> {
    let offsets = HubOffsets::calculate(config)?;
    let grows = offsets.reach > offsets.end;
    Ok(Arc::new(if grows { mapping.with_room(memfd, offsets.reach)? } else { mapping }))
}

/// A hub's file that others made, mapped as far as the hub may grow, unless it is or may become larger than this process
/// allows. What stands there is read once more, and checked, when somebody attaches.
pub(super) fn of_found(mapping: Mapping, memfd: Option<BorrowedFd<'_>>) -> Result<Arc<Mapping>, Error> {
    let region = mapping.borrowed()?;
    let config = core_hub::HubPeer::peek(&region)?;
    let offsets = HubOffsets::calculate(&config)?;
    let size = if offsets.reach > offsets.end {
        // The file's length says little: it may have holes.
        let bound = usize::try_from(region.u64(HubHeader::MAX_SIZE).load(Ordering::Relaxed));
        bound.unwrap_or(usize::MAX).clamp(offsets.end, offsets.reach)
    } else {
        region.size()
    };
    check_limit(size)?;
    with_room(mapping, memfd, &config)
}

/// Bounds a fresh hub: by what was asked for, or else by what this process allows.
pub(super) fn bound_fresh(core: &core_hub::HubHost<HostEndpoint>, asked: Option<usize>) -> Result<(), Error> {
    match asked {
        Some(bytes) => bound(core, bytes),
        None if core.allocator().config().max_extents > 1 => {
            let reach = HubOffsets::calculate(&core.allocator().config())?.reach;
            bound(core, reach.min(limit()))
        }
        None => Ok(()),
    }
}

fn bound(core: &core_hub::HubHost<HostEndpoint>, bytes: usize) -> Result<(), Error> {
    check_limit(bytes)?;
    Ok(core.set_max_size(bytes as u64)?)
}

impl HubHost {
    /// Lets the hub grow to no more than this many bytes from now on, headers, rings and all extents together. If it is
    /// larger already it stays as it is. See [`HubOptions::max_bytes`](super::HubOptions::max_bytes).
    ///
    /// # Errors
    /// [`Error::Hub`] if it does not grow, [`Error::LimitExceeded`] if this process does not allow that many.
    pub fn set_max_bytes(&self, bytes: usize) -> Result<(), Error> {
        bound(&self.inner.core, bytes)
    }
}
