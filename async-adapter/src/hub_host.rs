//! The host between futures: it hears from whichever plugin has something, with one sleep for all, while other tasks send.
//!
//! ```text
//!   plugin 1 --- ring ---\                                        /--> a task that receives (several take turns)
//!   plugin 2 --- ring ----> [one doorbell of the host] --- loop --
//!   plugin 3 --- ring ---/                                        \--> (number, joined | message | ended)
//!
//!   tasks that send to plugin 2 --- HostPeerHandle ---> ring ---> plugin 2     a queue for each plugin
//! ```
//!
//! The loop is that of the other halves: here the half is the whole host.

use std::pin::Pin;
use std::process::{Child, Command};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use parking_lot::Mutex;
use rapace_shm::core::wake::Step;
use rapace_shm::{
    Error, EventSource, Heard, HeardFrom, HostEndpoint, HostLoan, HubHost, MsgDescHot, PeerId, SystemCalls, Unsent,
    Waits,
};

use crate::bell::Bell;
use crate::half::{Half, Job, Shared};
use crate::hub_error::HubTransportError;
use crate::hub_peer::{HostPeerHandle, HubHostPeerTransport, HubPeerTransport};
use crate::jobs::unless_full;
use crate::queue::Place;
use crate::transport::TransportOptions;
use crate::wakers::Cause;

impl Half for HubHost {
    type Endpoint = HostEndpoint;

    fn endpoint(&self) -> &HostEndpoint {
        self.endpoint()
    }

    fn event_source(&self) -> Result<EventSource, Error> {
        self.event_source_any()
    }

    fn drain(&mut self) {
        self.drain_any();
    }

    fn disarm(&mut self) {
        self.disarm_any();
    }
}

/// Hears from any plugin.
struct Hear;

impl Job<HubHost> for Hear {
    type Output = HeardFrom;
    const CAUSE: Cause = Cause::Ring;

    fn attempt(&mut self, host: &mut HubHost) -> Option<Result<HeardFrom, Error>> {
        unless_full(host.try_recv_any())
    }

    fn step(&mut self, host: &mut HubHost) -> Result<Step<HeardFrom>, Error> {
        host.poll_recv_any()
    }
}

/// The host of a hub, for futures on any runtime: it serves every plugin that waits together with others
/// ([`Waits::Together`]). All calls take `&self`: any number of tasks may receive (each gets something else) and send.
///
/// As a [`Stream`] it ends when there is no plugin and none can come. Plugins are heard in turn: whoever was heard is asked
/// last in the next round. One that is gone is cleaned up after by itself, once it was heard to have
/// [ended](Heard::Ended), by whoever receives.
///
/// ```
/// use rapace_shm::{Heard, HubConfig, HubHost, MsgDescHot, Waits};
/// use rapace_shm_async::HubHostTransport;
///
/// let host = HubHostTransport::new(HubHost::create(HubConfig::default())?)?;
/// let plugin = host.add_local(Waits::Together)?; // most are spawned, or join by a socket
/// futures::executor::block_on(async {
///     plugin.send(&MsgDescHot::data(1), b"hello, host").await?;
///     loop {
///         let (id, heard) = host.recv_from_any().await?;
///         if let Heard::Message(message) = heard {
///             host.send_to_peer(id, message.descriptor(), b"hello, plugin").await?;
///             break;
///         }
///     }
///     assert_eq!(plugin.recv().await?.payload(), b"hello, plugin");
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HubHostTransport {
    /// By number: the senders of those plugins that were sent something. First, so that every direction is closed before the
    /// host goes.
    senders: Mutex<Vec<HostPeerHandle>>,
    host: Shared<HubHost>,
    options: TransportOptions,
    /// The stream's place, while it waits.
    place: Option<Place>,
}

impl TransportOptions {
    /// A transport over a hub's host, however it came about, and whoever its plugins are already.
    ///
    /// # Errors
    /// [`HubTransportError::Host`]: too many open files, or outside of a runtime if a runtime's reactor was asked for.
    pub fn host(self, host: HubHost) -> Result<HubHostTransport, HubTransportError> {
        let host = Shared::new(host, self.reactor, self.spin)?;
        Ok(HubHostTransport { senders: Mutex::default(), host, options: self, place: None })
    }
}

