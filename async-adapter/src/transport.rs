//! A session between futures: both directions, usable by many tasks at once.

use std::path::Path;

use rapace_shm::core::slots::{DataSegment, SlotPool};
use rapace_shm::{
    Error, HubOptions, Loan, Message, MsgDescHot, OsEndpoint, Sender, SessionOptions, ShmBytes, ShmEndpoint,
    ShmSession, ShmSessionConfig, Spin, SystemCalls, Unsent,
};

use crate::bell::Reactor;
use crate::ends::{Ends, Halves};
use crate::listener::{ShmTransportListener, unblock};
use crate::receiver::ShmReceiver;
use crate::sender::ShmSender;

/// How a transport is made: what its session is like, who watches its doorbells, and how long it looks before it sleeps.
///
/// ```
/// use rapace_shm::{ShmSessionConfig, Spin};
/// use rapace_shm_async::TransportOptions;
///
/// let (a, b) = TransportOptions::new().spin(Spin::none()).pair(ShmSessionConfig::default())?;
/// # Ok::<(), rapace_shm::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TransportOptions {
    session: SessionOptions,
    pub(crate) hub: HubOptions,
    pub(crate) reactor: Reactor,
    pub(crate) spin: Spin,
}

/// Two portions: about two microseconds, and the executor's other tasks in between. Other threads of a runtime need the
/// processors, too, so this is less than what a blocking call may look.
const TRIES: u32 = 256;

/// On a machine with one processor: sleeps at once, as the blocking calls do.
impl Default for TransportOptions {
    fn default() -> Self {
        let spin = if Spin::default() == Spin::none() { Spin::none() } else { Spin::tries(TRIES) };
        Self { session: SessionOptions::new(), hub: HubOptions::new(), reactor: Reactor::default(), spin }
    }
}

impl TransportOptions {
    /// The defaults. Doorbells are watched by async-io's reactor, which works under every executor: where nobody else
    /// runs it, it has a thread of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Doorbells are watched by tokio's reactor, which saves a hop between threads for programs that live there. Transports
    /// are then to be made inside of a runtime with I/O enabled, and used while it runs.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn tokio() -> Self {
        Self { reactor: Reactor::Tokio, ..Self::default() }
    }

    /// How the session behaves. Its own [`spin`](SessionOptions::spin) is for blocking calls.
    #[must_use]
    pub const fn session(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }

    /// How this member of a hub behaves. Its own [`spin`](HubOptions::spin) is for blocking calls.
    #[must_use]
    pub const fn hub(mut self, options: HubOptions) -> Self {
        self.hub = options;
        self
    }

    /// How long a task that has to wait looks before it sleeps: 256 tries unless told otherwise, less after long waits. It
    /// looks in portions of about a microsecond, and between two of them the executor's other tasks run.
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// Two transports in this process, over anonymous memory.
    ///
    /// # Errors
    /// As [`SessionOptions::pair`], and as [`over`](Self::over).
    pub fn pair(self, config: ShmSessionConfig) -> Result<(ShmTransport, ShmTransport), Error> {
        let (a, b) = self.session.doorbells(true).pair(config)?;
        Ok((self.over(a)?, self.over(b)?))
    }

    /// A transport over a session, a hub's plugin, or a host's end of the link to one, however it came about. One without
    /// doorbells waits through a thread, started when a task first waits, for each cause of waiting.
    ///
    /// # Errors
    /// [`Error::Io`] if there are too many open files, or outside of a runtime if a runtime's reactor was asked for.
    pub fn over<L: Ends>(self, ends: L) -> Result<ShmTransport<L::Endpoint, L::Pool>, Error> {
        let (sender, receiver) = ends.into_ends();
        Ok(ShmTransport {
            sender: ShmSender::new(sender, self.reactor, self.spin)?,
            receiver: ShmReceiver::new(receiver, self.reactor, self.spin)?,
        })
    }

    /// A transport to the listener at a path. The handshake runs on a thread, which ends with it; a future that is
    /// dropped meanwhile gives up the session.
    ///
    /// # Errors
    /// As [`ShmSession::connect`], and as [`over`](Self::over).
    pub async fn connect(self, path: impl AsRef<Path>) -> Result<ShmTransport, Error> {
        let (options, path) = (self.session, path.as_ref().to_owned());
        self.over(unblock(move || options.connect(path)).await?)
    }

    /// Listens at a path; each client gets a transport.
    ///
    /// # Errors
    /// As [`ShmListener::bind`](rapace_shm::ShmListener::bind), and as [`over`](Self::over).
    pub fn bind(self, path: impl AsRef<Path>, config: ShmSessionConfig) -> Result<ShmTransportListener, Error> {
        ShmTransportListener::new(self.session.bind(path, config)?, self)
    }
}

