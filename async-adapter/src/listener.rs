//! Transports between processes that know a path.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::{Poll, Waker};

use async_io::Async;
use parking_lot::Mutex;
use rapace_shm::{Error, PeerCredentials, ShmListener};

use crate::transport::{ShmTransport, TransportOptions};

/// Waits at a path for processes that want a transport. Each gets one of its own.
///
/// It is watched by async-io's reactor, whichever one its transports are made with: clients come seldom.
///
/// ```
/// use rapace_shm::{MsgDescHot, ShmSessionConfig};
/// use rapace_shm_async::{ShmTransport, TransportOptions};
///
/// let folder = std::env::temp_dir().join(format!("rapace-shm-async-doc-{}", std::process::id()));
/// std::fs::create_dir(&folder)?;
/// let path = folder.join("socket");
/// let mut listener = TransportOptions::new().bind(&path, ShmSessionConfig::default())?;
/// futures::executor::block_on(async {
///     let (server, client) = futures::try_join!(listener.accept(), ShmTransport::connect(&path))?;
///     client.send(&MsgDescHot::data(1), b"hello").await?;
///     assert_eq!(server.recv().await?.payload(), b"hello");
///     Ok::<_, rapace_shm::Error>(())
/// })?;
/// drop(listener); // takes the path away
/// std::fs::remove_dir(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ShmTransportListener {
    listener: ShmListener,
    /// The listener's descriptor once more, as the reactor must own what it watches.
    stirred: Async<OwnedFd>,
    options: TransportOptions,
}

impl ShmTransportListener {
    pub(crate) fn new(listener: ShmListener, options: TransportOptions) -> Result<Self, Error> {
        let stirred = listener.as_fd().try_clone_to_owned().and_then(Async::new_nonblocking).map_err(unwatched)?;
        Ok(Self { listener, stirred, options })
    }

    /// Who may have a transport; see [`ShmListener::admit_if`].
    pub fn admit_if(&mut self, admitted: impl Fn(&PeerCredentials) -> bool + Send + Sync + 'static) {
        self.listener.admit_if(admitted);
    }

    /// The next client's transport; waits for one. Dropped, no client is lost. A client that connects and then says nothing
    /// is found out when the next one comes.
    ///
    /// # Errors
    /// As [`ShmListener::accept`]; the listener goes on, call again.
    pub async fn accept(&mut self) -> Result<ShmTransport, Error> {
        loop {
            if let Some(session) = self.listener.try_accept()? {
                return self.options.over(session);
            }
            self.stirred.readable().await.map_err(unwatched)?;
        }
    }
}

fn unwatched(source: io::Error) -> Error {
    Error::Io { what: "the runtime cannot watch the listener", source }
}

/// Where the thread puts what came out, and who waits for it.
struct Desk<T> {
    result: Option<T>,
    waker: Option<Waker>,
}

/// Calls something that blocks, once and not for long, on a thread of its own.
pub(crate) async fn unblock<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let desk = Arc::new(Mutex::new(Desk { result: None, waker: None }));
    let at_work = desk.clone();
    let work = move || {
        let result = call();
        let waker = {
            let mut desk = at_work.lock();
            desk.result = Some(result);
            desk.waker.take()
        };
        // A future that was dropped leaves the result to this thread.
        drop(at_work);
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    std::thread::Builder::new()
        .name("rapace-shm-connect".into())
        .spawn(work)
        .map_err(|source| Error::Io { what: "cannot start a thread for the handshake", source })?;
    poll_fn(|cx| {
        let mut desk = desk.lock();
        match desk.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                desk.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
