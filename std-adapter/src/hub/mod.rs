//! Hubs: one host, up to 31 plugins, one segment.
//!
//! ```text
//!   plugin 1  <---- two rings ---->
//!   plugin 2  <---- two rings ---->  host
//!   plugin 3  <---- two rings ---->    one sleep for all, or a thread for some
//!        \                           /
//!         slots of five sizes, which all share
//! ```
//!
//! The segment of a hub whose [size classes may grow](HubConfig::max_extents) is a file that becomes longer, mapped by each
//! member once and as far as it may ever reach:
//!
//! ```text
//!   member     addresses   |  first extents  |  second extents  |  third  |  ...  |
//!   each other addresses   |  first extents  |  second extents  |  third  |  ...  |
//!                                 |                 |           :
//!                  file    |  first extents  |  some of them  |  <- ends here: nobody has needed more
//! ```

mod hearing;
mod host;
mod host_endpoint;
mod meeting;
mod member;
mod old;
mod options;
mod path;
mod peer;
mod peer_endpoint;
mod room;
mod sending;
mod watching;

pub use hearing::{Heard, HeardFrom};
pub use host::HubHost;
pub use host_endpoint::HostEndpoint;
pub use member::HubEnd;
pub use options::HubOptions;
pub use peer::HubPeer;
pub use peer_endpoint::PeerEndpoint;
use rapace_shm_core::hub::{HostEnd, HubAllocator};
#[cfg(doc)]
use rapace_shm_core::layout::HubConfig;

use crate::endpoint::{Loan, Message, Payload};
use crate::receiver::Receiver;
use crate::sender::Sender;

/// The sending half of a plugin.
pub type HubSender = Sender<PeerEndpoint, HubAllocator>;
/// The receiving half of a plugin.
pub type HubReceiver = Receiver<PeerEndpoint, HubAllocator>;
/// A slot on loan to a plugin.
pub type HubLoan = Loan<PeerEndpoint, HubAllocator>;
/// The bytes of a message that a plugin received.
pub type HubPayload = Payload<PeerEndpoint, HubAllocator>;
/// A message that a plugin received.
pub type HubMessage = Message<PeerEndpoint, HubAllocator>;

/// What the host has in place of a [`PeerEndpoint`] towards one plugin.
pub type HostLinkEndpoint = HostEnd<HostEndpoint>;
/// The host's sending half towards one plugin.
pub type HostSender = Sender<HostLinkEndpoint, HubAllocator>;
/// The host's receiving half towards one plugin.
pub type HostReceiver = Receiver<HostLinkEndpoint, HubAllocator>;
/// A slot on loan to the host.
pub type HostLoan = Loan<HostLinkEndpoint, HubAllocator>;
/// The bytes of a message that the host received.
pub type HostPayload = Payload<HostLinkEndpoint, HubAllocator>;
/// A message that the host received.
pub type HostMessage = Message<HostLinkEndpoint, HubAllocator>;
