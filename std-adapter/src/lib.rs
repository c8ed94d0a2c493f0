//! Messages between two processes on one machine at memory speed: blocking senders and receivers over shared memory.
//!
//! ```
//! use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};
//!
//! let (a, b) = ShmSession::pair(ShmSessionConfig::default())?;
//! let (mut tx, _) = a.into_split();
//! let (_, mut rx) = b.into_split();
//! let receiver = std::thread::spawn(move || rx.iter().map(|message| Ok(message?.len())).sum::<Result<usize, _>>());
//!
//! let mut loan = tx.loan(4096)?; // waits for a slot
//! loan.fill(7); // straight into shared memory
//! tx.send_loan(&MsgDescHot::data(1), loan)?;
//! tx.send(&MsgDescHot::data(2), b"short ones ride along")?;
//! tx.close(); // the peer receives everything, then sees the end
//! assert_eq!(receiver.join().unwrap().map_err(|error: rapace_shm::Error| error)?, 4096 + 21);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module or type | what it is |
//! |---|---|
//! | [`ShmSession`] | both directions of a session: an in-process pair, on a memfd shared with a child process, or in a file |
//! | [`Sender`], [`Receiver`] | the blocking halves, one per direction |
//! | [`Loan`], [`Payload`], [`Message`] | slots being written, slots being read |
//! | [`ShmBytes`] | bytes that their sender reads on while they are in flight |
//! | [`SystemCalls`] | how often a side had to ask the kernel |
//! | [`path`] | peers that meet by a file name: what that promises, and what it cannot |
//! | [`futex`] | wait and wake on a shared word |
//! | [`inspect`] | what a segment's bytes say, and which of them look wrong |
//! | [`core`] | rings, slabs, layouts and the protocol, without an operating system |
//!
//! # Waiting
//!
//! A call that has to wait first [spins](Spin) for a bounded time, then sleeps on a futex. No timeout is involved in
//! being woken, an idle session costs no processor time, and a busy one makes no system calls.
//!
//! To be woken without a fence per message, every process that attaches registers for `membarrier(2)`. Where that is
//! refused (seccomp), fences are used instead, by that process alone. Filters that refuse it must be in place before
//! the process attaches its first session.
//!
//! # Forking
//!
//! Mappings are not inherited by `fork`: a forked child that touches one is killed by SIGSEGV. Hand a session to a
//! child process with [`ShmSession::spawn`] and let it call [`ShmSession::inherited`].

#![deny(unsafe_code)]
#![cfg(target_os = "linux")]

mod alarm;
mod barrier;
mod bytes;
mod copying;
mod doorbell;
mod endpoint;
mod error;
mod event_source;
pub mod futex;
mod ground;
mod handshake;
mod hub;
mod inherit;
pub mod inspect;
mod listener;
mod mapping;
mod metrics;
mod os_endpoint;
pub mod path;
mod poll;
mod process;
mod receiver;
mod reception;
mod sender;
mod session;
mod shared;
mod socket;
mod spin;
mod system_calls;
mod trace;
mod wait;
mod watch;
mod wiring;

pub use bytes::ShmBytes;
pub use copying::{CopyingReceiver, OwnedMessage};
pub use doorbell::{Doorbell, close_peer_fd};
pub use endpoint::{Loan, Message, Payload, ShmEndpoint};
pub use error::{Error, HandshakeError, Unsent};
pub use event_source::EventSource;
pub use hub::{
    Heard, HeardFrom, HostEndpoint, HostLinkEndpoint, HostLoan, HostMessage, HostPayload, HostReceiver, HostSender,
    HubEnd, HubHost, HubLoan, HubMessage, HubOptions, HubPayload, HubPeer, HubReceiver, HubSender, PeerEndpoint,
};
pub use inherit::Passing;
pub use listener::{PeerCredentials, ShmListener};
pub use mapping::{MAX_BYTES_VARIABLE, Mapping};
pub use metrics::ShmMetrics;
pub use os_endpoint::OsEndpoint;
pub use rapace_shm_core as core;
pub use rapace_shm_core::PeerFault;
#[cfg(feature = "allocator")]
pub use rapace_shm_core::allocator::{ShmAllocator, allocator_api2};
pub use rapace_shm_core::endpoint::PeerId;
pub use rapace_shm_core::hub::{HubError, Reaped, Waits};
pub use rapace_shm_core::layout::{
    DEFAULT_RING_CAPACITY, DEFAULT_SLOT_COUNT, DEFAULT_SLOT_SIZE, FrameFlags, HubConfig, HubLayoutError,
    INLINE_PAYLOAD_SIZE, LayoutError, MsgDescHot, PeerState, ShmSessionConfig, SizeClass,
};
pub use rapace_shm_core::link::{LinkStatus, PeerRole};
pub use receiver::{Iter, Receiver};
pub use sender::Sender;
#[cfg(feature = "allocator")]
pub use sender::{ShmVec, shm_vec, shm_vec_with_capacity};
pub use session::{SessionOptions, ShmSession};
pub use shared::SharedSender;
pub use spin::{Looked, Spin};
pub use system_calls::SystemCalls;
