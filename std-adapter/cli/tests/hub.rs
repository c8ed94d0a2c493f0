//! `demo --hub` as its users see it: what it prints, how it fails, and that nothing of it stays behind.
//!
//! Seen to fail when: the replacement is not asked what its predecessor left unanswered; a plugin's end is taken for that of
//! the one that was killed; an answer is not compared with the one that is due; plugins do not ask to die with the host.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::ChildStdout;

use common::{Another, program, text, vanishes};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_plugin_is_killed_and_replaced_and_nothing_is_lost_or_leaked() {
    let output = program().args(["demo", "--hub", "3", "--quick"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let number = |before: &str| -> u64 {
        let rest = said.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {said}")).1;
        rest.split([' ', ',']).next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{before:?}: {said}"))
    };
    assert_eq!(number("\nkilled        plugin "), 2);
    assert!(said.contains("\n              noticed after "), "{said}");
    assert!(number("asked once more what was not answered: ") <= 64, "{said}");
    assert!(number("the others answered ") > 0, "{said}");
    assert!(number("\nin the end    ") > 1000, "{said}");
    assert!(said.contains(" requests, each answered once, in order, every byte as it should be\n"), "{said}");
    assert!(said.ends_with("\nslots leaked: 0 of 1324\n"), "{said}");
    assert_eq!(text(&output.stderr), "", "progress is for terminals");
}

#[test]
fn a_hub_has_from_1_to_31_plugins() {
    for words in [["--hub", "0"], ["--hub", "32"], ["--hub", "x"]] {
        let output = program().arg("demo").args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    let output = program().args(["demo", "--hub", "2", "/etc/hostname"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_plugin_without_a_host_says_so() {
    let output = program().args(["plugin", "--first", "1"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "rapace-shm: the first process is gone\n"));
}

/// A demo that runs for some seconds, and its plugins.
struct Running {
    host: Another,
    plugins: Vec<Pid>,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn start() -> Self {
        let mut host = Another(program().args(["demo", "--hub", "3"]).spawn().unwrap());
        let mut stdout = BufReader::new(host.0.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let (_, plugins) = line.split_once(" (host), ").unwrap();
        let ids = plugins.split([' ', ',']).filter_map(|word| Pid::from_raw(word.parse().ok()?));
        Self { host, plugins: ids.take(3).collect(), stdout: Some(stdout) }
    }
}

#[test]
fn a_plugin_that_dies_by_itself_is_named_and_all_end() {
    let mut running = Running::start();
    // Not the one that the demo kills itself.
    kill_process(running.plugins[0], Signal::KILL).unwrap();
    assert_eq!(running.host.0.wait().unwrap().code(), Some(1));
    let mut error = String::new();
    running.host.0.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error, "rapace-shm: plugin 1 ended early (signal: 9 (SIGKILL))\n");
    assert!(running.plugins.iter().all(|plugin| vanishes(*plugin)));
}

#[test]
fn the_plugins_end_when_the_host_is_killed() {
    let mut running = Running::start();
    running.host.0.kill().unwrap();
    running.host.0.wait().unwrap();
    assert!(running.plugins.iter().all(|plugin| vanishes(*plugin)));
}

#[test]
fn a_reader_that_goes_away_ends_all() {
    let mut running = Running::start();
    running.stdout = None;
    assert_eq!(running.host.0.wait().unwrap().code(), Some(1));
    assert!(running.plugins.iter().all(|plugin| vanishes(*plugin)));
}
