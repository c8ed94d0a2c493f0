//! One process on the published transport of rapace 0.4.0, the other one on ours, and an RPC session across.
//!
//! Seen to fail: without the wake-ups that are for a peer that never says whether it sleeps, the first call hangs.

#![cfg(feature = "rapace")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use rapace::{RpcSession, Transport};
use rapace_shm::{ShmSession, ShmSessionConfig};
use rapace_shm_async::{RapaceTransport, ShmTransport};
use rapace_testkit::{AdderClient, AdderImpl, AdderServer, LargeBlobServiceClient};
use rapace_testkit::{LargeBlobServiceImpl, LargeBlobServiceServer};
use rapace_transport_shm as published;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 16, slot_size: 65_536, slot_count: 8 };

/// Calls under way at once. The published server receives nothing while it waits for the slot of an answer, so requests
/// must leave one free for it; and our side keeps the slot of the last answer until it has received the next one.
const AT_ONCE: usize = CONFIG.slot_count as usize - 2;

/// What the second process is to do: "adder" or "blobs", and at which path.
const VARIABLE: &str = "RAPACE_SHM_TEST_PUBLISHED";

/// A process that ends with its test, and the file between the two.
struct Old {
    child: Child,
    path: PathBuf,
}

impl Old {
    fn start(name: &str) -> (Self, ShmTransport) {
        let path = Path::new("/dev/shm").join(format!("rapace-shm-{name}-{}", std::process::id()));
        let session = ShmSession::create_at(&path, CONFIG).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let what = format!("{name}:{}", path.display());
        command.args(["--exact", "second_process", "--nocapture"]).env(VARIABLE, what).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        (Self { child, path }, ShmTransport::new(session).unwrap())
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The threads that waited for our transport end a moment after it, and the last one takes the file along.
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.path.exists() && Instant::now() < deadline && !std::thread::panicking() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!self.path.exists() || std::thread::panicking(), "our session takes its file away");
    }
}

fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The published crate's side; does nothing when it is run as a test.
#[test]
fn second_process() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    let (name, path) = what.split_once(':').unwrap();
    on_tokio(async {
        let session = published::ShmSession::open_file_auto(path).unwrap();
        let transport = Arc::new(published::ShmTransport::new(session));
        match name {
            "adder" => AdderServer::new(AdderImpl).serve(transport).await.unwrap(),
            _ => LargeBlobServiceServer::new(LargeBlobServiceImpl).serve(transport).await.unwrap(),
        }
    });
}

fn rpc(transport: ShmTransport) -> (Arc<RapaceTransport>, Arc<RpcSession<RapaceTransport>>) {
    // SAFETY: only the session's loop receives, and it is done with a frame before it receives the next one.
    let transport = Arc::new(unsafe { RapaceTransport::new(transport) });
    (transport.clone(), Arc::new(RpcSession::new(transport)))
}

#[test]
fn calls_cross_to_the_published_transport_and_back() {
    let (_old, transport) = Old::start("adder");
    on_tokio(async {
        let (transport, rpc) = rpc(transport);
        let running = tokio::spawn(rpc.clone().run());
        let client = AdderClient::new(rpc);
        for number in 0..200 {
            assert_eq!(client.add(number, 1).await.unwrap(), number + 1);
        }
        transport.close().await.unwrap();
        running.await.unwrap().unwrap();
    });
}

#[test]
fn blobs_of_every_size_cross_one_by_one_and_many_at_once() {
    let (_old, transport) = Old::start("blobs");
    on_tokio(async {
        let (transport, rpc) = rpc(transport);
        let running = tokio::spawn(rpc.clone().run());
        let client = LargeBlobServiceClient::new(rpc);
        for len in [0, 1, 12, 13, 14, 16, 17, 1000, 65_000] {
            let blob: Vec<u8> = (0..len).map(|number: u32| number.to_le_bytes()[0]).collect();
            assert_eq!(client.echo(blob.clone()).await.unwrap(), blob, "{len} bytes");
        }
        let many = (0..40_u8).map(|number| {
            let client = &client;
            async move { assert_eq!(client.xor_transform(vec![number; 3000], 1).await.unwrap(), vec![number ^ 1; 3000]) }
        });
        stream::iter(many).buffer_unordered(AT_ONCE).collect::<()>().await;
        transport.close().await.unwrap();
        running.await.unwrap().unwrap();
    });
}
