//! What two peers have between them besides shared memory: a doorbell for each half of each, and a socket that tells of
//! the other's death.
//!
//! ```text
//!   A                                                   B
//!   sleeps on  [bell of A's receiver] <---- rings ------ after it has sent
//!              [bell of A's sender  ] <---- rings ------ after it has received, or freed a slot
//!   rings ---> [bells of B          ]                    sleeps on
//!   [life socket] <============ connected ============> [life socket]
//! ```
//!
//! Nothing is sent through the life socket after the handshake. When a peer's process ends, however it ends, the kernel
//! closes its end, and the other one reads the end of file: no time-out, no process id, no false alarm.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::Half;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::doorbell::Bell;
use crate::error::Error;
use crate::poll::poll_until;

/// The two bells of one peer.
#[derive(Clone, Debug)]
pub(crate) struct Bells {
    receiver: Arc<Bell>,
    sender: Arc<Bell>,
}

impl Bells {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { receiver: Arc::new(Bell::new()?), sender: Arc::new(Bell::new()?) })
    }

    /// From descriptors, in the order of [`descriptors`](Self::descriptors).
    pub(crate) fn received(receiver: OwnedFd, sender: OwnedFd) -> Result<Self, Error> {
        Ok(Self { receiver: Arc::new(Bell::received(receiver)?), sender: Arc::new(Bell::received(sender)?) })
    }

    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.receiver.as_fd(), self.sender.as_fd()]
    }

    pub(crate) fn of(&self, half: Half) -> &Bell {
        match half {
            Half::Receiver => &self.receiver,
            Half::Sender => &self.sender,
        }
    }
}

/// What one peer has of it.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// This endpoint's bells.
    pub(crate) own: Bells,
    /// The peer's.
    pub(crate) peer: Bells,
    /// `None` between two ends in one process.
    pub(crate) life: Option<OwnedFd>,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roused {
    /// The bell was rung, or there was no reason.
    Perhaps,
    /// The peer is gone.
    PeerDied,
    /// The deadline passed.
    TimedOut,
}

impl Wiring {
    /// Sleeps until the half's bell is rung, the peer is gone, or the deadline passes. Calls `count` once for each system
    /// call.
    pub(crate) fn sleep(&self, half: Half, deadline: Option<Instant>, count: impl Fn()) -> Result<Roused, Error> {
        let bell = self.own.of(half);
        let life = self.life.as_ref().map(|life| PollFd::new(life, PollFlags::IN | PollFlags::RDHUP));
        let mut descriptors: Vec<PollFd<'_>> = [PollFd::new(bell, PollFlags::IN)].into_iter().chain(life).collect();
        count();
        if !poll_until(&mut descriptors, deadline)? {
            return Ok(Roused::TimedOut);
        }
        let is_ready = |descriptor: Option<&PollFd<'_>>| descriptor.is_some_and(|it| !it.revents().is_empty());
        let (rung, stirred) = (is_ready(descriptors.first()), is_ready(descriptors.get(1)));
        if rung {
            count();
            bell.drain();
        }
        if stirred {
            count();
            if self.peer_is_gone() {
                return Ok(Roused::PeerDied);
            }
        }
        Ok(Roused::Perhaps)
    }

    /// Whether the peer's end of the life socket is closed. Whatever else arrives there is thrown away.
    pub(crate) fn peer_is_gone(&self) -> bool {
        let Some(life) = &self.life else { return false };
        match recv(life, &mut [0_u8; 64], RecvFlags::DONTWAIT) {
            Ok((0, _)) => true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::time::Duration;

    fn wired() -> (Wiring, Wiring) {
        let (a, b) = (Bells::new().unwrap(), Bells::new().unwrap());
        let (life_a, life_b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let at_a = Wiring { own: a.clone(), peer: b.clone(), life: Some(life_a) };
        (at_a, Wiring { own: b, peer: a, life: Some(life_b) })
    }

    #[test]
    fn each_half_hears_its_own_bell() {
        let (a, b) = wired();
        b.peer.of(Half::Sender).ring();
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(a.sleep(Half::Receiver, soon(), || {}).unwrap(), Roused::TimedOut);
        assert_eq!(a.sleep(Half::Sender, None, || {}).unwrap(), Roused::Perhaps);
        assert_eq!(a.sleep(Half::Sender, soon(), || {}).unwrap(), Roused::TimedOut, "the bell was drained");
    }

    #[test]
    fn the_end_of_the_other_end_is_heard_by_both_halves_and_stays() {
        let (a, b) = wired();
        assert!(!a.peer_is_gone());
        drop(b);
        assert_eq!(a.sleep(Half::Receiver, None, || {}).unwrap(), Roused::PeerDied);
        assert_eq!(a.sleep(Half::Sender, None, || {}).unwrap(), Roused::PeerDied);
        assert!(a.peer_is_gone());
    }

    #[test]
    fn what_a_peer_says_on_the_life_socket_is_no_death() {
        let (a, b) = wired();
        rustix::net::send(b.life.as_ref().unwrap(), b"hello?", rustix::net::SendFlags::empty()).unwrap();
        assert_eq!(a.sleep(Half::Receiver, None, || {}).unwrap(), Roused::Perhaps);
    }
}
