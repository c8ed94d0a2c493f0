//! The published crate's hub, as its users have it: the host's transport to one peer, and the peer's.
//!
//! The hub lies on a memfd that the second process opens through `/proc`; it inherits its end of the doorbell by number.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rapace_core::{EncodeCtx, EncodeError, Frame, FrameView, Transport, TransportError};
use rapace_transport_shm::{
    Doorbell, HubConfig, HubHost, HubHostPeerTransport, HubPeer, HubPeerTransport, close_peer_fd,
};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::runtime::{Builder, Runtime};

use super::published::End;
use super::{Contestant, Part, published};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};

/// See the module.
#[derive(Debug)]
pub struct Hub;

/// Either side's transport.
pub enum Side {
    /// The host's.
    Host(HubHostPeerTransport),
    /// The peer's.
    Peer(HubPeerTransport),
}

impl Transport for Side {
    /// Tries again where the transport has no slot: it does not wait for one.
    async fn send_frame(&self, frame: &Frame) -> Result<(), TransportError> {
        loop {
            let sent = match self {
                Self::Host(host) => Transport::send_frame(host, frame).await,
                Self::Peer(peer) => Transport::send_frame(peer, frame).await,
            };
            match sent {
                Err(TransportError::Encode(EncodeError::NoSlotAvailable)) => std::hint::spin_loop(),
                done => return done,
            }
        }
    }

    async fn recv_frame(&self) -> Result<FrameView<'_>, TransportError> {
        match self {
            Self::Host(host) => Transport::recv_frame(host).await,
            Self::Peer(peer) => Transport::recv_frame(peer).await,
        }
    }

    fn encoder(&self) -> Box<dyn EncodeCtx + '_> {
        match self {
            Self::Host(host) => host.encoder(),
            Self::Peer(peer) => peer.encoder(),
        }
    }

    async fn close(&self) -> Result<(), TransportError> {
        match self {
            Self::Host(host) => host.close().await,
            Self::Peer(peer) => peer.close().await,
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Contestant for Hub {
    type Link = End<Side>;

    fn part(row: Row) -> Part {
        <published::Transport as Contestant>::part(row)
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (End<Side>, Second) {
        let (file, runtime) = (memfd_create("rapace-shm-versus", MemfdFlags::CLOEXEC).expect("a memfd"), runtime());
        let entered = runtime.enter();
        let number = file.as_raw_fd();
        let config = HubConfig { max_peers: 2, ring_capacity: row.depth() };
        let host = Arc::new(HubHost::create(format!("/proc/self/fd/{number}"), config).expect("a hub"));
        let peer = host.add_peer().expect("the first peer");
        let word = format!("{number} {} {}", peer.peer_id, peer.peer_doorbell_fd);
        let second = Second::start(Job::new(contestant, row, plan, word).command());
        close_peer_fd(peer.peer_doorbell_fd);
        let transport = HubHostPeerTransport::new(host, peer.peer_id, peer.doorbell);
        drop(entered);
        (End::over(Side::Host(transport), runtime, file, row), second)
    }

    fn second(job: &Job) -> End<Side> {
        let mut numbers = job.word.split(' ').map(|number| number.parse::<i32>().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        let (file, id, doorbell) = (next(), u16::try_from(next()).expect("a peer"), next());
        let path = format!("/proc/{}/fd/{file}", job.first());
        let (file, runtime) = (OwnedFd::from(File::open(&path).expect("the host holds it")), runtime());
        let entered = runtime.enter();
        let peer = Arc::new(HubPeer::open(&path, id).expect("the host's hub"));
        peer.register();
        let doorbell = Doorbell::from_raw_fd(doorbell).expect("inherited");
        let transport = HubPeerTransport::new(peer, doorbell, "versus");
        drop(entered);
        End::over(Side::Peer(transport), runtime, file, job.row())
    }
}
