//! Where the atomics come from: `core`, or portable-atomic on a target that lacks 64-bit (or any) compare-exchange.
//!
//! portable-atomic's fallback takes a lock that lives in the program image. So on such a target a region may be
//! shared by the threads and interrupt handlers of one image, never by two images.

pub(crate) use core::sync::atomic::{compiler_fence, fence};

#[cfg(target_has_atomic = "32")]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32};
#[cfg(not(target_has_atomic = "32"))]
pub(crate) use portable_atomic::{AtomicBool, AtomicU32};

#[cfg(all(target_has_atomic = "64", not(rapace_shm_portable_atomic)))]
pub(crate) use core::sync::atomic::AtomicU64;
#[cfg(any(not(target_has_atomic = "64"), rapace_shm_portable_atomic))]
pub(crate) use portable_atomic::AtomicU64;
