//! This project as a hub: the first side is the host, which would hear every other plugin as well, and the second a plugin
//! that inherits its end.

use rapace_shm::{
    Heard, HubConfig, HubHost, HubOptions, HubPeer, HubReceiver, HubSender, INLINE_PAYLOAD_SIZE, MsgDescHot, PeerId,
    Waits,
};

use super::{Contestant, Part, ours};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, Work};

/// See the module.
#[derive(Debug)]
pub struct Hub;

/// One side of it.
#[derive(Debug)]
pub enum End {
    /// The host, and whom it talks to.
    Host(Box<HubHost>, PeerId),
    /// The plugin.
    Plugin(Box<(HubSender, HubReceiver)>),
}

fn options(row: Row) -> HubOptions {
    HubOptions::new().spin(ours::spin(row))
}

impl Contestant for Hub {
    type Link = End;

    fn part(row: Row) -> Part {
        <ours::Ours as Contestant>::part(row)
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (End, Second) {
        let config = HubConfig { max_peers: 2, ring_capacity: row.depth(), ..HubConfig::default() };
        let mut host = options(row).create(config).expect("a hub on a memfd");
        let mut command = Job::new(contestant, row, plan, "").command();
        let (id, child) = host.spawn(&mut command, Waits::Together).expect("this program runs once more");
        (End::Host(Box::new(host), id), Second::of(child))
    }

    fn second(job: &Job) -> End {
        let plugin: HubPeer = options(job.row()).inherited().expect("passed by the host");
        End::Plugin(Box::new(plugin.into_split()))
    }
}

impl Link for End {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        let descriptor = MsgDescHot::data(number);
        let inline = number.to_le_bytes();
        match self {
            Self::Host(host, id) if W::LEN <= INLINE_PAYLOAD_SIZE => {
                host.send_to(*id, &descriptor, &inline[..W::LEN]).expect("sent");
            }
            Self::Host(host, id) => {
                let mut loan = host.loan_for(*id, W::LEN).expect("a slot");
                W::write(&mut loan, number);
                host.send_loan_to(*id, &descriptor, loan).expect("sent");
            }
            Self::Plugin(ends) if W::LEN <= INLINE_PAYLOAD_SIZE => {
                ends.0.send(&descriptor, &inline[..W::LEN]).expect("sent");
            }
            Self::Plugin(ends) => {
                let mut loan = ends.0.loan(W::LEN).expect("a slot");
                W::write(&mut loan, number);
                ends.0.send_loan(&descriptor, loan).expect("sent");
            }
        }
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let check = |payload: &[u8], number: u64| {
            if W::LEN > 0 {
                assert_eq!(W::read(payload), number, "number in the payload");
            }
            number
        };
        match self {
            Self::Host(host, _) => loop {
                match host.recv_any().expect("received") {
                    (_, Heard::Message(message)) => return check(message.payload(), message.descriptor().msg_id),
                    (_, heard) => assert!(matches!(heard, Heard::Joined), "{heard:?}"),
                }
            },
            Self::Plugin(ends) => {
                let message = ends.1.recv().expect("received");
                check(message.payload(), message.descriptor().msg_id)
            }
        }
    }
}
