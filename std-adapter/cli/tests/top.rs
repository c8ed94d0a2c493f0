//! `top` where there is no terminal, or none is wanted: one moment as text.
//!
//! Seen to fail when: `--once` takes one look (then there are no rates); the file is not compared with what is at the path
//! now.

mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{program, text};
use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};

fn top(words: &[&str]) -> Output {
    program().arg("top").args(words).output().unwrap()
}

/// The words of the first line that starts so.
fn row<'a>(output: &'a Output, name: &str) -> Vec<&'a str> {
    let line = text(&output.stdout).lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {output:?}")).split_whitespace().collect()
}

#[test]
fn a_session_at_work_is_printed_with_its_rates() {
    let mut a = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let mut b = ShmSession::attach(a.memfd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    let target = format!("{}:{}", std::process::id(), a.memfd().unwrap().as_raw_fd());
    let is_done = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                a.split().0.send(&MsgDescHot::data(0), &[1; 100]).unwrap();
                b.split().1.recv().unwrap();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        // No terminal is as good as `--once`.
        let output = top(&[&target, "--interval", "0.1"]);
        is_done.store(true, Ordering::Relaxed);
        output
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert!(text(&output.stdout).starts_with(&format!("{target}, every 0.1 s\nsession 1.0, 256 ")), "{output:?}");
    assert!(text(&output.stdout).contains("; nothing looks wrong\n"), "{output:?}");
    assert_eq!(row(&output, "peer A")[..3], ["peer", "A", "attached"]);
    let busy = row(&output, "A→B");
    assert_ne!(busy[5], "-", "{busy:?}");
    let idle = row(&output, "B→A");
    assert_eq!(idle[2..7], ["0", "of", "256", "0", "0"], "{idle:?}");
    assert_eq!(row(&output, "4 KiB")[3], "64", "{output:?}");
}

#[test]
fn a_session_that_has_ended_is_no_segment_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let bytes = {
        let _session = ShmSession::create_at(&path, ShmSessionConfig::default()).unwrap();
        let output = top(&[path.to_str().unwrap(), "--once", "--interval", "0.02"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        fs::read(&path).unwrap()
    };
    let output = top(&[path.to_str().unwrap(), "--once"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).starts_with("rapace-shm: there is no file "), "{output:?}");
    // Another in its place while it is watched.
    fs::write(&path, &bytes).unwrap();
    let replaced = std::thread::scope(|scope| {
        let watch = scope.spawn(|| top(&[path.to_str().unwrap(), "--once", "--interval", "0.5"]));
        std::thread::sleep(Duration::from_millis(200));
        let other = folder.path().join("other");
        fs::write(&other, &bytes).unwrap();
        fs::rename(&other, &path).unwrap();
        watch.join().unwrap()
    });
    assert_eq!(replaced.status.code(), Some(2), "{replaced:?}");
    assert!(text(&replaced.stderr).contains(" is gone: "), "{replaced:?}");
    assert_eq!(text(&replaced.stdout), "");
}

#[test]
fn an_interval_that_makes_no_sense_is_refused() {
    let output = top(&["nowhere", "--interval", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("give a number of seconds from 0.02 to 3600"), "{output:?}");
}
