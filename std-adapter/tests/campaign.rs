//! Long runs, short by default: a million echoes without a time-out to fall back on (T7), sends that are refused or given
//! up (T5), and peers killed at random under load (T3).
//!
//! | variable | what it multiplies | the campaign of goals |
//! |---|---|---|
//! | `RAPACE_SHM_ECHOES` | echoes | 1 000 000 |
//! | `RAPACE_SHM_REFUSALS` | refused and given-up sends | 10 000 |
//! | `RAPACE_SHM_RANDOM_KILLS` | kills | 10 000 |
//!
//! Seen to fail on these mutants: a sleeper that waits for the word to change from what it is by then, instead of from what
//! the ticket says (an echo hangs); a deadline that
//! forgets the loan (slots leak); `reclaim` that skips what is marked allocated (a kill leaks).

mod common;

use std::time::{Duration, Instant};

use common::{Folder, Second, assert_nothing_leaked, part, times};
use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };

/// Sends everything back, in whatever way it came, until the end. It is told how long to spin, and the path to open
/// if it inherits nothing.
#[test]
fn echo() {
    let Some(told) = part("echo") else { return };
    let (spin, path) = told.split_once(' ').unwrap();
    let options = SessionOptions::new().spin(Spin::tries(spin.parse().unwrap()));
    let mut session = if path.is_empty() { options.inherited() } else { options.open_at(path) }.unwrap();
    let (tx, rx) = session.split();
    loop {
        match rx.recv() {
            Ok(message) if tx.send(message.descriptor(), message.payload()).is_ok() => {}
            _ => break,
        }
    }
}

/// T7: on doorbells, and on futexes. A hang is an echo that never ends, and the test with it; how long the longest took is
/// printed.
#[test]
fn no_echo_hangs_without_a_time_out() {
    let echoes = u64::from(times("RAPACE_SHM_ECHOES", 20_000));
    for (spin, doorbells) in [(0, true), (50, true), (2000, true), (0, false), (50, false), (2000, false)] {
        let options = SessionOptions::new().spin(Spin::tries(spin));
        let folder = Folder::new();
        let path = folder.join("session");
        let (mut session, child) = if doorbells {
            let session = options.create(CONFIG).unwrap();
            let child = Second::with(&session, "echo", format!("{spin} "));
            (session, child)
        } else {
            let session = options.create_at(&path, CONFIG).unwrap();
            (session, Second::start("echo", format!("{spin} {}", path.display())))
        };
        let (tx, rx) = session.split();
        let mut longest = Duration::ZERO;
        for number in 0..echoes {
            let start = Instant::now();
            let payload = [7; 40];
            let len = usize::try_from(number % 40).unwrap();
            tx.send(&MsgDescHot::data(number), &payload[..len]).unwrap();
            let message = rx.recv().unwrap();
            assert_eq!((message.descriptor().msg_id, message.len()), (number, len));
            longest = longest.max(start.elapsed());
        }
        println!("spin {spin}, doorbells {doorbells}: {echoes} echoes, the longest {longest:?}");
        tx.close();
        child.assert_ends_well();
        assert_nothing_leaked(&session);
    }
}

/// T5.
#[test]
fn refused_and_given_up_sends_leak_nothing() {
    let (mut a, mut b) = ShmSession::pair(CONFIG).unwrap();
    let (tx, _) = a.split();
    for number in 0..4 {
        tx.send(&MsgDescHot::data(number), b"full").unwrap();
    }
    for number in 0..u64::from(times("RAPACE_SHM_REFUSALS", 2000)) {
        assert!(matches!(tx.send(&MsgDescHot::data(number), &[0; 65]), Err(Error::TooLarge { len: 65, max: 64 })));
        assert!(matches!(tx.try_send(&MsgDescHot::data(number), &[0; 40]), Err(Error::Full)));
        let soon = Instant::now() + Duration::from_micros(1);
        assert!(matches!(tx.send_deadline(&MsgDescHot::data(number), &[0; 40], soon), Err(Error::Timeout)));
        let loan = tx.loan(40).unwrap();
        let unsent = tx.try_send_loan(&MsgDescHot::data(number), loan).unwrap_err();
        let unsent = tx.send_loan_deadline(&MsgDescHot::data(number), unsent.loan.unwrap(), soon).unwrap_err();
        drop(unsent);
    }
    while b.split().1.try_recv().is_ok() {}
    assert_nothing_leaked(&a);
    a.split().0.send(&MsgDescHot::data(9), &[9; 40]).unwrap();
    assert_eq!(b.split().1.recv().unwrap().payload(), [9; 40]);
}

/// Sends and receives as fast as it can, in every way there is, until it is killed.
#[test]
fn busybody() {
    if part("busybody").is_none() {
        return;
    }
    let mut session = ShmSession::inherited().unwrap();
    let (tx, rx) = session.split();
    let mut held = Vec::new();
    for number in 0_u64.. {
        match number % 4 {
            0 => drop(tx.try_send(&MsgDescHot::data(number), b"inline")),
            1 => drop(tx.try_send(&MsgDescHot::data(number), &[1; 40])),
            2 => {
                if let Ok(mut loan) = tx.try_loan(64) {
                    loan.fill(2);
                    drop(tx.try_send_loan(&MsgDescHot::data(number), loan));
                }
            }
            _ => drop(tx.try_loan(8)),
        }
        match rx.try_recv() {
            Ok(message) if held.len() < 2 => held.push(message),
            Ok(_) => held.clear(),
            Err(Error::Empty) => {}
            Err(_) => break,
        }
    }
}

/// T3. The survivor works on while its peer is killed, and with the next one after that.
#[test]
fn killed_at_random_under_load_nothing_leaks_and_the_survivor_works_on() {
    let mut session = ShmSession::create(CONFIG).unwrap();
    let mut random = fastrand::Rng::with_seed(u64::from(std::process::id()));
    for kill in 0..times("RAPACE_SHM_RANDOM_KILLS", 60) {
        let mut child = Second::with(&session, "busybody", "");
        let (tx, rx) = session.split();
        let mut struck = None;
        let mut received = 0_u64;
        let died = loop {
            match rx.try_recv() {
                Ok(message) => {
                    received += 1;
                    let payload = message.payload();
                    assert!(payload == b"inline" || payload.iter().all(|byte| *byte == payload[0]), "{payload:?}");
                }
                Err(Error::Empty) => {}
                Err(error) => break error,
            }
            let _ = tx.try_send(&MsgDescHot::data(received), &[3; 40]);
            // As soon as it is in full swing, and then at any moment.
            if received > 50 && struck.is_none() && random.u32(..200) == 0 {
                child.strike();
                struck = Some(Instant::now());
            }
        };
        assert!(matches!(died, Error::PeerDied), "kill {kill}: {died}");
        assert!(struck.is_some_and(|struck| struck.elapsed() < Duration::from_secs(5)));
        session.reset().unwrap();
        assert_nothing_leaked(&session);
    }
}
