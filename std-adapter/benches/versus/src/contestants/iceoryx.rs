//! iceoryx2: two publish-subscribe services of byte slices, there and back, on `ipc::Service`. To sleep, each message is
//! announced through an event service, as its documentation advises.
//!
//! It leaves files behind when a process is killed. Everything of one run lies in one directory and under one prefix, both
//! named after the first process, and [`sweep`] removes what belongs to this process and to those that are no more.
//!
//! # Safety
//!
//! One unsafe call: a sample's bytes are declared initialised before they are written. They are shared memory that the
//! kernel gave zeroed, and any byte is a `u8`.

#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use iceoryx2::port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, Node, NodeBuilder, SemanticString, SignalHandlingMode, ipc,
};

use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, PATIENCE, Work, spin};

const PREFIX: &str = "rapace-shm-versus-";

/// The directory of the run whose first process has this id.
fn directory(first: i32) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{first}"))
}

/// Removes the files of this process's run, and of runs whose first process has ended without doing so.
///
/// # Errors
/// Names what could not be removed.
pub fn sweep() -> Result<(), String> {
    let this = std::process::id().to_string();
    for place in [&std::env::temp_dir(), Path::new("/dev/shm")] {
        for entry in place.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            let first = rest.split('_').next().unwrap_or(rest);
            let is_ours = first.parse::<u32>().is_ok();
            if !is_ours || first != this && Path::new("/proc").join(first).exists() {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|error| format!("{} stays behind: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// See the module.
#[derive(Debug)]
pub struct Iceoryx;

type Service = ipc::Service;

/// One process's ports.
#[derive(Debug)]
pub struct Ports {
    publisher: Publisher<Service, [u8], ()>,
    subscriber: Subscriber<Service, [u8], ()>,
    events: Option<(Notifier<Service>, Listener<Service>)>,
    _node: Node<Service>,
}

fn config(first: i32) -> Config {
    let mut config = Config::default();
    let root = directory(first).into_os_string().into_encoded_bytes();
    config.global.set_root_path(&iceoryx2::prelude::Path::new(&root).expect("a short path"));
    config.global.prefix = FileName::new(format!("{PREFIX}{first}_").as_bytes()).expect("a short name");
    config
}

impl Ports {
    /// Sends on `there` and receives on `back`.
    fn new(first: i32, row: Row, there: &str, back: &str) -> Self {
        let node = NodeBuilder::new()
            .config(&config(first))
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<Service>()
            .expect("a node");
        let bytes = |name: &str| {
            node.service_builder(&name.try_into().expect("a short name"))
                .publish_subscribe::<[u8]>()
                .max_publishers(1)
                .max_subscribers(1)
                .max_nodes(2)
                .history_size(0)
                .subscriber_max_buffer_size(row.depth() as usize)
                .subscriber_max_borrowed_samples(1)
                .enable_safe_overflow(false)
                .open_or_create()
                .expect("a service")
        };
        let subscriber = bytes(back).subscriber_builder().create().expect("a subscriber");
        let event = |name: &str| {
            node.service_builder(&name.try_into().expect("a short name")).event().open_or_create().expect("a service")
        };
        let events = (row == Row::Asleep).then(|| {
            let listener = event(back).listener_builder().create().expect("a listener");
            (event(there).notifier_builder().create().expect("a notifier"), listener)
        });
        let publisher = bytes(there)
            .publisher_builder()
            .initial_max_slice_len(row.wire())
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .expect("a publisher");
        Self { publisher, subscriber, events, _node: node }
    }
}

impl Contestant for Iceoryx {
    type Link = Ports;

    fn part(row: Row) -> Part {
        match row {
            Row::Asleep => Part::But("Each message is published and announced by an event, which is what wakes."),
            Row::Inline | Row::OneWay => Part::Plain,
            _ => Part::InPlace,
        }
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (Ports, Second) {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = RUN.fetch_add(1, Ordering::Relaxed);
        let job = Job::new(contestant, row, plan, run.to_string());
        let ports = Ports::new(job.first(), row, &format!("{run} there"), &format!("{run} back"));
        (ports, Second::start(job.command()))
    }

    fn second(job: &Job) -> Ports {
        let run = &job.word;
        Ports::new(job.first(), job.row(), &format!("{run} back"), &format!("{run} there"))
    }
}

impl Link for Ports {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        // On a busy machine it says now and then that nobody got it, whatever the strategy; then once more.
        spin(|| {
            let sample = self.publisher.loan_slice_uninit(W::WIRE).expect("a sample");
            // SAFETY: see the module: the bytes are zeroed, or an earlier message's.
            let mut sample = unsafe { sample.assume_init() };
            W::write(sample.payload_mut(), number);
            (sample.send().expect("sent") == 1).then_some(())
        });
        if let Some((notifier, _)) = &self.events {
            notifier.notify().expect("announced");
        }
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let Some((_, listener)) = &self.events else {
            return W::read(&spin(|| self.subscriber.receive().expect("received")));
        };
        loop {
            if let Some(sample) = self.subscriber.receive().expect("received") {
                return W::read(&sample);
            }
            let woken = listener.timed_wait(|_| (), PATIENCE).expect("a listener");
            assert!(woken > 0, "the other process has fallen silent");
        }
    }
}
