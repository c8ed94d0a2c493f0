//! Passing a session's memfd to a child process, and only to that one.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

use crate::error::Error;

/// The environment variable that tells a child which descriptor is its session.
const VARIABLE: &str = "RAPACE_SHM_FD";

/// Below are the standard streams; a duplicate never lands on one.
const FIRST_FREE: RawFd = 3;

/// Duplicates the descriptor for the child that `command` starts. The duplicate is closed on exec in this process; only
/// between fork and exec, in that child, the mark is taken off.
pub(crate) fn pass(file: BorrowedFd<'_>, command: &mut Command) -> Result<(), Error> {
    let duplicate =
        fcntl_dupfd_cloexec(file, FIRST_FREE).map_err(Error::io("cannot duplicate the session's descriptor"))?;
    command.env(VARIABLE, duplicate.as_raw_fd().to_string());
    let inherit = move || fcntl_setfd(&duplicate, FdFlags::empty()).map_err(io::Error::from);
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call; it neither
    // allocates nor takes a lock.
    unsafe { command.pre_exec(inherit) };
    Ok(())
}

/// The descriptor that the parent passed; the first caller's.
pub(crate) fn take() -> Result<OwnedFd, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let seen = std::env::var(VARIABLE).unwrap_or_else(|_| "not set".into());
    let refused = |seen: String| Error::NotInherited { variable: VARIABLE, seen };
    let Ok(number) = seen.parse::<RawFd>() else { return Err(refused(seen)) };
    if number < FIRST_FREE {
        return Err(refused(seen));
    }
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(refused("already taken".into()));
    }
    // SAFETY: only looked at here, and a closed number makes the call fail.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
    // Only a descriptor that was inherited on purpose is not closed on exec.
    if !flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
        return Err(refused(seen));
    }
    // SAFETY: the parent made this descriptor for us and told us its number; nobody else in this process knows it, and
    // `TAKEN` lets one caller have it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&file, FdFlags::CLOEXEC).map_err(Error::io("cannot keep the session from being inherited further"))?;
    Ok(file)
}
