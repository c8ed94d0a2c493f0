//! `demo --hub`: a host and many plugins, each a process. In the middle one is killed; the others do not notice, what it
//! had goes back, and another process takes its place.
//!
//! | module | what lives there |
//! |---|---|
//! | `fleet` | the host and its plugins' processes: requests, answers, a death, a replacement |
//! | `plugin` | what a plugin's process does |

mod fleet;
pub mod plugin;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rapace_shm::Reaped;

use crate::demo::{Bytes, bar};
use crate::error::Error;
use fleet::Fleet;

/// Runs it and says what was seen.
pub fn run(plugins: u16, quick: bool) -> Result<(), Error> {
    let span = Duration::from_millis(if quick { 300 } else { 2000 });
    let mut fleet = Fleet::start(plugins)?;
    let mut out = io::stdout().lock();
    processes(&mut out, &fleet)?;
    traffic(&mut out, "traffic", &mut fleet, span)?;
    let victim = fleet.workers().len() / 2;
    death(&mut out, &mut fleet, victim)?;
    traffic(&mut out, "traffic", &mut fleet, span)?;
    let (bytes, provided) = fleet.bytes()?;
    let answers: u64 = fleet.workers().iter().map(|worker| worker.answered).sum();
    let slots = fleet.finish()?;
    writeln!(out, "in the end    {answers} requests, each answered once, in order, every byte as it should be")?;
    writeln!(
        out,
        "              {} of shared memory, {} of it ever touched",
        Bytes(bytes as f64),
        Bytes(provided as f64)
    )?;
    let leaked = u64::from(slots.total() - slots.free().min(slots.free_list_len()));
    writeln!(out, "slots leaked: {leaked} of {}", slots.total())?;
    if leaked > 0 { Err(Error::Leaked(leaked)) } else { Ok(()) }
}

fn processes(out: &mut impl Write, fleet: &Fleet) -> Result<(), Error> {
    let ids: Vec<String> = fleet.workers().iter().map(|worker| worker.process.id().to_string()).collect();
    writeln!(out, "processes     {} (host), {} (plugins 1 to {})", std::process::id(), ids.join(", "), ids.len())?;
    Ok(())
}

/// Keeps everybody busy for a while, and says how busy.
fn traffic(out: &mut impl Write, name: &str, fleet: &mut Fleet, span: Duration) -> Result<(), Error> {
    let before: Vec<u64> = fleet.workers().iter().map(|worker| worker.answered).collect();
    let (answers, calls, start) = (fleet.answers(), fleet.system_calls(), Instant::now());
    let progress = bar(span.as_millis().try_into().unwrap_or(u64::MAX), "{msg}");
    fleet.run_for(span, |elapsed, answers| {
        if !progress.is_hidden() {
            progress.set_message(format!("{answers} answers"));
            progress.set_position(elapsed.as_millis().try_into().unwrap_or(u64::MAX));
        }
    })?;
    progress.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    // A request and its answer.
    let messages = 2 * (fleet.answers() - answers);
    let calls = (fleet.system_calls() - calls) as f64 * 1e6 / messages as f64;
    let each = fleet.workers().iter().zip(before).map(|(worker, before)| worker.answered - before);
    let (least, most) = (each.clone().min().unwrap_or(0), each.max().unwrap_or(0));
    writeln!(
        out,
        "{name:<14}{messages} messages, {:.2} M/s, both ways, 16 B to 4 KiB",
        messages as f64 / seconds / 1e6
    )?;
    writeln!(
        out,
        "              {least} to {most} requests per plugin; {calls:.0} system calls of the host per million"
    )?;
    Ok(())
}

/// Kills one, lets the others go on, and replaces it.
fn death(out: &mut impl Write, fleet: &mut Fleet, victim: usize) -> Result<(), Error> {
    let worker = &fleet.workers()[victim];
    let (number, process, answered) = (worker.id.0, worker.process.id(), worker.answered);
    let others = |fleet: &Fleet| fleet.answers() - fleet.workers()[victim].answered;
    let before = others(fleet);
    let (noticed, Reaped { unreceived, owned, announced, .. }) = fleet.kill(victim)?;
    writeln!(out, "killed        plugin {number}, process {process}, after {answered} answers")?;
    writeln!(out, "              noticed after {:.1} ms", milliseconds(noticed))?;
    writeln!(
        out,
        "              reclaimed {} slots: {unreceived} sent to it, {owned} its own, {announced} in between",
        unreceived + owned + announced
    )?;
    let (again, took) = fleet.replace(victim)?;
    let process = fleet.workers()[victim].process.id();
    writeln!(out, "replaced      by process {process}, with the same number, after {:.1} ms", milliseconds(took))?;
    writeln!(out, "              asked once more what was not answered: {again} requests")?;
    writeln!(out, "              the others answered {} requests meanwhile", others(fleet) - before)?;
    Ok(())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
