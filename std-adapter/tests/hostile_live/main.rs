//! Rubbish from another process, while both peers of a session are at work: nothing crashes, panics or hangs, whoever
//! sees it says so in a typed error, and another session of the same process is well.
//!
//! ```text
//!   this process: the vandal                 second process: the worker, this program started again
//!   maps the same memfd                <---- "trial 7, descriptor 5"
//!   "go" ---------------------------------> peer A, peer B, and two peers of a healthy session
//!   writes words and lines at random
//!   sees it end, or die                <---- "over: PeerFault Closed"
//! ```
//!
//! `RAPACE_SHM_HOSTILE_LIVE_TRIALS=1000 cargo test --release -p rapace-shm --test hostile_live -- --nocapture` is the
//! campaign. `RAPACE_SHM_HOSTILE_LIVE_FIRST` is the number of the first trial, by default 0. (What is written follows from
//! that number; when, does not.)
//!
//! Seen to fail on these mutants: no check of a payload's range; links of free lists that are not checked; a fault that
//! does not close the endpoint's other half; a worker that stops for a minute, and one that writes to an address that is
//! not mapped.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../core/tests/common/rubbish.rs"]
mod rubbish;
mod vandal;
mod worker;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use common::{Second, part, times};
use fastrand::Rng;
use rapace_shm::ShmSessionConfig;
use vandal::Vandal;

/// Longer than a trial takes on a machine under load; they are over after some twenty milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The shape of a trial's session, as both processes know it.
fn shape(trial: u32) -> ShmSessionConfig {
    let mut rng = Rng::with_seed(trial.into());
    ShmSessionConfig { ring_capacity: 1 << rng.u32(..5), slot_size: rng.u32(1..40) * 4, slot_count: rng.u32(1..9) }
}

/// The second process's part.
#[test]
fn worker() {
    let Some(trials) = part("worker") else { return };
    let (first, count) = trials.split_once(' ').unwrap();
    let first: u32 = first.parse().unwrap();
    worker::run(first..first + count.parse::<u32>().unwrap());
}

#[test]
fn rubbish_from_another_process_crashes_nobody_and_harms_no_other_session() {
    let first = times("RAPACE_SHM_HOSTILE_LIVE_FIRST", 0);
    let count = times("RAPACE_SHM_HOSTILE_LIVE_TRIALS", 40);
    let mut worker = Worker::start(first, count);
    let (mut writes, mut ends) = (0, BTreeMap::<String, u32>::new());
    for trial in first..first + count {
        let memfd = worker.begin(trial);
        let vandal = Vandal::map(memfd, shape(trial));
        let over;
        (over, writes) = vandal.at_work(trial.into(), || worker.work(trial), writes);
        *ends.entry(over).or_default() += 1;
    }
    worker.second.assert_ends_well();
    println!("{count} trials, {writes} writes; how A and B ended: {ends:#?}");
    assert!(ends.keys().any(|end| end.contains("PeerFault")), "the vandal was not noticed at all: {ends:?}");
}

/// The second process, seen from this one.
struct Worker {
    second: Second,
    says: ChildStdin,
    lines: Receiver<String>,
}

impl Worker {
    fn start(first: u32, count: u32) -> Self {
        let (second, says, hears) = Second::talking("worker", format!("{first} {count}"));
        Self { second, says, lines: lines_of(hears) }
    }

    /// Waits for a trial to be ready; its session's memfd.
    fn begin(&mut self, trial: u32) -> OwnedFd {
        let descriptor = self.hear("trial", trial);
        let path = format!("/proc/{}/fd/{descriptor}", self.second.id());
        std::fs::File::options().read(true).write(true).open(path).unwrap().into()
    }

    /// Lets the worker work, and says how that ended.
    fn work(&mut self, trial: u32) -> String {
        writeln!(self.says, "go").unwrap();
        self.hear("over", trial)
    }

    /// What the worker says after this word. The line may follow what the test harness there says.
    fn hear(&mut self, word: &str, trial: u32) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix(word) {
                    Some(said) => return said.trim().to_owned(),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("trial {trial} hangs; repeat with RAPACE_SHM_HOSTILE_LIVE_FIRST={trial}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.second.wait();
                    panic!("{status} in trial {trial}; repeat with RAPACE_SHM_HOSTILE_LIVE_FIRST={trial}")
                }
            }
        }
    }
}

/// Lines as they come; the thread ends with the pipe.
fn lines_of(pipe: ChildStdout) -> Receiver<String> {
    let (line, lines) = channel();
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            if line.send(text).is_err() {
                break;
            }
        }
    });
    lines
}
