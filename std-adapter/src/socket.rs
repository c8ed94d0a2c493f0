//! The socket at a path: how it gets there, and how it goes away.
//!
//! It is bound under a name that nobody looks for, made private, set to listening and only then given its name, so that
//! whoever finds it can connect. Listeners that want the same name take turns by a lock on the folder; only a socket on
//! which nobody listens is ever replaced.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, chmod, flock, lstat, open, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use crate::error::{Error, HandshakeError};

/// Clients that wait in the kernel's queue.
const BACKLOG: i32 = 128;

/// A listening socket, and the name under which it is found.
pub(crate) struct BoundSocket {
    socket: OwnedFd,
    path: PathBuf,
    folder: OwnedFd,
    /// Device and inode of the name.
    identity: (u64, u64),
}

fn new_socket() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(Error::io("cannot create a socket"))
}

fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(path).map_err(Error::io("path is too long for a socket, or contains a zero byte"))
}

impl BoundSocket {
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::io("cannot open the socket's folder"))?;
        let turn = Turn::take(&folder)?;
        make_way(path)?;
        let socket = new_socket()?;
        let hidden = hidden_name(path);
        bind(&socket, &address(&hidden)?).map_err(Error::io("cannot bind the socket"))?;
        let published = publish(&socket, &hidden, path);
        if published.is_err() {
            let _ = unlinkat(&folder, &hidden, AtFlags::empty());
        }
        let identity = published?;
        drop(turn);
        Ok(Self { socket, path: path.to_owned(), folder, identity })
    }
}

/// One listener at a time changes what is in the folder.
struct Turn<'a>(&'a OwnedFd);

impl<'a> Turn<'a> {
    fn take(folder: &'a OwnedFd) -> Result<Self, Error> {
        loop {
            match flock(folder, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(folder)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("cannot lock the socket's folder")(error)),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// Refuses if something is there that is not a dead listener's socket.
fn make_way(path: &Path) -> Result<(), Error> {
    let taken = |what| Err(Error::PathTaken { path: path.to_owned(), what });
    let stat = match lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(Error::io("cannot look at the socket's path")(error)),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return taken("something that is no socket");
    }
    match connect(new_socket()?, &address(path)?) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(Errno::PROTOTYPE) => taken("a socket of another kind"),
        Err(Errno::ACCESS | Errno::PERM) => taken("another user's socket"),
        // With room in its queue or without: somebody listens.
        _ => taken("a living listener"),
    }
}

/// Next to the path, and different for every process and every call of it.
fn hidden_name(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".rapace-shm-{}-{number}", std::process::id()))
}

/// Makes the socket private, lets it listen and gives it its name; says which inode the name leads to.
fn publish(socket: &OwnedFd, hidden: &Path, path: &Path) -> Result<(u64, u64), Error> {
    chmod(hidden, Mode::RUSR | Mode::WUSR).map_err(Error::io("cannot make the socket private"))?;
    listen(socket, BACKLOG).map_err(Error::io("cannot listen"))?;
    let stat = lstat(hidden).map_err(Error::io("cannot look at the socket"))?;
    renameat(rustix::fs::CWD, hidden, rustix::fs::CWD, path).map_err(Error::io("cannot name the socket"))?;
    Ok((stat.st_dev, stat.st_ino))
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let Ok(_turn) = Turn::take(&self.folder) else { return };
        // Only what is still ours; by its name in the folder that it was put into, wherever that may be by now.
        let Some(name) = self.path.file_name() else { return };
        let still_ours = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity);
        if still_ours {
            let _ = unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundSocket").field(&self.path).finish()
    }
}

/// Connects to a listener's path, waiting until the deadline while its queue is full.
pub(crate) fn connect_to(path: &Path, deadline: Instant) -> Result<OwnedFd, Error> {
    let socket = new_socket()?;
    let address = address(path)?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_for_room(deadline)?,
            Err(error @ (Errno::NOENT | Errno::CONNREFUSED | Errno::PROTOTYPE | Errno::NOTSOCK)) => {
                return Err(HandshakeError::NobodyThere(std::io::Error::from(error).kind()).into());
            }
            Err(error) => return Err(Error::io("cannot connect to the listener")(error)),
        }
    }
}

/// The kernel does not say when a full queue has room again; it is looked at every few milliseconds.
fn wait_for_room(deadline: Instant) -> Result<(), Error> {
    if Instant::now() >= deadline {
        return Err(HandshakeError::Timeout.into());
    }
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}
