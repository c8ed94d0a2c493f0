//! Members of version 1.0 in a hub, and what members of ours do for them.
//!
//! ```text
//!   old plugin  <== a pair of datagram sockets ==>  host     one datagram per message, in either direction
//!               [host's epoll set] hears the host's end
//! ```
//!
//! What such a member has received or freed it says in shared memory alone, and rings nobody. So a sender of ours that waits
//! for room beside one looks at its words now and then: soon at first, and less and less often.
//!
//! A member whose process is gone is noticed when its doorbell is next rung: nobody has the other end any more.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::hub::Waits;
use rapace_shm_core::layout::{HUB_SIZE_CLASSES, HubConfig};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::host::{HubHost, Inner};
use super::options::HubOptions;
use super::peer::HubPeer;
use crate::doorbell::Doorbell;
use crate::error::Error;
use crate::inherit::{self, Passing};
use crate::watch::{Duty, Watch, Watched, watch};
use crate::wiring::{Bells, Roused, Wiring};

/// The first pause between two looks, and the longest.
const SOON: Duration = Duration::from_millis(1);
const SELDOM: Duration = Duration::from_millis(500);

/// What the words of old members came to when a sender last went to sleep.
#[derive(Debug, Default)]
pub(super) struct Looks(AtomicU32);

impl Looks {
    /// Sleeps with pauses in which it looks at `words`. `sleep` sleeps until the time that it is told.
    ///
    /// ```text
    ///   sleep     notes the words
    ///   half      looks for room, in vain
    ///   sleep     the words are the same: nothing was made free since before that look. Pauses, looks at the words, ...
    /// ```
    pub(super) fn sleep(
        &self,
        words: impl Fn() -> u32,
        deadline: Option<Instant>,
        mut sleep: impl FnMut(Instant) -> Result<Roused, Error>,
    ) -> Result<Roused, Error> {
        let noted = words();
        if self.0.swap(noted, Ordering::Relaxed) != noted {
            return Ok(Roused::Perhaps);
        }
        let mut pause = SOON;
        loop {
            let until = Instant::now() + pause;
            let is_last = deadline.is_some_and(|deadline| deadline <= until);
            let roused = sleep(deadline.filter(|_| is_last).unwrap_or(until))?;
            if roused != Roused::TimedOut || is_last {
                return Ok(roused);
            }
            if words() != noted {
                return Ok(Roused::Perhaps);
            }
            pause = (pause * 2).min(SELDOM);
        }
    }
}

impl HubHost {
    /// Gives out a number to a plugin of version 1.0, and makes its doorbell; what comes back besides the number is the end
    /// that such a plugin expects to inherit. It opens the hub's path by itself, with its number. For it to do so the
    /// hub must have been created [at a path](HubHost::create_at) with [doorbells](HubOptions::doorbells), the
    /// default size classes and no growth.
    ///
    /// Such a plugin says neither that it leaves nor what it holds: when its process has ended, [dismiss](Self::dismiss) it.
    /// A slot that it was taking, giving back or reading at that moment may be lost to the hub. A blocking call that waits for
    /// room looks by itself for what it makes free; an event loop that does is not woken for that, and has to look now and then.
    ///
    /// # Errors
    /// [`Error::Hub`] if every place is in use, [`Error::NoDoorbell`] in a hub that sleeps on futexes,
    /// [`Error::NotVersion1`] if such a plugin would refuse the hub, [`Error::Io`] if there are too many open files.
    pub fn add_old_peer(&mut self, waits: Waits) -> Result<(PeerId, OwnedFd), Error> {
        self.inner.add_old(waits, Ok)
    }

