//! The conformance scenario over heap memory: two threads that poll, and no operating system.

mod common;
#[path = "common/scenario.rs"]
mod scenario;

use common::{HeapEndpoint, HeapLink, leaked};
use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
use rapace_shm_core::link::RecvError;
use rapace_shm_core::wake::Step;
use scenario::{Peer, flood, talk};

struct Polling(HeapLink);

/// Repeats a step until it is ready.
fn ready<T, E: std::fmt::Debug>(mut step: impl FnMut() -> Result<Step<T>, E>) -> T {
    loop {
        match step().unwrap() {
            Step::Ready(value) => return value,
            Step::Sleep(_) => std::thread::yield_now(),
        }
    }
}

impl Peer for Polling {
    fn max_payload(&self) -> usize {
        self.0.session().config().slot_size as usize
    }

    fn send(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        ready(|| self.0.split().0.poll_send(descriptor, payload));
    }

    fn send_in_place(&mut self, descriptor: &MsgDescHot, payload: &[u8]) {
        let max = self.max_payload();
        let mut loan: rapace_shm_core::link::Loan<HeapEndpoint> = ready(|| self.0.split().0.poll_loan(max));
        loan.truncate(payload.len());
        loan.copy_from_slice(payload);
        let mut loan = Some(loan);
        ready(|| self.0.split().0.poll_send_loan(descriptor, &mut loan));
        assert!(loan.is_none());
    }

    fn send_batch(&mut self, messages: &[(MsgDescHot, Vec<u8>)]) {
        let (sender, _) = self.0.split();
        for (descriptor, payload) in messages {
            if sender.feed(descriptor, payload).is_err() {
                ready(|| sender.poll_send(descriptor, payload));
            }
        }
        sender.flush();
    }

    fn recv(&mut self) -> Option<(MsgDescHot, Vec<u8>)> {
        loop {
            match self.0.split().1.poll_recv() {
                Ok(Step::Ready(message)) => return Some((*message.descriptor(), message.payload().to_vec())),
                Ok(Step::Sleep(_)) => std::thread::yield_now(),
                Err(RecvError::Closed) => return None,
                Err(fault) => panic!("{fault}"),
            }
        }
    }

    fn close(&mut self) {
        self.0.split().0.close();
    }
}

#[test]
fn two_threads_over_heap_memory_understand_each_other() {
    for config in [
        ShmSessionConfig { ring_capacity: 1, slot_size: 32, slot_count: 1 },
        ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 3 },
        ShmSessionConfig::default(),
    ] {
        let (a, b) = common::pair(config);
        let (mut a, mut b) = (Polling(a), Polling(b));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                flood(&mut b, false, 5000);
                talk(&mut b, false, 700);
            });
            flood(&mut a, true, 5000);
            talk(&mut a, true, 700);
        });
        assert_eq!(leaked(&a.0), 0, "{config:?}");
    }
}
