//! The peer's death: every pending call ends with a typed error, soon, and never while the peer lives; then another one
//! can take its place, and nothing of the survivor's is disturbed.
//!
//! Seen to fail on these mutants: `Wiring::sleep` without the life socket (every test hangs until its deadline); a watcher
//! that does not wake (`the_death_of_a_peer_without_a_life_socket_…`); `Passing` kept until the command goes (no death is
//! heard); `reset` that does not ask (`a_living_peer_cannot_be_replaced`).

mod common;

use std::time::{Duration, Instant};

use common::{Second, assert_nothing_leaked, part, times};
use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};
use rustix::process::Signal;

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };

/// The longest that a death may go unnoticed.
const SOON: Duration = Duration::from_millis(100);

/// A process that says that it is there, and then sleeps until it is killed.
#[test]
fn sleeper() {
    let Some(how) = part("sleeper") else { return };
    let mut session = match how.split_once(' ') {
        Some(("connect", path)) => ShmSession::connect(path).unwrap(),
        Some(("attach", descriptor)) => {
            ShmSession::attach(std::fs::File::options().read(true).write(true).open(descriptor).unwrap().into())
                .unwrap()
        }
        _ => ShmSession::inherited().unwrap(),
    };
    let (tx, rx) = session.split();
    tx.send(&MsgDescHot::data(1), b"I am here, in a slot of my own").unwrap();
    let _held = tx.loan(10).unwrap();
    while let Ok(message) = rx.recv() {
        if message.payload() == b"busy" {
            // Never looks at the session again.
            loop {
                std::hint::spin_loop();
            }
        }
    }
}

/// A session with a sleeper that is there.
fn with_sleeper() -> (ShmSession, Second) {
    with_sleeper_for(SessionOptions::new())
}

fn with_sleeper_for(options: SessionOptions) -> (ShmSession, Second) {
    let mut session = options.create(CONFIG).unwrap();
    let child = Second::with(&session, "sleeper", "");
    assert_eq!(session.split().1.recv().unwrap().payload(), b"I am here, in a slot of my own");
    (session, child)
}

/// How long a call, which ends because the peer dies, takes after that.
fn until_noticed(mut child: Second, call: impl FnOnce() -> Error + Send + 'static) -> Duration {
    let waiting = std::thread::spawn(move || (call(), Instant::now()));
    std::thread::sleep(Duration::from_millis(20));
    let killed = Instant::now();
    child.strike();
    let (error, noticed) = waiting.join().unwrap();
    assert!(matches!(error, Error::PeerDied), "{error}");
    noticed.saturating_duration_since(killed)
}

#[test]
fn every_pending_call_ends_soon_after_the_peers_death() {
    let (mut session, child) = with_sleeper();
    assert!(until_noticed(child, move || session.split().1.recv().unwrap_err()) < SOON, "a receiver asleep");
    let (session, child) = with_sleeper_for(SessionOptions::new().spin(Spin::tries(u32::MAX)));
    let (_tx, mut rx) = session.into_split();
    assert!(until_noticed(child, move || rx.recv().unwrap_err()) < SOON, "a receiver that spins");
    let (mut session, child) = with_sleeper();
    let trying = move || loop {
        match session.split().1.try_recv() {
            Err(Error::Empty) => std::hint::spin_loop(),
            Err(error) => return error,
            Ok(_) => panic!("nothing was sent"),
        }
    };
    assert!(until_noticed(child, trying) < SOON, "one that only tries");
    let (session, child) = with_sleeper();
    child.signal(Signal::STOP);
    let (mut tx, _rx) = session.into_split();
    let sending = move || loop {
        if let Err(error) = tx.send(&MsgDescHot::data(1), b"inline") {
            return error;
        }
    };
    assert!(until_noticed(child, sending) < SOON, "a sender that waits for space");
    let (session, child) = with_sleeper();
    child.signal(Signal::STOP);
    let (mut tx, _rx) = session.into_split();
    let lending = move || {
        let mut loans = Vec::new();
        loop {
            match tx.loan(40) {
                Ok(loan) => loans.push(loan),
                Err(error) => return error,
            }
        }
    };
    assert!(until_noticed(child, lending) < SOON, "a sender that waits for a slot");
}

