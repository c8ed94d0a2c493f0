//! The host and its plugins' processes: keeps every plugin busy with requests, and counts the answers.
//!
//! No more requests are on their way than there are slots for, answers included. So nobody waits for a slot for ever,
//! although the host never receives while it waits.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rapace_shm::core::hub::HubSlotStatus;
use rapace_shm::{Error as HubFailure, Heard, HostMessage, HubConfig, HubHost, INLINE_PAYLOAD_SIZE, MsgDescHot};
use rapace_shm::{PeerId, Reaped, Unsent, Waits};

use super::plugin::{answer, length};
use crate::child::{self, Another, LOOK, LOOKS};
use crate::error::Error;
use crate::jobs::{fill, is_filled};

/// Requests on their way to one plugin at most, and to all.
const WINDOW: u64 = 64;
const WINDOWS: u64 = 512;
/// Messages heard before the plugins are given more to do.
const BATCH: usize = 64;

/// The host and its plugins.
#[derive(Debug)]
pub struct Fleet {
    /// First: whatever goes wrong, no plugin is left to wonder where its host is.
    workers: Vec<Worker>,
    host: HubHost,
    window: u64,
    /// Answers from all plugins.
    answers: u64,
}

/// A place for a plugin: the requests that go there, and the process that answers them.
#[derive(Debug)]
pub struct Worker {
    pub id: PeerId,
    pub process: Another,
    /// Requests that it has been sent.
    sent: u64,
    /// Those that it has answered, each once and in order.
    pub answered: u64,
    /// Whether it was killed on purpose, and how its end was then heard of.
    is_killed: bool,
    end: Option<Instant>,
}

impl Fleet {
    /// A host and its plugins, one process each.
    pub fn start(plugins: u16) -> Result<Self, Error> {
        // No more places than plugins, so that a replacement can only have the number that was freed.
        let host = HubHost::create(HubConfig { max_peers: plugins + 1, ..HubConfig::default() })?;
        let window = WINDOW.min(WINDOWS / u64::from(plugins));
        let mut fleet = Self { host, workers: Vec::new(), window, answers: 0 };
        for _ in 0..plugins {
            let (id, process) = fleet.spawn()?;
            fleet.workers.push(Worker { id, process, sent: 0, answered: 0, is_killed: false, end: None });
        }
        Ok(fleet)
    }

    fn spawn(&mut self) -> Result<(PeerId, Another), Error> {
        let (id, child) = self.host.spawn(&mut child::command("plugin"), Waits::Together)?;
        Ok((id, Another::new(child)))
    }

    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Answers so far.
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// System calls that the host has made so far.
    pub fn system_calls(&self) -> u64 {
        self.host.system_calls().total()
    }

    /// Bytes of the hub, and how many of them the kernel has had to provide.
    pub fn bytes(&self) -> Result<(u64, u64), Error> {
        let Some(memfd) = self.host.memfd() else { return Ok((0, 0)) };
        let stat = rustix::fs::fstat(memfd.as_fd()).map_err(std::io::Error::from)?;
        Ok((stat.st_size.unsigned_abs(), stat.st_blocks.unsigned_abs() * 512))
    }

