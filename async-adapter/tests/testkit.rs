//! rapace's own conformance kit: every scenario, on both tokio flavours and both reactors, on a pair and with another
//! process in between; over sessions, and between a hub's plugin and its host, whichever of them the kit takes for the first.

#![cfg(feature = "rapace")]

#[path = "common/relay.rs"]
mod relay;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use rapace_core::{EncodeCtx, Frame, FrameView, Transport, TransportError};
use rapace_shm::core::hub::HubAllocator;
use rapace_shm::core::slots::SlotPool;
use rapace_shm::{Error, HostLinkEndpoint, HubConfig, HubHost, OsEndpoint, PeerEndpoint, ShmSessionConfig, Waits};
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

fn for_rapace<E: OsEndpoint, P: SlotPool>(transport: ShmTransport<E, P>) -> RapaceTransport<E, P> {
    // SAFETY: the kit uses no view once it has received the next frame.
    unsafe { RapaceTransport::new(transport) }
}

/// Either end of a hub's link, as the kit wants both of one type.
enum EndOfHub {
    Plugins(RapaceTransport<PeerEndpoint, HubAllocator>),
    Hosts(RapaceTransport<HostLinkEndpoint, HubAllocator>),
}

macro_rules! whichever {
    ($this:ident, $end:ident => $call:expr) => {
        match $this {
            Self::Plugins($end) => $call,
            Self::Hosts($end) => $call,
        }
    };
}

impl Transport for EndOfHub {
    async fn send_frame(&self, frame: &Frame) -> Result<(), TransportError> {
        whichever!(self, end => end.send_frame(frame).await)
    }

    async fn recv_frame(&self) -> Result<FrameView<'_>, TransportError> {
        whichever!(self, end => end.recv_frame().await)
    }

    fn encoder(&self) -> Box<dyn EncodeCtx + '_> {
        whichever!(self, end => end.encoder())
    }

    async fn close(&self) -> Result<(), TransportError> {
        whichever!(self, end => end.close().await)
    }
}

/// A link of a hub between tasks of this process: the plugin's end, the host's.
fn link_of_hub(options: TransportOptions) -> Result<(EndOfHub, EndOfHub), Error> {
    let mut host = HubHost::create(HubConfig::default())?;
    let plugin = host.add_local(Waits::Alone)?;
    let end = host.take(plugin.id())?;
    Ok((EndOfHub::Plugins(for_rapace(options.over(plugin)?)), EndOfHub::Hosts(for_rapace(options.over(end)?))))
}

macro_rules! factories {
    ($($factory:ident, $end:ty, |$options:ident| $pair:expr;)*) => {$(
        struct $factory;

        impl TransportFactory for $factory {
            type Transport = $end;

            fn connect_pair() -> impl Future<Output = Result<($end, $end), TestError>> + Send {
                let $options = options();
                async move {
                    let pair: Result<_, Error> = async { Ok($pair) }.await;
                    pair.map_err(|error| TestError::Setup(error.to_string()))
                }
            }
        }
    )*};
}

fn both<T, U>((a, b): (T, T), each: impl Fn(T) -> U) -> (U, U) {
    (each(a), each(b))
}

factories! {
    Pair, RapaceTransport, |options| both(options.pair(CONFIG)?, for_rapace);
    TwoProcesses, RapaceTransport, |options| both(relay::pair(options, CONFIG).await?, for_rapace);
    PluginFirst, EndOfHub, |options| link_of_hub(options)?;
    HostFirst, EndOfHub, |options| link_of_hub(options).map(|(plugin, host)| (host, plugin))?;
    TwoPlugins, EndOfHub, |options| both(relay::plugins(options).await?, |end| EndOfHub::Plugins(for_rapace(end)));
    TwoEndsOfAHost, EndOfHub, |options| both(relay::host_ends(options)?, |end| EndOfHub::Hosts(for_rapace(end)));
}

/// The second process of those factories that have one.
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
    ($($scenarios:tt)*) => {
        scenarios_on! { pair, Pair; $($scenarios)* }
        scenarios_on! { two_processes, TwoProcesses; $($scenarios)* }
        scenarios_on! { from_plugin_to_host, PluginFirst; $($scenarios)* }
        scenarios_on! { from_host_to_plugin, HostFirst; $($scenarios)* }
        scenarios_on! { two_plugins_of_another_process, TwoPlugins; $($scenarios)* }
        scenarios_on! { a_host_and_plugins_in_another_process, TwoEndsOfAHost; $($scenarios)* }
    };
}

macro_rules! scenarios_on {
    ($group:ident, $factory:ident; $($name:ident: $($scenario:ident)::+ $(($argument:expr))?;)*) => {
        mod $group {
            use super::*;
            $(#[test] fn $name() { on_every_runtime(|| rapace_testkit::$($scenario)::+::<$factory>($($argument)?)) })*
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
