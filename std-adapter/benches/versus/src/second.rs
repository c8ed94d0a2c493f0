//! The second side: this program again, as another process, or a thread for a contestant that cannot leave its process.

use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getppid, set_parent_process_death_signal, waitid};

use crate::measure::Plan;
use crate::row::Row;

/// What the second process is to do: four numbers (its parent's process id, a contestant, a row, how many messages if
/// they go one way) and one word for the contestant's own use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    first: i32,
    contestant: usize,
    row: Row,
    total: u64,
    /// Whatever the contestant's second side has to be told.
    pub word: String,
}

const VARIABLE: &str = "RAPACE_SHM_VERSUS_JOB";

impl Job {
    /// The job of a process that this one starts.
    pub fn new(contestant: usize, row: Row, plan: &Plan, word: impl Into<String>) -> Self {
        let first = Pid::as_raw_pid(rustix::process::getpid());
        Self { first, contestant, row, total: row.plan(plan).total(), word: word.into() }
    }

    /// The job that this process was started for, if it is a second process.
    ///
    /// # Errors
    /// If the variable holds something else than a job.
    pub fn of_this_process() -> Result<Option<Self>, String> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let text = text.into_string().map_err(|text| format!("{VARIABLE} is not text: {text:?}"))?;
        let job = Self::parse(&text).ok_or_else(|| format!("{VARIABLE} is not a job: {text:?}; unset it"))?;
        Ok(Some(job))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (first, contestant, row, total) = (number()?, number()?, number()?, number()?);
        Some(Self {
            first: first.try_into().ok()?,
            contestant: contestant.try_into().ok()?,
            row: Row::ALL.into_iter().nth(row.try_into().ok()?)?,
            total,
            word: parts.next()?.to_owned(),
        })
    }

    /// Which contestant.
    pub fn contestant(&self) -> usize {
        self.contestant
    }

    /// Which row.
    pub fn row(&self) -> Row {
        self.row
    }

    /// Messages in a sample.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Process id of the first process.
    pub fn first(&self) -> i32 {
        self.first
    }

    /// Makes the kernel end this process with the first one, however that ends.
    ///
    /// # Errors
    /// If the first process has ended already.
    pub fn end_with_the_first(&self) -> Result<(), String> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
        match getppid().map(Pid::as_raw_pid) {
            Some(parent) if parent == self.first => Ok(()),
            parent => Err(format!("started by process {}, which has ended (the parent is {parent:?})", self.first)),
        }
    }

    /// A command that runs this program with this job.
    pub fn command(&self) -> Command {
        // The running program, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("rapace-shm-versus").env(VARIABLE, self.to_string());
        command
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.first, self.contestant, self.row as usize, self.total, self.word)
    }
}

/// The second side as the first one sees it. It does not outlive this value, whatever happens.
#[derive(Debug)]
pub enum Second {
    /// Another process; killed if it does not end by itself.
    Process(Watched),
    /// A thread of this process; nothing can end it but itself.
    Thread(JoinHandle<()>),
}

impl Second {
    /// Starts the command.
    pub fn start(mut command: Command) -> Self {
        Self::of(command.spawn().expect("this program runs once more"))
    }

    /// Looks after a process that was started in another way.
    pub fn of(child: Child) -> Self {
        Self::Process(Watched::new(child))
    }

    /// Waits until it has ended well.
    pub fn finish(self) {
        match self {
            Self::Process(mut process) => process.wait(),
            Self::Thread(thread) => thread.join().expect("the second thread ends well"),
        }
    }
}

/// A child, and a thread that sleeps until it ends. Should it end badly, so does this process: whoever spins on the
/// other end of its memory would never learn of it.
#[derive(Debug)]
pub struct Watched {
    child: Child,
    watcher: Option<JoinHandle<()>>,
    /// That this process ends it on purpose.
    given_up: Arc<AtomicBool>,
}

impl Watched {
    fn new(child: Child) -> Self {
        let given_up = Arc::new(AtomicBool::new(false));
        let (pid, expected) = (Pid::from_child(&child), given_up.clone());
        let watcher = std::thread::spawn(move || {
            // Leaves it to be waited for by its owner, so its number stays its own.
            let ended = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let well = ended.ok().flatten().is_some_and(|status| status.exit_status() == Some(0));
            if !well && !expected.load(Ordering::Acquire) {
                eprintln!("the second process failed; see above");
                let _ = crate::contestants::sweep();
                std::process::exit(1);
            }
        });
        Self { child, watcher: Some(watcher), given_up }
    }

    fn wait(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.join().expect("the watcher does not panic");
            self.child.wait().expect("a child of this process");
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            self.given_up.store(true, Ordering::Release);
            // It may have ended already.
            let _ = self.child.kill();
            self.wait();
        }
    }
}
