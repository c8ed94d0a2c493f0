//! The published crate `rapace-transport-shm`, twice: its transport, as its users have it, and its rings and slots alone,
//! polled, which is the least that its bytes allow.
//!
//! The transport is async on tokio. Each process has a current-thread runtime and enters it once; a call is polled
//! directly first, so that one that is ready at once pays nothing for a runtime, and only then blocked on. (Waiting
//! happens on tokio's threads for blocking work in any case.)
//!
//! Both lie on a memfd that the second process opens through `/proc`: nothing is left behind, however it ends.
//!
//! # Safety
//!
//! The crate's slots are reached through unsafe functions. What they ask for, by number:
//!
//! 1. The index is less than the number of slots: `alloc` and `mark_in_flight` of the same crate vouch for it.
//! 2. The caller owns the slot: `alloc` gave it and it is not yet marked in flight, or its descriptor was received and it
//!    is not yet freed. Both processes are this program.

#![allow(unsafe_code)]

use std::fs::File;
use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rapace_core::{Frame, INLINE_PAYLOAD_SIZE, INLINE_PAYLOAD_SLOT, MsgDescHot};
use rapace_transport_shm::{DataSegment, DescRing, ShmSession, ShmSessionConfig, ShmTransport};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::runtime::{Builder, Runtime};

use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, Work, spin};

fn config(row: Row) -> ShmSessionConfig {
    ShmSessionConfig {
        ring_capacity: row.depth(),
        slot_size: u32::try_from(row.wire().max(64)).expect("at most a mebibyte"),
        slot_count: row.depth(),
    }
}

/// The first side's session and the file that it lies in, and the second side.
fn start(contestant: usize, row: Row, plan: &Plan) -> (Arc<ShmSession>, OwnedFd, Second) {
    let file = memfd_create("rapace-shm-versus", MemfdFlags::CLOEXEC).expect("a memfd");
    let number = file.as_raw_fd().to_string();
    let session = ShmSession::create_file(format!("/proc/self/fd/{number}"), config(row)).expect("a session");
    let command = Job::new(contestant, row, plan, number).command();
    (session, file, Second::start(command))
}

fn second(job: &Job) -> (Arc<ShmSession>, OwnedFd) {
    let path = format!("/proc/{}/fd/{}", job.first(), job.word);
    let file = File::open(&path).expect("the first process holds it");
    (ShmSession::open_file(path, config(job.row())).expect("the first process's session"), file.into())
}

/// The transport.
#[derive(Debug)]
pub struct Transport;

/// One end of a transport.
pub struct End<T = ShmTransport> {
    transport: T,
    runtime: Runtime,
    /// Reused, so that sending allocates nothing.
    frame: Frame,
    _file: OwnedFd,
}

impl<T> std::fmt::Debug for End<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").field("frame", &self.frame).finish_non_exhaustive()
    }
}

impl<T> End<T> {
    pub(super) fn over(transport: T, runtime: Runtime, file: OwnedFd, row: Row) -> Self {
        let payload = vec![0; row.len()];
        let frame = match Frame::with_inline_payload(MsgDescHot::new(), &payload) {
            Some(inline) => inline,
            None => Frame::with_payload(MsgDescHot::new(), payload),
        };
        Self { transport, runtime, frame, _file: file }
    }
}

impl End {
    fn new(session: Arc<ShmSession>, file: OwnedFd, row: Row) -> Self {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        Self::over(ShmTransport::new(session), runtime, file, row)
    }
}

/// The value of a future: at once if it is ready, else when the runtime says so.
#[inline]
fn complete<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let _entered = runtime.enter();
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => runtime.block_on(future),
    }
}

impl Contestant for Transport {
    type Link = End;

