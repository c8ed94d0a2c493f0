//! The main job: a real file, round trips and one-way traffic between two processes, and what they took.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rapace_shm::core::layout::calculate_segment_size;
use rapace_shm::{INLINE_PAYLOAD_SIZE, ShmSessionConfig};

use crate::error::Error;
use crate::estimate::Batches;
use crate::hub;
use crate::jobs::{Job, Receipt, expect_marked, fill, mark};
use crate::ping_pong;
use crate::second::Second;

/// What `demo` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The file to send; this program's own executable if none is named
    file: Option<PathBuf>,
    /// Measure for three seconds at most: less exact
    #[arg(long)]
    pub quick: bool,
    /// Show a hub of one host and N plugins instead (1 to 31), and kill one in the middle
    #[arg(long, value_name = "N", conflicts_with = "file", value_parser = clap::value_parser!(u16).range(1..=31))]
    hub: Option<u16>,
}

const KIB: usize = 1024;
/// Big pieces for the file, enough of them to keep both sides busy.
const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 256, slot_size: 1 << 16, slot_count: 64 };
/// Lengths of messages in bytes; the first rides inline.
const SIZES: [usize; 4] = [INLINE_PAYLOAD_SIZE, 64, 4 * KIB, 64 * KIB];
/// Bytes between two looks at the clock in one-way traffic, at most, and messages.
const BURST_BYTES: usize = 4 << 20;
const BURST: usize = 4096;

/// Runs it and prints the table.
pub fn run(options: &Options) -> Result<(), Error> {
    match options.hub {
        Some(plugins) => hub::run(plugins, options.quick),
        None => session(options),
    }
}

fn session(options: &Options) -> Result<(), Error> {
    let path = options.file.clone().map_or_else(std::env::current_exe, Ok)?;
    // Before anything is started: a file that cannot be read is the likeliest mistake.
    let file = File::open(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let mut second = Second::start(CONFIG)?;
    let mut out = io::stdout().lock();
    let segment = calculate_segment_size(&CONFIG).map_err(rapace_shm::Error::from)?;
    writeln!(out, "processes {} and {}, {} shared", std::process::id(), second.id(), Bytes(segment as f64))?;
    writeln!(out)?;
    send_file(&mut out, &mut second, file, &path)?;
    writeln!(out)?;
    round_trips(&mut out, &mut second, options.quick)?;
    writeln!(out)?;
    one_way(&mut out, &mut second, options.quick)?;
    writeln!(out)?;
    let leaked = second.finish()?;
    writeln!(out, "slots leaked: {leaked} of {}", CONFIG.slot_count)?;
    if leaked > 0 { Err(Error::Leaked(leaked)) } else { Ok(()) }
}

/// Sends a file piece by piece: read from the file straight into slots, checksummed where the pieces lie, on both sides.
fn send_file(out: &mut impl Write, second: &mut Second, mut file: File, path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::File { path: path.to_owned(), source };
    // Unknown for pipes and the like; then the bar just counts.
    let progress = bar(file.metadata().map_err(unreadable)?.len(), "{bytes} of {total_bytes}");
    let start = Instant::now();
    let mut sent = Receipt::default();
    let mut pieces = 0;
    loop {
        let mut loan = second.loan(CONFIG.slot_size as usize)?;
        let len = read_up_to(&mut file, &mut loan).map_err(unreadable)?;
        if len == 0 {
            break;
        }
        loan.truncate(len);
        sent.add(&loan);
        second.send_loan(&Job::File.descriptor(pieces), loan)?;
        pieces += 1;
        progress.set_position(sent.bytes());
    }
    let near = sent.checksum();
    let far = second.ask(Job::FileEnd)?;
    let took = start.elapsed();
    progress.finish_and_clear();
    if far != u64::from(near) {
        return Err(Error::Checksum { near, far, bytes: sent.bytes() });
    }
    let bytes = sent.bytes() as f64;
    writeln!(out, "file          {}", path.display())?;
    writeln!(out, "              {} in {pieces} messages, written in place and read in place", Bytes(bytes))?;
    writeln!(out, "              checksum {near:08x} on both sides")?;
    writeln!(
        out,
        "              {}/s, reading the file and both checksums included",
        Bytes(bytes / took.as_secs_f64())
    )?;
    Ok(())
}

/// Fills the buffer, or as much of it as the file still has.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn round_trips(out: &mut impl Write, second: &mut Second, quick: bool) -> Result<(), Error> {
    // With one processor a round trip is two switches of process, and a spinning ping-pong would be two time slices.
    let alone = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let limit = Duration::from_millis(if quick { 100 } else { 400 });
    let batches = Batches { operations: if alone { 8 } else { 64 }, count: 4000, limit };
    writeln!(out, "{:<14}{:>12}{:>12}{:>12}", "round trip", "median", "floor", "x floor")?;
    for len in SIZES {
        let floor = (!alone).then(|| ping_pong::round_trip(batches));
        let mut number = 0;
        let median = batches.time(|| {
            number += 1;
            round_trip(second, len, number)
        })?;
        write!(out, "{:<14}{:>12}", what(len), Nanoseconds(median).to_string())?;
        match floor {
            Some(floor) => writeln!(out, "{:>12}{:>12.2}", Nanoseconds(floor).to_string(), median / floor),
            None => writeln!(out, "{:>12}{:>12}", "-", "-"),
        }?;
    }
    writeln!(out, "floor: two cache lines each way between two spinning threads, measured right before")?;
    Ok(())
}

