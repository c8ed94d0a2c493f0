//! A service defined with `#[rapace::service]`, called across two processes with a blob of a megabyte: written once, into
//! a slot of shared memory, and decoded by the server from there.
//!
//! `cargo run -p rapace-shm-async --features rapace --example rapace_service`

use std::error::Error;
use std::process::Command;
use std::sync::Arc;

use rapace::RpcSession;
use rapace_shm::{ShmSession, ShmSessionConfig};
use rapace_shm_async::{RapaceTransport, ShmTransport};

#[path = "service/mod.rs"]
mod service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match ShmSession::inherited() {
        Ok(session) => serve(session).await,
        Err(rapace_shm::Error::NotInherited { .. }) => call(&mut Command::new(std::env::current_exe()?)).await,
        Err(error) => Err(error.into()),
    }
}

/// The client: starts the server's process and calls it.
pub async fn call(server: &mut Command) -> Result<(), Box<dyn Error>> {
    // A slot for the request and one for the answer would do.
    let session = ShmSession::create(ShmSessionConfig { slot_size: 2 << 20, slot_count: 4, ..Default::default() })?;
    let mut child = session.spawn(server)?;
    // SAFETY: only the session's loop receives, and it is done with a frame before it receives the next one.
    let transport = Arc::new(unsafe { RapaceTransport::new(ShmTransport::new(session)?) });
    let rpc = Arc::new(RpcSession::new(transport.clone()));
    let running = tokio::spawn(rpc.clone().run());

    let client = service::BlobsClient::new(rpc);
    let blob: Vec<u8> = (0..1 << 20).map(|number: u32| number.to_le_bytes()[0]).collect();
    let (len, sum) = client.sum(blob.clone()).await?;
    println!("{len} bytes, sum {sum}");
    let reversed = client.reverse(blob.clone()).await?;
    println!("reversed: {}", reversed.iter().eq(blob.iter().rev()));

    transport.transport().close_both();
    running.await??;
    child.wait()?;
    Ok(())
}

/// The server: until the client closes.
pub async fn serve(session: ShmSession) -> Result<(), Box<dyn Error>> {
    // SAFETY: only the server's loop receives, and it is done with a frame before it receives the next one.
    let transport = unsafe { RapaceTransport::new(ShmTransport::new(session)?) };
    service::BlobsServer::new(service::Here).serve(Arc::new(transport)).await?;
    Ok(())
}
