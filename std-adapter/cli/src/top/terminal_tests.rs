//! `top` in a real terminal: a pseudo terminal, whose settings are compared before and after. The second process is this
//! test, run anew.
//!
//! Seen to fail when: nothing restores the terminal at the end; the segment is not looked for again; Ctrl-C is taken for a
//! letter.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Parser;
use rapace_shm::{ShmSession, ShmSessionConfig};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::screen::Screen;

const TARGET: &str = "RAPACE_SHM_TOP_TARGET";
const PANIC: &str = "RAPACE_SHM_TOP_PANIC";
const PATIENCE: Duration = Duration::from_secs(20);
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    options: super::Options,
}

/// What the second process runs; does nothing when it is run as a test.
#[test]
fn top() {
    let Some(target) = std::env::var_os(TARGET) else { return };
    let words = ["top".into(), target, "--interval".into(), "0.02".into()];
    if let Err(error) = super::run(&CommandLine::parse_from(words).options) {
        println!("error: {error}");
        std::process::exit(2);
    }
    std::process::exit(0);
}

/// As [`top`].
#[test]
fn panicking_top() {
    if std::env::var_os(PANIC).is_some() {
        let _screen = Screen::take().unwrap();
        panic!("on purpose");
    }
}

/// A terminal, and a process in it.
struct Terminal {
    near: File,
    far: OwnedFd,
    before: Termios,
    child: Child,
    output: Receiver<Vec<u8>>,
    said: String,
}

impl Terminal {
    fn start(test: &str, variable: &str, value: &str) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let far = open(ptsname(&near, Vec::new()).unwrap(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&far, Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&far).unwrap();
        let end = || far.try_clone().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("top::terminal_tests::{test}"), "--nocapture"]).env(variable, value);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let near = File::from(near);
        let output = read_all(near.try_clone().unwrap());
        Self { near, far, before, child, output, said: String::new() }
    }

    /// Waits until the process has said this.
    fn expect(&mut self, text: &str) {
        let start = Instant::now();
        while !self.said.contains(text) {
            assert!(start.elapsed() < PATIENCE, "no {text:?} in {:?}", self.said);
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.said += &String::from_utf8_lossy(&bytes);
            }
        }
    }

    /// Waits until the process has ended; returns what it ended with.
    fn end(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {:?}", self.said);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The terminal is what it was, and shows what it showed.
    fn assert_given_back(&mut self) {
        self.expect(GIVEN_BACK);
        let modes =
            |termios: &Termios| (termios.input_modes, termios.output_modes, termios.control_modes, termios.local_modes);
        assert_eq!(modes(&tcgetattr(&self.far).unwrap()), modes(&self.before));
        assert!(self.said.find(TAKEN) < self.said.rfind(GIVEN_BACK), "{:?}", self.said);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever comes, until the terminal ends.
fn read_all(mut near: File) -> Receiver<Vec<u8>> {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = near.read(&mut bytes) {
            if tx.send(bytes[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    rx
}

fn session() -> (tempfile::TempDir, std::path::PathBuf, ShmSession) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let session = ShmSession::create_at(&path, ShmSessionConfig::default()).unwrap();
    (folder, path, session)
}

#[test]
fn whoever_quits_has_the_terminal_back() {
    let (_folder, path, _session) = session();
    for key in [b"q".as_slice(), b"\x03", b"\x1b"] {
        let mut terminal = Terminal::start("top", TARGET, path.to_str().unwrap());
        terminal.expect("q quits");
        terminal.expect("descriptors");
        let raw = tcgetattr(&terminal.far).unwrap();
        assert_ne!(raw.local_modes, terminal.before.local_modes);
        terminal.near.write_all(key).unwrap();
        assert_eq!(terminal.end(), Some(0), "{:?}", terminal.said);
        terminal.assert_given_back();
    }
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let mut terminal = Terminal::start("panicking_top", PANIC, "1");
    assert_eq!(terminal.end(), Some(101));
    terminal.assert_given_back();
    terminal.expect("on purpose");
}

#[test]
fn a_session_that_goes_away_is_said_in_the_terminal_as_it_was() {
    let (_folder, path, session) = session();
    let mut terminal = Terminal::start("top", TARGET, path.to_str().unwrap());
    terminal.expect("q quits");
    drop(session);
    assert_eq!(terminal.end(), Some(2), "{:?}", terminal.said);
    terminal.assert_given_back();
    terminal.expect(&format!("error: {} is gone: ", path.display()));
}
