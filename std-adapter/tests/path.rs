//! Sessions at a path: what is in the way is left alone, what is there is checked, and nothing is left behind.
//!
//! Seen to fail, each with the promise in its name, without: `fchmod`; `fallocate`; `O_NOFOLLOW` and its like for `stat`; the
//! check of a file's kind, of its owner, of its version, of the creator's mark (or with a mark of either peer's); the
//! creator's lock; the opener's lock; the exclusive lock of who replaces; more than one try at it; the check for a stale
//! session; the size limit on opening; the removal of the name; the look at where it leads before that; the exception
//! for procfs; clearing the way before space is asked for.

#[path = "path/common.rs"]
mod common;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use common::{AT, Directory, assert_talk, child, counterfeit, path_problem, small};
use rapace_shm::core::layout::{SegmentHeader, calculate_segment_size};
use rapace_shm::path::PathProblem;
use rapace_shm::{Error, LayoutError, MsgDescHot, PeerRole, ShmSession, ShmSessionConfig};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};

/// The second process of the tests below; does nothing when it is run as a test.
#[test]
fn second_process() {
    if std::env::var_os(AT).is_some() {
        common::be_second_process();
    }
}

#[test]
fn a_session_is_found_by_its_path_and_the_name_goes_with_its_creator() {
    let directory = Directory::new();
    let path = directory.path("session");
    let mut a = ShmSession::create_at(&path, small()).unwrap();
    let mut b = ShmSession::open_at(&path).unwrap();
    assert_eq!((b.config(), a.memfd().is_none()), (small(), true));
    assert_talk(&mut a, &mut b);
    drop(b);
    assert!(path.exists(), "an opener removes nothing");
    let (tx, rx) = a.into_split();
    drop(tx);
    assert!(path.exists(), "half of the creator is still there");
    drop(rx);
    directory.assert_holds(&[]);
}

#[test]
fn a_payload_that_outlives_its_session_keeps_the_name() {
    let directory = Directory::new();
    let path = directory.path("session");
    let mut a = ShmSession::create_at(&path, small()).unwrap();
    let mut b = ShmSession::open_at(&path).unwrap();
    b.split().0.send(&MsgDescHot::data(1), &[7; 64]).unwrap();
    let payload = a.split().1.recv().unwrap().into_payload();
    drop((a, b));
    assert_eq!((&payload[..], path.exists()), (&[7; 64][..], true));
    drop(payload);
    directory.assert_holds(&[]);
}

/// The space is there before anybody needs it, on a file system in memory and on one on a disk.
#[test]
fn all_of_a_segment_is_allocated_before_it_is_used() {
    for directory in [Directory::new(), Directory::on_disk()] {
        let path = directory.path("session");
        let config = ShmSessionConfig { slot_size: 1 << 20, slot_count: 4, ..small() };
        let _a = ShmSession::create_at(&path, config).unwrap();
        let (file, len) = (fs::metadata(&path).unwrap(), calculate_segment_size(&config).unwrap() as u64);
        assert_eq!(file.len(), len);
        assert!(file.blocks() * 512 >= len, "{} blocks for {len} bytes", file.blocks());
    }
}

