//! Whole messages: what is sent is received, byte for byte, wherever it lies.

use loom::thread;
use rapace_shm_core::layout::{DataSegmentHeader, DescRingHeader, MsgDescHot, SegmentOffsets, ShmSessionConfig};
use rapace_shm_core::link::{PeerRole, Receiver, Sender};
use rapace_shm_loom_tests::{
    LoomEndpoint, Mutation, Peers, assert_all_free, check, killed, receive, returned_by, send,
};

const ONE_SLOT: ShmSessionConfig = ShmSessionConfig { ring_capacity: 1, slot_size: 20, slot_count: 1 };
const TWO_SLOTS: ShmSessionConfig = ShmSessionConfig { ring_capacity: 2, slot_size: 20, slot_count: 2 };

const fn offsets(config: &ShmSessionConfig) -> SegmentOffsets {
    match SegmentOffsets::calculate(config) {
        Ok(offsets) => offsets,
        Err(_) => panic!(),
    }
}

/// The bytes of a message of 20 bytes, which does not fit into its descriptor.
fn payload(number: u8) -> [u8; 20] {
    std::array::from_fn(|index| number * 32 + u8::try_from(index).unwrap())
}

fn send_numbered(sender: &mut Sender<LoomEndpoint>, number: u8) {
    send(sender, &MsgDescHot::data(number.into()), &payload(number)).unwrap();
}

fn receive_numbered(receiver: &mut Receiver<LoomEndpoint>, number: u8) {
    let message = receive(receiver).unwrap();
    let mut seen = [0; 20];
    assert_eq!(message.copy_to(&mut seen), 20);
    assert_eq!((message.descriptor().msg_id, seen), (number.into(), payload(number)));
}

/// A sends two messages through slots, B receives them and gives the slots back.
fn one_way(peers: Peers, config: ShmSessionConfig) {
    let (mut a, mut b) = peers.connect(config);
    let receiving = thread::spawn(move || {
        receive_numbered(b.split().1, 1);
        receive_numbered(b.split().1, 2);
        b
    });
    send_numbered(a.split().0, 1);
    send_numbered(a.split().0, 2);
    let b = receiving.join().unwrap();
    assert_all_free(&a);
    drop(b);
}

/// A asks and B answers, with payloads in the same slots.
fn there_and_back(peers: Peers, config: ShmSessionConfig) {
    let (mut a, mut b) = peers.connect(config);
    let answering = thread::spawn(move || {
        let (to_a, from_a) = b.split();
        receive_numbered(from_a, 1);
        send_numbered(to_a, 2);
        b
    });
    let (to_b, from_b) = a.split();
    send_numbered(to_b, 1);
    receive_numbered(from_b, 2);
    let b = answering.join().unwrap();
    assert_all_free(&a);
    drop(b);
}

#[test]
fn messages_in_one_slot_arrive_as_they_were_sent() {
    check(|| one_way(Peers::default(), ONE_SLOT));
}

#[test]
fn messages_in_two_slots_arrive_as_they_were_sent() {
    check(|| one_way(Peers::default(), TWO_SLOTS));
}

#[test]
fn an_answer_arrives_in_the_slot_of_its_question() {
    check(|| there_and_back(Peers::default(), ONE_SLOT));
}

#[test]
fn without_the_senders_release_a_message_is_read_before_it_is_written() {
    let head = DescRingHeader::VISIBLE_HEAD.within(offsets(&TWO_SLOTS).a_to_b_ring).offset();
    killed("Causality violation", move || one_way(Peers::a(Mutation::NoRelease(head)), TWO_SLOTS));
}

#[test]
fn without_the_receivers_acquire_a_message_is_read_before_it_is_written() {
    let head = DescRingHeader::VISIBLE_HEAD.within(offsets(&TWO_SLOTS).a_to_b_ring).offset();
    killed("Causality violation", move || one_way(Peers::b(Mutation::NoAcquire(head)), TWO_SLOTS));
}

#[test]
fn without_order_at_the_free_list_a_slot_is_taken_before_it_is_seen_free() {
    let head = returned_by(PeerRole::B, &ONE_SLOT);
    killed("PeerFault(", move || one_way(Peers::b(Mutation::NoRelease(head)), ONE_SLOT));
    killed("PeerFault(", move || one_way(Peers::a(Mutation::NoAcquire(head)), ONE_SLOT));
}

#[test]
fn without_the_wake_for_slots_a_sender_sleeps_for_ever() {
    let slots = DataSegmentHeader::SLOT_AVAILABLE.within(offsets(&ONE_SLOT).data_header).offset();
    killed("deadlock", move || one_way(Peers::b(Mutation::LostBump(slots)), ONE_SLOT));
}

#[test]
fn without_fences_an_answer_is_waited_for_for_ever() {
    killed("deadlock", move || there_and_back(Peers::a(Mutation::NoFence), ONE_SLOT));
    killed("deadlock", move || there_and_back(Peers::b(Mutation::NoFence), ONE_SLOT));
}