impl HubHostTransport {
    /// A transport over a hub's host.
    ///
    /// # Errors
    /// As [`TransportOptions::host`].
    pub fn new(host: HubHost) -> Result<Self, HubTransportError> {
        TransportOptions::new().host(host)
    }

    /// Hears from whichever plugin has something to say: that it has joined, a message, or that it has ended; waits for one.
    ///
    /// Dropped, nothing is lost. Of several tasks that wait, each hears something else, in the order in which they came.
    ///
    /// # Errors
    /// [`HubTransportError::NoPlugins`], or [`HubTransportError::Host`] if one that wanted to join could not be agreed with;
    /// then the hub goes on, call again.
    pub async fn recv_from_any(&self) -> Result<HeardFrom, HubTransportError> {
        let heard = self.host.run(&mut Hear).await?;
        Ok(self.see_to(heard))
    }

    /// Hears from whichever plugin has something to say; `None` if none has, or if somebody waits for it, who comes first.
    ///
    /// # Errors
    /// As [`recv_from_any`](Self::recv_from_any).
    pub fn try_recv_from_any(&self) -> Result<Option<HeardFrom>, HubTransportError> {
        match self.host.try_now(HubHost::try_recv_any) {
            Err(Error::Empty | Error::Full) => Ok(None),
            heard => Ok(Some(self.see_to(heard?))),
        }
    }

    /// Sends a message to a plugin, copying its payload; waits for room. What is received meanwhile is received by others,
    /// so this keeps no plugin from being heard.
    ///
    /// # Errors
    /// [`HubTransportError::NotServed`], or [`HubTransportError::Plugin`] with what
    /// [`ShmSender::send`](crate::ShmSender::send) says; nothing was sent.
    pub async fn send_to_peer(
        &self,
        id: PeerId,
        descriptor: &MsgDescHot,
        payload: &[u8],
    ) -> Result<(), HubTransportError> {
        self.handle(id)?.send(descriptor, payload).await.map_err(HubTransportError::of(id))
    }

    /// Takes a slot for a message of `len` bytes to a plugin; waits for one. It may as well be sent to another one.
    ///
    /// # Errors
    /// As [`send_to_peer`](Self::send_to_peer).
    pub async fn loan_for(&self, id: PeerId, len: usize) -> Result<HostLoan, HubTransportError> {
        self.handle(id)?.loan(len).await.map_err(HubTransportError::of(id))
    }

    /// Sends a loan to a plugin where it lies; waits for room in the ring.
    ///
    /// # Errors
    /// As [`send_to_peer`](Self::send_to_peer); the loan comes back.
    pub async fn send_loan_to_peer(
        &self,
        id: PeerId,
        descriptor: &MsgDescHot,
        loan: HostLoan,
    ) -> Result<(), Unsent<HostLoan, HubTransportError>> {
        let handle = match self.handle(id) {
            Ok(handle) => handle,
            Err(error) => return Err(Unsent { error, loan: Some(loan) }),
        };
        let sent = handle.send_loan(descriptor, loan).await;
        sent.map_err(|Unsent { error, loan }| Unsent { error: HubTransportError::of(id)(error), loan })
    }

    /// A handle by which any task sends to a plugin, until that has ended.
    ///
    /// # Errors
    /// [`HubTransportError::NotServed`], [`HubTransportError::Plugin`] if there are too many open files.
    pub fn handle(&self, id: PeerId) -> Result<HostPeerHandle, HubTransportError> {
        let mut senders = self.senders.lock();
        if let Some(handle) = senders.iter().find(|handle| handle.peer_id() == id) {
            return Ok(handle.clone());
        }
        let handle = self.host.with(|host| {
            // First: a sender that was taken out and is dropped again would close its direction.
            let bell = Bell::new(self.options.reactor, host.sender(id)?.event_source())?;
            Ok(HostPeerHandle::with_bell(host.take_sender(id)?, bell, self.options.spin))
        });
        let handle = handle.map_err(HubTransportError::of(id))?;
        senders.push(handle.clone());
        Ok(handle)
    }

    /// Gives out a number to whoever shall open the hub's path with it.
    ///
    /// # Errors
    /// As [`HubHost::add_peer`].
    pub fn add_peer(&self, waits: Waits) -> Result<PeerId, HubTransportError> {
        Ok(self.with_host(|host| host.add_peer(waits))?)
    }

