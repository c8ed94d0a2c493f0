//! `inspect` as its users see it: what it prints, its exit codes, and that a running session does not notice.
//!
//! Seen to fail when: the target is opened for writing too (a directory then has another error); there is one exit code for
//! both failures; a pipe is opened as everything else is (then the program waits for ever).

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use common::{Another, program, text};
use rapace_shm::{HubConfig, HubOptions, HubPeer, ShmSession, ShmSessionConfig, Waits};
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn inspect(target: impl AsRef<std::ffi::OsStr>) -> Output {
    program().arg("inspect").arg(target).output().unwrap()
}

#[track_caller]
fn assert_sound(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("\nfindings                none ("), "{output:?}");
    assert_eq!(text(&output.stderr), "");
}

fn bytes_of(session: &ShmSession) -> Vec<u8> {
    let file = File::from(session.memfd().unwrap().try_clone_to_owned().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A dead segment: what a session's memory said at some moment, in a file.
fn saved(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_file_is_read_and_left_as_it_was() {
    let bytes = bytes_of(&ShmSession::create(ShmSessionConfig::default()).unwrap());
    let file = saved(&bytes);
    let changed = |path: &Path| fs::metadata(path).map(|stat| (stat.mtime(), stat.mtime_nsec(), stat.ctime_nsec()));
    let before = changed(file.path()).unwrap();
    assert_sound(&inspect(file.path()));
    assert_eq!(changed(file.path()).unwrap(), before);
    assert_eq!(fs::read(file.path()).unwrap(), bytes);
}

#[test]
fn a_damaged_segment_is_exit_code_1_and_the_field_is_named() {
    let mut bytes = bytes_of(&ShmSession::create(ShmSessionConfig::default()).unwrap());
    bytes[12] = 1;
    let output = inspect(saved(&bytes).path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("\n! header flags\n    seen      0x01 in byte 0 of 4\n"), "{output:?}");
    assert_eq!(text(&output.stderr), "rapace-shm: fields that look wrong: 1\n");
}

#[test]
fn a_hub_is_known_by_its_bytes() {
    let output = inspect(saved(&[b"RAPAHUB\0".as_slice(), &[0; 4096]].concat()).path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("file length             4104 bytes\nhub version             0.0\n"));
    assert!(text(&output.stdout).contains("\n! header version\n    seen      0.0\n"), "{output:?}");
}

#[test]
fn a_hub_at_a_path_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub");
    let options = HubOptions::new().sparse(true);
    let mut host = options.create_at(&path, HubConfig::default()).unwrap();
    let _plugin = HubPeer::open_at(&path, host.add_peer(Waits::Together).unwrap()).unwrap();
    let output = inspect(&path);
    assert_sound(&output);
    let process = format!("\nplugin 1 process        {}, running\n", std::process::id());
    assert!(text(&output.stdout).contains("\nplugin 1                attached; flags: active\n"), "{output:?}");
    assert!(text(&output.stdout).contains(&process), "{output:?}");
}

#[test]
fn the_session_of_a_running_process_is_found_by_its_descriptor() {
    let session = ShmSession::create(ShmSessionConfig::default()).unwrap();
    let before = bytes_of(&session);
    let output = inspect(format!("{}:{}", std::process::id(), session.memfd().unwrap().as_raw_fd()));
    assert_sound(&output);
    assert!(text(&output.stdout).starts_with("file length             296000 bytes\n"), "{output:?}");
    assert!(bytes_of(&session) == before);
}

#[test]
fn a_session_at_a_path_is_looked_at_and_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let a = ShmSession::create_at(&path, ShmSessionConfig::default()).unwrap();
    assert_sound(&inspect(&path));
    let b = ShmSession::open_at(&path).unwrap();
    let output = inspect(&path);
    assert_sound(&output);
    let process = format!("{}, running; pid namespace ", std::process::id());
    assert_eq!(text(&output.stdout).matches(&process).count(), 2, "{output:?}");
    drop((a, b));
    assert_eq!(inspect(&path).status.code(), Some(2));
}

#[test]
fn what_cannot_be_inspected_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let script = saved(&[b'#'; 4096]);
    let id = std::process::id();
    for (target, expected) in [
        ("/nonexistent/file".into(), "rapace-shm: there is no file /nonexistent/file; name one, "),
        // Above the largest process id that there can be.
        ("4194305:3".into(), "rapace-shm: there is no process 4194305; "),
        (format!("{id}:999999"), " has no descriptor 999999; "),
        (folder.path().display().to_string(), ": not a regular file and not a memfd; "),
        (pipe.display().to_string(), ": not a regular file and not a memfd; "),
        (script.path().display().to_string(), ": not a rapace segment: it starts with [23, 23, "),
    ] {
        let output = inspect(&target);
        assert_eq!(output.status.code(), Some(2), "{target}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{target}: {output:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn the_exit_codes_are_documented() {
    let output = program().args(["inspect", "--help"]).output().unwrap();
    assert!(text(&output.stdout).contains("Exit code: 0 nothing looks wrong, 1 something does, 2 "), "{output:?}");
}

/// Its session, as `inspect` wants to be told.
fn session_of(demo: &Another) -> String {
    let descriptors = format!("/proc/{}/fd", demo.0.id());
    let is_session = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:rapace-shm"))
    };
    let mut entries = fs::read_dir(descriptors).unwrap().map(Result::unwrap);
    format!("{}:{}", demo.0.id(), entries.find(is_session).unwrap().file_name().to_str().unwrap())
}
#[test]
fn two_processes_at_full_speed_are_watched_and_do_not_notice() {
    let mut demo = Another(program().args(["demo", "--quick"]).spawn().unwrap());
    let mut stdout = BufReader::new(demo.0.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let session = session_of(&demo);
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        rest
    });
    let (mut looks, start) = (0, Instant::now());
    while demo.0.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "the demo does not end");
        let output = inspect(&session);
        if output.status.code() == Some(2) {
            // It has just ended.
            break;
        }
        assert_sound(&output);
        looks += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(looks > 3, "looked {looks} times");
    assert!(demo.0.wait().unwrap().success());
    let table = rest.join().unwrap();
    assert!(table.contains(" on both sides\n") && table.contains("\nslots leaked: 0 of 64\n"), "{table}");
}
