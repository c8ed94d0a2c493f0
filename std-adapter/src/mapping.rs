//! Memory that processes share: anonymous, a sealed memfd, or a file that was found by its path.
//!
//! # Safety
//!
//! 1. `base .. base + len` of a [`Mapping`] is mapped, readable and writable, shared, until it is dropped.
//! 2. The file behind it cannot shrink below `len`: it is anonymous, or sealed against shrinking before it is mapped. A
//!    file with a path cannot be sealed: it was at least `len` bytes long, and if its owner cuts it short later, access ends
//!    the process with SIGBUS. That is no undefined behaviour: nothing is read, nothing is written, nothing goes on.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rapace_shm_core::region::RawRegion;
use rustix::fs::{
    MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::geteuid;

use crate::error::Error;
use crate::path::PathFile;

/// The environment variable that limits the size of a segment, in bytes.
pub const MAX_BYTES_VARIABLE: &str = "RAPACE_SHM_MAX_BYTES";

const DEFAULT_MAX_BYTES: usize = 512 << 20;

/// What a session's memfd must be sealed with.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Shared memory, mapped until it is dropped. Not inherited by `fork`.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Locked, and perhaps removed from its directory, until after the bytes are unmapped.
    file: Option<PathFile>,
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
        let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
        if !seals.contains(SealFlags::SHRINK) {
            return Err(Error::NotSealed { seals: seals.bits() });
        }
        let stat = fstat(file).map_err(Error::io("cannot read the size of the segment"))?;
        let len = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        check_limit(len)?;
        // Invariant 2: the seal was just checked and cannot be taken back.
        Self::of(map(file, len)?, len, None)
    }

    /// As [`of_sealed`](Self::of_sealed), or the whole of a file of this user that has a name, as those have that are opened
    /// by it.
    pub(crate) fn of_sealed_or_named(file: BorrowedFd<'_>) -> Result<Self, Error> {
        let stat = fstat(file).map_err(Error::io("cannot read the size of the segment"))?;
        if stat.st_nlink == 0 || stat.st_uid != geteuid().as_raw() {
            return Self::of_sealed(file);
        }
        let len = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        check_limit(len)?;
        Self::of(map(file, len)?, len, None)
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
        let mapping = Self { base, len, file };
        // SAFETY: invariant 1; the advice changes what a forked child inherits, not this process.
        unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }
            .map_err(Error::io("cannot keep the segment out of forked children"))?;
        Ok(mapping)
    }

    /// The region over this mapping. One mapping may have many; all name the same bytes.
    pub(crate) fn region(self: &Arc<Self>) -> Result<MappedRegion, Error> {
        // SAFETY: invariants 1 and 2, for as long as the `Arc` (the keeper) lives; a mapping's size is at most
        // `isize::MAX`, and nothing in this program reaches the bytes otherwise.
        let region = unsafe { RawRegion::new(self.base, self.len, Arc::clone(self)) };
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

/// A memfd of `len` zero bytes: mode 0600, closed on exec, its size sealed for good.
pub(crate) fn sealed_memfd(len: usize) -> Result<OwnedFd, Error> {
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
    fcntl_add_seals(file.as_fd(), SEALS).map_err(Error::io("cannot seal the memfd"))?;
    Ok(file)
}

/// Refuses a segment that is larger than this process allows.
pub(crate) fn check_limit(size: usize) -> Result<(), Error> {
    let limit =
        std::env::var(MAX_BYTES_VARIABLE).ok().and_then(|limit| limit.parse().ok()).unwrap_or(DEFAULT_MAX_BYTES);
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
        assert_eq!(fcntl_get_seals(&file).unwrap() & SEALS, SEALS);
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(ftruncate(&file, 4096), Err(Errno::PERM));
        assert_eq!(ftruncate(&file, 16_384), Err(Errno::PERM));
    }

    #[test]
    fn a_file_that_can_shrink_is_refused() {
        let file = memfd_create("unsealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 8192).unwrap();
        assert!(matches!(Mapping::of_sealed(file.as_fd()), Err(Error::NotSealed { seals: 0 })));
    }
}
