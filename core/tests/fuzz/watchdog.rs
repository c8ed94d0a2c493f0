//! What ends a test whose execution does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Longer than any execution takes on a machine under load: one is a few thousand calls at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Aborts the process if one execution takes longer than [`PATIENCE`]. Its thread ends with it.
pub struct Watchdog {
    current: Arc<AtomicU64>,
    _until_over: Sender<()>,
}

impl Watchdog {
    pub fn start(name: &'static str) -> Self {
        let current = Arc::new(AtomicU64::new(0));
        let (until_over, over) = channel();
        let watched = current.clone();
        std::thread::spawn(move || watch(&watched, &over, name));
        Self { current, _until_over: until_over }
    }

    /// Another execution begins.
    pub fn begins(&self, number: u64) {
        self.current.store(number, Ordering::Relaxed);
    }
}

fn watch(current: &AtomicU64, over: &Receiver<()>, name: &str) {
    let mut before = None;
    while over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        let now = Some(current.load(Ordering::Relaxed));
        if now == before {
            eprintln!("{name}: execution {before:?} does not end; repeat it with RAPACE_SHM_FUZZ_ONLY");
            std::process::abort();
        }
        before = now;
    }
}
