//! rapace's own conformance kit: every scenario, on both tokio flavours and both reactors, on a pair and with another
//! process in between.

#![cfg(feature = "rapace")]

#[path = "common/relay.rs"]
mod relay;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use rapace_shm::{Error, ShmSessionConfig};
use rapace_shm_async::{RapaceTransport, ShmTransport, TransportOptions};
use rapace_testkit::bidirectional::BidirectionalScenario;
use rapace_testkit::{TestError, TransportFactory};

/// Large enough for the kit's blobs.
const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 64, slot_size: 2 << 20, slot_count: 8 };

thread_local! {
    /// The reactor of this test.
    static ON_TOKIO: AtomicBool = const { AtomicBool::new(false) };
}

fn options() -> TransportOptions {
    #[cfg(feature = "tokio")]
    if ON_TOKIO.with(|on| on.load(Ordering::Relaxed)) {
        return TransportOptions::tokio();
    }
    TransportOptions::new()
}

fn both(pair: Result<(ShmTransport, ShmTransport), Error>) -> Result<(RapaceTransport, RapaceTransport), TestError> {
    let (a, b) = pair.map_err(|error| TestError::Setup(error.to_string()))?;
    // SAFETY: the kit uses no view once it has received the next frame.
    let [a, b] = [a, b].map(|transport| unsafe { RapaceTransport::new(transport) });
    Ok((a, b))
}

struct Pair;

impl TransportFactory for Pair {
    type Transport = RapaceTransport;

    fn connect_pair() -> impl Future<Output = Result<(RapaceTransport, RapaceTransport), TestError>> + Send {
        let options = options();
        async move { both(options.pair(CONFIG)) }
    }
}

struct TwoProcesses;

impl TransportFactory for TwoProcesses {
    type Transport = RapaceTransport;

    fn connect_pair() -> impl Future<Output = Result<(RapaceTransport, RapaceTransport), TestError>> + Send {
        let options = options();
        async move { both(relay::pair(options, CONFIG).await) }
    }
}

/// The second process of `TwoProcesses`.
#[test]
fn second_process() {
    relay::second_process();
}

fn on_every_runtime<F: Future<Output = ()>>(scenario: impl Fn() -> F) {
    let reactors: &[bool] = if cfg!(feature = "tokio") { &[false, true] } else { &[false] };
    for on_tokio in reactors {
        ON_TOKIO.with(|on| on.store(*on_tokio, Ordering::Relaxed));
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(scenario());
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(scenario());
    }
}

macro_rules! scenarios {
    ($($name:ident: $($scenario:ident)::+ $(($argument:expr))?;)*) => {
        mod pair {
            use super::*;
            $(#[test] fn $name() { on_every_runtime(|| rapace_testkit::$($scenario)::+::<Pair>($($argument)?)) })*
        }

        mod two_processes {
            use super::*;
            $(#[test] fn $name() { on_every_runtime(|| rapace_testkit::$($scenario)::+::<TwoProcesses>($($argument)?)) })*
        }
    };
}

scenarios! {
    unary_happy_path: run_unary_happy_path;
    unary_multiple_calls: run_unary_multiple_calls;
    error_response: run_error_response;
    ping_pong: run_ping_pong;
    deadline_success: run_deadline_success;
    deadline_exceeded: run_deadline_exceeded;
    cancellation: run_cancellation;
    credit_grant: run_credit_grant;
    session_credit_exhaustion: run_session_credit_exhaustion;
    session_cancelled_channel_drop: run_session_cancelled_channel_drop;
    session_cancel_control_frame: run_session_cancel_control_frame;
    session_grant_credits_control_frame: run_session_grant_credits_control_frame;
    session_deadline_check: run_session_deadline_check;
    server_streaming_happy_path: run_server_streaming_happy_path;
    client_streaming_happy_path: run_client_streaming_happy_path;
    bidirectional_streaming: run_bidirectional_streaming;
    streaming_cancellation: run_streaming_cancellation;
    macro_server_streaming: run_macro_server_streaming;
    large_blob_echo: run_large_blob_echo;
    large_blob_transform: run_large_blob_transform;
    large_blob_checksum: run_large_blob_checksum;
    simple_echo: bidirectional::run_bidirectional_scenario (BidirectionalScenario::SimpleEcho);
    nested_callback: bidirectional::run_bidirectional_scenario (BidirectionalScenario::NestedCallback);
    multiple_nested_callbacks: bidirectional::run_bidirectional_scenario (BidirectionalScenario::MultipleNestedCallbacks);
}
