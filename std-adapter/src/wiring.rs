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

use crate::doorbell::{Bell, Doorbell};
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

    /// These, but for the receiver's, which is one that many ring.
    pub(crate) fn heard_at(self, receiver: &Arc<Bell>) -> Self {
        Self { receiver: Arc::clone(receiver), ..self }
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
    /// In a hub: the bell of everybody who waits for a slot. Who waits for a place in a ring hears it, too, and looks once
    /// in vain.
    pub(crate) slots: Option<Arc<Bell>>,
    /// `None` between two ends in one process.
    pub(crate) life: Option<OwnedFd>,
    /// This side's end of the doorbell that is between it and a peer of version 1.0, which has no other.
    pub(crate) old: Option<Doorbell>,
    /// What each half sleeps on: its bells, edge-triggered, so that they need not be drained (each ring is an event, however
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
    /// In a hub: somebody else may be.
    OtherDied,
    /// The deadline passed.
    TimedOut,
}

/// Events of the life socket, in the sets that the halves sleep on.
const LIFE: u64 = 1;

/// Events of the set of other life sockets.
const OTHER_LIVES: u64 = 2;

/// Events of a doorbell that is shared with a peer of version 1.0.
const OLD: u64 = 4;

impl Wiring {
    pub(crate) fn new(own: Bells, peer: Bells, life: Option<OwnedFd>) -> Result<Self, Error> {
        Self::of_hub(own, peer, None, life, None)
    }

