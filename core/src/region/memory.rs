//! The bytes of a region in a `static`.

#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::RawRegion;
use crate::atomic::AtomicBool;

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
