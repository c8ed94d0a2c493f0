//! What the tests of the program share. Not every one of them uses all of it.
#![allow(dead_code)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

/// The program, with nothing to read, and everything that it says caught.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rapace-shm"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Whether a process is gone, or soon is.
pub fn vanishes(process: Pid) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        // A zombie counts as gone: whoever adopted it has not looked yet.
        let status = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid()));
        if test_kill_process(process).is_err() || status.is_ok_and(|status| status.contains(") Z ")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// A process that ends with this value.
pub struct Another(pub Child);

impl Drop for Another {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
