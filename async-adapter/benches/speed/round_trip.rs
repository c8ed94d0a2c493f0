//! Round trips between two processes, each on its executor: both looking all the time, and both asleep in between.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig, Spin};
use rapace_shm_async::ShmTransport;
use rustix::event::{EventfdFlags, eventfd};

use crate::estimate::{median, nanoseconds};
use crate::floor;
use crate::measure::{Plan, Row, Unit, compare};
use crate::second::{Bell, Executor, What, order, ring};

/// Never sleeps within a benchmark.
pub const ALWAYS: u32 = 100_000_000;

/// Nanoseconds per operation, the median batch, with the clock read between batches.
pub async fn median_batch(plan: &Plan, mut operation: impl AsyncFnMut()) -> f64 {
    let mut batches = Vec::with_capacity(plan.count);
    for _ in 0..plan.count {
        let start = std::time::Instant::now();
        for _ in 0..plan.batch {
            operation().await;
        }
        batches.push(nanoseconds(start.elapsed()) / plan.batch as f64);
    }
    median(&mut batches)
}

/// A session with a second process that echoes on the same executor.
struct Echo {
    session: Option<ShmSession>,
    child: Child,
    executor: Executor,
    tries: u32,
}

impl Echo {
    fn start(executor: Executor, tries: u32) -> Self {
        let config = ShmSessionConfig { slot_size: 4096, slot_count: 8, ring_capacity: 8 };
        let session = ShmSession::create(config).expect("session");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.envs([order(executor, &What::Messages { tries })]);
        let child = session.spawn(&mut command).expect("started");
        Self { session: Some(session), child, executor, tries }
    }

    fn round_trips(&mut self, plan: &Plan, len: usize) -> f64 {
        let options = self.executor.options().spin(Spin::tries(self.tries));
        let session = self.session.take().expect("in between");
        let (time, session) = self.executor.block_on(async {
            let transport = options.over(session).expect("transport");
            let time = round_trips(plan, &transport, len).await;
            (time, transport.into_session().expect("the only handle"))
        });
        self.session = Some(session);
        time
    }

    /// System calls of this side so far, the reactor's aside.
    fn calls(&self) -> u64 {
        self.session.as_ref().expect("in between").system_calls().total()
    }

    fn stop(mut self) {
        self.session.take();
        assert!(self.child.wait().expect("child").success());
    }
}

async fn round_trips(plan: &Plan, transport: &ShmTransport, len: usize) -> f64 {
    let mut number = 0_u64;
    let payload = vec![7; len];
    median_batch(plan, async || {
        number += 1;
        transport.send(&MsgDescHot::data(number), &payload).await.expect("sent");
        let message = transport.recv().await.expect("answer");
        assert_eq!((message.descriptor().msg_id, message.payload()), (number, &payload[..]));
    })
    .await
}

pub fn busy(plan: &Plan) {
    let plan = &plan.slower(8);
    for executor in Executor::ALL {
        let mut echo = Echo::start(*executor, ALWAYS);
        for (size, len) in [("inline", 8), ("1 KiB", 1024)] {
            let what = &format!("busy: round trip, {size}, {}", executor.name());
            let row = Row { what, goal: "<= 5 x floor (inline)", unit: Unit::Time };
            compare(plan, &row, || echo.round_trips(plan, len), || floor::round_trip(plan));
        }
        echo.stop();
    }
}

/// Two eventfds, and a second process that answers.
struct Eventfds {
    there: OwnedFd,
    back: OwnedFd,
    child: Child,
    executor: Executor,
}

impl Eventfds {
    fn start(executor: Executor) -> Self {
        let new = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd");
        let clone = |eventfd: &OwnedFd| Stdio::from(eventfd.try_clone().expect("descriptor"));
        let (there, back) = (new(), new());
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.envs([order(executor, &What::Eventfd)]).stdin(clone(&there)).stdout(clone(&back));
        Self { there, back, child: command.spawn().expect("started"), executor }
    }

    fn round_trips(&self, plan: &Plan) -> f64 {
        self.executor.block_on(async {
            let back = Bell::new(self.executor, self.back.try_clone().expect("descriptor"));
            median_batch(plan, async || {
                ring(&self.there);
                back.wait().await;
            })
            .await
        })
    }
}

impl Drop for Eventfds {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn asleep(plan: &Plan) {
    let plan = &plan.slower(64);
    for executor in Executor::ALL {
        let mut echo = Echo::start(*executor, 0);
        let eventfds = Eventfds::start(*executor);
        let what = &format!("asleep: round trip, inline, {}", executor.name());
        let row = Row { what, goal: "<= 1.3 x eventfd ping-pong there", unit: Unit::Time };
        compare(plan, &row, || echo.round_trips(plan, 8), || eventfds.round_trips(plan));
        echo.stop();
    }
}

/// Exact, so it is printed without a ratio.
pub fn system_calls(plan: &Plan) {
    for executor in Executor::ALL {
        let mut echo = Echo::start(*executor, ALWAYS);
        echo.round_trips(plan, 8);
        let before = echo.calls();
        echo.round_trips(plan, 8);
        let per_million = (echo.calls() - before) * 1_000_000 / plan.total();
        let what = format!("calls of the system per million, {}", executor.name());
        println!("{what:<44} {per_million:>12} {:>12} {:>7}   <= 100", "", "");
        echo.stop();
    }
}
