//! Where something is: a typed offset into a region, and a range of bytes.

use core::fmt;
use core::marker::PhantomData;

/// The offset, in bytes from the start of a region, at which a `T` lives.
///
/// `T` is the width of the word (`u32`, `u64`) or a whole [`Line`]; which fields are shared words is said by
/// giving them an `At`. It is always a multiple of the word's size (of 8 for a line), and it carries no permission: a
/// region checks it against its own size before it forms an address.
pub struct At<T> {
    offset: usize,
    word: PhantomData<fn() -> T>,
}

/// Eight words that travel together: one descriptor.
pub type Line = [u64; 8];

impl<T> At<T> {
    const ALIGN: usize = if size_of::<T>() < 8 { size_of::<T>() } else { 8 };

    /// The word at `offset` bytes, rounded down to a multiple of its size.
    #[must_use]
    #[inline]
    pub const fn new(offset: usize) -> Self {
        Self { offset: offset & !(Self::ALIGN - 1), word: PhantomData }
    }

    /// Offset in bytes from the start of the region.
    #[must_use]
    #[inline]
    pub const fn offset(self) -> usize {
        self.offset
    }

    /// This field of a structure that itself starts at `base` bytes, a multiple of 8. Wraps.
    #[must_use]
    #[inline]
    pub const fn within(self, base: usize) -> Self {
        Self::new(base.wrapping_add(self.offset))
    }
}

impl At<Line> {
    /// The line `index` lines further on. Wraps.
    #[must_use]
    #[inline(always)]
    pub const fn nth(self, index: usize) -> Self {
        Self { offset: self.offset.wrapping_add(index.wrapping_mul(size_of::<Line>())), word: PhantomData }
    }
}

impl<T> Clone for At<T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for At<T> {}

impl<T> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}

impl<T> Eq for At<T> {}

impl<T> fmt::Debug for At<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At({})", self.offset)
    }
}

/// A range of payload bytes in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte from the start of the region.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// The offset of a shared word inside its layout structure, typed by the word's width.
macro_rules! at {
    ($structure:ty, $field:ident) => {
        $crate::layout::At::new(::core::mem::offset_of!($structure, $field))
    };
}
pub(crate) use at;
