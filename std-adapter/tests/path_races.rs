//! Several creators and openers at one path at once.
//!
//! Seen to fail, the last two in most runs: without the exclusive lock in `vacate`, creators remove each other's live sessions;
//! without asking where the name leads after locking, they remove the session of whoever was faster, and openers attach
//! to removed files.

#[path = "path/common.rs"]
mod common;

use std::fs;
use std::io::ErrorKind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Directory, assert_talk, bytes_of_a_session, small};
use rapace_shm::path::PathProblem;
use rapace_shm::{Error, ShmSession};

const ROUNDS: usize = 100;
const CREATORS: usize = 3;

#[test]
fn of_creators_that_race_exactly_one_wins_and_nothing_is_lost() {
    let directory = Directory::new();
    let path = directory.path("session");
    let stale = bytes_of_a_session(small());
    for round in 0..ROUNDS {
        // Half of the races are for the place of a session that nobody uses any more.
        if round % 2 == 0 {
            fs::write(&path, &stale).unwrap();
        }
        let start = Barrier::new(CREATORS);
        let race = || {
            start.wait();
            ShmSession::create_at(&path, small())
        };
        let results: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..CREATORS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let (mut won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}: {won:?}, {lost:?}");
        for problem in lost.into_iter().map(common::path_problem) {
            assert!(matches!(problem, PathProblem::Live), "round {round}: {problem}");
        }
        directory.assert_holds(&["session"]);
        let mut b = ShmSession::open_at(&path).unwrap();
        assert_talk(won[0].as_mut().unwrap(), &mut b);
        drop((won, b));
        directory.assert_holds(&[]);
    }
}

/// Whatever moment it comes at: a session that works, or none.
#[test]
fn an_opener_finds_a_whole_session_or_none() {
    let directory = Directory::new();
    let path = directory.path("session");
    let done = AtomicBool::new(false);
    let open_often = || {
        let mut opened = 0;
        while !done.load(Ordering::Relaxed) {
            match ShmSession::open_at(&path) {
                Ok(session) => {
                    assert_eq!(session.config(), small());
                    opened += 1;
                }
                // The other opener is there, or was.
                Err(Error::Link(_)) => {}
                Err(Error::Path(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(other) => panic!("{other}"),
            }
        }
        opened
    };
    let opened: usize = thread::scope(|scope| {
        let openers = [scope.spawn(open_often), scope.spawn(open_often)];
        for _ in 0..3_000 {
            drop(ShmSession::create_at(&path, small()).unwrap());
        }
        done.store(true, Ordering::Relaxed);
        openers.into_iter().map(|opener| opener.join().unwrap()).sum()
    });
    assert!(opened > 0);
    directory.assert_holds(&[]);
}
