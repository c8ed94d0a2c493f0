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
    /// No batch of a sample begins later than this after its first one.
    pub limit: Duration,
}

impl Plan {
    /// Only as much as shows that it is correct.
    pub const TEST: Self = Self { batch: 64, count: 3, samples: 1, limit: Duration::MAX };
    /// Enough for a median that holds.
    pub const MEASURE: Self = Self { batch: 4096, count: 64, samples: 7, limit: Duration::MAX };

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
        Batches { operations: self.batch, count: self.count, limit: self.limit }
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

/// Rounds of samples, and how many more there were that lay between probes that disagreed.
#[derive(Debug, Default)]
pub struct Rounds {
    /// One list per round: what each contestant gave, in their order.
    pub times: Vec<Vec<f64>>,
    /// Rounds that did not count.
    pub thrown_away: usize,
}

impl Rounds {
    /// The median over all rounds of something that each of them gives.
    pub fn median(&self, of: impl Fn(&[f64]) -> f64) -> f64 {
        median(&mut self.times.iter().map(|round| of(round)).collect::<Vec<_>>())
    }
}

/// Samples all in turn, each between two probes, and counts the rounds in which all probes agree: near enough that
/// nobody moved the cores meanwhile. Each contestant gives nanoseconds per operation. A machine that is never quiet gets
/// its table, too, after nine times as many rounds.
pub fn rounds(plan: &Plan, contestants: &mut [&mut dyn FnMut() -> f64]) -> Rounds {
    let mut rounds = Rounds::default();
    while rounds.times.len() < plan.samples {
        let is_strict = !plan.is_test() && rounds.thrown_away < 8 * plan.samples;
        match round(plan, contestants, is_strict) {
            Some(times) => rounds.times.push(times),
            None => rounds.thrown_away += 1,
        }
    }
    rounds
}

/// One round; nothing as soon as two probes disagree, if that matters.
fn round(plan: &Plan, contestants: &mut [&mut dyn FnMut() -> f64], is_strict: bool) -> Option<Vec<f64>> {
    let first = floor::probe(plan);
    let (mut lowest, mut highest) = (first, first);
    let mut times = Vec::with_capacity(contestants.len());
    for contestant in contestants {
        times.push(contestant());
        let probe = floor::probe(plan);
        (lowest, highest) = (lowest.min(probe), highest.max(probe));
        if is_strict && highest > 1.5 * lowest {
            return None;
        }
    }
    Some(times)
}

/// Samples both in turn and prints the row. `ours` and `theirs` give nanoseconds per operation.
pub fn compare(plan: &Plan, row: &Row<'_>, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
    let rounds = rounds(plan, &mut [&mut ours, &mut theirs]);
    let (a, b) = (rounds.median(|times| times[0]), rounds.median(|times| times[1]));
    let ratio = rounds.median(|times| row.unit.ratio(times[0], times[1]));
    let note = match rounds.thrown_away {
        0 => String::new(),
        count => format!("  ({count} samples thrown away)"),
    };
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

    /// A time per operation as the row shows it.
    pub fn show(self, nanoseconds: f64) -> String {
        match self {
            Self::Time if nanoseconds >= 10_000.0 => format!("{:.1} µs", nanoseconds / 1000.0),
            Self::Time => format!("{nanoseconds:.1} ns"),
            Self::Rate => format!("{:.1} M/s", 1000.0 / nanoseconds),
        }
    }
}
