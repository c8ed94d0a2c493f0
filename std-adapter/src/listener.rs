//! The listener: where processes that know a path come to get a session.
//!
//! It serves many clients, and many handshakes at once: a client that connects and says nothing holds up nobody. The
//! socket, and every handshake under way, is in one epoll set, whose descriptor is the listener's own for an event loop.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, epoll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::geteuid;

use crate::ShmSessionConfig;
use crate::error::{Error, HandshakeError};
use crate::handshake::{self, Offer};
use crate::poll::poll_until;
use crate::session::{SessionOptions, ShmSession};
use crate::socket::BoundSocket;
use crate::trace::event;

/// How many handshakes are under way at most. More clients wait in the kernel's queue.
const MOST_PENDING: usize = 64;

/// Who is at the other end of a socket, as the kernel says: as of when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl PeerCredentials {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self, Error> {
        let credentials = socket_peercred(socket).map_err(Error::io("cannot ask who is at the other end"))?;
        Ok(Self {
            pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
        })
    }

    /// Whether it is a process of this process's user.
    #[must_use]
    pub fn is_same_user(&self) -> bool {
        self.uid == geteuid().as_raw()
    }

    pub(crate) fn admit(&self, admitted: bool) -> Result<(), Error> {
        if admitted {
            return Ok(());
        }
        Err(HandshakeError::NotAdmitted { pid: self.pid, uid: self.uid }.into())
    }
}

type Admit = Box<dyn Fn(&PeerCredentials) -> bool + Send + Sync>;

/// Waits at a path for processes that want a session. Each gets one of its own.
///
/// ```
/// use rapace_shm::{MsgDescHot, ShmListener, ShmSession, ShmSessionConfig};
///
/// let folder = std::env::temp_dir().join(format!("rapace-shm-doc-{}", std::process::id()));
/// std::fs::create_dir(&folder)?;
/// let path = folder.join("socket");
/// let mut listener = ShmListener::bind(&path, ShmSessionConfig::default())?;
/// let client = std::thread::spawn({
///     let path = path.clone();
///     move || ShmSession::connect(path)?.split().0.send(&MsgDescHot::data(1), b"hello")
/// });
/// let mut session = listener.accept()?;
/// assert_eq!(session.split().1.recv()?.payload(), b"hello");
/// client.join().unwrap()?;
/// drop(listener); // takes the path away
/// std::fs::remove_dir(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ShmListener {
    socket: BoundSocket,
    epoll: OwnedFd,
    pending: Vec<Pending>,
    config: ShmSessionConfig,
    options: SessionOptions,
    admit: Admit,
}

/// A handshake under way.
struct Pending {
    socket: OwnedFd,
    deadline: Instant,
    stage: Stage,
}

enum Stage {
    /// The client is to say hello.
    Hello,
    /// The client is to attach to this session; `None`: to the one whose peer is being replaced.
    Ready { offer: Offer, session: Option<Box<ShmSession>> },
}

impl ShmListener {
    /// Listens at a path: a socket of mode 0600, which appears ready for use. The path is taken away when the listener
    /// is dropped. What a dead listener left there is replaced; anything else is not.
    ///
    /// # Errors
    /// [`Error::PathTaken`] if something else is there, [`Error::Incompatible`] for a shape that the layout cannot carry,
    /// [`Error::Io`] as the kernel says it.
    pub fn bind(path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<Self, Error> {
        SessionOptions::new().bind(path, config)
    }

    pub(crate) fn bind_with(path: &Path, config: ShmSessionConfig, options: SessionOptions) -> Result<Self, Error> {
        config.validate()?;
        let socket = BoundSocket::bind(path)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::io("cannot create an epoll set"))?;
        let listener = Self {
            socket,
            epoll,
            pending: Vec::new(),
            config,
            options,
            admit: Box::new(PeerCredentials::is_same_user),
        };
        listener.attend(listener.socket.as_fd())?;
        Ok(listener)
    }

    /// Who may have a session, instead of "processes of the same user". For another user to reach the socket at all, the
    /// path's mode has to be changed as well.
    pub fn admit_if(&mut self, admitted: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static) {
        self.admit = Box::new(admitted);
    }

    /// The next client's session; waits for one.
    ///
    /// # Errors
    /// [`Error::Handshake`] if a client could not be agreed with; the listener goes on, call again. Others if there is
    /// no memory, or too many open files.
    pub fn accept(&mut self) -> Result<ShmSession, Error> {
        self.accept_until(None)
    }

    /// The next client's session, waiting for one until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`accept`](Self::accept).
    pub fn accept_deadline(&mut self, deadline: Instant) -> Result<ShmSession, Error> {
        self.accept_until(Some(deadline))
    }

