//! The program as its users see it: what it prints, how it fails, and that nothing of it stays behind.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Another, program, text, vanishes};
use rustix::process::{Pid, Signal, kill_process};

/// One at a time: a demo keeps two processors busy.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn quick_demo_of(path: &Path) -> Output {
    let _turn = turn();
    program().args(["demo", "--quick"]).arg(path).output().unwrap()
}

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn a_file_arrives_whole_and_no_slot_leaks() {
    // Pieces of 64 KiB, the last one shorter.
    let bytes: Vec<u8> = (0..300_001_u32).map(|number| number.to_le_bytes()[1] ^ number.to_le_bytes()[0]).collect();
    let output = quick_demo_of(file_of(&bytes).path());
    assert!(output.status.success(), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.contains("300.0 kB in 5 messages"), "{table}");
    assert!(table.contains(&format!("checksum {:08x} on both sides", crc32fast::hash(&bytes))), "{table}");
    assert!(table.contains("\nslots leaked: 0 of 64\n"), "{table}");
    for row in ["round trip ", "one way ", "16 B inline ", "64 B slot ", "4 KiB slot ", "64 KiB slot "] {
        assert!(table.contains(&format!("\n{row}")), "no {row:?} in {table}");
    }
    assert_eq!(text(&output.stderr), "", "progress is for terminals");
}

#[test]
fn an_empty_file_arrives_too() {
    let output = quick_demo_of(file_of(b"").path());
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("0 B in 0 messages"), "{output:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for path in ["/nonexistent/file", "/"] {
        let output = quick_demo_of(Path::new(path));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with(&format!("rapace-shm: cannot read {path}: ")), "{output:?}");
    }
}

#[test]
fn a_second_process_without_a_first_says_so() {
    let output = program().args(["second", "--first", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "rapace-shm: the first process is gone\n");
    let output = program().args(["second", "--first", &std::process::id().to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("RAPACE_SHM_FD is not set"), "{output:?}");
}

/// A demo that runs for some seconds, and the process ids that it says.
struct Running {
    _turn: MutexGuard<'static, ()>,
    first: Another,
    second: Pid,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start() -> Self {
        let _turn = turn();
        let mut first = Another(program().spawn().unwrap());
        let mut stdout = BufReader::new(first.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ids: Vec<i32> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        assert_eq!(ids.first().map(|id| u32::try_from(*id).unwrap()), Some(first.0.id()), "{line}");
        let second = Pid::from_raw(ids[1]).unwrap();
        Self { _turn, first, second, stdout: Some(stdout) }
    }
}

/// Without its looks at the child, the first process would wait for ever.
#[test]
fn the_first_process_ends_when_the_second_is_killed() {
    let mut running = Running::start();
    std::thread::sleep(Duration::from_millis(200));
    kill_process(running.second, Signal::KILL).unwrap();
    let status = running.first.0.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut error = String::new();
    BufReader::new(running.first.0.stderr.take().unwrap()).read_line(&mut error).unwrap();
    assert_eq!(error, "rapace-shm: the second process ended early (signal: 9 (SIGKILL))\n");
}

/// Without its death signal, the second process would wait for ever.
#[test]
fn the_second_process_ends_when_the_first_is_killed() {
    let mut running = Running::start();
    std::thread::sleep(Duration::from_millis(200));
    running.first.0.kill().unwrap();
    running.first.0.wait().unwrap();
    assert!(vanishes(running.second));
}

#[test]
fn a_reader_that_goes_away_ends_both_processes() {
    let mut running = Running::start();
    running.stdout = None;
    assert_eq!(running.first.0.wait().unwrap().code(), Some(1));
    assert!(vanishes(running.second));
}
