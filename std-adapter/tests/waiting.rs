//! What the calls that wait promise: deadlines, backpressure, close, and no lost wake-up.

use std::time::{Duration, Instant};

use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};

const TIGHT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 64, slot_count: 1 };

fn pair() -> (ShmSession, ShmSession) {
    SessionOptions::new().spin(Spin::none()).pair(TIGHT).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(30)
}

#[test]
fn a_receive_ends_at_its_deadline_and_the_next_one_receives() {
    let (mut a, mut b) = pair();
    let deadline = soon();
    assert!(matches!(b.split().1.recv_deadline(deadline), Err(Error::Timeout)));
    assert!(Instant::now() >= deadline);
    assert!(matches!(b.split().1.try_recv(), Err(Error::Empty)));
    a.split().0.send(&MsgDescHot::data(1), b"late").unwrap();
    assert_eq!(b.split().1.recv_deadline(soon()).unwrap().payload(), b"late");
}

#[test]
fn a_send_ends_at_its_deadline_for_want_of_space_or_of_a_slot() {
    let (mut a, mut b) = pair();
    let (tx, _) = a.split();
    let loan = tx.loan(64).unwrap();
    assert!(matches!(tx.loan_deadline(64, soon()), Err(Error::Timeout)));
    assert!(matches!(tx.send_deadline(&MsgDescHot::data(1), &[0; 20], soon()), Err(Error::Timeout)));
    assert!(matches!(tx.try_send(&MsgDescHot::data(1), &[0; 20]), Err(Error::Full)));
    for number in 0..2 {
        tx.send(&MsgDescHot::data(number), b"").unwrap();
    }
    assert!(matches!(tx.send_deadline(&MsgDescHot::data(2), b"", soon()), Err(Error::Timeout)));
    let unsent = tx.send_loan_deadline(&MsgDescHot::data(2), loan, soon()).unwrap_err();
    assert!(matches!(unsent.error, Error::Timeout));
    drop(b.split().1.recv().unwrap());
    tx.send_loan(&MsgDescHot::data(2), unsent.loan.unwrap()).unwrap();
}

#[test]
fn a_sender_that_waits_is_woken_by_space_by_a_slot_and_by_the_end() {
    let (a, b) = pair();
    let (mut tx, _a_rx) = a.into_split();
    let (_b_tx, mut rx) = b.into_split();
    let sender = std::thread::spawn(move || {
        for number in 0..1000 {
            let payload: &[u8] = if number % 2 == 0 { b"" } else { &[1; 64] };
            tx.send(&MsgDescHot::data(number), payload).unwrap();
        }
        // Nobody receives these; the end of the receiver ends the wait.
        loop {
            match tx.send(&MsgDescHot::data(0), &[1; 64]) {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    });
    for number in 0..1000 {
        assert_eq!(rx.recv().unwrap().descriptor().msg_id, number);
    }
    std::thread::sleep(Duration::from_millis(20));
    drop(rx);
    assert!(matches!(sender.join().unwrap(), Error::Closed));
}

#[test]
fn a_receiver_that_sleeps_sees_the_end() {
    let (a, b) = pair();
    let (_b_tx, mut rx) = b.into_split();
    let receiver = std::thread::spawn(move || rx.iter().map(|message| message.unwrap().len()).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_millis(20));
    let (mut tx, _a_rx) = a.into_split();
    tx.send(&MsgDescHot::data(1), &[1; 33]).unwrap();
    drop(tx);
    assert_eq!(receiver.join().unwrap(), [33]);
}

/// Without a time-out anywhere, one lost wake-up would hang it.
#[test]
fn two_hundred_thousand_echoes_between_sleepers_never_hang() {
    for membarrier in [true, false] {
        let options = SessionOptions::new().spin(Spin::tries(20)).membarrier(membarrier);
        let (a, b) = options.pair(TIGHT).unwrap();
        let (mut a_tx, mut a_rx) = a.into_split();
        let (mut b_tx, mut b_rx) = b.into_split();
        let echo = std::thread::spawn(move || {
            for message in b_rx.iter() {
                b_tx.send(message.unwrap().descriptor(), b"").unwrap();
            }
        });
        for number in 0..100_000 {
            a_tx.send(&MsgDescHot::data(number), b"").unwrap();
            assert_eq!(a_rx.recv().unwrap().descriptor().msg_id, number);
        }
        a_tx.close();
        echo.join().unwrap();
    }
}
