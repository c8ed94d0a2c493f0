//! A Unix stream socket of `std`: what one would take without shared memory. The second process has its end as standard
//! input.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, PATIENCE, Work, spin};

/// See the module.
#[derive(Debug)]
pub struct Socket;

/// One end, and room for a message.
#[derive(Debug)]
pub struct End {
    stream: UnixStream,
    message: Vec<u8>,
}

impl End {
    /// Round trips spin unless they are to sleep. One-way traffic blocks: a full socket is a reason to sleep.
    fn new(stream: UnixStream, row: Row) -> Self {
        let spins = !row.is_one_way() && row != Row::Asleep;
        stream.set_nonblocking(spins).expect("a socket");
        if !spins {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        }
        Self { stream, message: vec![0; row.wire()] }
    }
}

impl Contestant for Socket {
    type Link = End;

    fn part(_: Row) -> Part {
        Part::Copied
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (End, Second) {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let mut command = Job::new(contestant, row, plan, "").command();
        command.stdin(OwnedFd::from(theirs));
        (End::new(ours, row), Second::start(command))
    }

    fn second(job: &Job) -> End {
        let stream = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input");
        End::new(stream.into(), job.row())
    }
}

/// How many bytes went through, unless it has to be tried again.
fn moved(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(0) => panic!("the other process has closed its end"),
        Ok(count) => Some(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
        Err(error) => panic!("socket: {error}"),
    }
}

impl Link for End {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        W::write(&mut self.message, number);
        let mut sent = 0;
        while sent < W::WIRE {
            sent += spin(|| moved(self.stream.write(&self.message[sent..])));
        }
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let mut received = 0;
        while received < W::WIRE {
            received += spin(|| moved(self.stream.read(&mut self.message[received..])));
        }
        W::read(&self.message)
    }
}
