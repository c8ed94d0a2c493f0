//! Futures dropped at every await point: nothing acknowledged is lost, no slot leaks, nobody hangs.
//!
//! Seen to fail: without giving the place up when a future is dropped, whoever comes next hangs; without taking the mark
//! back, the peer rings for nobody; and if the mark is believed to be there still, whoever comes next hangs.

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use common::{On, TIGHT, TIGHT_HUB, assert_hub_is_empty, assert_nothing_leaked, link_of, sleepy_pair};
use futures::{SinkExt, StreamExt};
use rapace_shm::core::slots::SlotPool;
use rapace_shm::{
    Error, HostLoan, HubHost, Loan, MsgDescHot, OsEndpoint, SessionOptions, ShmSessionConfig, Spin, Unsent,
};
use rapace_shm_async::{HubHostPeerTransport, HubPeerTransport, ShmTransport, TransportOptions};

const EACH: u64 = 10_000;

/// Polls a future so many times and drops it; says whether it was ready.
fn poll_and_drop<T>(future: impl Future<Output = T>, polls: u64) -> Option<T> {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
    }
    None
}

/// What need not wait, but may let others run first.
#[track_caller]
fn now<T>(future: impl Future<Output = T>) -> T {
    poll_and_drop(future, 2).expect("need not wait")
}

/// Both ways of waiting, and with a spin that is dropped in the middle.
fn pairs() -> Vec<(ShmTransport, ShmTransport)> {
    let with_helper = |options: TransportOptions| {
        let (a, b) = SessionOptions::new().pair(TIGHT).unwrap();
        (options.over(a).unwrap(), options.over(b).unwrap())
    };
    vec![
        sleepy_pair(On::AsyncIo, TIGHT),
        TransportOptions::new().pair(TIGHT).unwrap(),
        with_helper(TransportOptions::new().spin(Spin::none())),
    ]
}

/// A link of a hub that has one of the largest slots left.
struct Link {
    taken: Vec<HostLoan>,
    plugin: HubPeerTransport,
    end: HubHostPeerTransport,
    host: HubHost,
}

impl Link {
    fn new(mut host: HubHost, options: TransportOptions) -> Self {
        let (plugin, end) = link_of(&mut host, options, options);
        let taken = (0..3).map(|_| now(end.loan(end.max_payload())).unwrap()).collect();
        Self { taken, plugin, end, host }
    }

    fn sleepy() -> Self {
        Self::new(HubHost::create(TIGHT_HUB).unwrap(), TransportOptions::new().spin(Spin::none()))
    }

    /// They wait as `pairs` do.
    fn all() -> Vec<Self> {
        let name = format!("rapace-shm-cancelling-{}-{:?}", std::process::id(), std::thread::current().id());
        let on_futexes = HubHost::create_at(std::env::temp_dir().join(name), TIGHT_HUB).unwrap();
        vec![
            Self::sleepy(),
            Self::new(HubHost::create(TIGHT_HUB).unwrap(), TransportOptions::new()),
            Self::new(on_futexes, TransportOptions::new().spin(Spin::none())),
        ]
    }

    #[track_caller]
    fn assert_nothing_leaked(self) {
        let Self { taken, plugin, end, mut host } = self;
        drop((taken, plugin, end));
        assert_hub_is_empty(&mut host);
    }
}

fn number(number: u64) -> MsgDescHot {
    MsgDescHot::data(number)
}

/// One end, of whatever kind of link, sends to the other one.
fn drop_receives<E: OsEndpoint, P: SlotPool, F: OsEndpoint, Q: SlotPool>(
    a: &ShmTransport<E, P>,
    b: &ShmTransport<F, Q>,
) {
    for message in 0..EACH {
        assert!(poll_and_drop(b.recv(), 1 + message % 3).is_none());
        now(a.send(&number(message), &[7; 40])).unwrap();
        let received = async_io::block_on(b.recv()).unwrap();
        assert_eq!((received.descriptor().msg_id, received.payload()), (message, &[7; 40][..]));
    }
}

#[test]
fn a_receive_that_is_dropped_takes_nothing() {
    for (a, b) in pairs() {
        drop_receives(&a, &b);
        drop(b);
        assert_nothing_leaked(a);
    }
}

#[test]
fn in_a_hub_neither_does_one() {
    for link in Link::all() {
        drop_receives(&link.plugin, &link.end);
        drop_receives(&link.end, &link.plugin);
        link.assert_nothing_leaked();
    }
}

fn drop_sends<E: OsEndpoint, P: SlotPool, F: OsEndpoint, Q: SlotPool>(a: &ShmTransport<E, P>, b: &ShmTransport<F, Q>) {
    let most = a.max_payload();
    for round in 0..EACH {
        // The slot is out: a payload that needs one waits for it.
        let loan = async_io::block_on(a.loan(most)).unwrap();
        assert!(poll_and_drop(a.send(&number(0), &vec![1; most]), 1 + round % 3).is_none());
        assert!(poll_and_drop(a.loan(most), 1 + round % 3).is_none());
        // The ring is full: all wait for a place, the loan included, which goes back.
        for message in 0..2 {
            now(a.send(&number(message), b"")).unwrap();
        }
        assert!(poll_and_drop(a.send(&number(0), b"no"), 1 + round % 3).is_none());
        assert!(poll_and_drop(a.send_loan(&number(0), loan), 1 + round % 3).is_none());
        assert!(poll_and_drop(a.send(&number(0), &vec![1; most]), 1 + round % 3).is_none());
        for message in 0..2 {
            assert_eq!(async_io::block_on(b.recv()).unwrap().descriptor().msg_id, message);
        }
    }
    assert!(poll_and_drop(b.recv(), 1).is_none(), "nothing else was sent");
}

