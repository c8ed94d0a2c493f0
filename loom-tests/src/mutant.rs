//! Core with one thing wrong: a region that weakens what passes through it, so that a model can show that it would
//! have noticed.
//!
//! A model that passes proves little until something makes it fail. A [`Mutation`] is that something, applied to one
//! endpoint's view of the memory, with core itself untouched. Each test that uses one asserts that loom finds the
//! failure, so the record of what every ordering is for cannot go stale.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU32, AtomicU64};
use rapace_shm_core::layout::{At, Line, Span};
use rapace_shm_core::region::{ByOffset, Region, Word};

use crate::region::LoomRegion;
use crate::word::LoomWord;

/// What is wrong with an endpoint. Words are named by their offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing: this is core.
    #[default]
    None,
    /// Fences do nothing.
    NoFence,
    /// Nothing that is read from this word is acquired.
    NoAcquire(usize),
    /// As [`NoAcquire`](Self::NoAcquire), but only when the word is loaded without changing it.
    NoAcquireByLoad(usize),
    /// As [`NoAcquire`](Self::NoAcquire), but only when a compare-exchange fails.
    NoAcquireByFailure(usize),
    /// Nothing is released by what is written to this word.
    NoRelease(usize),
    /// A compare-exchange on this word is a load, a comparison and a store.
    TornExchange(usize),
    /// A compare-exchange on this word leaves its upper half as it was: a free list head without a tag.
    FrozenTag(usize),
    /// This value is never stored to this word.
    LostStore(usize, u32),
    /// Additions to this word do not happen.
    LostBump(usize),
    /// Wakes reach nobody.
    NoWake,
    /// A sleeper sleeps while the word has the value it has now, instead of the one from before the last look.
    LateValue,
}

impl Mutation {
    fn load(self, offset: usize, order: Ordering) -> Ordering {
        let weaker = [Self::NoAcquire(offset), Self::NoAcquireByLoad(offset)].contains(&self);
        if weaker { without_acquire(order) } else { order }
    }

    fn store(self, offset: usize, order: Ordering) -> Ordering {
        if self == Self::NoRelease(offset) { without_release(order) } else { order }
    }

    fn exchange(self, offset: usize, order: Ordering) -> Ordering {
        let order = if self == Self::NoAcquire(offset) { without_acquire(order) } else { order };
        self.store(offset, order)
    }

    fn failure(self, offset: usize, order: Ordering) -> Ordering {
        let weaker = [Self::NoAcquire(offset), Self::NoAcquireByFailure(offset)].contains(&self);
        if weaker { without_acquire(order) } else { order }
    }

    /// Whether a store is one that does not happen.
    fn loses(self, offset: usize, value: u64) -> bool {
        matches!(self, Self::LostStore(word, lost) if word == offset && u64::from(lost) == value)
    }
}

const fn without_acquire(order: Ordering) -> Ordering {
    match order {
        Ordering::Acquire => Ordering::Relaxed,
        Ordering::AcqRel => Ordering::Release,
        other => other,
    }
}

const fn without_release(order: Ordering) -> Ordering {
    match order {
        Ordering::Release => Ordering::Relaxed,
        Ordering::AcqRel => Ordering::Acquire,
        other => other,
    }
}

/// How many more accesses an endpoint makes before it is killed; from then on none has any effect.
#[derive(Clone, Debug)]
pub struct Life(Rc<Cell<u32>>);

/// What a killed endpoint unwinds with.
struct Killed;

impl Default for Life {
    fn default() -> Self {
        Self(Rc::new(Cell::new(u32::MAX)))
    }
}

