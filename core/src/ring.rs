//! The descriptor ring: one producer, one consumer, each with its own index in private memory.
//!
//! ```text
//!            tail (consumer writes)      head (producer writes)
//!               v                           v
//!   [ free | d5 | d6 | d7 | d8 | d9 | d10 | free | free ]
//! ```
//!
//! Head and tail count messages since creation and never wrap; a message's place is its number modulo the capacity.
//! Each end trusts only its private index; it keeps the last index of the other end that it has seen, looks again
//! only when that one says full (or empty), and checks that the new one lies between what it must and what it can
//! be. The algorithm is Lamport's single-producer single-consumer queue with cached indices (FastForward, rtrb).
//!
//! ```
//! use rapace_shm_core::layout::MsgDescHot;
//! use rapace_shm_core::region::Memory;
//! use rapace_shm_core::ring::DescRing;
//!
//! static MEMORY: Memory<1024> = Memory::new();
//! let region = MEMORY.take().expect("first taker");
//! let (mut producer, mut consumer) = DescRing::create(region, 0, 8)?.split();
//! producer.try_push(&MsgDescHot::data(7))?;
//! assert_eq!(consumer.try_pop()?.map(|descriptor| descriptor.msg_id), Some(7));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use thiserror::Error;

use crate::fault::PeerFault;
use crate::layout::{At, DescRingHeader, LayoutError, Line, MsgDescHot, RING_HEADER_SIZE, Span};
use crate::region::{Lines, Region, Word};

/// Why a descriptor was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RingError {
    /// No free place; nothing was written. Try again after the consumer has taken something.
    #[error("ring is full; try again after the peer has consumed")]
    Full,
    /// The consumer's index cannot be.
    #[error(transparent)]
    PeerFault(#[from] PeerFault),
}

/// Where a ring is and how long it is. Copied from the header once, checked, then never read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) header: usize,
    pub(crate) capacity: u32,
}

const fn misaligned(offset: usize) -> LayoutError {
    LayoutError::Misaligned { address: offset, align: align_of::<DescRingHeader>() }
}

impl Place {
    #[inline(always)]
    pub(crate) fn word<T>(self, field: At<T>) -> At<T> {
        field.within(self.header)
    }

    fn span(self) -> Option<Span> {
        let descriptors = (self.capacity as usize).checked_mul(size_of::<MsgDescHot>())?;
        let len = descriptors.checked_add(RING_HEADER_SIZE)?;
        self.header.checked_add(len)?;
        Some(Span { offset: self.header, len })
    }

    /// Refuses a capacity that is no power of two, and a ring that does not lie within the region.
    fn check<R: Region>(self, region: &R) -> Result<Self, LayoutError> {
        if !self.capacity.is_power_of_two() {
            return Err(LayoutError::RingCapacity { seen: self.capacity });
        }
        let end = self.span().map_or(usize::MAX, |span| span.offset.saturating_add(span.len));
        if end > region.size() {
            return Err(LayoutError::SegmentTooSmall { required: end, available: region.size() });
        }
        if !self.header.is_multiple_of(align_of::<DescRingHeader>()) {
            return Err(misaligned(self.header));
        }
        Ok(self)
    }

    /// Writes the header of an empty ring. Both states and both sleepers are zero: unknown.
    pub(crate) fn init<R: Region>(self, region: &R) {
        region.u64(self.word(DescRingHeader::VISIBLE_HEAD)).store(0, Ordering::Relaxed);
        region.u64(self.word(DescRingHeader::TAIL)).store(0, Ordering::Relaxed);
        region.u32(self.word(DescRingHeader::CAPACITY)).store(self.capacity, Ordering::Relaxed);
        self.reset_words(region);
    }

