//! A bare ring whose indices are rewritten between any two calls, against a model of what its two ends may believe.

use std::sync::atomic::Ordering;

use rapace_shm_core::layout::{At, DescRingHeader, MsgDescHot, RING_HEADER_SIZE};
use rapace_shm_core::region::Region;
use rapace_shm_core::ring::{Consumer, DescRing, Producer, RingError};

use super::input::Input;
use super::spoil::index;
use crate::common::rubbish::Choices;
use crate::common::{HeapRegion, region};

/// The longest ring, in descriptors, and the longest batch.
const LONGEST: usize = 16;
const BATCH: usize = 20;

/// A ring at any place, of any capacity: refused if it does not lie within the region, else used by both its ends.
pub fn ring(data: &[u8]) {
    let mut input = Input::new(data);
    let offset = [0, 8, 64, 4, 1 << 40, usize::MAX - 7][input.below(6)];
    let capacity = if input.below(4) == 0 { input.any() } else { 1 << input.below(5) };
    let region = region(64 + RING_HEADER_SIZE + LONGEST * size_of::<MsgDescHot>());
    let end = offset as u128 + RING_HEADER_SIZE as u128 + 64 * u128::from(capacity);
    let is_ring = capacity.is_power_of_two() && offset.is_multiple_of(8) && end <= region.size() as u128;
    let Ok(created) = DescRing::create(region.clone(), offset, capacity) else {
        assert!(!is_ring);
        return;
    };
    assert!(is_ring);
    let attached = DescRing::attach(region.clone(), offset).unwrap();
    let (producer, consumer) = (created.split().0, attached.split().1);
    let model = Model { capacity: u64::from(capacity), ..Model::default() };
    let mut ends = Ends { producer, consumer, model, region, offset, honest: true };
    while !input.is_empty() {
        ends.call(&mut input);
    }
}

/// What the two ends know: their own index, and the last of the other's that they had reason to look at.
#[derive(Default)]
struct Model {
    capacity: u64,
    head: u64,
    published: u64,
    seen_tail: u64,
    tail: u64,
    seen_head: u64,
}

impl Model {
    /// Places that the producer may use, at most `wanted`; `None` is a fault.
    fn room(&mut self, wanted: u64, shared_tail: u64) -> Option<u64> {
        let room = |seen: u64, head| self.capacity - (head - seen);
        if room(self.seen_tail, self.head) < wanted {
            if !(self.seen_tail..=self.published).contains(&shared_tail) {
                return None;
            }
            self.seen_tail = shared_tail;
        }
        Some((self.capacity - (self.head - self.seen_tail)).min(wanted))
    }

    /// Messages that the consumer may read, at most `wanted`; `None` is a fault.
    fn ready(&mut self, wanted: u64, shared_head: u64) -> Option<u64> {
        if self.seen_head - self.tail < wanted {
            if !(self.seen_head..=self.tail + self.capacity).contains(&shared_head) {
                return None;
            }
            self.seen_head = shared_head;
        }
        Some((self.seen_head - self.tail).min(wanted))
    }
}

struct Ends {
    producer: Producer<HeapRegion>,
    consumer: Consumer<HeapRegion>,
    model: Model,
    region: HeapRegion,
    offset: usize,
    /// Nobody has rewritten an index.
    honest: bool,
}

