//! Whoever writes rubbish into a region, between any two accesses of others.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use fastrand::Rng;
use rapace_shm_core::layout::At;
use rapace_shm_core::region::Region;

use super::watched::Watch;
use super::{HeapRegion, number_from, rubbish};

/// More accesses than any call may need, in a segment this small: a compare-exchange is tried 65536 times at most.
const ACCESSES: u64 = 1 << 18;

/// Runs trials with seeds of their own.
pub fn trials(share: u64, trial: impl Fn(u64)) {
    let count = number_from("RAPACE_SHM_HOSTILE_TRIALS").unwrap_or(10_000) * share;
    let only = number_from("RAPACE_SHM_HOSTILE_SEED");
    for seed in only.map_or(0..count, |seed| seed..seed + 1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| trial(seed))) {
            eprintln!("repeat with RAPACE_SHM_HOSTILE_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// Writes rubbish now and then, before an access of somebody else.
pub struct Vandal {
    rng: RefCell<Rng>,
    /// How many of 256 accesses it precedes.
    pub rate: Cell<u8>,
    /// Words that mean something.
    targets: Vec<usize>,
    /// Accesses since the last call began.
    pub accesses: Cell<u64>,
}

impl Vandal {
    /// `targets` are the offsets of words that mean something.
    pub fn new(seed: u64, targets: Vec<usize>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rate = rng.choice([1, 4, 16, 128]).unwrap_or(1);
        Self { targets, rate: Cell::new(rate), rng: RefCell::new(rng), accesses: Cell::new(0) }
    }

    pub fn rubbish(&self, region: &HeapRegion) {
        let mut rng = self.rng.borrow_mut();
        let targeted = rng.u8(..) < 200;
        let offset = match rng.choice(&self.targets) {
            Some(target) if targeted => *target,
            _ => rng.usize(..region.size() - 8) & !3,
        };
        let word = region.u32(At::new(offset));
        let seen = word.load(Ordering::Relaxed);
        let other = rng.choice(&self.targets).map_or(0, |other| region.u32(At::new(*other)).load(Ordering::Relaxed));
        let value = rubbish::value(&mut *rng, seen, other);
        word.store(value, Ordering::Relaxed);
    }
}

impl Watch for Vandal {
    fn access(&self, region: &HeapRegion) -> bool {
        self.accesses.set(self.accesses.get() + 1);
        assert!(self.accesses.get() < ACCESSES, "a call does not end");
        if self.rng.borrow_mut().u8(..) < self.rate.get() {
            self.rubbish(region);
        }
        true
    }
}