    /// Sleepers and states of both ends back to zero.
    pub(crate) fn reset_words<R: Region>(self, region: &R) {
        for field in [
            DescRingHeader::DATA_SLEEPER,
            DescRingHeader::SPACE_SLEEPER,
            DescRingHeader::PRODUCER_STATE,
            DescRingHeader::CONSUMER_STATE,
            DescRingHeader::SLOTS_SLEEPER,
            DescRingHeader::CONSUMER_PEER_STATE,
            DescRingHeader::PRODUCER_PID,
            DescRingHeader::PRODUCER_PID_NAMESPACE,
        ] {
            region.u32(self.word(field)).store(0, Ordering::Relaxed);
        }
        region.u64(self.word(DescRingHeader::PRODUCER_START)).store(0, Ordering::Relaxed);
    }
}

/// The words that the two ends use for every message, at hand.
struct Words<R: Region> {
    head: R::Fixed64,
    tail: R::Fixed64,
    descriptors: R::Lines,
}

impl<R: Region> Words<R> {
    fn of(region: &R, place: Place) -> Self {
        Self {
            head: region.fix_u64(place.word(DescRingHeader::VISIBLE_HEAD)),
            tail: region.fix_u64(place.word(DescRingHeader::TAIL)),
            descriptors: region.fix_lines(At::new(place.header.wrapping_add(RING_HEADER_SIZE)), place.capacity),
        }
    }

    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.descriptors.mask().wrapping_add(1)
    }

    #[allow(clippy::cast_possible_truncation)] // it was a u32
    fn capacity_u32(&self) -> u32 {
        self.capacity() as u32
    }
}

/// A ring in a region. [`split`](Self::split) turns it into its two ends; a process that shares the ring with
/// another one keeps the end that is its own and drops the other.
///
/// Two producers (or two consumers) on one ring are a mistake that this type cannot prevent across processes; the
/// result is lost messages or a [`PeerFault`], never undefined behaviour.
#[derive(Debug)]
pub struct DescRing<R> {
    region: R,
    place: Place,
}

impl<R: Region> DescRing<R> {
    /// Writes an empty ring of `capacity` descriptors at `offset` bytes.
    ///
    /// # Errors
    /// [`LayoutError`] if the capacity is no power of two or the ring does not lie within the region, on 8 bytes.
    pub fn create(region: R, offset: usize, capacity: u32) -> Result<Self, LayoutError> {
        let place = Place { header: offset, capacity }.check(&region)?;
        if let Some(span) = place.span() {
            region.clear(span);
        }
        place.init(&region);
        Ok(Self { region, place })
    }

    /// A ring that a peer has created at `offset` bytes.
    ///
    /// # Errors
    /// As [`create`](Self::create), about the capacity that stands in the header.
    pub fn attach(region: R, offset: usize) -> Result<Self, LayoutError> {
        let header_end = offset.saturating_add(RING_HEADER_SIZE);
        if header_end > region.size() {
            return Err(LayoutError::SegmentTooSmall { required: header_end, available: region.size() });
        }
        if !offset.is_multiple_of(align_of::<DescRingHeader>()) {
            return Err(misaligned(offset));
        }
        let capacity = region.u32(DescRingHeader::CAPACITY.within(offset)).load(Ordering::Relaxed);
        let place = Place { header: offset, capacity }.check(&region)?;
        Ok(Self { region, place })
    }

    /// The two ends.
    #[must_use]
    pub fn split(self) -> (Producer<R>, Consumer<R>) {
        (Producer::resume(&self.region, self.place), Consumer::resume(&self.region, self.place))
    }

    /// What the header says now.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        RingStatus::read(&self.region, self.place)
    }
}

/// A snapshot of a ring: what the shared header said at that moment. Nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStatus {
    /// Messages published since creation.
    pub visible_head: u64,
    /// Messages consumed since creation.
    pub tail: u64,
    /// Descriptors.
    pub capacity: u32,
}

impl RingStatus {
    pub(crate) fn read<R: Region>(region: &R, place: Place) -> Self {
        // Tail first: it never overtakes the head, so this order cannot show a ring with less than nothing in it.
        let tail = region.u64(place.word(DescRingHeader::TAIL)).load(Ordering::Acquire);
        let visible_head = region.u64(place.word(DescRingHeader::VISIBLE_HEAD)).load(Ordering::Acquire);
        Self { visible_head, tail, capacity: place.capacity }
    }

