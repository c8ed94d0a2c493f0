//! Words and lines by their offset.

use core::sync::atomic::Ordering;

use super::{Lines, Region, Word};
use crate::layout::{At, Line};

/// A place in a region by its offset: what a region whose accesses are watched one by one uses for its fixed words.
#[derive(Clone, Debug)]
pub struct ByOffset<R, T> {
    region: R,
    at: At<T>,
    mask: u64,
}

impl<R, T> ByOffset<R, T> {
    /// The word, or the first of `count` lines, at an offset.
    pub fn new(region: R, at: At<T>, count: u32) -> Self {
        Self { region, at, mask: u64::from(count).wrapping_sub(1) }
    }
}

macro_rules! word_by_offset {
    ($accessor:ident, $value:ty) => {
        impl<R: Region> Word<$value> for ByOffset<R, $value> {
            fn load(&self, order: Ordering) -> $value {
                self.region.$accessor(self.at).load(order)
            }
            fn store(&self, value: $value, order: Ordering) {
                self.region.$accessor(self.at).store(value, order);
            }
            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.region.$accessor(self.at).fetch_add(value, order)
            }
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.region.$accessor(self.at).compare_exchange(current, new, success, failure)
            }
        }
    };
}
word_by_offset!(u32, u32);
word_by_offset!(u64, u64);

impl<R> ByOffset<R, Line> {
    #[allow(clippy::cast_possible_truncation)] // masked to less than 2^32
    fn line(&self, number: u64) -> At<Line> {
        self.at.nth((number & self.mask) as usize)
    }
}

impl<R: Region> Lines for ByOffset<R, Line> {
    fn mask(&self) -> u64 {
        self.mask
    }
    fn load(&self, number: u64) -> Line {
        self.region.load_line(self.line(number))
    }
    fn store(&self, number: u64, line: Line) {
        self.region.store_line(self.line(number), line);
    }
}
