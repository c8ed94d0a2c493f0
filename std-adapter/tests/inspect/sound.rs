//! Segments with nothing wrong, and what the report says of them.
//!
//! Seen to fail when: the heads of the returned lists are read as the common one's; the messages at the start of a ring
//! that wraps are left out; a payload may not end where its slot does.

use std::io::{Seek, SeekFrom};

use rapace_shm::core::layout::DescRingHeader;
use rapace_shm::core::wake;
use rapace_shm::inspect::{FreeListName, ProcessState, SegmentReport};
use rapace_shm::{MsgDescHot, SessionOptions, ShmSession, ShmSessionConfig};

use crate::segment::{CONFIG, Segment, file_of, report, two_peers};

#[track_caller]
fn assert_sound(session: &ShmSession, when: &str) {
    let report = report(session);
    assert!(report.findings.is_empty(), "{when}: {report}");
    assert_eq!(report.looks, 1, "{when}");
}

#[test]
fn a_segment_has_no_findings_at_any_age() {
    let shapes =
        [ShmSessionConfig { ring_capacity: 1, slot_size: 4, slot_count: 1 }, CONFIG, ShmSessionConfig::default()];
    for config in shapes {
        let mut a = ShmSession::create(config).unwrap();
        assert_sound(&a, "fresh");
        let mut b = ShmSession::attach(a.memfd().unwrap().try_clone_to_owned().unwrap()).unwrap();
        assert_sound(&a, "attached");
        for number in 0..20 {
            a.split().0.send(&MsgDescHot::data(number), &[7; 4]).unwrap();
            assert_sound(&a, "sent");
            let message = b.split().1.recv().unwrap();
            assert_sound(&a, "received");
            b.split().0.send(message.descriptor(), message.payload()).unwrap();
            assert_sound(&a, "sent back");
            drop(message);
            a.split().1.recv().unwrap();
            assert_sound(&a, "received back");
        }
        drop(b);
        assert_sound(&a, "left by B");
        a.split().0.close();
        a.split().1.close();
        assert_sound(&a, "left by both");
    }
}

#[test]
fn the_census_says_who_has_the_slots() {
    let report = Segment::busy().report().unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let slab = report.parts.unwrap().slab;
    let status = slab.status;
    assert_eq!((status.total, status.free, status.free_list_len), (CONFIG.slot_count, 10, 10));
    assert_eq!((status.allocated, status.in_flight, slab.in_rings, status.unknown), (1, 1, 1, 0));
    assert_eq!(
        slab.lists.map(|list| (list.name, list.len)),
        [(FreeListName::Common, Some(8)), (FreeListName::ReturnedByA, Some(1)), (FreeListName::ReturnedByB, Some(1)),]
    );
}

#[test]
fn messages_around_the_end_of_a_ring_are_all_seen() {
    let (mut a, mut b) = two_peers(CONFIG);
    for number in 0..6 {
        a.split().0.send(&MsgDescHot::data(number), b"").unwrap();
        b.split().1.recv().unwrap();
    }
    for number in 0..7 {
        a.split().0.send(&MsgDescHot::data(number), &[1; 64]).unwrap();
    }
    let report = report(&a);
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.parts.unwrap().slab.in_rings, 7);
}

#[test]
fn a_received_payload_is_in_flight_but_in_no_ring() {
    let (mut a, mut b) = two_peers(CONFIG);
    a.split().0.send(&MsgDescHot::data(0), &[1; 64]).unwrap();
    let _held = b.split().1.recv().unwrap();
    let slab = report(&a).parts.unwrap().slab;
    assert_eq!((slab.status.in_flight, slab.in_rings), (1, 0));
}

#[test]
fn the_text_is_one_fact_per_line_in_a_fixed_order() {
    let a = SessionOptions::new().membarrier(false).create(CONFIG).unwrap();
    let report = report(&a);
    let peer = report.peers[0];
    let expected = format!(
        "\
file length             2464 bytes
version                 1.0
peer A                  attached
peer A process          {}, running; pid namespace {}, started {} ticks after boot
peer B                  nobody, or a version 1.0 peer
shape                   8 descriptors per ring, 12 slots of 64 bytes
ring A→B                0 of 8 (0 %), head 0, tail 0
ring A→B producer       open
ring A→B consumer       open
wait of B for data      unknown, signalled always; sequence 0
wait of A for space     awake, fences before it sleeps; sequence 0
ring B→A                0 of 8 (0 %), head 0, tail 0
ring B→A producer       open
ring B→A consumer       open
wait of A for data      awake, fences before it sleeps; sequence 0
wait of B for space     unknown, signalled always; sequence 0
slots free              12
slots allocated         0
slots in flight         0, of which 0 in the rings
slots lent              0 of those in flight, which their senders still read
slots in no known state 0
common free list        12 slots, first 0, tag 0
list returned by A      0 slots, tag 0
list returned by B      0 slots, tag 0
wait of A for a slot    awake, fences before it sleeps; sequence 0
wait of B for a slot    unknown, signalled always; sequence 0
findings                none (one look)",
        std::process::id(),
        peer.pid_namespace,
        peer.start,
    );
    assert_eq!(report.to_string(), expected);
}

#[test]
fn processes_and_heartbeats_are_shown_where_a_peer_wrote_them() {
    let mut segment = Segment::busy();
    segment.put(40, 9_u64.to_ne_bytes());
    segment.put(56, 77_u64.to_ne_bytes());
    // A names a process of another namespace, B none.
    segment.put(88, 1234_u32.to_ne_bytes());
    segment.put(92, 55_u32.to_ne_bytes());
    segment.put(96, 66_u64.to_ne_bytes());
    segment.put(104, [0; 16]);
    let report = segment.report().unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.peers.map(|peer| peer.process), [ProcessState::OutOfSight, ProcessState::NotSaid]);
    let text = report.to_string();
    let process = "\npeer A process          1234, out of sight; pid namespace 55, started 66 ticks after boot\n";
    let heartbeat = "\npeer B heartbeat        number 9, 77 ns after 1970\n";
    assert!(text.contains(process) && text.contains(heartbeat), "{text}");
    assert!(!text.contains("peer B process") && !text.contains("peer A heartbeat"), "{text}");
}

#[test]
fn a_reader_changes_neither_bytes_nor_position() {
    let (a, _b) = two_peers(CONFIG);
    let before = Segment::of(&a).bytes;
    let mut file = file_of(&a);
    file.seek(SeekFrom::Start(7)).unwrap();
    SegmentReport::read(&file).unwrap();
    assert_eq!(file.stream_position().unwrap(), 7);
    assert_eq!(Segment::of(&a).bytes, before);
}

#[test]
fn every_sleeper_value_of_the_protocol_has_a_name() {
    for value in [wake::UNKNOWN, wake::AWAKE, wake::ASLEEP, wake::ASLEEP_ON_DOORBELL, wake::AWAKE_FENCED] {
        let mut segment = Segment::busy();
        segment.put_u32(DescRingHeader::DATA_SLEEPER, segment.at.a_to_b_ring, value);
        let report = segment.report().unwrap();
        assert!(report.findings.is_empty(), "{report}");
    }
}
