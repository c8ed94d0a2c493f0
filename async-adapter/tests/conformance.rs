//! The conformance scenario on every runtime: two threads with doorbells and without, and two processes.
//!
//! Seen to fail: a loan that is sent and not published, and a helper that does not wake its task, hang it.

mod common;
#[path = "../../core/tests/common/scenario.rs"]
mod scenario;

use std::process::Command;

use common::{On, Runtime, assert_no_slot_in_use};
use futures::SinkExt;
use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};
use rapace_shm_async::{ShmTransport, TransportOptions};
use scenario::{Peer, flood, talk};

struct OnRuntime<'a>(&'a Runtime, ShmTransport);

impl Peer for OnRuntime<'_> {
    fn max_payload(&self) -> usize {
        self.1.max_payload()
    }

    fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        self.0.block_on(self.1.send(descriptor, payload)).unwrap();
    }

    fn send_in_place(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        self.0.block_on(async {
            let mut loan = self.1.loan(self.1.max_payload()).await.unwrap();
            loan.truncate(payload.len());
            loan.copy_from_slice(payload);
            self.1.send_loan(descriptor, loan).await.unwrap();
        });
    }

    fn send_batch(&mut self, messages: &[(MsgDescHot, Vec<u8>)]) {
        let mut sink = self.1.sender().into_sink();
        self.0.block_on(async {
            for message in messages {
                sink.feed(message.clone().into()).await.unwrap();
            }
            sink.flush().await.unwrap();
        });
    }

    fn recv(&mut self) -> Option<(MsgDescHot, Vec<u8>)> {
        match self.0.block_on(self.1.recv()) {
            Ok(message) => Some((*message.descriptor(), message.payload().to_vec())),
            Err(Error::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn close(&mut self) {
        self.1.close();
    }
}

const FLOOD: u64 = 300;
const ROUNDS: u64 = 60;

fn shapes() -> [ShmSessionConfig; 3] {
    [
        ShmSessionConfig { ring_capacity: 1, slot_size: 32, slot_count: 1 },
        ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 },
        ShmSessionConfig::default(),
    ]
}

fn run(on: On, options: TransportOptions, session: ShmSession, is_a: bool) -> ShmSession {
    let runtime = on.start();
    let transport = runtime.block_on(async { options.over(session) }).unwrap();
    let mut peer = OnRuntime(&runtime, transport);
    flood(&mut peer, is_a, FLOOD);
    talk(&mut peer, is_a, ROUNDS);
    peer.1.into_session().unwrap()
}

fn understand_each_other(on: On, doorbells: bool) {
    for spin in [Spin::default(), Spin::none()] {
        for config in shapes() {
            let options = on.options().spin(spin);
            let (a, b) = SessionOptions::new().doorbells(doorbells).pair(config).unwrap();
            let other = std::thread::spawn(move || run(on, options, b, false));
            let a = run(on, options, a, true);
            drop(other.join().unwrap());
            assert_no_slot_in_use(&a);
        }
    }
}

#[test]
fn two_threads_understand_each_other_on_every_runtime() {
    for on in On::ALL {
        understand_each_other(*on, true);
    }
}

#[test]
fn without_doorbells_they_do_as_well() {
    for on in [On::AsyncIo, On::TokioCurrentThread] {
        understand_each_other(on, false);
    }
}

/// An async peer and a blocking one are the same thing to each other.
#[test]
fn two_processes_understand_each_other_on_every_runtime() {
    for (number, on) in On::ALL.iter().enumerate() {
        let session = ShmSession::create(shapes()[number % 3]).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "child_of_two_processes", "--nocapture"])
            .env("RAPACE_SHM_TEST_ON", number.to_string());
        let mut child = session.spawn(&mut command).unwrap();
        assert_no_slot_in_use(&run(*on, on.options(), session, true));
        assert!(child.wait().unwrap().success());
    }
}

/// The second process of `two_processes_understand_each_other_on_every_runtime`; does nothing when it is run as a test.
#[test]
fn child_of_two_processes() {
    let Ok(number) = std::env::var("RAPACE_SHM_TEST_ON") else { return };
    let on = On::ALL[number.parse::<usize>().unwrap()];
    drop(run(on, on.options(), ShmSession::inherited().unwrap(), false));
}
