//! This project: a session on a memfd that the second process inherits.

use rapace_shm::{
    INLINE_PAYLOAD_SIZE, Message, MsgDescHot, Receiver, Sender, SessionOptions, ShmSession, ShmSessionConfig, Spin,
};

use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, Work};

/// See the module.
#[derive(Debug)]
pub struct Ours;

/// Both halves.
#[derive(Debug)]
pub struct Ends {
    tx: Sender,
    rx: Receiver,
}

impl From<ShmSession> for Ends {
    fn from(session: ShmSession) -> Self {
        let (tx, rx) = session.into_split();
        Self { tx, rx }
    }
}

/// Round trips spin unless they are to sleep; one-way traffic takes the default: a short look, then sleep.
pub fn spin(row: Row) -> Spin {
    match row {
        Row::Asleep => Spin::none(),
        row if row.is_one_way() => Spin::default(),
        _ => Spin::tries(100_000_000),
    }
}

fn options(row: Row) -> SessionOptions {
    SessionOptions::new().spin(spin(row))
}

/// A session on a memfd, and the second process that inherits it.
pub fn start_session(contestant: usize, row: Row, plan: &Plan) -> (ShmSession, Second) {
    let config = ShmSessionConfig {
        ring_capacity: row.depth(),
        slot_size: u32::try_from(row.wire().max(64)).expect("at most a mebibyte"),
        slot_count: row.depth(),
    };
    let session = options(row).create(config).expect("a session on a memfd");
    let mut command = Job::new(contestant, row, plan, "").command();
    let second = Second::of(session.spawn(&mut command).expect("this program runs once more, and inherits it"));
    (session, second)
}

impl Contestant for Ours {
    type Link = Ends;

    fn part(row: Row) -> Part {
        if row.len() > INLINE_PAYLOAD_SIZE { Part::InPlace } else { Part::Plain }
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (Ends, Second) {
        let (session, second) = start_session(contestant, row, plan);
        (session.into(), second)
    }

    fn second(job: &Job) -> Ends {
        options(job.row()).inherited().expect("passed by the first process").into()
    }
}

impl Link for Ends {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        let descriptor = MsgDescHot::data(number);
        if W::LEN <= INLINE_PAYLOAD_SIZE {
            let payload = number.to_le_bytes();
            return self.tx.send(&descriptor, &payload[..W::LEN]).expect("sent");
        }
        let mut loan = self.tx.loan(W::LEN).expect("a slot");
        W::write(&mut loan, number);
        self.tx.send_loan(&descriptor, loan).expect("sent");
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let message: Message = self.rx.recv().expect("received");
        let number = message.descriptor().msg_id;
        if W::LEN > 0 {
            assert_eq!(W::read(message.payload()), number, "number in the payload");
        }
        number
    }
}
