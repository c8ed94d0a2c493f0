//! The reception: a socket at a path, and every handshake that is under way there.
//!
//! Whatever there is to be had, a session or a place in a hub, clients come for it in the same way: they are looked at
//! (credentials), they say hello within a time, and one that says nothing holds up nobody. The socket and the clients are
//! in one epoll set.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::error::{Error, HandshakeError};
use crate::handshake;
use crate::listener::PeerCredentials;
use crate::poll::poll_until;
use crate::socket::BoundSocket;
use crate::trace::event;
use crate::wiring::add_to_set;

/// How many handshakes are under way at most. More clients wait in the kernel's queue.
const MOST_PENDING: usize = 64;

type Admit = Box<dyn Fn(&PeerCredentials) -> bool + Send + Sync>;

/// Where clients come to; `S` says how far a handshake has got.
pub(crate) struct Reception<S> {
    socket: BoundSocket,
    epoll: OwnedFd,
    pending: Vec<Pending<S>>,
    timeout: Duration,
    admit: Admit,
}

/// A handshake under way.
struct Pending<S> {
    socket: OwnedFd,
    deadline: Instant,
    stage: S,
}

/// What came of one look at a handshake.
pub(crate) enum Progress {
    /// Nothing has come.
    Waiting,
    /// A message has come, and another one may have.
    Further,
    /// It is over.
    Agreed,
}

impl<S: Default> Reception<S> {
    pub(crate) fn bind(path: &Path, timeout: Duration) -> Result<Self, Error> {
        let socket = BoundSocket::bind(path)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::io("cannot create an epoll set"))?;
        let admit = Box::new(PeerCredentials::is_same_user);
        let reception = Self { socket, epoll, pending: Vec::new(), timeout, admit };
        reception.attend(reception.socket.as_fd())?;
        Ok(reception)
    }

    pub(crate) fn admit_if(&mut self, admitted: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static) {
        self.admit = Box::new(admitted);
    }

    /// When the next handshake has taken too long.
    pub(crate) fn soonest_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// Waits until there is something to drive, or a handshake has taken too long.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let soonest = self.soonest_deadline().into_iter().chain(deadline).min();
        let stirred = poll_until(&mut [PollFd::new(&self.epoll, PollFlags::IN)], soonest)?;
        if !stirred && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::Timeout);
        }
        Ok(())
    }

    /// Goes on with everything that can go on, until a client is agreed with: `step` takes the message that is due, if it is
    /// there.
    pub(crate) fn drive(
        &mut self,
        mut step: impl FnMut(BorrowedFd<'_>, &mut S) -> Result<Progress, Error>,
    ) -> Result<Option<(S, OwnedFd)>, Error> {
        self.take_new_clients()?;
        let mut place = 0;
        while let Some(pending) = self.pending.get_mut(place) {
            let progress = match step(pending.socket.as_fd(), &mut pending.stage) {
                Ok(Progress::Waiting) if Instant::now() >= pending.deadline => Err(HandshakeError::Timeout.into()),
                progress => progress,
            };
            match progress {
                Ok(Progress::Waiting) => place += 1,
                Ok(Progress::Further) => {}
                Ok(Progress::Agreed) => {
                    let Pending { socket, stage, .. } = self.pending.swap_remove(place);
                    return Ok(Some((stage, socket)));
                }
                Err(error) => {
                    let failed = self.pending.swap_remove(place);
                    event!(WARN, %error, "handshake failed");
                    handshake::refuse(failed.socket.as_fd(), &error);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Takes clients out of the kernel's queue.
    fn take_new_clients(&mut self) -> Result<(), Error> {
        while self.pending.len() < MOST_PENDING {
            let socket = match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                // It has gone again.
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(Error::io("cannot accept a client")(error)),
            };
            let client = PeerCredentials::of(socket.as_fd())?;
            if let Err(error) = client.admit((self.admit)(&client)) {
                event!(WARN, pid = client.pid, uid = client.uid, "client not admitted");
                handshake::refuse(socket.as_fd(), &error);
                return Err(error);
            }
            // Closing the socket takes it out of the set again.
            self.attend(socket.as_fd())?;
            let deadline = Instant::now() + self.timeout;
            self.pending.push(Pending { socket, deadline, stage: S::default() });
        }
        Ok(())
    }

    /// Wakes whoever waits for the set. Which socket it was does not matter: every one is looked at.
    fn attend(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        add_to_set(&self.epoll, socket, 0, epoll::EventFlags::IN)
    }
}

impl<S> AsFd for Reception<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<S> fmt::Debug for Reception<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reception")
            .field("socket", &self.socket)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
