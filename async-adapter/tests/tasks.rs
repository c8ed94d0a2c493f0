//! Many tasks on one transport: order, turns, and everybody else's share of the executor.
//!
//! Seen to fail: newcomers that try before those who wait push in; a spin that does not return to the executor starves the
//! others; readiness of tokio's that is not cleared makes a wait that never ends; what is fed and published at once is seen
//! before the flush.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{On, TIGHT, pause, sleepy_pair};
use futures::{SinkExt, StreamExt};
use rapace_shm::{MsgDescHot, SessionOptions, ShmSessionConfig, Spin, SystemCalls};
use rapace_shm_async::{Outgoing, TransportOptions};

/// Messages of each of two senders; the goal is a million: `RAPACE_SHM_TASKS_MESSAGES=1000000`.
fn messages() -> u64 {
    std::env::var("RAPACE_SHM_TASKS_MESSAGES").map_or(4_000, |number| number.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_when_many_tasks_send() {
    const TASKS: u32 = 4;
    for on in On::ALL {
        let runtime = on.start();
        let config = ShmSessionConfig { ring_capacity: 16, slot_size: 64, slot_count: 8 };
        let (a, b) = runtime.block_on(async { on.options().pair(config) }).unwrap();
        let each = messages() / u64::from(TASKS / 2);
        let a = Arc::new(a);
        let senders: Vec<_> = (0..TASKS)
            .map(|task| {
                let a = a.clone();
                runtime.spawn(async move {
                    for number in 0..each {
                        let descriptor = MsgDescHot { channel_id: task, ..MsgDescHot::data(number) };
                        match number % 3 {
                            0 => a.send(&descriptor, b"").await.unwrap(),
                            1 => a.send(&descriptor, &[number.to_le_bytes()[0]; 60]).await.unwrap(),
                            _ => {
                                let mut loan = a.loan(64).await.unwrap();
                                loan.fill(number.to_le_bytes()[0]);
                                a.send_loan(&descriptor, loan).await.unwrap();
                            }
                        }
                    }
                })
            })
            .collect();
        let receiving = runtime.spawn(async move {
            let mut next = [0; TASKS as usize];
            for _ in 0..each * u64::from(TASKS) {
                let message = b.recv().await.unwrap();
                let (task, number) = (message.descriptor().channel_id as usize, message.descriptor().msg_id);
                assert_eq!(number, next[task]);
                next[task] += 1;
                let len = [0, 60, 64][(number % 3) as usize];
                assert_eq!(message.payload(), vec![number.to_le_bytes()[0]; len]);
            }
            b
        });
        let b = runtime.block_on(async {
            for sender in senders {
                sender.join().await;
            }
            receiving.join().await
        });
        drop(a);
        common::assert_nothing_leaked(b);
    }
}

#[test]
fn tasks_take_turns_in_the_order_in_which_they_came() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    async_io::block_on(async {
        for number in 0..2 {
            a.send(&MsgDescHot::data(number), b"").await.unwrap();
        }
        // Polled once each in this order, by the first poll of the whole.
        let descriptors: Vec<_> = (2..20).map(MsgDescHot::data).collect();
        let sends = futures::future::join_all(descriptors.iter().map(|descriptor| a.send(descriptor, b"")));
        let receive = async {
            for number in 0..20 {
                assert_eq!(b.recv().await.unwrap().descriptor().msg_id, number);
            }
        };
        futures::join!(sends, receive);
    });
}

/// Room that there is belongs to whoever waited for it, even if that task has not run since.
#[test]
fn newcomers_do_not_push_in() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    let descriptors = [0, 1, 2, 3].map(MsgDescHot::data);
    async_io::block_on(async {
        a.send(&descriptors[0], b"").await.unwrap();
        a.send(&descriptors[1], b"").await.unwrap();
        let mut waits = Box::pin(a.send(&descriptors[2], b""));
        assert!(futures::poll!(&mut waits).is_pending());
        assert_eq!(b.recv().await.unwrap().descriptor().msg_id, 0);
        // The reactor has heard of it; the task that waits has not been polled.
        pause(5).await;
        let mut newcomer = Box::pin(a.send(&descriptors[3], b""));
        assert!(futures::poll!(&mut newcomer).is_pending());
        assert!(matches!(a.sender().try_send(&descriptors[3], b""), Err(rapace_shm::Error::Full)));
        waits.await.unwrap();
        let receive = async {
            for number in 1..4 {
                assert_eq!(b.recv().await.unwrap().descriptor().msg_id, number);
            }
        };
        let (sent, ()) = futures::join!(newcomer, receive);
        sent.unwrap();
    });
}

/// One task has the only slot and wants to send it; another one waits for a slot; a third for a place in the ring.
#[test]
fn a_task_with_a_loan_gets_past_those_who_wait_for_a_slot() {
    let helped = || {
        let (a, b) = SessionOptions::new().pair(TIGHT).unwrap();
        let options = TransportOptions::new().spin(Spin::none());
        (options.over(a).unwrap(), options.over(b).unwrap())
    };
    for (a, b) in [sleepy_pair(On::AsyncIo, TIGHT), helped()] {
        async_io::block_on(async {
            for round in 0..300 {
                let loan = a.loan(64).await.unwrap();
                let descriptor = MsgDescHot::data(round);
                let waits_for_slot = a.send(&descriptor, &[1; 64]);
                let floods = async {
                    for _ in 0..4 {
                        a.send(&descriptor, b"").await.unwrap();
                    }
                };
                let sends_loan = async {
                    futures_yield().await;
                    a.send_loan(&descriptor, loan).await.unwrap();
                };
                let receives = async {
                    for _ in 0..6 {
                        drop(b.recv().await.unwrap());
                    }
                };
                let (sent, ..) = futures::join!(waits_for_slot, floods, sends_loan, receives);
                sent.unwrap();
            }
        });
    }
}

