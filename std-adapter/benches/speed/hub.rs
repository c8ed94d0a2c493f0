//! A hub: the same work as a session's, and what it costs that there are others.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rapace_shm::{
    Heard, HubConfig, HubHost, HubOptions, HubPeer, INLINE_PAYLOAD_SIZE, MsgDescHot, PeerId, Spin, Waits,
};

use crate::floor;
use crate::measure::{Plan, Row, Unit, compare, median_batch};
use crate::slots::cycle;

const PLUGIN: &str = "RAPACE_SHM_BENCH_PLUGIN";

/// Never sleeps within a benchmark.
const ALWAYS: Spin = Spin::tries(100_000_000);

/// Whether this process was started as a plugin.
pub fn is_plugin() -> bool {
    std::env::var_os(PLUGIN).is_some()
}

/// Answers every message with one of the same size, written in place, until the host closes.
pub fn plugin() {
    let mut plugin = HubOptions::new().spin(ALWAYS).inherited().expect("passed by the host");
    let (tx, rx) = plugin.split();
    while let Ok(message) = rx.recv() {
        let (len, descriptor) = (message.len(), MsgDescHot::data(message.descriptor().msg_id));
        if len <= INLINE_PAYLOAD_SIZE {
            tx.send(&descriptor, &[7; INLINE_PAYLOAD_SIZE][..len]).expect("sent");
        } else {
            let mut loan = tx.loan(len).expect("slot");
            loan[0] = 7;
            tx.send_loan(&descriptor, loan).expect("sent");
        }
    }
}

/// A host and a plugin in a second process that echoes, which ends with this value.
struct Echo {
    host: HubHost,
    id: PeerId,
    child: Child,
}

impl Echo {
    fn start() -> Self {
        let mut host =
            HubOptions::new().spin(ALWAYS).create(HubConfig { ring_capacity: 4, ..HubConfig::default() }).expect("hub");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let (id, child) = host.spawn(command.env(PLUGIN, "echo"), Waits::Together).expect("started");
        Self { host, id, child }
    }

    fn round_trips(&mut self, plan: &Plan, len: usize) -> f64 {
        let (host, id) = (&mut self.host, self.id);
        let mut number = 0;
        median_batch(plan, || {
            number += 1;
            let descriptor = MsgDescHot::data(number);
            if len <= INLINE_PAYLOAD_SIZE {
                host.send_to(id, &descriptor, &[7; INLINE_PAYLOAD_SIZE][..len]).expect("sent");
            } else {
                let mut loan = host.loan_for(id, len).expect("slot");
                loan[0] = 7;
                host.send_loan_to(id, &descriptor, loan).expect("sent");
            }
            let message = next(host);
            assert_eq!((message.1.descriptor().msg_id, message.1.len()), (number, len));
        })
    }

    fn stop(mut self) {
        self.host.dismiss(self.id).expect("served");
        assert!(self.child.wait().expect("child").success());
    }
}

fn next(host: &mut HubHost) -> (PeerId, rapace_shm::HostMessage) {
    loop {
        match host.recv_any().expect("a message") {
            (id, Heard::Message(message)) => return (id, message),
            (_, heard) => assert!(matches!(heard, Heard::Joined), "{heard:?}"),
        }
    }
}

fn echoes(plan: &Plan, len: usize) -> f64 {
    let mut echo = Echo::start();
    let time = echo.round_trips(plan, len);
    echo.stop();
    time
}

/// What the host takes for a message, and the plugin to send it, when so many are there: one of them speaks, or each in
/// turn.
fn among(plan: &Plan, peers: usize, speakers: usize) -> f64 {
    let mut host = HubHost::create(HubConfig::default()).expect("hub");
    let mut plugins: Vec<HubPeer> = (0..peers).map(|_| host.add_local(Waits::Together).expect("plugin")).collect();
    let mut number = 0;
    let mut turn = 0;
    median_batch(plan, || {
        number += 1;
        turn = (turn + 1) % speakers;
        // The last ones: the host may have to look at all others first.
        let speaker = peers - 1 - turn;
        plugins[speaker].split().0.send(&MsgDescHot::data(number), b"inline").expect("sent");
        let (id, message) = next(&mut host);
        assert_eq!((usize::from(id.0), message.descriptor().msg_id), (speaker + 1, number));
    })
}

/// So many plugins take and free slots of one class; what one of them takes.
fn cycles(plan: &Plan, plugins: usize) -> f64 {
    let mut host = HubHost::create(HubConfig::default()).expect("hub");
    let mut own = host.add_local(Waits::Together).expect("plugin");
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (1..plugins)
        .map(|_| {
            let (mut other, stopped) = (host.add_local(Waits::Together).expect("plugin"), stop.clone());
            thread::spawn(move || {
                let (endpoint, pool) = other.split().0.slots();
                while !stopped.load(Ordering::Relaxed) {
                    cycle(endpoint, &pool, 1024);
                }
            })
        })
        .collect();
    let (endpoint, pool) = own.split().0.slots();
    let time = median_batch(plan, || cycle(endpoint, &pool, 1024));
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|other| other.join().expect("competitor"));
    time
}

pub fn run(plan: &Plan) {
    let slower = &plan.slower(8);
    for (what, len, goal) in [
        ("hub: round trip, inline, two processes", 8, "<= 1.3 x floor"),
        ("hub: round trip, slot of 1 KiB in place", 1024, "<= 2 x floor, flat"),
        ("hub: round trip, slot of 16 MiB in place", 16 << 20, "<= 2 x floor, flat"),
    ] {
        let row = Row { what, goal, unit: Unit::Time };
        compare(slower, &row, || echoes(slower, len), || floor::round_trip(slower));
    }
    for (what, plugins, goal) in [
        ("hub: allocate + mark + free, one thread", 1, "<= 1.6 x five compare-exchanges"),
        ("hub: allocate + mark + free, two threads", 2, "<= 120 ns"),
    ] {
        let row = Row { what, goal, unit: Unit::Time };
        compare(plan, &row, || cycles(plan, plugins), || floor::five_compare_exchanges(plan));
    }
    for (what, peers, speakers, goal) in [
        ("hub: a message, 8 plugins, one speaks", 8, 1, "<= 2 x that among 1"),
        ("hub: a message, 31 plugins, one speaks", 31, 1, "<= 2 x that among 1"),
        ("hub: a message, 31 plugins, each in turn", 31, 31, "(beside that among 1)"),
    ] {
        let row = Row { what, goal, unit: Unit::Time };
        compare(plan, &row, || among(plan, peers, speakers), || among(plan, 1, 1));
    }
}