impl Life {
    /// Runs something in which the endpoint is killed at its access number `access`, counted from 1; it is dead
    /// afterwards in any case. Says whether it was killed before the end.
    ///
    /// # Panics
    /// If what it runs does.
    pub fn ends_at(&self, access: u32, life: impl FnOnce()) -> bool {
        self.0.set(access);
        let lived = panic::catch_unwind(AssertUnwindSafe(life));
        self.0.set(0);
        match lived {
            Ok(()) => false,
            Err(reason) if reason.is::<Killed>() => true,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// Whether the access happens.
    fn goes_on(&self) -> bool {
        match self.0.get() {
            u32::MAX => true,
            0 => false,
            left => {
                self.0.set(left - 1);
                if left == 1 {
                    panic::resume_unwind(Box::new(Killed));
                }
                true
            }
        }
    }
}

/// One endpoint's view of a [`LoomRegion`], with something wrong, or with an end.
#[derive(Clone, Debug)]
pub struct Mutant {
    region: LoomRegion,
    mutation: Mutation,
    life: Life,
}

impl Mutant {
    /// A view of a region with this mutation.
    #[must_use]
    pub fn new(region: LoomRegion, mutation: Mutation) -> Self {
        Self { region, mutation, life: Life::default() }
    }

    /// How long it lives; for ever, at first.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life.clone()
    }

    /// What is wrong.
    #[must_use]
    pub const fn mutation(&self) -> Mutation {
        self.mutation
    }
}

/// A word of a [`Mutant`].
pub struct MutantWord<'a, A> {
    word: LoomWord<'a, A>,
    offset: usize,
    mutation: Mutation,
    life: &'a Life,
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word<$value> for MutantWord<'_, $atomic> {
            fn load(&self, order: Ordering) -> $value {
                if !self.life.goes_on() {
                    return 0;
                }
                self.word.load(self.mutation.load(self.offset, order))
            }

            fn store(&self, value: $value, order: Ordering) {
                if self.life.goes_on() && !self.mutation.loses(self.offset, u64::from(value)) {
                    self.word.store(value, self.mutation.store(self.offset, order));
                }
            }

            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                if !self.life.goes_on() {
                    return 0;
                }
                if self.mutation == Mutation::LostBump(self.offset) {
                    return self.word.load(Ordering::Relaxed);
                }
                self.word.fetch_add(value, self.mutation.exchange(self.offset, order))
            }

            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                if !self.life.goes_on() {
                    return Err(0);
                }
                let success = self.mutation.exchange(self.offset, success);
                let failure = self.mutation.failure(self.offset, failure);
                match self.mutation {
                    Mutation::TornExchange(word) if word == self.offset => {
                        let seen = self.word.load(failure);
                        if seen != current {
                            return Err(seen);
                        }
                        self.word.store(new, Ordering::Release);
                        Ok(seen)
                    }
                    Mutation::FrozenTag(word) if word == self.offset => {
                        let half = <$value>::BITS / 2;
                        let frozen = new << half >> half | current >> half << half;
                        self.word.compare_exchange(current, frozen, success, failure)
                    }
                    _ => self.word.compare_exchange(current, new, success, failure),
                }
            }
        }
    };
}
word!(AtomicU32, u32);
word!(AtomicU64, u64);

// SAFETY: every access is one of the region's, at the same offset.
unsafe impl Region for Mutant {
    type U32<'a> = MutantWord<'a, AtomicU32>;
    type U64<'a> = MutantWord<'a, AtomicU64>;
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

    fn u32(&self, at: At<u32>) -> MutantWord<'_, AtomicU32> {
        MutantWord { word: self.region.u32(at), offset: at.offset(), mutation: self.mutation, life: &self.life }
    }

    fn u64(&self, at: At<u64>) -> MutantWord<'_, AtomicU64> {
        MutantWord { word: self.region.u64(at), offset: at.offset(), mutation: self.mutation, life: &self.life }
    }

    fn load_line(&self, at: At<Line>) -> Line {
        self.region.load_line(at)
    }

    fn store_line(&self, at: At<Line>, line: Line) {
        self.region.store_line(at, line);
    }

    fn fence(&self) {
        if self.mutation != Mutation::NoFence {
            self.region.fence();
        }
    }

    fn copy_in(&self, to: Span, bytes: &[u8]) -> usize {
        self.region.copy_in(to, bytes)
    }

    fn copy_out(&self, from: Span, into: &mut [u8]) -> usize {
        self.region.copy_out(from, into)
    }

    fn clear(&self, span: Span) {
        self.region.clear(span);
    }
}

impl<A> fmt::Debug for MutantWord<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutantWord").field("word", &self.word).field("mutation", &self.mutation).finish_non_exhaustive()
    }
}