    /// That of a hub's link, whose sender also hears the bell of those who wait for a slot; and the host's also the set of
    /// everybody's life sockets, because whoever dies may have had the slot that it waits for.
    pub(crate) fn of_hub(
        own: Bells,
        peer: Bells,
        slots: Option<Arc<Bell>>,
        life: Option<OwnedFd>,
        lives: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Error> {
        let receiver_sleeps_on = epoll_set([own.of(Half::Receiver)], EDGE, life.as_ref())?;
        let senders = std::iter::once(own.of(Half::Sender)).chain(slots.as_deref());
        let sender_sleeps_on = epoll_set(senders, EDGE, life.as_ref())?;
        if let Some(lives) = lives {
            add_to_set(&sender_sleeps_on, lives, OTHER_LIVES, epoll::EventFlags::IN)?;
        }
        Ok(Self { own, peer, slots, life, old: None, receiver_sleeps_on, sender_sleeps_on })
    }

    /// That of a hub's host, towards a plugin of version 1.0.
    pub(crate) fn beside_old(
        own: Bells,
        slots: Arc<Bell>,
        lives: Option<BorrowedFd<'_>>,
        doorbell: Doorbell,
    ) -> Result<Self, Error> {
        let wiring = Self::of_hub(own.clone(), own, Some(slots), None, lives)?;
        add_to_set(&wiring.receiver_sleeps_on, doorbell.as_fd(), OLD, epoll::EventFlags::IN)?;
        Ok(Self { old: Some(doorbell), ..wiring })
    }

    /// Rings one of the peer's bells; false if that told that the peer is gone. One of version 1.0 has a bell for its receiver
    /// only.
    pub(crate) fn ring_peer(&self, half: Half, count: impl FnOnce()) -> bool {
        if self.old.is_some() && half == Half::Sender {
            return true;
        }
        count();
        match &self.old {
            Some(doorbell) => return doorbell.signal_if_there(),
            None => self.peer.of(half).ring(),
        }
        true
    }

    /// What a half sleeps on.
    pub(crate) fn set(&self, half: Half) -> &OwnedFd {
        match half {
            Half::Receiver => &self.receiver_sleeps_on,
            Half::Sender => &self.sender_sleeps_on,
        }
    }

    /// Sleeps until the half's bell is rung, the peer is gone, or the deadline passes. Calls `count` once for each system
    /// call.
    pub(crate) fn sleep(&self, half: Half, deadline: Option<Instant>, count: impl Fn()) -> Result<Roused, Error> {
        let Some(events) = wait_for_set(self.set(half), deadline, &count)? else { return Ok(Roused::TimedOut) };
        let heard = events.fold(0, |heard, number| heard | number);
        if heard & (LIFE | OLD) != 0 {
            count();
            if self.peer_is_gone() {
                return Ok(Roused::PeerDied);
            }
        }
        Ok(if heard & OTHER_LIVES != 0 { Roused::OtherDied } else { Roused::Perhaps })
    }

    /// Takes the events of what a half sleeps on, for whoever waited for it in another way.
    pub(crate) fn drain(&self, half: Half) {
        // If it fails, it stays readable and is looked at again.
        let _ = take_from_set(self.set(half), Some(Timespec::default())).map(Iterator::count);
        self.old.iter().for_each(|doorbell| drop(doorbell.drain()));
    }

    /// Whether the peer's end of the life socket is closed. Whatever else arrives there is thrown away, and so are the rings of
    /// a peer of version 1.0.
    pub(crate) fn peer_is_gone(&self) -> bool {
        if let Some(doorbell) = &self.old {
            return doorbell.drain().is_err();
        }
        let Some(life) = &self.life else { return false };
        match recv(life, &mut [0_u8; 64], RecvFlags::DONTWAIT) {
            Ok((0, _)) => true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }
}

/// How a bell that is never drained is watched.
pub(crate) const EDGE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

/// Events of a set that one wait takes. What is left over is there at the next one.
const MOST_EVENTS: usize = 8;

/// Sleeps on a set; gives the numbers of what has something, or `None` if the deadline passed. Calls `count` once for each
/// system call.
pub(crate) fn wait_for_set(
    set: &OwnedFd,
    deadline: Option<Instant>,
    count: impl Fn(),
) -> Result<Option<impl Iterator<Item = u64>>, Error> {
    if deadline.is_some() {
        // To the nanosecond; the set itself counts in milliseconds.
        count();
        if !poll_until(&mut [PollFd::new(set, PollFlags::IN)], deadline)? {
            return Ok(None);
        }
    }
    count();
    take_from_set(set, deadline.map(|_| Timespec::default())).map(Some)
}

/// The numbers of what has something in a set, waiting for one without a time-out.
pub(crate) fn take_from_set(
    set: &OwnedFd,
    timeout: Option<Timespec>,
) -> Result<impl Iterator<Item = u64> + use<>, Error> {
    let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
    let mut events = [none; MOST_EVENTS];
    let count = match epoll::wait(set, &mut events, timeout.as_ref()) {
        Ok(count) => count,
        // A signal handler ran: whoever sleeps looks again anyway.
        Err(Errno::INTR) => 0,
        Err(error) => return Err(Error::io("cannot sleep on the doorbell")(error)),
    };
    Ok(events.into_iter().take(count).map(|event| event.data.u64()))
}

/// A set of bells and the life socket, if there is one. Its events carry 0 or [`LIFE`], each a bit of its own.
pub(crate) fn epoll_set<'a>(
    bells: impl IntoIterator<Item = &'a Bell>,
    how: epoll::EventFlags,
    life: Option<&OwnedFd>,
) -> Result<OwnedFd, Error> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::io("cannot create an epoll set"))?;
    for bell in bells {
        add_to_set(&set, bell.as_fd(), 0, how)?;
    }
    if let Some(life) = life {
        add_to_set(&set, life.as_fd(), LIFE, LIFE_EVENTS)?;
    }
    Ok(set)
}

/// What is heard of a life socket.
pub(crate) const LIFE_EVENTS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP);

/// Watches one descriptor more, whose events carry this number.
pub(crate) fn add_to_set(
    set: &OwnedFd,
    descriptor: BorrowedFd<'_>,
    number: u64,
    how: epoll::EventFlags,
) -> Result<(), Error> {
    epoll::add(set, descriptor, epoll::EventData::new_u64(number), how).map_err(Error::io("cannot watch the doorbell"))
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
