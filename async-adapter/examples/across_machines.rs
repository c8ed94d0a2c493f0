//! The same service on another machine: a gateway forwards frames between a session in shared memory and rapace's own
//! stream transport over TCP. Neither the service nor its client changes.
//!
//! ```text
//!   client ===== shared memory ===== gateway ----- TCP ----- server
//!            RapaceTransport                 StreamTransport
//! ```
//!
//! `cargo run -p rapace-shm-async --features rapace --example across_machines`: here all three are tasks of one program,
//! and the other machine is this one.

use std::error::Error;
use std::sync::Arc;

use rapace::{RpcSession, Transport, TransportError};
use rapace_shm::ShmSessionConfig;
use rapace_shm_async::{RapaceTransport, ShmTransport};
use rapace_transport_stream::StreamTransport;
use tokio::net::{TcpListener, TcpStream};

#[path = "service/mod.rs"]
mod service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await
}

/// Server, gateway and client.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let server = service::BlobsServer::new(service::Here);
        server.serve(Arc::new(StreamTransport::new(stream))).await.map_err(std::io::Error::other)
    });

    let config = ShmSessionConfig { slot_size: 2 << 20, slot_count: 4, ..ShmSessionConfig::default() };
    let (near, far) = ShmTransport::pair(config)?;
    // SAFETY: each has one loop that receives, and that is done with a frame before it receives the next one.
    let [near, far] = [near, far].map(|transport| Arc::new(unsafe { RapaceTransport::new(transport) }));
    let gateway = tokio::spawn(gateway(far, StreamTransport::new(TcpStream::connect(address).await?)));

    let rpc = Arc::new(RpcSession::new(near.clone()));
    let running = tokio::spawn(rpc.clone().run());
    let client = service::BlobsClient::new(rpc);
    println!("sum of a megabyte, from {address}: {:?}", client.sum(vec![1; 1 << 20]).await?);

    near.close().await?;
    running.await??;
    gateway.await??;
    server.await??;
    Ok(())
}

/// Forwards both ways until either side closes.
async fn gateway(here: Arc<RapaceTransport>, there: impl Transport) -> Result<(), TransportError> {
    tokio::select! {
        ended = forward(&*here, &there) => ended,
        ended = forward(&there, &*here) => ended,
    }
}

/// One way. The connection, which is dropped with the transports, tells the other side of the end.
async fn forward(from: &impl Transport, to: &impl Transport) -> Result<(), TransportError> {
    loop {
        let frame = match from.recv_frame().await {
            Ok(frame) => frame.to_owned(),
            Err(TransportError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        to.send_frame(&frame).await?;
    }
}
