//! A session: both directions between two peers, in one process or in two.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rapace_shm_core::layout::{PeerState, ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::{self, Link, LinkError, LinkStatus, PeerRole};
use rapace_shm_core::region::InRegion;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::barrier::Barriers;
use crate::endpoint::ShmEndpoint;
use crate::error::Error;
use crate::handshake::{self, Offer};
use crate::inherit::{self, Passing};
use crate::listener::{DEFAULT_HANDSHAKE_TIMEOUT, PeerCredentials, ShmListener};
use crate::mapping::{Mapping, sealed_memfd};
use crate::metrics::ShmMetrics;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::socket::connect_to;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;
use crate::trace::event;
use crate::wiring::{Bells, Wiring};

/// How this side of a session behaves; the peer may choose otherwise.
///
/// ```
/// use rapace_shm::{SessionOptions, ShmSessionConfig, Spin};
///
/// let (a, b) = SessionOptions::new().spin(Spin::none()).pair(ShmSessionConfig::default())?;
/// # Ok::<(), rapace_shm::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    spin: Spin,
    membarrier: bool,
    doorbells: bool,
    pub(crate) handshake_timeout: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { spin: Spin::default(), membarrier: true, doorbells: false, handshake_timeout: DEFAULT_HANDSHAKE_TIMEOUT }
    }
}

impl SessionOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a waiting call looks before it sleeps.
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Whether to use `membarrier(2)` where the kernel allows it (the default). Without it every message costs a fence
    /// on this side.
    #[must_use]
    pub const fn membarrier(mut self, allowed: bool) -> Self {
        self.membarrier = allowed;
        self
    }

    /// Whether a [`pair`](Self::pair) sleeps on doorbells, which an event loop can watch, instead of futexes, which are
    /// a little faster (the default). Sessions that were passed or agreed on always have doorbells.
    #[must_use]
    pub const fn doorbells(mut self, wanted: bool) -> Self {
        self.doorbells = wanted;
        self
    }

    /// How long each step of a handshake may take: 5 seconds unless told otherwise.
    #[must_use]
    pub const fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Two peers in this process, over anonymous memory; see [`ShmSession::pair`].
    ///
    /// # Errors
    /// As there.
    pub fn pair(self, config: ShmSessionConfig) -> Result<(ShmSession, ShmSession), Error> {
        let mapping = Arc::new(Mapping::anonymous(calculate_segment_size(&config)?)?);
        let a = self.session(Link::create(self.endpoint(&mapping, config.slot_count, None)?, config)?);
        let b = self.session(Link::attach(self.endpoint(&mapping, config.slot_count, None)?)?);
        if self.doorbells {
            let (of_a, of_b) = (Bells::new()?, Bells::new()?);
            a.rewire(Wiring::new(of_a.clone(), of_b.clone(), None)?);
            b.rewire(Wiring::new(of_b, of_a, None)?);
        }
        Ok((a, b))
    }

    /// Peer A of a new session on a memfd; see [`ShmSession::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(self, config: ShmSessionConfig) -> Result<ShmSession, Error> {
        let file = sealed_memfd(calculate_segment_size(&config)?)?;
        let mapping = Arc::new(Mapping::of_sealed(file.as_fd())?);
        let endpoint = self.endpoint(&mapping, config.slot_count, Some(file))?;
        Ok(self.session(Link::create(endpoint, config)?))
    }

    /// The other peer of a session whose memfd this process was given; see [`ShmSession::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(self, file: OwnedFd) -> Result<ShmSession, Error> {
        let mapping = Arc::new(Mapping::of_sealed(file.as_fd())?);
        let slots = link::Session::peek(&mapping.region()?)?.slot_count;
        let endpoint = self.endpoint(&mapping, slots, Some(file))?;
        Ok(self.newcomer(Link::attach(endpoint)?))
    }

    /// The session that the parent process passed to this one; see [`ShmSession::inherited`].
    ///
    /// # Errors
    /// As there.
    pub fn inherited(self) -> Result<ShmSession, Error> {
        self.join(inherit::take()?, Instant::now() + self.handshake_timeout)
    }

    /// Listens at a path for processes that want a session; see [`ShmListener::bind`].
    ///
    /// # Errors
    /// As there.
    pub fn bind(self, path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<ShmListener, Error> {
        ShmListener::bind_with(path.as_ref(), config, self)
    }

    /// A session with the listener at a path; see [`ShmSession::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(self, path: impl AsRef<Path>) -> Result<ShmSession, Error> {
        self.connect_if(path, PeerCredentials::is_same_user)
    }

    /// As [`connect`](Self::connect), with a listener that is admitted by another rule than "of the same user".
    ///
    /// # Errors
    /// As there.
    pub fn connect_if(
        self,
        path: impl AsRef<Path>,
        admitted: impl FnOnce(&PeerCredentials) -> bool,
    ) -> Result<ShmSession, Error> {
        let deadline = Instant::now() + self.handshake_timeout;
        let socket = connect_to(path.as_ref(), deadline)?;
        let listener = PeerCredentials::of(socket.as_fd())?;
        listener.admit(admitted(&listener))?;
        handshake::hello(socket.as_fd())?;
        self.join(socket, deadline)
    }

    /// Takes the welcome out of a socket, attaches, and keeps the socket as the life socket.
    fn join(self, socket: OwnedFd, deadline: Instant) -> Result<ShmSession, Error> {
        let (memfd, offer) = handshake::take_welcome(&socket, deadline)?;
        let session = self.attach(memfd)?;
        handshake::ready(socket.as_fd())?;
        session.rewire(offer.wiring(socket)?);
        Ok(session)
    }

    pub(crate) fn endpoint(
        self,
        mapping: &Arc<Mapping>,
        slots: u32,
        file: Option<OwnedFd>,
    ) -> Result<ShmEndpoint, Error> {
        let barriers = if self.membarrier { Barriers::of_process() } else { Barriers::FENCES };
        Ok(ShmEndpoint::new(mapping.region()?, slots, barriers, file))
    }

    /// As [`session`](Self::session), for a side whose peer may have been asleep since before there was anybody: it has to
    /// be told, so that it can watch this process.
    pub(crate) fn newcomer(self, link: Link<ShmEndpoint>) -> ShmSession {
        link.endpoint().take_place(*link.session());
        link.greet();
        self.session(link)
    }

    pub(crate) fn session(self, link: Link<ShmEndpoint>) -> ShmSession {
        link.endpoint().take_place(*link.session());
        event!(DEBUG, role = ?link.session().role(), config = ?link.session().config(), "session begins");
        let (sender, receiver, _) = link.into_parts();
        ShmSession { sender: Sender::new(sender, self.spin), receiver: Receiver::new(receiver, self.spin) }
    }
}