    fn part(row: Row) -> Part {
        match row {
            Row::OneWay => Part::Plain,
            Row::Inline => {
                Part::But("It has no spinning: whoever finds nothing sleeps, on a thread for blocking work.")
            }
            Row::Asleep => Part::Plain,
            _ => Part::Copied,
        }
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (End, Second) {
        let (session, file, second) = start(contestant, row, plan);
        (End::new(session, file, row), second)
    }

    fn second(job: &Job) -> End {
        let (session, file) = second(job);
        End::new(session, file, job.row())
    }
}

impl<T: rapace_core::Transport> Link for End<T> {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        self.frame.desc.msg_id = number;
        if let Some(payload) = &mut self.frame.payload {
            W::write(payload, number);
        } else if W::LEN > 0 {
            W::write(&mut self.frame.desc.inline_payload[..W::LEN], number);
        }
        complete(&self.runtime, self.transport.send_frame(&self.frame)).expect("sent");
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let frame = complete(&self.runtime, self.transport.recv_frame()).expect("received");
        if W::LEN > 0 {
            assert_eq!(W::read(frame.payload), frame.desc.msg_id, "number in the payload");
        }
        frame.desc.msg_id
    }
}

/// Its rings and slots without the transport: both sides spin on them.
#[derive(Debug)]
pub struct Polled;

/// One side of them.
pub struct Rings {
    send: DescRing,
    head: u64,
    recv: DescRing,
    slots: DataSegment,
    _session: Arc<ShmSession>,
    _file: OwnedFd,
}

impl std::fmt::Debug for Rings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rings").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Rings {
    fn new(session: Arc<ShmSession>, file: OwnedFd) -> Self {
        let (send, recv, slots) = (session.send_ring(), session.recv_ring(), session.data_segment());
        Self { send, head: 0, recv, slots, _session: session, _file: file }
    }

    /// Puts the payload into a slot and its place into the descriptor.
    #[inline]
    fn fill_slot<W: Work>(&self, descriptor: &mut MsgDescHot, number: u64) {
        let (index, generation) = spin(|| self.slots.alloc().ok());
        // SAFETY: 1 and 2, from `alloc`.
        let start = unsafe { self.slots.data_ptr_public(index) };
        // SAFETY: a slot is as long as the row's payload; 2: nobody else writes or reads it.
        let payload = unsafe { std::slice::from_raw_parts_mut(start, W::LEN) };
        W::write(payload, number);
        self.slots.mark_in_flight(index, generation).expect("allocated above");
        descriptor.payload_slot = index;
        descriptor.payload_generation = generation;
        descriptor.payload_len = u32::try_from(W::LEN).expect("at most a mebibyte");
    }
}

impl Contestant for Polled {
    type Link = Rings;

    fn part(row: Row) -> Part {
        match row {
            Row::Asleep => Part::Cannot("Rings alone do not sleep."),
            Row::Inline | Row::OneWay => Part::Plain,
            _ => Part::InPlace,
        }
    }

    fn start(contestant: usize, row: Row, plan: &Plan) -> (Rings, Second) {
        let (session, file, second) = start(contestant, row, plan);
        (Rings::new(session, file), second)
    }

    fn second(job: &Job) -> Rings {
        let (session, file) = second(job);
        Rings::new(session, file)
    }
}

impl Link for Rings {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        let mut descriptor = MsgDescHot::new();
        descriptor.msg_id = number;
        if W::LEN > INLINE_PAYLOAD_SIZE {
            self.fill_slot::<W>(&mut descriptor, number);
        } else {
            descriptor.payload_slot = INLINE_PAYLOAD_SLOT;
            descriptor.payload_len = u32::try_from(W::LEN).expect("at most sixteen");
            if W::LEN > 0 {
                W::write(&mut descriptor.inline_payload[..W::LEN], number);
            }
        }
        spin(|| self.send.enqueue(&mut self.head, &descriptor).ok());
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        let descriptor = spin(|| self.recv.dequeue());
        let number = descriptor.msg_id;
        if W::LEN > INLINE_PAYLOAD_SIZE {
            // SAFETY: 1 is checked by the function; 2, from the descriptor.
            let payload = unsafe { self.slots.read_slot(descriptor.payload_slot, 0, descriptor.payload_len) };
            assert_eq!(W::read(payload.expect("the sender's slot")), number, "number in the payload");
            self.slots.free(descriptor.payload_slot, descriptor.payload_generation).expect("in flight");
        } else if W::LEN > 0 {
            assert_eq!(W::read(descriptor.inline_payload()), number, "number in the payload");
        }
        number
    }
}