    /// As [`add_old_peer`](Self::add_old_peer), for a plugin that `command` is about to start: the child inherits its end of
    /// the doorbell under the number that comes back second, and no other child does. How the plugin learns of both numbers
    /// is its own matter; by convention from `--peer-id=N` and `--doorbell-fd=N`. What comes back last is to be dropped
    /// once the child has been started.
    ///
    /// # Errors
    /// As there.
    pub fn pass_to_old(&mut self, command: &mut Command, waits: Waits) -> Result<(PeerId, RawFd, Passing), Error> {
        let pass = |end: OwnedFd| inherit::pass_by_number(end.as_fd(), command);
        self.inner.add_old(waits, pass).map(|(id, (number, passing))| (id, number, passing))
    }
}

impl Inner {
    fn add_old<T>(
        &mut self,
        waits: Waits,
        give: impl FnOnce(OwnedFd) -> Result<T, Error>,
    ) -> Result<(PeerId, T), Error> {
        let bells = self.endpoint.bells().ok_or(Error::NoDoorbell)?;
        let config = self.core.allocator().config();
        if config != (HubConfig { classes: HUB_SIZE_CLASSES, max_extents: 1, ..config }) {
            return Err(Error::NotVersion1);
        }
        let (data, slots) = (Arc::clone(&bells.data), Arc::clone(&bells.slots));
        let (doorbell, end) = Doorbell::create_pair()?;
        self.tidy();
        let link = self.core.reserve_old(waits)?;
        let added = self.connect(link, waits, None, |inner, _| {
            let own = match waits {
                Waits::Together => Bells::new()?.heard_at(&data),
                Waits::Alone => Bells::new()?,
            };
            let lives = inner.endpoint.bells().map(|bells| bells.lives.as_fd());
            let wiring = Wiring::beside_old(own, Arc::clone(&slots), lives, doorbell)?;
            Ok((give(end)?, Some(wiring)))
        })?;
        // Whoever waits for a slot has to look for itself from now on.
        slots.ring();
        Ok(added)
    }
}

impl HubOptions {
    /// A plugin of a hub whose host may be of version 1.0; see [`HubPeer::open_with_doorbell`].
    ///
    /// # Errors
    /// As there.
    pub fn open_with_doorbell(self, path: impl AsRef<Path>, id: PeerId, doorbell: Doorbell) -> Result<HubPeer, Error> {
        self.open(path.as_ref(), id, Some(doorbell))
    }
}

impl HubPeer {
    /// A plugin of the hub at `path` whose host is of version 1.0 and has given it this number, which counts from 0 there, and
    /// a doorbell ([`Doorbell::inherited`]). Once a second it writes the heartbeat that version 1.0 has.
    ///
    /// That such a host has died is seen by the process which made the doorbell. Nothing is cleaned up after a plugin there, and
    /// nothing tells the host that it has left. Beside a host of ours the doorbell is not needed.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at).
    pub fn open_with_doorbell(path: impl AsRef<Path>, id: PeerId, doorbell: Doorbell) -> Result<Self, Error> {
        HubOptions::new().open_with_doorbell(path, id, doorbell)
    }
}

/// A host of version 1.0, as a plugin of ours has it.
#[derive(Debug)]
pub(super) struct OldHost {
    pub(super) doorbell: Doorbell,
    /// What the watcher does for this plugin.
    watches: Mutex<Vec<Watch>>,
}

impl OldHost {
    pub(super) fn new(doorbell: Doorbell) -> Self {
        Self { doorbell, watches: Mutex::default() }
    }

    /// Has the heart beat, and the host's process watched: the one that made the doorbell. It may be out of sight; whether it
    /// is gone already is not for this to say, because its number may be another one's by now.
    pub(super) fn begin(&self, whom: &Weak<dyn Watched>) -> Result<(), Error> {
        let mut watches = self.watches.lock();
        watches.push(watch(Duty::Heartbeat, whom.clone())?);
        let host = rustix::net::sockopt::socket_peercred(&self.doorbell).ok().map(|credentials| credentials.pid);
        let other = host.filter(|host| *host != getpid());
        if let Some(process) = other.and_then(|host| pidfd_open(host, PidfdFlags::empty()).ok()) {
            watches.push(watch(Duty::Death(process), whom.clone())?);
        }
        Ok(())
    }
}
