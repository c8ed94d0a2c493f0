//! Passing a session to a child process, and only to that one.
//!
//! What the child inherits is one descriptor: its end of the life socket, with the welcome of the
//! [handshake](crate::handshake) already in it, and in that the memfd and the doorbells. An environment variable says
//! which descriptor it is.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

use crate::error::Error;

/// The environment variable that tells a child which descriptor is its session.
const VARIABLE: &str = "RAPACE_SHM_FD";

/// Below are the standard streams; a duplicate never lands on one.
const FIRST_FREE: RawFd = 3;

/// A session on its way to the child that a command is about to start: to be kept until that is done, and then dropped.
///
/// As long as it is there, this process holds the child's end too, and would not hear of the child's death. Once it is
/// dropped, the command cannot start another child.
#[must_use = "drop it once the child is started, not before"]
#[derive(Debug)]
pub struct Passing(#[allow(dead_code)] Arc<OwnedFd>);

/// Makes the child that `command` starts inherit a duplicate of a descriptor. The duplicate is closed on exec in this
/// process; only between fork and exec, in that child, the mark is taken off.
pub(crate) fn pass(descriptor: BorrowedFd<'_>, command: &mut Command) -> Result<Passing, Error> {
    let (number, passing) = pass_by_number(descriptor, command)?;
    command.env(VARIABLE, number.to_string());
    Ok(passing)
}

/// As [`pass`]; what tells the child the number is the caller's.
pub(crate) fn pass_by_number(descriptor: BorrowedFd<'_>, command: &mut Command) -> Result<(RawFd, Passing), Error> {
    let duplicate = fcntl_dupfd_cloexec(descriptor, FIRST_FREE)
        .map_err(Error::io("cannot duplicate the descriptor that the child is to inherit"))?;
    let number = duplicate.as_raw_fd();
    let passing = Arc::new(duplicate);
    let duplicate = Arc::downgrade(&passing);
    let inherit = move || match duplicate.upgrade() {
        Some(duplicate) => fcntl_setfd(&*duplicate, FdFlags::empty()).map_err(io::Error::from),
        // Another child of the same command, after the session was passed.
        None => Err(Errno::BADF.into()),
    };
    // SAFETY: the closure runs between fork and exec; it counts a reference and makes one async-signal-safe system call,
    // and neither allocates nor takes a lock.
    unsafe { command.pre_exec(inherit) };
    Ok((number, Passing(passing)))
}

/// The descriptor that the parent passed; the first caller's.
pub(crate) fn take() -> Result<OwnedFd, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let seen = std::env::var(VARIABLE).unwrap_or_else(|_| "not set".into());
    let refused = |seen: String| Error::NotInherited { variable: VARIABLE, seen };
    let Ok(number) = seen.parse::<RawFd>() else { return Err(refused(seen)) };
    if number >= FIRST_FREE && TAKEN.swap(true, Ordering::AcqRel) {
        return Err(refused("already taken".into()));
    }
    claim(number, VARIABLE)
}

/// The descriptor of this number, which a parent passed; the first caller's. `told_by` is what the number came from.
pub(crate) fn claim(number: RawFd, told_by: &'static str) -> Result<OwnedFd, Error> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _claiming = ONE_AT_A_TIME.lock();
    let refused = || Error::NotInherited { variable: told_by, seen: number.to_string() };
    if number < FIRST_FREE {
        return Err(refused());
    }
    // SAFETY: only looked at here, and a closed number makes the call fail.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
    // Only a descriptor that was inherited on purpose is not closed on exec.
    if !flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
        return Err(refused());
    }
    // SAFETY: the parent made this descriptor for us and told us its number; nobody else in this process knows it, what this
    // process opens itself is closed on exec, and so is this from here on: one caller has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)
        .map_err(Error::io("cannot keep the session from being inherited further"))?;
    Ok(descriptor)
}
