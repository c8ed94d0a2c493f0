//! Doorbells: what an endpoint sleeps on when something besides shared memory has to wake it.
//!
//! A futex cannot be polled together with a socket, and an event loop cannot wait on one. A doorbell is a descriptor that
//! others make readable. There are two kinds:
//!
//! ```text
//!   eventfd      rung by adding 1, however often: one bell per half of an endpoint       peers of ours
//!   datagrams    one end of a socket pair; each ring is a datagram of one byte, value 1  version 1.0 hubs
//! ```
//!
//! Ringing never blocks, and a ring on a bell that is full is dropped: whoever it is for is woken anyway, and looks at
//! everything that there is.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::io::{Errno, ioctl_fionread, read, write};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

use crate::error::Error;
use crate::inherit;
use crate::poll::poll_until;

/// A doorbell that is an eventfd.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// A bell that nobody has rung.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(eventfd(0, flags).map_err(Error::io("cannot create a doorbell"))?))
    }

    /// A peer's bell, or one that a peer made for this endpoint. Whatever it is, ringing and draining it must not block.
    pub(crate) fn received(bell: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&bell, true).map_err(Error::io("cannot use the doorbell that the peer sent"))?;
        Ok(Self(bell))
    }

    /// Makes it readable. Fails only if the counter is full, and then it is readable already, or if the peer passed
    /// something that is no bell, which is the peer's loss.
    pub(crate) fn ring(&self) {
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it silent.
    pub(crate) fn drain(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.0).finish()
    }
}

/// One end of a doorbell as version 1.0 peers have it: a `SOCK_DGRAM` socket pair, a datagram of one byte per ring, in
/// either direction.
///
/// ```
/// use rapace_shm::Doorbell;
///
/// let (host, plugins_end) = Doorbell::create_pair()?;
/// let plugin = Doorbell::from_owned_fd(plugins_end)?; // in another process: it inherits the descriptor
/// plugin.signal();
/// assert_eq!(host.pending_bytes()?, 1);
/// assert!(host.wait(None)?);
/// assert_eq!(host.pending_bytes()?, 0);
/// # Ok::<(), rapace_shm::Error>(())
/// ```
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

/// What is sent to ring.
const RING: [u8; 1] = [1];

/// Rings that are taken at once. A socket keeps fewer.
const MOST_RINGS: u32 = 4096;

