//! Memory that processes share: anonymous, a sealed memfd, or a file that was found by its path.
//!
//! The file of a hub that [grows](rapace_shm_core::hub) is mapped once, and as far as it may ever reach:
//!
//! ```text
//!   addresses  | what a fresh hub has    | second extents ...     | further extents ...        |
//!              base                      end                                        base + reach
//!   file       |#########################|........####|  <- its length grows, here by one extent
//!                                         a hole:      ^ from here on, access is SIGBUS
//!                                         no extent yet
//! ```
//!
//! So growth moves no byte and maps nothing: whoever needs an extent makes the file longer ([`Mapping::extend`]), and
//! whoever meets a reference into one looks at how long it is ([`Mapping::has`]). Behind the end of a file there is no
//! memory, private or shared, that a stray access could silently use: it ends the process. And what was mapped never is
//! mapped again, so there is no moment at which somebody's loan is not there.
//!
//! # Safety
//!
//! 1. `base .. base + len` of a [`Mapping`] is mapped, readable and writable, shared, until it is dropped.
//! 2. The file behind it cannot shrink: it is anonymous, or sealed against that before it is mapped. A file with a path
//!    cannot be sealed: it was long enough, and if its owner cuts it short later, access ends the process with SIGBUS. That
//!    is no undefined behaviour: nothing is read, nothing is written, nothing goes on.
//! 3. Where the file has not grown to yet, access ends the process in the same way. Core asks [`Mapping::has`] before it
//!    goes there, and by invariant 2 what was there stays.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rapace_shm_core::layout::Span;
use rapace_shm_core::region::RawRegion;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::geteuid;

use crate::error::Error;
use crate::path::PathFile;
use crate::trace::event;

/// The environment variable that limits the size of a segment, in bytes.
pub const MAX_BYTES_VARIABLE: &str = "RAPACE_SHM_MAX_BYTES";

const DEFAULT_MAX_BYTES: usize = 512 << 20;

/// What every memfd is sealed with, and nothing can be added to that.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::SEAL);

/// Shared memory, mapped until it is dropped. Not inherited by `fork`.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Locked, and perhaps removed from its directory, until after the bytes are unmapped.
    file: Option<PathFile>,
    /// The memfd of a hub that grows.
    memfd: Option<OwnedFd>,
}

// SAFETY: a mapping may be used and unmapped by any thread; its bytes are only reached through regions.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; `&Mapping` gives access to nothing.
unsafe impl Sync for Mapping {}

/// A region over a mapping.
pub(crate) type MappedRegion = RawRegion<Arc<Mapping>>;