    /// Messages in the ring. More than the capacity means that the two indices contradict each other.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.visible_head.wrapping_sub(self.tail)
    }

    /// Whether nothing is in the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for RingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { visible_head, tail, capacity } = self;
        let len = self.len();
        if len > u64::from(*capacity) {
            return write!(f, "head {visible_head} and tail {tail} contradict each other (capacity {capacity})");
        }
        let percent = len.saturating_mul(100).checked_div(u64::from(*capacity)).unwrap_or(0);
        write!(f, "{len} of {capacity} ({percent} %), head {visible_head}, tail {tail}")
    }
}

/// How many places ahead of the one that it writes a producer asks for a place's cache line, if that place is free. The
/// stores of a descriptor fill the processor's store buffer after a few messages; this keeps more lines on their way than
/// fit there.
const WRITE_AHEAD: u64 = 12;

/// How many places ahead of the one that it reads a consumer asks for a place's cache line, if there is a message in it.
const READ_AHEAD: u64 = 4;

/// How many messages ahead of the one that it takes over a receiver asks for the cache lines of a slot.
const SLOT_AHEAD: u64 = 2;

/// The end that pushes. There is one per ring: it cannot be cloned.
pub struct Producer<R: Region> {
    words: Words<R>,
    /// Messages written, whether or not published.
    head: u64,
    /// Messages published.
    published: u64,
    /// The head at which the ring is full: the consumer's index when last looked at, and the capacity.
    full_at: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Producer<R> {
    /// Continues where the shared header says that the last producer stopped. A header that contradicts itself is
    /// found out by the first look at the tail.
    pub(crate) fn resume(region: &R, place: Place) -> Self {
        let status = RingStatus::read(region, place);
        let head = status.visible_head;
        let tail = if status.len() <= u64::from(place.capacity) { status.tail } else { head };
        let full_at = tail.wrapping_add(u64::from(place.capacity));
        Self { words: Words::of(region, place), head, published: head, full_at, not_sync: PhantomData }
    }

    /// Descriptors that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.words.capacity_u32()
    }

    /// Takes no more descriptors.
    pub(crate) fn shut(&mut self) {
        self.full_at = self.head;
    }

    /// Whether there is a free place, without a look at the consumer's index.
    #[inline(always)]
    pub(crate) fn has_room(&self) -> bool {
        self.head != self.full_at
    }

    #[inline(always)]
    fn room(&self) -> u64 {
        self.full_at.wrapping_sub(self.head)
    }

    /// Looks at the consumer's index and checks it.
    #[inline]
    fn refresh(&mut self) -> Result<(), PeerFault> {
        // Pairs with the Release in `Consumer::release`: what the consumer read from a place is read before we reuse it.
        let seen = self.words.tail.load(Ordering::Acquire);
        let before = self.full_at.wrapping_sub(self.words.capacity());
        if seen.wrapping_sub(before) > self.published.wrapping_sub(before) {
            return Err(PeerFault::Tail { seen, before, published: self.published });
        }
        self.full_at = seen.wrapping_add(self.words.capacity());
        Ok(())
    }

    /// Free places, at most `wanted` of them: looks at the consumer's index only if what it last saw is not enough.
    ///
    /// # Errors
    /// [`PeerFault::Tail`].
    #[inline(always)]
    pub fn free_places(&mut self, wanted: u64) -> Result<u64, PeerFault> {
        if self.room() < wanted {
            self.refresh()?;
        }
        Ok(self.room().min(wanted))
    }

    /// Writes a descriptor that stays invisible until [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`RingError::Full`] (places written but unpublished count), or a fault of the consumer.
    #[inline(always)]
    pub fn write(&mut self, descriptor: &MsgDescHot) -> Result<(), RingError> {
        if !self.has_room() && self.free_places(1)? == 0 {
            return Err(RingError::Full);
        }
        self.put(descriptor.to_line());
        Ok(())
    }

    /// Writes eight words where there is room for them.
    #[inline(always)]
    pub(crate) fn put(&mut self, line: Line) {
        self.fetch_ahead(self.head);
        self.words.descriptors.store(self.head, line);
        self.head = self.head.wrapping_add(1);
    }

