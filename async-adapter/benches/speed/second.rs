//! Both processes' executors, and what the second one does: echo messages, or an eventfd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use async_io::Async;
use rapace_shm::core::slots::SlotPool;
use rapace_shm::{MsgDescHot, OsEndpoint, ShmSession, Spin};
use rapace_shm_async::{ShmTransport, TransportOptions};
use rustix::io::{Errno, read, write};

const VARIABLE: &str = "RAPACE_SHM_BENCH_ASYNC";

/// The executor of both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executor {
    /// async-io's `block_on`, and its reactor.
    AsyncIo,
    /// tokio's current-thread runtime, and its reactor.
    #[cfg(feature = "tokio")]
    Tokio,
}

impl Executor {
    pub const ALL: &[Self] = &[
        Self::AsyncIo,
        #[cfg(feature = "tokio")]
        Self::Tokio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AsyncIo => "async-io",
            #[cfg(feature = "tokio")]
            Self::Tokio => "tokio",
        }
    }

    pub fn options(self) -> TransportOptions {
        match self {
            Self::AsyncIo => TransportOptions::new(),
            #[cfg(feature = "tokio")]
            Self::Tokio => TransportOptions::tokio(),
        }
    }

    pub fn block_on<T>(self, future: impl Future<Output = T>) -> T {
        match self {
            Self::AsyncIo => async_io::block_on(future),
            #[cfg(feature = "tokio")]
            Self::Tokio => current_thread().block_on(future),
        }
    }
}

#[cfg(any(feature = "tokio", feature = "rapace"))]
pub fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// What to echo.
pub enum What {
    /// Messages, looking so many times before sleeping.
    Messages { tries: u32 },
    /// The same, as a plugin.
    Plugin { tries: u32 },
    /// The eventfd at standard input, to the one at standard output.
    Eventfd,
}

/// For the environment of the second process.
pub fn order(executor: Executor, what: &What) -> (&'static str, String) {
    let what = match what {
        What::Messages { tries } => format!("session:{tries}"),
        What::Plugin { tries } => format!("plugin:{tries}"),
        What::Eventfd => "eventfd:".into(),
    };
    (VARIABLE, format!("{}:{what}", executor.name()))
}

pub fn is_second_process() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

pub fn run() {
    let order = std::env::var(VARIABLE).expect("set by the first process");
    let (executor, what) = order.split_once(':').expect("an order");
    let executor = *Executor::ALL.iter().find(|known| known.name() == executor).expect("known");
    executor.block_on(async {
        let (what, tries) = what.split_once(':').expect("how");
        let options = || executor.options().spin(Spin::tries(tries.parse().expect("tries")));
        match what {
            "session" => {
                let session = ShmSession::inherited().expect("passed by the first process");
                echo(options().over(session).expect("transport")).await;
            }
            "plugin" => echo(options().inherited().expect("passed by the first process")).await,
            _ => echo_eventfd(executor).await,
        }
    });
}

async fn echo<E: OsEndpoint, P: SlotPool>(transport: ShmTransport<E, P>) {
    let (tx, mut rx) = transport.into_split();
    while let Ok(message) = rx.recv().await {
        let number = message.descriptor().msg_id;
        tx.send(&MsgDescHot::data(number), message.payload()).await.expect("sent");
    }
}

async fn echo_eventfd(executor: Executor) {
    let there = Bell::new(executor, own(&io::stdin()));
    let back = own(&io::stdout());
    loop {
        there.wait().await;
        ring(&back);
    }
}

fn own(stream: &impl AsFd) -> OwnedFd {
    stream.as_fd().try_clone_to_owned().expect("descriptor")
}

pub fn ring(eventfd: &OwnedFd) {
    write(eventfd, &1_u64.to_ne_bytes()).expect("rung");
}

/// An eventfd on an executor's reactor: try to read, wait until it is readable, read.
pub enum Bell {
    AsyncIo(Async<OwnedFd>),
    #[cfg(feature = "tokio")]
    Tokio(tokio::io::unix::AsyncFd<OwnedFd>),
}

impl Bell {
    pub fn new(executor: Executor, eventfd: OwnedFd) -> Self {
        match executor {
            Executor::AsyncIo => Self::AsyncIo(Async::new_nonblocking(eventfd).expect("watched")),
            #[cfg(feature = "tokio")]
            #[allow(deprecated)] // its successor is unsafe for descriptors that change
            Executor::Tokio => Self::Tokio(tokio::io::unix::AsyncFd::new(eventfd).expect("watched")),
        }
    }

    pub async fn wait(&self) {
        match self {
            Self::AsyncIo(eventfd) => {
                while take(eventfd.get_ref()) == Err(Errno::AGAIN) {
                    eventfd.readable().await.expect("readable");
                }
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(eventfd) => {
                while take(eventfd.get_ref()) == Err(Errno::AGAIN) {
                    eventfd.readable().await.expect("readable").clear_ready();
                }
            }
        }
    }
}

fn take(eventfd: &OwnedFd) -> Result<usize, Errno> {
    read(eventfd, &mut [0_u8; 8])
}
