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
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
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
    /// What each half sleeps on: its bell, edge-triggered, so that it need not be drained (each ring is an event, however
    /// many there were before); and the life socket.
    receiver_sleeps_on: OwnedFd,
    sender_sleeps_on: OwnedFd,
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

/// Events of the life socket, in the sets that the halves sleep on.
const LIFE: u64 = 1;

impl Wiring {
    pub(crate) fn new(own: Bells, peer: Bells, life: Option<OwnedFd>) -> Result<Self, Error> {
        let set = |half| {
            let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll_set(own.of(half), edge, life.as_ref())
        };
        let (receiver_sleeps_on, sender_sleeps_on) = (set(Half::Receiver)?, set(Half::Sender)?);
        Ok(Self { own, peer, life, receiver_sleeps_on, sender_sleeps_on })
    }

    /// Sleeps until the half's bell is rung, the peer is gone, or the deadline passes. Calls `count` once for each system
    /// call.
    pub(crate) fn sleep(&self, half: Half, deadline: Option<Instant>, count: impl Fn()) -> Result<Roused, Error> {
        let set = match half {
            Half::Receiver => &self.receiver_sleeps_on,
            Half::Sender => &self.sender_sleeps_on,
        };
        if deadline.is_some() {
            // To the nanosecond; the set itself counts in milliseconds.
            count();
            if !poll_until(&mut [PollFd::new(set, PollFlags::IN)], deadline)? {
                return Ok(Roused::TimedOut);
            }
        }
        count();
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 2];
        let events = match epoll::wait(set, &mut events, deadline.map(|_| Timespec::default()).as_ref()) {
            Ok(count) => events.get(..count).unwrap_or(&events),
            // A signal handler ran: whoever sleeps looks again anyway.
            Err(Errno::INTR) => &[],
            Err(error) => return Err(Error::io("cannot sleep on the doorbell")(error)),
        };
        if events.iter().any(|event| event.data.u64() == LIFE) {
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

/// A set of a bell and the life socket, if there is one. Its events carry 0 or [`LIFE`].
pub(crate) fn epoll_set(bell: &Bell, how: epoll::EventFlags, life: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::io("cannot create an epoll set"))?;
    let add = |descriptor: BorrowedFd<'_>, number, flags| {
        epoll::add(&set, descriptor, epoll::EventData::new_u64(number), flags)
            .map_err(Error::io("cannot watch the doorbell"))
    };
    add(bell.as_fd(), 0, how)?;
    if let Some(life) = life {
        add(life.as_fd(), LIFE, epoll::EventFlags::IN | epoll::EventFlags::RDHUP)?;
    }
    Ok(set)
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
        let at_a = Wiring::new(a.clone(), b.clone(), Some(life_a)).unwrap();
        (at_a, Wiring::new(b, a, Some(life_b)).unwrap())
    }

    #[test]
    fn each_half_hears_its_own_bell() {
        let (a, b) = wired();
        b.peer.of(Half::Sender).ring();
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(a.sleep(Half::Receiver, soon(), || {}).unwrap(), Roused::TimedOut);
        assert_eq!(a.sleep(Half::Sender, None, || {}).unwrap(), Roused::Perhaps);
        assert_eq!(a.sleep(Half::Sender, soon(), || {}).unwrap(), Roused::TimedOut, "one ring is one event");
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
