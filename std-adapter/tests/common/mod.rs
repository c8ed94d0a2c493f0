//! Second processes for tests: this very test program, started again to run one of its tests as a part to play.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rapace_shm::{HubHost, PeerId, ShmSession, Waits};

/// Says to a second process which part it plays.
const PART: &str = "RAPACE_SHM_TEST_PART";

/// What a part is told.
const ARGUMENT: &str = "RAPACE_SHM_TEST_ARGUMENT";

/// In the second process: what its part is told, if it is the one of this test.
pub fn part(test: &str) -> Option<String> {
    (std::env::var(PART).ok()? == test).then(|| std::env::var(ARGUMENT).unwrap_or_default())
}

/// The command that runs one test of this program, as a part.
pub fn command(test: &str, argument: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PART, test).env(ARGUMENT, argument);
    command.stdout(Stdio::null());
    command
}

/// A process that ends with this value.
pub struct Second(Child);

impl Second {
    pub fn start(test: &str, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        Self::of(command(test, argument))
    }

    /// One that was prepared further.
    pub fn of(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// One whose last words nobody needs to hear.
    pub fn unheard(test: &str, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        Self(command(test, argument).stderr(Stdio::null()).spawn().unwrap())
    }

    /// One that inherits its side of a session.
    pub fn with(session: &ShmSession, test: &str, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        Self(session.spawn(&mut command(test, argument)).unwrap())
    }

    /// One that is a plugin of a hub, and its number.
    pub fn plugin(
        host: &mut HubHost,
        waits: Waits,
        test: &str,
        argument: impl AsRef<std::ffi::OsStr>,
    ) -> (PeerId, Self) {
        let (id, child) = host.spawn(&mut command(test, argument), waits).unwrap();
        (id, Self(child))
    }

    /// One that this process talks to through its standard input and output.
    pub fn talking(test: &str, argument: impl AsRef<std::ffi::OsStr>) -> (Self, ChildStdin, ChildStdout) {
        let mut child = command(test, argument).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        (Self(child), stdin, stdout)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Kills it and does not wait for the kernel.
    pub fn strike(&mut self) {
        self.0.kill().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    pub fn assert_ends_well(mut self) {
        assert!(self.wait().success());
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that vanishes with everything in it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rapace-shm-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What is in it.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How often a campaign repeats its scenario: as often as the environment variable says, or `usual` times.
pub fn times(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).map_or(usual, |times| times.parse().expect("a number"))
}

/// Tries until it is so; fails after ten seconds.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Descriptors that this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings that this process has.
pub fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| line.contains("rapace-shm")).count()
}

/// Every slot of a hub is free and in a list.
#[track_caller]
pub fn assert_hub_is_empty(host: &HubHost) {
    let slots = host.slot_status();
    assert_eq!((slots.free(), slots.free_list_len()), (slots.total(), slots.total()), "{slots}");
}

/// Every slot is free and in a list.
#[track_caller]
pub fn assert_nothing_leaked(session: &ShmSession) {
    let slots = session.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "{slots}");
}
