//! The region over a pointer: every access is compared with its length, and those made often have a place that was
//! compared once. [`super`] has the numbered invariants.

#![allow(unsafe_code)]

use core::fmt;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::{ByteRegion, Lines, REGION_ALIGN, Region, Word};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::layout::{At, LayoutError, Line, Span};

macro_rules! word {
    ($atomic:ty, $value:ty, $for:ty $(, $keeper:ident)?) => {
        impl<$($keeper)?> Word<$value> for $for {
            #[inline(always)]
            fn load(&self, order: Ordering) -> $value {
                <$atomic>::load(self, order)
            }
            #[inline(always)]
            fn store(&self, value: $value, order: Ordering) {
                <$atomic>::store(self, value, order);
            }
            #[inline(always)]
            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                <$atomic>::fetch_add(self, value, order)
            }
            #[inline(always)]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                <$atomic>::compare_exchange(self, current, new, success, failure)
            }
        }
    };
}
word!(AtomicU32, u32, &AtomicU32);
word!(AtomicU64, u64, &AtomicU64);
word!(AtomicU32, u32, Fixed<AtomicU32, K>, K);
word!(AtomicU64, u64, Fixed<AtomicU64, K>, K);

/// A region over real memory: a pointer, a length, and whatever keeps the memory there.
///
/// `K` is `()` for memory that lives for ever, an `Arc` of the mapping where there is one to unmap.
pub struct RawRegion<K = ()> {
    base: NonNull<u8>,
    len: usize,
    keeper: K,
}

impl<K> RawRegion<K> {
    /// A region over `len` bytes at `base`.
    ///
    /// # Errors
    /// [`LayoutError::Misaligned`] if `base` is not a multiple of [`REGION_ALIGN`], [`LayoutError::SegmentTooSmall`] if
    /// there are not even that many bytes.
    ///
    /// # Safety
    /// The bytes are readable and writable for as long as `keeper` or a clone of it lives, `len` is at most
    /// `isize::MAX`, and this program touches them only through `Region` handles.
    pub unsafe fn new(base: NonNull<u8>, len: usize, keeper: K) -> Result<Self, LayoutError> {
        let address = base.as_ptr().addr();
        if !address.is_multiple_of(REGION_ALIGN) {
            return Err(LayoutError::Misaligned { address, align: REGION_ALIGN });
        }
        if len < REGION_ALIGN {
            return Err(LayoutError::SegmentTooSmall { required: REGION_ALIGN, available: len });
        }
        Ok(Self { base, len, keeper })
    }

    /// What keeps the memory there.
    pub fn keeper(&self) -> &K {
        &self.keeper
    }

    /// The address of a word, if it lies within: one comparison, at every access.
    #[inline(always)]
    fn word<T>(&self, at: At<T>) -> Option<NonNull<T>> {
        // No word is longer than the shortest region.
        if at.offset() > self.len.wrapping_sub(size_of::<T>()) {
            return None;
        }
        // SAFETY: offset + size <= len, so the result is within the region (invariant 1).
        Some(unsafe { self.base.add(at.offset()) }.cast())
    }

    /// As [`word`](Self::word), for `count` lines.
    fn lines(&self, at: At<Line>, count: u32) -> Option<NonNull<AtomicLine>> {
        let len = (count as usize).checked_mul(size_of::<Line>())?;
        let end = at.offset().checked_add(len)?;
        // SAFETY: offset + len of all lines <= len of the region (invariant 1).
        (end <= self.len).then(|| unsafe { self.base.add(at.offset()) }.cast())
    }

    #[inline(always)]
    fn line(&self, at: At<Line>) -> &AtomicLine {
        match self.word(at) {
            // SAFETY: in bounds and aligned (2), alive (1), and atomics may be shared (3).
            Some(address) => unsafe { address.cast::<AtomicLine>().as_ref() },
            None => nowhere(at),
        }
    }
}

/// Asks for a cache line before it is needed. For writing, one transfer takes the place of two: one to read, one to write.
/// (The `core::arch` intrinsics for this are not stable everywhere.)
macro_rules! prefetch {
    ($x86_64:literal, $aarch64:literal, $address:expr) => {{
        let address = $address;
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a hint that reads and writes nothing that the program can see, whatever the address; processors that
        // do not know it take it for a no-op.
        unsafe {
            core::arch::asm!(concat!($x86_64, " [{}]"), in(reg) address, options(nostack, preserves_flags, readonly));
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(concat!("prfm ", $aarch64, ", [{}]"), in(reg) address, options(nostack, preserves_flags, readonly));
        }
        let _ = address;
    }};
}

/// Words that belong to nobody: what an offset outside the region reads and writes. An offset is never a peer's
/// choice, so getting here is a mistake in the calling code; it must not become a panic on a machine without one.
#[cold]
#[inline(never)]
fn nowhere<T>(at: At<T>) -> &'static AtomicLine {
    debug_assert!(false, "{at:?} is not in the region");
    static NOWHERE: AtomicLine = [const { AtomicU64::new(0) }; 8];
    &NOWHERE
}

