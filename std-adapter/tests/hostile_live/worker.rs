//! Both peers of a session into which somebody writes rubbish, and a session into which nobody does.

use std::io::stdin;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rapace_shm::{Error, Loan, MsgDescHot, Payload, ShmBytes, ShmSession, ShmSessionConfig};

use crate::common::{eventually, mappings, open_descriptors};
use crate::shape;

/// How long the peers of a trial work, unless one of them ends before.
const WORK: Duration = Duration::from_millis(20);

/// How long a call waits. The peer's wake-up may have been lost to the rubbish.
const WAIT: Duration = Duration::from_millis(2);

/// All trials, one after the other.
pub fn run(trials: std::ops::Range<u32>) {
    let mut healthy = ShmSession::pair(ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 }).unwrap();
    let before = open_descriptors();
    for trial in trials {
        run_one(trial, &mut healthy);
    }
    // The watcher of peers' processes, which rubbish may have started, keeps its bell.
    eventually("everything is closed", || open_descriptors() <= before + 1 && mappings() == 0);
}

fn run_one(trial: u32, healthy: &mut (ShmSession, ShmSession)) {
    let a = ShmSession::create(shape(trial)).unwrap();
    let b = ShmSession::attach(a.memfd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    println!("\ntrial {}", a.memfd().unwrap().as_raw_fd());
    let mut go = String::new();
    stdin().read_line(&mut go).unwrap();
    let until = Instant::now() + WORK;
    let over = AtomicBool::new(false);
    let (a, b) = std::thread::scope(|scope| {
        let peer = |session, seed: u32| scope.spawn(move || Peer::new(session, seed).work(until));
        let (a, b) = (peer(a, trial), peer(b, !trial));
        let bystander = scope.spawn(|| exchange(healthy, &over));
        // Before anything else, so that a panic of one ends the others.
        let ends = (a.join(), b.join());
        over.store(true, Ordering::Relaxed);
        bystander.join().unwrap();
        (ends.0.unwrap(), ends.1.unwrap())
    });
    println!("\nover {a} {b}");
}

/// Messages of the healthy session, until the others are over; and at least one.
fn exchange((a, b): &mut (ShmSession, ShmSession), over: &AtomicBool) {
    for number in 0.. {
        let byte = u64::to_le_bytes(number)[0];
        a.split().0.send(&MsgDescHot::data(number), &[byte; 40]).unwrap();
        let message = b.split().1.recv().unwrap();
        assert_eq!((message.descriptor().msg_id, message.payload()), (number, &[byte; 40][..]));
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// One peer, with what it holds.
struct Peer {
    session: ShmSession,
    loans: Vec<Loan>,
    payloads: Vec<Payload>,
    /// Sent, and read on.
    kept: Vec<ShmBytes>,
    rng: Rng,
}

impl Peer {
    fn new(session: ShmSession, seed: u32) -> Self {
        Self { session, loans: Vec::new(), payloads: Vec::new(), kept: Vec::new(), rng: Rng::with_seed(seed.into()) }
    }

    /// Works until then, or until an error says that it is over: which one.
    fn work(mut self, until: Instant) -> &'static str {
        while Instant::now() < until {
            match self.call() {
                Ok(()) | Err(Error::Full | Error::Empty | Error::Timeout) => {}
                Err(Error::PeerFault(fault)) => {
                    self.assert_closed_by(&fault.to_string());
                    return "PeerFault";
                }
                Err(Error::Closed) => return "Closed",
                Err(Error::PeerDied) => return "PeerDied",
                Err(error) => panic!("an error that rubbish cannot explain: {error}"),
            }
        }
        "lasted"
    }

    fn call(&mut self) -> Result<(), Error> {
        let max = self.session.config().slot_size as usize;
        let bytes = vec![7; self.rng.usize(..=max)];
        let deadline = Instant::now() + WAIT;
        let (tx, rx) = self.session.split();
        let descriptor = MsgDescHot::data(self.rng.u64(..));
        match self.rng.u8(..11) {
            0 | 1 => tx.send_deadline(&descriptor, &bytes, deadline)?,
            2 => tx.try_send(&descriptor, &bytes)?,
            3 => {
                let mut loan = tx.try_loan(bytes.len())?;
                loan.copy_from_slice(&bytes);
                self.loans.push(loan);
            }
            4 => {
                if let Some(loan) = self.loans.pop() {
                    tx.try_send_loan(&descriptor, loan)?;
                }
            }
            5..8 => {
                let message = if self.rng.bool() { rx.try_recv()? } else { rx.recv_deadline(deadline)? };
                assert!(message.len() <= max.max(16) && message.payload().len() == message.len());
                std::hint::black_box(message.payload().iter().fold(0, |sum, byte| sum ^ byte));
                if self.rng.bool() {
                    self.payloads.push(message.into_payload());
                }
            }
            8 => drop((self.payloads.pop(), self.loans.pop(), self.kept.pop())),
            9 => {
                self.kept.extend(self.loans.pop().map(ShmBytes::from));
                if let Some(kept) = self.kept.last() {
                    std::hint::black_box(kept.iter().fold(0, |sum, byte| sum ^ byte));
                    tx.try_send_bytes(&descriptor, kept)?;
                }
            }
            _ => {
                let slots = self.session.status().slots;
                assert!(slots.free_list_len <= slots.total && slots.total == self.session.config().slot_count);
            }
        }
        Ok(())
    }

    /// A fault is for good, until a reset; and that answers, too.
    fn assert_closed_by(&mut self, fault: &str) {
        assert!(!fault.is_empty());
        let (tx, rx) = self.session.split();
        let sent = tx.try_send(&MsgDescHot::data(0), b"after a fault").unwrap_err();
        assert!(matches!(sent, Error::PeerFault(_) | Error::Closed), "{sent}");
        let received = rx.try_recv().map(drop).unwrap_err();
        assert!(matches!(received, Error::PeerFault(_) | Error::Closed), "{received}");
        match self.session.reset() {
            Ok(_) | Err(Error::PeerAlive | Error::PeerFault(_) | Error::Link(_)) => {}
            Err(error) => panic!("an error that rubbish cannot explain: {error}"),
        }
    }
}