/// T6: as many kills as `RAPACE_SHM_KILLS` says.
#[test]
fn a_peers_death_is_noticed_within_a_tenth_of_a_second_in_99_of_100() {
    let mut times: Vec<Duration> = (0..times("RAPACE_SHM_KILLS", 20))
        .map(|_| {
            let (mut session, child) = with_sleeper();
            until_noticed(child, move || session.split().1.recv().unwrap_err())
        })
        .collect();
    times.sort();
    let [median, p99] = [times[times.len() / 2], times[times.len() * 99 / 100]];
    println!("noticed after {median:?} (median), {p99:?} (99 of 100), {:?} (longest)", times[times.len() - 1]);
    assert!(p99 < SOON, "{times:?}");
}

#[test]
fn the_death_of_a_peer_without_a_life_socket_is_seen_by_the_watcher() {
    let mut session = ShmSession::create(CONFIG).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), {
        use std::os::fd::AsRawFd;
        session.memfd().unwrap().as_raw_fd()
    });
    // Both orders: who was asleep before anybody came, and who was not.
    for early in [true, false] {
        let child = Second::start("sleeper", format!("attach {path}"));
        if !early {
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(session.split().1.recv().unwrap().payload(), b"I am here, in a slot of my own");
        let mut receiving = session;
        let (answer, result) = std::sync::mpsc::channel();
        let took = until_noticed(child, move || {
            let error = receiving.split().1.recv().unwrap_err();
            answer.send(receiving).unwrap();
            error
        });
        assert!(took < SOON, "{took:?}");
        session = result.recv().unwrap();
        assert_eq!(session.reset().unwrap(), 1, "the loan that the dead one held");
        assert_nothing_leaked(&session);
    }
}

/// No false alarm: as many seconds as `RAPACE_SHM_PATIENCE` says.
#[test]
fn a_stopped_or_busy_peer_is_not_dead() {
    let patience = Duration::from_secs(times("RAPACE_SHM_PATIENCE", 1).into());
    let (mut session, child) = with_sleeper();
    child.signal(Signal::STOP);
    assert!(matches!(session.split().1.recv_deadline(Instant::now() + patience), Err(Error::Timeout)));
    assert!(matches!(session.reset(), Err(Error::PeerAlive)));
    child.signal(Signal::CONT);
    session.split().0.send(&MsgDescHot::data(1), b"busy").unwrap();
    assert!(matches!(session.split().1.recv_deadline(Instant::now() + patience), Err(Error::Timeout)));
    session.split().0.send(&MsgDescHot::data(2), b"still alive").unwrap();
}

#[test]
fn a_living_peer_cannot_be_replaced() {
    let (mut a, b) = ShmSession::pair(CONFIG).unwrap();
    assert!(matches!(a.reset(), Err(Error::PeerAlive)));
    drop(b);
    assert_eq!(a.reset().unwrap(), 0);
}

#[test]
fn one_child_after_the_other_takes_the_same_place_and_disturbs_nothing() {
    let (mut session, mut child) = with_sleeper();
    let mut loan = session.split().0.loan(30).unwrap();
    loan.fill(9);
    let mut kept = None;
    for _ in 0..5 {
        child.kill();
        assert!(matches!(session.split().1.recv(), Err(Error::PeerDied)));
        session.reset().unwrap();
        child = Second::with(&session, "sleeper", "");
        let greeting = session.split().1.recv().unwrap().into_payload();
        assert_eq!(&greeting[..], b"I am here, in a slot of my own");
        kept.get_or_insert(greeting);
    }
    assert_eq!(&kept.unwrap()[..], b"I am here, in a slot of my own", "read after its sender died four times over");
    assert_eq!(&loan[..], [9; 30]);
    session.split().0.send_loan(&MsgDescHot::data(1), loan).unwrap();
    child.kill();
    session.reset().unwrap();
    assert_nothing_leaked(&session);
}

#[test]
fn halves_that_were_apart_become_a_session_again() {
    let (a, b) = ShmSession::pair(CONFIG).unwrap();
    let ((to_b, from_b), (to_a, from_a)) = (a.into_split(), b.into_split());
    let halves = ShmSession::reunite(to_b, from_a).unwrap_err();
    let (to_b, from_a) = *halves;
    let mut a = ShmSession::reunite(to_b, from_b).unwrap();
    let mut b = ShmSession::reunite(to_a, from_a).unwrap();
    a.split().0.send(&MsgDescHot::data(1), b"hello").unwrap();
    assert_eq!(b.split().1.recv().unwrap().payload(), b"hello");
}
