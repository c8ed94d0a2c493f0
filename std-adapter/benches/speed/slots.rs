//! Allocate, hand over and free a slot: beside five compare-exchanges, which is what the transitions cost at least.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rapace_shm::core::endpoint::Endpoint;
use rapace_shm::core::layout::SlotState;
use rapace_shm::core::region::SlotRights;
use rapace_shm::core::slots::SlotPool;
use rapace_shm::{ShmSession, ShmSessionConfig};

use crate::floor::five_compare_exchanges;
use crate::measure::{Plan, Row, Unit, compare, median_batch};

pub fn run(plan: &Plan) {
    compare(
        plan,
        &Row {
            what: "slot: allocate + mark + free, one thread",
            goal: "<= 1.6 x five compare-exchanges",
            unit: Unit::Time,
        },
        || one_thread(plan),
        || five_compare_exchanges(plan),
    );
    compare(
        plan,
        &Row { what: "slot: allocate + mark + free, two threads", goal: "<= 120 ns", unit: Unit::Time },
        || two_threads(plan),
        || five_compare_exchanges(plan),
    );
}

/// A slot for this many bytes, there and back.
pub fn cycle<E: Endpoint>(endpoint: &E, pool: &impl SlotPool, len: usize) {
    // SAFETY: used only for the slot taken here, which no guard has.
    let rights = unsafe { SlotRights::without_guards() };
    // The other peer's thread may have both slots' worth of the list in hand for a moment, never all of it.
    let (slot, _) = pool.allocate(endpoint, len).expect("no fault").expect("a slot is free");
    pool.send(endpoint, slot, rights).expect("no fault");
    pool.free(endpoint, slot, SlotState::InFlight, rights).expect("no fault");
}

fn one_thread(plan: &Plan) -> f64 {
    let (a, b) = ShmSession::pair(ShmSessionConfig::default()).expect("pair");
    let (tx, _keep_b) = (a.into_split().0, b);
    let (endpoint, pool) = tx.slots();
    median_batch(plan, || cycle(endpoint, &pool, 64))
}

fn two_threads(plan: &Plan) -> f64 {
    let (a, b) = ShmSession::pair(ShmSessionConfig::default()).expect("pair");
    let (tx, other) = (a.into_split().0, b.into_split().0);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let competitor = thread::spawn(move || {
        let (endpoint, pool) = other.slots();
        while !stopped.load(Ordering::Relaxed) {
            cycle(endpoint, &pool, 64);
        }
    });
    let (endpoint, pool) = tx.slots();
    let time = median_batch(plan, || cycle(endpoint, &pool, 64));
    stop.store(true, Ordering::Relaxed);
    competitor.join().expect("competitor");
    time
}
