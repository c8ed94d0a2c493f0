//! A hub: one host and up to 31 plugins in one region, with one pool of slots for all.
//!
//! ```text
//!                 ring to host, ring to peer
//!   plugin 1  <--------------------------------->  host (member 0)
//!   plugin 2  <--------------------------------->    one sleep for all rings
//!   ...                                              reaps who dies
//!       \                                            /
//!        slots of five sizes: 1 KiB, 16 KiB, 256 KiB, 4 MiB, 16 MiB
//! ```
//!
//! Rings, free lists, the wait protocol and the halves ([`Sender`], [`Receiver`]) are a session's. What is new: the
//! slots have an owner each ([`HubAllocator`]), the host receives from whichever plugin has something
//! ([`HubHost::poll_any`]), and a plugin that died is cleaned up after while all others go on ([`HubHost::reap`]).
//!
//! ```
//! use rapace_shm_core::endpoint::Polled;
//! use rapace_shm_core::hub::{HostLedger, HubHost, HubPeer, Together};
//! use rapace_shm_core::layout::{HubConfig, MsgDescHot, SizeClass};
//! use rapace_shm_core::ledger::Ledger;
//! use rapace_shm_core::region::Memory;
//!
//! static MEMORY: Memory<65_536> = Memory::new();
//! static HOST: HostLedger<20> = HostLedger::new();
//! static PLUGIN: Ledger<20> = Ledger::new();
//!
//! let classes = [64, 128, 256, 512, 1024].map(|slot_size| SizeClass { slot_size, slot_count: 4 });
//! let config = HubConfig { max_peers: 2, ring_capacity: 8, classes, max_extents: 1 };
//! let region = MEMORY.take().expect("taken once");
//! let mut host = HubHost::create(Polled::new(region, &HOST), config)?;
//! let mut links = [host.reserve(Together)?];
//!
//! let mut plugin = HubPeer::attach(Polled::new(region, &PLUGIN), links[0].id())?;
//! plugin.split().0.try_send(&MsgDescHot::data(1), &[7; 100])?;
//! let (from, message) = host.try_any(&mut links).expect("something was sent");
//! assert_eq!((from, message?.payload()), (links[0].id(), &[7; 100][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Members
//!
//! The host is member 0, plugins count from 1, and a plugin's number is also the number of its entry and of its rings.
//! Version 1.0 has no number for its host and counts its plugins from 0; so entry 0, which no plugin of ours can have, is
//! the host's here, a version 1.0 plugin gets a number from 1 on like any other, and only beside a version 1.0 host (it
//! leaves [`host_state`](crate::layout::HubHeader::host_state) at zero) may a plugin attach as 0. There it shares its
//! owner's number with the host, as all of version 1.0 do, and nobody reaps.
//!
//! # Growth
//!
//! A hub whose [`max_extents`](HubConfig::max_extents) is more than 1 grows while it is in use: when a size class has no
//! slot left, whoever needs one adds an *extent*, as many slots again as the class had at first, and every other member
//! makes sure that the new bytes are there ([`Endpoint::back`]) when it first meets a reference into it. Nobody stops for
//! that, nobody waits for it, and nothing moves. [`HubHost::set_max_size`] bounds it.
//!
//! Such a hub has a major version of its own, so peers that know nothing of growth refuse it. Its ledgers have an entry for
//! every slot that there may ever be ([`HubConfig::slots`]), and its region has room for them all
//! ([`HubOffsets::reach`]): addresses at least, while there need be no memory behind them.
//!
//! All members share one pool: each can read the payloads of all others. Who does not trust a plugin gives it a session
//! of its own.

mod end;
mod growth;
mod host;
mod link;
mod old;
mod peer;
mod places;
mod pool;
mod reap;
mod status;

use thiserror::Error;

pub use end::{HasLinkMarks, HostEnd, HostLedger, HostLedgerIn, LinkMarks};
pub use host::Waits::{Alone, Together};
pub use host::{AnyLink, FromAny, HubHost, Waits};
pub use link::HubLink;
pub use peer::HubPeer;
pub use places::HOST;
pub use pool::HubAllocator;
pub use reap::Reaped;
pub use status::{HubSlotStatus, SizeClassStatus};

use crate::endpoint::{Endpoint, PeerId};
use crate::fault::PeerFault;
use crate::layout::{HubConfig, HubLayoutError, HubOffsets};
#[cfg(doc)]
use crate::link::{Receiver, Sender};
use crate::region::Region;

/// Why something about a hub or its members was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The region is no hub, or cannot become one of this shape.
    #[error(transparent)]
    Layout(#[from] HubLayoutError),
    /// The ledger has fewer entries than the hub has slots.
    #[error("ledger has {entries} entries, the hub has {slots} slots; provide one entry per slot")]
    LedgerTooSmall {
        /// Entries of the ledger.
        entries: usize,
        /// Slots of the hub.
        slots: u32,
    },
    /// The ledger says that slots are held: another endpoint uses it.
    #[error("ledger holds {held} slots already; every endpoint needs a ledger of its own")]
    LedgerInUse {
        /// Slots held.
        held: usize,
    },
    /// Every place for a plugin is in use.
    #[error("all {plugins} places for plugins are in use; reap one that is gone, or create a larger hub")]
    Full {
        /// Plugins that the hub has places for.
        plugins: u16,
    },
    /// No plugin can have this number.
    #[error("no plugin has the number {}: they count from 1 to {last} (0 is the host)", id.0)]
    NoSuchPeer {
        /// The number.
        id: PeerId,
        /// The largest number of a plugin.
        last: u16,
    },
    /// The host has not given this number out, or has taken it back.
    #[error("number {} is not reserved; ask the host for one", id.0)]
    NotReserved {
        /// The number.
        id: PeerId,
    },
    /// Another peer is attached with this number, or was and has not been reaped.
    #[error("number {} belongs to another peer; ask the host for one of your own", id.0)]
    Taken {
        /// The number.
        id: PeerId,
    },
    /// The link is not one of this host's.
    #[error("the link to peer {} was made by another host; give it back there", id.0)]
    ForeignLink {
        /// The peer at its other end.
        id: PeerId,
    },
    /// The host still has a half of the link to that plugin.
    #[error("the link to peer {} is still in use; close both its halves first", id.0)]
    InUse {
        /// The peer at its other end.
        id: PeerId,
    },
    /// There is no such size class.
    #[error("there is no size class {class}; they count from 0 to 4")]
    NoSuchClass {
        /// The class asked for.
        class: u32,
    },
    /// The hub was created with one extent for each class.
    #[error("the hub does not grow; create it with more than one extent per class")]
    NotGrowable,
    /// The shared words contradict the protocol.
    #[error("a member broke the protocol: {0}")]
    PeerFault(#[from] PeerFault),
}

/// Whether region and ledger are large enough for a hub of this shape.
fn check_room<E: Endpoint>(endpoint: &E, config: &HubConfig) -> Result<(), HubError> {
    let (required, available) = (HubOffsets::calculate(config)?.reach, endpoint.region().size());
    if required > available {
        return Err(HubLayoutError::HubTooSmall { required, available }.into());
    }
    let (ledger, slots) = (endpoint.ledger(), config.slots());
    if ledger.entries.len() < slots as usize {
        return Err(HubError::LedgerTooSmall { entries: ledger.entries.len(), slots });
    }
    match ledger.held() {
        0 => Ok(()),
        held => Err(HubError::LedgerInUse { held }),
    }
}
