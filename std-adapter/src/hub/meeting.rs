//! How plugins come into a hub: as child processes, by a socket at a path, by the hub's own path, or in this process.
//!
//! ```text
//!   spawn, pass_to    the child inherits one descriptor: its end of the life socket, with the welcome in it
//!   bind, join        a plugin connects, is looked at, and gets the welcome
//!   add_peer          the host gives out a number; whoever knows that and the path opens it
//!   add_local         a plugin in this process: for threads, and for tests
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::Waits;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::host::{HubHost, Inner};
use super::peer::HubPeer;
use crate::doorbell::Bell;
use crate::error::Error;
use crate::handshake::{self, HubOffer};
use crate::inherit::{self, Passing};
use crate::listener::PeerCredentials;
use crate::reception::{Progress, Reception};

impl HubHost {
    /// Starts a child process that is a plugin of this hub: it inherits its doorbells and its number, and nothing else; there
    /// it calls [`HubPeer::inherited`]. No other child inherits them. Each plugin needs a `command` of its own: one that has
    /// started a plugin names descriptors that are closed by then.
    ///
    /// # Errors
    /// [`Error::Hub`] if every place is in use, [`Error::NoDoorbell`] in a hub that sleeps on futexes, [`Error::Io`] if the
    /// child cannot be started.
    pub fn spawn(&mut self, command: &mut Command, waits: Waits) -> Result<(PeerId, Child), Error> {
        let (id, _until_started) = self.pass_to(command, waits)?;
        match command.spawn() {
            Ok(child) => Ok((id, child)),
            Err(error) => {
                self.inner.give_up(id);
                Err(Error::io("cannot start the child process")(error))
            }
        }
    }

    /// As [`spawn`](Self::spawn), for those who start the child in another way: what is returned is to be dropped once
    /// the child has been started.
    ///
    /// # Errors
    /// As there.
    pub fn pass_to(&mut self, command: &mut Command, waits: Waits) -> Result<(PeerId, Passing), Error> {
        self.inner.add(waits, None, |inner, id| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (life, childs_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(Error::io("cannot create the life socket"))?;
            let offer = inner.offer(id, waits)?;
            offer.send(life.as_fd(), inner.shareable()?)?;
            let wiring = offer.wiring(Some(life), inner.lives())?;
            Ok((inherit::pass(childs_end.as_fd(), command)?, Some(wiring)))
        })
    }

    /// Lets plugins [join](HubPeer::join) by a socket at a path: of mode 0600, ready when it appears, and taken away with the
    /// host. What a dead host left there is replaced; anything else is not. Who joins is heard of as
    /// [`Heard::Joined`](super::Heard::Joined), while the host [receives](Self::recv_any).
    ///
    /// # Errors
    /// [`Error::NoDoorbell`] in a hub that sleeps on futexes, [`Error::PathTaken`], [`Error::Io`].
    pub fn bind(&mut self, path: impl AsRef<Path>, waits: Waits) -> Result<(), Error> {
        self.bind_if(path, waits, PeerCredentials::is_same_user)
    }

    /// As [`bind`](Self::bind), for plugins that are admitted by another rule than "of the same user". For another user to
    /// reach the socket at all, the path's mode has to be changed as well.
    ///
    /// # Errors
    /// As there.
    pub fn bind_if(
        &mut self,
        path: impl AsRef<Path>,
        waits: Waits,
        admitted: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.inner.shareable()?;
        self.inner.endpoint.bells().ok_or(Error::NoDoorbell)?;
        let mut reception = Reception::bind(path.as_ref(), self.inner.options.handshake_timeout)?;
        reception.admit_if(admitted);
        self.inner.endpoint.attend(reception.as_fd())?;
        self.inner.reception = Some((reception, waits));
        Ok(())
    }

    /// Gives out a number to whoever shall [open](HubPeer::open_at) the hub's path with it.
    ///
    /// # Errors
    /// [`Error::Hub`] if every place is in use, [`Error::NeedsDoorbell`] in a hub that sleeps on doorbells.
    pub fn add_peer(&mut self, waits: Waits) -> Result<PeerId, Error> {
        if self.inner.endpoint.bells().is_some() {
            return Err(Error::NeedsDoorbell);
        }
        self.inner.add(waits, None, |_, _| Ok(((), None))).map(|(id, ())| id)
    }

    /// A plugin in this process, for another thread.
    ///
    /// # Errors
    /// [`Error::Hub`] if every place is in use, [`Error::Io`] if there are too many open files.
    pub fn add_local(&mut self, waits: Waits) -> Result<HubPeer, Error> {
        let (_, peer) = self.inner.add(waits, None, |inner, id| {
            if inner.endpoint.bells().is_none() {
                return Ok((inner.options.attach(&inner.mapping, None, None, id)?, None));
            }
            let offer = inner.offer(id, waits)?;
            let peers = offer.turned().wiring(None, None)?;
            let peer = inner.options.attach(&inner.mapping, None, Some(peers), id)?;
            Ok((peer, Some(offer.wiring(None, inner.lives())?)))
        })?;
        Ok(peer)
    }
}

impl Inner {
    /// What a plugin maps.
    fn shareable(&self) -> Result<BorrowedFd<'_>, Error> {
        self.endpoint.file().or_else(|| self.mapping.file()).ok_or(Error::NoDoorbell)
    }

    /// The set of every plugin's life socket.
    fn lives(&self) -> Option<BorrowedFd<'_>> {
        self.endpoint.bells().map(|bells| bells.lives.as_fd())
    }

    /// The bells of a plugin with this number.
    fn offer(&self, id: PeerId, waits: Waits) -> Result<HubOffer, Error> {
        let bells = self.endpoint.bells().ok_or(Error::NoDoorbell)?;
        match waits {
            Waits::Together => HubOffer::new(&bells.data, &bells.slots, id),
            Waits::Alone => HubOffer::new(&Arc::new(Bell::new()?), &bells.slots, id),
        }
    }

    /// Goes on with every handshake.
    pub(super) fn receive_clients(&mut self) -> Result<(), Error> {
        let Some((mut reception, waits)) = self.reception.take() else { return Ok(()) };
        let done = loop {
            match reception.drive(|socket, ()| self.welcome(socket, waits)) {
                Ok(Some(_)) => {}
                done => break done.map(drop),
            }
        };
        self.reception = Some((reception, waits));
        done
    }

    /// Gives a place to a client that has said hello. That it attaches is then seen by its place.
    fn welcome(&mut self, socket: BorrowedFd<'_>, waits: Waits) -> Result<Progress, Error> {
        if handshake::take_hub_hello(socket)?.is_none() {
            return Ok(Progress::Waiting);
        }
        let until = Instant::now() + self.options.handshake_timeout;
        self.add(waits, Some(until), |inner, id| {
            let offer = inner.offer(id, waits)?;
            offer.send(socket, inner.shareable()?)?;
            let life = socket.try_clone_to_owned().map_err(Error::io("cannot keep the life socket"))?;
            Ok(((), Some(offer.wiring(Some(life), inner.lives())?)))
        })?;
        Ok(Progress::Agreed)
    }
}
