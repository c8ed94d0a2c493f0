//! A hub's host between futures: round trips with a plugin in another process, and what more plugins cost.

use std::process::{Child, Command};

use rapace_shm::{Heard, HostMessage, HubConfig, HubHost, MsgDescHot, PeerId, Spin, Waits};
use rapace_shm_async::{HubHostTransport, HubPeerTransport};

use crate::floor;
use crate::measure::{Plan, Row, Unit, compare};
use crate::round_trip::{ALWAYS, median_batch};
use crate::second::{Executor, What, order};

pub fn run(plan: &Plan) {
    round_trips(&plan.slower(8));
    among_peers(plan);
}

/// The next message, whoever joins before it.
async fn next_message(host: &HubHostTransport) -> (PeerId, HostMessage) {
    loop {
        if let (id, Heard::Message(message)) = host.recv_from_any().await.expect("a plugin is there") {
            return (id, message);
        }
    }
}

/// A host with a plugin in a second process that echoes on the same executor.
struct Echo {
    host: HubHostTransport,
    id: PeerId,
    child: Child,
}

impl Echo {
    fn start(executor: Executor) -> Self {
        let options = executor.options().spin(Spin::tries(ALWAYS));
        let host = options.host(HubHost::create(HubConfig::default()).expect("hub")).expect("transport");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.envs([order(executor, &What::Plugin { tries: ALWAYS })]);
        let (id, child) = host.spawn(&mut command, Waits::Together).expect("started");
        Self { host, id, child }
    }

    async fn round_trips(&self, plan: &Plan, len: usize) -> f64 {
        let (mut number, payload) = (0_u64, vec![7; len]);
        median_batch(plan, async || {
            number += 1;
            self.host.send_to_peer(self.id, &MsgDescHot::data(number), &payload).await.expect("sent");
            let (_, message) = next_message(&self.host).await;
            assert_eq!((message.descriptor().msg_id, message.payload()), (number, &payload[..]));
        })
        .await
    }

    fn stop(self) {
        let Self { host, mut child, .. } = self;
        drop(host);
        assert!(child.wait().expect("child").success());
    }
}

fn round_trips(plan: &Plan) {
    for executor in Executor::ALL {
        for (size, len) in [("inline", 8), ("1 KiB", 1024)] {
            let what = &format!("hub: round trip, {size}, {}", executor.name());
            let row = Row { what, goal: "<= 5 x floor (inline)", unit: Unit::Time };
            let ours = || {
                // In a runtime of its own, as what tokio watches must not outlive that.
                executor.block_on(async {
                    let echo = Echo::start(*executor);
                    let time = echo.round_trips(plan, len).await;
                    echo.stop();
                    time
                })
            };
            compare(plan, &row, ours, || floor::round_trip(plan));
        }
    }
}

/// Plugins in this process, of which one sends, or each in its turn.
struct Crowd {
    host: HubHostTransport,
    plugins: Vec<HubPeerTransport>,
}

impl Crowd {
    fn of(count: usize) -> Self {
        let host = HubHostTransport::new(HubHost::create(HubConfig::default()).expect("hub")).expect("transport");
        let plugins = (0..count).map(|_| host.add_local(Waits::Together).expect("a place is free")).collect();
        Self { host, plugins }
    }

    /// Nanoseconds from a plugin's send to the end of the host's receive, of so many that speak in turn.
    fn messages(&self, plan: &Plan, speakers: usize) -> f64 {
        let mut number = 0_u64;
        let mut speakers = self.plugins.iter().rev().take(speakers).cycle();
        async_io::block_on(median_batch(plan, async || {
            number += 1;
            let speaker = speakers.next().expect("endless");
            speaker.send(&MsgDescHot::data(number), &[7; 8]).await.expect("sent");
            let (id, message) = next_message(&self.host).await;
            assert_eq!((id, message.descriptor().msg_id), (speaker.peer_id(), number));
        }))
    }
}

fn among_peers(plan: &Plan) {
    let alone = Crowd::of(1);
    for count in [8, 31] {
        let crowd = Crowd::of(count);
        for (how, speakers) in [("one of them speaks", 1), ("each in its turn", count)] {
            let what = &format!("hub: a message among {count}, {how}");
            let row = Row { what, goal: "<= 2 x that of 1 (one speaks)", unit: Unit::Time };
            compare(plan, &row, || crowd.messages(plan, speakers), || alone.messages(plan, 1));
        }
    }
}
