//! What a host between futures promises: every plugin is heard in its turn and at once, whoever goes is noticed, tasks send
//! while others receive, and nobody is woken for nothing.
//!
//! Seen to fail: a host that keeps the sender of a plugin that has ended keeps its number, and so does one that does not clean
//! up at once; a host that does not silence its doorbell, or whose drop leaves the handles open, hangs; without taking its mark
//! back, plugins ring for nobody; if whoever sleeps is not told that the host was at hand for something else, it hangs; and if
//! whoever was heard is asked first again (in core), the others wait.

mod common;

use std::future::Future;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::{On, TIGHT_HUB, assert_hub_is_empty, link_of, pause};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future};
use rapace_shm::{Error, Heard, HubConfig, HubEnd, HubHost, MsgDescHot, PeerId, Spin, Waits};
use rapace_shm_async::{HubHostTransport, HubPeerTransport, HubTransportError, TransportOptions};

const VARIABLE: &str = "RAPACE_SHM_TEST_HUB";

/// A second process, ended with the test.
struct Second(Child);

impl Second {
    fn command(part: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "second_process", "--nocapture"]).env(VARIABLE, part).stdout(Stdio::null());
        command
    }

    fn plugin(host: &HubHostTransport, part: &str) -> (PeerId, Self) {
        let (id, child) = host.spawn(&mut Self::command(part), Waits::Together).unwrap();
        (id, Self(child))
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does nothing without being asked.
#[test]
fn second_process() {
    let Some(part) = std::env::var_os(VARIABLE) else { return };
    let part = part.into_string().unwrap();
    async_io::block_on(async {
        match part.split_once(':') {
            Some(("host", path)) => {
                let host = HubHostTransport::new(HubHost::create(TIGHT_HUB).unwrap()).unwrap();
                host.bind(path, Waits::Together).unwrap();
                loop {
                    host.recv_from_any().await.unwrap();
                }
            }
            // Sends one message, then nothing, and takes nothing.
            _ => {
                let plugin = HubPeerTransport::inherited().unwrap();
                plugin.send(&MsgDescHot::data(7), b"last words").await.unwrap();
                future::pending::<()>().await;
            }
        }
    });
}

fn sleepy(on: On) -> TransportOptions {
    on.options().spin(Spin::none())
}

fn host(on: On, config: HubConfig) -> HubHostTransport {
    sleepy(on).host(HubHost::create(config).unwrap()).unwrap()
}

fn number(number: u64) -> MsgDescHot {
    MsgDescHot::data(number)
}

/// The next message, whoever joins before it.
async fn next_message(host: &HubHostTransport) -> (PeerId, u64) {
    loop {
        match host.recv_from_any().await.unwrap() {
            (_, Heard::Joined) => {}
            (id, Heard::Message(message)) => return (id, message.descriptor().msg_id),
            (id, heard) => panic!("{id:?}: {heard:?}"),
        }
    }
}

/// The next end, whoever joins or speaks before it.
async fn next_end(host: &HubHostTransport) -> (PeerId, Error) {
    loop {
        if let (id, Heard::Ended(end)) = host.recv_from_any().await.unwrap() {
            return (id, end);
        }
    }
}

#[track_caller]
fn assert_is_empty(host: &HubHostTransport) {
    host.with_host(assert_hub_is_empty);
}

/// Each has something to say at any time, so the longest that one waits is what the others are let say meanwhile.
#[test]
fn thirty_one_busy_plugins_are_heard_in_turn() {
    const EACH: usize = 200;
    for on in On::ALL {
        on.start().block_on(async {
            let host = host(*on, HubConfig::default());
            let plugins: Vec<_> = (0..31).map(|_| host.add_local(Waits::Together).unwrap()).collect();
            for message in 0..EACH as u64 {
                for plugin in &plugins {
                    plugin.sender().try_send(&number(message), b"busy").unwrap();
                }
            }
            let (mut heard_at, mut next, mut longest) = ([0_usize; 32], [0_u64; 32], 0);
            for place in 0..31 * EACH {
                let (id, message) = next_message(&host).await;
                let id = usize::from(id.0);
                assert_eq!(message, std::mem::replace(&mut next[id], message + 1), "each plugin's in order");
                longest = longest.max(place - std::mem::replace(&mut heard_at[id], place));
            }
            assert!(longest <= 2 * 31, "one waited while {longest} others were heard");
            assert!(host.try_recv_from_any().unwrap().is_none());
        });
    }
}

#[test]
fn many_tasks_send_to_one_plugin_while_others_receive() {
    const TASKS: usize = 4;
    const EACH: u64 = 500;
    for on in On::ALL {
        let runtime = on.start();
        runtime.block_on(async {
            let host = host(*on, TIGHT_HUB);
            let plugins: Vec<_> = (0..3).map(|_| host.add_local(Waits::Together).unwrap()).collect();
            let echo = plugins.into_iter().map(|plugin| {
                runtime.spawn(async move {
                    while let Ok(message) = plugin.recv().await {
                        plugin.send(message.descriptor(), message.payload()).await.unwrap();
                    }
                })
            });
            let echo: Vec<_> = echo.collect();
            let mut senders = Vec::new();
            for id in (1..=3).map(PeerId) {
                for task in 0..TASKS as u64 {
                    let handle = host.handle(id).unwrap();
                    senders.push(runtime.spawn(async move {
                        for message in 0..EACH {
                            // In the descriptor, or in a slot.
                            let payload = vec![7; if message % 2 == 0 { 9 } else { 90 }];
                            handle.send(&number(task * EACH + message), &payload).await.unwrap();
                        }
                    }));
                }
            }
            let mut next = [[0; TASKS]; 3];
            for _ in 0..3 * TASKS as u64 * EACH {
                let (id, message) = next_message(&host).await;
                let place = &mut next[usize::from(id.0) - 1][usize::try_from(message / EACH).unwrap()];
                assert_eq!(message % EACH, *place, "each task's in order");
                *place += 1;
            }
            for sender in senders {
                sender.join().await;
            }
            for id in (1..=3).map(PeerId) {
                host.dismiss(id).unwrap();
            }
            for echo in echo {
                echo.join().await;
            }
            assert_is_empty(&host);
        });
    }
}

#[test]
fn a_killed_plugin_is_heard_of_at_once_after_its_last_message() {
    for on in On::ALL {
        on.start().block_on(async {
            let host = host(*on, TIGHT_HUB);
            let (id, mut plugin) = Second::plugin(&host, "plugin");
            assert_eq!(next_message(&host).await, (id, 7));
            let handle = host.handle(id).unwrap();
            // It takes nothing: the third waits for room, and is told.
            handle.send(&number(0), b"").await.unwrap();
            handle.send(&number(1), b"").await.unwrap();
            let (third, fourth) = (number(2), number(3));
            let waits = async { (handle.send(&third, b"").await, host.send_to_peer(id, &fourth, b"").await) };
            let killed = async {
                pause(20).await;
                plugin.kill();
                let since = Instant::now();
                let (ended, end) = next_end(&host).await;
                assert_eq!(ended, id);
                assert!(matches!(end, Error::PeerDied), "{end:?}");
                assert!(since.elapsed() < Duration::from_secs(1), "heard of after {:?}", since.elapsed());
            };
            let ((third, fourth), ()) = future::join(waits, killed).await;
            assert!(matches!(third, Err(Error::PeerDied | Error::Closed)), "{third:?}");
            let is_gone = |error: &HubTransportError| {
                matches!(error, HubTransportError::NotServed { id: seen } | HubTransportError::Plugin { id: seen, .. } if *seen == id)
            };
            assert!(fourth.is_err_and(|error| is_gone(&error)));
            // The handle is still there, and keeps nothing: whoever heard of the end has cleaned up.
            assert_eq!(host.peer_count(), 0);
            assert_is_empty(&host);
            let (again, _plugin) = Second::plugin(&host, "plugin");
            assert_eq!((again, next_message(&host).await), (id, (id, 7)));
            assert!(matches!(handle.send(&number(4), b"").await, Err(Error::Closed | Error::PeerDied)));
            host.send_to_peer(id, &number(5), b"to the new one").await.unwrap();
        });
    }
}

#[test]
fn a_killed_host_is_seen_by_a_plugin_that_waits() {
    let path = std::env::temp_dir().join(format!("rapace-shm-hub-host-{}", std::process::id()));
    for on in On::ALL {
        on.start().block_on(async {
            let mut hosts = Second(Second::command(&format!("host:{}", path.display())).spawn().unwrap());
            let plugin = loop {
                match sleepy(*on).join(&path).await {
                    Err(Error::Handshake(_)) => pause(1).await,
                    joined => break joined.unwrap(),
                }
            };
            let killed = async {
                pause(20).await;
                hosts.kill();
            };
            let (received, ()) = future::join(plugin.recv(), killed).await;
            assert!(matches!(received, Err(Error::PeerDied)), "{received:?}");
            let sent = plugin.send(&number(1), b"").await;
            assert!(matches!(sent, Err(Error::PeerDied)), "{sent:?}");
        });
        let _ = std::fs::remove_file(&path);
    }
}

/// Counts how often it is polled.
async fn counting<T>(future: impl Future<Output = T>, polls: &AtomicU32) {
    let mut future = pin!(future);
    future::poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx).map(drop)
    })
    .await;
}