/// One message there and one of the same length back, marked in place at both ends.
fn round_trip(second: &mut Second, len: usize, number: u64) -> Result<(), Error> {
    let descriptor = Job::Echo.descriptor(number);
    if len <= INLINE_PAYLOAD_SIZE {
        let mut payload = [0; INLINE_PAYLOAD_SIZE];
        mark(&mut payload[..len], number);
        second.send(&descriptor, &payload[..len])?;
    } else {
        let mut loan = second.loan(len)?;
        mark(&mut loan, number);
        second.send_loan(&descriptor, loan)?;
    }
    expect_marked(&second.recv()?, number)
}

fn one_way(out: &mut impl Write, second: &mut Second, quick: bool) -> Result<(), Error> {
    let span = Duration::from_millis(if quick { 300 } else { 1500 });
    writeln!(
        out,
        "{:<14}{:>12}{:>14}{:>14}{:>22}",
        "one way", "messages", "messages/s", "bytes/s", "system calls/million"
    )?;
    for len in SIZES {
        let before = second.system_calls()?;
        let (count, took) = traffic(second, len, span)?;
        let calls = second.system_calls()? - before;
        let messages = count as f64;
        writeln!(
            out,
            "{:<14}{count:>12}{:>14}{:>14}{:>22.1}",
            what(len),
            format!("{:.2} M", messages / took.as_secs_f64() / 1e6),
            Bytes(messages * len as f64 / took.as_secs_f64()).to_string(),
            calls as f64 * 1e6 / messages,
        )?;
    }
    writeln!(out, "every byte written by one process and read by the other; system calls of both")?;
    Ok(())
}

/// Sends messages of `len` bytes for a while; ends when the second process says that it has read them all.
fn traffic(second: &mut Second, len: usize, span: Duration) -> Result<(u64, Duration), Error> {
    let progress = bar(span.as_millis().try_into().unwrap_or(u64::MAX), &format!("{} {{msg}}", what(len)));
    let burst = (BURST_BYTES / len).min(BURST) as u64;
    let mut number = 0;
    let start = Instant::now();
    while start.elapsed() < span {
        for _ in 0..burst {
            let descriptor = Job::Take.descriptor(number);
            if len <= INLINE_PAYLOAD_SIZE {
                let mut payload = [0; INLINE_PAYLOAD_SIZE];
                fill(&mut payload[..len], number);
                second.send(&descriptor, &payload[..len])?;
            } else {
                let mut loan = second.loan(len)?;
                fill(&mut loan, number);
                second.send_loan(&descriptor, loan)?;
            }
            number += 1;
        }
        if !progress.is_hidden() {
            progress.set_message(format!("{number} messages"));
            progress.set_position(start.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        }
    }
    let taken = second.ask(Job::TakeEnd)?;
    let took = start.elapsed();
    progress.finish_and_clear();
    if taken != number {
        return Err(Error::Disorder { expected: number, seen: taken, bytes: len });
    }
    Ok((number, took))
}

/// Progress on standard error; nothing at all unless that is a terminal.
pub fn bar(length: u64, text: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {text}"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn what(len: usize) -> String {
    let how = if len <= INLINE_PAYLOAD_SIZE { "inline" } else { "slot" };
    if len < KIB { format!("{len} B {how}") } else { format!("{} KiB {how}", len / KIB) }
}

/// A number of bytes, to be read by people.
pub struct Bytes(pub f64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes >= 1e9 => write!(f, "{:.2} GB", bytes / 1e9),
            bytes if bytes >= 1e6 => write!(f, "{:.2} MB", bytes / 1e6),
            bytes if bytes >= 1e3 => write!(f, "{:.1} kB", bytes / 1e3),
            bytes => write!(f, "{bytes:.0} B"),
        }
    }
}

/// A time, to be read by people.
struct Nanoseconds(f64);

impl std::fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 10_000.0 { write!(f, "{:.1} us", self.0 / 1e3) } else { write!(f, "{:.0} ns", self.0) }
    }
}
