//! The listener: where processes that know a path come to get a session.
//!
//! It serves many clients, and many handshakes at once ([`Reception`]). The epoll set of those is the listener's own
//! descriptor for an event loop.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::ShmSessionConfig;
use crate::error::{Error, HandshakeError};
use crate::handshake::{self, Offer};
use crate::reception::{Progress, Reception};
use crate::session::{SessionOptions, ShmSession};

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
    reception: Reception<Stage>,
    config: ShmSessionConfig,
    options: SessionOptions,
}

/// How far a client has got.
#[derive(Default)]
enum Stage {
    /// It is to say hello.
    #[default]
    Hello,
    /// It is to attach to this session; `None`: to the one whose peer is being replaced.
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
        Ok(Self { reception: Reception::bind(path, options.handshake_timeout)?, config, options })
    }

    /// Who may have a session, instead of "processes of the same user". For another user to reach the socket at all, the
    /// path's mode has to be changed as well.
    pub fn admit_if(&mut self, admitted: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static) {
        self.reception.admit_if(admitted);
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
            Ok(Some((Stage::Ready { session: Some(session), offer }, socket))) => {
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
            self.reception.wait(deadline)?;
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
                Some((Stage::Ready { session: None, offer }, socket)) => {
                    session.rewire(offer.wiring(socket)?);
                    return Ok(());
                }
                // It began before, and has a session of its own: which nobody asked for any more.
                Some(_) => {}
                None => self.reception.wait(deadline)?,
            }
        }
    }

    /// Goes on with every handshake until a client is agreed with. `vacant`: the session whose peer is to be replaced, for
    /// the first client that says hello.
    fn drive(&mut self, vacant: &mut Option<&mut ShmSession>) -> Result<Option<(Stage, OwnedFd)>, Error> {
        let (config, options) = (self.config, self.options);
        self.reception.drive(|socket, stage| stage.step(socket, config, options, vacant))
    }
}

impl Stage {
    /// Takes the message that is due, if it is there.
    fn step(
        &mut self,
        socket: BorrowedFd<'_>,
        config: ShmSessionConfig,
        options: SessionOptions,
        vacant: &mut Option<&mut ShmSession>,
    ) -> Result<Progress, Error> {
        if let Self::Ready { .. } = self {
            let ready = handshake::take_ready(socket)?;
            return Ok(ready.map_or(Progress::Waiting, |()| Progress::Agreed));
        }
        if handshake::take_hello(socket)?.is_none() {
            return Ok(Progress::Waiting);
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
        *self = Self::Ready { offer, session };
        Ok(Progress::Further)
    }
}

/// Readable when [`try_accept`](ShmListener::try_accept) has something to do. A handshake that takes too long is found out
/// by the next call.
impl AsFd for ShmListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reception.as_fd()
    }
}

impl fmt::Debug for ShmListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmListener")
            .field("reception", &self.reception)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// How long each side of a handshake waits for the other unless told otherwise.
pub(crate) const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
