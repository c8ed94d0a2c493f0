//! The conformance scenario on a real mapping: two threads, and two processes.

#[path = "../../core/tests/common/scenario.rs"]
mod scenario;

use std::process::Command;

use rapace_shm::core::layout::calculate_segment_size;
use rapace_shm::{Error, MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};
use scenario::{Peer, flood, talk};

struct Blocking(ShmSession);

impl Peer for Blocking {
    fn max_payload(&self) -> usize {
        self.0.config().slot_size as usize
    }

    fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        self.0.split().0.send(descriptor, payload).unwrap();
    }

    fn send_in_place(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        let max = self.max_payload();
        let (sender, _) = self.0.split();
        let mut loan = sender.loan(max).unwrap();
        loan.truncate(payload.len());
        loan.copy_from_slice(payload);
        sender.send_loan(descriptor, loan).unwrap();
    }

    fn send_batch(&mut self, messages: &[(MsgDescHot, Vec<u8>)]) {
        let messages = messages.iter().map(|(descriptor, payload)| (descriptor, payload.as_slice()));
        self.0.split().0.send_batch(messages).unwrap();
    }

    fn recv(&mut self) -> Option<(MsgDescHot, Vec<u8>)> {
        match self.0.split().1.recv() {
            Ok(message) => Some((*message.descriptor(), message.payload().to_vec())),
            Err(Error::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn close(&mut self) {
        self.0.split().0.close();
    }
}

const FLOOD: u64 = 4_000;
const ROUNDS: u64 = 700;

fn shapes() -> [ShmSessionConfig; 3] {
    [
        ShmSessionConfig { ring_capacity: 1, slot_size: 32, slot_count: 1 },
        ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 },
        ShmSessionConfig::default(),
    ]
}

fn run(session: ShmSession, is_a: bool) -> ShmSession {
    let mut peer = Blocking(session);
    flood(&mut peer, is_a, FLOOD);
    talk(&mut peer, is_a, ROUNDS);
    peer.0
}

fn assert_nothing_leaked(session: ShmSession) {
    let slots = session.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "{slots}");
}

#[test]
fn two_threads_over_a_mapping_understand_each_other() {
    for membarrier in [true, false] {
        for spin in [Spin::default(), Spin::none()] {
            for config in shapes() {
                let options = SessionOptions::new().membarrier(membarrier).spin(spin);
                let (a, b) = options.pair(config).unwrap();
                let other = std::thread::spawn(move || run(b, false));
                assert_nothing_leaked(run(a, true));
                drop(other.join().unwrap());
            }
        }
    }
}

/// One side that may call membarrier beside one that may not.
#[test]
fn a_peer_with_fences_understands_one_with_membarrier() {
    let a = SessionOptions::new().spin(Spin::none()).create(shapes()[1]).unwrap();
    let file = a.memfd().unwrap().try_clone_to_owned().unwrap();
    let b = SessionOptions::new().spin(Spin::none()).membarrier(false).attach(file).unwrap();
    let other = std::thread::spawn(move || run(b, false));
    assert_nothing_leaked(run(a, true));
    drop(other.join().unwrap());
}

#[test]
fn two_processes_understand_each_other() {
    for config in shapes() {
        let session = ShmSession::create(config).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_of_two_processes", "--nocapture"]).env("RAPACE_SHM_TEST_CHILD", "1");
        let mut child = session.spawn(&mut command).unwrap();
        assert_nothing_leaked(run(session, true));
        assert!(child.wait().unwrap().success());
    }
}

/// The second process of `two_processes_understand_each_other`; does nothing when it is run as a test.
#[test]
fn child_of_two_processes() {
    if std::env::var_os("RAPACE_SHM_TEST_CHILD").is_none() {
        return;
    }
    drop(run(ShmSession::inherited().unwrap(), false));
}

#[test]
fn a_memfd_can_be_attached_once_and_says_its_shape() {
    let config = ShmSessionConfig { ring_capacity: 8, slot_size: 128, slot_count: 5 };
    let mut a = ShmSession::create(config).unwrap();
    let memfd = a.memfd().unwrap();
    let mut b = ShmSession::attach(memfd.try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(b.config(), config);
    let third = ShmSession::attach(memfd.try_clone_to_owned().unwrap()).unwrap_err();
    assert!(matches!(third, Error::Link(_)), "{third}");
    a.split().0.send(&MsgDescHot::data(1), b"after all that").unwrap();
    assert_eq!(b.split().1.recv().unwrap().payload(), b"after all that");
}

#[test]
fn a_session_above_the_limit_is_refused_with_both_sizes() {
    let config = ShmSessionConfig { slot_size: 1 << 30, slot_count: 4, ..ShmSessionConfig::default() };
    let size = calculate_segment_size(&config).unwrap();
    for refused in [ShmSession::create(config).map(drop), ShmSession::pair(config).map(drop)] {
        match refused.unwrap_err() {
            Error::LimitExceeded { size: seen, .. } => assert_eq!(seen, size),
            other => panic!("{other}"),
        }
    }
}
