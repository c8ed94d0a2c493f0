//! The ring alone: what is pushed comes out, whole and in order.

use loom::thread;
use rapace_shm_core::layout::{DescRingHeader, FrameFlags, MsgDescHot};
use rapace_shm_core::ring::{Consumer, DescRing, Producer};
use rapace_shm_loom_tests::{Fields, Lines, LoomRegion, Mutant, Mutation, check, killed};

const HEAD: usize = DescRingHeader::VISIBLE_HEAD.offset();
const TAIL: usize = DescRingHeader::TAIL.offset();

/// A descriptor of which every field says its number.
fn descriptor(number: u8) -> MsgDescHot {
    let word = u32::from(number);
    MsgDescHot {
        msg_id: u64::from(number),
        channel_id: word,
        method_id: word,
        payload_slot: word,
        payload_generation: word,
        payload_offset: word,
        payload_len: word,
        flags: FrameFlags::from_bits_retain(word),
        credit_grant: word,
        deadline_ns: u64::from(number),
        inline_payload: [number; 16],
    }
}

fn assert_in_order(seen: &[MsgDescHot]) {
    for (number, seen) in (1..).zip(seen) {
        assert_eq!(*seen, descriptor(number), "stale descriptor");
    }
}

#[derive(Clone, Copy)]
struct Case {
    capacity: u32,
    lines: Lines,
    producer: Mutation,
    consumer: Mutation,
}

impl Case {
    const fn of(capacity: u32) -> Self {
        Self { capacity, lines: Lines::Words, producer: Mutation::None, consumer: Mutation::None }
    }

    const fn owned(self) -> Self {
        Self { lines: Lines::Owned, ..self }
    }

    const fn producer(self, mutation: Mutation) -> Self {
        Self { producer: mutation, ..self }
    }

    const fn consumer(self, mutation: Mutation) -> Self {
        Self { consumer: mutation, ..self }
    }

    fn ends(self) -> (Producer<Mutant>, Consumer<Mutant>) {
        let region = LoomRegion::new(&Fields::new().ring(0, self.capacity), self.lines);
        let view = |mutation| Mutant::new(region.clone(), mutation);
        let (producer, _) = DescRing::create(view(self.producer), 0, self.capacity).unwrap().split();
        let (_, consumer) = DescRing::attach(view(self.consumer), 0).unwrap().split();
        (producer, consumer)
    }

    /// Three pushes are tried and three pops; the rest is popped at the end.
    fn one_by_one(self) {
        let (mut producer, mut consumer) = self.ends();
        let pushing = thread::spawn(move || {
            let pushed = (1..=3).take_while(|number| producer.try_push(&descriptor(*number)).is_ok()).count();
            (pushed, producer)
        });
        let mut seen: Vec<_> = (0..3).filter_map(|_| consumer.try_pop().unwrap()).collect();
        let (pushed, _producer) = pushing.join().unwrap();
        while let Some(descriptor) = consumer.try_pop().unwrap() {
            seen.push(descriptor);
        }
        assert_eq!(seen.len(), pushed);
        assert_in_order(&seen);
    }

    /// Two batches of two are pushed as far as there is room, and two popped.
    fn in_batches(self) {
        let (mut producer, mut consumer) = self.ends();
        let pushing = thread::spawn(move || {
            let first = producer.push_batch(&[descriptor(1), descriptor(2)]).unwrap();
            assert_eq!(first, 2);
            first + producer.push_batch(&[descriptor(3), descriptor(4)]).unwrap()
        });
        let mut seen = Vec::new();
        let mut pop = |seen: &mut Vec<_>| {
            let mut batch = [MsgDescHot::new(); 2];
            let popped = consumer.pop_batch(&mut batch).unwrap();
            seen.extend_from_slice(&batch[..popped]);
        };
        pop(&mut seen);
        pop(&mut seen);
        let pushed = pushing.join().unwrap();
        pop(&mut seen);
        assert_eq!(seen.len(), pushed);
        assert_in_order(&seen);
    }
}

#[test]
fn a_ring_of_one_delivers_whole_and_in_order() {
    check(|| Case::of(1).one_by_one());
}

#[test]
fn a_ring_of_two_delivers_whole_and_in_order() {
    check(|| Case::of(2).one_by_one());
}

#[test]
fn a_place_of_the_ring_has_one_owner() {
    check(|| Case::of(1).owned().one_by_one());
}

#[test]
fn batches_are_delivered_whole_and_in_order() {
    check(|| Case::of(2).in_batches());
}

#[test]
fn the_places_of_a_batch_have_one_owner() {
    check(|| Case::of(2).owned().in_batches());
}

#[test]
fn without_its_release_a_ring_shows_a_stale_descriptor() {
    killed("stale descriptor", || Case::of(1).producer(Mutation::NoRelease(HEAD)).one_by_one());
}

#[test]
fn without_its_acquire_a_ring_shows_a_stale_descriptor() {
    killed("stale descriptor", || Case::of(1).consumer(Mutation::NoAcquire(HEAD)).one_by_one());
}

#[test]
fn without_its_release_a_batch_shows_a_stale_descriptor() {
    killed("stale descriptor", || Case::of(2).producer(Mutation::NoRelease(HEAD)).in_batches());
}

#[test]
fn without_its_acquire_a_batch_shows_a_stale_descriptor() {
    killed("stale descriptor", || Case::of(2).consumer(Mutation::NoAcquire(HEAD)).in_batches());
}

#[test]
fn without_the_consumers_release_a_place_is_overwritten_while_it_is_read() {
    killed("Causality violation", || Case::of(1).owned().consumer(Mutation::NoRelease(TAIL)).one_by_one());
}

#[test]
fn without_the_producers_acquire_a_place_is_overwritten_while_it_is_read() {
    killed("Causality violation", || Case::of(1).owned().producer(Mutation::NoAcquire(TAIL)).one_by_one());
}

#[test]
fn without_the_consumers_release_a_batch_overwrites_what_is_read() {
    killed("Causality violation", || Case::of(2).owned().consumer(Mutation::NoRelease(TAIL)).in_batches());
}
