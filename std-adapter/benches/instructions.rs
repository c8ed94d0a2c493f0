//! Instructions per message, counted exactly by `valgrind --tool=callgrind`: the same on a busy machine as on a quiet
//! one, so this is a regression test and fails when a bound is exceeded.
//!
//! `cargo bench -p rapace-shm --bench instructions`. Where there is no valgrind it says so and checks nothing.

use std::hint::black_box;
use std::process::{Command, ExitCode};

use rapace_shm::core::endpoint::Endpoint;
use rapace_shm::core::layout::SlotState;
use rapace_shm::core::region::SlotRights;
use rapace_shm::core::slots::SlotPool;
use rapace_shm::{
    Heard, HubConfig, HubHost, HubSender, MsgDescHot, Receiver, Sender, ShmSession, ShmSessionConfig, Waits,
};

/// Says to a second process of this program what to repeat, and how often.
const WORK: &str = "RAPACE_SHM_BENCH_WORK";

/// What is counted, and the most instructions that one may take.
const BOUNDS: [(&str, u64); 7] = [
    ("inline", 160),
    ("counted", 230),
    ("slot", 1040),
    ("allocate", 320),
    ("hub-inline", 540),
    ("hub-slot", 1880),
    ("hub-allocate", 790),
];

fn main() -> ExitCode {
    if let Ok(work) = std::env::var(WORK) {
        let (what, count) = work.split_once(' ').expect("what and how often");
        repeat(what, count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (what, bound) in BOUNDS {
        let (Some(all), Some(loops)) = (each(what), each("nothing")) else {
            println!("no usable valgrind here: nothing was counted");
            return ExitCode::SUCCESS;
        };
        let each = all - loops;
        let verdict = if each <= bound { "ok" } else { "TOO MANY" };
        println!("{what:<14} {each:>5} instructions each, bound {bound}: {verdict}");
        failed |= each > bound;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Instructions per turn of a loop: twice as many turns take that many more; start and end are the same.
fn each(what: &str) -> Option<u64> {
    Some((count(what, 20_000)? - count(what, 10_000)?) / 10_000)
}

/// Instructions that a process with this much work executes.
fn count(what: &str, times: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this program"))
        .env(WORK, format!("{what} {times}"))
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let collected = report.lines().find_map(|line| line.split_once("Collected :"))?;
    collected.1.trim().parse().ok()
}

/// Each kind of work is a loop of its own, so that what is counted is the work and not the choice.
fn repeat(what: &str, times: u64) {
    if let Some(what) = what.strip_prefix("hub-") {
        return repeat_in_hub(what, times);
    }
    let (mut a, mut b) = ShmSession::pair(ShmSessionConfig::default()).expect("pair");
    if what == "counted" {
        let metrics = std::sync::Arc::default();
        assert!(a.count_into(&metrics) && b.count_into(&metrics));
    }
    let (tx, rx) = (a.split().0, b.split().1);
    match what {
        "inline" | "counted" => inline(tx, rx, times),
        "slot" => slot(tx, rx, times),
        "nothing" => nothing(times),
        _ => {
            let (endpoint, pool) = tx.slots();
            allocate(endpoint, &pool, times);
        }
    }
}

/// From a plugin to the host, which would hear any other as well.
fn repeat_in_hub(what: &str, times: u64) {
    let mut host = HubHost::create(HubConfig::default()).expect("hub");
    let mut plugin = host.add_local(Waits::Together).expect("plugin");
    assert!(matches!(host.recv_any(), Ok((_, Heard::Joined))));
    let tx = plugin.split().0;
    match what {
        "inline" => hub_inline(tx, &mut host, times),
        "slot" => hub_slot(tx, &mut host, times),
        _ => {
            let (endpoint, pool) = tx.slots();
            allocate(endpoint, &pool, times);
        }
    }
}

#[inline(never)]
fn hub_inline(tx: &mut HubSender, host: &mut HubHost, times: u64) {
    let descriptor = MsgDescHot::data(7);
    for _ in 0..times {
        tx.send(black_box(&descriptor), black_box(b"inline")).expect("sent");
        let (_, Heard::Message(message)) = host.recv_any().expect("received") else { panic!("no message") };
        assert_eq!(black_box(message.descriptor()).msg_id, 7);
    }
}

#[inline(never)]
fn hub_slot(tx: &mut HubSender, host: &mut HubHost, times: u64) {
    let descriptor = MsgDescHot::data(7);
    for _ in 0..times {
        let mut loan = tx.loan(black_box(1024)).expect("slot");
        loan[0] = 1;
        tx.send_loan(black_box(&descriptor), loan).expect("sent");
        let (_, Heard::Message(message)) = host.recv_any().expect("received") else { panic!("no message") };
        assert_eq!(black_box(message.payload())[0], 1);
    }
}

/// What the loop itself takes: making up a message and looking at one.
#[inline(never)]
fn nothing(times: u64) {
    let descriptor = MsgDescHot::data(7);
    for _ in 0..times {
        let _ = black_box((black_box(&descriptor), black_box(b"inline")));
        assert_eq!(black_box(&descriptor).msg_id, 7);
    }
}

#[inline(never)]
fn inline(tx: &mut Sender, rx: &mut Receiver, times: u64) {
    let descriptor = MsgDescHot::data(7);
    for _ in 0..times {
        tx.send(black_box(&descriptor), black_box(b"inline")).expect("sent");
        let received = rx.recv();
        assert_eq!(black_box(received.as_ref().expect("received").descriptor()).msg_id, 7);
    }
}

#[inline(never)]
fn slot(tx: &mut Sender, rx: &mut Receiver, times: u64) {
    let descriptor = MsgDescHot::data(7);
    for _ in 0..times {
        let mut loan = tx.loan(black_box(1024)).expect("slot");
        loan[0] = 1;
        tx.send_loan(black_box(&descriptor), loan).expect("sent");
        let message = rx.recv().expect("received");
        assert_eq!(black_box(message.payload())[0], 1);
    }
}

#[inline(never)]
fn allocate<E: Endpoint>(endpoint: &E, pool: &impl SlotPool, times: u64) {
    // SAFETY: used only for the slots taken here, which no guard has.
    let rights = unsafe { SlotRights::without_guards() };
    for _ in 0..times {
        let (slot, _) = pool.allocate(endpoint, black_box(64)).expect("no fault").expect("free");
        pool.send(endpoint, slot, rights).expect("no fault");
        pool.free(endpoint, slot, SlotState::InFlight, rights).expect("no fault");
    }
}
