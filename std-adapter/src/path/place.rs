//! A name in a directory, what stands there, and the steps that change it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, PROC_SUPER_MAGIC, fchmod, fstat, fstatfs, linkat, openat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::error::{PathError, PathProblem, unable};
use super::file::{Found, Kind, PathFile, check_file};
use crate::error::Error;

/// How often a step is tried that another process can spoil.
const TRIES: u32 = 10;

/// Between two tries, if the lock was taken: whoever takes it only to look gives it back within microseconds.
const PAUSE: Duration = Duration::from_millis(1);

type Result<T> = std::result::Result<T, PathProblem>;

/// One name in one directory, which stays the same directory if it is moved.
pub(crate) struct Place {
    path: PathBuf,
    directory: OwnedFd,
    /// The directory is one of procfs: what looks like symbolic links there are the kernel's own, such as
    /// `/proc/PID/fd/N`, and lead to what a process has open.
    in_proc: bool,
    /// What is looked for, or to be made, there.
    kind: Kind,
}

impl Place {
    /// The place that a path names. The directory is there, the file need not be.
    pub(crate) fn find(path: &Path, kind: Kind) -> std::result::Result<Self, Error> {
        Self::of(path, kind).map_err(|problem| PathError { path: path.into(), problem }.into())
    }

    fn of(path: &Path, kind: Kind) -> Result<Self> {
        let (Some(_), Some(parent)) = (path.file_name(), path.parent()) else { return Err(PathProblem::NoName) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, parent, flags, Mode::empty()).map_err(PathProblem::io("cannot open the directory"))?;
        let in_proc = fstatfs(&directory).is_ok_and(|system| system.f_type == PROC_SUPER_MAGIC);
        Ok(Self { path: path.into(), directory, in_proc, kind })
    }

    /// Says which path a problem is about.
    pub(crate) fn blame(&self, problem: PathProblem) -> Error {
        PathError { path: self.path.clone(), problem }.into()
    }

    fn name(&self) -> &Path {
        self.path.file_name().map_or(Path::new(""), Path::new)
    }

    /// A new, empty file in the directory, without a name: mode 0600, whatever the umask.
    pub(super) fn nameless(&self) -> Result<File> {
        let (flags, private) = (OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
        let file = match openat(&self.directory, ".", flags, private) {
            // The second is what a kernel says that does not know the flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                return Err(unable(&self.directory, "create files without a name (O_TMPFILE)"));
            }
            opened => File::from(opened.map_err(PathProblem::io("cannot create the file"))?),
        };
        fchmod(&file, private).map_err(PathProblem::io("cannot make the file private"))?;
        Ok(file)
    }

    /// Gives a nameless file the name: it appears at once and whole, and in the place of nothing that is in use.
    pub(super) fn publish(&self, file: &PathFile) -> Result<()> {
        for _ in 0..TRIES {
            match self.link(file) {
                Err(Errno::EXIST) => self.vacate()?,
                linked => return linked.map_err(PathProblem::io("cannot give the file its name")),
            }
        }
        Err(PathProblem::Contended { tries: TRIES })
    }

    fn link(&self, file: &PathFile) -> rustix::io::Result<()> {
        let open = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        match linkat(CWD, open, &self.directory, self.name(), AtFlags::SYMLINK_FOLLOW) {
            // No procfs here. Before Linux 6.10 this other way is for the privileged only.
            Err(Errno::NOENT) => linkat(file, "", &self.directory, self.name(), AtFlags::EMPTY_PATH),
            linked => linked,
        }
    }

    /// Makes the name free, if what has it is a session of ours that nobody uses any more.
    ///
    /// Whoever is attached holds a shared lock. So with the exclusive one in hand nobody is attached and nobody can attach;
    /// and no other creator comes this far, so the name leads to that file until it is removed here.
    pub(crate) fn vacate(&self) -> Result<()> {
        let mut problem = PathProblem::Contended { tries: TRIES };
        for _ in 0..TRIES {
            let Some(file) = self.open()? else { return Ok(()) };
            let found = Found::read(file)?;
            found.header.identify(self.kind)?;
            if !found.header.is_ours(self.kind) {
                return Err(PathProblem::Unmarked);
            }
            if !found.file.lock(FlockOperation::NonBlockingLockExclusive)? {
                problem = PathProblem::Live;
                thread::sleep(PAUSE);
            } else if self.leads_to(&found.file) {
                return self.unlink().map_err(PathProblem::io("cannot remove the session that nobody uses"));
            }
        }
        Err(problem)
    }

    /// Opens the session that is there, and locks it as an attached peer does.
    pub(crate) fn attach(&self) -> Result<Found> {
        for _ in 0..TRIES {
            let file = self.open()?.ok_or(Errno::NOENT).map_err(PathProblem::io("cannot find the session"))?;
            // A memfd that some process has open is not locked by those who are attached.
            let alone = !self.in_proc && file.lock(FlockOperation::NonBlockingLockExclusive)?;
            if !file.lock(FlockOperation::NonBlockingLockShared)? {
                thread::sleep(PAUSE);
            } else if self.leads_to(&file) {
                let found = Found::read(file)?;
                return if alone && found.header.is_ours(self.kind) { Err(PathProblem::Stale) } else { Ok(found) };
            }
        }
        Err(PathProblem::Contended { tries: TRIES })
    }

    /// The file that has the name, if any has. Nothing but a file is opened, and no symbolic link followed.
    fn open(&self) -> Result<Option<PathFile>> {
        let seen = match statat(&self.directory, self.name(), self.at_flags()) {
            Err(Errno::NOENT) => return Ok(None),
            seen => seen.map_err(PathProblem::io("cannot see what is there"))?,
        };
        check_file(&seen)?;
        // If something else has come there since, the flags keep it from doing harm.
        let mut flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !self.in_proc);
        let file = match openat(&self.directory, self.name(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => File::from(opened.map_err(PathProblem::io("cannot open the file that is there"))?),
        };
        check_file(&fstat(&file).map_err(PathProblem::io("cannot see what was opened"))?)?;
        Ok(Some(PathFile::open(file)))
    }

    fn at_flags(&self) -> AtFlags {
        if self.in_proc { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
    }

    /// Whether the name leads to this file. As long as that is open, its inode number is nobody else's.
    fn leads_to(&self, file: &PathFile) -> bool {
        match (statat(&self.directory, self.name(), self.at_flags()), fstat(file)) {
            (Ok(there), Ok(open)) => (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino),
            _ => false,
        }
    }

    fn unlink(&self) -> rustix::io::Result<()> {
        unlinkat(&self.directory, self.name(), AtFlags::empty())
    }

    /// Removes the name if it still leads to this file, which is locked, so that no other creator replaces it meanwhile.
    pub(super) fn remove(&self, file: &PathFile) {
        if self.leads_to(file) {
            // If it fails, the file stays behind as a killed creator's does, and is replaced like that.
            let _ = self.unlink();
        }
    }
}