/// Both directions of a session (or of a hub's link), for futures on any runtime. All calls take `&self`: many tasks may send and receive at
/// once (share it in an [`Arc`](std::sync::Arc), or [split](Self::into_split) it). Those who have to wait take turns in the
/// order in which they came.
///
/// Every call may be dropped at any await: nothing that was acknowledged is lost, and no slot.
///
/// Dropped, both directions are closed: the peer receives everything that was sent, then sees the end. Without doorbells
/// the threads that waited end a moment later, and with the last one the mapping and, if this side made it, the file.
#[derive(Debug)]
pub struct ShmTransport<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    sender: ShmSender<E, P>,
    receiver: ShmReceiver<E, P>,
}

impl ShmTransport {
    /// Two transports in this process, over anonymous memory.
    ///
    /// # Errors
    /// As [`TransportOptions::pair`].
    pub fn pair(config: ShmSessionConfig) -> Result<(Self, Self), Error> {
        TransportOptions::new().pair(config)
    }

    /// A transport to the listener at a path.
    ///
    /// # Errors
    /// As [`TransportOptions::connect`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        TransportOptions::new().connect(path).await
    }

    /// Sends bytes that stay readable here; see [`ShmSender::send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_bytes(&self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<(), Error> {
        self.sender.send_bytes(descriptor, bytes).await
    }

    /// The session below: to look at it, to block on it, or to give its peer's place to another. `None` if there are other
    /// handles of its sender; they remain, and the receiver is closed.
    #[must_use]
    pub fn into_session(self) -> Option<ShmSession> {
        let (sender, receiver) = self.into_halves()?;
        ShmSession::reunite(sender, receiver).ok()
    }
}

impl<E: OsEndpoint, P: SlotPool> ShmTransport<E, P> {
    /// A transport over a session, a hub's plugin, or a host's end of the link to one.
    ///
    /// # Errors
    /// As [`TransportOptions::over`].
    pub fn new(ends: impl Ends<Endpoint = E, Pool = P>) -> Result<Self, Error> {
        TransportOptions::new().over(ends)
    }

    /// The largest message in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.sender.max_payload()
    }

    /// Sends a message; see [`ShmSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, descriptor: &MsgDescHot, payload: &[u8]) -> Result<(), Error> {
        self.sender.send(descriptor, payload).await
    }

    /// Takes a slot for a message of `len` bytes; see [`ShmSender::loan`].
    ///
    /// # Errors
    /// As there.
    pub async fn loan(&self, len: usize) -> Result<Loan<E, P>, Error> {
        self.sender.loan(len).await
    }

    /// Sends a loan where it lies; see [`ShmSender::send_loan`].
    ///
    /// # Errors
    /// As there; the loan comes back.
    pub async fn send_loan(&self, descriptor: &MsgDescHot, loan: Loan<E, P>) -> Result<(), Unsent<Loan<E, P>>> {
        self.sender.send_loan(descriptor, loan).await
    }

    /// Receives a message. Of several tasks that wait, each gets another one.
    ///
    /// # Errors
    /// As [`ShmReceiver::recv`].
    pub async fn recv(&self) -> Result<Message<E, P>, Error> {
        self.receiver.recv_in_turn().await
    }

    /// This side's environment.
    #[must_use]
    pub fn endpoint(&self) -> &E {
        self.sender.endpoint()
    }

    /// The sender, for another task.
    #[must_use]
    pub fn sender(&self) -> ShmSender<E, P> {
        self.sender.clone()
    }

    /// Says that nothing more will come: the peer receives what was sent, then sees the end. What it sends can still be
    /// received. Does not wait.
    pub fn close(&self) {
        self.sender.close();
    }

    /// Closes both directions: whoever waits here is told, and the peer's sends fail.
    pub fn close_both(&self) {
        self.sender.close();
        self.receiver.close_shared();
    }

    /// The system calls that this side has made so far; the reactor's own are not among them.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.sender.system_calls()
    }

    /// Both halves, to go to different tasks. Each closes its direction when it is dropped.
    #[must_use]
    pub fn into_split(self) -> (ShmSender<E, P>, ShmReceiver<E, P>) {
        (self.sender, self.receiver)
    }

    /// Looks at the sender.
    pub(crate) fn with_sender<T>(&self, look: impl FnOnce(&mut Sender<E, P>) -> T) -> T {
        self.sender.shared.with(look)
    }

    /// The halves below, if there are no other handles of the sender.
    pub(crate) fn into_halves(self) -> Option<Halves<E, P>> {
        Some((self.sender.into_half()?, self.receiver.into_half()))
    }
}
