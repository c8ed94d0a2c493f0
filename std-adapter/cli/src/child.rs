//! Another process of this program: whatever happens, it does not outlive its value here, nor this process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::error::Error;

/// How long a call waits before it looks whether the other process still runs.
pub const LOOK: Duration = Duration::from_secs(1);
/// How many looks in a row a live but silent process is given.
pub const LOOKS: u32 = 30;

/// What the other process is told on its command line.
#[derive(Debug, clap::Args)]
pub struct First {
    /// Process id of the first process
    #[arg(long = "first")]
    id: i32,
}

impl First {
    /// Makes the kernel kill this process when the first one ends, however it ends. (More exactly, when the thread ends
    /// that started this one: only the main thread does that.)
    pub fn die_with(&self) -> Result<(), Error> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
        // It may have ended before the request was made.
        if getppid().map(Pid::as_raw_pid) != Some(self.id) {
            return Err(Error::Orphaned);
        }
        Ok(())
    }
}

/// A command that runs a part of this program: the running one, even if its file was replaced or deleted meanwhile.
pub fn command(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rapace-shm").arg(part).arg("--first").arg(std::process::id().to_string());
    command
}

/// A process that was started so.
#[derive(Debug)]
pub struct Another(Child);

impl Another {
    pub const fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// What it ended with, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// What it ends with, if it does so in a time that is long enough for everybody.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let start = Instant::now();
        while start.elapsed() < LOOKS * LOOK {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(2));
        }
        Err(Error::Silent(start.elapsed().as_secs()))
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
