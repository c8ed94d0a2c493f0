//! What the kernel is asked for: counted exactly, and next to nothing while both sides are busy.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin, SystemCalls};

/// The goal: per million messages of steady traffic both ways.
const PER_MILLION: u64 = 100;

/// Looks for much longer than a scheduler's time slice, so that what is counted is the protocol and not what else runs
/// on this machine.
const PATIENT: Spin = Spin::tries(50_000_000);

#[test]
fn an_idle_session_has_asked_for_nothing() {
    let (a, b) = ShmSession::pair(ShmSessionConfig::default()).unwrap();
    assert_eq!((a.system_calls(), b.system_calls()), Default::default());
}

/// Fails if `rouse` signals whoever is awake, or if a try arms.
#[test]
fn what_finds_everything_ready_asks_for_nothing() {
    let (mut a, mut b) = SessionOptions::new().spin(Spin::none()).pair(ShmSessionConfig::default()).unwrap();
    for number in 0..1000 {
        a.split().0.send(&MsgDescHot::data(number), &[7; 100]).unwrap();
        assert_eq!(b.split().1.recv().unwrap().payload(), [7; 100]);
        assert!(matches!(b.split().1.try_recv(), Err(Error::Empty)));
    }
    assert_eq!((a.system_calls(), b.system_calls()), Default::default());
}

#[test]
fn a_sleep_is_one_wait_behind_one_barrier_and_a_wake_up_one_wake() {
    let (mut a, mut b) = SessionOptions::new().spin(Spin::none()).pair(ShmSessionConfig::default()).unwrap();
    for _ in 0..3 {
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(b.split().1.recv_deadline(soon), Err(Error::Timeout)));
    }
    let slept = b.system_calls();
    assert_eq!((slept.waits, slept.wakes), (3, 0));
    assert!([0, 3].contains(&slept.barriers), "each sleep has a barrier, or membarrier is refused: {slept:?}");
    // The send that finds the receiver asleep wakes it; those behind it find that done.
    let (b_tx, mut rx) = b.into_split();
    let receiving = thread::spawn(move || {
        let number = rx.recv().unwrap().descriptor().msg_id;
        (number, rx)
    });
    while b_tx.system_calls().waits == slept.waits {
        thread::yield_now();
    }
    for number in 1..=100 {
        a.split().0.send(&MsgDescHot::data(number), b"").unwrap();
    }
    let (number, _rx) = receiving.join().unwrap();
    assert_eq!(number, 1);
    assert_eq!(a.system_calls(), SystemCalls { wakes: 1, ..SystemCalls::default() });
}

/// Both peers send half a million messages and receive as many, each on one thread that sends some and receives some. Gives
/// system calls per million messages.
fn steady_traffic(payload: &'static [u8], options: SessionOptions) -> u64 {
    const MESSAGES: u64 = 500_000;
    const BURST: u64 = 200;
    let (a, b) = options.spin(PATIENT).pair(ShmSessionConfig { slot_count: 512, ..Default::default() }).unwrap();
    let start = Barrier::new(2);
    let peer = |mut session: ShmSession| {
        start.wait();
        let (tx, rx) = session.split();
        for burst in 0..MESSAGES / BURST {
            let numbers = burst * BURST..(burst + 1) * BURST;
            for number in numbers.clone() {
                tx.send(&MsgDescHot::data(number), payload).unwrap();
            }
            for number in numbers.clone() {
                let message = rx.recv().unwrap();
                assert_eq!((message.descriptor().msg_id, message.len()), (number, payload.len()));
            }
        }
        session
    };
    let (a, b) = thread::scope(|scope| {
        let at_a = scope.spawn(|| peer(a));
        let at_b = scope.spawn(|| peer(b));
        (at_a.join().unwrap(), at_b.join().unwrap())
    });
    (a.system_calls().total() + b.system_calls().total()) * 1_000_000 / (2 * MESSAGES)
}

/// Fails if the awake side is signalled, or if a wait arms before it has looked again.
#[test]
fn steady_traffic_both_ways_makes_next_to_no_system_calls() {
    for membarrier in [true, false] {
        for payload in [&b"inline"[..], &[7; 100]] {
            let calls = steady_traffic(payload, SessionOptions::new().membarrier(membarrier));
            assert!(calls <= PER_MILLION, "{calls} calls per million messages of {} bytes", payload.len());
        }
    }
}
