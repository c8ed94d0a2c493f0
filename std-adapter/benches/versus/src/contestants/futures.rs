//! This project in futures, on async-io's executor: the same session as [`ours`](super::ours), awaited.
//!
//! Each call is polled directly first, as the published transport's are, and blocked on only if it has to wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use async_io::block_on;
use rapace_shm::{INLINE_PAYLOAD_SIZE, MsgDescHot, ShmSession};
use rapace_shm_async::{ShmTransport, TransportOptions};

use super::ours::{Ours, spin, start_session};
use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, Work};

/// See the module.
#[derive(Debug)]
pub struct Futures;

/// One end.
#[derive(Debug)]
pub struct End(ShmTransport);

impl End {
    fn new(session: ShmSession, row: Row) -> Self {
        Self(TransportOptions::new().spin(spin(row)).over(session).expect("a transport"))
    }
}

/// The value of a future: at once if it is ready, else when the executor says so.
#[inline]
fn complete<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => block_on(future),
    }
}

impl Contestant for Futures {
    type Link = End;

    fn part(row: Row) -> Part {
        Ours::part(row)
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (End, Second) {
        let (session, second) = start_session(contestant, row, plan);
        (End::new(session, row), second)
    }

    fn second(job: &Job) -> End {
        End::new(ShmSession::inherited().expect("passed by the first process"), job.row())
    }
}

impl Link for End {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        let descriptor = MsgDescHot::data(number);
        if W::LEN <= INLINE_PAYLOAD_SIZE {
            let payload = number.to_le_bytes();
            return complete(self.0.send(&descriptor, &payload[..W::LEN])).expect("sent");
        }
        let mut loan = complete(self.0.loan(W::LEN)).expect("a slot");
        W::write(&mut loan, number);
        complete(self.0.send_loan(&descriptor, loan)).expect("sent");
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let message = complete(self.0.recv()).expect("received");
        let number = message.descriptor().msg_id;
        if W::LEN > 0 {
            assert_eq!(W::read(message.payload()), number, "number in the payload");
        }
        number
    }
}
