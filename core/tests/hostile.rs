//! Rubbish in the region, at any moment, between any two accesses: no panic, no endless loop, nothing handed out twice,
//! and after a fault a closed endpoint.
//!
//! `RAPACE_SHM_HOSTILE_TRIALS=1000000 cargo test --release -p rapace-shm-core --all-features --test hostile` runs a hundred
//! times as many trials as the default (some four hundred million calls). A failure names its seed;
//! `RAPACE_SHM_HOSTILE_SEED` repeats that one trial.
//!
//! Seen to fail on these mutants of core: no claim in the ledger (two guards overlap); no bound on the free list's walk
//! (longer than there are slots, or endless); a free list whose head is not checked against the number of slots (an
//! access outside the region); a payload length that is not checked against the slot.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::rubbish::targets;
use common::side::Side;
use common::vandal::{Vandal, trials};
use common::watched::Watched;
use common::{HeapRegion, SharedLedger, region};
use fastrand::Rng;
use rapace_shm_core::endpoint::Polled;
use rapace_shm_core::layout::{At, SegmentHeader, ShmSessionConfig, calculate_segment_size};
use rapace_shm_core::link::Link;
use rapace_shm_core::region::Region;

const CALLS: usize = 200;

type Victim = Polled<Watched<Vandal>, SharedLedger>;

fn shape(rng: &mut Rng) -> ShmSessionConfig {
    ShmSessionConfig { ring_capacity: 1 << rng.u32(..4), slot_size: rng.u32(1..20) * 4, slot_count: rng.u32(1..6) }
}

fn victim(region: &HeapRegion, vandal: &Arc<Vandal>, slots: u32) -> Victim {
    Polled::new(Watched::new(region.clone(), vandal.clone()), SharedLedger::new(slots))
}

#[test]
#[allow(clippy::arc_with_non_send_sync)] // one thread
fn rubbish_between_any_two_accesses_of_a_session() {
    trials(1, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let config = shape(&mut rng);
        let region = region(calculate_segment_size(&config).unwrap());
        let vandal = Arc::new(Vandal::new(seed, targets(&config)));
        let rate = vandal.rate.replace(0);
        let a = Link::create(victim(&region, &vandal, config.slot_count), config).unwrap();
        let b = Link::attach(victim(&region, &vandal, config.slot_count)).unwrap();
        let mut sides = [Side::new(a), Side::new(b)];
        // A quiet start, so that there is something to spoil.
        for call in 0..CALLS {
            vandal.rate.set(if call < 10 { 0 } else { rate });
            vandal.accesses.set(0);
            let side = &mut sides[rng.usize(..2)];
            if side.ended && rng.u8(..) < 64 {
                side.reset();
            } else {
                side.call(&mut rng);
            }
        }
        // Guards and halves go while the rubbish goes on.
        vandal.accesses.set(0);
        drop(sides);
    });
}

/// Headers and shapes that the newcomer did not make.
#[test]
#[allow(clippy::arc_with_non_send_sync)] // one thread
fn attaching_to_rubbish() {
    trials(10, |seed| {
        let mut rng = Rng::with_seed(!seed);
        let config = shape(&mut rng);
        let size = calculate_segment_size(&config).unwrap();
        let region = region(size);
        let vandal = Arc::new(Vandal::new(seed, targets(&config)));
        let rate = vandal.rate.replace(0);
        let creator = Link::create(victim(&region, &vandal, config.slot_count), config).unwrap();
        for _ in 0..rng.usize(..4) {
            let offset = rng.usize(..size_of::<SegmentHeader>() / 4) * 4;
            let any = rng.u32(..);
            let value = rng.choice([0, 1, 2, 3, 1 << 31, u32::MAX, any]).unwrap_or(any);
            region.u32(At::new(offset)).store(value, Ordering::Relaxed);
        }
        vandal.rate.set(rate);
        if let Ok(link) = Link::attach(victim(&region, &vandal, config.slot_count)) {
            let mut side = Side::new(link);
            for _ in 0..20 {
                vandal.accesses.set(0);
                side.call(&mut rng);
            }
            vandal.accesses.set(0);
        }
        drop(creator);
    });
}
