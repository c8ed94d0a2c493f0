//! How much to measure, and the comparison: alternating between two things, between probes that agree.

use std::convert::Infallible;
use std::time::Duration;

use crate::estimate::{Batches, median};
use crate::floor;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Operations between two looks at the clock.
    pub batch: u64,
    /// Batches per sample.
    pub count: usize,
    /// Samples of each side.
    pub samples: usize,
}

impl Plan {
    /// Only as much as shows that it is correct.
    pub const TEST: Self = Self { batch: 64, count: 3, samples: 1 };
    /// Enough for a median that holds.
    pub const MEASURE: Self = Self { batch: 4096, count: 64, samples: 7 };

    /// The same number of samples of operations that take `factor` times as long.
    pub const fn slower(self, factor: u64) -> Self {
        let batch = self.batch / factor;
        Self { batch: if batch == 0 { 1 } else { batch }, ..self }
    }

    /// Operations in a sample.
    pub const fn total(&self) -> u64 {
        self.batch * self.count as u64
    }

    /// One sample.
    pub const fn batches(&self) -> Batches {
        Batches { operations: self.batch, count: self.count, limit: Duration::MAX }
    }

    fn is_test(&self) -> bool {
        self.samples == 1
    }
}

/// Nanoseconds per operation: the median batch of those that `operation` was timed in.
pub fn median_batch(plan: &Plan, mut operation: impl FnMut()) -> f64 {
    let timed = plan.batches().time(|| {
        operation();
        Ok::<(), Infallible>(())
    });
    timed.unwrap_or_else(|never| match never {})
}

/// Samples both in turn, between two probes that agree, and prints the row. `ours` and `theirs` give nanoseconds per
/// operation.
pub fn compare(plan: &Plan, row: &Row<'_>, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
    let (mut left, mut right, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut thrown_away = 0;
    while ratios.len() < plan.samples {
        let before = floor::probe(plan);
        let (a, b) = (ours(), theirs());
        let after = floor::probe(plan);
        let moved = before.max(after) > 1.5 * before.min(after);
        if moved && !plan.is_test() && thrown_away < 3 * plan.samples {
            thrown_away += 1;
            continue;
        }
        left.push(a);
        right.push(b);
        ratios.push(row.unit.ratio(a, b));
    }
    let (a, b, ratio) = (median(&mut left), median(&mut right), median(&mut ratios));
    let note = if thrown_away > 0 { format!("  ({thrown_away} samples thrown away)") } else { String::new() };
    println!("{:<44} {:>12} {:>12} {ratio:>7.2}   {}{note}", row.what, row.unit.show(a), row.unit.show(b), row.goal);
}

/// A line of the table.
pub struct Row<'a> {
    /// What is measured.
    pub what: &'a str,
    /// Against what, and what is wanted.
    pub goal: &'a str,
    /// Time per operation or operations per time.
    pub unit: Unit,
}

/// How a row reads.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Lower is better.
    Time,
    /// Higher is better.
    Rate,
}

impl Unit {
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Time => ours / theirs,
            Self::Rate => theirs / ours,
        }
    }

    fn show(self, nanoseconds: f64) -> String {
        match self {
            Self::Time if nanoseconds >= 10_000.0 => format!("{:.1} µs", nanoseconds / 1000.0),
            Self::Time => format!("{nanoseconds:.1} ns"),
            Self::Rate => format!("{:.1} M/s", 1000.0 / nanoseconds),
        }
    }
}