#[cold]
#[inline(never)]
fn nowhere_u32(at: At<u32>) -> &'static AtomicU32 {
    static NOWHERE: AtomicU32 = AtomicU32::new(0);
    nowhere(at);
    &NOWHERE
}

// SAFETY: every accessor goes through `word` or `bytes`, which keep it within the one memory that the clones share.
unsafe impl<K: Clone> Region for RawRegion<K> {
    type U32<'a>
        = &'a AtomicU32
    where
        K: 'a;
    type U64<'a>
        = &'a AtomicU64
    where
        K: 'a;
    type Fixed32 = Fixed<AtomicU32, K>;
    type Fixed64 = Fixed<AtomicU64, K>;
    type Lines = FixedLines<K>;

    fn fix_u32(&self, at: At<u32>) -> Self::Fixed32 {
        Fixed { address: NonNull::from(self.u32(at)), keeper: self.keeper.clone() }
    }

    fn fix_u64(&self, at: At<u64>) -> Self::Fixed64 {
        Fixed { address: NonNull::from(self.u64(at)), keeper: self.keeper.clone() }
    }

    fn fix_lines(&self, at: At<Line>, count: u32) -> Self::Lines {
        let (address, mask) = match self.lines(at, count) {
            Some(first) if count.is_power_of_two() => (first, u64::from(count) - 1),
            _ => (NonNull::from(nowhere(at)), 0),
        };
        FixedLines { first: Fixed { address, keeper: self.keeper.clone() }, mask }
    }

    #[inline]
    fn size(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn u32(&self, at: At<u32>) -> &AtomicU32 {
        match self.word(at) {
            // SAFETY: in bounds and aligned (2), alive (1), and atomics may be shared (3).
            Some(address) => unsafe { address.cast::<AtomicU32>().as_ref() },
            None => nowhere_u32(at),
        }
    }

    #[inline(always)]
    fn u64(&self, at: At<u64>) -> &AtomicU64 {
        match self.word(at) {
            // SAFETY: in bounds and aligned (2), alive (1), and atomics may be shared (3).
            Some(address) => unsafe { address.cast::<AtomicU64>().as_ref() },
            None => {
                let [first, ..] = nowhere(at);
                first
            }
        }
    }

    #[inline(always)]
    fn load_line(&self, at: At<Line>) -> Line {
        load(self.line(at))
    }

    #[inline(always)]
    fn store_line(&self, at: At<Line>, line: Line) {
        store(self.line(at), line);
    }

    #[inline]
    fn fence(&self) {
        crate::atomic::fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn will_write(&self, offset: usize) {
        // Wrapping: a prefetch of an address that is not mapped does nothing.
        prefetch!("prefetchw", "pstl1keep", self.base.as_ptr().wrapping_add(offset));
    }

    #[inline]
    fn copy_in(&self, to: Span, bytes: &[u8]) -> usize {
        let Some(address) = self.bytes(to) else { return 0 };
        let count = bytes.len().min(to.len);
        // SAFETY: `bytes` checked `to` (2); both are valid for `count` bytes, and a `&[u8]` of this program does
        // not overlap the region's unheld bytes (3).
        unsafe { address.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), count) };
        count
    }

    #[inline]
    fn copy_out(&self, from: Span, into: &mut [u8]) -> usize {
        let Some(address) = self.bytes(from) else { return 0 };
        let count = into.len().min(from.len);
        // SAFETY: as in `copy_in`, the other way round.
        unsafe { address.as_ptr().copy_to_nonoverlapping(into.as_mut_ptr(), count) };
        count
    }

    fn clear(&self, span: Span) {
        if let Some(address) = self.bytes(span) {
            // SAFETY: `bytes` checked `span` (2), and the memory is alive (1).
            unsafe { address.as_ptr().write_bytes(0, span.len) };
        }
    }
}

// SAFETY: the span was compared with the region's length.
unsafe impl<K: Clone> ByteRegion for RawRegion<K> {
    #[inline]
    fn bytes(&self, span: Span) -> Option<NonNull<u8>> {
        if span.offset > self.len || span.len > self.len - span.offset {
            return None;
        }
        // SAFETY: offset + len of the span <= len, so the result is within the region (invariant 1).
        Some(unsafe { self.base.add(span.offset) })
    }
}

impl<K: Clone> Clone for RawRegion<K> {
    #[inline]
    fn clone(&self) -> Self {
        Self { base: self.base, len: self.len, keeper: self.keeper.clone() }
    }
}

impl<K: Copy> Copy for RawRegion<K> {}

impl<K> fmt::Debug for RawRegion<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRegion").field("base", &self.base).field("len", &self.len).finish_non_exhaustive()
    }
}

// SAFETY: the pointer is to shared memory that is accessed through atomics or through `Held` (3, 4), from any thread.
unsafe impl<K: Send> Send for RawRegion<K> {}
// SAFETY: as for `Send`; a shared handle offers nothing that a clone does not.
unsafe impl<K: Sync> Sync for RawRegion<K> {}