impl Mapping {
    /// Fresh zero bytes that only this process maps (and its threads share).
    pub(crate) fn anonymous(len: usize) -> Result<Self, Error> {
        check_limit(len)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED) };
        Self::of(base.map_err(Error::io("cannot map anonymous memory"))?, len, None)
    }

    /// The whole of a memfd that is sealed against shrinking.
    pub(crate) fn of_sealed(file: BorrowedFd<'_>) -> Result<Self, Error> {
        check_seals(file)?;
        let len = length(file)?;
        check_limit(len)?;
        // Invariant 2: the seal was just checked and cannot be taken back.
        Self::of(map(file, len)?, len, None)
    }

    /// The whole of a memfd that is sealed against shrinking, or of a file of this user that has a name, as those have that
    /// are opened by it. How large it may be is for the caller to check.
    pub(crate) fn of_sealed_or_named(file: BorrowedFd<'_>) -> Result<Self, Error> {
        let stat = fstat(file).map_err(CANNOT_MEASURE)?;
        if stat.st_nlink == 0 || stat.st_uid != geteuid().as_raw() {
            check_seals(file)?;
        }
        let len = length(file)?;
        Self::of(map(file, len)?, len, None)
    }

    /// The same file, mapped as far as it may grow: `reach` bytes. A `memfd` is what this maps if it maps no file at a path.
    pub(crate) fn with_room(mut self, memfd: Option<BorrowedFd<'_>>, reach: usize) -> Result<Self, Error> {
        let memfd = memfd.map(|memfd| memfd.try_clone_to_owned()).transpose();
        let memfd = memfd.map_err(|source| Error::Io { what: "cannot keep the segment's descriptor", source })?;
        let Some(file) = self.file().or(memfd.as_ref().map(AsFd::as_fd)) else { return Ok(self) };
        // Invariant 3 for what the file does not have yet; it was checked when `self` was made.
        let base = map(file, reach)?;
        let mut grown = Self::of(base, reach, self.file.take())?;
        grown.memfd = memfd;
        Ok(grown)
    }

    /// The file that this maps, if it may grow.
    fn growing(&self) -> Option<BorrowedFd<'_>> {
        self.file().or(self.memfd.as_ref().map(AsFd::as_fd))
    }

    /// Whether bytes are there, and not only addresses for them. Once they are, they stay.
    pub(crate) fn has(&self, span: Span) -> bool {
        let Some(end) = span.offset.checked_add(span.len).filter(|end| *end <= self.len) else { return false };
        self.growing().is_none_or(|file| length(file).is_ok_and(|len| end <= len))
    }

    /// Makes the file long enough for these bytes, never shorter; says whether they are there. In a file with a path their
    /// space is allocated, so that no access to them finds the file system full. A memfd's bytes exist once they were
    /// written to.
    pub(crate) fn extend(&self, span: Span) -> bool {
        let fits = span.offset.checked_add(span.len).is_some_and(|end| end <= self.len);
        let (Some(file), true) = (self.growing(), fits) else { return self.has(span) };
        let last = Span { offset: (span.offset + span.len).saturating_sub(1), len: 1 };
        let needed = if self.memfd.is_some() && check_seals(file).is_ok() { last } else { span };
        let (offset, len) = (needed.offset as u64, needed.len as u64);
        let allocated = retry_on_intr(|| fallocate(file, FallocateFlags::empty(), offset, len));
        if allocated.is_err() {
            event!(WARN, cause = ?allocated, offset = span.offset, bytes = span.len, "hub cannot grow");
        }
        allocated.is_ok() && self.has(span)
    }

    /// The file at a path that this maps, if it maps one.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The first `len` bytes of a file that has at least as many.
    pub(crate) fn of_path(file: PathFile, len: usize) -> Result<Self, Error> {
        Self::of(map(file.as_fd(), len)?, len, Some(file))
    }

    /// Gives the file its name, if it is a fresh one that waits for it.
    pub(crate) fn publish(&self) -> Result<(), Error> {
        self.file.as_ref().map_or(Ok(()), PathFile::publish)
    }

    fn of(base: *mut c_void, len: usize, file: Option<PathFile>) -> Result<Self, Error> {
        let Some(base) = NonNull::new(base.cast()) else {
            return Err(Error::io("kernel mapped the segment at address 0")(Errno::FAULT));
        };
        let mapping = Self { base, len, file, memfd: None };
        // SAFETY: invariant 1; the advice changes what a forked child inherits, not this process.
        unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }
            .map_err(Error::io("cannot keep the segment out of forked children"))?;
        Ok(mapping)
    }

    /// The region over this mapping. One mapping may have many; all name the same bytes.
    pub(crate) fn region(self: &Arc<Self>) -> Result<MappedRegion, Error> {
        self.kept_by(Arc::clone(self))
    }

    /// The region for a look at it, before anybody uses it.
    pub(crate) fn borrowed(&self) -> Result<RawRegion<&Self>, Error> {
        self.kept_by(self)
    }

    /// The keeper keeps this mapping.
    fn kept_by<K>(&self, keeper: K) -> Result<RawRegion<K>, Error> {
        // SAFETY: invariants 1 to 3, for as long as the keeper lives; a mapping's size is at most `isize::MAX`, and nothing
        // in this program reaches the bytes otherwise.
        let region = unsafe { RawRegion::new(self.base, self.len, keeper) };
        region.map_err(Error::Incompatible)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this type, once; every region over it kept it alive, so none is left. It can only fail for
        // a range that is not mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("base", &self.base).field("len", &self.len).finish()
    }
}

fn map(file: BorrowedFd<'_>, len: usize) -> Result<*mut c_void, Error> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    unsafe { mmap(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) }
        .map_err(Error::io("cannot map the segment"))
}

