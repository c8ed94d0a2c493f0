//! A region that asks before every access: what the tests of hostile peers and of killed ones have in common.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rapace_shm_core::layout::{At, Line, Span};
use rapace_shm_core::region::{ByOffset, ByteRegion, Region, Word};

use super::HeapRegion;

/// Asked before every access.
pub trait Watch {
    /// Whether the access happens. If not, a read gives zeros and a write is lost.
    fn access(&self, region: &HeapRegion) -> bool;

    /// Told of every access that happens: what it touches.
    fn touches(&self, span: Span) {
        let _ = span;
    }
}

/// Heap memory under watch.
pub struct Watched<W> {
    region: HeapRegion,
    watch: Arc<W>,
}

impl<W> Watched<W> {
    pub fn new(region: HeapRegion, watch: Arc<W>) -> Self {
        Self { region, watch }
    }
}

impl<W> Clone for Watched<W> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), watch: self.watch.clone() }
    }
}

impl<W: Watch> Watched<W> {
    fn ask(&self, span: Span) -> Option<&HeapRegion> {
        let happens = self.watch.access(&self.region);
        if happens {
            self.watch.touches(span);
        }
        happens.then_some(&self.region)
    }

    fn ask_word<T>(&self, at: At<T>) -> Option<&HeapRegion> {
        self.ask(Span { offset: at.offset(), len: size_of::<T>() })
    }
}

/// A word of a [`Watched`] region.
pub struct WatchedWord<'a, W, T> {
    region: &'a Watched<W>,
    at: At<T>,
}

macro_rules! word {
    ($accessor:ident, $value:ty) => {
        impl<W: Watch> Word<$value> for WatchedWord<'_, W, $value> {
            fn load(&self, order: Ordering) -> $value {
                self.region.ask_word(self.at).map_or(0, |region| region.$accessor(self.at).load(order))
            }

            fn store(&self, value: $value, order: Ordering) {
                if let Some(region) = self.region.ask_word(self.at) {
                    region.$accessor(self.at).store(value, order);
                }
            }

            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.region.ask_word(self.at).map_or(0, |region| region.$accessor(self.at).fetch_add(value, order))
            }

            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let region = self.region.ask_word(self.at).ok_or(0 as $value)?;
                region.$accessor(self.at).compare_exchange(current, new, success, failure)
            }
        }
    };
}
word!(u32, u32);
word!(u64, u64);

// SAFETY: every access is the heap region's own, at the same offset.
unsafe impl<W: Watch> Region for Watched<W> {
    type U32<'a>
        = WatchedWord<'a, W, u32>
    where
        W: 'a;
    type U64<'a>
        = WatchedWord<'a, W, u64>
    where
        W: 'a;
    type Fixed32 = ByOffset<Self, u32>;
    type Fixed64 = ByOffset<Self, u64>;
    type Lines = ByOffset<Self, Line>;

    fn size(&self) -> usize {
        self.region.size()
    }

    fn fix_u32(&self, at: At<u32>) -> ByOffset<Self, u32> {
        ByOffset::new(self.clone(), at, 1)
    }

    fn fix_u64(&self, at: At<u64>) -> ByOffset<Self, u64> {
        ByOffset::new(self.clone(), at, 1)
    }

    fn fix_lines(&self, at: At<Line>, count: u32) -> ByOffset<Self, Line> {
        ByOffset::new(self.clone(), at, count)
    }

    fn u32(&self, at: At<u32>) -> WatchedWord<'_, W, u32> {
        WatchedWord { region: self, at }
    }

    fn u64(&self, at: At<u64>) -> WatchedWord<'_, W, u64> {
        WatchedWord { region: self, at }
    }

    /// Eight accesses: a descriptor may change, or its reader be killed, between any two words.
    fn load_line(&self, at: At<Line>) -> Line {
        let words: Vec<u64> = word_offsets(at).map(|word| self.u64(word).load(Ordering::Relaxed)).collect();
        words.try_into().expect("a line has eight words")
    }

    fn store_line(&self, at: At<Line>, line: Line) {
        for (word, value) in word_offsets(at).zip(line) {
            self.u64(word).store(value, Ordering::Relaxed);
        }
    }

    fn fence(&self) {}

    fn copy_in(&self, to: Span, bytes: &[u8]) -> usize {
        self.ask(to).map_or(0, |region| region.copy_in(to, bytes))
    }

    fn copy_out(&self, from: Span, into: &mut [u8]) -> usize {
        self.ask(from).map_or(0, |region| region.copy_out(from, into))
    }

    fn clear(&self, span: Span) {
        if let Some(region) = self.ask(span) {
            region.clear(span);
        }
    }
}

fn word_offsets(at: At<Line>) -> impl Iterator<Item = At<u64>> {
    (at.offset()..).step_by(size_of::<u64>()).take(size_of::<Line>() / size_of::<u64>()).map(At::new)
}

// SAFETY: the heap region's bytes.
unsafe impl<W: Watch> ByteRegion for Watched<W> {
    fn bytes(&self, span: Span) -> Option<std::ptr::NonNull<u8>> {
        self.watch.touches(span);
        self.region.bytes(span)
    }
}
