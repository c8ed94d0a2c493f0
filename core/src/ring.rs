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
use crate::region::{Region, Word};

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
            return Err(LayoutError::Misaligned { address: self.header });
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
        ] {
            region.u32(self.word(field)).store(0, Ordering::Relaxed);
        }
    }
}

/// The words that the two ends use for every message, at hand.
#[derive(Clone, Copy, Debug)]
struct Words {
    head: At<u64>,
    tail: At<u64>,
    descriptors: At<Line>,
    mask: u64,
}

impl Words {
    const fn of(place: Place) -> Self {
        Self {
            head: DescRingHeader::VISIBLE_HEAD.within(place.header),
            tail: DescRingHeader::TAIL.within(place.header),
            descriptors: At::new(place.header + RING_HEADER_SIZE),
            mask: (place.capacity as u64).wrapping_sub(1),
        }
    }

    #[inline(always)]
    const fn capacity(&self) -> u64 {
        self.mask.wrapping_add(1)
    }

    #[inline(always)]
    const fn descriptor(&self, number: u64) -> At<Line> {
        #[allow(clippy::cast_possible_truncation)] // masked to less than 2^31
        let index = (number & self.mask) as usize;
        self.descriptors.nth(index)
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
            return Err(LayoutError::Misaligned { address: offset });
        }
        let capacity = region.u32(DescRingHeader::CAPACITY.within(offset)).load(Ordering::Relaxed);
        let place = Place { header: offset, capacity }.check(&region)?;
        Ok(Self { region, place })
    }

    /// The two ends.
    #[must_use]
    pub fn split(self) -> (Producer<R>, Consumer<R>) {
        (Producer::resume(self.region.clone(), self.place), Consumer::resume(self.region, self.place))
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

/// The end that pushes. There is one per ring: it cannot be cloned.
#[derive(Debug)]
pub struct Producer<R> {
    region: R,
    words: Words,
    /// Messages written, whether or not published.
    head: u64,
    /// Messages published.
    published: u64,
    /// The consumer's index when last looked at; never more than `published`.
    tail: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Producer<R> {
    /// Continues where the shared header says that the last producer stopped. A header that contradicts itself is
    /// found out by the first look at the tail.
    pub(crate) fn resume(region: R, place: Place) -> Self {
        let status = RingStatus::read(&region, place);
        let head = status.visible_head;
        let tail = if status.len() <= u64::from(place.capacity) { status.tail } else { head };
        Self { region, words: Words::of(place), head, published: head, tail, not_sync: PhantomData }
    }

    /// Descriptors that the ring holds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // it was a u32
    pub fn capacity(&self) -> u32 {
        self.words.capacity() as u32
    }

    #[inline(always)]
    fn room(&self) -> u64 {
        self.words.capacity().wrapping_sub(self.head.wrapping_sub(self.tail))
    }

    /// Looks at the consumer's index and checks it.
    #[inline]
    fn refresh(&mut self) -> Result<(), PeerFault> {
        // Pairs with the Release in `Consumer::release`: what the consumer read from a place is read before we reuse it.
        let seen = self.region.u64(self.words.tail).load(Ordering::Acquire);
        if seen.wrapping_sub(self.tail) > self.published.wrapping_sub(self.tail) {
            return Err(PeerFault::Tail { seen, before: self.tail, published: self.published });
        }
        self.tail = seen;
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
        if self.free_places(1)? == 0 {
            return Err(RingError::Full);
        }
        self.put(descriptor);
        Ok(())
    }

    #[inline(always)]
    fn put(&mut self, descriptor: &MsgDescHot) {
        self.region.store_line(self.words.descriptor(self.head), descriptor.to_line());
        self.head = self.head.wrapping_add(1);
    }

    /// Makes everything written so far visible; says whether there was something.
    #[inline(always)]
    pub fn publish(&mut self) -> bool {
        if self.head == self.published {
            return false;
        }
        // Pairs with the Acquire in `Consumer::refresh`: whoever sees the head sees the descriptors below it.
        self.region.u64(self.words.head).store(self.head, Ordering::Release);
        self.published = self.head;
        true
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
            self.put(descriptor);
            written += 1;
        }
        self.publish();
        Ok(written)
    }
}

/// The end that pops. There is one per ring: it cannot be cloned.
#[derive(Debug)]
pub struct Consumer<R> {
    region: R,
    words: Words,
    /// Messages read, whether or not their places were released.
    tail: u64,
    /// The producer's index when last looked at.
    head: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Consumer<R> {
    /// Continues where the shared header says that the last consumer stopped.
    pub(crate) fn resume(region: R, place: Place) -> Self {
        let tail = RingStatus::read(&region, place).tail;
        Self { region, words: Words::of(place), tail, head: tail, not_sync: PhantomData }
    }

    /// Descriptors that the ring holds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // it was a u32
    pub fn capacity(&self) -> u32 {
        self.words.capacity() as u32
    }

    /// Looks at the producer's index and checks it.
    #[inline]
    fn refresh(&mut self) -> Result<(), PeerFault> {
        // Pairs with the Release in `Producer::publish`.
        let seen = self.region.u64(self.words.head).load(Ordering::Acquire);
        let ahead = seen.wrapping_sub(self.tail);
        if ahead < self.head.wrapping_sub(self.tail) || ahead > self.words.capacity() {
            return Err(PeerFault::Head { seen, consumed: self.tail, capacity: self.capacity() });
        }
        self.head = seen;
        Ok(())
    }

    /// Messages that can be read, at most `wanted`: looks at the producer's index only if what it last saw is not
    /// enough.
    ///
    /// # Errors
    /// [`PeerFault::Head`].
    #[inline(always)]
    pub fn ready(&mut self, wanted: u64) -> Result<u64, PeerFault> {
        if self.head.wrapping_sub(self.tail) < wanted {
            self.refresh()?;
        }
        Ok(self.head.wrapping_sub(self.tail).min(wanted))
    }

    /// The next descriptor, which stays in the ring until [`advance`](Self::advance) and
    /// [`release`](Self::release).
    ///
    /// # Errors
    /// A fault of the producer.
    #[inline(always)]
    pub fn peek(&mut self) -> Result<Option<MsgDescHot>, PeerFault> {
        Ok((self.ready(1)? > 0).then(|| self.read()))
    }

    #[inline(always)]
    fn read(&self) -> MsgDescHot {
        MsgDescHot::from_line(self.region.load_line(self.words.descriptor(self.tail)))
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
        // Pairs with the Acquire in `Producer::refresh`.
        self.region.u64(self.words.tail).store(self.tail, Ordering::Release);
    }

    /// Takes the next descriptor out of the ring.
    ///
    /// # Errors
    /// A fault of the producer.
    #[inline(always)]
    pub fn try_pop(&mut self) -> Result<Option<MsgDescHot>, PeerFault> {
        let descriptor = self.peek()?;
        if descriptor.is_some() {
            self.advance();
            self.release();
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
            *place = self.read();
            self.tail = self.tail.wrapping_add(1);
            taken += 1;
        }
        if taken > 0 {
            self.release();
        }
        Ok(taken)
    }
}
