//! The watcher: one thread per process, started when it is first needed, that sees what a futex cannot.
//!
//! Peers that met by a path have no life socket. Whoever of them goes to sleep has the other one's process watched: the
//! thread sleeps in `poll(2)` on the processes' descriptors and, when one ends, says so to the endpoints concerned and
//! wakes them. Between our own peers it never wakes up for anything else.
//!
//! Beside a version 1.0 peer it has a second duty: once a second it writes this endpoint's heartbeat, by which such a
//! peer tells the living from the dead. Such a peer does not say when it comes, so an endpoint that waits while nobody of ours is
//! there has the watcher look once a second, too. That peer itself cannot be watched: it does not say which process it is,
//! and a heartbeat that is late proves nothing.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use crate::doorbell::Bell;
use crate::error::Error;
use crate::poll::poll_until;

/// How often a heartbeat is written. A version 1.0 peer takes three seconds of silence for death.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a version 1.0 peer that waits may take between two of its own.
const SILENCE: Duration = Duration::from_secs(3);

/// What the watcher does for an endpoint. It is called from the watcher's thread and must not block.
pub(crate) trait Watched: Send + Sync {
    /// The process has ended.
    fn peer_died(&self);
    /// It is time to say that this endpoint lives, if there is somebody to whom that has to be said.
    fn beat(&self, nanoseconds_since_1970: u64);
}

/// What is to be watched.
pub(crate) enum Duty {
    /// A process, by its descriptor.
    Death(OwnedFd),
    /// No process: write heartbeats.
    Heartbeat,
}

/// The end of the watch, when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: &'static Watcher,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.list.lock().entries.retain(|entry| entry.number != self.number);
        self.watcher.changed.ring();
    }
}

#[derive(Clone)]
struct Entry {
    number: u64,
    duty: Arc<Duty>,
    whom: Weak<dyn Watched>,
}

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    next_number: u64,
}

struct Watcher {
    list: Mutex<List>,
    /// Rung when the list has changed.
    changed: Bell,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("entries", &self.list.lock().entries.len()).finish_non_exhaustive()
    }
}

/// Watches for `whom` until the answer is dropped, which `whom` may keep.
pub(crate) fn watch(duty: Duty, whom: Weak<dyn Watched>) -> Result<Watch, Error> {
    let watcher = Watcher::of_process()?;
    let number = {
        let mut list = watcher.list.lock();
        list.next_number += 1;
        let number = list.next_number;
        list.entries.push(Entry { number, duty: Arc::new(duty), whom });
        number
    };
    watcher.changed.ring();
    Ok(Watch { watcher, number })
}

impl Watcher {
    fn of_process() -> Result<&'static Self, Error> {
        static WATCHER: OnceLock<&'static Watcher> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock();
        if let Some(watcher) = WATCHER.get() {
            return Ok(watcher);
        }
        let watcher: &'static Self = Box::leak(Box::new(Self { list: Mutex::default(), changed: Bell::new()? }));
        std::thread::Builder::new()
            .name("rapace-shm-watch".into())
            .spawn(move || watcher.run())
            .map_err(Error::io("cannot start the thread that watches peers"))?;
        Ok(WATCHER.get_or_init(|| watcher))
    }

    fn run(&self) {
        let mut next_beat = Instant::now();
        loop {
            let entries = self.list.lock().entries.clone();
            let beats = entries.iter().any(|entry| matches!(*entry.duty, Duty::Heartbeat));
            if beats && Instant::now() >= next_beat {
                next_beat = Instant::now() + HEARTBEAT;
                beat(&entries);
            }
            if self.wait(&entries, beats.then_some(next_beat)).is_err() {
                // The kernel is out of memory, or there are more peers than it lets one process poll.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// Sleeps until a process ends, the list changes or the next heartbeat is due.
    fn wait(&self, entries: &[Entry], deadline: Option<Instant>) -> Result<(), Error> {
        let processes: Vec<&Entry> = entries.iter().filter(|entry| matches!(*entry.duty, Duty::Death(_))).collect();
        let descriptors = processes.iter().filter_map(|entry| match &*entry.duty {
            Duty::Death(process) => Some(PollFd::new(process, PollFlags::IN)),
            Duty::Heartbeat => None,
        });
        let mut descriptors: Vec<PollFd<'_>> =
            std::iter::once(PollFd::new(&self.changed, PollFlags::IN)).chain(descriptors).collect();
        poll_until(&mut descriptors, deadline)?;
        self.changed.drain();
        for (entry, descriptor) in processes.iter().zip(descriptors.iter().skip(1)) {
            if !descriptor.revents().is_empty() {
                self.list.lock().entries.retain(|other| other.number != entry.number);
                if let Some(whom) = entry.whom.upgrade() {
                    whom.peer_died();
                }
            }
        }
        Ok(())
    }
}

/// Nanoseconds since 1970, of the wall clock: the only clock that a version 1.0 peer reads.
pub(crate) fn nanoseconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a version 1.0 peer that was last seen then (in nanoseconds since 1970) must be taken for alive. That it need not
/// be does not mean that it is dead.
pub(crate) fn is_recent(last_seen: u64) -> bool {
    nanoseconds_since_1970().checked_sub(last_seen).is_some_and(|age| u128::from(age) < SILENCE.as_nanos())
}

fn beat(entries: &[Entry]) {
    let now = nanoseconds_since_1970();
    for entry in entries.iter().filter(|entry| matches!(*entry.duty, Duty::Heartbeat)) {
        if let Some(whom) = entry.whom.upgrade() {
            whom.beat(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Heard {
        deaths: AtomicU32,
        beats: AtomicU32,
    }

    impl Watched for Heard {
        fn peer_died(&self) {
            self.deaths.fetch_add(1, Ordering::Relaxed);
        }

        fn beat(&self, _: u64) {
            self.beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn whom(heard: &Arc<Heard>) -> Weak<dyn Watched> {
        let whom: Weak<Heard> = Arc::downgrade(heard);
        whom
    }

    fn is_watched(heard: &Arc<Heard>) -> bool {
        let list = Watcher::of_process().unwrap().list.lock();
        list.entries.iter().any(|entry| entry.whom.ptr_eq(&whom(heard)))
    }

    #[test]
    fn a_process_is_watched_until_it_ends_or_nobody_wants_to_know() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let open = || rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let heard = Arc::new(Heard::default());
        let gone = watch(Duty::Death(open()), whom(&heard)).unwrap();
        assert!(is_watched(&heard));
        drop(gone);
        assert!(!is_watched(&heard), "and its descriptor is closed as soon as the thread looks up");
        let _watch = watch(Duty::Death(open()), whom(&heard)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while heard.deaths.load(Ordering::Relaxed) == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(heard.deaths.load(Ordering::Relaxed), 1, "told once");
        assert!(!is_watched(&heard));
    }

    #[test]
    fn hearts_beat_once_a_second_while_somebody_wants_it() {
        let heard = Arc::new(Heard::default());
        let watch = watch(Duty::Heartbeat, whom(&heard)).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        drop(watch);
        let beats = heard.beats.load(Ordering::Relaxed);
        assert!((1..=3).contains(&beats), "{beats}");
    }
}