/// Both directions of a session, seen from one peer.
#[derive(Debug)]
pub struct ShmSession {
    sender: Sender,
    receiver: Receiver,
}

impl ShmSession {
    /// Two peers in this process, over anonymous shared memory: for threads, and for tests.
    ///
    /// # Errors
    /// A shape that the layout cannot carry, a segment above the size limit, or no memory.
    pub fn pair(config: ShmSessionConfig) -> Result<(Self, Self), Error> {
        SessionOptions::new().pair(config)
    }

    /// Peer A of a new session on a memfd: mode 0600, its size sealed, closed on exec. Hand it to a child process with
    /// [`spawn`](Self::spawn); for processes that do not know each other there is [`ShmListener`].
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    pub fn create(config: ShmSessionConfig) -> Result<Self, Error> {
        SessionOptions::new().create(config)
    }

    /// The other peer of a session whose memfd this process was given. Everything about the segment is checked
    /// before it is used. Without a handshake there are no doorbells and no life socket; the peer's death is seen by
    /// watching its process.
    ///
    /// # Errors
    /// [`Error::NotSealed`], [`Error::Incompatible`], [`Error::LimitExceeded`], [`Error::Link`] if both sides are taken.
    pub fn attach(file: OwnedFd) -> Result<Self, Error> {
        SessionOptions::new().attach(file)
    }

