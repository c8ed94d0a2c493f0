//! The memory as a parameter: words at typed offsets, a fence, and payload bytes.
//!
//! Everything else in this crate is safe code that is generic over [`Region`]. This module is where that safety
//! comes from, and apart from the module `allocator` the only one with `unsafe` in it:
//!
//! | file | what it holds |
//! |---|---|
//! | `raw` | the region over a pointer, and its words and lines whose place was checked once |
//! | `memory` | the bytes of a region in a `static` |
//! | `held` | the one type that turns a range of shared bytes into a slice, and who may move slots below it |
//! | `by_offset` | words and lines by their offset, for regions whose accesses are watched (safe) |
//!
//! # Safety
//!
//! The invariants that the `unsafe` blocks cite by number:
//!
//! 1. `base .. base + len` of a [`RawRegion`] is readable and writable for as long as a clone of its keeper lives,
//!    `base` is a multiple of [`REGION_ALIGN`], and `len` is at least that and at most `isize::MAX`. Promised to or
//!    checked by [`RawRegion::new`], never changed afterwards.
//! 2. A word access is in bounds, because `RawRegion::word` compares with `len` at every access, and aligned,
//!    because `base` and every [`At`] are.
//! 3. Nobody forms a reference to the region's bytes other than to atomics, apart from [`Held`].
//! 4. A [`Held`] exists only while the ledger of its endpoint says "held" for the one slot that contains its span
//!    (private memory, claimed by a read-modify-write), so two `Held` of one endpoint never overlap. By the
//!    protocol the other peer has let go of the slot, or both have it and neither writes: those of a lent slot are never
//!    borrowed mutably. The crate's front page says what the peer's word is worth.

mod by_offset;
mod held;
mod memory;
mod raw;

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::layout::{At, Line, Span};

pub use by_offset::ByOffset;
pub(crate) use held::held_bytes;
pub use held::{Held, SlotRights};
pub use memory::Memory;
pub use raw::{Fixed, FixedLines, RawRegion};

/// Every region starts on a multiple of this many bytes.
pub const REGION_ALIGN: usize = 64;

/// A shared word. `T` is `u32` or `u64`.
pub trait Word<T> {
    /// Reads the word.
    fn load(&self, order: Ordering) -> T;
    /// Writes the word.
    fn store(&self, value: T, order: Ordering);
    /// Adds (wrapping) and returns the value before.
    fn fetch_add(&self, value: T, order: Ordering) -> T;
    /// Writes `new` if the word is `current`; the value before, as `Ok` or `Err`.
    ///
    /// # Errors
    /// The value that stood there instead of `current`.
    fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T>;
}

/// A power of two of lines in a row.
pub trait Lines {
    /// What a line's number is masked with: one less than there are lines.
    fn mask(&self) -> u64;
    /// Reads line `number & mask`: eight words, each relaxed.
    fn load(&self, number: u64) -> Line;
    /// Writes line `number & mask`: eight words, each relaxed.
    fn store(&self, number: u64, line: Line);
    /// A word of line `number & mask`, relaxed, for hints only. `None` where each access has a meaning of its own (to a model
    /// checker, say), and by default.
    #[inline(always)]
    fn glance(&self, number: u64, word: usize) -> Option<u64> {
        let _ = (number, word);
        None
    }
    /// Says that line `number & mask` will soon be read. A hint: it may do nothing, and by default it does.
    #[inline(always)]
    fn will_read(&self, number: u64) {
        let _ = number;
    }
    /// Says that line `number & mask` will soon be written, wherever it is now. A hint, as well.
    #[inline(always)]
    fn will_write(&self, number: u64) {
        let _ = number;
    }
}

/// Memory that peers share: [`RawRegion`] in production, a model checker's or a fault injector's in tests.
///
/// Handles are cheap to clone and all name the same memory.
///
/// # Safety
/// For every clone, all accessors address one and the same memory, and an access outside it (or misaligned) has no
/// effect on other memory. Core's safe code relies on nothing else.
#[allow(unsafe_code)]
pub unsafe trait Region: Clone {
    /// A 32-bit word.
    type U32<'a>: Word<u32>
    where
        Self: 'a;
    /// A 64-bit word.
    type U64<'a>: Word<u64>
    where
        Self: 'a;

    /// A 32-bit word whose place was looked up once; it keeps the memory there.
    type Fixed32: Word<u32>;
    /// A 64-bit word whose place was looked up once; it keeps the memory there.
    type Fixed64: Word<u64>;
    /// Lines whose place was looked up once; they keep the memory there.
    type Lines: Lines;

    /// Size in bytes.
    fn size(&self) -> usize;
    /// The 32-bit word at an offset, for many accesses.
    fn fix_u32(&self, at: At<u32>) -> Self::Fixed32;
    /// The 64-bit word at an offset, for many accesses.
    fn fix_u64(&self, at: At<u64>) -> Self::Fixed64;
    /// The lines from an offset on, for many accesses. `count` is a power of two.
    fn fix_lines(&self, at: At<Line>, count: u32) -> Self::Lines;
    /// The 32-bit word at an offset.
    fn u32(&self, at: At<u32>) -> Self::U32<'_>;
    /// The 64-bit word at an offset.
    fn u64(&self, at: At<u64>) -> Self::U64<'_>;
    /// Reads eight words, each relaxed.
    fn load_line(&self, at: At<Line>) -> Line;
    /// Writes eight words, each relaxed.
    fn store_line(&self, at: At<Line>, line: Line);
    /// A sequentially consistent fence.
    fn fence(&self);
    /// Says that the cache line at an offset will soon be written, wherever it is now. A hint: it may do nothing, and
    /// by default it does.
    #[inline(always)]
    fn will_write(&self, offset: usize) {
        let _ = offset;
    }
    /// Copies into a payload range, as much as fits both; returns the number of bytes.
    fn copy_in(&self, to: Span, bytes: &[u8]) -> usize;
    /// Copies out of a payload range, as much as fits both; returns the number of bytes.
    fn copy_out(&self, from: Span, into: &mut [u8]) -> usize;
    /// Zeroes a range that no peer uses yet.
    fn clear(&self, span: Span);
}

/// A region whose payloads are bytes that a slice can point to.
///
/// # Safety
/// [`ByteRegion::bytes`] returns the address of `span.len` readable and writable bytes that stay so while a clone
/// of the region lives, or `None`.
#[allow(unsafe_code)]
pub unsafe trait ByteRegion: Region {
    /// The address of a payload range, if it lies within the region.
    fn bytes(&self, span: Span) -> Option<NonNull<u8>>;
}

/// Something that knows its region.
pub trait InRegion {
    /// The kind of memory.
    type Region: Region;
    /// The memory.
    fn region(&self) -> &Self::Region;
}