async fn futures_yield() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A hundred more turns for the other task.
async fn get_turns(turns: &AtomicU64) {
    let (before, deadline) = (turns.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(10));
    while turns.load(Ordering::Relaxed) < before + 100 {
        assert!(Instant::now() < deadline, "{} turns, then none", turns.load(Ordering::Relaxed) - before);
        futures_yield().await;
    }
}

#[test]
fn other_tasks_of_a_current_thread_runtime_run_while_a_receiver_spins_or_is_busy() {
    for on in [On::Smol, On::TokioCurrentThread] {
        let runtime = on.start();
        // It would spin for minutes.
        let options = on.options().spin(Spin::tries(u32::MAX));
        let (a, b) = runtime.block_on(async { options.pair(ShmSessionConfig::default()) }).unwrap();
        let turns = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let other = runtime.spawn({
            let (turns, stop) = (turns.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    turns.fetch_add(1, Ordering::Relaxed);
                    futures_yield().await;
                }
            }
        });
        let (tx, mut rx) = b.into_split();
        let receiving = runtime.spawn(async move { while rx.next().await.is_some_and(|message| message.is_ok()) {} });
        let (begin, began) = std::sync::mpsc::channel();
        let busy = std::thread::spawn({
            let stop = stop.clone();
            move || {
                began.recv().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    async_io::block_on(a.send(&MsgDescHot::data(1), b"")).unwrap();
                }
            }
        });
        runtime.block_on(async {
            // First nothing comes, then always something.
            get_turns(&turns).await;
            begin.send(()).unwrap();
            get_turns(&turns).await;
            stop.store(true, Ordering::Relaxed);
            receiving.join().await;
            other.join().await;
        });
        busy.join().unwrap();
        drop(tx);
    }
}

/// Within 150 ms, what polls 100 times a second would show.
#[test]
fn an_idle_transport_wakes_nobody() {
    for on in On::ALL {
        let runtime = on.start();
        let (a, b) = runtime.block_on(async { sleepy_pair(*on, TIGHT) });
        let calls = a.system_calls();
        let receiving = runtime.spawn(async move {
            for _ in 0..2 {
                assert_eq!(b.recv().await.unwrap().len(), 2);
            }
            (b.system_calls(), b)
        });
        runtime.block_on(async {
            for _ in 0..2 {
                pause(150).await;
                a.send(&MsgDescHot::data(1), b"up").await.unwrap();
            }
            let (calls, _b) = receiving.join().await;
            // One barrier before each sleep, and after it one drain.
            let expected = SystemCalls { polls: 2, barriers: calls.barriers.min(2), ..SystemCalls::default() };
            assert_eq!(calls, expected);
        });
        assert_eq!(a.system_calls(), SystemCalls { rings: 2, ..calls });
    }
}

#[test]
fn a_helper_thread_starts_with_the_first_wait_and_ends_with_the_transport() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "rapace-shm-wait").count()
    };
    // Other tests of this process have helpers, too: what is counted settles.
    let settles = |at_most: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads() > at_most {
            assert!(Instant::now() < deadline, "{} helper threads", threads());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    settles(0);
    for _ in 0..100 {
        let (a, b) = SessionOptions::new().pair(TIGHT).unwrap();
        let options = TransportOptions::new().spin(Spin::none());
        let (a, b) = (options.over(a).unwrap(), options.over(b).unwrap());
        async_io::block_on(async {
            let send = async {
                pause(1).await;
                a.send(&MsgDescHot::data(1), b"").await.unwrap();
            };
            let (received, ()) = futures::join!(b.recv(), send);
            drop(received.unwrap());
        });
    }
    settles(0);
}

#[test]
fn what_is_fed_is_seen_at_the_flush_and_the_peer_is_rung_once() {
    let (a, b) = sleepy_pair(On::AsyncIo, ShmSessionConfig::default());
    let (_b, mut rx) = b.into_split();
    let mut sink = a.sender().into_sink();
    async_io::block_on(async {
        for number in 0..100 {
            let payload = vec![1; if number % 2 == 0 { 8 } else { 80 }];
            sink.feed(Outgoing::from((MsgDescHot::data(number), payload))).await.unwrap();
        }
        assert!(rx.try_recv().is_err(), "nothing is flushed yet");
        let receive = async {
            for number in 0..100 {
                let message = rx.next().await.unwrap().unwrap();
                assert_eq!(
                    (message.descriptor().msg_id, message.len()),
                    (number, if number % 2 == 0 { 8 } else { 80 })
                );
            }
        };
        let flush = async {
            futures_yield().await;
            sink.flush().await.unwrap();
        };
        futures::join!(receive, flush);
        assert_eq!(a.system_calls(), SystemCalls { rings: 1, ..a.system_calls() });
        sink.close().await.unwrap();
        assert!(rx.next().await.is_none());
    });
}