    /// The next client's session if there is one. Drives every handshake that is under way as far as it goes.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn try_accept(&mut self) -> Result<Option<ShmSession>, Error> {
        match self.drive(&mut None) {
            Ok(Some(Agreed { session: Some(session), offer, socket })) => {
                session.rewire(offer.wiring(socket)?);
                Ok(Some(*session))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn accept_until(&mut self, deadline: Option<Instant>) -> Result<ShmSession, Error> {
        loop {
            if let Some(session) = self.try_accept()? {
                return Ok(session);
            }
            self.wait(deadline)?;
        }
    }

    /// Gives the place of a session's peer, which is gone, to the next client; waits for one. Everything that this side
    /// holds stays as it is; what was on its way is lost.
    ///
    /// # Errors
    /// [`Error::PeerAlive`]; otherwise as [`accept_deadline`](Self::accept_deadline). After an error the session is without
    /// a peer: call again.
    pub fn reattach(&mut self, session: &mut ShmSession, deadline: Option<Instant>) -> Result<(), Error> {
        session.reset()?;
        loop {
            let mut vacant = Some(&mut *session);
            match self.drive(&mut vacant)? {
                Some(Agreed { session: None, offer, socket }) => {
                    session.rewire(offer.wiring(socket)?);
                    return Ok(());
                }
                // It began before, and has a session of its own: which nobody asked for any more.
                Some(_) => {}
                None => self.wait(deadline)?,
            }
        }
    }

    /// Waits until there is something to drive, or a handshake has taken too long.
    fn wait(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let soonest = self.pending.iter().map(|pending| pending.deadline).chain(deadline).min();
        let stirred = poll_until(&mut [PollFd::new(&self.epoll, PollFlags::IN)], soonest)?;
        if !stirred && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::Timeout);
        }
        Ok(())
    }

    /// Goes on with everything that can go on, until a client is agreed with. `vacant`: the session whose peer is to be
    /// replaced, for the first client that says hello.
    fn drive(&mut self, vacant: &mut Option<&mut ShmSession>) -> Result<Option<Agreed>, Error> {
        self.take_new_clients()?;
        let mut place = 0;
        while let Some(pending) = self.pending.get_mut(place) {
            match pending.step(self.config, self.options, vacant) {
                Ok(Progress::Waiting) => place += 1,
                Ok(Progress::Further) => {}
                Ok(Progress::Attached) => return Ok(self.pending.swap_remove(place).agree()),
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
            let deadline = Instant::now() + self.options.handshake_timeout;
            self.pending.push(Pending { socket, deadline, stage: Stage::Hello });
        }
        Ok(())
    }

    /// Wakes whoever waits for the set. Which socket it was does not matter: every one is looked at.
    fn attend(&self, socket: BorrowedFd<'_>) -> Result<(), Error> {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).map_err(Error::io("cannot wait for a client"))
    }
}

/// A client that has attached.
struct Agreed {
    session: Option<Box<ShmSession>>,
    offer: Offer,
    socket: OwnedFd,
}

enum Progress {
    /// Nothing has come.
    Waiting,
    /// A message has come, and another one may have.
    Further,
    /// The client has attached.
    Attached,
}

impl Pending {
    /// Takes the message that is due, if it is there.
    fn step(
        &mut self,
        config: ShmSessionConfig,
        options: SessionOptions,
        vacant: &mut Option<&mut ShmSession>,
    ) -> Result<Progress, Error> {
        let socket = self.socket.as_fd();
        let arrived = match &self.stage {
            Stage::Hello => handshake::take_hello(socket)?,
            Stage::Ready { .. } => handshake::take_ready(socket)?,
        };
        if arrived.is_none() {
            return if Instant::now() < self.deadline {
                Ok(Progress::Waiting)
            } else {
                Err(HandshakeError::Timeout.into())
            };
        }
        if let Stage::Ready { .. } = self.stage {
            return Ok(Progress::Attached);
        }
        let offer = Offer::new()?;
        let session = match vacant.take() {
            Some(vacant) => {
                offer.send(socket, vacant.shareable()?)?;
                None
            }
            None => {
                let session = options.create(config)?;
                offer.send(socket, session.shareable()?)?;
                Some(Box::new(session))
            }
        };
        self.stage = Stage::Ready { offer, session };
        Ok(Progress::Further)
    }

    fn agree(self) -> Option<Agreed> {
        match self.stage {
            Stage::Ready { offer, session } => Some(Agreed { session, offer, socket: self.socket }),
            Stage::Hello => None,
        }
    }
}

/// Readable when [`try_accept`](ShmListener::try_accept) has something to do. A handshake that takes too long is found out
/// by the next call.
impl AsFd for ShmListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for ShmListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmListener")
            .field("socket", &self.socket)
            .field("pending", &self.pending.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// How long each side of a handshake waits for the other unless told otherwise.
pub(crate) const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
