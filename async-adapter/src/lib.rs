//! Messages between two processes on one machine at memory speed, for futures on any runtime.
//!
//! ```
//! use futures::TryStreamExt;
//! use rapace_shm::{MsgDescHot, ShmSessionConfig};
//! use rapace_shm_async::ShmTransport;
//!
//! let (a, b) = ShmTransport::pair(ShmSessionConfig::default())?;
//! let (tx, _a) = a.into_split();
//! let (_b, mut rx) = b.into_split();
//! let send = async {
//!     let mut loan = tx.loan(4096).await?; // waits for a slot
//!     loan.fill(7); // straight into shared memory
//!     tx.send_loan(&MsgDescHot::data(1), loan).await?;
//!     tx.close(); // the peer receives everything, then sees the end
//!     Ok::<_, rapace_shm::Error>(())
//! };
//! let receive = async {
//!     let mut bytes = 0;
//!     while let Some(message) = rx.try_next().await? {
//!         bytes += message.payload().len(); // read where they were written
//!     }
//!     Ok(bytes)
//! };
//! let ((), bytes) = futures::executor::block_on(async { futures::try_join!(send, receive) })?;
//! assert_eq!(bytes, 4096);
//! # Ok::<(), rapace_shm::Error>(())
//! ```
//!
//! | type | what it is |
//! |---|---|
//! | [`ShmTransport`] | both directions of a session: a pair, over an [`rapace_shm::ShmSession`], or through a path |
//! | [`ShmSender`] | the sender, which tasks share by cloning it |
//! | [`ShmReceiver`] | the receiver, a `Stream` |
//! | [`ShmSink`] | outgoing messages as a `Sink`: many are fed, and one wake-up follows |
//! | [`ShmTransportListener`] | transports for processes that know a path |
//! | [`HubHostTransport`] | the host of a hub: hears from any plugin, sends to each |
//! | [`HostPeerHandle`] | by which tasks send to one plugin |
//! | [`HubPeerTransport`], [`HubHostPeerTransport`] | the ends of one link of a hub: a plugin's, and its host's |
//! | [`TransportOptions`] | who watches the doorbells, how long to look before sleeping |
//!
//! # Waiting
//!
//! Here is no send path, no receive path and no wait protocol: each call drives the same steps of core that the blocking
//! calls drive. A task that has to wait first looks a little longer, in portions of about a microsecond between which the
//! executor's other tasks run. Then it sleeps: on its doorbell and on its peer's death at once, through a reactor; or, where
//! a session has no doorbells (two processes that met by a file's path), through a helper thread that sleeps on the futex.
//! Nothing polls, no time-out is involved, and an idle transport wakes nobody.
//!
//! # Runtimes
//!
//! By default async-io's reactor watches, and every executor will do: `futures`, smol, tokio. Under tokio that costs a hop
//! between threads per sleep; feature `tokio` adds `TransportOptions::tokio`, which waits on tokio's own.
//!
//! # rapace
//!
//! Feature `rapace` adds `RapaceTransport`: rapace's `Transport`, for services defined with `#[rapace::service]`, over a
//! session or over one link of a hub. Its constructor is `unsafe`, because that trait lends more than its types can keep track of.
//!
//! # Cancelling
//!
//! Every future may be dropped at any await. A send that was dropped did not happen, a receive that was dropped took
//! nothing, a loan that was under way goes back; and the peer is told that nobody sleeps any more.

#![deny(unsafe_code)]
#![cfg(target_os = "linux")]

mod bell;
mod ends;
#[cfg(feature = "rapace")]
mod frozen;
mod half;
mod helper;
mod hub_error;
mod hub_host;
mod hub_peer;
mod jobs;
mod listener;
#[cfg(feature = "tokio")]
mod on_tokio;
mod queue;
#[cfg(feature = "rapace")]
mod rapace;
mod receiver;
mod sender;
mod sink;
mod transport;
mod wakers;

pub use ends::{Ends, Halves};
pub use hub_error::HubTransportError;
pub use hub_host::HubHostTransport;
pub use hub_peer::{HostPeerHandle, HubHostPeerTransport, HubPeerTransport};
pub use listener::ShmTransportListener;
#[cfg(feature = "rapace")]
pub use rapace::RapaceTransport;
pub use receiver::ShmReceiver;
pub use sender::ShmSender;
pub use sink::{Outgoing, ShmSink};
pub use transport::{ShmTransport, TransportOptions};

/// The programs of the README, compiled and run here, where every package is at hand.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