#[test]
fn an_idle_hub_wakes_nobody_and_needs_no_thread() {
    for on in On::ALL {
        on.start().block_on(async {
            let host = host(*on, TIGHT_HUB);
            let (together, alone) = (host.add_local(Waits::Together).unwrap(), host.add_local(Waits::Alone).unwrap());
            let end = host.take_peer(alone.peer_id()).unwrap();
            for _ in 0..2 {
                assert!(matches!(host.recv_from_any().await, Ok((_, Heard::Joined))));
            }
            let polls = AtomicU32::new(0);
            // Polls only who was woken.
            let mut waiting = FuturesUnordered::new();
            waiting.push(counting(host.recv_from_any(), &polls).boxed_local());
            waiting.push(counting(together.recv(), &polls).boxed_local());
            waiting.push(counting(alone.recv(), &polls).boxed_local());
            waiting.push(counting(end.recv(), &polls).boxed_local());
            let so_far = || {
                let calls = [host.system_calls(), together.system_calls(), alone.system_calls()];
                (polls.load(Ordering::Relaxed), calls.map(|calls| calls.total()))
            };
            let idle = async {
                // Once everybody sleeps, and has heard that others joined.
                pause(50).await;
                let before = so_far();
                pause(300).await;
                assert_eq!(so_far(), before, "polls, and system calls of the host and two plugins");
                assert!(before.0 >= 4);
            };
            assert!(matches!(future::select(waiting.next(), pin!(idle)).await, future::Either::Right(_)));
        });
    }
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.starts_with("rapace-shm-wait")).count(), 0, "helper threads");
}