impl Ends {
    fn call(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..3 => self.push(),
            3 => self.write(),
            4 => self.publish(),
            5 => self.push_batch(input.below(BATCH)),
            6 => self.free_places(input.below(BATCH)),
            7..9 => self.pop(),
            9 => self.peek(),
            10 => self.advance(),
            11 => self.release(),
            12 => self.pop_batch(input.below(BATCH)),
            13 => self.ready(input.below(BATCH)),
            _ => self.spoil(input),
        }
    }

    fn word(&self, field: At<u64>) -> u64 {
        self.region.u64(field.within(self.offset)).load(Ordering::Relaxed)
    }

    fn expected_room(&mut self, wanted: usize) -> Option<u64> {
        let tail = self.word(DescRingHeader::TAIL);
        self.model.room(wanted as u64, tail)
    }

    fn expected_ready(&mut self, wanted: usize) -> Option<u64> {
        let head = self.word(DescRingHeader::VISIBLE_HEAD);
        self.model.ready(wanted as u64, head)
    }

    fn spoil(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let field = [DescRingHeader::VISIBLE_HEAD, DescRingHeader::TAIL][input.below(2)];
        let index = index(self.word(field), input);
        self.region.u64(field.within(self.offset)).store(index, Ordering::Relaxed);
        // Copied once, at the start: what it says now must not matter.
        self.region.u32(DescRingHeader::CAPACITY.within(self.offset)).store(input.any(), Ordering::Relaxed);
    }

    fn push(&mut self) {
        let pushed = self.producer.try_push(&MsgDescHot::data(self.model.head));
        self.written(pushed);
        if pushed.is_ok() {
            self.model.published = self.model.head;
        }
    }

    fn write(&mut self) {
        let written = self.producer.write(&MsgDescHot::data(self.model.head));
        self.written(written);
    }

    fn written(&mut self, written: Result<(), RingError>) {
        match (self.expected_room(1), written) {
            (Some(1), Ok(())) => self.model.head += 1,
            (Some(0), Err(RingError::Full)) | (None, Err(RingError::PeerFault(_))) => {}
            (expected, seen) => panic!("{seen:?}, expected room for {expected:?}"),
        }
    }

    fn publish(&mut self) {
        assert_eq!(self.producer.publish(), self.model.published != self.model.head);
        self.model.published = self.model.head;
    }

    fn push_batch(&mut self, count: usize) {
        let descriptors: Vec<_> = (0..count as u64).map(|more| MsgDescHot::data(self.model.head + more)).collect();
        let pushed = self.producer.push_batch(&descriptors);
        let expected = self.expected_room(count);
        assert_eq!(pushed.ok().map(|pushed| pushed as u64), expected);
        if let Some(pushed) = expected {
            self.model.head += pushed;
            self.model.published = self.model.head;
        }
    }

    fn free_places(&mut self, wanted: usize) {
        let free = self.producer.free_places(wanted as u64);
        assert_eq!(free.ok(), self.expected_room(wanted));
    }

    fn ready(&mut self, wanted: usize) {
        let ready = self.consumer.ready(wanted as u64);
        assert_eq!(ready.ok(), self.expected_ready(wanted));
    }

    fn pop(&mut self) {
        let popped = self.consumer.try_pop();
        if self.read(popped) {
            self.model.tail += 1;
        }
    }

    fn peek(&mut self) {
        let peeked = self.consumer.peek();
        self.read(peeked);
    }

    /// Whether a message was there, as it should be.
    fn read(&mut self, read: Result<Option<MsgDescHot>, rapace_shm_core::PeerFault>) -> bool {
        let expected = self.expected_ready(1);
        assert_eq!(read.map(|read| u64::from(read.is_some())).ok(), expected);
        if let (Ok(Some(descriptor)), true) = (read, self.honest) {
            assert_eq!(descriptor, MsgDescHot::data(self.model.tail), "lost, doubled or out of order");
        }
        expected == Some(1)
    }

    fn advance(&mut self) {
        self.consumer.advance();
        self.model.tail += u64::from(self.model.tail != self.model.seen_head);
    }

    fn release(&mut self) {
        self.consumer.release();
        assert_eq!(self.word(DescRingHeader::TAIL), self.model.tail);
    }

    fn pop_batch(&mut self, count: usize) {
        let mut popped = vec![MsgDescHot::new(); count];
        let taken = self.consumer.pop_batch(&mut popped);
        let expected = self.expected_ready(count);
        assert_eq!(taken.ok().map(|taken| taken as u64), expected);
        let Some(taken) = expected else { return };
        if self.honest {
            let mut pairs = popped.iter().zip(self.model.tail..self.model.tail + taken);
            assert!(pairs.all(|(descriptor, number)| descriptor.msg_id == number), "lost, doubled or out of order");
        }
        self.model.tail += taken;
    }
}