#[test]
fn a_send_that_is_dropped_while_it_waits_for_a_place_or_a_slot_did_not_happen() {
    for (a, b) in pairs() {
        drop_sends(&a, &b);
        drop(b);
        assert_nothing_leaked(a);
    }
}

#[test]
fn in_a_hub_neither_did_one() {
    for link in Link::all() {
        drop_sends(&link.plugin, &link.end);
        drop_sends(&link.end, &link.plugin);
        link.assert_nothing_leaked();
    }
}

#[test]
fn a_sink_that_is_dropped_or_given_up_leaks_nothing() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    for round in 0..EACH {
        let mut sink = a.sender().into_sink();
        for message in 0..2 {
            now(sink.feed((number(message), vec![2; 10]).into())).unwrap();
        }
        // The third waits for a place, in the ring or for a slot, and is dropped.
        let third = vec![3; if round % 2 == 0 { 5 } else { 50 }];
        assert!(poll_and_drop(sink.send((number(2), third).into()), 1 + round % 3).is_none());
        drop(sink);
        for message in 0..2 {
            assert_eq!(async_io::block_on(b.recv()).unwrap().descriptor().msg_id, message);
        }
    }
    drop(b);
    assert_nothing_leaked(a);
}

#[test]
fn a_stream_given_up_and_taken_up_again_loses_nothing() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    let (_b, mut rx) = b.into_split();
    for message in 0..EACH {
        assert!(poll_and_drop(rx.next(), 1 + message % 2).is_none());
        if message % 2 == 0 {
            assert!(poll_and_drop(rx.recv(), 1).is_none(), "a call takes the stream's place over");
        }
        now(a.send(&number(message), &[1; 20])).unwrap();
        let received = async_io::block_on(rx.next()).unwrap().unwrap();
        assert_eq!(received.descriptor().msg_id, message);
    }
    drop((rx, _b));
    assert_nothing_leaked(a);
}

/// The last one comes from another segment.
fn refuse_sends<E: OsEndpoint, P: SlotPool>(a: &ShmTransport<E, P>, foreign: impl Fn() -> Loan<E, P>) {
    let most = a.max_payload();
    for _ in 0..EACH {
        assert!(
            matches!(async_io::block_on(a.send(&number(0), &vec![0; most + 1])), Err(Error::TooLarge { len, max }) if (len, max) == (most + 1, most))
        );
        assert!(
            matches!(async_io::block_on(a.loan(most + 1)), Err(Error::TooLarge { len, max }) if (len, max) == (most + 1, most))
        );
        let refused = async_io::block_on(a.send_loan(&number(0), foreign()));
        assert!(matches!(refused, Err(Unsent { error: Error::ForeignLoan, loan: Some(_) })));
    }
    let loan = now(a.loan(most)).unwrap();
    a.close();
    let unsent = async_io::block_on(a.send_loan(&number(0), loan)).unwrap_err();
    assert!(matches!(unsent.error, Error::Closed) && unsent.loan.is_some());
}

#[test]
fn ten_thousand_refused_sends_leak_nothing() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    let (other, _b) = sleepy_pair(On::AsyncIo, TIGHT);
    refuse_sends(&a, || now(other.loan(10)).unwrap());
    drop(b);
    assert_nothing_leaked(a);
}

#[test]
fn nor_do_those_in_a_hub() {
    let [link, other] = [Link::sleepy(), Link::sleepy()];
    refuse_sends(&link.plugin, || now(other.plugin.loan(10)).unwrap());
    refuse_sends(&link.end, || now(other.end.loan(10)).unwrap());
    link.assert_nothing_leaked();
}

/// A mark that is not taken back costs the peer a system call for each message.
#[test]
fn nobody_is_rung_for_after_a_future_was_dropped() {
    let (a, b) = sleepy_pair(On::AsyncIo, ShmSessionConfig::default());
    assert!(poll_and_drop(b.recv(), 1).is_none());
    let loans: Vec<_> = std::iter::from_fn(|| poll_and_drop(a.loan(10), 2)).collect();
    assert!(poll_and_drop(a.loan(10), 2).is_none());
    let before = (a.system_calls(), b.system_calls());
    drop(loans);
    for message in 0..200 {
        now(a.send(&number(message), &[1; 100])).unwrap();
        drop(now(b.recv()).unwrap());
    }
    assert_eq!((a.system_calls(), b.system_calls()), before);
}

/// Two at once: one gives up, the other is served, wherever they stand in the queue.
#[test]
fn whoever_waits_behind_one_that_gives_up_is_served() {
    let (a, b) = sleepy_pair(On::AsyncIo, TIGHT);
    for round in 0..EACH {
        for message in 0..2 {
            now(a.send(&number(message), b"")).unwrap();
        }
        let (first, second) = (number(10), number(11));
        let mut gives_up = Box::pin(a.send(&first, b""));
        let mut stays = Box::pin(a.send(&second, b""));
        let mut cx = Context::from_waker(Waker::noop());
        if round % 2 == 0 {
            assert!(gives_up.as_mut().poll(&mut cx).is_pending() && stays.as_mut().poll(&mut cx).is_pending());
        } else {
            assert!(stays.as_mut().poll(&mut cx).is_pending() && gives_up.as_mut().poll(&mut cx).is_pending());
        }
        drop(gives_up);
        let receive = async {
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push(b.recv().await.unwrap().descriptor().msg_id);
            }
            seen
        };
        let (sent, seen) = async_io::block_on(futures::future::join(stays, receive));
        sent.unwrap();
        assert_eq!(seen, [0, 1, 11]);
    }
}
