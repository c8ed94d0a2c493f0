//! rapace on this transport and on the one it comes with, in the same run: calls, and frames one way.

use std::sync::Arc;
use std::thread;

use rapace::{RpcSession, Transport};
use rapace_core::{Frame, MsgDescHot};
use rapace_shm::{SessionOptions, ShmSession, ShmSessionConfig};
use rapace_shm_async::{RapaceTransport, TransportOptions};
use rapace_testkit::{AdderClient, AdderImpl, AdderServer};
use rapace_transport_shm as published;

use crate::measure::{Plan, Row, Unit, compare};
use crate::round_trip::median_batch;
use crate::second::current_thread;

/// The published transport's default.
const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 256, slot_size: 4096, slot_count: 64 };

pub fn run(plan: &Plan) {
    let plan = &plan.slower(64);
    compare(
        plan,
        &Row { what: "rpc: add(a, b)", goal: "(the published transport)", unit: Unit::Time },
        || calls(plan, ours),
        || calls(plan, theirs),
    );
    for (what, len) in [("rpc: frames one way, inline", 8), ("rpc: frames one way, 1 KiB", 1024)] {
        compare(
            plan,
            &Row { what, goal: "(the published transport)", unit: Unit::Rate },
            || frames(plan, len, ours),
            || frames(plan, len, theirs),
        );
    }
}

/// Makes a side's transport, inside of its runtime.
type Make<T> = Box<dyn FnOnce() -> T + Send>;

fn ours() -> [Make<RapaceTransport>; 2] {
    let (a, b) = SessionOptions::new().doorbells(true).pair(CONFIG).expect("pair");
    [a, b].map(|session: ShmSession| -> Make<RapaceTransport> {
        Box::new(|| {
            #[cfg(feature = "tokio")]
            let options = TransportOptions::tokio();
            #[cfg(not(feature = "tokio"))]
            let options = TransportOptions::new();
            // SAFETY: each side has one loop that receives, and that is done with a frame before it receives the next one.
            unsafe { RapaceTransport::new(options.over(session).expect("transport")) }
        })
    })
}

fn theirs() -> [Make<published::ShmTransport>; 2] {
    let (a, b) = published::ShmTransport::pair().expect("pair");
    [a, b].map(|transport| -> Make<published::ShmTransport> { Box::new(|| transport) })
}

/// Nanoseconds per call, client and server each on a runtime and thread of its own.
fn calls<T: Transport + 'static>(plan: &Plan, pair: impl FnOnce() -> [Make<T>; 2]) -> f64 {
    let [client, server] = pair();
    let total = plan.total();
    let serving = thread::spawn(move || {
        current_thread().block_on(async {
            let (transport, adder) = (server(), AdderServer::new(AdderImpl));
            for _ in 0..total {
                adder.serve_one(&transport).await.expect("served");
            }
        });
    });
    let time = current_thread().block_on(async {
        let session = Arc::new(RpcSession::new(Arc::new(client())));
        let running = tokio::spawn(session.clone().run());
        let adder = AdderClient::new(session);
        let mut number = 0;
        let time = median_batch(plan, async || {
            number += 1;
            assert_eq!(adder.add(number, 1).await.expect("answer"), number + 1);
        })
        .await;
        running.abort();
        time
    });
    serving.join().expect("server");
    time
}

/// Nanoseconds per frame.
fn frames<T: Transport + 'static>(plan: &Plan, len: usize, pair: impl FnOnce() -> [Make<T>; 2]) -> f64 {
    let [sender, receiver] = pair();
    let total = plan.total();
    let sending = thread::spawn(move || {
        current_thread().block_on(async {
            let transport = sender();
            let mut frame = Frame::with_payload(MsgDescHot::new(), vec![7; len]);
            for number in 0..total {
                frame.desc.msg_id = number;
                transport.send_frame(&frame).await.expect("sent");
            }
            // Nobody knows what the published transport's end would do to what is still under way.
            transport
        })
    });
    let time = current_thread().block_on(async {
        let transport = receiver();
        let mut number = 0;
        median_batch(plan, async || {
            let frame = transport.recv_frame().await.expect("received");
            assert_eq!((frame.desc.msg_id, frame.payload.len()), (number, len));
            number += 1;
        })
        .await
    });
    drop(sending.join().expect("sender"));
    time
}