impl Doorbell {
    /// A doorbell, and its other end for the peer. Neither is inherited by a child unless it is passed on purpose.
    ///
    /// # Errors
    /// [`Error::Io`] if there are too many open files.
    pub fn create_pair() -> Result<(Self, OwnedFd), Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (own, peer) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(Error::io("cannot create a doorbell"))?;
        Ok((Self(own), peer))
    }

    /// The doorbell whose end was passed to this process. It is made non-blocking and closed on exec.
    ///
    /// # Errors
    /// [`Error::Io`] if that cannot be done, for a descriptor that is no socket.
    pub fn from_owned_fd(end: OwnedFd) -> Result<Self, Error> {
        let refused = "descriptor is no doorbell; pass an end of a socket pair";
        rustix::io::ioctl_fionbio(&end, true).map_err(Error::io(refused))?;
        rustix::io::fcntl_setfd(&end, rustix::io::FdFlags::CLOEXEC).map_err(Error::io(refused))?;
        rustix::net::sockopt::socket_type(&end).map_err(Error::io(refused))?;
        Ok(Self(end))
    }

    /// Rings at the other end. Does nothing if that is full, or gone: [`wait`](Self::wait) there, or the peer's death,
    /// says so.
    pub fn signal(&self) {
        let _ = self.signal_if_there();
    }

    /// As [`signal`](Self::signal); false if the other end is gone.
    pub(crate) fn signal_if_there(&self) -> bool {
        let gone = [Errno::CONNREFUSED, Errno::CONNRESET, Errno::NOTCONN, Errno::PIPE];
        send(&self.0, &RING, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            .map_or_else(|why| !gone.contains(&why), |_| true)
    }

    /// The doorbell whose end this process has inherited under a number, from whoever started it. It is closed on exec from
    /// then on, so the number can be claimed once.
    ///
    /// # Errors
    /// [`Error::NotInherited`] if no such descriptor was inherited, [`Error::Io`] if it is no socket.
    pub fn inherited(number: RawFd) -> Result<Self, Error> {
        Self::from_owned_fd(inherit::claim(number, "the doorbell's number")?)
    }

    /// Waits until the other end has rung, then drains; false if the deadline (of the monotonic clock) passed first.
    ///
    /// # Errors
    /// [`Error::PeerDied`] if the other end is gone and nothing is left to drain.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        loop {
            if self.drain()? {
                return Ok(true);
            }
            if !poll_until(&mut [PollFd::new(&self.0, PollFlags::IN)], deadline)? {
                return Ok(false);
            }
        }
    }

    /// Takes every ring that is there; says whether there was one.
    ///
    /// # Errors
    /// [`Error::PeerDied`] if the other end is gone and there was none.
    pub fn drain(&self) -> Result<bool, Error> {
        let mut rung = false;
        // One that is rung faster than it is read stays readable.
        for _ in 0..MOST_RINGS {
            match recv(&self.0, &mut [0_u8; 16], RecvFlags::DONTWAIT) {
                // A datagram without bytes is a ring, too; the end of a socket pair is an error below.
                Ok(_) => rung = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(rung),
                Err(Errno::CONNRESET | Errno::NOTCONN) if !rung => return Err(Error::PeerDied),
                Err(_) if rung => return Ok(true),
                Err(error) => return Err(Error::io("cannot read the doorbell")(error)),
            }
        }
        Ok(rung)
    }

    /// Rings that are waiting to be drained: a byte each. (The kernel tells the size of the first datagram.)
    ///
    /// # Errors
    /// [`Error::Io`] as the kernel says it.
    pub fn pending_bytes(&self) -> Result<u64, Error> {
        ioctl_fionread(&self.0).map_err(Error::io("cannot ask the doorbell"))
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Closes the end of a doorbell that was made for a peer, once the peer has it. Dropping it does the same; this is the
/// name under which the published crate has it.
pub fn close_peer_fd(end: OwnedFd) {
    drop(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bell_is_silent_after_it_was_drained_however_often_it_was_rung() {
        let bell = Bell::new().unwrap();
        let readable = || {
            poll_until(&mut [PollFd::new(&bell, PollFlags::IN)], Some(Instant::now() + Duration::from_millis(1)))
                .unwrap()
        };
        assert!(!readable());
        bell.ring();
        bell.ring();
        assert!(readable());
        bell.drain();
        assert!(!readable());
    }

    #[test]
    fn a_doorbell_rings_both_ways_and_says_when_the_other_end_is_gone() {
        let (own, peer) = Doorbell::create_pair().unwrap();
        let peer = Doorbell::from_owned_fd(peer).unwrap();
        own.signal();
        own.signal();
        assert!(peer.wait(None).unwrap());
        assert!(!peer.drain().unwrap());
        peer.signal();
        close_peer_fd(peer.0);
        assert!(own.wait(None).unwrap(), "what was rung before the end is heard");
        let soon = Some(Instant::now() + Duration::from_secs(5));
        assert!(matches!(own.wait(soon), Ok(false) | Err(Error::PeerDied)));
    }

    #[test]
    fn a_full_doorbell_drops_rings_and_does_not_block() {
        let (own, _peer) = Doorbell::create_pair().unwrap();
        for _ in 0..100_000 {
            own.signal();
        }
    }

    #[test]
    fn what_is_no_socket_is_no_doorbell() {
        let Bell(file) = Bell::new().unwrap();
        assert!(matches!(Doorbell::from_owned_fd(file), Err(Error::Io { .. })));
    }
}
