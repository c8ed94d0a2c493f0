//! How processes meet: by a listener's path, or as parent and child. Whatever goes wrong is a typed error on both sides,
//! harms nobody else, and leaves nothing behind.
//!
//! Seen to fail on these mutants: a listener that looks only at its oldest handshake
//! (`a_client_that_says_nothing_holds_up_nobody`); `make_way` that takes every socket for dead (`a_living_listener_…`); a life
//! socket that is not closed on exec (`a_child_inherits_its_side_and_nothing_else`); a letter whose kind is not looked at
//! (`a_client_that_speaks_something_else_…`).

mod common;

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Folder, Second, assert_nothing_leaked, mappings, part};
use rapace_shm::{
    Error, HandshakeError, LayoutError, MsgDescHot, SessionOptions, ShmListener, ShmSession, ShmSessionConfig,
};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, send, socket_with,
};

const CONFIG: ShmSessionConfig = ShmSessionConfig { ring_capacity: 4, slot_size: 64, slot_count: 4 };

fn listener(folder: &Folder) -> ShmListener {
    ShmListener::bind(folder.join("socket"), CONFIG).unwrap()
}

fn raw_socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A client that does not know the handshake.
fn stranger(folder: &Folder) -> OwnedFd {
    let socket = raw_socket();
    connect(&socket, &SocketAddrUnix::new(folder.join("socket")).unwrap()).unwrap();
    socket
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn handshake_error<T: std::fmt::Debug>(result: Result<T, Error>) -> HandshakeError {
    match result.unwrap_err() {
        Error::Handshake(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn each_of_many_clients_gets_a_session_of_its_own() {
    let folder = Folder::new();
    let mut listener = listener(&folder);
    std::thread::scope(|scope| {
        for number in 0..20_u64 {
            let path = folder.join("socket");
            scope.spawn(move || {
                let mut session = ShmSession::connect(path).unwrap();
                session.split().0.send(&MsgDescHot::data(number), &[7; 40]).unwrap();
                let answer = session.split().1.recv().unwrap();
                assert_eq!((answer.descriptor().msg_id, answer.payload()), (number, &[8; 40][..]));
            });
        }
        for _ in 0..20 {
            let mut session = listener.accept().unwrap();
            scope.spawn(move || {
                let question = session.split().1.recv().unwrap();
                session.split().0.send(question.descriptor(), &[8; 40]).unwrap();
                drop(question);
                assert!(matches!(session.split().1.recv(), Err(Error::Closed)));
            });
        }
    });
}

#[test]
fn strangers_share_a_session_between_two_processes() {
    if let Some(path) = part("strangers_share_a_session_between_two_processes") {
        let mut session = ShmSession::connect(path).unwrap();
        let question = session.split().1.recv().unwrap();
        session.split().0.send(question.descriptor(), &question.payload().to_ascii_uppercase()).unwrap();
        return;
    }
    let folder = Folder::new();
    let mut listener = listener(&folder);
    let child = Second::start("strangers_share_a_session_between_two_processes", folder.join("socket"));
    let mut session = listener.accept_deadline(soon()).unwrap();
    session.split().0.send(&MsgDescHot::data(1), b"a question of more than sixteen bytes").unwrap();
    let answer = session.split().1.recv().unwrap();
    assert_eq!(answer.payload(), b"A QUESTION OF MORE THAN SIXTEEN BYTES");
    drop(answer);
    child.assert_ends_well();
    assert!(matches!(session.split().1.recv(), Err(Error::Closed)));
    assert_nothing_leaked(&session);
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let folder = Folder::new();
    let mut listener = listener(&folder);
    let _silent: Vec<OwnedFd> = (0..5).map(|_| stranger(&folder)).collect();
    let path = folder.join("socket");
    let client = std::thread::spawn(move || ShmSession::connect(path));
    listener.accept_deadline(soon()).unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn a_silent_client_is_given_up_after_the_time_out() {
    let folder = Folder::new();
    let options = SessionOptions::new().handshake_timeout(Duration::from_millis(20));
    let mut listener = options.bind(folder.join("socket"), CONFIG).unwrap();
    let silent = stranger(&folder);
    assert_eq!(handshake_error(listener.accept_deadline(soon())), HandshakeError::Timeout);
    assert!(matches!(listener.accept_deadline(Instant::now() + Duration::from_millis(20)), Err(Error::Timeout)));
    drop(silent);
}

#[test]
fn a_silent_listener_is_given_up_after_the_time_out() {
    let folder = Folder::new();
    let socket = raw_socket();
    bind(&socket, &SocketAddrUnix::new(folder.join("socket")).unwrap()).unwrap();
    listen(&socket, 1).unwrap();
    let options = SessionOptions::new().handshake_timeout(Duration::from_millis(20));
    assert_eq!(handshake_error(options.connect(folder.join("socket"))), HandshakeError::Timeout);
}

#[test]
fn a_client_that_speaks_something_else_is_told_apart_and_the_listener_goes_on() {
    let folder = Folder::new();
    let mut listener = listener(&folder);
    let mut letter = *b"RAPSHAKE\x01\0\0\0\x01\0\0\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0";
    let refused = |listener: &mut ShmListener, letter: &[u8]| {
        let client = stranger(&folder);
        send(&client, letter, SendFlags::empty()).unwrap();
        handshake_error(listener.accept_deadline(soon()))
    };
    assert_eq!(refused(&mut listener, b"GET / HTTP/1.1\r\n"), HandshakeError::Length { seen: 16, expected: 32 });
    assert_eq!(refused(&mut listener, &[b'x'; 32]), HandshakeError::NotRapace { seen: [b'x'; 8] });
    letter[8] = 9;
    assert_eq!(refused(&mut listener, &letter), HandshakeError::Version { seen: 9, expected: 1 });
    (letter[8], letter[12]) = (1, 3);
    assert_eq!(refused(&mut listener, &letter), HandshakeError::OutOfTurn { seen: 3, expected: 1 });
    (letter[12], letter[18]) = (1, 2);
    assert_eq!(refused(&mut listener, &letter), HandshakeError::Layout { seen: 0x2_0000, expected: 0x1_0000 });
    (letter[18], letter[20]) = (1, 0);
    assert_eq!(refused(&mut listener, &letter), HandshakeError::Capabilities { seen: 0, required: 1 });
    letter[20] = 1;
    let vanished = stranger(&folder);
    send(&vanished, &letter, SendFlags::empty()).unwrap();
    assert!(listener.try_accept().unwrap().is_none(), "welcomed, but not ready");
    drop(vanished);
    assert_eq!(handshake_error(listener.accept_deadline(soon())), HandshakeError::HungUp);
    let path = folder.join("socket");
    let client = std::thread::spawn(move || ShmSession::connect(path));
    listener.accept_deadline(soon()).unwrap();
    client.join().unwrap().unwrap();
}

/// Connects to somebody who answers everything with these bytes.
fn answered_with(answer: &[u8]) -> HandshakeError {
    let folder = Folder::new();
    let socket = raw_socket();
    bind(&socket, &SocketAddrUnix::new(folder.join("socket")).unwrap()).unwrap();
    listen(&socket, 1).unwrap();
    let answer = answer.to_vec();
    let rogue = std::thread::spawn(move || {
        let client = accept(&socket).unwrap();
        send(&client, &answer, SendFlags::empty()).unwrap();
        client
    });
    let error = handshake_error(ShmSession::connect(folder.join("socket")));
    drop(rogue.join().unwrap());
    error
}

#[test]
fn a_listener_that_is_none_is_told_apart() {
    assert_eq!(answered_with(b"what?"), HandshakeError::Length { seen: 5, expected: 32 });
    assert_eq!(answered_with(&[0; 32]), HandshakeError::NotRapace { seen: [0; 8] });
    let mut welcome = *b"RAPSHAKE\x01\0\0\0\x02\0\0\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(answered_with(&welcome), HandshakeError::Descriptors { seen: 0, expected: 5 });
    (welcome[12], welcome[24]) = (4, 2);
    assert_eq!(answered_with(&welcome), HandshakeError::Refused { reason: 2 });
    let folder = Folder::new();
    let nobody = |path: &Path| matches!(handshake_error(ShmSession::connect(path)), HandshakeError::NobodyThere(_));
    assert!(nobody(&folder.join("nothing")));
    std::fs::write(folder.join("file"), b"text").unwrap();
    assert!(nobody(&folder.join("file")));
    let _stream = UnixListener::bind(folder.join("stream")).unwrap();
    assert!(nobody(&folder.join("stream")));
}

#[test]
fn whoever_is_not_admitted_is_told_so() {
    let folder = Folder::new();
    let mut listener = listener(&folder);
    listener.admit_if(|client| client.pid == 1 && client.is_same_user());
    let path = folder.join("socket");
    let client = std::thread::spawn({
        let path = path.clone();
        move || ShmSession::connect(path)
    });
    let refused = handshake_error(listener.accept_deadline(soon()));
    assert!(matches!(refused, HandshakeError::NotAdmitted { pid, .. } if pid == std::process::id()), "{refused}");
    let refused = handshake_error(client.join().unwrap());
    assert!(matches!(refused, HandshakeError::Refused { reason: 4 } | HandshakeError::HungUp), "{refused}");
    let refused = handshake_error(SessionOptions::new().connect_if(path, |listener| listener.uid == 12_345));
    assert!(matches!(refused, HandshakeError::NotAdmitted { .. }), "{refused}");
}

#[test]
fn the_path_is_private_appears_ready_and_goes_with_the_listener() {
    let folder = Folder::new();
    let listener = listener(&folder);
    let mode = std::fs::metadata(folder.join("socket")).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, folder.names()), (0o600, vec!["socket".to_owned()]));
    drop(listener);
    assert!(folder.names().is_empty());
}

#[test]
fn a_living_listener_or_anything_else_at_the_path_is_not_replaced() {
    let folder = Folder::new();
    let refused = |name: &str| match ShmListener::bind(folder.join(name), CONFIG).unwrap_err() {
        Error::PathTaken { what, .. } => what,
        other => panic!("{other}"),
    };
    let _first = listener(&folder);
    assert_eq!(refused("socket"), "a living listener");
    std::fs::write(folder.join("file"), b"mine").unwrap();
    assert_eq!(refused("file"), "something that is no socket");
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"mine");
    std::os::unix::fs::symlink(folder.join("file"), folder.join("link")).unwrap();
    assert_eq!(refused("link"), "something that is no socket");
    let _stream = UnixListener::bind(folder.join("stream")).unwrap();
    assert_eq!(refused("stream"), "a socket of another kind");
    assert_eq!(folder.names(), ["file", "link", "socket", "stream"], "nothing else is left");
}

#[test]
fn what_a_dead_listener_left_is_replaced() {
    let folder = Folder::new();
    let socket = raw_socket();
    bind(&socket, &SocketAddrUnix::new(folder.join("socket")).unwrap()).unwrap();
    drop(socket);
    let mut listener = listener(&folder);
    let path = folder.join("socket");
    let client = std::thread::spawn(move || ShmSession::connect(path));
    listener.accept_deadline(soon()).unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn a_listener_whose_path_was_taken_over_does_not_take_it_away() {
    let folder = Folder::new();
    let first = listener(&folder);
    std::fs::remove_file(folder.join("socket")).unwrap();
    let _second = listener(&folder);
    drop(first);
    assert_eq!(folder.names(), ["socket"]);
}

#[test]
fn a_shape_that_cannot_be_is_refused_before_anything_is_bound() {
    let folder = Folder::new();
    let refused =
        ShmListener::bind(folder.join("socket"), ShmSessionConfig { ring_capacity: 3, ..CONFIG }).unwrap_err();
    assert!(matches!(refused, Error::Incompatible(LayoutError::RingCapacity { seen: 3 })), "{refused}");
    assert!(folder.names().is_empty());
}

#[test]
fn a_child_inherits_its_side_and_nothing_else() {
    if part("a_child_inherits_its_side_and_nothing_else").is_some() {
        let inherited = || {
            let links = std::fs::read_dir("/proc/self/fd").unwrap();
            let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
            targets.filter(|target| target.to_string_lossy().contains("socket:")).count()
        };
        assert_eq!((inherited(), mappings()), (1, 0), "one socket, no memory");
        let mut session = ShmSession::inherited().unwrap();
        assert!(matches!(ShmSession::inherited(), Err(Error::NotInherited { .. })), "it works once");
        let greeting = session.split().1.recv().unwrap();
        session.split().0.send(greeting.descriptor(), greeting.payload()).unwrap();
        return;
    }
    let mut session = ShmSession::create(CONFIG).unwrap();
    let _other = ShmSession::create(CONFIG).unwrap();
    let child = Second::with(&session, "a_child_inherits_its_side_and_nothing_else", "");
    assert!(matches!(session.pass_to(&mut common::command("nobody", "")), Err(Error::Link(_))), "it is passed already");
    session.split().0.send(&MsgDescHot::data(1), b"hello").unwrap();
    assert_eq!(session.split().1.recv().unwrap().payload(), b"hello");
    child.assert_ends_well();
}

#[test]
fn a_command_passes_a_session_to_one_child_only() {
    let session = ShmSession::create(CONFIG).unwrap();
    let mut command = std::process::Command::new("true");
    session.spawn(&mut command).unwrap().wait().unwrap();
    assert!(command.spawn().is_err(), "a second child of the same command would inherit who knows what");
}
