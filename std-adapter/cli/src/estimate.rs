//! The estimator: the clock is read around many short batches, and the median batch is what counts.

use std::time::{Duration, Instant};

/// How much to time.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    /// Operations between two looks at the clock.
    pub operations: u64,
    /// How many batches.
    pub count: usize,
    /// No batch begins later than this after the first one.
    pub limit: Duration,
}

impl Batches {
    /// Nanoseconds per operation: the median of the batches that `operation` was timed in.
    pub fn time<E>(&self, mut operation: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
        let mut batches = Vec::with_capacity(self.count);
        let first = Instant::now();
        for _ in 0..self.count {
            let start = Instant::now();
            if !batches.is_empty() && start - first > self.limit {
                break;
            }
            for _ in 0..self.operations {
                operation()?;
            }
            batches.push(nanoseconds(start.elapsed()) / self.operations as f64);
        }
        Ok(median(&mut batches))
    }
}

/// A duration as a number.
pub fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The value in the middle; there must be one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
