//! A second process that stands between two transports of this one, and hands on what it receives from each to the other.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rapace_shm::core::slots::SlotPool;
use rapace_shm::{Error, HandshakeError, Heard, HubConfig, HubHost, OsEndpoint, ShmSessionConfig, Waits};
use rapace_shm_async::{
    HubHostPeerTransport, HubPeerTransport, ShmReceiver, ShmSender, ShmTransport, TransportOptions,
};

const VARIABLE: &str = "RAPACE_SHM_TEST_RELAY";

/// What the second process is.
const CLIENT: &str = "client";
const PLUGINS: &str = "plugins";
const HOST: &str = "host";

/// Ends with the test: it sees both links end, or the end of this process.
fn start(what: &str, path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let order = format!("{what}:{}", path.display());
    command.args(["--exact", "second_process", "--nocapture"]).env(VARIABLE, order).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn new_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("rapace-shm-relay-{}-{number}", std::process::id()))
}

/// Two transports with a process in between.
pub async fn pair(options: TransportOptions, config: ShmSessionConfig) -> Result<(ShmTransport, ShmTransport), Error> {
    let path = new_path();
    let mut listener = options.bind(&path, config)?;
    let mut relay = start(CLIENT, &path);
    let pair = async { Ok((listener.accept().await?, listener.accept().await?)) }.await;
    std::thread::spawn(move || relay.wait());
    pair
}

/// Two ends of a hub's host, to two plugins in another process.
pub fn host_ends(options: TransportOptions) -> Result<(HubHostPeerTransport, HubHostPeerTransport), Error> {
    let (path, mut host) = (new_path(), HubHost::create(HubConfig::default())?);
    host.bind(&path, Waits::Alone)?;
    let mut relay = start(PLUGINS, &path);
    let ends = two_that_join(&mut host, options);
    std::thread::spawn(move || {
        let _ = relay.wait();
        drop(host);
    });
    ends
}

/// Two plugins, of a hub whose host is another process.
pub async fn plugins(options: TransportOptions) -> Result<(HubPeerTransport, HubPeerTransport), Error> {
    let path = new_path();
    let mut relay = start(HOST, &path);
    let plugins = async { Ok((join(options, &path).await?, join(options, &path).await?)) }.await;
    std::thread::spawn(move || relay.wait());
    plugins
}

/// Once somebody listens.
async fn join(options: TransportOptions, path: &Path) -> Result<HubPeerTransport, Error> {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match options.join(path).await {
            Err(Error::Handshake(HandshakeError::NobodyThere(_))) if Instant::now() < give_up => {
                async_io::Timer::after(Duration::from_millis(1)).await;
            }
            joined => return joined,
        }
    }
}

fn two_that_join(
    host: &mut HubHost,
    options: TransportOptions,
) -> Result<(HubHostPeerTransport, HubHostPeerTransport), Error> {
    let mut next = || loop {
        if let (id, Heard::Joined) = host.recv_any_timeout(Duration::from_secs(10))? {
            return options.over(host.take(id)?);
        }
    };
    Ok((next()?, next()?))
}

/// The second process; does nothing without being asked.
pub fn second_process() {
    let Some(order) = std::env::var_os(VARIABLE) else { return };
    let order = order.into_string().unwrap();
    let (what, path) = order.split_once(':').unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match what {
            CLIENT => {
                let connect = || ShmTransport::connect(path);
                stand_between(connect().await.unwrap(), connect().await.unwrap()).await;
            }
            PLUGINS => {
                // Unless the test is over already.
                if let (Ok(first), Ok(second)) =
                    (HubPeerTransport::join(path).await, HubPeerTransport::join(path).await)
                {
                    stand_between(first, second).await;
                }
            }
            _ => {
                let mut host = HubHost::create(HubConfig::default()).unwrap();
                host.bind(path, Waits::Alone).unwrap();
                // Unless the test is over already.
                if let Ok((first, second)) = two_that_join(&mut host, TransportOptions::new()) {
                    stand_between(first, second).await;
                }
            }
        }
    });
}

async fn stand_between<E: OsEndpoint, P: SlotPool>(first: ShmTransport<E, P>, second: ShmTransport<E, P>) {
    let ((first_tx, first_rx), (second_tx, second_rx)) = (first.into_split(), second.into_split());
    futures::join!(hand_on(first_rx, second_tx), hand_on(second_rx, first_tx));
}

/// Until the one ends or the other takes no more.
async fn hand_on<E: OsEndpoint, P: SlotPool>(mut from: ShmReceiver<E, P>, to: ShmSender<E, P>) {
    while let Ok(message) = from.recv().await {
        if to.send(message.descriptor(), message.payload()).await.is_err() {
            break;
        }
    }
}