#[test]
fn plugins_join_by_a_socket_and_those_who_wait_alone_get_a_task_each() {
    let path = std::env::temp_dir().join(format!("rapace-shm-hub-join-{}", std::process::id()));
    for waits in [Waits::Together, Waits::Alone] {
        async_io::block_on(async {
            let host = host(On::AsyncIo, TIGHT_HUB);
            host.bind(&path, waits).unwrap();
            let (plugin, heard) = future::join(HubPeerTransport::join(&path), host.recv_from_any()).await;
            let (plugin, (id, heard)) = (plugin.unwrap(), heard.unwrap());
            assert!(matches!(heard, Heard::Joined) && id == plugin.peer_id());
            plugin.send(&number(1), &[7; 700]).await.unwrap();
            match waits {
                Waits::Together => {
                    assert!(matches!(host.take_peer(id), Err(HubTransportError::NotServed { .. })));
                    assert_eq!(next_message(&host).await, (id, 1));
                    host.send_to_peer(id, &number(2), b"answer").await.unwrap();
                }
                Waits::Alone => {
                    assert!(matches!(host.handle(id), Err(HubTransportError::NotServed { .. })));
                    let end = host.take_peer(id).unwrap();
                    assert_eq!((end.peer_id(), end.recv().await.unwrap().payload().len()), (id, 700));
                    end.send(&number(2), b"answer").await.unwrap();
                }
            }
            assert_eq!(plugin.recv().await.unwrap().payload(), b"answer");
            drop(plugin);
            assert_is_empty_once_heard(&host, waits).await;
        });
    }
}

async fn assert_is_empty_once_heard(host: &HubHostTransport, waits: Waits) {
    if waits == Waits::Together {
        next_end(host).await;
    }
    assert_is_empty(host);
}

#[test]
fn the_stream_ends_when_nobody_is_there_and_nobody_can_come() {
    async_io::block_on(async {
        let mut host = host(On::AsyncIo, TIGHT_HUB);
        assert!(host.next().await.is_none());
        let plugin = host.add_local(Waits::Together).unwrap();
        plugin.send(&number(1), b"one").await.unwrap();
        drop(plugin);
        let heard: Vec<_> = host.by_ref().map(Result::unwrap).collect().await;
        assert!(
            matches!(&heard[..], [(_, Heard::Joined), (_, Heard::Message(_)), (_, Heard::Ended(Error::Closed))]),
            "{heard:?}"
        );
        drop(heard);
        assert!(matches!(host.recv_from_any().await, Err(HubTransportError::NoPlugins)));
        assert_is_empty(&host);
    });
}

#[test]
fn a_plugin_that_comes_while_the_host_sleeps_is_heard() {
    for on in On::ALL {
        on.start().block_on(async {
            let host = host(*on, TIGHT_HUB);
            let _first = host.add_local(Waits::Together).unwrap();
            assert!(matches!(host.recv_from_any().await, Ok((PeerId(1), Heard::Joined))));
            let comes = async {
                pause(20).await;
                let second = host.add_local(Waits::Together).unwrap();
                second.send(&number(2), b"here").await.unwrap();
                second
            };
            let (message, _second) = future::join(next_message(&host), comes).await;
            assert_eq!(message, (PeerId(2), 2));
        });
    }
}