    #[inline(always)]
    fn fetch_ahead(&self, head: u64) {
        if self.full_at.wrapping_sub(head) > WRITE_AHEAD {
            self.words.descriptors.will_write(head.wrapping_add(WRITE_AHEAD));
        }
    }

    /// Makes everything written so far visible; says whether there was something.
    #[inline(always)]
    pub fn publish(&mut self) -> bool {
        let Self { head, published, .. } = *self;
        if head != published {
            self.publish_to(head);
        }
        head != published
    }

    /// Writes eight words where there is room for them, and makes them and everything before them visible.
    #[inline(always)]
    pub(crate) fn put_and_publish(&mut self, line: Line) {
        let head = self.head;
        self.fetch_ahead(head);
        self.words.descriptors.store(head, line);
        self.head = head.wrapping_add(1);
        self.publish_to(head.wrapping_add(1));
    }

    #[inline(always)]
    fn publish_to(&mut self, head: u64) {
        // Pairs with the Acquire in `Consumer::refresh`: whoever sees the head sees the descriptors below it.
        self.words.head.store(head, Ordering::Release);
        self.published = head;
    }

    /// Writes one descriptor and publishes it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    #[inline(always)]
    pub fn try_push(&mut self, descriptor: &MsgDescHot) -> Result<(), RingError> {
        self.write(descriptor)?;
        self.publish();
        Ok(())
    }

    /// Writes as many descriptors as there is room for, publishes them at once and says how many.
    ///
    /// # Errors
    /// A fault of the consumer; then nothing was written.
    pub fn push_batch(&mut self, descriptors: &[MsgDescHot]) -> Result<usize, PeerFault> {
        let room = self.free_places(descriptors.len() as u64)?;
        let mut written = 0;
        for descriptor in descriptors.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
            self.put(descriptor.to_line());
            written += 1;
        }
        self.publish();
        Ok(written)
    }
}

impl<R: Region> fmt::Debug for Producer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("head", &self.head).field("published", &self.published).finish_non_exhaustive()
    }
}

/// The end that pops. There is one per ring: it cannot be cloned.
pub struct Consumer<R: Region> {
    words: Words<R>,
    /// Messages read, whether or not their places were released.
    tail: u64,
    /// The producer's index when last looked at.
    head: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Consumer<R> {
    /// Continues where the shared header says that the last consumer stopped.
    pub(crate) fn resume(region: &R, place: Place) -> Self {
        let tail = RingStatus::read(region, place).tail;
        Self { words: Words::of(region, place), tail, head: tail, not_sync: PhantomData }
    }

    /// Descriptors that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.words.capacity_u32()
    }

    /// Looks at the producer's index and checks it. Takes the private indices by value: behind an acquire load the
    /// compiler would read them again.
    fn refresh(&mut self, tail: u64, head: u64) -> Result<u64, PeerFault> {
        // Pairs with the Release in `Producer::publish`.
        let seen = self.words.head.load(Ordering::Acquire);
        let ahead = seen.wrapping_sub(tail);
        if ahead < head.wrapping_sub(tail) || ahead > self.words.capacity() {
            return Err(self.bad_head(seen, tail));
        }
        self.head = seen;
        Ok(seen)
    }

    #[cold]
    fn bad_head(&self, seen: u64, consumed: u64) -> PeerFault {
        PeerFault::Head { seen, consumed, capacity: self.capacity() }
    }

    /// Messages that can be read, at most `wanted`: looks at the producer's index only if what it last saw is not
    /// enough.
    ///
    /// # Errors
    /// [`PeerFault::Head`].
    #[inline(always)]
    pub fn ready(&mut self, wanted: u64) -> Result<u64, PeerFault> {
        let Self { tail, head, .. } = *self;
        let head = if head.wrapping_sub(tail) < wanted { self.refresh(tail, head)? } else { head };
        Ok(head.wrapping_sub(tail).min(wanted))
    }

