//! The memory as a parameter: words at typed offsets, a fence, and payload bytes.
//!
//! Everything else in this crate is safe code that is generic over [`Region`]. This file is where that safety
//! comes from: it holds the pointer-backed region, the region in a `static`, and the one type that turns a range
//! of shared bytes into a slice.
//!
//! # Safety
//!
//! The invariants that the `unsafe` blocks below cite by number:
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

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicBool, AtomicU32, AtomicU64};
use crate::layout::{At, LayoutError, Line, Span};

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
pub unsafe trait ByteRegion: Region {
    /// The address of a payload range, if it lies within the region.
    fn bytes(&self, span: Span) -> Option<NonNull<u8>>;
}

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
    fn will_read(&self, number: u64) {
        prefetch!("prefetcht0", "pldl1keep", core::ptr::from_ref(self.line(number)));
    }

    #[inline(always)]
    fn will_write(&self, number: u64) {
        prefetch!("prefetchw", "pstl1keep", core::ptr::from_ref(self.line(number)));
    }
}

/// `N` bytes for a region in a `static`.
///
/// ```
/// use rapace_shm_core::region::{Memory, Region};
///
/// static MEMORY: Memory<4096> = Memory::new();
/// let region = MEMORY.take().expect("nobody took it before");
/// assert_eq!(region.size(), 4096);
/// assert!(MEMORY.take().is_none(), "it can be taken once");
/// ```
#[repr(C, align(64))]
pub struct Memory<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    taken: AtomicBool,
}

// SAFETY: the bytes are reached only through the one `RawRegion` that `take` gives out, which is `Sync`.
unsafe impl<const N: usize> Sync for Memory<N> {}

impl<const N: usize> Memory<N> {
    /// `N` zero bytes on a 64-byte boundary.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; N]), taken: AtomicBool::new(false) }
    }

    /// The region over these bytes: the first caller's. Its handle is `Copy`, so one is enough for both peers.
    #[must_use]
    pub fn take(&'static self) -> Option<RawRegion> {
        if self.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let base = NonNull::new(self.bytes.get().cast())?;
        // SAFETY: a `static` lives for ever, its size is at most `isize::MAX`, and `taken` makes the region the only
        // way to its bytes.
        unsafe { RawRegion::new(base, N, ()) }.ok()
    }
}

impl<const N: usize> Default for Memory<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Memory<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("len", &N).field("taken", &self.taken).finish_non_exhaustive()
    }
}

/// Something that knows its region.
pub trait InRegion {
    /// The kind of memory.
    type Region: Region;
    /// The memory.
    fn region(&self) -> &Self::Region;
}

/// The bytes of a slot that an endpoint holds: what [`Loan`](crate::link::Loan) and
/// [`Payload`](crate::link::Payload) dereference to.
///
/// Only this crate makes one, right after it has claimed the slot in the ledger, and gives the claim back when the
/// `Held` is gone (invariant 4).
pub struct Held<E> {
    pub(crate) endpoint: E,
    span: Span,
}

impl<E> Held<E> {
    /// `span` lies in the slot that the caller has just claimed in the endpoint's ledger.
    #[inline]
    pub(crate) fn new(endpoint: E, span: Span) -> Self {
        Self { endpoint, span }
    }

    #[inline]
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.span.len = self.span.len.min(len);
    }
}

/// The right to move slots from state to state below the guards. Whoever frees a slot under somebody's
/// [`Loan`](crate::link::Loan) makes its bytes somebody else's too, so it is not to be had by safe code.
#[derive(Clone, Copy, Debug)]
pub struct SlotRights(());

impl SlotRights {
    /// What the guards and the allocator of this crate act by: each for the one slot that it claimed (invariant 4).
    pub(crate) const OF_A_GUARD: Self = Self(());

    /// The right, for whoever uses a [`SlotPool`](crate::slots::SlotPool) without guards: to measure it, or to build
    /// something else on it.
    ///
    /// # Safety
    /// It is used only for slots that the caller took from the pool, by `allocate` or `accept`, through the same endpoint;
    /// not for one of a guard or of an allocation.
    #[must_use]
    pub const unsafe fn without_guards() -> Self {
        Self(())
    }
}

/// What a [`Held`] of this endpoint and span dereferences to, for whoever keeps the two apart: the caller holds the
/// claim, and keeps it while the slice is borrowed (invariant 4).
#[inline]
pub(crate) fn held_bytes<E>(endpoint: &E, span: Span) -> &[u8]
where
    E: InRegion,
    E::Region: ByteRegion,
{
    match endpoint.region().bytes(span) {
        // SAFETY: readable for as long as the endpoint keeps the region (`ByteRegion`), and by invariant 4 nobody of
        // this endpoint writes there while it is borrowed.
        Some(address) => unsafe { core::slice::from_raw_parts(address.as_ptr(), span.len) },
        None => &[],
    }
}

impl<E> Deref for Held<E>
where
    E: InRegion,
    E::Region: ByteRegion,
{
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        held_bytes(&self.endpoint, self.span)
    }
}

impl<E> DerefMut for Held<E>
where
    E: InRegion,
    E::Region: ByteRegion,
{
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.endpoint.region().bytes(self.span) {
            // SAFETY: as in `held_bytes`; `&mut self` is the only `Held` of the slot (invariant 4).
            Some(address) => unsafe { core::slice::from_raw_parts_mut(address.as_ptr(), self.span.len) },
            None => &mut [],
        }
    }
}

impl<E> fmt::Debug for Held<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("span", &self.span).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
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