fn poll_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn ten_thousand_dropped_receives_and_sends_lose_and_leak_nothing() {
    let host = host(On::AsyncIo, TIGHT_HUB);
    let plugin = host.add_local(Waits::Together).unwrap();
    let id = plugin.peer_id();
    async_io::block_on(async {
        for round in 0..10_000 {
            assert!(!matches!(poll_and_drop(host.recv_from_any()), Some(Ok((_, Heard::Message(_))))));
            plugin.send(&number(round), &[7; 40]).await.unwrap();
            assert_eq!(next_message(&host).await, (id, round));
            // The ring to the plugin is full.
            host.send_to_peer(id, &number(0), b"").await.unwrap();
            host.send_to_peer(id, &number(1), b"").await.unwrap();
            let loan = host.loan_for(id, 500).await.unwrap();
            assert!(poll_and_drop(host.send_to_peer(id, &number(2), &[1; 900])).is_none());
            assert!(poll_and_drop(host.send_loan_to_peer(id, &number(2), loan)).is_none());
            let refused = host.send_to_peer(id, &number(2), &[0; 1025]).await;
            let too_large = |error: &Error| matches!(error, Error::TooLarge { len: 1025, max: 1024 });
            assert!(
                matches!(&refused, Err(HubTransportError::Plugin { error, .. }) if too_large(error)),
                "{refused:?}"
            );
            for message in 0..2 {
                assert_eq!(plugin.recv().await.unwrap().descriptor().msg_id, message);
            }
        }
        let loan = host.loan_for(id, 500).await.unwrap();
        let unsent = host.send_loan_to_peer(PeerId(3), &number(0), loan).await.unwrap_err();
        assert!(matches!(unsent.error, HubTransportError::NotServed { id: PeerId(3) }) && unsent.loan.is_some());
        drop((plugin, unsent));
        next_end(&host).await;
    });
    assert_is_empty(&host);
}

/// A mark that is not taken back costs each plugin a system call for each message.
#[test]
fn nobody_rings_for_a_host_that_gave_up() {
    let host = host(On::AsyncIo, TIGHT_HUB);
    let plugin = host.add_local(Waits::Together).unwrap();
    async_io::block_on(async {
        assert!(matches!(host.recv_from_any().await, Ok((_, Heard::Joined))));
        assert!(poll_and_drop(host.recv_from_any()).is_none());
        let before = plugin.system_calls();
        for message in 0..100 {
            plugin.send(&number(message), b"").await.unwrap();
            assert_eq!(next_message(&host).await.1, message);
        }
        assert_eq!(plugin.system_calls(), before);
    });
}

#[test]
fn handles_end_with_the_host() {
    let host = host(On::AsyncIo, TIGHT_HUB);
    let plugin = host.add_local(Waits::Together).unwrap();
    let handle = host.handle(plugin.peer_id()).unwrap();
    async_io::block_on(async {
        handle.send(&number(1), b"").await.unwrap();
        let (received, ()) = future::join(async { (plugin.recv().await, plugin.recv().await) }, async {
            pause(20).await;
            drop(host);
        })
        .await;
        assert!(matches!(received, (Ok(_), Err(Error::Closed))), "{received:?}");
        assert!(matches!(handle.send(&number(2), b"").await, Err(Error::Closed)));
        assert!(matches!(plugin.send(&number(2), b"").await, Err(Error::Closed)));
    });
}

/// What is below can be had again.
#[test]
fn transports_give_their_ends_back() {
    let mut host = HubHost::create(TIGHT_HUB).unwrap();
    let (plugin, end) = link_of(&mut host, TransportOptions::new(), TransportOptions::new());
    let handle = plugin.sender();
    let id = end.peer_id();
    let (mut end, mut plugin) = (end.into_end().unwrap(), {
        drop(handle);
        plugin.into_peer().unwrap()
    });
    assert_eq!((end.id(), plugin.id()), (id, id));
    end.split().0.send(&number(1), b"blocking").unwrap();
    assert_eq!(plugin.split().1.recv().unwrap().payload(), b"blocking");
    let other = host.add_local(Waits::Alone).unwrap();
    let (others_sender, _) = host.take(other.id()).unwrap().into_split();
    assert!(HubEnd::reunite(others_sender, end.into_split().1).is_err(), "they came from two");
    drop((plugin, other));
    assert_hub_is_empty(&mut host);
}