    /// Whether a message can be read.
    ///
    /// # Errors
    /// [`PeerFault::Head`].
    #[inline(always)]
    pub(crate) fn is_ready(&mut self) -> Result<bool, PeerFault> {
        let Self { tail, head, .. } = *self;
        if head != tail {
            return Ok(true);
        }
        // Pairs with the Release in `Producer::publish`.
        let seen = self.words.head.load(Ordering::Acquire);
        // One comparison for "one to as many as fit"; none, and more, is for `refresh` to tell apart.
        if seen.wrapping_sub(tail).wrapping_sub(1) <= self.words.descriptors.mask() {
            self.head = seen;
            return Ok(true);
        }
        if seen == tail { Ok(false) } else { Err(self.bad_head(seen, tail)) }
    }

    /// The next descriptor, which stays in the ring until [`advance`](Self::advance) and
    /// [`release`](Self::release).
    ///
    /// # Errors
    /// A fault of the producer.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Option<MsgDescHot>, PeerFault> {
        Ok(self.is_ready()?.then(|| MsgDescHot::from_line(self.read())))
    }

    /// Asks for the cache line of a message further on. For whoever does more with a message than to copy it: a bare
    /// loop over [`try_pop`](Self::try_pop) leaves the processor room enough to find the next lines by itself, and is
    /// slower with this.
    #[inline(always)]
    pub(crate) fn fetch_ahead(&self) {
        let Self { tail, head, .. } = *self;
        if head.wrapping_sub(tail) > READ_AHEAD {
            self.words.descriptors.will_read(tail.wrapping_add(READ_AHEAD));
        }
    }

    /// The slot that a message a little further on names, if that is there already: what a peer says, for hints only.
    #[inline(always)]
    pub(crate) fn slot_ahead(&self) -> Option<u32> {
        let Self { tail, head, .. } = *self;
        if head.wrapping_sub(tail) <= SLOT_AHEAD {
            return None;
        }
        self.words.descriptors.glance(tail.wrapping_add(SLOT_AHEAD), 2).map(MsgDescHot::slot_of)
    }

    /// The words of the next message, which is ready.
    #[inline(always)]
    pub(crate) fn read(&self) -> Line {
        self.words.descriptors.load(self.tail)
    }

    /// Goes on to the next message without telling the producer. Does nothing if nothing was ready.
    #[inline(always)]
    pub fn advance(&mut self) {
        if self.tail != self.head {
            self.tail = self.tail.wrapping_add(1);
        }
    }

    /// Gives the places of everything read back to the producer.
    #[inline(always)]
    pub fn release(&mut self) {
        self.release_to(self.tail);
    }

    /// Goes on to the next message, which is ready, and gives the place of this one back.
    #[inline(always)]
    pub(crate) fn finish(&mut self) {
        let next = self.tail.wrapping_add(1);
        self.tail = next;
        self.release_to(next);
    }

    #[inline(always)]
    fn release_to(&mut self, tail: u64) {
        // Pairs with the Acquire in `Producer::refresh`.
        self.words.tail.store(tail, Ordering::Release);
    }

    /// Takes the next descriptor out of the ring.
    ///
    /// # Errors
    /// A fault of the producer.
    #[inline(always)]
    pub fn try_pop(&mut self) -> Result<Option<MsgDescHot>, PeerFault> {
        let descriptor = self.peek()?;
        if descriptor.is_some() {
            self.finish();
        }
        Ok(descriptor)
    }

    /// Takes as many descriptors as there are and fit into `into`, gives their places back at once and says how many.
    ///
    /// # Errors
    /// A fault of the producer; then nothing was taken.
    pub fn pop_batch(&mut self, into: &mut [MsgDescHot]) -> Result<usize, PeerFault> {
        let ready = self.ready(into.len() as u64)?;
        let mut taken = 0;
        for place in into.iter_mut().take(usize::try_from(ready).unwrap_or(usize::MAX)) {
            *place = MsgDescHot::from_line(self.read());
            self.tail = self.tail.wrapping_add(1);
            taken += 1;
        }
        if taken > 0 {
            self.release();
        }
        Ok(taken)
    }
}

impl<R: Region> fmt::Debug for Consumer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tail", &self.tail).field("head", &self.head).finish_non_exhaustive()
    }
}
