//! Round trips between two processes, both sides spinning, and between two that sleep in between.

use std::process::{Child, Command};

use rapace_shm::{MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig, Spin};

use crate::floor;
use crate::measure::{Plan, Row, Unit, compare, median_batch};

const SECOND_PROCESS: &str = "RAPACE_SHM_BENCH_SPIN";

/// Whether this process was started by [`Echo::start`].
pub fn is_second_process() -> bool {
    std::env::var_os(SECOND_PROCESS).is_some()
}

/// Answers every message with one of the same size, written in place, until the other side closes.
pub fn second_process() {
    let tries = std::env::var(SECOND_PROCESS).expect("set by the first process").parse().expect("a number");
    let session = SessionOptions::new().spin(Spin::tries(tries)).inherited().expect("passed by the first process");
    let (mut tx, mut rx) = session.into_split();
    while let Ok(message) = rx.recv() {
        reply(&mut tx, message.len(), message.descriptor().msg_id);
    }
}

fn reply(tx: &mut rapace_shm::Sender, len: usize, number: u64) {
    let descriptor = MsgDescHot::data(number);
    if len <= rapace_shm::INLINE_PAYLOAD_SIZE {
        return tx.send(&descriptor, &number.to_le_bytes()[..len.min(8)]).expect("sent");
    }
    let mut loan = tx.loan(len).expect("slot");
    loan[..8].copy_from_slice(&number.to_le_bytes());
    loan[len - 1] = number.to_le_bytes()[0];
    tx.send_loan(&descriptor, loan).expect("sent");
}

/// A session with a second process that echoes.
struct Echo {
    session: ShmSession,
    child: Child,
}

impl Echo {
    fn start(spin: u32, slot_size: u32) -> Self {
        let config = ShmSessionConfig { slot_size, slot_count: 8, ring_capacity: 4 };
        let session = SessionOptions::new().spin(Spin::tries(spin)).create(config).expect("session");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(SECOND_PROCESS, spin.to_string());
        let child = session.spawn(&mut command).expect("started");
        Self { session, child }
    }

    fn round_trips(&mut self, plan: &Plan, len: usize) -> f64 {
        let (tx, rx) = self.session.split();
        let mut number = 0;
        median_batch(plan, || {
            number += 1;
            reply(tx, len, number);
            let message = rx.recv().expect("answer");
            assert_eq!((message.descriptor().msg_id, message.len()), (number, len));
            if len > rapace_shm::INLINE_PAYLOAD_SIZE {
                assert_eq!(message.payload()[len - 1], number.to_le_bytes()[0]);
            }
        })
    }

    fn stop(mut self) {
        self.session.split().0.close();
        assert!(self.child.wait().expect("child").success());
    }
}

/// One sample, with a second process of its own: left running, it would spin beside the floor and the probes.
fn echoes(spin: u32, plan: &Plan, len: usize) -> f64 {
    let mut echo = Echo::start(spin, u32::try_from(len).expect("small").max(64));
    let time = echo.round_trips(plan, len);
    echo.stop();
    time
}

/// Never sleeps within a benchmark.
const ALWAYS: u32 = 100_000_000;

pub fn run(plan: &Plan) {
    let plan = &plan.slower(8);
    for (what, len, goal) in [
        ("round trip, inline, two processes", 8, "<= 1.3 x floor"),
        ("round trip, slot of 64 B in place", 64, "<= 2 x floor, flat"),
        ("round trip, slot of 4 KiB in place", 4096, "<= 2 x floor, flat"),
        ("round trip, slot of 1 MiB in place", 1 << 20, "<= 2 x floor, flat"),
        ("round trip, slot of 16 MiB in place", 16 << 20, "<= 2 x floor, flat"),
    ] {
        let row = Row { what, goal, unit: Unit::Time };
        compare(plan, &row, || echoes(ALWAYS, plan, len), || floor::round_trip(plan));
    }
}

pub fn asleep(plan: &Plan) {
    let plan = &plan.slower(64);
    let row =
        Row { what: "asleep: round trip, inline, two processes", goal: "<= 1.2 x futex ping-pong", unit: Unit::Time };
    compare(plan, &row, || echoes(0, plan, 8), || floor::futex_round_trip(plan));
}