/// The eight words of a line.
type AtomicLine = [AtomicU64; 8];

#[inline(always)]
fn load(words: &AtomicLine) -> Line {
    words.each_ref().map(|word| word.load(Ordering::Relaxed))
}

#[inline(always)]
fn store(words: &AtomicLine, line: Line) {
    for (word, value) in words.iter().zip(line) {
        word.store(value, Ordering::Relaxed);
    }
}

/// A word of a [`RawRegion`] whose place was checked once, so that an access is nothing but the access. It keeps the
/// memory there.
pub struct Fixed<T, K> {
    /// Points to a `T` within the region that `keeper` keeps (or to one that nobody ever frees): invariants 1 and 2.
    address: NonNull<T>,
    keeper: K,
}

impl<T, K> Deref for Fixed<T, K> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: see `address`; and it is atomic, so it may be shared (3).
        unsafe { self.address.as_ref() }
    }
}

impl<T, K: Clone> Clone for Fixed<T, K> {
    fn clone(&self) -> Self {
        Self { address: self.address, keeper: self.keeper.clone() }
    }
}

impl<T, K> fmt::Debug for Fixed<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fixed").field(&self.address).finish()
    }
}

// SAFETY: as for `RawRegion`: the pointer is to atomics in shared memory.
unsafe impl<T: Sync, K: Send> Send for Fixed<T, K> {}
// SAFETY: as for `Send`.
unsafe impl<T: Sync, K: Sync> Sync for Fixed<T, K> {}

/// Lines of a [`RawRegion`] whose place was checked once.
#[derive(Clone, Debug)]
pub struct FixedLines<K> {
    /// The first of `mask + 1` lines within the region.
    first: Fixed<AtomicLine, K>,
    mask: u64,
}

impl<K> FixedLines<K> {
    #[inline(always)]
    fn line(&self, number: u64) -> &AtomicLine {
        #[allow(clippy::cast_possible_truncation)] // masked to less than 2^32
        let index = (number & self.mask) as usize;
        // SAFETY: `index` is at most `mask`, so the line is within the region (see `first`).
        let line = unsafe { self.first.address.add(index) };
        // SAFETY: as in `Fixed::deref`.
        unsafe { line.as_ref() }
    }
}

impl<K> Lines for FixedLines<K> {
    #[inline(always)]
    fn mask(&self) -> u64 {
        self.mask
    }

    #[inline(always)]
    fn load(&self, number: u64) -> Line {
        load(self.line(number))
    }

    #[inline(always)]
    fn store(&self, number: u64, line: Line) {
        store(self.line(number), line);
    }

    #[inline(always)]
    fn glance(&self, number: u64, word: usize) -> Option<u64> {
        Some(self.line(number).get(word)?.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn will_read(&self, number: u64) {
        prefetch!("prefetcht0", "pldl1keep", core::ptr::from_ref(self.line(number)));
    }

    #[inline(always)]
    fn will_write(&self, number: u64) {
        prefetch!("prefetchw", "pstl1keep", core::ptr::from_ref(self.line(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    static MEMORY: Memory<256> = Memory::new();

    #[test]
    fn a_misaligned_region_is_refused() {
        let mut bytes = [0_u64; 32];
        let base = NonNull::from(&mut bytes).cast::<u8>();
        let skew = base.as_ptr().align_offset(REGION_ALIGN) + 8;
        // SAFETY: within the array.
        let base = unsafe { base.add(skew) };
        // SAFETY: the array outlives the region.
        let refused = unsafe { RawRegion::new(base, 64, ()) };
        assert_eq!(
            refused.unwrap_err(),
            LayoutError::Misaligned { address: base.as_ptr().addr(), align: REGION_ALIGN }
        );
    }

    #[test]
    fn words_lines_and_bytes_name_the_same_memory() {
        let region = MEMORY.take().unwrap();
        region.store_line(At::new(64), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(region.u64(At::new(64 + 16)).load(Ordering::Relaxed), 3);
        assert_eq!(region.copy_in(Span { offset: 128, len: 3 }, &[9, 9, 9, 9]), 3);
        let mut seen = [0; 4];
        assert_eq!(region.copy_out(Span { offset: 128, len: 4 }, &mut seen), 4);
        assert_eq!(seen, [9, 9, 9, 0]);
        region.clear(Span { offset: 64, len: 128 });
        assert_eq!(region.load_line(At::new(64)), [0; 8]);
    }

    #[test]
    fn ranges_outside_are_not_there() {
        static SMALL: Memory<64> = Memory::new();
        let region = SMALL.take().unwrap();
        assert!(region.bytes(Span { offset: 0, len: 65 }).is_none());
        assert!(region.bytes(Span { offset: usize::MAX, len: 2 }).is_none());
        assert_eq!(region.copy_in(Span { offset: 64, len: 1 }, &[1]), 0);
    }
}