/// `umask` is the whole process's, so a second one plays with it.
#[test]
fn only_the_owner_may_touch_a_segment_whatever_the_umask() {
    let directory = Directory::new();
    for umask in ["0", "777"] {
        let path = directory.path("session");
        let _holder = child(&path, &[(common::UMASK, umask)]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn a_symbolic_link_in_the_way_is_not_followed() {
    let directory = Directory::new();
    let (path, live, precious) = (directory.path("link"), directory.path("live"), directory.path("precious"));
    let _a = ShmSession::create_at(&live, small()).unwrap();
    fs::write(&precious, "precious").unwrap();
    for target in [&live, &precious, &directory.path("nothing")] {
        symlink(target, &path).unwrap();
        for refused in [ShmSession::create_at(&path, small()), ShmSession::open_at(&path)] {
            let problem = path_problem(refused);
            assert!(matches!(problem, PathProblem::NotAFile { kind: "symbolic link" }), "{problem}");
        }
        assert_eq!(&fs::read_link(&path).unwrap(), target);
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    directory.assert_holds(&["live", "precious"]);
}

/// Opening a fifo would wait for its other end; opening a device could do anything.
#[test]
fn what_is_no_file_is_named_and_left_alone() {
    let directory = Directory::new();
    fs::create_dir(directory.path("directory")).unwrap();
    mknodat(CWD, directory.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = UnixListener::bind(directory.path("socket")).unwrap();
    for expected in ["directory", "fifo", "socket"] {
        for refused in
            [ShmSession::create_at(directory.path(expected), small()), ShmSession::open_at(directory.path(expected))]
        {
            let problem = path_problem(refused);
            assert!(matches!(problem, PathProblem::NotAFile { kind } if kind == expected), "{problem}");
        }
    }
    let null = path_problem(ShmSession::open_at("/dev/null"));
    assert!(matches!(null, PathProblem::NotAFile { kind: "device" }), "{null}");
    directory.assert_holds(&["directory", "fifo", "socket"]);
}

#[test]
fn a_file_that_is_no_session_of_ours_is_left_alone() {
    let directory = Directory::new();
    let path = directory.path("file");
    let session = common::bytes_of_a_session(small());
    let version_2 = common::with(&session, std::mem::offset_of!(SegmentHeader, version), 2 << 16);
    let unmarked = common::with(&session, std::mem::offset_of!(SegmentHeader, peer_a_state), 0);
    // A peer of ours was once attached to what a version 1.0 peer had made, and may still use.
    let unmarked_with_our_b = common::with(&unmarked, std::mem::offset_of!(SegmentHeader, peer_b_state), 2);
    for contents in [&b""[..], b"RAPACE\0\0", b"precious", &version_2, &unmarked, &unmarked_with_our_b] {
        fs::write(&path, contents).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let problem = path_problem(ShmSession::create_at(&path, small()));
        let expected = match contents.get(std::mem::offset_of!(SegmentHeader, version)..) {
            Some(rest) if rest.starts_with(&(1_u32 << 16).to_ne_bytes()) => matches!(problem, PathProblem::Unmarked),
            _ => matches!(problem, PathProblem::Foreign(_)),
        };
        assert!(expected, "{problem}");
        assert_eq!((fs::read(&path).unwrap().as_slice(), fs::metadata(&path).unwrap().ino()), (contents, inode));
    }
    directory.assert_holds(&["file"]);
}

#[test]
fn a_live_session_of_another_thread_is_left_alone() {
    let directory = Directory::new();
    let path = directory.path("session");
    let mut a = ShmSession::create_at(&path, small()).unwrap();
    std::thread::scope(|scope| {
        let problem = scope.spawn(|| path_problem(ShmSession::create_at(&path, small()))).join().unwrap();
        assert!(matches!(problem, PathProblem::Live), "{problem}");
    });
    let mut b = ShmSession::open_at(&path).unwrap();
    assert_talk(&mut a, &mut b);
    directory.assert_holds(&["session"]);
}

#[test]
fn a_killed_creators_session_is_refused_to_openers_and_replaced_by_the_next_creator() {
    let directory = Directory::new();
    let path = directory.path("session");
    let holder = child(&path, &[]).unwrap();
    let live = path_problem(ShmSession::create_at(&path, small()));
    assert!(matches!(live, PathProblem::Live), "{live}");
    drop(holder); // killed
    directory.assert_holds(&["session"]);
    let stale = path_problem(ShmSession::open_at(&path));
    assert!(matches!(stale, PathProblem::Stale), "{stale}");
    let mut a = ShmSession::create_at(&path, small()).unwrap();
    let mut b = ShmSession::open_at(&path).unwrap();
    assert_talk(&mut a, &mut b);
    drop((a, b));
    directory.assert_holds(&[]);
}

#[test]
fn the_survivor_of_a_killed_creator_keeps_the_session() {
    let directory = Directory::new();
    let path = directory.path("session");
    let holder = child(&path, &[]).unwrap();
    let b = ShmSession::open_at(&path).unwrap();
    drop(holder); // killed
    let live = path_problem(ShmSession::create_at(&path, small()));
    assert!(matches!(live, PathProblem::Live), "{live}");
    drop(b);
    assert!(path.exists(), "an opener removes nothing");
    drop(ShmSession::create_at(&path, small()).unwrap());
    directory.assert_holds(&[]);
}

#[test]
fn after_a_reset_another_process_takes_the_killed_creators_place() {
    let directory = Directory::new();
    let path = directory.path("session");
    let holder = child(&path, &[]).unwrap();
    let mut b = ShmSession::open_at(&path).unwrap();
    drop(holder); // killed
    assert!(matches!(b.split().1.recv(), Err(Error::PeerDied)));
    b.reset().unwrap();
    let mut a = ShmSession::open_at(&path).unwrap();
    assert_eq!((a.role(), b.role()), (PeerRole::A, PeerRole::B));
    assert_talk(&mut a, &mut b);
    // Neither of them created the file, so what is left of it is for the next creator.
    drop((a, b));
    directory.assert_holds(&["session"]);
    drop(ShmSession::create_at(&path, small()).unwrap());
    directory.assert_holds(&[]);
}

#[test]
fn a_creator_removes_no_name_that_leads_elsewhere_by_now() {
    let directory = Directory::new();
    let (path, moved) = (directory.path("session"), directory.path("moved"));
    let a = ShmSession::create_at(&path, small()).unwrap();
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(a);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    directory.assert_holds(&["moved", "session"]);
}

#[test]
fn a_header_that_cannot_be_is_refused_before_anything_is_mapped() {
    use std::mem::offset_of;
    let directory = Directory::new();
    let session = common::bytes_of_a_session(small());
    let required = session.len();
    for (at, value, expected) in [
        (offset_of!(SegmentHeader, magic), 7, None),
        (
            offset_of!(SegmentHeader, version),
            2 << 16,
            Some(LayoutError::IncompatibleVersion { expected: 1 << 16, found: 2 << 16 }),
        ),
        (offset_of!(SegmentHeader, ring_capacity), 3, Some(LayoutError::RingCapacity { seen: 3 })),
        (offset_of!(SegmentHeader, slot_size), 6, Some(LayoutError::SlotSize { seen: 6 })),
        (offset_of!(SegmentHeader, slot_count), 0, Some(LayoutError::SlotCount { seen: 0 })),
        (
            offset_of!(SegmentHeader, slot_count),
            9,
            Some(LayoutError::SegmentTooSmall { required: required + 72, available: required }),
        ),
    ] {
        let _posing = counterfeit(&directory.path("session"), &common::with(&session, at, value));
        match (ShmSession::open_at(directory.path("session")).unwrap_err(), expected) {
            (Error::Incompatible(LayoutError::InvalidMagic { .. }), None) => {}
            (Error::Incompatible(seen), Some(expected)) => assert_eq!(seen, expected),
            (other, _) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused_at_every_length() {
    let directory = Directory::new();
    let session = common::bytes_of_a_session(small());
    for len in [0, 1, 8, 127, 128, 4096, session.len() - 1] {
        let _posing = counterfeit(&directory.path("session"), &session[..len]);
        match ShmSession::open_at(directory.path("session")).unwrap_err() {
            Error::Incompatible(LayoutError::SegmentTooSmall { required, available }) => {
                assert_eq!((required, available), (session.len(), len));
            }
            // Too short even to say what it is.
            Error::Incompatible(_) if len < 28 => {}
            other => panic!("{len}: {other}"),
        }
    }
    let mut longer = session.clone();
    longer.resize(session.len() + 10_000, 0xFF);
    let _posing = counterfeit(&directory.path("session"), &longer);
    assert_eq!(ShmSession::open_at(directory.path("session")).unwrap().config(), small());
}

#[test]
fn a_segment_above_the_limit_is_neither_created_nor_opened() {
    let directory = Directory::new();
    let path = directory.path("session");
    let huge = ShmSessionConfig { slot_size: 1 << 30, slot_count: 4, ..small() };
    let size = calculate_segment_size(&huge).unwrap();
    let bytes = common::bytes_of_a_session(small());
    let bytes = common::with(&bytes, std::mem::offset_of!(SegmentHeader, slot_size), huge.slot_size);
    let bytes = common::with(&bytes, std::mem::offset_of!(SegmentHeader, slot_count), huge.slot_count);
    let created = ShmSession::create_at(&path, huge);
    let posing = counterfeit(&path, &bytes);
    posing.set_len(size as u64).unwrap(); // sparse
    for refused in [created, ShmSession::open_at(&path)] {
        match refused.unwrap_err() {
            Error::LimitExceeded { size: seen, .. } => assert_eq!(seen, size),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_opener_that_expects_another_shape_learns_both() {
    let directory = Directory::new();
    let path = directory.path("session");
    let mut a = ShmSession::create_at(&path, small()).unwrap();
    let expected = ShmSessionConfig { slot_count: 9, ..small() };
    match ShmSession::open_at_expecting(&path, expected).unwrap_err() {
        Error::Incompatible(LayoutError::ConfigMismatch { expected: said, found }) => {
            assert_eq!((said, found), (expected, small()));
        }
        other => panic!("{other}"),
    }
    let mut b = ShmSession::open_at_expecting(&path, small()).unwrap();
    assert_talk(&mut a, &mut b);
    assert!(matches!(ShmSession::open_at(&path), Err(Error::Link(_))), "a third peer");
}

/// No machine has a `/dev/shm` of four terabytes. The limit is raised in the second process.
#[test]
fn a_full_file_system_is_an_error_with_the_size_and_leaves_nothing() {
    let directory = Directory::new();
    let path = directory.path("session");
    let limits = [(rapace_shm::MAX_BYTES_VARIABLE, "9000000000000"), (common::SLOTS, "4096")];
    let refused = child(&path, &limits).unwrap_err();
    let size = calculate_segment_size(&ShmSessionConfig { slot_size: 1 << 30, slot_count: 4096, ..small() }).unwrap();
    assert!(refused.contains(&format!("no room for a segment of {size} bytes")), "{refused}");
    directory.assert_holds(&[]);
    // What is in the way is seen to first: what a dead creator left must not take the room that its successor needs.
    let _a = ShmSession::create_at(&path, small()).unwrap();
    let refused = child(&path, &limits).unwrap_err();
    assert!(refused.contains("a live session is there"), "{refused}");
}

#[test]
fn a_file_system_that_cannot_do_it_and_a_path_that_cannot_be_are_named() {
    let in_proc = path_problem(ShmSession::create_at("/proc/self/fd/session", small()));
    assert!(matches!(in_proc, PathProblem::FileSystem { file_system: 0x9fa0, .. }), "{in_proc}");
    for path in ["", "/", "..", "/tmp/.."] {
        let problem = path_problem(ShmSession::create_at(path, small()));
        assert!(matches!(problem, PathProblem::NoName), "{path}: {problem}");
    }
    let directory = Directory::new();
    for path in ["nothing", "no directory/session"] {
        let error = ShmSession::open_at(directory.path(path)).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
        assert_eq!(std::io::Error::from(error).kind(), ErrorKind::NotFound);
    }
}

/// Files of a user who could cut them short on purpose. Only root can make one here, and root is refused as well.
#[test]
fn another_users_file_is_refused() {
    let foreign = Path::new("/etc/passwd");
    let mine = rustix::process::geteuid().as_raw();
    let directory = Directory::new();
    let path = if fs::metadata(foreign).unwrap().uid() == mine {
        fs::write(directory.path("file"), common::bytes_of_a_session(small())).unwrap();
        std::os::unix::fs::chown(directory.path("file"), Some(mine + 1), None).unwrap();
        directory.path("file")
    } else {
        foreign.into()
    };
    for refused in [ShmSession::open_at(&path), ShmSession::create_at(&path, small())] {
        let problem = path_problem(refused);
        assert!(matches!(problem, PathProblem::OtherUser { user, .. } if user == mine), "{problem}");
    }
}

#[test]
fn a_memfd_is_opened_by_its_path_in_procfs() {
    let mut a = ShmSession::create(small()).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), a.memfd().unwrap().as_raw_fd());
    let mut b = ShmSession::open_at(path).unwrap();
    assert_talk(&mut a, &mut b);
}

/// Somebody who locks the file just to look at it, as whoever opens it does, delays a creator. Unless this machine is so
/// busy that the look takes longer than a creator waits; not every time.
#[test]
fn a_look_by_another_process_only_delays_a_creator() {
    let directory = Directory::new();
    let path = directory.path("session");
    let stale = common::bytes_of_a_session(small());
    let survives_a_look = || {
        fs::write(&path, &stale).unwrap();
        let file = File::open(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        let problem = path_problem(ShmSession::open_at(&path));
        assert!(matches!(problem, PathProblem::Contended { .. }), "{problem}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(2));
                drop(file);
            });
            ShmSession::create_at(&path, small()).is_ok()
        })
    };
    assert!((0..20).any(|_| survives_a_look()));
}