    /// A session with the [`ShmListener`] at a path.
    ///
    /// # Errors
    /// [`Error::Handshake`] if nobody is there, if it is not what it should be, if it is another user's or if it takes
    /// more than 5 seconds; otherwise as [`attach`](Self::attach).
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        SessionOptions::new().connect(path)
    }

    /// The memfd behind the session, if it has one.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.endpoint().file().map(AsFd::as_fd)
    }

    /// The memfd behind the session, for a newcomer.
    pub(crate) fn shareable(&self) -> Result<BorrowedFd<'_>, Error> {
        self.memfd().ok_or_else(|| {
            Error::io("only a session on a memfd can be passed to a process")(std::io::ErrorKind::Unsupported)
        })
    }

    /// Starts a child process that inherits its side of this session, and nothing else of it; there it calls
    /// [`inherited`](Self::inherited). No other child inherits it.
    ///
    /// # Errors
    /// [`Error::Io`] if the child cannot be started, otherwise as [`pass_to`](Self::pass_to).
    pub fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        let _until_started = self.pass_to(command)?;
        command.spawn().map_err(Error::io("cannot start the child process"))
    }

    /// As [`spawn`](Self::spawn), for those who start the child in another way: what is returned is to be dropped once
    /// the child has been started.
    ///
    /// # Errors
    /// [`Error::Io`] for a session without a memfd, [`Error::Link`] if it has another peer already (see
    /// [`reset`](Self::reset)).
    pub fn pass_to(&self, command: &mut Command) -> Result<Passing, Error> {
        let memfd = self.shareable()?;
        let endpoint = self.endpoint();
        if endpoint.is_wired() || matches!(endpoint.peer_state(), Some(PeerState::Attached | PeerState::Left)) {
            return Err(LinkError::Occupied.into());
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (life, childs_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(Error::io("cannot create the life socket"))?;
        let offer = Offer::new()?;
        offer.send(life.as_fd(), memfd)?;
        let wiring = offer.wiring(life)?;
        let passing = inherit::pass(childs_end.as_fd(), command)?;
        self.rewire(wiring);
        Ok(passing)
    }

    /// The session that the parent process passed to this one with [`spawn`](Self::spawn) or
    /// [`pass_to`](Self::pass_to). Works once.
    ///
    /// # Errors
    /// [`Error::NotInherited`] if there is none or it was taken already, otherwise as [`connect`](Self::connect).
    pub fn inherited() -> Result<Self, Error> {
        SessionOptions::new().inherited()
    }

    /// Makes room for another peer after this one has gone: frees every slot that this side does not hold, empties both
    /// rings. What was on its way is lost; loans and payloads that this side holds stay as they are. Returns how many
    /// slots the gone peer had in hand or on the way.
    ///
    /// Then [`spawn`](Self::spawn) another child, let another client [reattach](ShmListener::reattach), or let another
    /// process open the path.
    ///
    /// # Errors
    /// [`Error::PeerAlive`] if the peer has neither left nor died; [`Error::Link`] with [`LinkError::Busy`] if another
    /// thread is dropping a payload at this very moment: try again. A version 1.0 peer counts as alive until it has said
    /// nothing for 3 seconds (of the wall clock); that it is gone then is for the caller to know.
    pub fn reset(&mut self) -> Result<u32, Error> {
        let endpoint = self.endpoint().clone();
        if !endpoint.peer_is_gone() {
            return Err(Error::PeerAlive);
        }
        let slots = endpoint.place().reset(self.sender.link(), self.receiver.link())?;
        endpoint.unwire();
        event!(INFO, role = ?self.role(), slots, "session reset: room for another peer");
        Ok(slots)
    }

    /// Which peer this is.
    #[must_use]
    pub fn role(&self) -> PeerRole {
        self.endpoint().place().role()
    }

    /// The shape of the session.
    #[must_use]
    pub fn config(&self) -> ShmSessionConfig {
        self.endpoint().place().config()
    }

    /// What rings and slots look like at this moment.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.endpoint().place().status(self.endpoint().region())
    }

    /// The system calls that this side has made so far. The halves give the same through
    /// [`Sender::system_calls`] and [`Receiver::system_calls`].
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.receiver.system_calls()
    }

    /// An allocator over this session's slots, for `Vec` and `Box`. It never waits for a slot.
    #[cfg(feature = "allocator")]
    #[must_use]
    pub fn allocator(&self) -> rapace_shm_core::allocator::ShmAllocator<ShmEndpoint> {
        self.sender.allocator()
    }

    /// Counts what goes through this side of the session, from now on and in both its halves. Several sessions may share
    /// one set of counters. Says whether it does: the first set of counters that a session is given is the one that it
    /// keeps.
    pub fn count_into(&self, metrics: &Arc<ShmMetrics>) -> bool {
        self.endpoint().count_into(metrics)
    }

    /// Both halves, borrowed.
    pub fn split(&mut self) -> (&mut Sender, &mut Receiver) {
        (&mut self.sender, &mut self.receiver)
    }

    /// Both halves, to go to different threads. Each closes its direction when it is dropped.
    #[must_use]
    pub fn into_split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The session that two halves came from.
    ///
    /// # Errors
    /// Both halves, if they came from two.
    pub fn reunite(sender: Sender, receiver: Receiver) -> Result<Self, Box<(Sender, Receiver)>> {
        if sender.endpoint().is_same(receiver.endpoint()) {
            return Ok(Self { sender, receiver });
        }
        Err(Box::new((sender, receiver)))
    }

    pub(crate) fn rewire(&self, wiring: Wiring) {
        self.endpoint().rewire(wiring);
    }

    fn endpoint(&self) -> &ShmEndpoint {
        self.receiver.endpoint()
    }
}
