//! A second process that stands between two transports of this one, and hands on what it receives from each to the other.

#![allow(dead_code)]

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rapace_shm::{Error, ShmSessionConfig};
use rapace_shm_async::{ShmReceiver, ShmSender, ShmTransport, TransportOptions};

const VARIABLE: &str = "RAPACE_SHM_TEST_RELAY";

/// Ends with the test: it sees both sessions end, or the end of this process.
fn start(path: &std::path::Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process", "--nocapture"]).env(VARIABLE, path).stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Two transports with a process in between.
pub async fn pair(options: TransportOptions, config: ShmSessionConfig) -> Result<(ShmTransport, ShmTransport), Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("rapace-shm-relay-{}-{number}", std::process::id()));
    let mut listener = options.bind(&path, config)?;
    let mut relay = start(&path);
    let pair = async { Ok((listener.accept().await?, listener.accept().await?)) }.await;
    std::thread::spawn(move || relay.wait());
    pair
}

/// The second process; does nothing without being asked.
pub fn second_process() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = ShmTransport::connect(&path).await.unwrap();
        let second = ShmTransport::connect(&path).await.unwrap();
        let ((first_tx, first_rx), (second_tx, second_rx)) = (first.into_split(), second.into_split());
        futures::join!(hand_on(first_rx, second_tx), hand_on(second_rx, first_tx));
    });
}

/// Until the one ends or the other takes no more.
async fn hand_on(mut from: ShmReceiver, to: ShmSender) {
    while let Ok(message) = from.recv().await {
        if to.send(message.descriptor(), message.payload()).await.is_err() {
            break;
        }
    }
}
