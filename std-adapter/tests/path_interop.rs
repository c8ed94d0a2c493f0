//! The published crate at the other end of a path segment, in both roles.

#[path = "path/common.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{Directory, path_problem, small};
use rapace_shm::path::PathProblem;
use rapace_shm::{FrameFlags, MsgDescHot, ShmSession, ShmSessionConfig};
use rapace_transport_shm as published;

fn theirs(config: ShmSessionConfig) -> published::ShmSessionConfig {
    let ShmSessionConfig { ring_capacity, slot_size, slot_count } = config;
    published::ShmSessionConfig { ring_capacity, slot_size, slot_count }
}

fn create_theirs(path: &Path) -> Arc<published::ShmSession> {
    published::ShmSession::create_file(path, theirs(small())).unwrap()
}

/// Sends through the published crate's own ring and slots.
fn send(old: &published::ShmSession, head: &mut u64, id: u64, payload: &[u8]) {
    let mut descriptor = rapace_core::MsgDescHot::new();
    descriptor.msg_id = id;
    descriptor.flags = rapace_core::FrameFlags::DATA;
    descriptor.payload_len = payload.len().try_into().unwrap();
    if payload.len() <= 16 {
        descriptor.inline_payload[..payload.len()].copy_from_slice(payload);
    } else {
        let slots = old.data_segment();
        let (slot, generation) = slots.alloc().unwrap();
        // SAFETY: the slot was just allocated and is nobody else's until it is marked.
        unsafe { slots.copy_to_slot(slot, payload) }.unwrap();
        slots.mark_in_flight(slot, generation).unwrap();
        (descriptor.payload_slot, descriptor.payload_generation) = (slot, generation);
    }
    old.send_ring().enqueue(head, &descriptor).unwrap();
}

/// Receives through the published crate's own ring and slots.
fn receive(old: &published::ShmSession) -> (u64, Vec<u8>) {
    let descriptor = old.recv_ring().dequeue().unwrap();
    let len = descriptor.payload_len;
    if descriptor.payload_slot == u32::MAX {
        return (descriptor.msg_id, descriptor.inline_payload[..len as usize].to_vec());
    }
    let slots = old.data_segment();
    // SAFETY: the slot is in flight to this side, which frees it below.
    let bytes = unsafe { slots.read_slot(descriptor.payload_slot, descriptor.payload_offset, len) }.unwrap().to_vec();
    slots.free(descriptor.payload_slot, descriptor.payload_generation).unwrap();
    (descriptor.msg_id, bytes)
}

fn assert_talk(new: &mut ShmSession, old: &published::ShmSession) {
    let mut head = 0;
    for (id, payload) in [(1, &[1; 9][..]), (2, &[2; 64]), (3, &[]), (4, &[3; 17])] {
        new.split().0.send(&MsgDescHot::data(id), payload).unwrap();
        assert_eq!(receive(old), (id, payload.to_vec()));
        send(old, &mut head, id, payload);
        let message = new.split().1.recv().unwrap();
        assert_eq!((message.descriptor().msg_id, message.descriptor().flags), (id, FrameFlags::DATA));
        assert_eq!(message.payload(), payload);
    }
    let slots = new.status().slots;
    assert_eq!((slots.free, slots.free_list_len), (slots.total, slots.total), "{slots}");
}

#[test]
fn a_file_that_the_published_crate_made_is_opened() {
    let directory = Directory::new();
    let path = directory.path("session");
    let old = create_theirs(&path);
    assert_talk(&mut ShmSession::open_at(&path).unwrap(), &old);
    let old = create_theirs(&path);
    assert_talk(&mut ShmSession::open_at_expecting(&path, small()).unwrap(), &old);
}

/// Its creator leaves the file full of holes, and a peer that writes into one may find the file system full.
#[test]
fn what_the_published_crate_did_not_allocate_is_allocated_before_it_is_used() {
    use std::os::unix::fs::MetadataExt;
    let directory = Directory::new();
    let path = directory.path("session");
    let _old = published::ShmSession::create_file(&path, theirs(ShmSessionConfig::default())).unwrap();
    let before = fs::metadata(&path).unwrap();
    assert!(before.blocks() * 512 < before.len(), "nothing to test: no holes");
    let _new = ShmSession::open_at(&path).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert!(after.blocks() * 512 >= after.len());
}

/// It holds no lock, so nobody can tell whether it lives.
#[test]
fn a_file_that_the_published_crate_made_is_never_replaced() {
    let directory = Directory::new();
    let path = directory.path("session");
    let old = create_theirs(&path);
    for opened in [false, true] {
        if opened {
            drop(ShmSession::open_at(&path).unwrap());
        }
        let problem = path_problem(ShmSession::create_at(&path, small()));
        assert!(matches!(problem, PathProblem::Unmarked), "{problem}");
    }
    drop(old);
    let problem = path_problem(ShmSession::create_at(&path, small()));
    assert!(matches!(problem, PathProblem::Unmarked), "{problem}");
    directory.assert_holds(&["session"]);
}

#[test]
fn the_published_crate_opens_what_we_made() {
    let directory = Directory::new();
    let path = directory.path("session");
    let mut new = ShmSession::create_at(&path, small()).unwrap();
    let old = published::ShmSession::open_file(&path, theirs(small())).unwrap();
    assert_talk(&mut new, &old);
    drop((new, old));
    let mut new = ShmSession::create_at(&path, small()).unwrap();
    let old = published::ShmSession::open_file_auto(&path).unwrap();
    assert_talk(&mut new, &old);
    drop(new);
    directory.assert_holds(&[]);
}

/// The way to a segment that cannot be cut short, for a peer that knows nothing but paths.
#[test]
fn the_published_crate_opens_our_memfd_by_its_path() {
    use std::os::fd::AsRawFd;
    let mut new = ShmSession::create(small()).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), new.memfd().unwrap().as_raw_fd());
    let old = published::ShmSession::open_file_auto(&path).unwrap();
    assert_talk(&mut new, &old);
}
