//! A session: both directions between two peers, in one process or in two.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;

use rapace_shm_core::layout::{ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::{self, Link, LinkStatus, PeerRole};
use rapace_shm_core::region::InRegion;

use crate::barrier::Barriers;
use crate::endpoint::ShmEndpoint;
use crate::error::Error;
use crate::inherit;
use crate::mapping::{Mapping, sealed_memfd};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::spin::Spin;
use crate::system_calls::SystemCalls;

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
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { spin: Spin::default(), membarrier: true }
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

    /// Two peers in this process, over anonymous memory; see [`ShmSession::pair`].
    ///
    /// # Errors
    /// As there.
    pub fn pair(self, config: ShmSessionConfig) -> Result<(ShmSession, ShmSession), Error> {
        let mapping = Arc::new(Mapping::anonymous(calculate_segment_size(&config)?)?);
        let a = self.session(Link::create(self.endpoint(&mapping, config.slot_count)?, config)?, None);
        let b = self.session(Link::attach(self.endpoint(&mapping, config.slot_count)?)?, None);
        Ok((a, b))
    }

    /// Peer A of a new session on a memfd; see [`ShmSession::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(self, config: ShmSessionConfig) -> Result<ShmSession, Error> {
        let file = sealed_memfd(calculate_segment_size(&config)?)?;
        let mapping = Arc::new(Mapping::of_sealed(file.as_fd())?);
        let link = Link::create(self.endpoint(&mapping, config.slot_count)?, config)?;
        Ok(self.session(link, Some(file)))
    }

    /// The other peer of a session whose memfd this process was given; see [`ShmSession::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(self, file: OwnedFd) -> Result<ShmSession, Error> {
        let mapping = Arc::new(Mapping::of_sealed(file.as_fd())?);
        let slots = link::Session::peek(&mapping.region()?)?.slot_count;
        let link = Link::attach(self.endpoint(&mapping, slots)?)?;
        Ok(self.session(link, Some(file)))
    }

    /// The session that the parent process passed to this one; see [`ShmSession::inherited`].
    ///
    /// # Errors
    /// As there.
    pub fn inherited(self) -> Result<ShmSession, Error> {
        self.attach(inherit::take()?)
    }

    fn endpoint(self, mapping: &Arc<Mapping>, slots: u32) -> Result<ShmEndpoint, Error> {
        let barriers = if self.membarrier { Barriers::of_process() } else { Barriers::FENCES };
        Ok(ShmEndpoint::new(mapping.region()?, slots, barriers))
    }

    fn session(self, link: Link<ShmEndpoint>, file: Option<OwnedFd>) -> ShmSession {
        let (sender, receiver, place) = link.into_parts();
        ShmSession { sender: Sender::new(sender, self.spin), receiver: Receiver::new(receiver, self.spin), place, file }
    }
}

/// Both directions of a session, seen from one peer.
#[derive(Debug)]
pub struct ShmSession {
    sender: Sender,
    receiver: Receiver,
    place: link::Session,
    file: Option<OwnedFd>,
}

impl ShmSession {
    /// Two peers in this process, over anonymous shared memory: for threads, and for tests.
    ///
    /// # Errors
    /// A shape that the layout cannot carry, a segment above the size limit, or no memory.
    pub fn pair(config: ShmSessionConfig) -> Result<(Self, Self), Error> {
        SessionOptions::new().pair(config)
    }

    /// Peer A of a new session on a memfd: mode 0600, its size sealed, closed on exec. Hand it to the other process with
    /// [`pass_to`](Self::pass_to), or pass a duplicate of [its descriptor](Self::memfd) by other means.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    pub fn create(config: ShmSessionConfig) -> Result<Self, Error> {
        SessionOptions::new().create(config)
    }

    /// The other peer of a session whose memfd this process was given. Everything about the segment is checked
    /// before it is used.
    ///
    /// # Errors
    /// [`Error::NotSealed`], [`Error::Incompatible`], [`Error::LimitExceeded`], [`Error::Link`] if both sides are taken.
    pub fn attach(file: OwnedFd) -> Result<Self, Error> {
        SessionOptions::new().attach(file)
    }

    /// The memfd behind the session, if it has one.
    #[must_use]
    pub fn memfd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Makes a child process inherit this session's memfd, and nothing else; it calls
    /// [`inherited`](Self::inherited). The descriptor stays closed on exec for every other child.
    ///
    /// # Errors
    /// [`Error::Io`] for a session without a memfd ([`pair`](Self::pair)), or if it cannot be duplicated.
    pub fn pass_to(&self, command: &mut Command) -> Result<(), Error> {
        let file = self.memfd().ok_or_else(|| {
            Error::io("a session over anonymous memory cannot be passed to a process")(std::io::ErrorKind::Unsupported)
        })?;
        inherit::pass(file, command)
    }

    /// The session that the parent process passed to this one with [`pass_to`](Self::pass_to). Works once.
    ///
    /// # Errors
    /// [`Error::NotInherited`] if there is none or it was taken already, or as [`attach`](Self::attach).
    pub fn inherited() -> Result<Self, Error> {
        SessionOptions::new().inherited()
    }

    /// Which peer this is.
    #[must_use]
    pub fn role(&self) -> PeerRole {
        self.place.role()
    }

    /// The shape of the session.
    #[must_use]
    pub fn config(&self) -> ShmSessionConfig {
        self.place.config()
    }

    /// What rings and slots look like at this moment.
    #[must_use]
    pub fn status(&mut self) -> LinkStatus {
        self.place.status(self.sender.link().endpoint().region())
    }

    /// The system calls that this side has made so far. The halves give the same through
    /// [`Sender::system_calls`] and [`Receiver::system_calls`].
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.receiver.system_calls()
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
}
