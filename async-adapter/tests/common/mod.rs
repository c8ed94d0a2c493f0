//! The runtimes that every promise is kept on, and two helpers.

#![allow(dead_code)] // each test uses its part

use std::future::Future;
use std::time::{Duration, Instant};

use rapace_shm::{HubConfig, HubHost, ShmSession, ShmSessionConfig, SizeClass, Spin, Waits};
use rapace_shm_async::{HubHostPeerTransport, HubPeerTransport, ShmTransport, TransportOptions};

/// A runtime by name, and who watches the doorbells there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    AsyncIo,
    Smol,
    TokioCurrentThread,
    TokioMultiThread,
    #[cfg(feature = "tokio")]
    TokiosReactorCurrentThread,
    #[cfg(feature = "tokio")]
    TokiosReactorMultiThread,
}

impl On {
    pub const ALL: &[Self] = &[
        Self::AsyncIo,
        Self::Smol,
        Self::TokioCurrentThread,
        Self::TokioMultiThread,
        #[cfg(feature = "tokio")]
        Self::TokiosReactorCurrentThread,
        #[cfg(feature = "tokio")]
        Self::TokiosReactorMultiThread,
    ];

    pub fn start(self) -> Runtime {
        let is_current_thread = match self {
            Self::AsyncIo => return Runtime::AsyncIo,
            Self::Smol => return Runtime::Smol(smol::Executor::new()),
            Self::TokioMultiThread => false,
            #[cfg(feature = "tokio")]
            Self::TokiosReactorMultiThread => false,
            _ => true,
        };
        let mut builder = if is_current_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        Runtime::Tokio(builder.worker_threads(2).enable_all().build().unwrap())
    }

    pub fn options(self) -> TransportOptions {
        match self {
            #[cfg(feature = "tokio")]
            Self::TokiosReactorCurrentThread | Self::TokiosReactorMultiThread => TransportOptions::tokio(),
            _ => TransportOptions::new(),
        }
    }
}

pub enum Runtime {
    AsyncIo,
    Smol(smol::Executor<'static>),
    Tokio(tokio::runtime::Runtime),
}

impl Runtime {
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::AsyncIo => async_io::block_on(future),
            Self::Smol(executor) => smol::block_on(executor.run(future)),
            Self::Tokio(runtime) => runtime.block_on(future),
        }
    }

    /// Starts a task, on a thread of its own where the runtime has no tasks.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        match self {
            Self::AsyncIo => Task::Thread(std::thread::spawn(|| async_io::block_on(future))),
            Self::Smol(executor) => Task::Smol(executor.spawn(future)),
            Self::Tokio(runtime) => Task::Tokio(runtime.spawn(future)),
        }
    }
}

pub enum Task<T> {
    Thread(std::thread::JoinHandle<T>),
    Smol(smol::Task<T>),
    Tokio(tokio::task::JoinHandle<T>),
}

impl<T> Task<T> {
    pub async fn join(self) -> T {
        match self {
            Self::Thread(thread) => thread.join().unwrap(),
            Self::Smol(task) => task.await,
            Self::Tokio(task) => task.await.unwrap(),
        }
    }
}

/// Sleeps, on every runtime.
pub async fn pause(milliseconds: u64) {
    async_io::Timer::after(Duration::from_millis(milliseconds)).await;
}

pub const TIGHT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 64, slot_count: 1 };

/// A pair whose tasks sleep at once.
pub fn sleepy_pair(on: On, config: ShmSessionConfig) -> (ShmTransport, ShmTransport) {
    on.options().spin(Spin::none()).pair(config).unwrap()
}

#[track_caller]
pub fn assert_nothing_leaked(transport: ShmTransport) {
    assert_no_slot_in_use(&transport.into_session().expect("the only handle"));
}

#[track_caller]
pub fn assert_no_slot_in_use(session: &ShmSession) {
    let slots = session.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "{slots}");
}

const fn four_of(slot_size: u32) -> SizeClass {
    SizeClass { slot_size, slot_count: 4 }
}

/// As tight as a hub can be, and a ring with two places.
pub const TIGHT_HUB: HubConfig = HubConfig {
    max_peers: 4,
    ring_capacity: 2,
    classes: [four_of(64), four_of(128), four_of(256), four_of(512), four_of(1024)],
    max_extents: 1,
};

/// A link of a hub, both ends in this process.
pub fn link_of(
    host: &mut HubHost,
    plugins: TransportOptions,
    hosts: TransportOptions,
) -> (HubPeerTransport, HubHostPeerTransport) {
    let plugin = host.add_local(Waits::Alone).unwrap();
    let end = host.take(plugin.id()).unwrap();
    (plugins.over(plugin).unwrap(), hosts.over(end).unwrap())
}

/// Soon nobody is in the hub any more (helper threads end a moment later than their transports), and every slot is free.
#[track_caller]
pub fn assert_hub_is_empty(host: &mut HubHost) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while host.tidy() > 0 || host.peer_count() > 0 {
        assert!(Instant::now() < give_up, "still {} plugins, {}", host.peer_count(), host.slot_status());
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = host.slot_status();
    assert_eq!(status.free(), status.total(), "{status}");
}
