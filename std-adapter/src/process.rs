//! Which process a peer is, for peers that met by a path: a number alone does not say, because numbers are used again
//! and every container counts from 1.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rapace_shm_core::layout::ProcessWords;
use rapace_shm_core::region::{Region, Word};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::sync::atomic::Ordering;

/// A process: its number, the namespace of the number, and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    /// Inode number of the process id namespace.
    namespace: u32,
    /// Clock ticks since boot.
    start: u64,
}

/// What is known of a process.
#[derive(Debug)]
pub(crate) enum Found {
    /// It runs; the descriptor becomes readable when it ends.
    Running(OwnedFd),
    /// It is this very process.
    Myself,
    /// It has ended.
    Gone,
    /// It is in another namespace, or the kernel has no pidfds: it cannot be watched.
    OutOfSight,
}

impl Process {
    /// This process.
    pub(crate) fn current() -> io::Result<Self> {
        Ok(Self {
            pid: getpid().as_raw_nonzero().get().unsigned_abs(),
            namespace: own_namespace()?,
            start: start_of("self")?,
        })
    }

    /// Says in the segment that this process is the peer.
    pub(crate) fn write<R: Region>(self, region: &R, words: ProcessWords) {
        region.u32(words.pid_namespace).store(self.namespace, Ordering::Relaxed);
        region.u64(words.start).store(self.start, Ordering::Relaxed);
        // Release pairs with the Acquire in `read`: whoever sees the number sees the rest.
        region.u32(words.pid).store(self.pid, Ordering::Release);
    }

    /// The process with these marks.
    pub(crate) const fn new(pid: u32, namespace: u32, start: u64) -> Self {
        Self { pid, namespace, start }
    }

    /// The process that the peer says it is, if it says so.
    pub(crate) fn read<R: Region>(region: &R, words: ProcessWords) -> Option<Self> {
        let pid = region.u32(words.pid).load(Ordering::Acquire);
        (pid != 0).then(|| Self {
            pid,
            namespace: region.u32(words.pid_namespace).load(Ordering::Relaxed),
            start: region.u64(words.start).load(Ordering::Relaxed),
        })
    }

    /// Looks for it.
    pub(crate) fn find(self) -> Found {
        if own_namespace().ok() != Some(self.namespace) {
            return Found::OutOfSight;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Found::Gone };
        if pid == getpid() {
            return Found::Myself;
        }
        match pidfd_open(pid, PidfdFlags::empty()) {
            // The number was this process's at least until now, or it has been another's all the time.
            Ok(descriptor) => match start_of(&self.pid.to_string()) {
                Ok(start) if start == self.start => Found::Running(descriptor),
                _ => Found::Gone,
            },
            Err(Errno::SRCH | Errno::INVAL) => Found::Gone,
            Err(_) => Found::OutOfSight,
        }
    }
}

/// Inode numbers of namespaces fit into 32 bits.
fn own_namespace() -> io::Result<u32> {
    let inode = std::fs::metadata("/proc/self/ns/pid")?.ino();
    u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// When a process started: the 22nd field of its `stat` file. The second is a name in parentheses, in which anything may
/// stand.
fn start_of(pid: &str) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    field.and_then(|field| field.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_until_it_ends_and_its_number_alone_is_not_enough() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process {
            pid: child.id(),
            start: start_of(&child.id().to_string()).unwrap(),
            ..Process::current().unwrap()
        };
        assert!(matches!(process.find(), Found::Running(_)));
        assert!(matches!(Process { start: process.start - 1, ..process }.find(), Found::Gone));
        assert!(matches!(Process { namespace: 1, ..process }.find(), Found::OutOfSight));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process.find(), Found::Gone));
        assert!(matches!(Process::current().unwrap().find(), Found::Myself));
    }

    #[test]
    fn a_number_that_no_process_has_is_gone() {
        for pid in [u32::MAX, i32::MAX as u32] {
            assert!(matches!(Process { pid, ..Process::current().unwrap() }.find(), Found::Gone));
        }
    }
}