    /// Starts a child process that is a plugin of this hub; there it calls [`HubPeerTransport::inherited`].
    ///
    /// # Errors
    /// As [`HubHost::spawn`].
    pub fn spawn(&self, command: &mut Command, waits: Waits) -> Result<(PeerId, Child), HubTransportError> {
        Ok(self.with_host(|host| host.spawn(command, waits))?)
    }

    /// A plugin in this process, for other tasks.
    ///
    /// # Errors
    /// As [`HubHost::add_local`], and as [`TransportOptions::over`].
    pub fn add_local(&self, waits: Waits) -> Result<HubPeerTransport, HubTransportError> {
        let plugin = self.with_host(|host| host.add_local(waits))?;
        Ok(self.options.over(plugin)?)
    }

    /// Lets plugins [join](HubPeerTransport::join) by a socket at a path, while somebody receives. Each is heard of as
    /// [`Heard::Joined`]; if they are to wait alone, that is when its end can be [taken](Self::take_peer).
    ///
    /// # Errors
    /// As [`HubHost::bind`].
    pub fn bind(&self, path: impl AsRef<std::path::Path>, waits: Waits) -> Result<(), HubTransportError> {
        Ok(self.with_host(|host| host.bind(path, waits))?)
    }

    /// The transport to a plugin that waits alone, for another task.
    ///
    /// Nobody hears here of its end. Its number is given out again once the plugin is gone, the transport was dropped, and
    /// anything is received or added after that.
    ///
    /// # Errors
    /// [`HubTransportError::NotServed`] if the plugin does not wait alone, is gone, or was taken already; otherwise as
    /// [`TransportOptions::over`].
    pub fn take_peer(&self, id: PeerId) -> Result<HubHostPeerTransport, HubTransportError> {
        let end = self.with_host(|host| host.take(id))?;
        self.options.over(end).map_err(HubTransportError::of(id))
    }

    /// Closes the link to a plugin, which sees the end. Its number is given out again once it is gone.
    ///
    /// # Errors
    /// [`HubTransportError::NotServed`].
    pub fn dismiss(&self, id: PeerId) -> Result<(), HubTransportError> {
        self.close_sender(id);
        Ok(self.with_host(|host| host.dismiss(id))?)
    }

    /// Plugins that have a number, attached or not.
    #[must_use]
    pub fn peer_count(&self) -> u32 {
        self.host.with(|host| host.peer_count())
    }

    /// The system calls that the host has made so far, for all its links; the reactor's own are not among them.
    #[must_use]
    pub fn system_calls(&self) -> SystemCalls {
        self.host.with(|host| host.system_calls())
    }

    /// The host below, for what does not wait: quotas, snapshots, who was reclaimed. Whoever receives looks again afterwards.
    /// Other calls of this transport wait meanwhile, so `act` must make none; and it must
    /// not receive, as what follows from a plugin's end would be left undone.
    pub fn with_host<T>(&self, act: impl FnOnce(&mut HubHost) -> T) -> T {
        // There may be news, and `act` may have taken what would have woken whoever sleeps.
        self.host.interrupt(act)
    }

    /// What is heard, once what follows from it is done.
    fn see_to(&self, heard: HeardFrom) -> HeardFrom {
        if let (id, Heard::Ended(_)) = heard {
            self.close_sender(id);
            self.with_host(HubHost::tidy);
        }
        heard
    }

    /// Whoever waits to send there is told; the number can be given out again, whoever keeps a handle.
    fn close_sender(&self, id: PeerId) {
        let closed = {
            let mut senders = self.senders.lock();
            let place = senders.iter().position(|handle| handle.peer_id() == id);
            place.map(|place| senders.swap_remove(place))
        };
        if let Some(handle) = closed {
            handle.close();
        }
    }
}

impl Stream for HubHostTransport {
    type Item = Result<HeardFrom, HubTransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        Poll::Ready(match ready!(this.host.poll(cx, &mut this.place, &mut Hear)) {
            Err(Error::NoPlugins) => None,
            heard => Some(heard.map(|heard| this.see_to(heard)).map_err(HubTransportError::from)),
        })
    }
}

impl Drop for HubHostTransport {
    /// Handles that tasks keep end with the host.
    fn drop(&mut self) {
        self.senders.get_mut().drain(..).for_each(|handle| handle.close());
    }
}