    /// Keeps everybody busy for a while, and shows how far it has come.
    pub fn run_for(&mut self, span: Duration, mut progress: impl FnMut(Duration, u64)) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < span {
            self.give()?;
            self.hear()?;
            progress(start.elapsed(), self.answers);
        }
        Ok(())
    }

    /// Kills a plugin's process, and keeps the others busy until everything that it had is back. Returns how long it took
    /// until the host had heard of it, and what was reclaimed.
    pub fn kill(&mut self, place: usize) -> Result<(Duration, Reaped), Error> {
        // So that it has work in hand.
        self.give()?;
        let worker = &mut self.workers[place];
        let (id, start) = (worker.id, Instant::now());
        worker.is_killed = true;
        worker.process.kill()?;
        loop {
            if let (Some(end), Some(reclaimed)) = (self.workers[place].end, self.host.reclaimed(id)) {
                let reclaimed = reclaimed.map_err(|source| Error::NotReclaimed { plugin: id.0, source })?;
                return Ok((end - start, reclaimed));
            }
            self.give()?;
            self.hear()?;
            expect_soon(start)?;
        }
    }

    /// Starts another process in the place of one that was killed; it is asked once more what that one has not answered.
    /// Returns how many requests these are, and how long it took until the first was answered.
    pub fn replace(&mut self, place: usize) -> Result<(u64, Duration), Error> {
        let start = Instant::now();
        let (id, process) = self.spawn()?;
        let worker = &mut self.workers[place];
        if id != worker.id {
            return Err(Error::OtherNumber { expected: worker.id.0, seen: id.0 });
        }
        let (again, answered) = (worker.sent - worker.answered, worker.answered);
        *worker = Worker { id, process, sent: answered, answered, is_killed: false, end: None };
        while self.workers[place].answered == answered {
            self.give()?;
            self.hear()?;
            expect_soon(start)?;
        }
        Ok((again, start.elapsed()))
    }

    /// Waits for all answers, lets every plugin go, and returns what the slots look like then.
    pub fn finish(mut self) -> Result<HubSlotStatus, Error> {
        let start = Instant::now();
        while self.workers.iter().any(|worker| worker.answered < worker.sent) {
            self.hear()?;
            expect_soon(start)?;
        }
        for mut worker in std::mem::take(&mut self.workers) {
            self.host.dismiss(worker.id)?;
            let status = worker.process.wait()?;
            if !status.success() {
                return Err(Error::PluginFailed { plugin: worker.id.0, status });
            }
        }
        while self.host.tidy() > 0 || self.host.peer_count() > 0 {
            expect_soon(start)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.host.slot_status())
    }

    /// Sends every live plugin as many requests as it may have.
    fn give(&mut self) -> Result<(), Error> {
        for worker in self.workers.iter_mut().filter(|worker| !worker.is_killed) {
            while worker.sent - worker.answered < self.window {
                match try_send(&mut self.host, worker.id, worker.sent) {
                    Ok(()) => worker.sent += 1,
                    Err(HubFailure::Full) => break,
                    // What became of it is heard of.
                    Err(HubFailure::PeerDied | HubFailure::Closed | HubFailure::NotServed { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Hears some answers; waits for the first.
    fn hear(&mut self) -> Result<(), Error> {
        let mut heard = self.host.recv_any_timeout(LOOK);
        for _ in 0..BATCH {
            match heard {
                Ok((id, heard)) => self.note(id, heard)?,
                Err(HubFailure::Empty | HubFailure::Timeout) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            heard = self.host.try_recv_any();
        }
        if let Ok((id, heard)) = heard { self.note(id, heard) } else { Ok(()) }
    }

    fn note(&mut self, id: PeerId, heard: Heard) -> Result<(), Error> {
        let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) else { return Ok(()) };
        match heard {
            Heard::Message(message) => {
                worker.expect(&message)?;
                self.answers += 1;
            }
            Heard::Ended(HubFailure::PeerDied) if worker.is_killed => worker.end = Some(Instant::now()),
            Heard::Ended(HubFailure::PeerDied | HubFailure::Closed) => {
                return Err(Error::PluginEnded { plugin: id.0, status: worker.process.wait()? });
            }
            Heard::Ended(fault) => return Err(fault.into()),
            _ => {}
        }
        Ok(())
    }
}

impl Worker {
    /// Whether this is the answer that is due.
    fn expect(&mut self, message: &HostMessage) -> Result<(), Error> {
        let (expected, seen, bytes) = (self.answered, message.descriptor().msg_id, message.len());
        if seen != expected || bytes != length(seen) || !is_filled(message.payload(), answer(seen)) {
            return Err(Error::PluginDisorder { plugin: self.id.0, expected, seen, bytes });
        }
        self.answered += 1;
        Ok(())
    }
}

/// Sends a request, written where its plugin will read it.
fn try_send(host: &mut HubHost, id: PeerId, number: u64) -> Result<(), HubFailure> {
    let (descriptor, len) = (MsgDescHot::data(number), length(number));
    if len <= INLINE_PAYLOAD_SIZE {
        let mut payload = [0; INLINE_PAYLOAD_SIZE];
        fill(&mut payload[..len], number);
        return host.try_send_to(id, &descriptor, &payload[..len]);
    }
    let sender = host.sender(id)?;
    let mut loan = sender.try_loan(len)?;
    fill(&mut loan, number);
    sender.try_send_loan(&descriptor, loan).map_err(|Unsent { error, .. }| error)
}

/// Gives up on something that takes so long that it will not happen.
fn expect_soon(start: Instant) -> Result<(), Error> {
    match start.elapsed() > LOOKS * LOOK {
        true => Err(Error::Silent(start.elapsed().as_secs())),
        false => Ok(()),
    }
}
