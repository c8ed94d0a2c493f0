//! What the tests of path segments share: a directory that is looked through, forged files, and a second process.

#![allow(dead_code)] // not every test needs everything

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rapace_shm::path::PathProblem;
use rapace_shm::{Error, MsgDescHot, ShmSession, ShmSessionConfig};
use rustix::fs::{FlockOperation, Mode, flock};
use tempfile::TempDir;

/// Where the second process is to create its session.
pub const AT: &str = "RAPACE_SHM_TEST_AT";
/// The umask that it is to have, in octal.
pub const UMASK: &str = "RAPACE_SHM_TEST_UMASK";
/// How many slots of a gibibyte its session is to have, if not a small shape.
pub const SLOTS: &str = "RAPACE_SHM_TEST_SLOTS";

/// A shape that fills a few pages.
pub fn small() -> ShmSessionConfig {
    ShmSessionConfig { ring_capacity: 64, slot_size: 64, slot_count: 8 }
}

/// A directory that goes with its test.
pub struct Directory(TempDir);

impl Directory {
    /// In memory: `/dev/shm` is a tmpfs wherever Linux runs.
    pub fn new() -> Self {
        Self(TempDir::new_in("/dev/shm").unwrap())
    }

    /// Wherever temporary files go.
    pub fn on_disk() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exactly these names are there, temporary ones included.
    pub fn assert_holds(&self, names: &[&str]) {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut seen: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        seen.sort();
        assert_eq!(seen, names);
    }
}

/// What was wrong with the path.
pub fn path_problem(refused: Result<ShmSession, Error>) -> PathProblem {
    match refused {
        Err(Error::Path(error)) => error.problem,
        other => panic!("{other:?}"),
    }
}

/// An inline message and one in a slot, each way.
pub fn assert_talk(a: &mut ShmSession, b: &mut ShmSession) {
    for payload in [&[1; 9][..], &[2; 64]] {
        a.split().0.send(&MsgDescHot::data(1), payload).unwrap();
        assert_eq!(b.split().1.recv().unwrap().payload(), payload);
        b.split().0.send(&MsgDescHot::data(2), payload).unwrap();
        assert_eq!(a.split().1.recv().unwrap().payload(), payload);
    }
}

/// What stands in the file of a fresh session.
pub fn bytes_of_a_session(config: ShmSessionConfig) -> Vec<u8> {
    let directory = Directory::new();
    let _a = ShmSession::create_at(directory.path("session"), config).unwrap();
    fs::read(directory.path("session")).unwrap()
}

/// The same bytes with another word at `at`.
pub fn with(bytes: &[u8], at: usize, value: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    bytes
}

/// A file that poses as a session whose creator lives, until it is dropped.
pub fn counterfeit(path: &Path, bytes: &[u8]) -> File {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    flock(&file, FlockOperation::LockShared).unwrap();
    file
}

/// A process that is killed and awaited with its handle.
#[derive(Debug)]
pub struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts the second process, which creates a session at `path` and holds it; or the error that it had.
pub fn child(path: &Path, environment: &[(&str, &str)]) -> Result<Killed, String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process", "--nocapture"]).env(AT, path).envs(environment.iter().copied());
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Killed(child);
    let said = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    match said.filter_map(|line| line.split_once("child: ").map(|(_, said)| said.to_owned())).next().unwrap() {
        said if said == "ready" => Ok(child),
        said => Err(said),
    }
}

/// Creates what it is told to, says so, and then waits for the end of its input: it outlives its parent in no case.
pub fn be_second_process() {
    if let Ok(umask) = std::env::var(UMASK) {
        rustix::process::umask(Mode::from_raw_mode(u32::from_str_radix(&umask, 8).unwrap()));
    }
    let config = match std::env::var(SLOTS) {
        Ok(slots) => ShmSessionConfig { slot_size: 1 << 30, slot_count: slots.parse().unwrap(), ..small() },
        Err(_) => small(),
    };
    let session = ShmSession::create_at(std::env::var_os(AT).unwrap(), config);
    match &session {
        Ok(_) => println!("child: ready"),
        Err(error) => println!("child: {error}"),
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