const CANNOT_MEASURE: fn(Errno) -> Error =
    |errno| Error::Io { what: "cannot read the size of the segment", source: errno.into() };

/// How long a file is, in bytes.
fn length(file: BorrowedFd<'_>) -> Result<usize, Error> {
    Ok(usize::try_from(fstat(file).map_err(CANNOT_MEASURE)?.st_size).unwrap_or(usize::MAX))
}

/// Refuses what could shrink.
fn check_seals(file: BorrowedFd<'_>) -> Result<(), Error> {
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    if seals.contains(SealFlags::SHRINK) { Ok(()) } else { Err(Error::NotSealed { seals: seals.bits() }) }
}

/// A memfd of `len` zero bytes: mode 0600, closed on exec, its size sealed for good.
pub(crate) fn sealed_memfd(len: usize) -> Result<OwnedFd, Error> {
    memfd(len, SEALS.union(SealFlags::GROW))
}

/// As [`sealed_memfd`], but it may grow.
pub(crate) fn growing_memfd(len: usize) -> Result<OwnedFd, Error> {
    memfd(len, SEALS)
}

fn memfd(len: usize, seals: SealFlags) -> Result<OwnedFd, Error> {
    check_limit(len)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know "never executable".
    let file = match memfd_create("rapace-shm", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("rapace-shm", flags),
        created => created,
    }
    .map_err(Error::io("cannot create a memfd"))?;
    fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(Error::io("cannot make the memfd private"))?;
    ftruncate(&file, len as u64).map_err(Error::io("cannot size the memfd"))?;
    fcntl_add_seals(file.as_fd(), seals).map_err(Error::io("cannot seal the memfd"))?;
    Ok(file)
}

/// As large as a segment may be that this process uses, in bytes.
pub(crate) fn limit() -> usize {
    std::env::var(MAX_BYTES_VARIABLE).ok().and_then(|limit| limit.parse().ok()).unwrap_or(DEFAULT_MAX_BYTES)
}

/// Refuses a segment that is larger than this process allows.
pub(crate) fn check_limit(size: usize) -> Result<(), Error> {
    let limit = limit();
    if size > limit {
        return Err(Error::LimitExceeded { size, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_getfd};

    #[test]
    fn a_memfd_is_private_sealed_and_closed_on_exec() {
        let file = sealed_memfd(8192).unwrap();
        let stat = fstat(&file).unwrap();
        assert_eq!((stat.st_mode & 0o777, stat.st_size), (0o600, 8192));
        let seals = SEALS.union(SealFlags::GROW);
        assert_eq!(fcntl_get_seals(&file).unwrap() & seals, seals);
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(ftruncate(&file, 4096), Err(Errno::PERM));
        assert_eq!(ftruncate(&file, 16_384), Err(Errno::PERM));
    }

    #[test]
    fn a_growing_memfd_grows_by_what_is_asked_and_never_shrinks() {
        let file = growing_memfd(8192).unwrap();
        let mapping = Mapping::of_sealed(file.as_fd()).unwrap().with_room(Some(file.as_fd()), 65_536).unwrap();
        let span = |offset, len| Span { offset, len };
        assert!(mapping.has(span(8000, 192)) && !mapping.has(span(8000, 193)));
        assert!(mapping.extend(span(20_000, 1000)));
        assert_eq!(fstat(&file).unwrap().st_size, 21_000);
        assert!(mapping.extend(span(8192, 1000)), "it is there already");
        assert_eq!(fstat(&file).unwrap().st_size, 21_000);
        for out in [span(65_000, 537), span(usize::MAX, 2)] {
            assert!(!mapping.extend(out) && !mapping.has(out), "{out:?}");
        }
        assert_eq!(ftruncate(&file, 4096), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&file, SealFlags::GROW), Err(Errno::PERM));
    }

    #[test]
    fn a_file_that_can_shrink_is_refused() {
        let file = memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 8192).unwrap();
        assert!(matches!(Mapping::of_sealed(file.as_fd()), Err(Error::NotSealed { seals: 0 })));
    }
}
